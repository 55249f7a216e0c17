"""Stage of a fit through the linear response: fitted, and confirmed by simulations."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..dynamics.noise import resample
from ..evaluation.diagnosis import explain_no_fc
from ..loss import rmse_corr
from ..runtime.progress import status_line
from ..translate.prepare_linear import prepare_linear
from .keys import Purpose, noise_key
from .linear.confirmation import confirmation
from .linear.fit import LinearFitCandidate, fit_linear
from .outcome import Candidate, result_of
from .problem import FitProblem, expected_length
from .result import FitResult

# Number of samples of a simulation on fresh noise, within the limits of confirmations.
_N_FRESH = 1_200
# Difference between r of the linear response and noise-corrected r of simulations above which a refinement through the
# simulation may gain something.
_R_GAP = 0.03
# The same of the weighted sum of the other terms.
_LOSS_GAP = 0.03


@dataclass(frozen=True, eq=False)
class LinearStage:
    """A fit through the linear response, and what later stages need of it.

    Attributes
    ----------
    result : FitResult
    best : LinearFitCandidate
        Candidate that the result is made of.
    simulate : callable
        State and JAX key to `ScoredRuns` of simulations from there, by the program of the confirmation.
    gap : float
        Weighted sum of the other terms in simulations, above that of the linear response.
    """

    result: FitResult
    best: LinearFitCandidate
    simulate: Callable
    gap: float = 0.0

    @property
    def reason_to_refine(self) -> str:
        """Reason why a refinement through the simulation may gain something; empty if simulations confirm the fit."""
        best = self.best
        r, simulated = best.trace[-1, 1], best.noise_corrected_r
        if not best.is_confirmed:
            return f"simulations do not confirm the linear response (r {r:.3f} by it, {simulated:.3f} simulated)"
        if r - simulated > _R_GAP:
            return f"simulations do not reach the r of the linear response ({r:.3f} by it, {simulated:.3f} simulated)"
        if self.gap > _LOSS_GAP:
            by_linear = self.result.history.aux
            terms = ", ".join(
                f"{name} {by_linear[name][-1]:.3f} by it, {value:.3f} simulated" for name, value in best.terms.items()
            )
            return f"simulations do not reach the terms of the linear response ({terms})"
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
    criterion = problem.criterion(rmse_corr)
    with status_line("linear fit: translating the simulator", request.run.progress), problem.costs.of("translation"):
        linear, _ = prepare_linear(request.sim)
    key = noise_key(request.search.seed, Purpose.CONFIRMATION)
    with status_line("linear fit: compiling", request.run.progress), problem.costs.of("translation"):
        confirm = confirmation(problem.simulator, simulate, criterion, key, problem.state)
    with problem.costs.of("linear response"):
        fitted, history, candidates = fit_linear(
            linear,
            problem.state,
            criterion,
            expected_length(request, simulate, monitor, problem.skip_t),
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

    def simulate_fresh(state, key):
        return confirm(state, key, _N_FRESH)

    best = candidates.get(id(fitted))
    return LinearStage(result, best, simulate_fresh, _gap(criterion, best, history))


def _gap(criterion, best, history):
    """Weighted sum of the terms besides FC in simulations, above that of the linear response."""
    if best is None or not best.terms:
        return 0.0
    return sum(each.weight * (best.terms[name] - history.aux[name][-1]) for name, each in criterion.others.items())
