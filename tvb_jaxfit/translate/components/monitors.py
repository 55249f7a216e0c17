"""Monitors: what each records, when, and the buffers that TVB keeps for it."""

import warnings

import jax.numpy as jnp
import numpy as np
from tvb.analyzers.fmri_balloon import BoldModels
from tvb.datatypes import equations
from tvb.simulator import monitors as tvb_monitors
from tvb.simulator import noise as tvb_noise

from ...dynamics import balloon as jax_balloon
from ...dynamics import monitors as jax_monitors
from ...dynamics.balloon_parameters import PARAMETERS as BALLOON_PARAMETERS
from ...dynamics.bold import Bold
from ...dynamics.buffers import monitor_problems
from ...errors import PeriodWarning, caller_stacklevel
from ...state import State
from ..balloon_bold import BalloonBold
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base, unsupported_reason
from . import balloon, contract, hrf_kernel, noise
from .hrf_kernel import INTERIM_PERIOD

NAME, POSITION = "monitors", rf"monitors\[\d+\]\.(stock|interim_stock|hemodynamics|obs{noise.POSITION})"
handles = contract.handles_all
rederive = contract.nothing_to_rederive

_KINDS = {
    tvb_monitors.Raw: jax_monitors.Raw,
    tvb_monitors.RawVoi: jax_monitors.Raw,
    tvb_monitors.SubSample: jax_monitors.SubSample,
    tvb_monitors.SpatialAverage: jax_monitors.SpatialAverage,
    tvb_monitors.GlobalAverage: jax_monitors.SpatialAverage,
    tvb_monitors.TemporalAverage: jax_monitors.TemporalAverage,
    tvb_monitors.AfferentCoupling: jax_monitors.Raw,
    tvb_monitors.AfferentCouplingTemporalAverage: jax_monitors.TemporalAverage,
    tvb_monitors.EEG: jax_monitors.Projection,
    tvb_monitors.MEG: jax_monitors.Projection,
    tvb_monitors.iEEG: jax_monitors.Projection,
    tvb_monitors.Bold: Bold,
    BalloonBold: jax_balloon.BalloonBold,
    tvb_monitors.ProgressLogger: jax_monitors.NoOutput,
}
_EVERY_STEP = (tvb_monitors.Raw, tvb_monitors.RawVoi, tvb_monitors.AfferentCoupling)
_OBSNOISES = (tvb_noise.Additive, tvb_noise.Multiplicative)

SUPPORTED = ", ".join(cls.__name__ for cls in _KINDS)


def refusals(sim):
    """Reasons against translation that show before configure()."""
    monitors = _listed(sim)
    if not monitors:
        yield "Simulator.monitors: none; give at least one."
    for index, monitor in enumerate(monitors):
        path = f"Simulator.monitors[{index}]"
        if isinstance(monitor, tvb_monitors.BoldRegionROI):
            yield f"{path}: BoldRegionROI averages over a surface; without one TVB fails. Use Bold."
            continue
        if supported_base(monitor, _KINDS) is None:
            reason = unsupported_reason(monitor, _KINDS)
            yield f"{path}: {reason} (supported: {SUPPORTED}). Remove it before prepare()."
            continue
        first = next(i for i, other in enumerate(monitors) if other is monitor)
        if first != index:
            yield f"{path}: the same object as monitors[{first}]; they would share one stock. Make two instances."
        yield from _period_refusals(sim, monitor, path)
        yield from _variable_refusals(sim, monitor, path)
        if _is(monitor, tvb_monitors.Bold):
            yield from _bold_refusals(sim, monitor, path)
        if _is(monitor, BalloonBold):
            yield from balloon.refusals(sim, monitor, path)
        if isinstance(monitor, tvb_monitors.Projection):
            yield from _obsnoise_refusals(monitor, path, monitors[:index])


def _listed(sim):
    """Monitors as a list, also before configure(), when TVB takes a single one."""
    return sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]


def _is(monitor, *kinds):
    """True if a monitor is of one of these classes of TVB's, or of a subclass that overrides nothing."""
    return supported_base(monitor, _KINDS) in kinds


