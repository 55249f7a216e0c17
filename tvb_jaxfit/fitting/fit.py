"""fit: a simulator, a target and the parameters to fit, in one call.

A call is checked (`FitRequest`), translated (`FitProblem`), fitted by the linear response, by the simulation, or by
both in this order, and becomes a `FitResult`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from ..dynamics.noise import resample
from ..errors import FitFailed, NoEffect, NoStableFixedPoint, UnsupportedComponent
from ..evaluation.diagnosis import explain_no_fc, explain_not_finite
from ..loss import fc_corr, rmse, rmse_corr
from ..observation import compute_fc
from ..parameters import Parameter, parameters_of
from ..runtime.processes import refuse_forked
from ..runtime.progress import status_line
from ..translate.prepare_linear import prepare_linear
from .keys import Purpose, key_as_code, noise_key
from .linear import refinement
from .linear.confirmation import confirmation
from .linear.fit import fit_linear
from .losses import checked_loss
from .method import Method
from .optimizer import OptaxOptimizer
from .options import FCOptions, NoiseOptions, RunOptions, SearchOptions, with_single_options
from .problem import FitProblem, FitRequest, prepare_problem
from .result import FitResult

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# Shortest recording that the linear response is fitted for [steps]: FC of a shorter one is mostly sampling error.
_SHORTEST = 25_000


def fit(
    sim: "Simulator",
    target: Any,
    free: dict[str, Parameter],
    *,
    method: str = "simulate",
    loss: Callable | None = None,
    penalty: Callable | None = None,
    optimizer: optax.GradientTransformation | None = None,
    max_steps: int = 100,
    fc: FCOptions = FCOptions(),  # noqa: B008
    noise: NoiseOptions = NoiseOptions(),  # noqa: B008
    search: SearchOptions = SearchOptions(),  # noqa: B008
    run: RunOptions = RunOptions(),  # noqa: B008
    **single_options,
) -> FitResult:
    """Fit parameters of a TVB simulator to an empirical FC, by gradients.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified; `FitResult.write_back` writes fitted values into a simulator.
    target : array_like, pandas.DataFrame or path-like, shape (n_node, n_node)
        Empirical FC. A labelled one is matched to ``connectivity.region_labels``; of a path, the FC in that file is
        used (see `load_fc`).
    free : dict of str to Parameter
        Parameters to fit, by attribute path: ``{"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0,
        upper_bound=1, regional=True)}``. Without a value (None), a parameter starts from the simulator's value.
    method : {"simulate", "linear", "linear+simulate", "auto"}, optional
        "simulate": gradients through the simulation. "linear": gradients through the linear response, without noise and
        about a hundred times faster; simulations confirm the result (see `prepare_linear`). "linear+simulate": the
        linear response first, then the simulation from its result. "auto": the linear response where it applies, else
        the simulation.
    loss : callable, optional
        (fc, target) to a scalar. Default: `rmse`; for the linear response `rmse_corr`; for a simulation that continues
        from it 1 - `fc_corr`.
    penalty : callable, optional
        State (plain arrays) to a scalar that is added to the loss.
    optimizer : optax.GradientTransformation, optional
        Optimizer of the fit through the simulation. Default: Adam with a learning rate of 0.01; after a linear fit,
        Adam in steps of up to 0.005 of each parameter's range, which decrease to a tenth of that.
    max_steps : int, optional
        Number of optimizer steps.
    fc : FCOptions, optional
        Computation of FC: monitor, samples left out, length, missing data.
    noise : NoiseOptions, optional
        Source of the noise; resampling, realisations per step, validation.
    search : SearchOptions, optional
        Seed, number of starts, evaluations of the linear response.
    run : RunOptions, optional
        Callback, progress bar, checkpoint.
    **single_options
        Options of these four groups by their own names: ``progress=False`` stands for
        ``run=RunOptions(progress=False)``.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        An unknown method; options that exclude each other; a target that does not match the regions; a path that the
        simulator does not have; bounds that exclude the start; a dispersion or correlation time that is not positive; a
        first step of many times a parameter's size; a monitor whose samples have no FC; for a linear fit, no stable
        fixed point, or an FC that depends on no free parameter.
    FitFailed
        Loss or gradient are not finite at the start: the message names the sample, state variable, region and time. Its
        attribute ``linear_stage`` holds the linear fit that the simulation continued from, if any.
    UnsupportedComponent
        As of `prepare`.
    TypeError
        Unknown keyword arguments.

    Notes
    -----
    The linear response yields the loss that is expected of a simulation of the given length (at least 25,000 steps),
    without running it. A short recording determines slow fluctuations badly, so that the fit relies on them less. For
    "linear+simulate", the expected loss is that of the simulator's own length, so that
    ``FCOptions(simulation_length=...)`` may be longer: ten minutes have half the sampling error of two and a half.

    Connectome weights are fitted near their measured values by ``{"connectivity.weights": MaskedParameter(
    lower_bound=0.0)}`` and ``penalty=lambda state: jnp.mean((state.connectivity.weights - measured) ** 2)``.
    """
    refuse_forked("fit")
    groups = with_single_options({"fc": fc, "noise": noise, "search": search, "run": run}, single_options)
    request = FitRequest(sim, target, free, method, loss, penalty, optimizer, max_steps, **groups)
    problem = prepare_problem(request, fit.__kwdefaults__)
    if request.method is Method.SIMULATE:
        return _fit_by_simulation(problem)
    try:
        linear_stage = _fit_by_linear_response(problem)
    except (NoStableFixedPoint, NoEffect, UnsupportedComponent):
        if request.method is not Method.AUTO:
            raise
        return _fit_by_simulation(problem)
    if request.method in (Method.AUTO, Method.LINEAR) or linear_stage.history.stop_reason.interrupted:
        return linear_stage
    return _fit_by_simulation(problem, linear_stage)


def _result(problem, fitted, initial, history, resolved, linear_stage=None):
    return FitResult(
        fitted=fitted,
        best=history.best,
        initial=initial,
        history=history,
        target=problem.target,
        simulate=problem.simulate,
        skip_t=problem.skip_t,
        monitor=problem.monitor,
        simulator=problem.simulator,
        linear_stage=linear_stage,
        settings=problem.settings.with_resolved(_resolved(problem) | resolved),
        data=problem.data,
    )


def _resolved(problem):
    """Meaning of the options that were left out, whatever the method."""
    training, validation = (
        key_as_code(problem.request.search.seed, purpose) for purpose in (Purpose.TRAINING, Purpose.VALIDATION)
    )
    keys = f"noise of its own for each step, jax.random.fold_in({training}, step); held out: {validation}"
    return {
        "penalty": "none",
        "fc.skip_t": str(problem.skip_t),
        "fc.monitor": str(problem.monitor),
        "fc.simulation_length": "the simulator's own",
        "noise.resample": keys if "noise" in problem.state.integrator else "no: there is no noise",
        "noise.patience": "none",
        "run.callback": "none",
        "run.checkpoint": "none",
    }


def _fit_by_linear_response(problem: FitProblem) -> FitResult:
    """Fit by the linear response, confirmed by simulations."""
    request, simulate, monitor = problem.request, problem.simulate, problem.monitor
    loss = checked_loss(rmse_corr if request.loss is None else request.loss, problem.target)
    with status_line("linear fit: translating the simulator", request.run.progress):
        linear, _ = prepare_linear(request.sim)
    key = noise_key(request.search.seed, Purpose.CONFIRMATION)
    fitted, history, _ = fit_linear(
        linear,
        problem.state,
        loss,
        problem.target,
        monitor,
        _expected_length(problem),
        confirmation(problem.simulator, simulate, loss, problem.target, monitor, key),
        search=request.search,
        penalty=problem.penalty,
        callback=request.run.callback,
        progress=request.run.progress,
    )
    if history.diverged:
        why = explain_no_fc(request.sim, simulate, resample(history.best, key), monitor, problem.skip_t)
        history = replace(history, diverged=f"{history.diverged} {why}".rstrip())
    resolved = {"loss": "rmse_corr", "optimizer": "none: L-BFGS on the linear response"}
    return _result(problem, fitted, problem.state, history, resolved)


def _expected_length(problem):
    """Length [ms] of the recording that the linear response predicts the loss of."""
    request, simulate = problem.request, problem.simulate
    monitor = simulate.monitors[problem.monitor]
    n_steps = simulate.n_steps
    if request.method is Method.LINEAR_THEN_SIMULATE:
        # A long simulation serves a smoother refinement; the start of it is that of the simulator's own length.
        n_steps = int(np.ceil(request.sim.simulation_length / simulate.dt))
    n_samples = monitor.steps(0, n_steps).size - problem.skip_t
    return max(n_samples * monitor.istep, _SHORTEST) * simulate.dt


def _fit_by_simulation(problem: FitProblem, linear_stage: FitResult | None = None) -> FitResult:
    """Fit through the simulation, from the start values or from the result of a linear fit."""
    request, state = problem.request, problem.state if linear_stage is None else linear_stage.fitted
    loss, optimizer, resolved = _loss_and_optimizer(request, state, linear_stage)
    loss = checked_loss(loss, problem.target)
    identity = _identity(problem, loss, optimizer)
    max_steps, n_realisations = request.max_steps, request.noise.n_realisations
    if n_realisations > 1:
        optimizer = optax.MultiSteps(optimizer, n_realisations).gradient_transformation()
        max_steps = n_realisations * max_steps

    def objective(state):
        fc = compute_fc(problem.simulate(state).data[problem.monitor], problem.skip_t)
        value = loss(fc, problem.target) + problem.penalty(state)
        return value, {"r": fc_corr(fc, problem.target, missing="ignore")}

    def explain(state):
        arguments = (request.sim, problem.simulate, state, problem.monitor, problem.skip_t)
        return explain_not_finite(*arguments, loss, problem.target, problem.penalty)

    loop = OptaxOptimizer(
        objective,
        optimizer,
        callback=request.run.callback,
        has_aux=True,
        progress=request.run.progress,
        checkpoint=request.run.checkpoint,
        **(_resampling(objective, request) if problem.resamples else {}),
    )
    loop.checkpoint.identity = identity
    loop.explain = explain
    try:
        fitted, history = loop.run(state, max_steps, request.run.resume)
    except FitFailed as error:
        error.linear_stage = linear_stage
        raise
    return _result(problem, fitted, state, history, resolved, linear_stage)


def _loss_and_optimizer(request, state, linear_stage):
    """(loss, optimizer, their meaning where they were left out)."""
    if linear_stage is None:
        loss, optimizer = rmse, optax.adam(0.01)
        resolved = {"loss": "rmse", "optimizer": "optax.adam(0.01)"}
    else:
        loss, optimizer = refinement.one_minus_fc_corr, refinement.adam(parameters_of(state), request.max_steps)
        resolved = {"loss": "rmse_corr, then 1 - fc_corr", "optimizer": refinement.DESCRIPTION}
    loss = loss if request.loss is None else request.loss
    return loss, optimizer if request.optimizer is None else request.optimizer, resolved


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


def _identity(problem, loss, optimizer):
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
        "loss": loss,
        "optimizer": optimizer,
    }
    if request.method is Method.LINEAR_THEN_SIMULATE and request.optimizer is None:
        # The default learning rate decreases over all steps.
        identity["max_steps"] = request.max_steps
    return identity
