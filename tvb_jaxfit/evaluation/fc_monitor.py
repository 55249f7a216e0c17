"""Monitor that FC is computed from: its choice, its transient, and reasons why its samples have no FC."""

import jax
import numpy as np

from ..dynamics.monitors import Monitor, Projection
from ..parameters import strip_parameters


def choose_monitor(monitors: tuple[Monitor, ...], index: int | None = None) -> int:
    """Index of the monitor that FC is computed from: as given, or the only Bold monitor, or the only monitor.

    Raises
    ------
    ValueError
        If the index does not exist, there is no monitor, or the choice is ambiguous.
    """
    if index is not None:
        if not 0 <= index < len(monitors):
            raise ValueError(f"monitor: {index}; the simulator has monitors 0 to {len(monitors) - 1}.")
        return int(index)
    bold = [place for place, monitor in enumerate(monitors) if monitor.is_bold]
    candidates = bold or list(range(len(monitors)))
    if not candidates:
        raise ValueError("monitor: the simulator has none, and FC is of one. Add monitors.Bold(period=1000.0).")
    if len(candidates) > 1:
        names = ", ".join(f"{place}: {monitors[place].name}" for place in candidates)
        raise ValueError(
            f"monitor: several monitors could give the FC ({names}); name the index of one, "
            f"fc=FCOptions(monitor={candidates[0]}) (--monitor {candidates[0]} on the command line)."
        )
    return candidates[0]


def transient_samples(monitor, leaves) -> int:
    """Number of first samples that depend on how a monitor of BOLD was before the first run; 0 for other monitors.

    Parameters
    ----------
    monitor : Monitor
    leaves : State
        Node of this monitor in the state of a simulation.
    """
    return monitor.transient(leaves)


def is_noisy(state) -> bool:
    """True if runs from a state draw noise of a size above zero."""
    return "noise" in state.integrator and bool(np.any(np.asarray(strip_parameters(state).integrator.noise.nsig) > 0.0))


def monitor_label(monitor, index) -> str:
    """Name of a monitor in messages."""
    return f"monitors[{index}] ({monitor.name}, every {monitor.istep * monitor.dt:g} ms)"


def refuse_no_fc(owner, sim, simulate, state, monitor, skip_t, index=None) -> int:
    """Refuse a monitor whose samples cannot have an FC of regions, whatever their values.

    Parameters
    ----------
    owner : str
        Beginning of the message.
    sim : tvb.simulator.simulator.Simulator
        Gives the names of variables.
    simulate : Simulate
    state : State
    monitor : int
        Index of the monitor in ``simulate``.
    skip_t : int
    index : int, optional
        Index of the same monitor in the simulator, if it differs.

    Returns
    -------
    int
        Number of samples of a run, skipped ones included.

    Raises
    ------
    ValueError
        With all reasons: fewer than three regions or samples; samples without a time axis, of something other than
        regions, or of several variables or modes.
    """
    shape, problems = signal_problems(sim, simulate, state, monitor, index)
    if len(shape) == 4 and shape[0] - skip_t < 3:
        recorder = simulate.monitors[monitor]
        problems.append(
            f"{monitor_label(recorder, monitor if index is None else index)}: {shape[0]} samples in "
            f"{simulate.n_steps * simulate.dt:g} ms, of which skip_t = {skip_t} leaves {max(shape[0] - skip_t, 0)}; FC "
            f"needs at least 3. Give a simulation_length of at least {(skip_t + 3) * recorder.istep * recorder.dt:g} "
            "ms, or a smaller skip_t"
        )
    if problems:
        raise ValueError(f"{owner}: {'; '.join(problems)}.")
    return shape[0]


def signal_problems(sim, simulate, state, monitor, index=None) -> tuple[tuple[int, ...], list[str]]:
    """Shape of a monitor's samples in a run, and reasons why they are not one signal for each region.

    Parameters
    ----------
    sim, simulate, state, monitor, index
        As for `refuse_no_fc`.

    Returns
    -------
    shape : tuple of int
    problems : list of str
    """
    recorder, n_region = simulate.monitors[monitor], state.connectivity.weights.shape[0]
    shape = jax.eval_shape(lambda state: simulate(state).data[monitor], state).shape
    name, problems = monitor_label(recorder, monitor if index is None else index), []
    if n_region < 3:
        problems.append(
            f"connectivity: {n_region} region{'s' if n_region > 1 else ''}; the correlation of two FC needs at least 3"
        )
    if len(shape) != 4:
        problems.append(
            f"{name}: it records nothing, so that there is no FC; choose another with FCOptions(monitor=...), or add "
            "monitors.Bold(period=1000.0) to the simulator"
        )
    else:
        problems += _shape_problems(name, shape[1:], n_region, sim, recorder)
    return shape, problems


def _shape_problems(name, shape, n_region, sim, recorder):
    """Reasons why samples of shape (n_voi, n_node, n_mode) have no FC of regions."""
    n_voi, n_node, n_mode = shape
    if n_node != n_region or isinstance(recorder, Projection):
        yield (
            f"{name}: its {n_node} signal{'s' if n_node > 1 else ''} are not those of the {n_region} regions; choose "
            "another monitor with FCOptions(monitor=...), or add monitors.Bold(period=1000.0) to the simulator"
        )
    if n_voi > 1:
        yield f"{name}: samples of (n_voi, n_node, n_mode) = {shape}; {_choice_of_variable(sim, recorder)}"
    if n_mode > 1:
        yield (
            f"{name}: {n_mode} modes; FC is of one mode, and no monitor of TVB selects it. Fit a loss of your own with "
            "OptaxOptimizer, of tj.compute_fc(simulate(state).data[0][:, :1, :, :1])"
        )


def _choice_of_variable(sim, recorder):
    """Advice: the code of a monitor that records one variable."""
    names = {} if recorder.observes_coupling else dict(enumerate(sim.model.variables_of_interest))
    rows = [f"{row}: {names[row]}" if row in names else str(row) for row in recorder.voi]
    kind = "RawVoi" if recorder.name == "Raw" else recorder.name
    period = "" if recorder.istep == 1 else f"period={recorder.istep * recorder.dt:g}, "
    return (
        f"FC is of one variable, and these are {', '.join(rows)}. Choose one in the simulator: "
        f"monitors.{kind}({period}variables_of_interest=np.array([{recorder.voi[0]}]))"
    )
