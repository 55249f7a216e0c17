"""Options of parameters that follow from others: ``--map`` and ``--balance``."""

import math
from dataclasses import dataclass

# Forms of the options.
MAP = "PATH=FILE[:NAME,...][:TRANSFORM[:LOW:HIGH]]"
BALANCE = "PATH[=TARGET[:RATE]]"
_TRANSFORMS = ("exp", "linear", "sigmoid")


@dataclass(frozen=True)
class MapOption:
    """Value of ``--map``, after the path.

    Attributes
    ----------
    file : str
    names : tuple of str
        Of the maps that are used; empty for all.
    transform : {"exp", "linear", "sigmoid"}
    lower_bound, upper_bound : float or None
        Of "sigmoid".
    """

    file: str
    names: tuple[str, ...] = ()
    transform: str = "exp"
    lower_bound: float | None = None
    upper_bound: float | None = None


@dataclass(frozen=True)
class BalanceOption:
    """Value of ``--balance``, after the path.

    Attributes
    ----------
    target : float
    rate : str
    """

    target: float = 3.0
    rate: str = "H_e"


def parse_maps(texts: list[str]) -> tuple[dict[str, MapOption], list[str]]:
    """Parameters that follow maps, from ``--map``.

    Parameters
    ----------
    texts : list of str
        ``PATH=FILE[:NAME,...][:TRANSFORM[:LOW:HIGH]]``

    Returns
    -------
    dict of str to MapOption
        By path.
    list of str
        Problems.

    Examples
    --------
    >>> from tvb_jaxfit.command.dependent_options import parse_maps
    >>> parse_maps(["model.w_p=maps.csv:myelin:sigmoid:0:2"])[0]["model.w_p"].names
    ('myelin',)
    """
    return _parse("--map", texts, _map_option, f"{MAP}, as in model.w_p=maps.csv:myelin,gradient")


def parse_balances(texts: list[str]) -> tuple[dict[str, BalanceOption], list[str]]:
    """Parameters that balance a rate, from ``--balance``.

    Parameters
    ----------
    texts : list of str
        ``PATH[=TARGET[:RATE]]``

    Returns
    -------
    dict of str to BalanceOption
        By path.
    list of str
        Problems.

    Examples
    --------
    >>> from tvb_jaxfit.command.dependent_options import parse_balances
    >>> parse_balances(["model.J_i", "model.P=0.15:E"])[0]["model.P"]
    BalanceOption(target=0.15, rate='E')
    """
    return _parse("--balance", texts, _balance_option, f"{BALANCE}, as in model.J_i=3")


def _parse(option, texts, parse, form):
    """(values by path, problems) of an option that can be given several times."""
    found, problems = {}, []
    for text in texts:
        path, _, value = text.partition("=")
        try:
            if path in found:
                raise ValueError(f"{path} is there twice")
            found[path] = parse(value)
        except ValueError as error:
            problems.append(f"{option} {text!r}: {error}; give {form}")
    return found, problems


def _map_option(text):
    file, *words = text.split(":")
    if not file:
        raise ValueError("there is no file")
    names = () if not words or words[0] in _TRANSFORMS else tuple(words.pop(0).split(","))
    if not all(names):
        raise ValueError("a name of a map is empty")
    if not words:
        return MapOption(file, names)
    transform, *bounds = words
    if transform not in _TRANSFORMS:
        raise ValueError(f"transform {transform!r} is none of {', '.join(_TRANSFORMS)}")
    if len(bounds) != (2 if transform == "sigmoid" else 0):
        raise ValueError(f"bounds {':'.join(bounds)!r} of {transform!r}: sigmoid has two, and the others have none")
    low, high = map(float, bounds) if bounds else (None, None)
    if bounds and not -math.inf < low < high < math.inf:
        raise ValueError(f"bounds {low:g} and {high:g} are not in order, or not finite")
    return MapOption(file, names, transform, low, high)


def _balance_option(text):
    if not text:
        return BalanceOption()
    target, colon, rate = text.partition(":")
    if not (math.isfinite(float(target)) and float(target)):
        raise ValueError("the target is 0 or not finite")
    if colon and not rate:
        raise ValueError("there is no rate after the colon")
    return BalanceOption(float(target), rate) if rate else BalanceOption(float(target))
