"""Ways of a fit: the stages that a method asks for, in their order, and what they have cost."""

from dataclasses import replace

import numpy as np

from ..balance.balanced import Balanced
from ..balance.rates import mean_rates
from ..errors import FitFailed, NoLinearFit, UnsupportedComponent
from ..parameters import parameters_of, strip_parameters
from ..runtime.progress import announce, status_line
from .criterion import Scorer
from .fresh import FreshNoise, short_runs
from .keys import Purpose, key_as_code, noise_key
from .linear.refinement import one_minus_fc_corr
from .linear_stage import fit_by_linear_response
from .method import Method, choosing_simulation
from .problem import FitProblem
from .result import FitResult
from .simulation_stage import default_loss, fit_by_simulation
from .stopping import StopKind, StopReason


def fit_problem(problem: FitProblem) -> FitResult:
    """Fit in the way of the method.

    Parameters
    ----------
    problem : FitProblem

    Returns
    -------
    FitResult
        With its way, the reason for it, its costs, and its r on fresh noise.
    """
    return _WAYS[problem.request.method](problem)


def _simulated(problem, why='method="simulate" asks for it'):
    _announce(problem, "the simulation", why)
    return _finished(problem, fit_by_simulation(problem), Method.SIMULATE, why)


def _linear(problem):
    why = 'method="linear" asks for it'
    _announce(problem, "the linear response", why)
    stage = fit_by_linear_response(problem)
    return _finished(problem, stage.result, Method.LINEAR, why, stage)


def _linear_then_simulated(problem):
    why = 'method="linear+simulate" asks for it'
    _announce(problem, "the linear response, then the simulation", why)
    stage = fit_by_linear_response(problem)
    if _is_interrupted(stage.result):
        return _finished(problem, stage.result, Method.LINEAR, why, stage)
    try:
        return _finished(problem, _refined(problem, stage), Method.LINEAR_THEN_SIMULATE, why, stage)
    except FitFailed as error:
        error.linear_stage = _finished(problem, stage.result, Method.LINEAR, why, stage)
        raise


def _auto(problem):
    chosen = choosing_simulation(problem.request.given())
    if chosen:
        one = len(chosen) == 1
        subject = f"{', '.join(chosen)} {'is an option' if one else 'are options'}"
        return _simulated(problem, f"{subject} of a fit through the simulation")
    _announce(problem, "the linear response, confirmed by simulations", "it needs no noise")
    stage, reason = None, ""
    try:
        stage = fit_by_linear_response(problem)
    except (UnsupportedComponent, NoLinearFit) as error:
        reason = error.reason if isinstance(error, NoLinearFit) else "; ".join(error.reasons)
    if stage is None:
        return _simulated(problem, f"the linear response does not apply: {reason}")
    if _is_interrupted(stage.result):
        return _finished(problem, stage.result, Method.LINEAR, "interrupted in the linear response", stage)
    if stage.result.diverged:
        return _simulated(problem, f"the linear response does not apply: {stage.result.diverged}")
    reason = stage.reason_to_refine
    if not reason:
        why = "the linear response applies, and simulations confirm it"
        return _finished(problem, stage.result, Method.LINEAR, why, stage)
    return _refined_if_better(problem, stage, reason)


def _refined_if_better(problem, stage, reason):
    """Refinement of a linear fit if it is better on noise that neither has used, else the linear fit."""
    _announce(problem, "the simulation, from the result of the linear response", reason)
    try:
        refined = _refined(problem, stage)
        better, remark = True, "interrupted before the comparison of both"
        if not _is_interrupted(refined):
            better, remark = _compared(problem, stage, refined)
    except FitFailed as error:
        better, remark = False, f"the simulation has no gradient there: {error}"
    why = f"{reason}; {remark}"
    if better:
        return _finished(problem, refined, Method.LINEAR_THEN_SIMULATE, why, stage)
    return _finished(problem, stage.result, Method.LINEAR, why, stage)


