"""A fit of the linear response: without noise, and without believing it where it does not hold."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from ..state import State
from .callbacks import as_callback
from .descent import descend
from .history import History
from .objective import Objective

# Costs of values that differ between regions, from one descent to the next, as long as simulations gain by it.
PRIORS = (0.1, 0.05, 0.025)
# Points of the coarse sweep; starts that are followed for a while, share of the evaluations that each of them takes,
# and starts that are followed to the end: which of them is best, only simulations tell.
_POINTS, _STARTS, _SHARE, _FOLLOWED = 256, 6, 0.25, 3
# A point beside other fixed points is simulated, too, where it is expected to be better by that much.
_WORTH = 2e-3
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
    prior : float
        Cost of values that differ between regions.
    loss, r : float
        Mean over simulations on fresh noise.
    apart : float
        Root mean square by which the mean FC of simulations differs from that of the linear response.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    prior: float
    loss: float
    r: float
    apart: float

    @property
    def is_confirmed(self):
        """Whether simulations agree with the linear response."""
        return self.r >= self.trace[-1, 1] - _GAP and self.apart <= _APART

    def __str__(self):
        agrees = "" if self.is_confirmed else ", which they do not confirm"
        return (
            f"simulations on fresh noise: r {self.r:.3f}; linear response: {self.trace[-1, 1]:.3f}{agrees} "
            f"(their FC differ by {self.apart:.3f})"
        )


def fit_linear(linear, state, loss, target, monitor, length, confirm, *, max_evaluations, callback=None, progress=True):
    """Fit marked values of a state by the linear response.

    A coarse sweep finds starts, the best of them are followed for a while, and the best of these to their ends; the
    simulation tells which is best. From there values may differ more between regions, as long as that helps in the
    simulation. Of a descent, two points are simulated: the best, and the best where the network has no other fixed
    point that it comes to from afar.

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
        Of the linear response, for each descent.
    callback : callable, optional
        (step, state, loss, gradients) where a descent begins and at each improvement; True ends the descent.
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
    attempts, reason, few = [], "", int(max_evaluations * _SHARE)

    def attempt(start, prior, bar):
        """Descend, and simulate; the point of the attempt that is best by simulation."""
        trace = list(first)

        def record(seen, gradients):
            trace.append(seen)
            bar.set_postfix(loss=f"{seen.loss:.5g}", r=f"{seen.r:.3f}", refresh=False)
            return callback(len(trace) - 1, objective.state_of(seen), seen.loss, gradients)

        ends = descend(objective, start, prior, max_evaluations, bar, record)
        made = []
        for seen in ends:
            if made and seen.value > ends[0].value - _WORTH:
                continue
            fitted, kept = objective.state_of(seen), trace[: trace.index(seen) + 1]
            rows = np.array([(each.loss, each.r, each.reach) for each in kept])
            loss, r, fc = confirm(fitted)
            made.append((loss, seen))
            attempts.append(Attempt(fitted, rows, prior, loss, r, float(np.sqrt(np.mean((fc - seen.fc) ** 2)))))
        return min(made, key=lambda each: each[0])

    total = _POINTS + 1 + _STARTS * few + (_FOLLOWED + len(PRIORS) - 1) * max_evaluations
    with tqdm(total=total, desc="linear fit", unit="evaluation", disable=not progress) as bar:
        try:
            first, starts = _starts(objective, bar)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                tried = list(pool.map(lambda start: descend(objective, start, PRIORS[0], few, bar)[0], starts))
            tried.sort(key=lambda seen: (not objective.is_alone(seen), seen.value))
            best = min((attempt(seen, PRIORS[0], bar) for seen in tried[:_FOLLOWED]), key=lambda each: each[0])
            for prior in PRIORS[1:]:
                now = attempt(best[1], prior, bar)
                if now[0] > best[0]:
                    break
                best = now
        except KeyboardInterrupt:
            reason = "interrupted; "
            if not attempts:
                raise
    best = min(attempts, key=lambda each: each.loss)
    history = History(
        loss=best.trace[:, 0],
        aux={"r": best.trace[:, 1], "reach": best.trace[:, 2]},
        best=best.fitted,
        best_step=len(best.trace) - 1,
        stop_reason=f"{reason}{len(attempts)} points simulated; {best}",
        wall_time=time.perf_counter() - began,
    )
    return best.fitted, history, attempts


def _starts(objective, bar):
    """The start values, if they are stable; and the best points of a coarse sweep that are alone."""
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
        if all(np.max(np.abs(seen.point - other.point)) > 0.1 for other in chosen) and objective.is_alone(seen):
            chosen.append(seen)
        if len(chosen) == _STARTS:
            break
    return first, chosen or found[:1]
