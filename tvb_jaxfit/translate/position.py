"""Where a simulator stands: history, stocks, step count and random streams, checked against a state and put there."""

import numpy as np

from ..checks.arrays import real_array
from ..dynamics.buffers import history_problems, monitor_problems
from ..dynamics.noise import NumpyStream
from ..state import get_path
from .components import coupling, history, monitors, noise
from .shapes import array_paths, is_position, sample_problems, shapes_of


def is_at(state, sim):
    """Whether a configured simulator stands where a state does, its stocks and streams not looked at."""
    samples = np.asarray(state.initial_conditions)
    return int(sim.current_step) == int(state.current_step) and history.is_at(sim, samples)


def refusals(state, sim):
    """Reasons why a simulator cannot be put where a state stands.

    Parameters
    ----------
    state : State
        Plain.
    sim : Simulator
        Of the same components.

    Yields
    ------
    str
    """
    if sim.history is None:
        yield "a simulator that is not configured has no position. Call sim.configure() first"
        return
    # How many draws a state holds is a matter of its own length; its streams say where the noise goes on.
    shapes = shapes_of(sim, [], None)
    wrong = [
        *sample_problems(shapes.samples, state),
        *history_problems(coupling.delays(sim), state),
        *monitor_problems(monitors.translate(sim), None, state),
    ]
    if wrong:
        yield ". ".join(wrong) + ". Give the simulator the state's delays, model and monitors, and configure it again"
    for path in filter(is_position, array_paths(state)):
        try:
            real_array(get_path(state, path), path, finite=True)
        except ValueError as error:
            yield str(error).removesuffix(".")
    for path, stream in _streams(state):
        yield from _of_stream(stream, int(state.current_step), path)


def _streams(state):
    """Random streams of a state, by path."""
    if "noise" in state.integrator:
        yield "integrator.noise.stream", state.integrator.noise.stream
    for index, node in enumerate(state.monitors):
        if "obsnoise" in node:
            yield f"monitors[{index}].obsnoise.stream", node.obsnoise.stream


def _of_stream(stream, step, path):
    if isinstance(stream, NumpyStream):
        try:
            stream.state_at(step)
        except ValueError as error:
            yield f"{path}: {str(error).removesuffix('.')}"


def is_of_keys(state):
    """Whether noise of a state comes from keys of jax.random, where TVB's random streams cannot be put."""
    return any(not isinstance(stream, NumpyStream) for _, stream in _streams(state))


def put(state, sim):
    """Put a configured simulator where a state stands.

    Parameters
    ----------
    state : State
        Plain; of this simulator (see `refusals`).
    sim : Simulator
        Modified.
    """
    step = int(state.current_step)
    sim.current_step = step
    sim.current_state = np.array(state.initial_conditions[-1], dtype=float)
    past, horizon = sim.history, sim.history.n_time
    slots = (step + 1 + np.arange(horizon)) % horizon
    past.buffer[slots] = np.asarray(state.initial_conditions, dtype=float)[:, sim.model.cvar]
    for index, node in enumerate(state.monitors):
        monitors.put_stocks(sim, index, node, step)
    if "noise" in state.integrator:
        noise.put_stream(sim.integrator.noise, state.integrator.noise, step)
