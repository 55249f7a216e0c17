"""Negative controls: translations with a deliberate mistake, which a comparison with TVB has to notice.

Each mistake can also be made in TVB. A mistake without an effect on TVB is no control.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from ..dynamics.bold import Bold
from ..translate.clone import clone, history_with_buffer, history_with_weights
from ..translate.tvb_run import run_tvb
from .comparison import compare_monitors, largest_relative, n_equal_samples, translated_signals

# Relative change of TVB's own run that counts as rounding.
_NO_CHANGE = 1e-12


@dataclass(frozen=True)
class NegativeControl:
    """One mistake.

    Attributes
    ----------
    name : str
    mistaken : tuple of (Simulate, State)
        The translation with the mistake.
    in_tvb : callable
        Changes a configured TVB simulator such that it makes the same mistake.
    no_effect : str
        Possible reason why the mistake changes nothing.
    """

    name: str
    mistaken: tuple
    in_tvb: Callable
    no_effect: str


def negative_controls(simulate, state) -> Iterator[tuple[str, NegativeControl | str]]:
    """Name of each mistake, with the control, or with the reason why the simulator cannot make the mistake.

    Parameters
    ----------
    simulate : Simulate
    state : State
        Without `Parameter` objects.

    Yields
    ------
    name : str
    control : NegativeControl or str
    """
    for name, make in (
        ("coupling removed", _without_coupling),
        ("weights transposed", _transposed),
        ("noise shifted by one step", _shifted_noise),
        ("delays ignored", _without_delays),
        ("stimulus removed", _without_stimulus),
        ("BOLD kernel shifted by one sample", _shifted_kernel),
    ):
        control = make(simulate, state)
        yield name, control if isinstance(control, str) else NegativeControl(name, *control)


def control_differences(simulate, state, ours: list, theirs: list, sim, tolerance: float) -> dict:
    """Difference of each translation with a mistake from TVB.

    Parameters
    ----------
    simulate, state
        The translation; see `negative_controls`.
    ours, theirs : list of (ndarray, ndarray)
        Signals of the translation, and of TVB.
    sim : Simulator
        Configured copy, before its run.
    tolerance : float
        A smaller difference is compared with the effect of the mistake on TVB.

    Returns
    -------
    dict of str to (float or str)
        Largest relative difference; or the reason why the mistake has no effect.
    """
    differences, length = {}, simulate.n_steps * simulate.dt
    # Samples after the first disagreement of translation and TVB, as in chaos, cannot show a mistake.
    n_equal = [
        n_equal_samples(data, reference, tolerance) for (_, data), (_, reference) in zip(ours, theirs, strict=True)
    ]
    n_equal = n_equal if any(n_equal) else [None] * len(n_equal)

    def difference(signals):
        cut = [[(t[:n], x[:n]) for (t, x), n in zip(some, n_equal, strict=True)] for some in (signals, theirs)]
        return largest_relative(compare_monitors(simulate, *cut))

    for name, control in negative_controls(simulate, state):
        if isinstance(control, str):
            differences[name] = control
            continue
        differences[name] = difference(translated_signals(*control.mistaken))
        if differences[name] <= tolerance:
            mistaken_tvb = run_tvb(with_mistake(sim, control), simulate.n_steps, length)
            if difference(mistaken_tvb) <= _NO_CHANGE:
                differences[name] = f"{control.no_effect}; TVB's own run does not change either"
    return differences


def with_mistake(sim, control: NegativeControl):
    """Copy of a configured TVB simulator that makes the mistake of a control."""
    copy = clone(sim)
    control.in_tvb(copy)
    return copy


# Each of the following functions gives the fields of a `NegativeControl` without its name, or the reason why the
# simulator cannot make the mistake.


def _with_weights(simulate, state, change, no_effect):
    def in_tvb(sim):
        for cached in ("_cached_lri", "_cached_nzr"):
            vars(sim.coupling).pop(cached, None)
        sim.history = history_with_weights(sim.history, change(sim.connectivity.weights))

    connectivity = state.connectivity.replace(weights=change(state.connectivity.weights))
    return (simulate, state.replace(connectivity=connectivity)), in_tvb, no_effect


def _without_coupling(simulate, state):
    if not jnp.any(state.connectivity.weights != 0.0):
        return "there are no connections"
    return _with_weights(
        simulate, state, lambda weights: 0.0 * weights, "the coupling has no effect on what is recorded"
    )


def _transposed(simulate, state):
    weights = state.connectivity.weights
    if weights.shape[0] == 1:
        return "there is one region"
    if jnp.all(weights == weights.T):
        return "the weights are symmetric"
    return _with_weights(
        simulate, state, lambda weights: weights.T, "the direction of the coupling has no effect on what is recorded"
    )


class _FixedDraws:
    """Random stream that returns given draws."""

    def __init__(self, draws):
        self._draws = iter(np.asarray(draws))

    def normal(self, size):
        """Next draws."""
        return next(self._draws)


def _shifted_noise(simulate, state):
    if "noise" not in state.integrator:
        return "the integrator is deterministic"
    noise = state.integrator.noise
    if not jnp.any(noise.nsig > 0.0):
        return "nsig is zero"
    draws = jnp.roll(noise.draws, 1, axis=0)
    if draws.shape[0] == 1:
        return "there is one step"

    def in_tvb(sim):
        vars(sim.integrator.noise)["random_stream"] = _FixedDraws(draws)

    mistaken = state.replace(integrator=state.integrator.replace(noise=noise.replace(draws=draws)))
    return (simulate, mistaken), in_tvb, "the noise has no effect on what is recorded"


def _without_delays(simulate, state):
    if simulate.step.delays is None:
        return "there are none"

    def in_tvb(sim):
        present = sim.history.buffer[[sim.current_step % sim.history.n_time]]
        sim.history = history_with_buffer(sim.history, present, np.zeros_like(sim.history.delays))

    mistaken = replace(simulate, step=replace(simulate.step, delays=None))
    connected = np.asarray(state.connectivity.weights) != 0.0
    no_effect = "the delayed coupling has no effect on what is recorded"
    if not simulate.step.delays[connected].any():
        no_effect = "no connection has a delay"
    return (mistaken, state.replace(initial_conditions=state.initial_conditions[-1:])), in_tvb, no_effect


def _without_stimulus(simulate, state):
    if "stimulus" not in state:
        return "there is none"

    def inputs(state):
        values, after = simulate.inputs(state)
        return values | {"stimulus": jnp.zeros_like(values["stimulus"])}, after

    def in_tvb(sim):
        sim.stimulus = None

    no_effect = "the stimulus has no effect on what is recorded"
    if not jnp.any(simulate.inputs(state)[0]["stimulus"] != 0.0):
        no_effect = f"the stimulus is zero in all of the {simulate.n_steps} steps"
    return (replace(simulate, inputs=inputs), state), in_tvb, no_effect


def _shifted_kernel(simulate, state):
    if not any(isinstance(monitor, Bold) for monitor in simulate.monitors):
        return "there is no Bold monitor"

    def in_tvb(sim):
        for monitor in sim.monitors:
            if getattr(monitor, "hemodynamic_response_function", None) is not None:
                kernel = monitor.hemodynamic_response_function
                monitor.hemodynamic_response_function = np.roll(kernel, -1, axis=1)

    shifted = tuple(replace(m, shift=1) if isinstance(m, Bold) else m for m in simulate.monitors)
    return (replace(simulate, monitors=shifted), state), in_tvb, "the signal that it filters does not change in time"
