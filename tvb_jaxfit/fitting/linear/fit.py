"""Fit by the linear response, confirmed by simulations."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...errors import NoEffect, NoStableFixedPoint, caller_stacklevel
from ...linear_response.simulator import LinearizedSimulator
from ...loss import fc_corr
from ...parameters import strip_parameters
from ...runtime.blas import single_blas_thread
from ...runtime.progress import bar_status, progress_bar
from ...state import State
from ..callbacks import Callback, as_callback
from ..criterion import Criterion
from ..history import History
from ..options import SearchOptions
from ..starts import apart
from ..stopping import StopKind, StopReason
from .lbfgs import descend
from .lockstep import Ended, in_lockstep
from .objective import Objective, no_penalty

# Weights of the differences between regional values, from one minimisation to the next: values that FC does not
# determine stay equal.
HOMOGENEITY_WEIGHTS = (0.1, 0.025)
# Points of the coarse sweep, and default number of starts that are followed.
_POINTS, _STARTS = 128, 2
# A linear fit is confirmed if the noise-corrected r of simulations is at most _R_TOLERANCE below its own, and the
# noise-corrected RMS difference between their FC and its own at most _FC_TOLERANCE.
_R_TOLERANCE, _FC_TOLERANCE = 0.05, 0.1
# Minimum share of the variance between pairs that is attributed to FC, and not to its sampling error: recordings that
# are mostly noise are corrected to twice their r at most.
_MIN_RELIABILITY = 0.25


@dataclass(frozen=True)
class LinearFitCandidate:
    """End of a minimisation, with the results of simulations from there.

    Attributes
    ----------
    fitted : State
        At its fixed point.
    trace : ndarray, shape (n, 3 + n_term)
        Loss, r, nonlinearity, and the terms of a loss of more than FC, at the start values, at the start of the
        minimisation, and at each improvement.
    loss, r : float
        Mean over simulations on new noise. Infinite and NaN after an interrupt, without simulations; both NaN if the
        simulations are not finite.
    noise_corrected_r, fc_distance : float
        r, and RMS difference between FC of the simulations and of the linear response, as expected of infinitely long
        simulations; see `noise_corrected`.
    terms : dict of str to float
        Mean terms of a loss of more than FC over the simulations, by name.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    loss: float = np.inf
    r: float = np.nan
    noise_corrected_r: float = np.nan
    fc_distance: float = np.nan
    terms: dict = field(default_factory=dict, repr=False)

    @property
    def is_confirmed(self) -> bool:
        """True if simulations agree with the linear response, apart from their sampling error."""
        return self.noise_corrected_r >= self.trace[-1, 1] - _R_TOLERANCE and self.fc_distance <= _FC_TOLERANCE

    @property
    def is_diverged(self) -> bool:
        """True if simulations were run, and have no FC."""
        return np.isnan(self.loss)

    def __str__(self):
        if self.is_diverged:
            return f"linear response: r {self.trace[-1, 1]:.3f}; simulations on fresh noise are not finite"
        if np.isnan(self.r):
            return f"linear response: r {self.trace[-1, 1]:.3f}; not simulated"
        agrees = "" if self.is_confirmed else ", which they do not confirm"
        return (
            f"simulations on fresh noise: r {self.r:.3f}, {self.noise_corrected_r:.3f} without sampling error; "
            f"linear response: {self.trace[-1, 1]:.3f}{agrees} (their FC differ by {self.fc_distance:.3f})"
        )


def fit_linear(
    linear: LinearizedSimulator,
    state: State,
    criterion: Criterion,
    length: float,
    confirm: Callable,
    *,
    search: SearchOptions = SearchOptions(),  # noqa: B008
    penalty: Callable = no_penalty,
    callback: Callable | None = None,
    progress: bool = True,
) -> tuple[State, History, list[LinearFitCandidate]]:
    """Fit the parameters of a state by the linear response.

    A coarse sweep finds starts. From the best of them, minimisations first favour values that are equal in all regions,
    and then less so. Simulations from the best end confirm it, or else those from the next one.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    criterion : Criterion
    length : float
        Length of the recording whose loss is expected [ms].
    confirm : callable
        State to `ScoredRuns` of simulations on new noise.
    search : SearchOptions, optional
        Seed, number of starts (default 2), and maximum number of evaluations from each.
    penalty : callable, optional
        State (plain) to a scalar, added to the loss.
    callback : callable, optional
        (step, state, loss, gradients), called wherever the objective is lower than at all points before; True ends the
        fit.
    progress : bool, optional

    Returns
    -------
    fitted : State
        At its fixed point; parameters stay parameters.
    history : History
        Loss, r, nonlinearity (`LinearResponse.nonlinearity`) and terms of the selected candidate.
    candidates : list of LinearFitCandidate

    Raises
    ------
    NoStableFixedPoint
        No point of the sweep has a stable fixed point.
    NoEffect
        FC depends on no free value.
    """
    start_time, callback = time.perf_counter(), as_callback(callback)
    callback.reset()
    objective = Objective(linear, state, criterion, length, penalty, search.seed)
    n_starts = _STARTS if search.n_starts is None else search.n_starts
    running = _Search(objective, criterion.target, confirm, callback)
    n_evaluations = _POINTS + 1 + n_starts * search.max_evaluations
    # The linear algebra of L-BFGS is small, too.
    with single_blas_thread(), progress_bar("linear fit", "evaluation", n_evaluations, progress, True) as bar:
        running.run(n_starts, search.max_evaluations, bar)
    best = min(running.candidates, key=lambda candidate: np.nan_to_num(candidate.loss, nan=np.inf))
    history = History(
        loss=best.trace[:, 0],
        aux=dict(zip(("r", "nonlinearity", *criterion.names), best.trace[:, 1:].T, strict=True)),
        best=best.fitted,
        best_step=len(best.trace) - 1,
        stop_reason=StopReason(running.stop_kind, len(running.candidates), str(best)),
        wall_time=time.perf_counter() - start_time,
        saved=callback.saved,
        diverged="simulations from the fitted values have no finite FC." if best.is_diverged else "",
    )
    return best.fitted, history, running.candidates


