"""Checks of options that come from the user. All options that are refused stand in one message.

A rule is a function of a value. It returns None if it accepts the value, and otherwise what to give instead, as text.
"""

import math
import numbers
import operator
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .suggestions import nearest

Rule = Callable[[Any], str | None]
_MAX_LENGTH = 60


def check(owner: str, **options: tuple[Any, Rule]) -> None:
    """Refuse options that their rules do not accept.

    Parameters
    ----------
    owner : str
        Beginning of the message, such as "fit".
    **options : (object, callable)
        Value and rule, by name.

    Raises
    ------
    ValueError
        With the name, what was found and what to give, of every option that is not accepted.

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


def short_repr(value: Any) -> str:
    """Text of a value for a message: one line of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    # The repr of the user's object can raise any error.
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 4]} ..."


def optional(rule: Rule) -> Rule:
    """Rule that also accepts None."""
    return lambda value: None if value is None or rule(value) is None else f"{rule(value)}, or None"


def either(*rules: Rule) -> Rule:
    """Rule that accepts what one of several accepts."""

    def rule(value):
        allowed = [alternative(value) for alternative in rules]
        return None if None in allowed else ", or ".join(allowed)

    return rule


def integer(minimum: int) -> Rule:
    """Rule for whole numbers, of any numeric type (5, 5.0, NumPy's and JAX's)."""
    allowed = f"a whole number of at least {minimum}"
    return lambda value: None if _is_number(value) and float(value).is_integer() and value >= minimum else allowed


def number(*, above: float = -math.inf, minimum: float = -math.inf, maximum: float = math.inf) -> Rule:
    """Rule for finite real numbers."""
    bounds = {"above": above, "at least": minimum, "at most": maximum}
    texts = [f"{relation} {bound:g}" for relation, bound in bounds.items() if math.isfinite(bound)]
    allowed = " ".join(["a finite number", " and ".join(texts)]).strip()

    def rule(value):
        is_finite = _is_number(value) and math.isfinite(value)
        return None if is_finite and above < float(value) and minimum <= float(value) <= maximum else allowed

    return rule


def real(value: Any) -> str | None:
    """Rule for real numbers, finite or not: for values whose range is checked where they are used."""
    return None if _is_number(value) else "a number"


def boolean(value: Any) -> str | None:
    """Rule for True and False."""
    return None if isinstance(value, (bool, np.bool_)) else "True or False"


def function(value: Any) -> str | None:
    """Rule for callables that are no classes."""
    return None if callable(value) and not isinstance(value, type) else "a function"


def string(value: Any) -> str | None:
    """Rule for strings."""
    return None if isinstance(value, str) else "a string"


def path(value: Any) -> str | None:
    """Rule for paths."""
    return None if isinstance(value, (str, os.PathLike)) else "a path"


def choice(*allowed: str) -> Rule:
    """Rule for strings of a list."""
    names = [repr(name) for name in allowed]
    text = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"

    def rule(value):
        if isinstance(value, str) and value in allowed:
            return None
        near = nearest(value, allowed) if isinstance(value, str) else None
        return text if near is None else f"{text} (did you mean {near!r}?)"

    return rule


def texts(value: Any) -> str | None:
    """Rule for sequences of texts."""
    is_sequence = isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))
    return None if is_sequence and all(isinstance(each, str) for each in value) else "a list of texts"


def interval(value: Any) -> str | None:
    """Rule for two finite numbers in order."""
    is_pair = isinstance(value, (list, tuple, np.ndarray)) and len(value) == 2 and all(map(_is_number, value))
    return None if is_pair and np.all(np.isfinite(value)) and value[0] < value[1] else "two numbers in order"


def instance(cls: type, hint: str = "") -> Rule:
    """Rule for instances of a class; ``hint`` follows the name of the class in the message."""
    return lambda value: None if isinstance(value, cls) else f"a {cls.__name__} {hint}".strip()


def simulator(value: Any) -> str | None:
    """Rule for TVB's simulators. It does not import TVB."""
    classes = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__}
    name = "tvb.simulator.simulator.Simulator"
    return None if name in classes else f"a {name}"


def random_key(value: Any) -> str | None:
    """Rule for JAX's random keys, typed or of the former kind (two numbers of uint32)."""
    import jax

    if isinstance(value, jax.Array):
        is_raw = value.dtype == np.uint32 and value.shape == (2,)
        if (jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0) or is_raw:
            return None
    return "a key of jax.random, e.g. jax.random.key(0)"


def _is_number(value):
    """True for one real number of any type, neither a truth value nor masked."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is np.ma.masked or np.ndim(value) != 0:
        return False
    if isinstance(value, numbers.Real):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "O") not in "iuf":
        return False
    # A tracer of JAX has a dtype and no value.
    try:
        operator.index(value) if dtype.kind in "iu" else float(value)
    except Exception:
        return False
    return True
