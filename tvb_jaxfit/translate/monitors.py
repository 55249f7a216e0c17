"""Monitors: what each records, when, and from which stock."""

import warnings

import jax.numpy as jnp
import numpy as np
from tvb.datatypes import equations
from tvb.simulator import monitors as tvb_monitors

from ..dynamics import hemodynamics
from ..dynamics import monitors as jax_monitors
from ..errors import PeriodWarning
from ..state import State
from .leaves import Leaf, in_double

_KINDS = {
    tvb_monitors.Raw: jax_monitors.Raw,
    tvb_monitors.SubSample: jax_monitors.SubSample,
    tvb_monitors.TemporalAverage: jax_monitors.TemporalAverage,
    tvb_monitors.Bold: jax_monitors.Bold,
}
# Kernels with the parameters that enter them; what TVB works out from these in `parameters` is no parameter.
_KERNELS = {
    equations.FirstOrderVolterra: (hemodynamics.first_order_volterra, ("tau_s", "tau_f", "k_1", "V_0")),
    equations.Gamma: (hemodynamics.gamma, ("tau", "n", "a")),
    equations.DoubleExponential: (
        hemodynamics.double_exponential,
        ("tau_1", "f_1", "amp_1", "tau_2", "f_2", "amp_2", "a", "pi"),
    ),
    equations.MixtureOfGammas: (hemodynamics.mixture_of_gammas, ("a_1", "a_2", "l", "c")),
}
_WORKED_OUT = {equations.Gamma: {"factorial"}, equations.MixtureOfGammas: {"gamma_a_1", "gamma_a_2"}}
_INTERIM_PERIOD = 4.0  # [ms], TVB's Bold._stock_sample_rate
_KERNEL_TOLERANCE = 1e-12

SUPPORTED = ", ".join(cls.__name__ for cls in _KINDS)


def refusals(sim):
    """Reasons why the monitors of a simulator, configured or not, are not translated."""
    monitors = sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]
    if not monitors:
        yield "Simulator.monitors: none; give at least one."
    for index, monitor in enumerate(monitors):
        path = f"Simulator.monitors[{index}]"
        if type(monitor) not in _KINDS:
            yield (
                f"{path}: {type(monitor).__name__} is not supported yet (supported: {SUPPORTED}). "
                "Remove it before prepare()."
            )
            continue
        first = next(i for i, other in enumerate(monitors) if other is monitor)
        if first != index:
            yield f"{path}: the same object as monitors[{first}]; they would share one stock. Make two instances."
        yield from _period_refusals(sim, monitor, path)
        yield from _voi_refusals(sim, monitor, path)
        if type(monitor) is tvb_monitors.Bold:
            yield from _bold_refusals(sim, monitor, path)


def _period_refusals(sim, monitor, path):
    if type(monitor) is tvb_monitors.Raw:
        return
    dt = sim.integrator.dt
    if not np.isfinite(monitor.period) or round(monitor.period / dt) < 1:
        yield f"{path}.period: {monitor.period} ms rounds to no step of dt = {dt} ms. Give at least one step."


def _voi_refusals(sim, monitor, path):
    voi, n_observed = monitor.variables_of_interest, len(sim.model.variables_of_interest)
    if type(monitor) is tvb_monitors.Raw or voi is None:
        return
    outside = [int(i) for i in np.ravel(voi) if not -n_observed <= i < n_observed]
    if outside:
        yield (
            f"{path}.variables_of_interest: {outside} are no rows of the model's {n_observed} variables_of_interest. "
            f"Give indices from 0 to {n_observed - 1}."
        )


def _bold_refusals(sim, monitor, path):
    dt, kernel = sim.integrator.dt, monitor.hrf_kernel
    if int(round(_INTERIM_PERIOD / dt)) < 1:
        yield (
            f"{path}: Bold averages over {_INTERIM_PERIOD:g} ms, which rounds to no step of dt = {dt} ms; TVB fails. "
            "Use dt below 8 ms."
        )
    if type(kernel) not in _KERNELS:
        names = ", ".join(cls.__name__ for cls in _KERNELS)
        yield f"{path}.hrf_kernel: {type(kernel).__name__} is not supported yet (supported: {names})."
        return
    known = set(_KERNELS[type(kernel)][1])
    found = set(kernel.parameters) - _WORKED_OUT.get(type(kernel), set())
    if found != known:
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
    elif not np.all(np.isfinite(_sampled(kernel, time))):
        yield f"{path}.hrf_kernel.parameters: the kernel is not finite with {_values(kernel)}. Give others."


def _kernel_time(hrf_length):
    """Sample times of the kernel [s], and the length of the stock, as TVB works them out."""
    n_lag = int(np.ceil(hrf_length / _INTERIM_PERIOD))
    longest = hrf_length / 1000.0
    return np.arange(0.0, longest, longest / n_lag) if n_lag > 0 else np.zeros(0), n_lag


