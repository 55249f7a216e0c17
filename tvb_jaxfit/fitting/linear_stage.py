"""Stage of a fit through the linear response: fitted, and confirmed by simulations."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..dynamics.noise import resample
from ..evaluation.diagnosis import explain_no_fc
from ..loss import rmse_corr
from ..runtime.progress import status_line
from ..translate.prepare_linear import prepare_linear
from .keys import Purpose, noise_key
from .linear.confirmation import confirmation
from .linear.fit import LinearFitCandidate, fit_linear
from .losses import checked_loss
from .method import Method
from .outcome import Candidate, result_of
from .problem import FitProblem
from .result import FitResult

# Number of samples of a simulation on fresh noise, within the limits of confirmations.
_N_FRESH = 1_200
# Shortest recording that the linear response is fitted for [samples]: FC of a shorter one is mostly sampling error.
_SHORTEST = 100
# Difference between r of the linear response and noise-corrected r of simulations above which a refinement through the
# simulation may gain something.
_R_GAP = 0.03


@dataclass(frozen=True, eq=False)
class LinearStage:
    """A fit through the linear response, and what later stages need of it.

    Attributes
    ----------
    result : FitResult
    best : LinearFitCandidate
        Candidate that the result is made of.
    simulate_fc : callable
        State and JAX key to the FC of simulations from there and their length [ms], by the program of the confirmation.
    """

    result: FitResult
    best: LinearFitCandidate
    simulate_fc: Callable

    @property
    def reason_to_refine(self) -> str:
        """Reason why a refinement through the simulation may gain something; empty if simulations confirm the fit."""
        best = self.best
        r, simulated = best.trace[-1, 1], best.noise_corrected_r
        if not best.is_confirmed:
            return f"simulations do not confirm the linear response (r {r:.3f} by it, {simulated:.3f} simulated)"
        if r - simulated > _R_GAP:
            return f"simulations do not reach the r of the linear response ({r:.3f} by it, {simulated:.3f} simulated)"
        return ""


def fit_by_linear_response(problem: FitProblem) -> LinearStage:
    """Fit by the linear response, confirmed by simulations.

    Parameters
    ----------
    problem : FitProblem

    Raises
    ------
    UnsupportedComponent, NoStableFixedPoint, NoEffect
        The linear response does not apply.
    """
    request, simulate, monitor = problem.request, problem.simulate, problem.monitor
    loss = checked_loss(rmse_corr if request.loss is None else request.loss, problem.target)
    with status_line("linear fit: translating the simulator", request.run.progress), problem.costs.of("translation"):
        linear, _ = prepare_linear(request.sim)
    key = noise_key(request.search.seed, Purpose.CONFIRMATION)
    with status_line("linear fit: compiling", request.run.progress), problem.costs.of("translation"):
        confirm = confirmation(problem.simulator, simulate, loss, problem.target, monitor, key, problem.state)
    with problem.costs.of("linear response"):
        fitted, history, candidates = fit_linear(
            linear,
            problem.state,
            loss,
            problem.target,
            monitor,
            _expected_length(problem),
            problem.costs.timed("confirmation", confirm),
            search=request.search,
            penalty=problem.penalty,
            callback=request.run.callback,
            progress=request.run.progress,
        )
    if history.diverged:
        why = explain_no_fc(request.sim, simulate, resample(history.best, key), monitor, problem.skip_t)
        history = replace(history, diverged=f"{history.diverged} {why}".rstrip())
    resolved = {"loss": "rmse_corr", "optimizer": "none: L-BFGS on the linear response", "max_steps": "none"}
    candidates = {id(each.fitted): each for each in candidates}
    starts = [Candidate.of(each.fitted, each.loss, each.r) for each in candidates.values()]
    result = result_of(problem, fitted, problem.state, history, resolved, candidates=starts)

    def simulate_fc(state, key):
        runs = confirm(state, key, _N_FRESH)
        return runs.fc, runs.length

    return LinearStage(result, candidates.get(id(fitted)), simulate_fc)


def _expected_length(problem):
    """Length [ms] of the recording that the linear response predicts the loss of."""
    request, simulate = problem.request, problem.simulate
    monitor = simulate.monitors[problem.monitor]
    n_steps = simulate.n_steps
    if request.method in (Method.AUTO, Method.LINEAR_THEN_SIMULATE):
        # A long simulation serves a smoother refinement; the start of it is that of the simulator's own length.
        n_steps = int(np.ceil(request.sim.simulation_length / simulate.dt))
    n_samples = monitor.steps(0, n_steps).size - problem.skip_t
    return max(n_samples, _SHORTEST) * monitor.istep * simulate.dt
