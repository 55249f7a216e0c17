"""Monitors: what each records, when, and from which stock."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from tvb.datatypes import equations
from tvb.simulator import monitors as tvb_monitors
from tvb.simulator import noise as tvb_noise

from ...dynamics import hrf
from ...dynamics import monitors as jax_monitors
from ...dynamics.bold import Bold
from ...errors import PeriodWarning
from ...state import State
from ..clone import clone
from ..double_precision import in_double
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base, unsupported_reason
from ..tracing.method import Untranslatable
from . import equation, noise

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
    tvb_monitors.ProgressLogger: jax_monitors.NoOutput,
}
_EVERY_STEP = (tvb_monitors.Raw, tvb_monitors.RawVoi, tvb_monitors.AfferentCoupling)
# Kernels with the parameters that enter them; what TVB works out from these in `parameters` is no parameter.
_KERNELS = {
    equations.FirstOrderVolterra: (hrf.first_order_volterra, ("tau_s", "tau_f", "k_1", "V_0")),
    equations.Gamma: (hrf.gamma, ("tau", "n", "a")),
    equations.DoubleExponential: (
        hrf.double_exponential,
        ("tau_1", "f_1", "amp_1", "tau_2", "f_2", "amp_2", "a", "pi"),
    ),
    equations.MixtureOfGammas: (hrf.mixture_of_gammas, ("a_1", "a_2", "l", "c")),
}
_WORKED_OUT = {equations.Gamma: {"factorial"}, equations.MixtureOfGammas: {"gamma_a_1", "gamma_a_2"}}
_OBSNOISES = (tvb_noise.Additive, tvb_noise.Multiplicative)
_INTERIM_PERIOD = 4.0  # [ms], TVB's Bold._stock_sample_rate

SUPPORTED = ", ".join(cls.__name__ for cls in _KINDS)


def refusals(sim):
    """Reasons why the monitors of a simulator, configured or not, are not translated."""
    monitors = sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]
    if not monitors:
        yield "Simulator.monitors: none; give at least one."
    for index, monitor in enumerate(monitors):
        path = f"Simulator.monitors[{index}]"
        if isinstance(monitor, tvb_monitors.BoldRegionROI):
            yield f"{path}: BoldRegionROI averages over a surface; without one TVB fails. Use Bold."
            continue
        if supported_base(monitor, _KINDS) is None:
            yield f"{path}: {unsupported_reason(monitor, _KINDS)} (supported: {SUPPORTED}). Remove it before prepare()."
            continue
        first = next(i for i, other in enumerate(monitors) if other is monitor)
        if first != index:
            yield f"{path}: the same object as monitors[{first}]; they would share one stock. Make two instances."
        yield from _period_refusals(sim, monitor, path)
        yield from _voi_refusals(sim, monitor, path)
        if _is(monitor, tvb_monitors.Bold):
            yield from _bold_refusals(sim, monitor, path)
        if isinstance(monitor, tvb_monitors.Projection):
            yield from _projection_refusals(monitor, path, monitors[:index])


def _is(monitor, *kinds):
    """Whether a monitor is one of these of TVB's own, or a subclass that changes nothing."""
    return supported_base(monitor, _KINDS) in kinds


def _period_in_steps(monitor, dt):
    """Steps a period, as TVB rounds it for this kind of monitor."""
    if _is(monitor, *_EVERY_STEP):
        return 1
    if isinstance(monitor, (tvb_monitors.Projection, tvb_monitors.ProgressLogger)):
        return int(monitor.period / dt)
    return int(round(monitor.period / dt))


def _period_refusals(sim, monitor, path):
    dt = sim.integrator.dt
    if _is(monitor, *_EVERY_STEP):
        return
    if not np.isfinite(monitor.period) or not dt > 0.0 or _period_in_steps(monitor, dt) < 1:
        yield f"{path}.period: {monitor.period} ms rounds to no step of dt = {dt} ms. Give at least one step."


