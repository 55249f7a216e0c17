"""A fit of the linear response: without noise, and without believing it where it does not hold."""

import time
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from ..state import State
from .callbacks import as_callback
from .descent import descend
from .history import History
from .objective import Objective

# Costs of values that differ between regions, from one descent to the next: what FC does not ask for comes last.
PRIORS = (0.1, 0.025)
# Points of the coarse sweep, and starts that are followed: which of them is best, only simulations tell.
_POINTS, _STARTS = 256, 2
# Correlations with the target that are that much less in simulations than by the linear response confirm it, where the
# FC itself is no further away than that (root mean square).
_GAP, _APART = 0.05, 0.1


@dataclass(frozen=True)
class Attempt:
    """The end of a descent, and what simulations said of it.

    Attributes
    ----------
    fitted : State
        At its fixed point.
    trace : ndarray, shape (n, 3)
        Loss, r and reach at the start values, where the descent began, and at each improvement.
    loss, r : float
        Mean over simulations on fresh noise; infinite and NaN where none was run, after an interrupt.
    apart : float
        Root mean square by which the mean FC of simulations differs from that of the linear response.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    loss: float
    r: float
    apart: float

    @property
    def is_confirmed(self):
        """Whether simulations agree with the linear response."""
        return self.r >= self.trace[-1, 1] - _GAP and self.apart <= _APART

    def __str__(self):
        if np.isnan(self.r):
            return f"linear response: r {self.trace[-1, 1]:.3f}; not simulated"
        agrees = "" if self.is_confirmed else ", which they do not confirm"
        return (
            f"simulations on fresh noise: r {self.r:.3f}; linear response: {self.trace[-1, 1]:.3f}{agrees} "
            f"(their FC differ by {self.apart:.3f})"
        )


def fit_linear(linear, state, loss, target, monitor, length, confirm, *, max_evaluations, callback=None, progress=True):
    """Fit marked values of a state by the linear response.

    A coarse sweep finds starts; from the best of them, descents first ask for values that are alike in all regions, and
    then less so. Simulations tell which of the ends is best.

    Parameters
    ----------
    linear : Linear
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    monitor : int
    length : float
        Of the recording that the loss is expected of [ms].
    confirm : callable
        State to (loss, r, fc), means over simulations on fresh noise.
    max_evaluations : int
        Of the linear response, from each start.
    callback : callable, optional
        (step, state, loss, gradients) where a descent begins and at each improvement; True ends the fit.
    progress : bool, optional

    Returns
    -------
    fitted : State
        At its fixed point; parameters stay parameters.
    history : History
        Loss, r and reach (`LinearResponse.reach`) as the `Attempt` that was kept has them.
    attempts : list of Attempt

    Raises
    ------
    ValueError
        Where no point of the sweep has a stable fixed point.
    """
    began, callback = time.perf_counter(), as_callback(callback)
    callback.begin()
    objective = Objective(linear, state, loss, target, monitor, length)
    attempts, reason, ended = [], "", False

    def attempt(start, bar):
        """Follow a start to its end, and simulate there; after an interrupt, keep where it was."""
        nonlocal ended, reason
        trace = list(first)

        def record(seen, gradients):
            nonlocal ended
            trace.append(seen)
            bar.set_postfix(loss=f"{seen.loss:.5g}", r=f"{seen.r:.3f}", refresh=False)
            ended = callback(len(trace) - 1, objective.state_of(seen), seen.loss, gradients) is True
            return ended

        loss, r, apart = np.inf, np.nan, np.nan
        try:
            for prior in PRIORS:
                if not ended:
                    start = descend(objective, start, prior, max_evaluations // len(PRIORS), bar, record)
            fitted = objective.state_of(start)
            loss, r, fc = confirm(fitted)
            apart = float(np.sqrt(np.mean((fc - start.fc) ** 2)))
        except KeyboardInterrupt:
            if not trace:
                raise
            ended, reason, start = True, "interrupted; ", trace[-1]
            fitted = objective.state_of(start)
        rows = np.array([(each.loss, each.r, each.reach) for each in trace[: trace.index(start) + 1]])
        attempts.append(Attempt(fitted, rows, loss, r, apart))

    total = _POINTS + 1 + _STARTS * max_evaluations
    with tqdm(total=total, desc="linear fit", unit="evaluation", disable=not progress) as bar:
        first, starts = _starts(objective, bar)
        for start in starts:
            if not ended:
                attempt(start, bar)
    best = min(attempts, key=lambda each: np.nan_to_num(each.loss, nan=np.inf))
    history = History(
        loss=best.trace[:, 0],
        aux={"r": best.trace[:, 1], "reach": best.trace[:, 2]},
        best=best.fitted,
        best_step=len(best.trace) - 1,
        stop_reason=f"{reason}{len(attempts)} starts followed; {best}",
        wall_time=time.perf_counter() - began,
    )
    return best.fitted, history, attempts


def _starts(objective, bar):
    """The start values, if they are stable; and the best points of a coarse sweep."""
    found, first = [], []
    for point in [objective.first, *objective.points(_POINTS)]:
        seen, *_ = objective(point, PRIORS[0], objective.x)
        bar.update()
        if seen.is_stable:
            found.append(seen)
            if point is objective.first:
                first.append(seen)
    if not found:
        raise ValueError(
            f"fit: no stable fixed point at the start values, nor at any of {_POINTS} points around; there is no "
            'linear response to fit. Use method="simulate", or other bounds.'
        )
    found.sort(key=lambda seen: seen.value)
    # Apart from each other: neighbours lead to the same end.
    chosen = []
    for seen in found:
        if all(np.max(np.abs(seen.point - other.point)) > 0.1 for other in chosen):
            chosen.append(seen)
    return first, chosen[:_STARTS]
