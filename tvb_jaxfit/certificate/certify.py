"""Comparison of TVB with its translation on the same draws, with negative controls."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax

from ..checks import options as allowed
from ..checks.options import check
from ..parameters import strip_parameters
from ..runtime.processes import refuse_forked
from ..translate.assemble import assemble
from ..translate.clone import clone, configured_clone
from ..translate.divergence import Divergence, DivergenceWatch
from ..translate.prepare import translate_simulator
from ..translate.tvb_run import run_tvb
from .amplification import ROUNDING, SINGLE, growth_rate, mark_float32, mark_float64, perturb_history
from .comparison import compare_monitors, translated_signals
from .negative_controls import control_differences
from .result import Certificate
from .stepwise import StepByStep

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

    from ..dynamics.simulate import Simulate
    from ..state import State

TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-6


def certify(
    sim: "Simulator",
    simulation_length: float | None = None,
    tolerance: float = TOLERANCE,
    float32_tolerance: float = FLOAT32_TOLERANCE,
) -> Certificate:
    """Run TVB and its translation on the same draws, and compare every monitor.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified: TVB runs on copies.
    simulation_length : float, optional
        [ms]; the simulator's own by default.
    tolerance : float, optional
        Largest difference from TVB with its history in float64, relative to the largest value of TVB's signal.
    float32_tolerance : float, optional
        Largest relative difference from TVB as it is, with its history in float32.

    Returns
    -------
    Certificate
        True if it passed; ``print`` shows it.

    Raises
    ------
    RuntimeError
        Without 64-bit mode; in a process that was forked from one that had used JAX.
    UnsupportedComponent
        As in `prepare`.

    Notes
    -----
    In a chaotic simulator, rounding alone makes two runs diverge. A run that differs by more than the tolerance still
    agrees if one step of the translation from each of TVB's own states equals TVB's step, if runs of the translation
    with an initial history perturbed by rounding differ as much, and if both runs start equal. TVB as it is agrees in
    the same way if TVB with its history in float64 differs from it as much.

    A negative control is not applicable if TVB itself, with the same mistake, gives the same numbers.
    """
    refuse_forked("certify")
    check(
        "certify",
        tolerance=(tolerance, allowed.number(minimum=0.0)),
        float32_tolerance=(float32_tolerance, allowed.number(minimum=0.0)),
    )
    if not jax.config.jax_enable_x64:
        raise RuntimeError(
            "certify compares to rounding, which needs double precision: "
            'call jax.config.update("jax_enable_x64", True) before any other use of JAX.'
        )
    return _compare(_run(sim, simulation_length), tolerance, float32_tolerance)


@dataclass(frozen=True)
class _Runs:
    """Runs of TVB and of its translation on the same draws.

    Attributes
    ----------
    simulate : Simulate
    state : State
    sim : Simulator
        Configured copy with its history in float64, before its run.
    translated, float64, float32 : list of (ndarray, ndarray)
        Signals of the translation, of TVB with its history in float64, and of TVB as it is.
    steps : StepByStep
        Along the run of TVB with its history in float64.
    divergences : dict of str to (Divergence or None)
        Of TVB's own runs.
    """

    simulate: "Simulate"
    state: "State"
    sim: "Simulator"
    translated: list
    float64: list
    float32: list
    steps: StepByStep
    divergences: dict[str, Divergence | None]


def _run(sim, simulation_length):
    """Run the translation, and TVB with its history in float64 and as it is."""
    translated = translate_simulator(sim)
    float64, float32 = configured_clone(sim, float64_history=True), configured_clone(sim)
    simulate, state = assemble(translated, simulation_length, reference=clone(float64))
    state = strip_parameters(state)
    length = simulate.n_steps * simulate.dt
    ours = translated_signals(simulate, state)
    before, steps = clone(float64), StepByStep(simulate, state)
    steps.watch(float64)
    watches = {"history in float64": DivergenceWatch(float64), "history in float32": DivergenceWatch(float32)}
    of_float64, of_float32 = (run_tvb(copy, simulate.n_steps, length) for copy in (float64, float32))
    steps.finish()
    divergences = {history: watch.divergence for history, watch in watches.items()}
    return _Runs(simulate, state, before, ours, of_float64, of_float32, steps, divergences)


def _compare(runs, tolerance, float32_tolerance):
    """Certificate of the runs of TVB and of its translation."""
    simulate, state, ours = runs.simulate, runs.state, runs.translated
    by_rounding, by_single = (translated_signals(simulate, perturb_history(state, size)) for size in (ROUNDING, SINGLE))
    against_float64 = mark_float64(
        compare_monitors(simulate, ours, runs.float64),
        ours,
        runs.float64,
        tolerance,
        compare_monitors(simulate, by_rounding, ours),
        runs.steps,
    )
    of_tvb = compare_monitors(simulate, runs.float64, runs.float32)
    against_float32 = mark_float32(
        compare_monitors(simulate, ours, runs.float32),
        ours,
        runs.float32,
        float32_tolerance,
        compare_monitors(simulate, by_single, ours),
        runs.steps,
        [(c.agrees(tolerance), tvb.relative) for c, tvb in zip(against_float64, of_tvb, strict=True)],
    )
    return Certificate(
        simulator=simulate.description,
        n_steps=simulate.n_steps,
        float64_history=against_float64,
        float32_history=against_float32,
        negative_controls=control_differences(simulate, state, ours, runs.float64, runs.sim, tolerance),
        tolerance=tolerance,
        float32_tolerance=float32_tolerance,
        step_error=runs.steps.error,
        growth_rate=growth_rate(ours, by_rounding, ROUNDING),
        diverged=_describe_divergence(against_float64, runs.divergences),
    )


def _describe_divergence(comparisons, divergences):
    """Places and times at which TVB's own runs stop being finite, as text."""
    of_states = [f"{history}: {found}" for history, found in divergences.items() if found is not None]
    of_monitors = [
        f"{c.monitor}: not finite from {c.not_finite_from:g} ms on"
        for c in comparisons
        if c.not_finite_from is not None
    ]
    return (*of_states, *of_monitors)
