"""Diagnosis of a run that has no FC: the sample, the state variable, the region and the time, and a remedy."""

import jax.numpy as jnp
import numpy as np

from ..errors import FitFailed
from ..observation import compute_fc
from ..parameters import strip_parameters
from ..translate.divergence import find_divergence
from .fc_monitor import monitor_label

# A signal is constant if it varies by at most this many units in the last place: the variation is rounding error.
_ULPS = 16


def explain_no_fc(sim, simulate, state, monitor, skip_t, index=None) -> str:
    """Explain why the run from a state has no FC.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Gives the names of variables and regions.
    simulate : Simulate
    state : State
        Of plain arrays.
    monitor : int
        Index of the monitor in ``simulate``.
    skip_t : int
    index : int, optional
        Index of the same monitor in the simulator, if it differs.

    Returns
    -------
    str
        Sentences; empty if the run has an FC.
    """
    result = simulate(state)
    signal = np.asarray(result.data[monitor])[:, 0, :, 0]
    recorder, index = simulate.monitors[monitor], monitor if index is None else index
    return explain_signal(
        sim, recorder, index, (result.time[monitor], signal), skip_t, lambda: find_divergence(sim, simulate, state)
    )


def fc_or_explanation(sim, simulate, state, monitor, skip_t):
    """FC of the run from a state.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator or None
        Gives the names of variables and regions.
    simulate, state, monitor, skip_t
        As in `explain_no_fc`.

    Returns
    -------
    Array, shape (n_node, n_node)

    Raises
    ------
    ValueError
        If the run has no FC; with the explanation if ``sim`` is given.
    """
    try:
        return compute_fc(simulate(state).data[monitor], skip_t)
    except ValueError as error:
        if sim is None:
            raise
        explanation = explain_no_fc(sim, simulate, state, monitor, skip_t)
        raise ValueError(f"{error} {explanation}".rstrip()) from error


def explain_signal(sim, recorder, index, samples, skip_t, find) -> str:
    """Explain why samples have no FC.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
    recorder : Monitor
    index : int
        Index of the monitor in the simulator.
    samples : (ndarray, ndarray)
        Times [ms], and signals of shape (n_time, n_node).
    skip_t : int
    find : callable
        Takes no arguments; returns the `Divergence` of the run, or None.

    Returns
    -------
    str
        Sentences, see `explain_no_fc`.
    """
    (time, signal), labels, name = samples, _region_labels(sim), monitor_label(recorder, index)
    if np.isfinite(signal[skip_t:]).all():
        return _explain_constant(name, signal, skip_t, labels)
    cause = _explain_divergence(find(), recorder.dt, recorder.is_bold)
    return f"{name}: {_first_bad_sample(signal, time, labels)}. {cause}"


def explain_not_finite(sim, simulate, state, monitor, skip_t, loss, target, penalty) -> str:
    """Explain why the loss of a fit, or its gradient, is not finite at a state.

    Parameters
    ----------
    sim, simulate, state, monitor, skip_t
        As in `explain_no_fc`.
    loss : callable
        Maps (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    penalty : callable
        Maps a state of plain arrays to a scalar.

    Returns
    -------
    str
        Sentences.
    """
    explanation = explain_no_fc(sim, simulate, state, monitor, skip_t)
    if explanation:
        return explanation
    fc = compute_fc(simulate(state).data[monitor], skip_t)
    values = {"loss": loss(fc, jnp.asarray(target)), "penalty": penalty(state)}
    bad = [f"{name} gives {float(value)}" for name, value in values.items() if not np.isfinite(value)]
    if bad:
        return f"The run and its FC are finite, and the {' and the '.join(bad)}: return finite numbers."
    return (
        "The run, its FC and the loss are finite: a derivative is infinite there, or derivatives grow beyond all "
        f"numbers over the {simulate.n_steps} steps. Try other start values, or a shorter simulation_length."
    )


def refuse_constant_signal(sim, simulate, state, monitor, skip_t):
    """Raise FitFailed, before a gradient is compiled, if the recorded signal of a region is constant.

    A signal is constant if noise does not reach what is recorded. No run is made if noise reaches every variable of
    every region.

    Parameters
    ----------
    sim, simulate, state, monitor, skip_t
        As in `explain_no_fc`.

    Raises
    ------
    FitFailed
    """
    state = strip_parameters(state)
    if "noise" in state.integrator and np.all(np.asarray(state.integrator.noise.nsig) > 0.0):
        return
    signal = np.asarray(simulate(state).data[monitor])[:, 0, :, 0]
    # A signal that is not finite is left to the first loss, which sees the noise of the fit and explains more.
    if np.isfinite(signal[skip_t:]).all():
        label = monitor_label(simulate.monitors[monitor], monitor)
        explanation = _explain_constant(label, signal, skip_t, _region_labels(sim))
        if explanation:
            raise FitFailed(f"fit: {explanation}")


def _explain_divergence(divergence, dt, is_bold):
    """Sentences on the states of a run whose signal is not finite; ``divergence`` is None if all states are finite."""
    if divergence is None:
        hemodynamics = " or the hemodynamics (hrf_kernel; of a BalloonBold, activity below -1 / tau_f)"
        where = "the variables of interest" + (hemodynamics if is_bold else "")
        return (
            f"All state variables stay finite; the values that are not finite come from {where}. Check their "
            "expressions and parameters."
        )
    text = str(divergence)
    return (
        f"{text[0].upper()}{text[1:]}. Try a smaller integrator.dt than {dt:g} ms, a weaker coupling, less noise, or "
        "bounds that keep fitted values where runs stay finite (BoundedParameter)."
    )


def _region_labels(sim):
    return [label.decode() if isinstance(label, bytes) else str(label) for label in sim.connectivity.region_labels]


def _describe_regions(mask, labels):
    """First region of a mask by name, and the number of the others."""
    index = np.flatnonzero(mask)
    return f"region {labels[index[0]]!r}" + (f" (and {len(index) - 1} others)" if len(index) > 1 else "")


def _first_bad_sample(signal, time, labels):
    bad = ~np.isfinite(signal)
    first = int(np.argmax(bad.any(axis=1)))
    regions = _describe_regions(bad[first], labels)
    return f"sample {first + 1} of {len(signal)}, at {time[first]:g} ms, is not finite at {regions}"


def _explain_constant(name, signal, skip_t, labels):
    """Sentences if the signals of some regions are constant; empty otherwise."""
    used = signal[skip_t:]
    rounding = _ULPS * np.finfo(used.dtype).eps * np.max(np.abs(used), axis=0)
    constant = np.ptp(used, axis=0) <= rounding
    if not constant.any():
        return ""
    value = used[0, np.argmax(constant)]
    return (
        f"{name}: the signal of {_describe_regions(constant, labels)} is constant ({value:.6g}, to rounding) over the "
        f"{len(used)} samples after skip_t = {skip_t}, so that its correlation is undefined. Give the simulator noise "
        "that reaches what is recorded (integrator.noise.nsig), record another variable (variables_of_interest), or "
        "start elsewhere (initial_conditions)."
    )
