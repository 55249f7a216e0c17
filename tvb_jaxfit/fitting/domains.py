"""Domains of values that are fitted: where a fit can begin, and which values have left them where it ends."""

import numpy as np

from ..parameters import BoundedParameter, parameters_of
from ..reporting.parameter_table import free_values


def refuse_starts(state):
    """Raise ValueError where a value whose root TVB's formula takes, or by which it divides, cannot be fitted from.

    Parameters
    ----------
    state : State
        With `Parameter`s.

    Raises
    ------
    ValueError
        Start values below 0; a start at 0, where the slope is not finite; entries of 0 on a bound, which a
        `BoundedParameter` would take inside. All of them at once.
    """
    parameters = parameters_of(state)
    problems = [
        f"{path}: {problem}"
        for path in getattr(getattr(state, "origin", None), "positive", ())
        if path in parameters and (problem := _problem_at_start(parameters[path]))
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")


def _problem_at_start(parameter):
    numbers = free_values(parameter)
    below, zero = np.sum(numbers < 0.0), np.sum(numbers == 0.0)
    if below:
        return (
            f"{below} of {numbers.size} start values are below 0 (found {numbers.min():g}), and the simulation takes "
            "their root or divides by them. Give start values above 0, e.g. PositiveParameter(VALUE)"
        )
    if zero == numbers.size:
        return (
            "the start value is 0, where no slope leads away: the simulation takes its root or divides by it. Give a "
            "start value above 0, e.g. PositiveParameter(VALUE)"
        )
    if zero and isinstance(parameter, BoundedParameter) and parameter.lower_bound == 0.0:
        return (
            f"{zero} of {numbers.size} start values are 0, on the bound, from where a fit would begin somewhat inside. "
            "Give start values above 0, or MaskedParameter(lower_bound=0), which leaves entries of 0 as they are"
        )
    return ""


def domain_of(state, path):
    """(lowest, highest) value of a parameter that TVB declares or its formula needs; None where there is no such.

    Parameters
    ----------
    state : State
    path : str

    Returns
    -------
    tuple of float or None
    """
    domains = getattr(getattr(state, "origin", None), "domains", ())
    return next(((low, high) for of, low, high in domains if of == path), None)


def outside(state, before=None):
    """Values that lie outside their domain, as the end of a sentence on a fit that has ended; empty if there are none.

    Parameters
    ----------
    state : State
        With `Parameter`s.
    before : State, optional
        One step earlier.

    Returns
    -------
    str
    """
    found = []
    for path, parameter in parameters_of(state).items():
        domain = domain_of(state, path)
        if domain is None:
            continue
        low, high = domain
        numbers = free_values(parameter)
        left = ~((numbers >= low) & (numbers <= high))
        if left.any():
            found.append(
                f"{path} {_values(numbers, left)} outside its domain [{low:g}, {high:g}]{_came(before, path, left)}: "
                f"{_kept_inside(low, high)}"
            )
    return "".join(f"; {each}" for each in found)


def _values(numbers, left):
    if numbers.size == 1:
        return f"= {numbers[0]:.6g} lies"
    return f"has {left.sum()} of {numbers.size} values ({numbers[left].min():.6g} to {numbers[left].max():.6g})"


def _came(before, path, left):
    """Where the values were a step earlier."""
    if before is None:
        return ""
    numbers = free_values(parameters_of(before)[path])[left]
    span = f"{numbers[0]:.6g}" if numbers.size == 1 else f"{numbers.min():.6g} to {numbers.max():.6g}"
    return f" (a step before: {span})"


def _kept_inside(low, high):
    """Parameter that keeps a value in a domain, as advice."""
    bounds = {"lower_bound": low, "upper_bound": high}
    bounds = ", ".join(f"{name}={bound:g}" for name, bound in bounds.items() if np.isfinite(bound))
    positive = "PositiveParameter() or " if low == 0.0 else ""
    return f"{positive}BoundedParameter({bounds}) keeps it inside"
