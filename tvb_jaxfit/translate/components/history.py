"""Initial history: the samples that a run starts from, TVB's ring buffer in order of time."""

import warnings
from functools import partial

import jax.numpy as jnp
import numpy as np

from ...dynamics.buffers import history_problems
from ...errors import HistoryWarning, caller_stacklevel
from ..clone import history_has_current_state, history_has_weights, history_with_weights
from ..shapes import shape_problems
from . import contract

NAME, POSITION = "initial_conditions", "initial_conditions"
handles = contract.handles_all
unconfigure = contract.nothing_to_unconfigure


def refusals(sim):
    """Reasons against translation that show before configure()."""
    if sim.initial_conditions is not None and not np.all(np.isfinite(sim.initial_conditions)):
        yield "Simulator.initial_conditions: hold values that are not finite. Give finite ones."


def refusals_configured(sim):
    """Reasons against translation that show in a configured copy only."""
    if not history_has_current_state(sim):
        yield (
            "Simulator.current_state: is not the newest sample of the history, as after a run that was broken off. "
            "Call sim.configure() again."
        )
    if not np.all(np.isfinite(sim.current_state)):
        yield "Simulator.current_state: holds values that are not finite. Give initial_conditions that are."


def warn(sim, reference):
    """Warn if TVB starts from another sample than the last of the initial conditions.

    Notes
    -----
    TVB keeps the last ``horizon`` samples of longer initial conditions, but counts its steps as if it had kept all:
    it starts from the sample at (length - 1) modulo horizon.
    """
    if sim.history is not None or reference.initial_conditions is None:
        return
    length, horizon = len(reference.initial_conditions), reference.connectivity.horizon
    if length > horizon and length % horizon != 0:
        warnings.warn(
            f"Simulator.initial_conditions: {length} samples for a history of {horizon}. TVB does not start from the "
            f"last of them, and neither does the translation. Give the last {horizon} samples only.",
            HistoryWarning,
            stacklevel=caller_stacklevel(),
        )


def translate(sim):
    """Translate the initial history of a configured simulator."""
    return contract.TranslatedComponent(position_shapes=partial(_position_shapes, sim))


def _position_shapes(sim, n_steps):
    """Shape of the history, of any length: `dynamics.buffers` compares the length with the delays."""
    return {"initial_conditions": (None, *np.shape(sim.current_state))}


def parameters(sim):
    """No parameters: the history is a position."""
    return []


def node(sim, span):
    """Samples up to the present, an array of JAX's default float type."""
    return jnp.asarray(ordered(sim), jnp.result_type(float))


def ordered(sim):
    """Samples of a configured simulator's history, up to the present.

    Parameters
    ----------
    sim : Simulator

    Returns
    -------
    ndarray, shape (horizon, n_var, n_node, n_mode)
        In order of time; the last is the current state. TVB keeps only the coupling variables of earlier samples.
        Their other variables have no effect and are set to those of the current state.
    """
    past, state = sim.history, np.asarray(sim.current_state, dtype=float)
    slots = (sim.current_step + 1 + np.arange(past.n_time)) % past.n_time
    samples = np.repeat(state[None], past.n_time, axis=0)
    samples[:-1, sim.model.cvar] = past.buffer[slots[:-1]]
    return samples


def position_problems(sim, state):
    """Reasons why the history of a state cannot be put into a configured simulator."""
    yield from shape_problems(_position_shapes(sim, None), state)
    yield from history_problems(np.asarray(sim.connectivity.idelays), state)


def restore(sim, state):
    """Put step count, current state and history of a state into a configured simulator."""
    step = int(state.current_step)
    sim.current_step = step
    sim.current_state = np.array(state.initial_conditions[-1], dtype=float)
    past, horizon = sim.history, sim.history.n_time
    slots = (step + 1 + np.arange(horizon)) % horizon
    past.buffer[slots] = np.asarray(state.initial_conditions, dtype=float)[:, sim.model.cvar]


def is_at(sim, samples):
    """True if a configured simulator has this history.

    The current state is compared exactly, earlier samples to single precision, in which TVB keeps them.
    """
    own = ordered(sim)
    return (
        own.shape == samples.shape
        and np.array_equal(own[-1].astype(samples.dtype), samples[-1])
        and np.array_equal(own.astype("f"), samples.astype("f"))
    )


def rederive(sim):
    """Put the weights of the connectivity into the history, which keeps a copy of them."""
    if sim.history is not None and not history_has_weights(sim):
        sim.history = history_with_weights(sim.history, sim.connectivity.weights)
