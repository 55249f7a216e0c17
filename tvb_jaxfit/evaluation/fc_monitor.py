"""Whose signal FC is computed from, from which sample on, and whether it can have an FC at all."""

import jax
import numpy as np

from ..dynamics.bold import Bold
from ..dynamics.monitors import Monitor, Projection
from ..parameters import strip_parameters


def choose_monitor(monitors: tuple[Monitor, ...], wanted=None):
    """Index of the monitor that FC is computed from.

    Raises
    ------
    ValueError
        Where it is not clear which.
    """
    if wanted is not None:
        if not 0 <= wanted < len(monitors):
            raise ValueError(f"monitor: {wanted}; the simulator has monitors 0 to {len(monitors) - 1}.")
        return int(wanted)
    bold = [index for index, monitor in enumerate(monitors) if isinstance(monitor, Bold)]
    candidates = bold or list(range(len(monitors)))
    if not candidates:
        raise ValueError("monitor: the simulator has none, and FC is of one. Add monitors.Bold(period=1000.0).")
    if len(candidates) > 1:
        names = ", ".join(f"{index}: {monitors[index].name}" for index in candidates)
        raise ValueError(
            f"monitor: which one FC is computed from is not clear ({names}); name its index, e.g. "
            f"monitor={candidates[0]} (--monitor {candidates[0]} on the command line)."
        )
    return candidates[0]


def transient_samples(monitor, leaves):
    """Samples of a Bold monitor that see the empty part of its stock, the oldest: all of it before a first run."""
    if not isinstance(monitor, Bold):
        return 0
    stock = np.asarray(leaves.stock)
    filled = np.flatnonzero(np.any(stock != 0.0, axis=(1, 2, 3)))
    empty = int(filled[0]) if filled.size else len(stock)
    return -(-empty * monitor.interim_istep // monitor.istep)


def is_noisy(state):
    """Whether runs from a state draw noise that has a size."""
    return "noise" in state.integrator and bool(np.any(np.asarray(strip_parameters(state).integrator.noise.nsig) > 0.0))


def monitor_label(monitor, index):
    """How messages call a monitor."""
    return f"monitors[{index}] ({monitor.name}, every {monitor.istep * monitor.dt:g} ms)"


def refuse_no_fc(owner, sim, simulate, state, monitor, skip_t, index=None):
    """Raise ValueError where the samples of a monitor cannot have an FC of regions, whatever their values.

    Parameters
    ----------
    owner : str
        What the message begins with.
    sim : tvb.simulator.simulator.Simulator
        Its names of variables.
    simulate : Simulate
    state : State
    monitor : int
        Of ``simulate``.
    skip_t : int
    index : int, optional
        Of the same monitor in the simulator.

    Returns
    -------
    int
        Number of samples, those that are skipped included.

    Raises
    ------
    ValueError
        With all that speaks against it: fewer than three regions or samples; samples without a time, of other things
        than regions, of several variables or modes.
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
            f"{name}: it records nothing, so that there is no FC; choose another with monitor=, or add "
            "monitors.Bold(period=1000.0) to the simulator"
        )
    else:
        problems += _of_shape(name, shape[1:], n_region, sim, recorder)
        left = shape[0] - skip_t
        if left < 3:
            problems.append(
                f"{name}: {shape[0]} samples in {simulate.n_steps * simulate.dt:g} ms, of which skip_t = {skip_t} "
                f"leaves {max(left, 0)}; FC needs at least 3. Give a simulation_length of at least "
                f"{(skip_t + 3) * recorder.istep * recorder.dt:g} ms, or a smaller skip_t"
            )
    if problems:
        raise ValueError(f"{owner}: {'; '.join(problems)}.")
    return shape[0]


def _of_shape(name, shape, n_region, sim, recorder):
    """What speaks against samples (n_voi, n_node, n_mode)."""
    n_voi, n_node, n_mode = shape
    if n_node != n_region or isinstance(recorder, Projection):
        yield (
            f"{name}: its {n_node} signal{'s' if n_node > 1 else ''} are not those of the {n_region} regions; choose "
            "another monitor with monitor=, or add monitors.Bold(period=1000.0) to the simulator"
        )
    if n_voi > 1:
        yield f"{name}: samples of (n_voi, n_node, n_mode) = {shape}; {_choice_of_variable(sim, recorder)}"
    if n_mode > 1:
        yield (
            f"{name}: {n_mode} modes; FC is of one, and no monitor of TVB selects it. Fit a loss of your own with "
            "OptaxOptimizer, of tj.compute_fc(simulate(state).data[0][:, :1, :, :1])"
        )


def _choice_of_variable(sim, recorder):
    """The line that has a monitor record one variable."""
    shown = {} if recorder.observes_coupling else dict(enumerate(sim.model.variables_of_interest))
    rows = [f"{row}: {shown[row]}" if row in shown else str(row) for row in recorder.voi]
    kind = "RawVoi" if recorder.name == "Raw" else recorder.name
    period = "" if recorder.istep == 1 else f"period={recorder.istep * recorder.dt:g}, "
    return (
        f"FC is of one variable, and these are {', '.join(rows)}. Choose one in the simulator: "
        f"monitors.{kind}({period}variables_of_interest=np.array([{recorder.voi[0]}]))"
    )
