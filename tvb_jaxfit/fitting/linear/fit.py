"""A fit of the linear response: without noise, and without believing it where it does not hold."""

import time
import warnings
from dataclasses import dataclass, field

import numpy as np

from ...errors import caller_stacklevel
from ...loss import fc_corr
from ...parameters import strip_parameters
from ...runtime.progress import bar_status, progress_bar
from ...state import State
from ..callbacks import as_callback
from ..history import History
from .lbfgs import descend
from .objective import Objective, free_of_charge

# Costs of values that differ between regions, from one descent to the next: what FC does not ask for comes last.
PRIORS = (0.1, 0.025)
# Points of the coarse sweep, and starts that are followed: which of them is best, only simulations tell.
_POINTS, _STARTS = 256, 2
# Simulations confirm the linear response where, were they endless, their correlation with the target would be no more
# than that below its own, and their FC no further away (root mean square).
_GAP, _APART = 0.05, 0.1


@dataclass(frozen=True)
class LinearFitCandidate:
    """The end of a descent, and what simulations said of it.

    Attributes
    ----------
    fitted : State
        At its fixed point.
    trace : ndarray, shape (n, 3)
        Loss, r and nonlinearity at the start values, where the descent began, and at each improvement.
    loss, r : float
        Mean over simulations on fresh noise; infinite and NaN where none was run, after an interrupt; both NaN where
        simulations are not finite.
    noise_corrected_r, fc_distance : float
        What r, and the root mean square by which their FC differs from that of the linear response, would be if the
        simulations were endless; see `noise_corrected`.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    loss: float
    r: float
    noise_corrected_r: float
    fc_distance: float

    @property
    def is_confirmed(self):
        """Whether simulations agree with the linear response, but for what their length leaves to chance."""
        return self.noise_corrected_r >= self.trace[-1, 1] - _GAP and self.fc_distance <= _APART

    @property
    def is_diverged(self):
        """Whether simulations were run, and have no FC."""
        return np.isnan(self.loss)

    def __str__(self):
        if self.is_diverged:
            return f"linear response: r {self.trace[-1, 1]:.3f}; simulations on fresh noise are not finite"
        if np.isnan(self.r):
            return f"linear response: r {self.trace[-1, 1]:.3f}; not simulated"
        agrees = "" if self.is_confirmed else ", which they do not confirm"
        return (
            f"simulations on fresh noise: r {self.r:.3f}, {self.noise_corrected_r:.3f} if they were endless; "
            f"linear response: {self.trace[-1, 1]:.3f}{agrees} (their FC differ by {self.fc_distance:.3f})"
        )


def fit_linear(
    linear,
    state,
    loss,
    target,
    monitor,
    length,
    confirm,
    *,
    max_evaluations,
    penalty=free_of_charge,
    callback=None,
    progress=True,
):
    """Fit marked values of a state by the linear response.

    A coarse sweep finds starts; from the best of them, descents first ask for values that are alike in all regions, and
    then less so. Simulations tell which of the ends is best.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    monitor : int
    length : float
        Of the recording that the loss is expected of [ms].
    confirm : callable
        State to (loss, r, fc) of simulations on fresh noise: two means, and the FC of each.
    max_evaluations : int
        Of the linear response, from each start.
    penalty : callable, optional
        State (plain) to a scalar, added to the loss.
    callback : callable, optional
        (step, state, loss, gradients) where a descent begins and at each improvement; True ends the fit.
    progress : bool, optional

    Returns
    -------
    fitted : State
        At its fixed point; parameters stay parameters.
    history : History
        Loss, r and nonlinearity (`LinearResponse.nonlinearity`) as the `LinearFitCandidate` that was kept has them.
    attempts : list of LinearFitCandidate

    Raises
    ------
    ValueError
        Where no point of the sweep has a stable fixed point.
    """
    began, callback = time.perf_counter(), as_callback(callback)
    callback.begin()
    objective = Objective(linear, state, loss, target, monitor, length, penalty)
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

        loss, r, noise_corrected_r, fc_distance = np.inf, np.nan, np.nan, np.nan
        try:
            for prior in PRIORS:
                if not ended:
                    start = descend(objective, start, prior, max_evaluations // len(PRIORS), bar, record)
            fitted = objective.state_of(start)
            with bar_status("simulating"):
                loss, r, fc = confirm(fitted)
            loss += float(penalty(strip_parameters(fitted)))
            noise_corrected_r, fc_distance = noise_corrected(fc, start.fc, target)
        except KeyboardInterrupt:
            ended, reason = True, "interrupted; "
            if not trace:
                # Nothing of this start is worth keeping, and there is an earlier one, or nothing at all.
                if not attempts:
                    raise
                return
            start = trace[-1]
            fitted = objective.state_of(start)
        rows = np.array([(each.loss, each.r, each.nonlinearity) for each in trace[: trace.index(start) + 1]])
        attempts.append(LinearFitCandidate(fitted, rows, loss, r, noise_corrected_r, fc_distance))

    total = _POINTS + 1 + _STARTS * max_evaluations
    with progress_bar("linear fit", "evaluation", total, progress) as bar:
        first, starts, ended = _starts(objective, bar)
        if ended:
            reason = "interrupted in the sweep of starts; "
            rows = np.array([(each.loss, each.r, each.nonlinearity) for each in [*first, starts[0]]])
            attempts.append(LinearFitCandidate(objective.state_of(starts[0]), rows, np.inf, np.nan, np.nan, np.nan))
        for start in starts:
            if not ended:
                attempt(start, bar)
    best = min(attempts, key=lambda each: np.nan_to_num(each.loss, nan=np.inf))
    followed = "" if "sweep" in reason else f"{len(attempts)} starts followed; "
    history = History(
        loss=best.trace[:, 0],
        aux={"r": best.trace[:, 1], "nonlinearity": best.trace[:, 2]},
        best=best.fitted,
        best_step=len(best.trace) - 1,
        stop_reason=f"{reason}{followed}{best}",
        wall_time=time.perf_counter() - began,
        diverged="simulations from the fitted values have no finite FC." if best.is_diverged else "",
    )
    return best.fitted, history, attempts


def noise_corrected(fcs, fc, target):
    """What recordings say of an FC, without what their length leaves to chance.

    Parameters
    ----------
    fcs : array_like, shape (n, n_node, n_node)
        Of two recordings or more.
    fc : array_like, shape (n_node, n_node)
        The one that they are held against.
    target : array_like, shape (n_node, n_node)

    Returns
    -------
    r : float
        Of the recordings with the target.
    fc_distance : float
        Root mean square difference of the recordings from the FC.

    Notes
    -----
    Off the diagonal, and where the target has data. The scatter between recordings is part of what their mean varies by
    and differs by, and is taken off: Spearman's correction for attenuation, of the recordings alone; the target keeps
    its own noise.

    References
    ----------
    Spearman, C. (1904). The proof and measurement of association between two things. Am. J. Psychol. 15(1), 72-101.

    Examples
    --------
    >>> fc = np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    >>> draw = np.array([[0.0, 0.1, -0.2], [0.1, 0.0, 0.1], [-0.2, 0.1, 0.0]])
    >>> r, fc_distance = noise_corrected([fc + draw, fc - draw], fc, fc)
    >>> r > 1.0 - 1e-12, fc_distance < 0.01
    (True, True)
    """
    pairs = ~np.eye(np.shape(fc)[0], dtype=bool) & ~np.isnan(np.asarray(target))
    fcs, mean = np.asarray(fcs), np.mean(fcs, axis=0)
    chance = np.mean(fcs.var(0, ddof=1)[pairs]) / fcs.shape[0]
    # Recordings that are mostly chance say little: they are corrected no further than to twice their r.
    share = max(1.0 - chance / max(np.var(mean[pairs]), 1e-300), 0.25)
    r = np.clip(fc_corr(mean, target, missing="ignore") / np.sqrt(share), -1.0, 1.0)
    return float(r), float(np.sqrt(max(np.mean((mean - np.asarray(fc))[pairs] ** 2) - chance, 0.0)))


def _starts(objective, bar):
    """The start values, if they are stable; the best points of a coarse sweep; and whether that was interrupted."""
    found, first, interrupted = [], [], False
    try:
        for point in [objective.first, *objective.points(_POINTS)]:
            seen, *_ = objective(point, PRIORS[0], objective.x)
            bar.update()
            if seen.is_stable:
                found.append(seen)
                best = min(found, key=lambda each: each.value)
                bar.set_postfix(loss=f"{best.loss:.5g}", r=f"{best.r:.3f}", refresh=False)
                if point is objective.first:
                    first.append(seen)
    except KeyboardInterrupt:
        if not found:
            raise
        interrupted = True
    if not interrupted and found and _hold_what_has_no_effect(objective, min(found, key=lambda seen: seen.value)):
        found = [objective(objective.at_start(seen.point), PRIORS[0], seen.x)[0] for seen in found]
        found = [seen for seen in found if seen.is_stable]
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
    return first, chosen[:_STARTS], interrupted


def _hold_what_has_no_effect(objective, seen):
    """Keep values at their start that the FC does not depend on, and say so; the others would be chosen with them."""
    idle = objective.without_effect(seen)
    if not idle:
        return False
    of = f"{' and '.join(idle)} {'is' if len(idle) == 1 else 'are'}"
    what = f"fit: the FC of the linear response is the same whatever {of}"
    if len(idle) == len(objective.parameters):
        raise ValueError(f'{what}, so that there is nothing to fit. Fit through the simulation: method="simulate".')
    objective.hold(idle)
    warnings.warn(
        f"{what}: kept at the start. Leave it out, or fit it through the simulation.", stacklevel=caller_stacklevel()
    )
    return True