class _Search:
    """Sweep of starts, and minimisations from the best of them.

    Attributes
    ----------
    candidates : list of LinearFitCandidate
        In the order of their objective, the best first.
    stop_kind : StopKind
    """

    def __init__(self, objective, target, confirm, callback):
        self.objective, self.target, self.confirm, self.callback = objective, target, confirm, callback
        self.candidates, self.stop_kind = [], StopKind.LINEAR_DONE

    def run(self, n_starts, max_evaluations, bar):
        at_start, starts, interrupted = _starts(self.objective, n_starts, bar)
        if interrupted:
            self.stop_kind = StopKind.SWEEP_INTERRUPTED
            trace = _rows([*at_start, starts[0]])
            self.candidates.append(LinearFitCandidate(self.objective.state_of(starts[0]), trace))
            return
        descents = _Descents(self.objective, starts, at_start, self.callback, bar)
        try:
            descents.run(max_evaluations)
        except KeyboardInterrupt:
            self.stop_kind = StopKind.LINEAR_INTERRUPTED
            if not any(descents.traces):
                raise
        traces = sorted((trace for trace in descents.traces if trace), key=lambda trace: trace[-1].value)
        self.candidates = [LinearFitCandidate(self.objective.state_of(trace[-1]), _rows(trace)) for trace in traces]
        if self.stop_kind is StopKind.LINEAR_DONE:
            try:
                self._simulate([trace[-1] for trace in traces])
            except KeyboardInterrupt:
                self.stop_kind = StopKind.LINEAR_INTERRUPTED

    def _simulate(self, ends):
        """Simulate from the ends of the minimisations, until one is confirmed."""
        for place, end in enumerate(ends):
            candidate = self.candidates[place]
            with bar_status("simulating"):
                runs = self.confirm(candidate.fitted)
            terms = runs.means
            loss = float(np.mean(runs.values)) + float(self.objective.penalty(strip_parameters(candidate.fitted)))
            noise_corrected_r, fc_distance = noise_corrected(runs.fc, end.fc, self.target)
            scores = {"noise_corrected_r": noise_corrected_r, "fc_distance": fc_distance}
            scores |= {"loss": loss, "r": terms.pop("r"), "terms": terms}
            self.candidates[place] = LinearFitCandidate(candidate.fitted, candidate.trace, **scores)
            if self.candidates[place].is_confirmed:
                return


class _Descents:
    """Minimisations from several starts, side by side.

    Attributes
    ----------
    traces : list of list of ObjectiveValue
        For each start: the start values, the start, and each improvement.
    """

    def __init__(self, objective, starts, at_start, callback, bar):
        self.objective, self.starts, self.callback, self.bar = objective, starts, callback, bar
        self.traces, self.step = [list(at_start) for _ in starts], len(at_start)
        # Values of the objective in the minimisation that is running, from each start; and the best of all.
        self.lowest, self.best = [(None, np.inf)] * len(starts), np.inf

    def run(self, max_evaluations):
        """Minimise from all starts; the callback may end it."""
        n_evaluations = max_evaluations // len(HOMOGENEITY_WEIGHTS)

        def minimisation(start):
            def minimise(evaluate):
                end = start
                for weight in HOMOGENEITY_WEIGHTS:
                    end = descend(lambda point, x, weight=weight: evaluate((point, weight, x)), end, n_evaluations)

            return minimise

        in_lockstep([minimisation(start) for start in self.starts], self._evaluate)

    def _evaluate(self, asked):
        results, ended = [], False
        found = self.objective.evaluate_all([request for _, request in asked])
        for (place, (_, weight, _)), (value, gradients, slope) in zip(asked, found, strict=True):
            self.bar.update()
            results.append((value, slope))
            ended = self._add(place, weight, value, gradients) or ended
        if ended:
            raise Ended
        return results

    def _add(self, place, weight, value, gradients):
        """Add the value to the trace of its start if it improves; True if the callback ends the fit."""
        former_weight, lowest = self.lowest[place]
        if weight == former_weight and not value.value < lowest:
            return False
        self.lowest[place] = weight, value.value
        self.traces[place].append(value)
        if not value.value < self.best:
            return False
        self.best = value.value
        self.bar.set_postfix(loss=f"{value.loss:.5g}", r=f"{value.r:.3f}", refresh=False)
        step, self.step = self.step, self.step + 1
        # The plain callback does nothing: no state is made for it.
        if type(self.callback) is Callback:
            return False
        return self.callback(step, self.objective.state_of(value), value.loss, gradients) is True


