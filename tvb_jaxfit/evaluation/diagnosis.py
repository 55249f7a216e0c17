"""Why a run has no FC: the sample, the state variable, the region and the time, and what to try."""

import jax.numpy as jnp
import numpy as np

from ..dynamics.bold import Bold
from ..errors import FitFailed
from ..observation import compute_fc
from ..parameters import strip_parameters
from ..translate.divergence import find_divergence
from .fc_monitor import monitor_label

# A signal that varies by no more than so many units in its last place is constant: what varies is rounding.
_ULPS = 16


def explain_no_fc(sim, simulate, state, monitor, skip_t, index=None):
    """Why the run from a state has no FC.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Its names of variables and regions.
    simulate : Simulate
    state : State
        Plain.
    monitor : int
        Of ``simulate``.
    skip_t : int
    index : int, optional
        Of the same monitor in the simulator.

    Returns
    -------
    str
        Sentences; empty where the run has one.
    """
    result = simulate(state)
    signal = np.asarray(result.data[monitor])[:, 0, :, 0]
    recorder, index = simulate.monitors[monitor], monitor if index is None else index
    return explain_signal(
        sim, recorder, index, (result.time[monitor], signal), skip_t, lambda: find_divergence(sim, simulate, state)
    )


def fc_or_explanation(sim, simulate, state, monitor, skip_t):
    """FC of the run from a state (plain); ValueError with the reason where it has none.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator or None
        Its names of variables and regions, where there is one.
    simulate, state, monitor, skip_t
        As for `explain_no_fc`.
    """
    try:
        return compute_fc(simulate(state).data[monitor], skip_t)
    except ValueError as error:
        if sim is None:
            raise
        why = explain_no_fc(sim, simulate, state, monitor, skip_t)
        raise ValueError(f"{error} {why}".rstrip()) from error


def explain_signal(sim, recorder, index, samples, skip_t, find):
    """Why samples have no FC: sentences, see `explain_no_fc`.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
    recorder : Monitor
    index : int
        Of it in the simulator.
    samples : (ndarray, ndarray)
        Times [ms], and signals (n_time, n_node).
    skip_t : int
    find : callable
        No arguments to the `Divergence` of the run, or None.
    """
    (time, signal), labels, name = samples, _labels(sim), monitor_label(recorder, index)
    if np.isfinite(signal[skip_t:]).all():
        return _why_constant(name, signal, skip_t, labels)
    states = _of_states(find(), recorder.dt, isinstance(recorder, Bold))
    return f"{name}: {_first_sample(signal, time, labels)}. {states}"


def explain_not_finite(sim, simulate, state, monitor, skip_t, loss, target, penalty):
    """Why the loss of a fit, or its gradient, is not finite at a state: sentences, see `explain_no_fc`.

    Parameters
    ----------
    sim, simulate, state, monitor, skip_t
        As for `explain_no_fc`.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray
    penalty : callable
        State (plain) to a scalar.
    """
    why = explain_no_fc(sim, simulate, state, monitor, skip_t)
    if why:
        return why
    fc = compute_fc(simulate(state).data[monitor], skip_t)
    values = {"loss": loss(fc, jnp.asarray(target)), "penalty": penalty(state)}
    bad = [f"{name} gives {float(value)}" for name, value in values.items() if not np.isfinite(value)]
    if bad:
        return f"The run and its FC are finite, and the {' and the '.join(bad)}: let it give finite numbers."
    return (
        "The run, its FC and the loss are finite: a derivative is infinite there, or derivatives grow beyond all "
        f"numbers over the {simulate.n_steps} steps. Try other start values, or a shorter simulation_length."
    )


def refuse_constant_signal(sim, simulate, state, monitor, skip_t):
    """Raise FitFailed where noise does not reach what is recorded, and it is constant: before a gradient is compiled.

    Nothing is run where noise reaches every variable of every region.
    """
    state = strip_parameters(state)
    if "noise" in state.integrator and np.all(np.asarray(state.integrator.noise.nsig) > 0.0):
        return
    signal = np.asarray(simulate(state).data[monitor])[:, 0, :, 0]
    # Of one that is not finite, the first loss tells more: it sees the noise of the fit.
    if np.isfinite(signal[skip_t:]).all():
        why = _why_constant(monitor_label(simulate.monitors[monitor], monitor), signal, skip_t, _labels(sim))
        if why:
            raise FitFailed(f"fit: {why}")


def _of_states(divergence, dt, is_bold):
    """Sentences on the states of a run whose signal is not finite; ``divergence`` None where all states are."""
    if divergence is None:
        where = "the variables of interest" + (" or the hemodynamic response (hrf_kernel)" if is_bold else "")
        return f"All state variables stay finite: what is not finite are {where}. See their expressions and values."
    told = str(divergence)
    return (
        f"{told[0].upper()}{told[1:]}. Try a smaller integrator.dt than {dt:g} ms, a weaker coupling, less noise, or "
        "bounds that keep fitted values where runs stay finite (BoundedParameter)."
    )


def _labels(sim):
    return [label.decode() if isinstance(label, bytes) else str(label) for label in sim.connectivity.region_labels]


def _named(mask, labels):
    """Regions of a mask, the first by name."""
    index = np.flatnonzero(mask)
    return f"region {labels[index[0]]!r}" + (f" (and {len(index) - 1} others)" if len(index) > 1 else "")


def _first_sample(signal, time, labels):
    bad = ~np.isfinite(signal)
    first = int(np.argmax(bad.any(axis=1)))
    return f"sample {first + 1} of {len(signal)}, at {time[first]:g} ms, is not finite at {_named(bad[first], labels)}"


def _why_constant(name, signal, skip_t, labels):
    """Sentences where signals of regions do not vary; empty where all do."""
    used = signal[skip_t:]
    rounding = _ULPS * np.finfo(used.dtype).eps * np.max(np.abs(used), axis=0)
    constant = np.ptp(used, axis=0) <= rounding
    if not constant.any():
        return ""
    value = used[0, np.argmax(constant)]
    return (
        f"{name}: the signal of {_named(constant, labels)} is constant ({value:.6g}, to rounding) over the {len(used)} "
        f"samples after skip_t = {skip_t}, so that its correlation is undefined. Give the simulator noise that reaches "
        "what is recorded (integrator.noise.nsig), record another variable (variables_of_interest), or start "
        "elsewhere (initial_conditions)."
    )