def _period_in_steps(monitor, dt):
    """Sampling period in steps, as TVB rounds it for this kind of monitor."""
    if _is(monitor, *_EVERY_STEP):
        return 1
    if isinstance(monitor, (tvb_monitors.Projection, tvb_monitors.ProgressLogger)):
        return int(monitor.period / dt)
    return int(round(monitor.period / dt))


def periods_in_steps(sim):
    """Sampling period of each monitor of a configured simulator [steps]."""
    return tuple(_period_in_steps(monitor, float(sim.integrator.dt)) for monitor in sim.monitors)


def _period_refusals(sim, monitor, path):
    dt = sim.integrator.dt
    if _is(monitor, *_EVERY_STEP):
        return
    if not np.isfinite(monitor.period) or not dt > 0.0 or _period_in_steps(monitor, dt) < 1:
        yield f"{path}.period: {monitor.period} ms rounds to no step of dt = {dt} ms. Give at least one step."


def _variable_refusals(sim, monitor, path):
    voi = monitor.variables_of_interest
    if _is(monitor, tvb_monitors.Raw, tvb_monitors.ProgressLogger) or voi is None:
        return
    observes_coupling = isinstance(monitor, tvb_monitors.AfferentCoupling)
    n_row = len(sim.model.cvar) if observes_coupling else len(sim.model.variables_of_interest)
    variables = "coupling variables" if observes_coupling else "variables_of_interest"
    outside = [int(i) for i in np.ravel(voi) if not -n_row <= i < n_row]
    if outside:
        yield (
            f"{path}.variables_of_interest: {outside} are no rows of the model's {n_row} {variables}. "
            f"Give indices from 0 to {n_row - 1}."
        )


def _bold_refusals(sim, monitor, path):
    dt = sim.integrator.dt
    if int(round(INTERIM_PERIOD / dt)) < 1:
        yield (
            f"{path}: Bold averages over {INTERIM_PERIOD:g} ms, which rounds to no step of dt = {dt} ms; TVB fails. "
            "Use dt below 8 ms."
        )
    yield from hrf_kernel.refusals(monitor, path)


def _obsnoise_refusals(monitor, path, earlier):
    obsnoise = monitor.obsnoise
    if obsnoise is None:
        return
    if supported_base(obsnoise, _OBSNOISES) is None:
        yield f"{path}.obsnoise: {unsupported_reason(obsnoise, _OBSNOISES)}. Use Additive, or None."
        return
    if not (np.isfinite(obsnoise.ntau) and obsnoise.ntau >= 0.0):
        yield f"{path}.obsnoise.ntau: {obsnoise.ntau} ms; give 0 (white noise) or a positive correlation time."
    for index, other in enumerate(earlier):
        theirs = getattr(other, "obsnoise", None)
        if theirs is not None and theirs.random_stream is obsnoise.random_stream:
            yield f"{path}.obsnoise: shares its random stream with monitors[{index}]. Give each its own."


def are_configured(sim):
    """True if TVB takes a monitor as it was configured before, for whatever simulator."""
    return any(getattr(monitor, "_gain_configuration_done", False) for monitor in _listed(sim))


def refusals_configured(sim):
    """Reasons against translation that show in a configured copy only."""
    n_node = sim.connectivity.number_of_regions
    for index, monitor in enumerate(sim.monitors):
        if isinstance(monitor, tvb_monitors.Projection) and monitor.gain.shape[1] != n_node:
            yield f"Simulator.monitors[{index}].gain: {monitor.gain.shape[1]} columns for {n_node} regions."


def warn(sim, reference):
    """Warn of periods that TVB rounds, and of parameters of a response that are constants of the translation."""
    dt = reference.integrator.dt
    for index, monitor in enumerate(reference.monitors):
        for name, asked, rounded in _periods(monitor, dt):
            if not np.isclose(asked, rounded, rtol=1e-9, atol=0.0):
                warnings.warn(
                    f"Simulator.monitors[{index}] ({type(monitor).__name__}): dt = {dt:g} ms does not divide the "
                    f"{name} of {asked:g} ms; TVB rounds it to {rounded:g} ms, and so does the translation.",
                    PeriodWarning,
                    stacklevel=caller_stacklevel(),
                )
    for index, monitor in enumerate(reference.monitors):
        if getattr(monitor, "hrf_kernel", None) is not None:
            hrf_kernel.warn(monitor.hrf_kernel, f"Simulator.monitors[{index}].hrf_kernel")