def _refined(problem, stage):
    """Refinement of a linear fit; after an interrupt before its first step, the linear fit."""
    try:
        refined = fit_by_simulation(problem, stage.result)
    except KeyboardInterrupt:
        return _interrupted(stage.result)
    return refined if refined.loss.size or refined.diverged else _interrupted(stage.result)


def _compared(problem, stage, refined):
    """(the refined values are better, remark): both are simulated on the same noise, which neither stage has used."""
    if refined.history.best_step == 0:
        return False, "no step of the refinement was better"
    scorer = Scorer(problem.criterion(one_minus_fc_corr))
    key = noise_key(problem.request.search.seed, Purpose.COMPARISON)

    def mean_loss(state):
        mean = np.mean([scorer(each)[0] for each in stage.simulate(state, key).recorded])
        return np.nan_to_num(mean, nan=np.inf) + float(problem.penalty(strip_parameters(state)))

    with (
        problem.costs.of("comparison"),
        status_line("fit: comparing both results on noise of its own", problem.request.run.progress),
    ):
        try:
            before, after = mean_loss(stage.result.best), mean_loss(refined.best)
        except KeyboardInterrupt:
            return True, "interrupted before the comparison of both"
    is_better = bool(after < before)
    verb = "improves it" if is_better else "does not improve it"
    return is_better, f"a refinement {verb} (loss {before:.4f} before, {after:.4f} after, on noise that neither used)"


def _finished(problem, result, way, why, stage=None):
    """Result with its way, costs, and r on fresh noise; an interrupt leaves out the latter."""
    is_noisy, fresh = "noise" in problem.state.integrator, None
    if result.loss.size and is_noisy and not _is_interrupted(result) and not result.diverged:
        try:
            fresh = _on_fresh_noise(problem, result, stage)
        except KeyboardInterrupt:
            result = _interrupted(result)
    rates = {}
    if fresh is not None:
        try:
            rates = _mean_rates(problem, result)
        except KeyboardInterrupt:
            result = _interrupted(result)
    if result.is_linear:
        way = Method.LINEAR
    return replace(result, way=way, why=why, costs=dict(problem.costs.seconds), fresh=fresh, mean_rates=rates)


def _mean_rates(problem, result):
    """Mean rates under noise of the regions that are balanced at the fixed point, by the path of what balances them."""
    balanced = {path: each for path, each in parameters_of(result.best).items() if isinstance(each, Balanced)}
    if not balanced:
        return {}
    key, progress = noise_key(problem.request.search.seed, Purpose.RATES), problem.request.run.progress
    with problem.costs.of("mean rates"), status_line("fit: mean rates under noise", progress):
        return {
            path: mean_rates(problem.simulator, result.best, rate=each.rate, key=key, accepted=each.accepted)
            for path, each in balanced.items()
        }


def _on_fresh_noise(problem, result, stage):
    seed = problem.request.search.seed
    # The program of a confirmation is compiled already.
    criterion = problem.criterion(default_loss(problem.request))
    run = short_runs(problem.simulate, criterion) if stage is None else stage.simulate
    with (
        problem.costs.of("fresh noise"),
        status_line("fit: simulating the result on fresh noise", problem.request.run.progress),
    ):
        runs = run(result.best, noise_key(seed, Purpose.FRESH))
    terms = dict(runs.scores)
    return FreshNoise(terms.pop("r"), runs.length, key_as_code(seed, Purpose.FRESH), terms)


def _is_interrupted(result):
    return result.history.stop_reason.interrupted


def _interrupted(result):
    """Result whose next stage was interrupted."""
    reason = StopReason(StopKind.FRESH_INTERRUPTED, detail=str(result.history.stop_reason))
    return replace(result, history=replace(result.history, stop_reason=reason))


def _announce(problem, way, why):
    announce(f"fit: through {way} ({why})", problem.request.run.progress)


_WAYS = {
    Method.AUTO: _auto,
    Method.SIMULATE: _simulated,
    Method.LINEAR: _linear,
    Method.LINEAR_THEN_SIMULATE: _linear_then_simulated,
}
