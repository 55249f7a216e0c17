"""What monitors and the history hold at the start of a run: the shapes that a simulator takes."""

import numpy as np

from ..state import State
from .monitors import Bold, Projection, TemporalAverage


def check_buffers(step, monitors, n_steps, state):
    """Raise ValueError where the history or what a monitor holds has another shape than this simulator's.

    Parameters
    ----------
    step : Step
    monitors : tuple of Monitor
    n_steps : int
    state : State
    """
    problems = [*history_problems(step.delays, state), *monitor_problems(monitors, n_steps, state)]
    if problems:
        raise ValueError(". ".join(problems) + ". Use the state that came with this simulate.")


def history_problems(delays, state):
    """What is wrong with the history of a state, for a simulator with some delays [steps]."""
    horizon = 1 if delays is None else int(np.max(delays)) + 1
    shape = np.shape(state.initial_conditions)
    if shape[:1] != (horizon,):
        yield (
            f"State.initial_conditions: shape {shape}, the first of samples in time; this simulator, with delays "
            f"up to {horizon - 1} steps, has {horizon} samples"
        )


def monitor_problems(monitors, n_steps, state):
    """What is wrong with what the monitors of a state hold; ``n_steps`` None: of a run of any length."""
    if len(state.monitors) != len(monitors):
        yield f"State.monitors: {len(state.monitors)}, where this simulator has {len(monitors)}"
        return
    for index, (monitor, node) in enumerate(zip(monitors, state.monitors, strict=True)):
        expected = shapes_of_monitor(monitor, state.current_step, n_steps, np.shape(state.initial_conditions)[2:])
        yield from _problems(node, expected, f"State.monitors[{index}]")


def shapes_of_monitor(monitor, start, n_steps, node_shape):
    """Shapes of all that a monitor's node of the state holds, by path; () stands for one value in any shape.

    Parameters
    ----------
    monitor : Monitor
    start, n_steps : int
        First step and length of the run; None in place of the length allows any.
    node_shape : tuple of int
        (n_node, n_mode)
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
    if not isinstance(monitor, Projection):
        return {}
    sensors = (monitor.gain.shape[0], len(monitor.voi))
    if monitor.coloured is None:
        return {"stock": sensors}
    n_draw = None if n_steps is None else monitor.steps(start, n_steps).size
    shapes = {"stock": sensors, "obsnoise.draws": (n_draw, *sensors)}
    return shapes | ({"obsnoise.eta": sensors, "obsnoise.ntau": ()} if monitor.coloured else {})


def _problems(node, expected, path):
    """What is wrong with the arrays of a monitor's node."""
    found = dict(_arrays(node))
    for name in expected:
        if name != "hrf_kernel" and name not in found:
            yield f"{path}.{name}: missing"
    for name, shape in found.items():
        wanted = expected.get("hrf_kernel" if name.startswith("hrf_kernel.") else name)
        if wanted is None:
            yield f"{path}.{name}: this simulator has no place for it"
        elif wanted == () and int(np.prod(shape)) != 1:
            yield f"{path}.{name}: shape {shape}. Give one value"
        elif wanted != () and not shape_matches(shape, wanted):
            yield f"{path}.{name}: shape {shape}, where this simulator has {wanted}"


def shape_matches(shape, wanted):
    """Whether a shape is the wanted one, where None stands for any length."""
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))


def _arrays(node, prefix=""):
    """Names and shapes of the arrays of a node."""
    for name, child in node.items():
        if isinstance(child, State):
            yield from _arrays(child, f"{prefix}{name}.")
        elif child is not None:
            yield f"{prefix}{name}", np.shape(child)
