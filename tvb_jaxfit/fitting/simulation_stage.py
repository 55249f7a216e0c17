"""Stage of a fit through the simulation, from one start or from several."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
import optax

from ..dependents import free_parameters_of
from ..dynamics.noise import resample
from ..errors import BalanceWarning, FitFailed
from ..evaluation.diagnosis import explain_not_finite
from ..loss import rmse, rmse_corr
from ..parameters import resolve_dependents, strip_parameters, with_parameters
from ..runtime.progress import progress_bar
from ..state import State
from .fresh import short_runs
from .history import History
from .keys import Purpose, noise_key
from .linear import refinement
from .method import Method
from .optimizer import OptaxOptimizer
from .outcome import Candidate, result_of
from .problem import FitProblem, FitRequest
from .result import FitResult
from .starts import apart, latin_hypercube, point_of_state
from .stopping import StopKind, StopReason

# Default number of steps, and of starts where "auto" takes the simulation.
MAX_STEPS, N_STARTS = 100, 3
# Points of the sweep from which further starts are taken.
_POINTS = 24
# Maximum step of the optimizer of "auto", relative to a parameter's range.
_RATE = 0.02


@dataclass(frozen=True)
class _Score:
    """State whose loss was simulated."""

    state: State
    loss: float
    r: float


def fit_by_simulation(problem: FitProblem, linear_stage: FitResult | None = None) -> FitResult:
    """Fit through the simulation, from the start values or from the result of a linear fit.

    Parameters
    ----------
    problem : FitProblem
    linear_stage : FitResult, optional

    Raises
    ------
    FitFailed
        Loss or gradient are not finite at any start.
    """
    n_starts = 1 if linear_stage is not None else _number_of_starts(problem.request)
    start = problem.state if linear_stage is None else linear_stage.fitted
    scored, began = [], time.perf_counter()
    if n_starts > 1:
        with problem.costs.of("sweep of starts"):
            scored, interrupted = _sweep(problem)
        if interrupted:
            return _swept_result(problem, scored, time.perf_counter() - began)
    starts = _chosen(problem, scored, n_starts) or [start]
    with problem.costs.of("simulation"):
        return _best_of(problem, starts, scored, linear_stage, began)


def _number_of_starts(request):
    if request.search.n_starts is not None and request.method is not Method.LINEAR_THEN_SIMULATE:
        return request.search.n_starts
    return N_STARTS if request.method is Method.AUTO and request.run.checkpoint is None else 1


def _sweep(problem):
    """(scores of the start values and of a Latin hypercube around them, the start values first; interrupted)."""
    request, parameters = problem.request, free_parameters_of(problem.state)
    run = short_runs(problem.simulate, problem.criterion(default_loss(request)))
    key, scored = noise_key(request.search.seed, Purpose.SWEEP), []
    points = [parameters, *latin_hypercube(parameters, _POINTS, request.search.seed)]
    try:
        with progress_bar("fit: starts", "simulation", len(points), request.run.progress) as bar:
            for point in points:
                with warnings.catch_warnings():
                    # Points without a balance have no finite loss, and those that are unwanted a cost.
                    warnings.simplefilter("ignore", BalanceWarning)
                    state = resolve_dependents(with_parameters(problem.state, point))
                    scored.append(_score(problem, state, run, key))
                bar.update()
    except KeyboardInterrupt:
        if not any(np.isfinite(each.loss) for each in scored):
            raise
        return scored, True
    return scored, False


def _score(problem, state, run, key):
    runs = run(resample(state, key) if problem.resamples else state)
    loss = float(runs.values[0]) + float(problem.penalty(strip_parameters(state)))
    return _Score(state, loss if np.isfinite(loss) else np.inf, runs.means["r"])


def _chosen(problem, scored, n_starts):
    """States to start from: the start values, and the best others that are apart from each other; finite ones only."""
    first, others = scored[:1], sorted(scored[1:], key=lambda each: each.loss)
    finite = [each.state for each in [*first, *others] if np.isfinite(each.loss)]
    return apart(finite, point_of_state, n_starts)


def _swept_result(problem, scored, wall_time):
    """Result of a sweep that was interrupted: its best point."""
    best = min(scored, key=lambda each: each.loss)
    history = History(
        loss=np.array([best.loss]),
        aux={"r": np.array([best.r])},
        best=best.state,
        best_step=0,
        stop_reason=StopReason(StopKind.SWEEP_INTERRUPTED, detail=f"the best of {len(scored)} simulated points"),
        wall_time=wall_time,
    )
    resolved = _resolved(problem.request, None)
    return result_of(problem, best.state, best.state, history, resolved, candidates=[_candidate(best.state, history)])


def _best_of(problem, starts, scored, linear_stage, began):
    """Best of the fits from several starts; an interrupt, or the callback, ends all of them."""
    ends, failed, interrupted = [], None, False
    for index, start in enumerate(starts):
        name = "fit" if len(starts) == 1 else f"fit: start {index + 1} of {len(starts)}"
        try:
            fitted, history = _descend(problem, start, linear_stage, name)
        except FitFailed as error:
            failed = error
            continue
        except KeyboardInterrupt:
            if not ends and not scored:
                raise
            interrupted = True
            break
        if history.loss.size or not ends:
            ends.append((start, fitted, history))
        interrupted = history.stop_reason.interrupted
        if interrupted or history.stop_reason.kind is StopKind.CALLBACK:
            break
    if not ends:
        if failed is not None:
            raise failed
        return _swept_result(problem, scored, time.perf_counter() - began)
    start, fitted, history = min(ends, key=lambda end: _selected_by(end[2])[0])
    if interrupted and len(ends) > 1:
        n_evaluations = sum(each.loss.size for _, _, each in ends)
        history = replace(history, stop_reason=StopReason(StopKind.INTERRUPTED, n_evaluations))
    resolved = _resolved(problem.request, linear_stage)
    candidates = [_candidate(each.best, each) for _, _, each in ends]
    return result_of(problem, fitted, start, history, resolved, linear_stage, candidates)


def _selected_by(history):
    """(loss, r) of the best step: of the validation, or without one of the training; infinite without evaluations."""
    at_best = history.validation.steps == history.best_step
    if at_best.any():
        loss, r = history.validation.values[at_best][0], history.validation.aux["r"][at_best][0]
    elif history.loss.size:
        loss, r = history.loss[history.best_step], history.aux["r"][history.best_step]
    else:
        return np.inf, np.nan
    return (loss, r) if np.isfinite(loss) else (np.inf, r)


def _candidate(state, history):
    return Candidate.of(state, *_selected_by(history))


def _descend(problem, start, linear_stage, name):
    """(state after the last step, history) of a fit from one start."""
    request, run = problem.request, problem.request.run
    criterion = problem.criterion(default_loss(request, linear_stage))
    simulate = criterion.recording(problem.simulate)
    n_steps = MAX_STEPS if request.max_steps is None else request.max_steps
    optimizer = _optimizer(request, free_parameters_of(start), linear_stage, n_steps)
    identity = _identity(problem, criterion, optimizer, n_steps)
    if request.noise.n_realisations > 1:
        optimizer = optax.MultiSteps(optimizer, request.noise.n_realisations).gradient_transformation()
        n_steps = request.noise.n_realisations * n_steps

    def objective(state):
        data = simulate(criterion.recording_state(state)).data
        value, scores = criterion.of_data(criterion.recorded(data))
        return value + problem.penalty(state), scores

    def explain(state):
        arguments = (request.sim, problem.simulate, state, problem.monitor, problem.skip_t)
        return explain_not_finite(*arguments, criterion.loss, problem.target, problem.penalty)

    loop = OptaxOptimizer(
        objective,
        optimizer,
        callback=run.callback,
        has_aux=True,
        progress=run.progress,
        checkpoint=run.checkpoint,
        **(_resampling(objective, request) if problem.resamples else {}),
    )
    loop.checkpoint.identity = identity
    loop.explain, loop.name = explain, name
    return loop.run(start, n_steps, run.resume)


def default_loss(request: FitRequest, linear_stage: FitResult | None = None) -> Callable:
    """Loss of FC where it was left out."""
    if linear_stage is not None:
        return refinement.one_minus_fc_corr
    return rmse_corr if request.method is Method.AUTO else rmse


def _resolved(request, linear_stage):
    """Meaning of loss, optimizer and number of steps where they were left out."""
    if linear_stage is not None:
        names = "rmse_corr, then 1 - fc_corr", refinement.description()
    elif request.method is Method.AUTO:
        names = "rmse_corr", refinement.description(_RATE)
    else:
        names = "rmse", "optax.adam(0.01)"
    return dict(zip(("loss", "optimizer"), names, strict=True)) | {"max_steps": str(MAX_STEPS)}


def _optimizer(request, parameters, linear_stage, n_steps):
    if request.optimizer is not None:
        return request.optimizer
    if linear_stage is not None:
        return refinement.adam(parameters, n_steps)
    return refinement.adam(parameters, n_steps, _RATE) if request.method is Method.AUTO else optax.adam(0.01)


def _resampling(objective, request):
    """Options of `OptaxOptimizer` for new noise at each step, and validation on noise that no step uses."""
    training, validation = (
        noise_key(request.search.seed, purpose) for purpose in (Purpose.TRAINING, Purpose.VALIDATION)
    )
    return {
        "refresh": lambda step, state: resample(state, jax.random.fold_in(training, step)),
        "validate": lambda state: objective(resample(state, validation)),
        "patience": request.noise.patience,
    }


def _identity(problem, criterion, optimizer, n_steps):
    """All that determines the fit through the simulation, by the names that a checkpoint reports."""
    request = problem.request
    identity = {
        "method": str(request.method),
        "target": problem.target,
        "penalty": problem.penalty,
        "skip_t": problem.skip_t,
        "monitor": problem.monitor,
        "resample": problem.resamples,
        "seed": request.search.seed,
        "n_realisations": request.noise.n_realisations,
        "simulator": problem.simulator,
        "simulate": problem.simulate,
        "simulation_length": problem.simulate.n_steps * problem.simulate.dt,
        "loss": criterion.loss,
        "targets": criterion.others,
        "optimizer": optimizer,
    }
    if request.method is not Method.SIMULATE and request.optimizer is None:
        # The default learning rate decreases over all steps.
        identity["max_steps"] = n_steps
    return identity