def _voi_refusals(sim, monitor, path):
    voi = monitor.variables_of_interest
    if _is(monitor, tvb_monitors.Raw, tvb_monitors.ProgressLogger) or voi is None:
        return
    of_coupling = isinstance(monitor, tvb_monitors.AfferentCoupling)
    n_row = len(sim.model.cvar) if of_coupling else len(sim.model.variables_of_interest)
    what = "coupling variables" if of_coupling else "variables_of_interest"
    outside = [int(i) for i in np.ravel(voi) if not -n_row <= i < n_row]
    if outside:
        yield (
            f"{path}.variables_of_interest: {outside} are no rows of the model's {n_row} {what}. "
            f"Give indices from 0 to {n_row - 1}."
        )


def _projection_refusals(monitor, path, earlier):
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


def _bold_refusals(sim, monitor, path):
    dt, kernel = sim.integrator.dt, monitor.hrf_kernel
    if int(round(_INTERIM_PERIOD / dt)) < 1:
        yield (
            f"{path}: Bold averages over {_INTERIM_PERIOD:g} ms, which rounds to no step of dt = {dt} ms; TVB fails. "
            "Use dt below 8 ms."
        )
    known = set(_kernel_names(kernel))
    found = set(kernel.parameters) - _WORKED_OUT.get(_by_hand(kernel), set())
    if _by_hand(kernel) is not None and found != known:
        yield (
            f"{path}.hrf_kernel.parameters: found {sorted(found)}, where {type(kernel).__name__} takes {sorted(known)}."
        )
        return
    time, n_lag = _kernel_time(monitor.hrf_length)
    if not np.isfinite(monitor.hrf_length) or n_lag < 1 or time.size != n_lag:
        yield (
            f"{path}.hrf_length: {monitor.hrf_length} ms makes TVB sample a kernel of {time.size} values for a stock "
            f"of {n_lag}, and fail. Take a multiple of {_INTERIM_PERIOD:g} ms near it."
        )
        return
    try:
        sampled = _sampled(kernel, time)
    except Exception as error:
        # Whatever a user's own equation raises, where TVB evaluates it.
        reason = error if isinstance(error, Untranslatable) else f"{type(error).__name__}: {error}"
        yield f"{path}.hrf_kernel: {type(kernel).__name__} is not translated: {reason}."
        return
    if not np.all(np.isfinite(sampled)):
        yield f"{path}.hrf_kernel.parameters: the kernel is not finite with {_values(kernel)}. Give others."


def _kernel_time(hrf_length):
    """Sample times of the kernel [s], and the length of the stock, as TVB works them out."""
    n_lag = int(np.ceil(hrf_length / _INTERIM_PERIOD)) if np.isfinite(hrf_length) else 0
    longest = hrf_length / 1000.0
    return np.arange(0.0, longest, longest / n_lag) if n_lag > 0 else np.zeros(0), n_lag


def _by_hand(kernel):
    """The class of TVB's own whose formula a kernel has; None for a user's."""
    own = supported_base(kernel, _KERNELS)
    return own if own is not None and kernel.equation == own.equation.default else None


def _kernel_names(kernel):
    """Parameters that enter a kernel and that the state shows."""
    cls = _by_hand(kernel)
    if cls is not None:
        return _KERNELS[cls][1]
    return () if _obstacle(kernel) else equation.parameter_names(kernel)


def _obstacle(kernel):
    """Why a user's kernel is not followed, so that its samples are constants; None where it is, or is refused."""
    if _by_hand(kernel) is not None or isinstance(kernel, equations.FirstOrderVolterra):
        return None
    error = equation.tracing_error(kernel, np.linspace(0.0, 1.0, 5))
    # A branch on a parameter is for the user to write otherwise.
    return None if isinstance(getattr(error, "__cause__", None), jax.errors.ConcretizationTypeError) else error


def _kernel(kernel, time):
    """(time, **parameters) to the kernel: by hand for TVB's own, its ``evaluate`` followed for others.

    Of one that cannot be followed, TVB's samples at ``time``.
    """
    if _by_hand(kernel) is not None:
        return _KERNELS[_by_hand(kernel)][0]
    if _obstacle(kernel):
        # On a copy: an equation may write to its own parameters.
        sampled = np.array(clone(kernel).evaluate(time), dtype=float)
        return lambda *_, **__: sampled
    evaluate = equation.translate(kernel)
    return lambda time, **parameters: evaluate(equation.in_tvb_shapes(kernel, parameters), time)


def _values(kernel):
    return {name: float(np.reshape(kernel.parameters[name], ())) for name in _kernel_names(kernel)}


