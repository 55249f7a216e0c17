"""Fit by the linear response, confirmed by simulations."""

import time
import warnings
from collections.abc import Callable

import jax
import numpy as np

from ...errors import NoEffect, NoStableFixedPoint, caller_stacklevel
from ...linear_response.simulator import LinearizedSimulator
from ...parameters import strip_parameters
from ...runtime.blas import single_blas_thread
from ...runtime.progress import bar_status, progress_bar
from ...state import State
from ..callbacks import Callback, as_callback
from ..criterion import Criterion
from ..history import History
from ..keys import Purpose, noise_key
from ..options import SearchOptions
from ..starts import apart
from ..stopping import StopKind, StopReason
from .candidate import LinearFitCandidate, noise_corrected
from .lbfgs import descend
from .lockstep import Ended, in_lockstep
from .objective import Objective, no_penalty

# Weights of the differences between regional values, from one minimisation to the next: values that FC does not
# determine stay equal.
HOMOGENEITY_WEIGHTS = (0.1, 0.025)
# Points of the coarse sweep, and default number of starts that are followed.
_POINTS, _STARTS = 128, 2
# Number of bisections by which an earlier point on the way of a minimisation is found, and of keys of noise on which it
# is confirmed again. Each takes a confirmation, which is long.
_N_BISECTIONS, _N_SECOND = 6, 3


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
    and then less so. Simulations from the best end confirm it, or else those from the next one. If they confirm none,
    the last point on the way to the best end that they confirm is a candidate, too.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    criterion : Criterion
    length : float
        Length of the recording whose loss is expected [ms].
    confirm : callable
        State, and a key of noise or none, to `ScoredRuns` of simulations on new noise.
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
    running = _Search(objective, criterion.target, confirm, callback, search.seed)
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
        stop_reason=StopReason(running.stop_kind, running.n_followed, str(best)),
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
        Ends in the order of their objective, the best first; then, where simulations confirm no end, an earlier point.
    n_followed : int
        Number of starts that were followed.
    stop_kind : StopKind
    """

    def __init__(self, objective, target, confirm, callback, seed):
        self.objective, self.target, self.confirm, self.callback = objective, target, confirm, callback
        self.seed = seed
        self.candidates, self.n_followed, self.stop_kind = [], 1, StopKind.LINEAR_DONE

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
        self.n_followed = len(traces)
        if self.stop_kind is StopKind.LINEAR_DONE:
            try:
                self._simulate(traces)
            except KeyboardInterrupt:
                self.stop_kind = StopKind.LINEAR_INTERRUPTED

    def _simulate(self, traces):
        """Simulate from the ends of the minimisations, until one is confirmed."""
        for place, trace in enumerate(traces):
            self.candidates[place] = self._simulated(trace)
            if self.candidates[place].is_confirmed:
                return
        earlier = self._earlier(traces[0])
        self.candidates += [] if earlier is None else [earlier]

    def _earlier(self, trace):
        """Last point of a minimisation that simulations confirm, and confirm again; None without any.

        Far on its way, a minimisation may reach values at which noise drives the network out of its fixed point. The
        last point that simulations confirm may owe it to luck, hence the others, on noise that has not selected it.
        """
        others = jax.random.split(noise_key(self.seed, Purpose.SECOND_CONFIRMATION), _N_SECOND)

        def confirmed_again(trace):
            return all(self._simulated(trace, key).is_confirmed for key in others)

        found = self._last_confirmed(trace, lambda trace: True)
        if found is None or confirmed_again(trace[: len(found.trace)]):
            return found
        return self._last_confirmed(trace[: len(found.trace)], confirmed_again)

    def _last_confirmed(self, trace, is_confirmed_again):
        """Candidate of the last point before the end that simulations confirm, found by bisection; None without any."""
        low, high, found = 0, len(trace) - 1, None
        for _ in range(_N_BISECTIONS):
            middle = (low + high) // 2
            if middle == low:
                break
            candidate = self._simulated(trace[: middle + 1])
            if candidate.is_confirmed and is_confirmed_again(trace[: middle + 1]):
                low, found = middle, candidate
            else:
                high = middle
        return found

    def _simulated(self, trace, *key):
        """Candidate at the last point of a trace, with the scores of simulations from there."""
        fitted = self.objective.state_of(trace[-1])
        with bar_status("simulating"):
            runs = self.confirm(fitted, *key)
        terms = runs.means
        loss = float(np.mean(runs.values)) + float(self.objective.penalty(strip_parameters(fitted)))
        noise_corrected_r, fc_distance = noise_corrected(runs.fc, trace[-1].fc, self.target)
        scores = {"noise_corrected_r": noise_corrected_r, "fc_distance": fc_distance}
        scores |= {"loss": loss, "r": terms.pop("r"), "terms": terms}
        return LinearFitCandidate(fitted, _rows(trace), **scores)


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
