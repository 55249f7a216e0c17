"""Options that begin with the path of a parameter: ``--free`` and ``--set``."""

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum

# Form of --free.
FREE = "PATH[:regional][:KIND][:LOW:HIGH]"
_REGIONAL = "regional"


class ParameterKind(StrEnum):
    """Kinds of parameters that ``--free`` can name; without a kind, a parameter is plain or bounded."""

    POSITIVE = "positive"
    SCALED = "scaled"
    MASKED = "masked"


@dataclass(frozen=True)
class FreeOption:
    """Value of ``--free``, after the path.

    Attributes
    ----------
    regional : bool
    lower_bound, upper_bound : float
    kind : ParameterKind or None
    """

    regional: bool = False
    lower_bound: float = -math.inf
    upper_bound: float = math.inf
    kind: ParameterKind | None = None


def parse_free(texts: list[str]) -> tuple[dict[str, FreeOption], list[str]]:
    """Free parameters, from ``--free``.

    Parameters
    ----------
    texts : list of str
        ``PATH[:regional][:KIND][:LOW:HIGH]``

    Returns
    -------
    dict of str to FreeOption
        By path.
    list of str
        Problems.

    Examples
    --------
    >>> from tvb_jaxfit.command.path_options import parse_free
    >>> parse_free(["coupling.a:0:"])[0]
    {'coupling.a': FreeOption(regional=False, lower_bound=0.0, upper_bound=inf, kind=None)}
    """
    free, problems = {}, []
    for text in texts:
        path, *words = text.split(":")
        if path in free:
            problems.append(f"--free {text!r}: {path} is there twice; give it once")
            continue
        try:
            free[path] = _free_option(words)
        except ValueError as error:
            problems.append(f"--free {text!r}: {error}; give {FREE}, as in model.w:regional:0:1")
    return free, problems


def _free_option(words):
    names = list(itertools.takewhile(lambda word: word in (_REGIONAL, *ParameterKind), words))
    bounds, kinds = words[len(names) :], [ParameterKind(name) for name in names if name != _REGIONAL]
    regional = _REGIONAL in names
    if len(kinds) > 1 or len(names) > len(kinds) + regional:
        raise ValueError(f"{':'.join(names)!r} names more than one kind, or one word twice")
    kind = kinds[0] if kinds else None
    if kind in (ParameterKind.POSITIVE, ParameterKind.SCALED) and bounds:
        raise ValueError(f"{':'.join(bounds)!r} after {str(kind)!r}, which has no bounds")
    if kind is ParameterKind.MASKED and regional:
        raise ValueError("'masked' fits the entries that are not 0; leave 'regional'")
    return FreeOption(regional, *_bounds(bounds), kind)


def _bounds(texts):
    if not texts:
        return -math.inf, math.inf
    if len(texts) != 2:
        kinds = ", ".join(f"{str(kind)!r}" for kind in ParameterKind)
        raise ValueError(f"{':'.join(texts)!r} is neither 'regional', nor a kind ({kinds}), nor two bounds")
    low, high = (float(text or sign) for text, sign in zip(texts, ("-inf", "inf"), strict=True))
    if not low < high:
        raise ValueError(f"bounds {low:g} and {high:g} are not in order")
    return low, high


def parse_settings(texts: list[str]) -> tuple[dict[str, list[float] | str], list[str]]:
    """Parameters of the simulator, from ``--set``.

    Parameters
    ----------
    texts : list of str
        ``PATH=VALUE``

    Returns
    -------
    dict of str to (list of float or str)
        By path; the name of a file with its @.
    list of str
        Problems.

    Examples
    --------
    >>> from tvb_jaxfit.command.path_options import parse_settings
    >>> parse_settings(["model.I_o=0.3,0.32", "model.w=@w.npy"])
    ({'model.I_o': [0.3, 0.32], 'model.w': '@w.npy'}, [])
    """
    settings, problems = {}, []
    for text in texts:
        path, equals, value = text.partition("=")
        try:
            if not (path and equals and value):
                raise ValueError("there is no value")
            if path in settings:
                raise ValueError(f"{path} is there twice")
            settings[path] = value if value.startswith("@") else [float(number) for number in value.split(",")]
        except ValueError as error:
            problems.append(f"--set {text!r}: {error}; give PATH=NUMBER, as in model.I_o=0.32, or PATH=@FILE")
    return settings, problems