def _sampled(kernel, time):
    """The translated kernel at some times [s]."""
    sampled = _kernel(kernel, time)
    return in_double(lambda parameters: jnp.asarray(sampled(time, **parameters)), _values(kernel))


def configured_before(sim):
    """Whether TVB takes a monitor as it was configured before, for whatever simulator."""
    monitors = sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]
    return any(getattr(monitor, "_gain_configuration_done", False) for monitor in monitors)


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    n_node = sim.connectivity.number_of_regions
    for index, monitor in enumerate(sim.monitors):
        if isinstance(monitor, tvb_monitors.Projection) and monitor.gain.shape[1] != n_node:
            yield f"Simulator.monitors[{index}].gain: {monitor.gain.shape[1]} columns for {n_node} regions."


def leaves(sim):
    """Table of the monitors' parameters: hemodynamic responses, correlation times of observation noise."""
    table = []
    for index, monitor in enumerate(sim.monitors):
        path = f"monitors[{index}]"
        if _is(monitor, tvb_monitors.Bold):
            table += [
                MappedParameter(
                    f"{path}.hrf_kernel.{n}", lambda sim, i=index: sim.monitors[i].hrf_kernel, n, in_equation_dict=True
                )
                for n in _kernel_names(monitor.hrf_kernel)
            ]
        if _has_coloured_noise(monitor):
            kind = {"is_scalar": True, "positive": True}
            table.append(
                MappedParameter(f"{path}.obsnoise.ntau", lambda sim, i=index: sim.monitors[i].obsnoise, "ntau", **kind)
            )
    return table


def _has_noise(monitor):
    return isinstance(monitor, tvb_monitors.Projection) and monitor.obsnoise is not None


def _has_coloured_noise(monitor):
    return _has_noise(monitor) and monitor.obsnoise.ntau > 0.0


def translate(sim):
    """Monitors of a configured simulator as pure functions."""
    return tuple(_translate(sim, monitor) for monitor in sim.monitors)


def _translate(sim, monitor):
    kind = _KINDS[supported_base(monitor, _KINDS)]
    dt = float(sim.integrator.dt)
    if kind is jax_monitors.NoOutput:
        return kind((), _period_in_steps(monitor, dt), dt, name=type(monitor).__name__)
    voi = tuple(int(i) for i in np.ravel(monitor.voi))
    facts = {"voi": voi, "istep": _period_in_steps(monitor, dt), "dt": dt}
    facts |= {"observes_coupling": isinstance(monitor, tvb_monitors.AfferentCoupling), "name": type(monitor).__name__}
    if _is(monitor, tvb_monitors.SpatialAverage):
        return kind(**facts, mean=np.array(monitor.spatial_mean, dtype=float))
    if _is(monitor, tvb_monitors.GlobalAverage):
        n_node = sim.connectivity.number_of_regions
        return kind(**facts, mean=np.full((1, n_node), 1.0 / n_node))
    if kind is jax_monitors.Projection:
        return kind(
            **facts,
            gain=np.array(monitor.gain, dtype=float),
            reference=_reference(monitor),
            coloured=_has_coloured_noise(monitor) if _has_noise(monitor) else None,
        )
    if kind is not Bold:
        return kind(**facts)
    return kind(
        **facts,
        interim_istep=int(monitor._interim_istep),
        kernel_time=np.asarray(monitor._stock_time, dtype=float),
        kernel=_kernel(monitor.hrf_kernel, np.asarray(monitor._stock_time, dtype=float)),
        volterra=isinstance(monitor.hrf_kernel, equations.FirstOrderVolterra),
    )


def _reference(monitor):
    """Weight of each sensor in an EEG's reference; None without one."""
    if not isinstance(monitor, tvb_monitors.EEG) or not monitor._ref_vec.any():
        return None
    weights = np.zeros(monitor.gain.shape[0])
    weights[monitor._ref_vec_mask] = monitor._ref_vec
    return weights


