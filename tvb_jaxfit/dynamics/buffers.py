"""Shapes of the history and of the monitors' buffers at the start of a run."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..state import State
from .balloon import BalloonBold
from .balloon_parameters import PARAMETERS
from .bold import Bold
from .monitors import Monitor, Projection, TemporalAverage
from .step import Step


class Regional(NamedTuple):
    """Shapes of a parameter with one value, or with one for each of ``n_node`` regions."""

    n_node: int


def check_buffers(step: Step, monitors: tuple[Monitor, ...], n_steps: int, state: State) -> None:
    """Check the shapes of the history and of the monitors' buffers.

    Parameters
    ----------
    step : Step
    monitors : tuple of Monitor
    n_steps : int
    state : State

    Raises
    ------
    ValueError
        If a shape is not the simulator's. One message names all of them.
    """
    problems = [*history_problems(step.delays, state), *monitor_problems(monitors, n_steps, state)]
    if problems:
        raise ValueError(". ".join(problems) + ". Use the state that came with this simulate.")


def history_problems(delays: np.ndarray | None, state: State) -> Iterator[str]:
    """Yield the problems of a state's history, for a simulator with these delays [steps] or None."""
    horizon = 1 if delays is None else int(np.max(delays)) + 1
    shape = np.shape(state.initial_conditions)
    if shape[:1] != (horizon,):
        yield (
            f"State.initial_conditions: shape {shape}, with the samples in time first; this simulator, with delays "
            f"up to {horizon - 1} steps, has {horizon} samples"
        )


def monitor_problems(monitors: tuple[Monitor, ...], n_steps: int | None, state: State) -> Iterator[str]:
    """Yield the problems of the monitors' buffers in a state; ``n_steps`` None stands for a run of any length."""
    if len(state.monitors) != len(monitors):
        yield f"State.monitors: {len(state.monitors)}, where this simulator has {len(monitors)}"
        return
    for index, (monitor, node) in enumerate(zip(monitors, state.monitors, strict=True)):
        expected = buffer_shapes(monitor, state.current_step, n_steps, np.shape(state.initial_conditions)[2:])
        yield from _node_problems(node, expected, f"State.monitors[{index}]")


def buffer_shapes(monitor: Monitor, start: int, n_steps: int | None, node_shape: tuple[int, int]) -> dict[str, tuple]:
    """Shapes of the arrays in a monitor's node of the state, by path.

    () stands for one value in any shape, `Regional` for one value or one for each region.

    Parameters
    ----------
    monitor : Monitor
    start, n_steps : int
        First step and length of the run; a length of None stands for any.
    node_shape : tuple of int
        (n_node, n_mode)

    Returns
    -------
    dict
    """
    sample = (len(monitor.voi), *node_shape)
    if isinstance(monitor, TemporalAverage):
        return {"stock": (start % monitor.istep, *sample)}
    if isinstance(monitor, Bold):
        open_window = start % monitor.interim_istep
        return {
            "stock": (monitor.kernel_time.size, *sample),
            "interim_stock": (open_window, *sample),
            "hrf_kernel": (),
        }
    if isinstance(monitor, BalloonBold):
        buffers = {"hemodynamics": (4, *sample), "interim_stock": (start % monitor.interim_istep, *sample)}
        return buffers | dict.fromkeys(PARAMETERS, Regional(node_shape[0]))
    if not isinstance(monitor, Projection):
        return {}
    sensors = (monitor.gain.shape[0], len(monitor.voi))
    if monitor.coloured is None:
        return {"stock": sensors}
    n_draw = None if n_steps is None else monitor.steps(start, n_steps).size
    shapes = {"stock": sensors, "obsnoise.draws": (n_draw, *sensors)}
    return shapes | ({"obsnoise.eta": sensors, "obsnoise.ntau": ()} if monitor.coloured else {})


def _node_problems(node, expected, path):
    """Yield the problems of the arrays of a monitor's node."""
    shapes = dict(_array_shapes(node))
    for name in expected:
        if name != "hrf_kernel" and name not in shapes:
            yield f"{path}.{name}: missing"
    for name, shape in shapes.items():
        wanted = expected.get("hrf_kernel" if name.startswith("hrf_kernel.") else name)
        if wanted is None:
            yield f"{path}.{name}: this simulator has no place for it"
        elif isinstance(wanted, Regional):
            if int(np.prod(shape)) != 1 and shape not in ((wanted.n_node,), (wanted.n_node, 1)):
                yield (f"{path}.{name}: shape {shape}. Give one value, or one for each of the {wanted.n_node} regions")
        elif wanted == () and int(np.prod(shape)) != 1:
            yield f"{path}.{name}: shape {shape}. Give one value"
        elif wanted != () and not shape_matches(shape, wanted):
            yield f"{path}.{name}: shape {shape}, where this simulator has {wanted}"


def shape_matches(shape, wanted) -> bool:
    """True if a shape is the wanted one, in which None stands for any length."""
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))


def _array_shapes(node, prefix=""):
    """Yield name and shape of each array of a node."""
    for name, child in node.items():
        if isinstance(child, State):
            yield from _array_shapes(child, f"{prefix}{name}.")
        elif child is not None:
            yield f"{prefix}{name}", np.shape(child)