def _periods(monitor, dt):
    """(name, period as it was given, period in whole steps) of a monitor that averages or samples [ms]."""
    if _is(monitor, *_EVERY_STEP) or _is(monitor, tvb_monitors.ProgressLogger):
        return
    yield "period", monitor.period, _period_in_steps(monitor, dt) * dt
    if _is(monitor, tvb_monitors.Bold):
        yield "interim average", INTERIM_PERIOD, monitor._interim_istep * dt
    if _is(monitor, BalloonBold):
        yield "interim_period", monitor.interim_period, monitor._interim_istep * dt


def translate(sim):
    """Translate the monitors of a configured simulator."""
    return contract.TranslatedMonitors(monitors=_translated(sim))


def _translated(sim):
    return tuple(_translate(sim, monitor) for monitor in sim.monitors)


def _translate(sim, monitor):
    kind = _KINDS[supported_base(monitor, _KINDS)]
    dt = float(sim.integrator.dt)
    if kind is jax_monitors.NoOutput:
        return kind((), _period_in_steps(monitor, dt), dt, name=type(monitor).__name__)
    common = {
        "voi": tuple(int(i) for i in np.ravel(monitor.voi)),
        "istep": _period_in_steps(monitor, dt),
        "dt": dt,
        "observes_coupling": isinstance(monitor, tvb_monitors.AfferentCoupling),
        "name": type(monitor).__name__,
    }
    if _is(monitor, tvb_monitors.SpatialAverage):
        return kind(**common, mean=np.array(monitor.spatial_mean, dtype=float))
    if _is(monitor, tvb_monitors.GlobalAverage):
        n_node = sim.connectivity.number_of_regions
        return kind(**common, mean=np.full((1, n_node), 1.0 / n_node))
    if kind is jax_monitors.Projection:
        return kind(
            **common,
            gain=np.array(monitor.gain, dtype=float),
            reference=_reference(monitor),
            coloured=noise.is_coloured(monitor.obsnoise) if _has_noise(monitor) else None,
        )
    if kind is jax_balloon.BalloonBold:
        nonlinear = monitor.bold_model is BoldModels.NONLINEAR
        return kind(**common, interim_istep=int(monitor._interim_istep), nonlinear=nonlinear)
    if kind is not Bold:
        return kind(**common)
    time = np.asarray(monitor._stock_time, dtype=float)
    return kind(
        **common,
        interim_istep=int(monitor._interim_istep),
        kernel_time=time,
        kernel=hrf_kernel.translate(monitor.hrf_kernel, time),
        volterra=isinstance(monitor.hrf_kernel, equations.FirstOrderVolterra),
    )


def _has_noise(monitor):
    return isinstance(monitor, tvb_monitors.Projection) and monitor.obsnoise is not None


def _reference(monitor):
    """Weight of each sensor in an EEG's reference; None without one."""
    if not isinstance(monitor, tvb_monitors.EEG) or not monitor._ref_vec.any():
        return None
    weights = np.zeros(monitor.gain.shape[0])
    weights[monitor._ref_vec_mask] = monitor._ref_vec
    return weights


def parameters(sim):
    """Parameters of the monitors: hemodynamic responses, and correlation times of observation noise."""
    table = []
    for index, monitor in enumerate(sim.monitors):
        if _is(monitor, tvb_monitors.Bold):
            table += hrf_kernel.parameters(monitor, index)
        if _is(monitor, BalloonBold):
            table += balloon.parameters(sim, index)
        if _has_noise(monitor) and noise.is_coloured(monitor.obsnoise):
            path = f"monitors[{index}].obsnoise.ntau"
            table.append(MappedParameter(path, _obsnoise_of(index), "ntau", is_scalar=True, positive=True))
    return table