def warn_of_rounding(sim):
    """Warn where dt does not divide a monitor's period; TVB's rounded period is reproduced."""
    dt = sim.integrator.dt
    for index, monitor in enumerate(sim.monitors):
        if _is(monitor, *_EVERY_STEP) or _is(monitor, tvb_monitors.ProgressLogger):
            continue
        periods = {"period": (monitor.period, _period_in_steps(monitor, dt) * dt)}
        if _is(monitor, tvb_monitors.Bold):
            periods["interim average"] = (_INTERIM_PERIOD, monitor._interim_istep * dt)
        for what, (asked, has) in periods.items():
            if not np.isclose(asked, has, rtol=1e-9, atol=0.0):
                warnings.warn(
                    f"Simulator.monitors[{index}] ({type(monitor).__name__}): dt = {dt:g} ms does not divide the "
                    f"{what} of {asked:g} ms; TVB rounds it to {has:g} ms, and so does the translation.",
                    PeriodWarning,
                    stacklevel=3,
                )


def warn_of_constants(sim):
    """Warn where parameters of a hemodynamic response are constants of the translation."""
    for index, monitor in enumerate(sim.monitors):
        kernel = getattr(monitor, "hrf_kernel", None)
        if kernel is None or _by_hand(kernel) is not None:
            continue
        path, error = f"Simulator.monitors[{index}].hrf_kernel", _obstacle(kernel)
        if error:
            equation.warn_untraceable(path, kernel, error)
            continue
        for name in equation.hidden_parameters(kernel):
            equation.warn_hidden(path, name)


def stocks(sim, index, current_step):
    """Leaves of a monitor's stock, in order of time, as TVB holds them."""
    monitor, dtype = sim.monitors[index], jnp.result_type(float)
    if isinstance(monitor, tvb_monitors.Projection):
        return {"stock": jnp.asarray(monitor._state, dtype)}
    if isinstance(monitor, tvb_monitors.TemporalAverage):
        return {"stock": jnp.asarray(monitor._stock[: current_step % monitor.istep], dtype)}
    if _is(monitor, tvb_monitors.Bold):
        newest = current_step // monitor._interim_istep
        n_lag = monitor._stock.shape[0]
        order = (newest - 1 + np.arange(1, n_lag + 1)) % n_lag
        return {
            "stock": jnp.asarray(monitor._stock[order], dtype),
            "interim_stock": jnp.asarray(monitor._interim_stock[: current_step % monitor._interim_istep], dtype),
        }
    return {}


def put_stocks(sim, index, node, current_step):
    """Put the stock of a state into a configured TVB monitor: `stocks` backwards."""
    monitor = sim.monitors[index]
    if isinstance(monitor, tvb_monitors.Projection):
        monitor._state[:] = np.asarray(node.stock, dtype=float)
        if _has_noise(monitor):
            noise.put_stream(monitor.obsnoise, node.obsnoise, current_step)
    if isinstance(monitor, tvb_monitors.TemporalAverage):
        pending = np.asarray(node.stock, dtype=float)
        monitor._stock[: pending.shape[0]] = pending
    if _is(monitor, tvb_monitors.Bold):
        newest = current_step // monitor._interim_istep
        n_lag = monitor._stock.shape[0]
        order = (newest - 1 + np.arange(1, n_lag + 1)) % n_lag
        monitor._stock[order] = np.asarray(node.stock, dtype=float)
        pending = np.asarray(node.interim_stock, dtype=float)
        monitor._interim_stock[: pending.shape[0]] = pending


def nodes(sim, current_step, n_steps, translated, key):
    """Monitors' part of the state: parameters of the response, stocks, and observation noise.

    Parameters
    ----------
    sim : Simulator
    current_step, n_steps : int
    translated : tuple of Monitor
    key : callable
        Index of a monitor to the stream of its noise; None for TVB's own.
    """
    built = []
    for index, monitor in enumerate(sim.monitors):
        children = dict(stocks(sim, index, current_step))
        if _is(monitor, tvb_monitors.Bold):
            children["hrf_kernel"] = State(**dict.fromkeys(_kernel_names(monitor.hrf_kernel)))
        if _has_noise(monitor):
            n_samples = translated[index].steps(current_step, n_steps).size
            shape = (n_samples, monitor.gain.shape[0], len(np.ravel(monitor.voi)))
            children["obsnoise"] = noise.node(
                monitor.obsnoise, key and key(index), current_step, current_step + n_steps, shape
            )
        built.append(State(**children))
    return built
