"""Translations that are wrong on purpose, each with the same mistake in TVB: what a certificate has to notice."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from ..dynamics.bold import Bold
from ..translate.clone import clone, history_with_buffer, history_with_weights

# Relative change of TVB's own run that is no more than rounding.
NO_CHANGE = 1e-12


@dataclass(frozen=True)
class Control:
    """One mistake.

    Attributes
    ----------
    name : str
    wrong : tuple of (Simulate, State)
        The translation with the mistake.
    in_tvb : callable
        Configured TVB simulator, which is changed to make the same mistake.
    idle : str
        Why the mistake may change nothing.
    """

    name: str
    wrong: tuple
    in_tvb: Callable
    idle: str


def controls(simulate, state):
    """(name, control) of every mistake, the reason where the simulator has nothing to mistake.

    Parameters
    ----------
    simulate : Simulate
    state : State
        Plain.

    Yields
    ------
    (str, Control or str)
    """
    for name, make in (
        ("coupling removed", _uncoupled),
        ("weights transposed", _transposed),
        ("noise shifted by one step", _shifted_noise),
        ("delays ignored", _at_once),
        ("stimulus removed", _silent),
        ("BOLD kernel shifted by one sample", _shifted_kernel),
    ):
        made = make(simulate, state)
        yield name, made if isinstance(made, str) else Control(name, *made)


def _with_weights(simulate, state, change, idle):
    def in_tvb(sim):
        for cached in ("_cached_lri", "_cached_nzr"):
            vars(sim.coupling).pop(cached, None)
        sim.history = history_with_weights(sim.history, change(sim.connectivity.weights))

    connectivity = state.connectivity.replace(weights=change(state.connectivity.weights))
    return (simulate, state.replace(connectivity=connectivity)), in_tvb, idle


def _uncoupled(simulate, state):
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


class _Replayed:
    """In place of a random stream: draws that are there."""

    def __init__(self, draws):
        self._draws = iter(np.asarray(draws))

    def normal(self, size):
        """The next ones."""
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
        vars(sim.integrator.noise)["random_stream"] = _Replayed(draws)

    wrong = state.replace(integrator=state.integrator.replace(noise=noise.replace(draws=draws)))
    return (simulate, wrong), in_tvb, "the noise has no effect on what is recorded"


def _at_once(simulate, state):
    if simulate.step.delays is None:
        return "there are none"

    def in_tvb(sim):
        present = sim.history.buffer[[sim.current_step % sim.history.n_time]]
        sim.history = history_with_buffer(sim.history, present, np.zeros_like(sim.history.delays))

    wrong = replace(simulate, step=replace(simulate.step, delays=None))
    connected = np.asarray(state.connectivity.weights) != 0.0
    idle = "the delayed coupling has no effect on what is recorded"
    if not simulate.step.delays[connected].any():
        idle = "none of the connections that there are has a delay"
    return (wrong, state.replace(initial_conditions=state.initial_conditions[-1:])), in_tvb, idle


def _silent(simulate, state):
    if "stimulus" not in state:
        return "there is none"

    def inputs(state):
        enters, after = simulate.inputs(state)
        return enters | {"stimulus": jnp.zeros_like(enters["stimulus"])}, after

    def in_tvb(sim):
        sim.stimulus = None

    idle = "it has no effect on what is recorded"
    if not jnp.any(simulate.inputs(state)[0]["stimulus"] != 0.0):
        idle = f"it is zero in all of the {simulate.n_steps} steps"
    return (replace(simulate, inputs=inputs), state), in_tvb, idle


def _shifted_kernel(simulate, state):
    if not any(isinstance(monitor, Bold) for monitor in simulate.monitors):
        return "there is no Bold monitor"

    def in_tvb(sim):
        for monitor in sim.monitors:
            if getattr(monitor, "hemodynamic_response_function", None) is not None:
                kernel = monitor.hemodynamic_response_function
                monitor.hemodynamic_response_function = np.roll(kernel, -1, axis=1)

    shifted = tuple(replace(m, shift=1) if isinstance(m, Bold) else m for m in simulate.monitors)
    return (replace(simulate, monitors=shifted), state), in_tvb, "what it filters does not change in time"


def with_mistake(sim, control):
    """Copy of a configured TVB simulator that makes the mistake of a control."""
    copy = clone(sim)
    control.in_tvb(copy)
    return copy
