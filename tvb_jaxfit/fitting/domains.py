"""Domains of fitted values: starts that cannot be fitted from, and values that have left their domain."""

import numpy as np

from ..parameters import BoundedParameter, parameters_of
from ..reporting.parameter_table import free_values
from ..state import State


def refuse_starts(state: State):
    """Refuse start values that are not positive although TVB's formula takes their root or divides by them.

    Parameters
    ----------
    state : State
        With `Parameter`s.

    Raises
    ------
    ValueError
        Start values below 0; a start of 0, where the slope is not finite; entries of 0 on a bound, which a
        `BoundedParameter` would move inside. All in one message.
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
    values = free_values(parameter)
    n_negative, n_zero = np.sum(values < 0.0), np.sum(values == 0.0)
    if n_negative:
        return (
            f"{n_negative} of {values.size} start values are below 0 (found {values.min():g}), and the simulation "
            "takes their root or divides by them. Give start values above 0, e.g. PositiveParameter(VALUE)"
        )
    if n_zero == values.size:
        return (
            "the start value is 0, where the slope is not finite: the simulation takes its root or divides by it. Give "
            "a start value above 0, e.g. PositiveParameter(VALUE)"
        )
    if n_zero and isinstance(parameter, BoundedParameter) and parameter.lower_bound == 0.0:
        return (
            f"{n_zero} of {values.size} start values are 0, on the bound, and a fit would begin slightly inside of it. "
            "Give start values above 0, or MaskedParameter(lower_bound=0), which leaves entries of 0 as they are"
        )
    return ""


def domain_of(state: State, path: str) -> tuple[float, float] | None:
    """(lowest, highest) value of a parameter, as TVB declares it or its formula needs it; None without a domain.

    Parameters
    ----------
    state : State
    path : str
    """
    domains = getattr(getattr(state, "origin", None), "domains", ())
    return next(((low, high) for name, low, high in domains if name == path), None)


def outside(state: State, before: State | None = None) -> str:
    """Values outside their domain, as the end of a sentence; empty if there are none.

    Parameters
    ----------
    state : State
        With `Parameter`s.
    before : State, optional
        State one step earlier.
    """
    found = []
    for path, parameter in parameters_of(state).items():
        domain = domain_of(state, path)
        if domain is None:
            continue
        low, high = domain
        values = free_values(parameter)
        is_outside = ~((values >= low) & (values <= high))
        if is_outside.any():
            found.append(
                f"{path} {_values(values, is_outside)} outside its domain [{low:g}, {high:g}]"
                f"{_previous_values(before, path, is_outside)}: {_remedy(low, high)}"
            )
    return "".join(f"; {each}" for each in found)


def _values(values, is_outside):
    if values.size == 1:
        return f"= {values[0]:.6g} lies"
    found = values[is_outside]
    return f"has {found.size} of {values.size} values ({found.min():.6g} to {found.max():.6g})"


def _previous_values(before, path, is_outside):
    """The same values one step earlier."""
    if before is None:
        return ""
    values = free_values(parameters_of(before)[path])[is_outside]
    span = f"{values[0]:.6g}" if values.size == 1 else f"{values.min():.6g} to {values.max():.6g}"
    return f" (a step before: {span})"


def _remedy(low, high):
    """Parameter that keeps a value in a domain, as advice."""
    bounds = {"lower_bound": low, "upper_bound": high}
    bounds = ", ".join(f"{name}={bound:g}" for name, bound in bounds.items() if np.isfinite(bound))
    positive = "PositiveParameter() or " if low == 0.0 else ""
    return f"{positive}BoundedParameter({bounds}) keeps it inside"