def _rows(trace):
    return np.array([(value.loss, value.r, value.nonlinearity, *value.terms) for value in trace])


def noise_corrected(fcs, fc, target) -> tuple[float, float]:
    """Agreement of recordings with an FC, corrected for their sampling error.

    Parameters
    ----------
    fcs : array_like, shape (n, n_node, n_node)
        FC of two recordings or more.
    fc : array_like, shape (n_node, n_node)
        FC that they are compared with.
    target : array_like, shape (n_node, n_node)

    Returns
    -------
    r : float
        Correlation of the recordings with the target.
    fc_distance : float
        RMS difference between the recordings and ``fc``.

    Notes
    -----
    Off the diagonal, and where the target has data. The variance between recordings is a part of the variance of their
    mean, and of its difference from ``fc``, and is subtracted: Spearman's correction for attenuation, of the recordings
    alone; the sampling error of the target remains.

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
    error_variance = np.mean(fcs.var(0, ddof=1)[pairs]) / fcs.shape[0]
    reliability = max(1.0 - error_variance / max(np.var(mean[pairs]), 1e-300), _MIN_RELIABILITY)
    r = np.clip(fc_corr(mean, target, missing="ignore") / np.sqrt(reliability), -1.0, 1.0)
    mean_square = np.mean((mean - np.asarray(fc))[pairs] ** 2)
    return float(r), float(np.sqrt(max(mean_square - error_variance, 0.0)))


def _starts(objective, n_starts, bar):
    """The start values, if they are stable; the best points of a coarse sweep; and True if that was interrupted."""
    stable, at_start, interrupted = [], [], False

    def add(value):
        bar.update()
        if value.is_stable:
            stable.append(value)
            best = min(stable, key=lambda each: each.value)
            bar.set_postfix(loss=f"{best.loss:.5g}", r=f"{best.r:.3f}", refresh=False)

    try:
        value, *_ = objective(objective.start_point, HOMOGENEITY_WEIGHTS[0], objective.x)
        if value.is_stable and objective.accept_other_attractors(value):
            value, *_ = objective(objective.start_point, HOMOGENEITY_WEIGHTS[0], value.x)
        add(value)
        at_start.extend(stable)
        points = objective.latin_hypercube(_POINTS)
        requests = ((point, HOMOGENEITY_WEIGHTS[0], objective.x) for point in points)
        for value, *_ in objective.evaluate_all(requests):
            add(value)
    except KeyboardInterrupt:
        if not stable:
            raise
        interrupted = True
    if not interrupted and stable and _fix_values_without_effect(objective, min(stable, key=lambda v: v.value)):
        stable = [
            objective(objective.with_fixed_values(value.point), HOMOGENEITY_WEIGHTS[0], value.x)[0] for value in stable
        ]
        stable = [value for value in stable if value.is_stable]
    if not stable:
        raise NoStableFixedPoint(
            f"no stable fixed point at the start values, nor at any of {_POINTS} points around",
            'There is no linear response to fit: use method="simulate", or other bounds.',
        )
    stable.sort(key=lambda value: value.value)
    return at_start, apart(stable, lambda value: value.point, n_starts), interrupted


def _fix_values_without_effect(objective, value):
    """Fix values on which FC does not depend, with a warning: the sweep would choose them at random."""
    idle = objective.without_effect(value)
    if not idle:
        return False
    subject = f"{' and '.join(idle)} {'is' if len(idle) == 1 else 'are'}"
    message = f"the FC of the linear response is the same whatever {subject}"
    if len(idle) == len(objective.parameters):
        raise NoEffect(f"{message}, so that there is nothing to fit", 'Fit through the simulation: method="simulate".')
    objective.fix(idle)
    warnings.warn(
        f"fit: {message}: kept at the start. Leave it out, or fit it through the simulation.",
        stacklevel=caller_stacklevel(),
    )
    return True