def _values(kernel):
    """Parameters that enter a kernel."""
    return {name: float(kernel.parameters[name]) for name in _KERNELS[type(kernel)][1]}


def _sampled(kernel, time):
    """The translated kernel at some times [s]."""
    return in_double(_KERNELS[type(kernel)][0], time, **_values(kernel))


def stale(sim):
    """Reasons why a configured simulator is not what configure() left: TVB would run with the old values."""
    for index, monitor in enumerate(sim.monitors):
        path = f"Simulator.monitors[{index}]"
        istep = 1 if type(monitor) is tvb_monitors.Raw else int(round(monitor.period / sim.integrator.dt))
        if monitor.istep != istep or monitor.dt != sim.integrator.dt:
            yield f"{path}.period: changed since configure(), which TVB does not notice. Call sim.configure() again."
        if type(monitor) is tvb_monitors.Bold:
            time, _ = _kernel_time(monitor.hrf_length)
            fresh = _sampled(monitor.hrf_kernel, time)
            held = monitor.hemodynamic_response_function[0, ::-1]
            scale = np.max(np.abs(held))
            if held.shape != fresh.shape or not np.max(np.abs(held - fresh)) <= _KERNEL_TOLERANCE * scale:
                yield (
                    f"{path}.hrf_kernel: the kernel that TVB holds is not the one of its parameters; they changed "
                    "since configure(). Call sim.configure() again."
                )


def leaves(sim):
    """Table of the monitors' parameters: those of the hemodynamic responses."""
    return [
        Leaf(
            f"monitors[{index}].hrf_kernel.{name}",
            lambda sim, index=index: sim.monitors[index].hrf_kernel,
            name,
            parameters=True,
        )
        for index, monitor in enumerate(sim.monitors)
        if type(monitor) is tvb_monitors.Bold
        for name in _KERNELS[type(monitor.hrf_kernel)][1]
    ]


def translate(sim):
    """Monitors of a configured simulator as pure functions."""
    return tuple(_translate(monitor) for monitor in sim.monitors)


def _translate(monitor):
    voi = tuple(int(i) for i in np.ravel(monitor.voi))
    facts = {"voi": voi, "istep": int(monitor.istep), "dt": float(monitor.dt)}
    kind = _KINDS[type(monitor)]
    if kind is not jax_monitors.Bold:
        return kind(**facts)
    return kind(
        **facts,
        interim_istep=int(monitor._interim_istep),
        kernel_time=np.asarray(monitor._stock_time, dtype=float),
        kernel=_KERNELS[type(monitor.hrf_kernel)][0],
        volterra=isinstance(monitor.hrf_kernel, equations.FirstOrderVolterra),
    )


def warn_of_rounding(sim):
    """Warn where dt does not divide a monitor's period; TVB's rounded period is reproduced."""
    dt = sim.integrator.dt
    for index, monitor in enumerate(sim.monitors):
        if type(monitor) is tvb_monitors.Raw:
            continue
        periods = {"period": (monitor.period, monitor.istep * dt)}
        if type(monitor) is tvb_monitors.Bold:
            periods["interim average"] = (_INTERIM_PERIOD, monitor._interim_istep * dt)
        for what, (asked, has) in periods.items():
            if not np.isclose(asked, has, rtol=1e-9, atol=0.0):
                warnings.warn(
                    f"Simulator.monitors[{index}] ({type(monitor).__name__}): dt = {dt:g} ms does not divide the "
                    f"{what} of {asked:g} ms; TVB rounds it to {has:g} ms, and so does the translation.",
                    PeriodWarning,
                    stacklevel=3,
                )


def stocks(sim, index, current_step):
    """Leaves of a monitor's stock, in order of time, as TVB holds them."""
    monitor, dtype = sim.monitors[index], jnp.result_type(float)
    if type(monitor) is tvb_monitors.TemporalAverage:
        return {"stock": jnp.asarray(monitor._stock[: current_step % monitor.istep], dtype)}
    if type(monitor) is tvb_monitors.Bold:
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
    if type(monitor) is tvb_monitors.TemporalAverage:
        pending = np.asarray(node.stock, dtype=float)
        monitor._stock[: pending.shape[0]] = pending
    if type(monitor) is tvb_monitors.Bold:
        newest = current_step // monitor._interim_istep
        n_lag = monitor._stock.shape[0]
        order = (newest - 1 + np.arange(1, n_lag + 1)) % n_lag
        monitor._stock[order] = np.asarray(node.stock, dtype=float)
        pending = np.asarray(node.interim_stock, dtype=float)
        monitor._interim_stock[: pending.shape[0]] = pending


def nodes(sim, current_step):
    """Monitors' part of the state: parameters of the response, and stocks."""
    built = []
    for index, monitor in enumerate(sim.monitors):
        children = dict(stocks(sim, index, current_step))
        if type(monitor) is tvb_monitors.Bold:
            names = _KERNELS[type(monitor.hrf_kernel)][1]
            children["hrf_kernel"] = State(**dict.fromkeys(names))
        built.append(State(**children))
    return built
