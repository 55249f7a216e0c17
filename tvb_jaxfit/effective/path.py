"""Minimisations along a path of penalties, from strong to weak."""

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import NoStableFixedPoint
from ..fitting.linear.lbfgs import descend
from .objective import Objective, Value
from .observed import Observed

# Factors of the structural weights from which the first minimisation may start.
FACTORS = 2.0 ** np.arange(-8, 9)


def scale_weights(objective: Objective, observed: Observed, max_evaluations: int, update: Callable) -> Value:
    """Fit the common scale of the structural weights, and the other free values.

    Parameters
    ----------
    objective : Objective
    observed : Observed
    max_evaluations : int
    update : callable
        Called after each evaluation.

    Returns
    -------
    Value

    Raises
    ------
    NoStableFixedPoint
        At none of many scales.
    """
    swept = _sweep(objective, observed, update)
    # A network that only feeds forward has no eigenmodes at any scale.
    if any(value.is_inaccurate for value in swept) and not any(value.is_stable for value in swept):
        objective.compute_over_frequencies()
        swept = _sweep(objective, observed, update)
    swept = [value for value in swept if value.is_stable]
    if not swept:
        raise NoStableFixedPoint(
            f"no stable fixed point with the structural weights times {FACTORS[0]:g} to {FACTORS[-1]:g}",
            "Effective connectivity is estimated from the linear response: give other values of the model.",
        )
    best = min(swept, key=lambda value: value.value)
    return _minimise(objective, observed, 0.0, best, slice(objective.n_weights), max_evaluations, update)


def _sweep(objective, observed, update):
    """Values at several scales of the structural weights."""
    swept, x = [], objective.x
    for factor in FACTORS:
        value, _ = objective(objective.scaled(factor), observed, 0.0, x)
        update()
        swept.append(value)
        x = value.x if value.is_stable else x
    return swept


def follow(
    objective: Objective,
    observed: Observed,
    start: Value,
    penalties: Sequence[float],
    max_evaluations: int,
    update: Callable,
) -> list[Value]:
    """Minimise with each penalty, from the end of the minimisation before.

    Parameters
    ----------
    objective : Objective
    observed : Observed
    start : Value
        Of `scale_weights`; its scale is kept, so that the penalty keeps its meaning.
    penalties : sequence of float
        In descending order.
    max_evaluations : int
        With each penalty.
    update : callable
        Called after each evaluation.

    Returns
    -------
    list of Value
        End of each minimisation.
    """
    ends, scale = [], objective.n_weights
    for penalty in penalties:
        start = _minimise(objective, observed, penalty, start, slice(scale, scale + 1), max_evaluations, update)
        ends.append(start)
    return ends


def _minimise(objective, observed, penalty, start, fixed, max_evaluations, update):
    """End of a minimisation over all values but fixed ones."""

    def evaluate(point, x):
        value, slope = objective(point, observed, penalty, x)
        slope[fixed] = 0.0
        update()
        return value, slope

    return descend(evaluate, start, max_evaluations)
