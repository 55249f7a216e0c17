"""Options that come from the user: those of another kind than allowed are refused, all of them in one message.

A rule is a function of a value: it returns None, or what is to be given in place of the value.
"""

import math
import numbers
import operator
import os

import numpy as np

from .suggestions import nearest

_LONGEST = 60


def check(owner, **options):
    """Refuse options that break their rules.

    Parameters
    ----------
    owner : str
        What the message begins with, such as "fit".
    **options : (object, callable)
        Value and rule, by name.

    Raises
    ------
    ValueError
        With the name, what was found and what to give, of every option that breaks its rule.

    Examples
    --------
    >>> from tvb_jaxfit.checks.options import check, integer, optional
    >>> check("fit", max_steps=(-1, integer(0)), patience=(1.5, optional(integer(1))))
    Traceback (most recent call last):
        ...
    ValueError: fit: max_steps = -1; give a whole number of at least 0. patience = 1.5; give a whole number of at ...
    """
    problems = []
    for name, (value, rule) in options.items():
        allowed = rule(value)
        if allowed is not None:
            problems.append(f"{name} = {short_repr(value)}; give {allowed}.")
    if problems:
        raise ValueError(f"{owner}: {' '.join(problems)}")


def short_repr(value):
    """Value as a message shows it, in one short line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def optional(rule):
    """Rule that None keeps, too."""
    return lambda value: None if value is None or rule(value) is None else f"{rule(value)}, or None"


def either(*rules):
    """Rule that is kept where one of several is."""

    def rule(value):
        allowed = [each(value) for each in rules]
        return None if None in allowed else ", or ".join(allowed)

    return rule


def integer(least):
    """Rule of whole numbers (5, 5.0, NumPy's and JAX's)."""
    allowed = f"a whole number of at least {least}"
    return lambda value: None if _is_number(value) and float(value).is_integer() and value >= least else allowed


def number(*, above=-math.inf, minimum=-math.inf, maximum=math.inf):
    """Rule of finite real numbers."""
    bounds = {"above": above, "at least": minimum, "at most": maximum}
    told = [f"{which} {bound:g}" for which, bound in bounds.items() if math.isfinite(bound)]
    allowed = " ".join(["a finite number", " and ".join(told)]).strip()

    def rule(value):
        kept = (
            _is_number(value) and math.isfinite(value) and above < float(value) and minimum <= float(value) <= maximum
        )
        return None if kept else allowed

    return rule


def real(value):
    """Rule of real numbers, finite or not: for what is checked further where it is used."""
    return None if _is_number(value) else "a number"


def boolean(value):
    """Rule of True and False."""
    return None if isinstance(value, (bool, np.bool_)) else "True or False"


def function(value):
    """Rule of functions: what can be called, and is no class."""
    return None if callable(value) and not isinstance(value, type) else "a function"


def string(value):
    """Rule of strings."""
    return None if isinstance(value, str) else "a string"


def path(value):
    """Rule of paths."""
    return None if isinstance(value, (str, os.PathLike)) else "a path"


def choice(*allowed):
    """Rule of strings that are listed."""
    names = [repr(each) for each in allowed]
    told = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"

    def rule(value):
        if isinstance(value, str) and value in allowed:
            return None
        near = nearest(value, allowed) if isinstance(value, str) else None
        return told if near is None else f"{told} (did you mean {near!r}?)"

    return rule


def instance(kind, how=""):
    """Rule of instances of a class."""
    return lambda value: None if isinstance(value, kind) else f"a {kind.__name__} {how}".strip()


def simulator(value):
    """Rule of TVB's simulators, which does not import TVB."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(value).__mro__}
    name = "tvb.simulator.simulator.Simulator"
    return None if name in kinds else f"a {name}"


def random_key(value):
    """Rule of JAX's random keys."""
    import jax

    if isinstance(value, jax.Array):
        of_old = value.dtype == np.uint32 and value.shape == (2,)
        if (jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0) or of_old:
            return None
    return "a key of jax.random, e.g. jax.random.key(0)"


def _is_number(value):
    """Whether a value is one real number that is neither a truth value nor masked."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is np.ma.masked or np.ndim(value) != 0:
        return False
    if isinstance(value, numbers.Real):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "O") not in "iuf":
        return False
    try:
        operator.index(value) if dtype.kind in "iu" else float(value)
    except Exception:
        return False
    return True
