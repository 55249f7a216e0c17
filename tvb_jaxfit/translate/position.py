"""Position of a simulator: history, buffers, step count and random streams, taken from a state."""

import re
from collections.abc import Iterator

import numpy as np
from tvb.simulator.simulator import Simulator

from ..checks.arrays import real_array
from ..dynamics.noise import NumpyStream
from ..state import State, get_path
from .components import history
from .components.registry import REGISTRY, components_of
from .shapes import array_paths

_POSITION = re.compile("|".join(component.POSITION for component in REGISTRY if component.POSITION))


def is_position(path: str) -> bool:
    """Return True if an array of a state is no parameter: where a run starts, and its noise."""
    return _POSITION.fullmatch(path) is not None


def is_at(state: State, sim: Simulator) -> bool:
    """Return True if step count and history of a configured simulator are those of a state.

    Buffers and random streams are not compared.
    """
    samples = np.asarray(state.initial_conditions)
    return int(sim.current_step) == int(state.current_step) and history.is_at(sim, samples)


def position_problems(state: State, sim: Simulator) -> Iterator[str]:
    """Reasons why the position of a state cannot be put into a simulator.

    Parameters
    ----------
    state : State
        Plain, without `Parameter`.
    sim : Simulator
        Of the same components.

    Yields
    ------
    str
    """
    if sim.history is None:
        yield "a simulator that is not configured has no position. Call sim.configure() first"
        return
    wrong = [problem for component in components_of(sim) for problem in component.position_problems(sim, state)]
    if wrong:
        yield ". ".join(wrong) + ". Give the simulator the state's delays, model and monitors, and configure it again"
    for path in filter(is_position, array_paths(state)):
        try:
            real_array(get_path(state, path), path, finite=True)
        except ValueError as error:
            yield str(error).removesuffix(".")
    for path, stream in _streams(state):
        if isinstance(stream, NumpyStream):
            try:
                stream.state_at(int(state.current_step))
            except ValueError as error:
                yield f"{path}: {str(error).removesuffix('.')}"


def _streams(node, path=""):
    """Random streams of a state, by path."""
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from _streams(child, f"{path}[{index}]")
    elif isinstance(node, State):
        if "stream" in node.static:
            yield f"{path}.stream", node.stream
        for name, child in node.items():
            yield from _streams(child, f"{path}.{name}".lstrip("."))


def has_jax_noise(state: State) -> bool:
    """Return True if a state draws noise from JAX keys, which TVB's random streams cannot reproduce."""
    return any(not isinstance(stream, NumpyStream) for _, stream in _streams(state))


def restore(state: State, sim: Simulator) -> None:
    """Put a configured simulator where a state is.

    Parameters
    ----------
    state : State
        Plain; of this simulator (see `position_problems`).
    sim : Simulator
        Modified.
    """
    for component in components_of(sim):
        component.restore(sim, state)
