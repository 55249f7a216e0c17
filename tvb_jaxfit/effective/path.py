"""Minimisations along a path of penalties, from strong to weak, and the choice of the place to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import NoStableFixedPoint
from ..fitting.linear.lbfgs import descend
from .objective import Objective, Value
from .observed import Observed, difference

# Factors of the structural weights from which the first minimisation may start.
_FACTORS = 2.0 ** np.arange(-8, 9)


@dataclass
class Trace:
    """Course of one minimisation.

    Attributes
    ----------
    values : list of Value
        Best value of the objective after each evaluation.
    """

    values: list[Value] = field(default_factory=list)

    def after(self, n_evaluations: int) -> Value:
        """Best value after a number of evaluations, or at the end of a shorter minimisation."""
        return self.values[min(n_evaluations, len(self.values)) - 1]


class Stop(NamedTuple):
    """Place on a path.

    Attributes
    ----------
    place : int
        Index of the penalty.
    n_evaluations : int
        Evaluations with this penalty.
    """

    place: int
    n_evaluations: int


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
    swept = []
    for factor in _FACTORS:
        value, _ = objective(objective.scaled(factor), observed, 0.0, swept[-1].x if swept else objective.x)
        update()
        if value.is_stable:
            swept.append(value)
    if not swept:
        raise NoStableFixedPoint(
            f"no stable fixed point with the structural weights times {_FACTORS[0]:g} to {_FACTORS[-1]:g}",
            "Effective connectivity is estimated from the linear response: give other values of the model.",
        )
    best = min(swept, key=lambda value: value.value)
    return _minimise(objective, observed, 0.0, best, slice(objective.n_weights), max_evaluations, update).values[-1]


def follow(
    objective: Objective,
    observed: Observed,
    start: Value,
    penalties: Sequence[float],
    max_evaluations: Sequence[int],
    update: Callable,
) -> list[Trace]:
    """Minimise with each penalty, from the end of the minimisation before.

    Parameters
    ----------
    objective : Objective
    observed : Observed
    start : Value
        Of `scale_weights`; its scale is kept, so that the penalty keeps its meaning.
    penalties : sequence of float
        In descending order.
    max_evaluations : sequence of int
        For each penalty.
    update : callable
        Called after each evaluation.

    Returns
    -------
    list of Trace
    """
    traces, scale = [], objective.n_weights
    for penalty, n_evaluations in zip(penalties, max_evaluations, strict=True):
        trace = _minimise(objective, observed, penalty, start, slice(scale, scale + 1), n_evaluations, update)
        traces.append(trace)
        start = trace.values[-1]
    return traces


def _minimise(objective, observed, penalty, start, fixed, max_evaluations, update):
    """Minimisation over all values but fixed ones."""
    trace = Trace()

    def evaluate(point, x):
        value, slope = objective(point, observed, penalty, x)
        slope[fixed] = 0.0
        trace.values.append(value if not trace.values or value.value < trace.values[-1].value else trace.values[-1])
        update()
        return value, slope

    descend(evaluate, start, max_evaluations)
    return trace


def held_out_losses(traces: Sequence[Trace], observed: Observed, max_evaluations: int) -> np.ndarray:
    """Difference from other recordings after each evaluation of each minimisation.

    Parameters
    ----------
    traces : sequence of Trace
    observed : Observed
        Of recordings that the minimisations have not used.
    max_evaluations : int

    Returns
    -------
    ndarray, shape (n_penalty, max_evaluations)
    """
    losses = {}

    def loss(value):
        if id(value) not in losses:
            losses[id(value)] = float(difference(value.predicted, observed))
        return losses[id(value)]

    return np.array([[loss(trace.after(1 + n)) for n in range(max_evaluations)] for trace in traces])


def choose(losses: np.ndarray) -> Stop:
    """Place of the smallest loss.

    Parameters
    ----------
    losses : ndarray, shape (n_penalty, max_evaluations)

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.effective.path import choose
    >>> choose(np.array([[3.0, 2.0, 2.0], [2.0, 1.0, 1.5]]))
    Stop(place=1, n_evaluations=2)
    """
    place, index = np.unravel_index(np.argmin(losses), losses.shape)
    return Stop(int(place), int(index) + 1)