def _obsnoise_of(index):
    return lambda sim: sim.monitors[index].obsnoise


def node(sim, span):
    """Monitors' part of the state, one node each: buffers, parameters of the response, observation noise."""
    return [_node(sim, index, span) for index in range(len(sim.monitors))]


def _node(sim, index, span):
    monitor = sim.monitors[index]
    children = _buffers(monitor, span.start)
    if _is(monitor, tvb_monitors.Bold):
        children["hrf_kernel"] = State(**dict.fromkeys(hrf_kernel.parameter_names(monitor.hrf_kernel)))
    if _is(monitor, BalloonBold):
        children |= dict.fromkeys(BALLOON_PARAMETERS)
    if _has_noise(monitor):
        period = _period_in_steps(monitor, float(sim.integrator.dt))
        n_samples = jax_monitors.multiples(span.start, span.n_steps, period).size
        shape = (n_samples, monitor.gain.shape[0], len(np.ravel(monitor.voi)))
        children["obsnoise"] = noise.draws_node(monitor.obsnoise, span.stream(index), span, shape)
    return State(**children)


def _buffers(monitor, current_step):
    """Buffers of a monitor, in order of time."""
    dtype = jnp.result_type(float)
    if isinstance(monitor, tvb_monitors.Projection):
        return {"stock": jnp.asarray(monitor._state, dtype)}
    if isinstance(monitor, tvb_monitors.TemporalAverage):
        return {"stock": jnp.asarray(monitor._stock[: current_step % monitor.istep], dtype)}
    if _is(monitor, tvb_monitors.Bold):
        return {
            "stock": jnp.asarray(monitor._stock[_order_of_stock(monitor, current_step)], dtype),
            "interim_stock": jnp.asarray(monitor._interim_stock[: current_step % monitor._interim_istep], dtype),
        }
    if _is(monitor, BalloonBold):
        return {
            "hemodynamics": jnp.asarray(monitor._state, dtype),
            "interim_stock": jnp.asarray(monitor._interim_stock[: current_step % monitor._interim_istep], dtype),
        }
    return {}


def _order_of_stock(monitor, current_step):
    """Indices of a Bold monitor's ring buffer in order of time."""
    newest, n_lag = current_step // monitor._interim_istep, monitor._stock.shape[0]
    return (newest - 1 + np.arange(1, n_lag + 1)) % n_lag


def position_problems(sim, state):
    """Reasons why the buffers of a state cannot be put into a configured simulator."""
    return monitor_problems(_translated(sim), None, state)


def restore(sim, state):
    """Put buffers and observation noise of a state into a configured simulator."""
    for monitor, node in zip(sim.monitors, state.monitors, strict=True):
        _restore_one(monitor, node, int(state.current_step))


def _restore_one(monitor, node, current_step):
    if isinstance(monitor, tvb_monitors.Projection):
        monitor._state[:] = np.asarray(node.stock, dtype=float)
        if _has_noise(monitor):
            noise.restore(monitor.obsnoise, node.obsnoise, current_step)
    if isinstance(monitor, tvb_monitors.TemporalAverage):
        pending = np.asarray(node.stock, dtype=float)
        monitor._stock[: pending.shape[0]] = pending
    if _is(monitor, tvb_monitors.Bold):
        monitor._stock[_order_of_stock(monitor, current_step)] = np.asarray(node.stock, dtype=float)
    if _is(monitor, BalloonBold):
        monitor._state = np.array(node.hemodynamics, dtype=float)
    if _is(monitor, tvb_monitors.Bold, BalloonBold):
        pending = np.asarray(node.interim_stock, dtype=float)
        monitor._interim_stock[: pending.shape[0]] = pending


def unconfigure(sim):
    """Bring the projections of a copy into a form from which configure() derives gains anew.

    A gain without a projection was set by hand: it is derived from nothing, and stays.
    """
    for monitor in sim.monitors:
        if isinstance(monitor, tvb_monitors.Projection):
            vars(monitor).pop("_gain_configuration_done", None)
            if vars(monitor).get("projection") is not None:
                for name in ("_gain", "_rmap"):
                    vars(monitor).pop(name, None)
