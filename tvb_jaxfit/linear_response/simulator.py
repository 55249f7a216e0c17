"""Linear response of a simulator as a function of its state."""

from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.balloon import BalloonBold
from ..dynamics.monitors import NoOutput
from ..dynamics.real_state import real_state
from ..dynamics.simulate import Simulate
from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.programs import Program
from ..runtime.promotion import with_standard_promotion
from ..state import State
from . import sampling, spectral, validity
from .autocovariance import Autocovariance, autocovariance
from .covariance import (
    Way,
    filter_correlation_time,
    gain_correlation_time,
    noise_density,
    stationary_covariances,
    tolerance,
    ways,
)
from .cross_spectra import aliases, cross_spectra
from .fixed_point import fixed_point
from .linearise import block_diagonal, by_node, by_variable, delays_of, jacobian, linearise, solve_dc
from .response import LinearResponse


@dataclass(frozen=True, eq=False)
class LinearizedSimulator(PicklableMixin):
    """Linear response of a simulator as a pure function of its state: ``response = linear(state)``.

    Made by `prepare_linear`.

    Attributes
    ----------
    simulate : Simulate
        Simulation of the same simulator.
    state_range : ndarray, shape (2, n_var)
        Lower and upper ends of the state variables' ranges.
    way : Way or None
        Way to compute covariances. None: chosen for each state; see `__call__`.
    """

    simulate: Simulate
    state_range: np.ndarray = field(repr=False)
    way: Way | None = None

    def __call__(self, state: State, start: jax.Array | None = None) -> LinearResponse:
        """Linear response at a state.

        Parameters
        ----------
        state : State
            State of this simulator. Its noise draws and monitor buffers have no effect.
        start : Array, shape (n_var, n_node, n_mode), optional
            Start of the search for the fixed point; by default the newest sample of ``state.initial_conditions``.

        Returns
        -------
        LinearResponse

        Notes
        -----
        Without delays, covariances come from the eigenmodes of the step; with delays, or if the eigenmodes are too
        ill-conditioned (a relative error of a variance above 1e-8, in single precision 2e-2), from an integral of
        spectra over frequencies. Inside a function that JAX transforms this choice is not possible: covariances from
        ill-conditioned eigenmodes are NaN there, and ``replace(linear, way=Way.FREQUENCIES)`` takes the integral. A
        `BalloonBold` monitor, whose response depends on the region's activity, needs the integral in any case.
        """
        refuse_forked("linear")
        state = real_state(state)
        start = state.initial_conditions[-1] if start is None else start
        with self.simulate.precision(state):
            for way in self.ways(state):
                response = LinearResponse(*self._program(way)(state, start), state, self)
                is_traced = isinstance(response.error, jax.core.Tracer)
                if is_traced or response.is_accurate or not response.is_stable:
                    break
        return response

    def ways(self, state: State) -> tuple[Way, ...]:
        """Ways to compute the covariances of a state, in the order in which they are tried."""
        needs_frequencies = any(isinstance(monitor, BalloonBold) for monitor in self.simulate.monitors)
        if needs_frequencies and self.way not in (None, Way.FREQUENCIES):
            raise ValueError(f"way: {self.way.value}; a BalloonBold monitor needs Way.FREQUENCIES.")
        return (Way.FREQUENCIES,) if needs_frequencies else self._ways_of_step(state)

    def _ways_of_step(self, state):
        """Ways for any monitor."""
        if self.way is not None:
            return (self.way,)
        x, step = state.initial_conditions[-1], self.simulate.step
        outputs = jax.eval_shape(lambda x: step.source_output(self.simulate.constants(state), x), x)
        weights = state.connectivity.weights
        return ways(step, state.integrator.noise, weights, x.shape, outputs.size)

    @with_standard_promotion
    def relaxation_residual(self, response):
        """See `LinearResponse.relaxation_residual`."""
        step, state, x = self.simulate.step, response.state, response.fixed_point.x
        theta, inputs, weights = self.simulate.constants(state), self._without_noise(state), state.connectivity.weights
        return validity.relaxation_residual(step, theta, weights, inputs, response.linearised, x, self.state_range)

    def _without_noise(self, state):
        draws = state.integrator.noise.draws
        return {"noise": jnp.zeros(draws.shape[1:], draws.dtype)}

    def _program(self, way):
        """Compiled function of a way."""
        if way not in self._programs:
            # The compiled function holds a copy of self, so that there is no reference cycle (as in `Simulate`).
            linear = replace(self)

            def _response(state, start):
                return linear._response(state, start, way)

            self._programs[way] = Program(with_standard_promotion(_response))
        return self._programs[way]

    def lagged_covariance(self, response, lag, monitor):
        """See `LinearResponse.lagged_covariance`."""
        state = response.state
        with self.simulate.precision(state):
            for way in self.ways(state):
                covariance, error = self._lagged_program(way, lag, monitor)(
                    state, response.linearised, response.fixed_point.x
                )
                if isinstance(error, jax.core.Tracer) or error <= tolerance(error.dtype):
                    break
        return covariance

    def _lagged_program(self, way, lag, monitor):
        """Compiled function to (lagged covariance, `Covariances.error`)."""
        key = way, lag, monitor
        if key not in self._programs:
            linear = replace(self)

            def _lagged_covariance(state, linearised, x):
                step, dt, filtering = linear.simulate.step, linear.simulate.dt, linear.simulate.monitors[monitor]
                node, noise, weights = state.monitors[monitor], state.integrator.noise, state.connectivity.weights
                filters, shifts = [linear._by_group(linear._filter(filtering, node, x))], filtering.shifts(lag)
                observed = linear._observed(x)
                found = stationary_covariances(step, weights, linearised, observed, noise, filters, dt, way, shifts)
                usable = found.error <= tolerance(found.error.dtype)
                selected = linear._selected(filtering, jnp.where(usable, found.observed[0], jnp.nan), x)
                return filtering.spatial_covariance(selected), found.error

            self._programs[key] = Program(with_standard_promotion(_lagged_covariance))
        return self._programs[key]

    @with_standard_promotion
    def autocovariance(self, response, monitor) -> Autocovariance:
        """Covariances of a monitor's samples at all lags, for a stable response."""
        state, index, x = response.state, monitor, response.fixed_point.x
        monitor, node = self.simulate.monitors[index], state.monitors[index]
        with self.simulate.precision(state):
            filtering = self._filter(monitor, node, x)
            silent = jnp.zeros((len(monitor.voi) * x[0].size,) * 2, x.dtype)
            return autocovariance(
                lambda theta: self._cross_spectra_program(index)(state, response.linearised, x, theta),
                delays_of(self.simulate.step, response.linearised),
                self.simulate.dt,
                None if callable(filtering) else filtering,
                response.covariances[index],
                monitor.sample_covariance(silent, node),
                monitor.istep,
                jnp.max(response.correlation_time),
            )

    def _cross_spectra_program(self, index):
        """Compiled function to the cross-spectra of a monitor's signals; before its filter, if all signals share it."""
        key = "cross-spectra", index
        if key not in self._programs:
            linear = replace(self)

            def _cross_spectra(state, linearised, x, theta):
                monitor, node, step = linear.simulate.monitors[index], state.monitors[index], linear.simulate.step
                gain, observed = linear._by_group(linear._filter(monitor, node, x)), linear._observed(x)
                observed = (gain(theta) if callable(gain) else jnp.ones((theta.size, 1, 1)))[..., None] * observed

                def reduce(covariance):
                    return monitor.spatial_covariance(linear._selected(monitor, covariance, x))

                found = cross_spectra(linearised, delays_of(step, linearised), observed, theta, reduce)
                return noise_density(state.integrator.noise, linear.simulate.dt, theta)[:, None, None] * found

            self._programs[key] = Program(with_standard_promotion(_cross_spectra))
        return self._programs[key]

    @with_standard_promotion
    def cross_spectra(self, response, omega, monitor, n_alias):
        """See `LinearResponse.cross_spectra`; at frequencies ``omega`` [rad per sample]."""
        of_aliases, own = self.aliased_spectra(response, omega, monitor, n_alias)
        with self.simulate.precision(response.state):
            return self.simulate.monitors[monitor].istep * self.simulate.dt / 1000.0 * (of_aliases.sum(axis=1) + own)

    @with_standard_promotion
    def aliased_spectra(self, response, omega, monitor, n_alias):
        """Covariance of samples per frequency and alias, (n, m, n_signal, n_signal), and of the sensors' own noise."""
        state, index, x = response.state, monitor, response.fixed_point.x
        monitor, node = self.simulate.monitors[index], state.monitors[index]
        with self.simulate.precision(state):
            theta = aliases(jnp.asarray(omega, x.dtype), monitor.istep, n_alias)
            found = self._cross_spectra_program(index)(state, response.linearised, x, theta.ravel())
            if not callable(self._filter(monitor, node, x)):
                found = self._squared_gain(monitor, node, x, theta.ravel())[..., None] * found
            own = monitor.sample_covariance(jnp.zeros((len(monitor.voi) * x[0].size,) * 2, x.dtype), node)
            return found.reshape(*theta.shape, *found.shape[1:]) / monitor.istep, own

    def sample(self, response, key, n_samples, monitor):
        """See `LinearResponse.sample`."""
        state = response.state
        with self.simulate.precision(state):
            for way in self._ways_of_step(state):
                samples, error = self._sample_program(way, n_samples, monitor)(
                    state, response.linearised, response.fixed_point.x, key
                )
                if isinstance(error, jax.core.Tracer) or error <= tolerance(error.dtype) or not response.is_stable:
                    break
        return samples

    def _sample_program(self, way, n_samples, index):
        """Compiled function to (samples, `Covariances.error`)."""
        program_key = "sample", way, n_samples, index
        if program_key not in self._programs:
            linear = replace(self)

            def _sample(state, linearised, x, key):
                step, dt, monitor = linear.simulate.step, linear.simulate.dt, linear.simulate.monitors[index]
                node, noise, weights = state.monitors[index], state.integrator.noise, state.connectivity.weights
                gain, length = linear._complex_gain(monitor, node, x)
                plan = sampling.plan(n_samples, monitor.istep, dt, length, monitor.is_bold)
                draws = plan.draws(key, linearised.B.shape[0] * linearised.B.shape[2])
                rows = block_diagonal(linear._observed(x))[linear._order(monitor, x)]
                samples, error = sampling.sampled_signals(
                    step, weights, linearised, rows, noise, gain, draws, plan, dt, way
                )
                samples = jnp.where(error <= tolerance(error.dtype), samples[:n_samples], jnp.nan)
                return monitor.spatial(samples.reshape(n_samples, -1, *x.shape[1:])), error

            self._programs[program_key] = Program(with_standard_promotion(_sample))
        return self._programs[program_key]

    @with_standard_promotion
    def mean_of(self, response, function):
        """See `LinearResponse.mean_of`."""
        step, state, x = self.simulate.step, response.state, response.fixed_point.x
        theta, weights = self.simulate.constants(state), state.connectivity.weights
        return validity.second_order_mean(
            step,
            theta,
            weights,
            partial(function, theta["model"]),
            x,
            response.linearised,
            response.local_covariance,
            response.mean_shift,
        )

    @cached_property
    def _programs(self):
        return {}

    def _response(self, state, start, way):
        """Fields of the `LinearResponse`, up to ``error``."""
        step, dt = self.simulate.step, self.simulate.dt
        theta, weights = self.simulate.constants(state), state.connectivity.weights
        noise, inputs = state.integrator.noise, self._without_noise(state)
        rest = fixed_point(step, theta, weights, inputs, start, self.state_range)
        linearised = linearise(step, theta, weights, inputs, rest.x)
        filters = [self._by_group(self._filter(*pair, rest.x)) for pair in self._recording(state)]
        covariances = stationary_covariances(step, weights, linearised, self._observed(rest.x), noise, filters, dt, way)
        is_usable = covariances.error <= tolerance(covariances.error.dtype)
        by_recording = iter(jnp.where(is_usable, each, jnp.nan) for each in covariances.observed)
        by_monitor = tuple(
            None
            if isinstance(monitor, NoOutput)
            else monitor.sample_covariance(self._selected(monitor, next(by_recording), rest.x), node)
            for monitor, node in zip(self.simulate.monitors, state.monitors, strict=True)
        )
        shape, n_state = rest.x.shape, linearised.A.shape[1]
        variance = jnp.diagonal(covariances.local, axis1=1, axis2=2)[:, :n_state]
        positive = variance > 0.0
        std = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
        drift = validity.noise_induced_drift(step, theta, weights, inputs, rest.x, linearised, covariances.local)
        mean_shift = solve_dc(linearised, drift[:, None])
        # The spectral density at frequency 0 is the sum of the autocovariance over all lags.
        density = jnp.sum(solve_dc(linearised, block_diagonal(linearised.B)) ** 2, axis=1).reshape(std.shape)
        density = density * noise_density(noise, dt, jnp.zeros(1, rest.x.dtype))
        correlation_time = 0.5 * dt * density / jnp.where(positive, variance, 1.0)
        of_states = (by_variable(values, shape) for values in (std, mean_shift, correlation_time))
        return rest, linearised, by_monitor, *of_states, covariances.local, covariances.n_unstable, covariances.error

    @with_standard_promotion
    def power(self, response, frequencies, monitor):
        """See `LinearResponse.power`."""
        step, dt, linearised = self.simulate.step, self.simulate.dt, response.linearised
        x, state = response.fixed_point.x, response.state
        monitor, node = self.simulate.monitors[monitor], state.monitors[monitor]
        theta = jnp.asarray(2.0 * np.pi * frequencies * dt / 1000.0, x.dtype)
        density = noise_density(state.integrator.noise, dt, theta)

        def variances(covariance):
            return jnp.diagonal(monitor.spatial_covariance(self._selected(monitor, covariance, x)))

        of_signals = spectral.power(linearised, delays_of(step, linearised), self._observed(x), theta, variances)
        gain = self._squared_gain(monitor, node, x, theta)
        # From two-sided per radian and step to one-sided per Hz.
        return (2.0 * dt / 1000.0) * density[:, None] * gain * of_signals

    def _squared_gain(self, monitor, node, x, theta):
        """Squared gain of a monitor's filter, (n, 1), or (n, n_signal) if each signal has its own."""
        filtering = self._filter(monitor, node, x)
        if callable(filtering):
            gains = filtering(theta)[:, np.asarray(monitor.voi)]
            return jnp.abs(gains.reshape(theta.size, -1)) ** 2
        n_mean, taps = filtering
        return spectral.squared_gain(taps.astype(x.dtype), n_mean, theta)[:, None]

    @with_standard_promotion
    def z_standard_error(self, response, length, monitor):
        """See `LinearResponse.z_standard_error`."""
        x, dt, node = response.fixed_point.x, self.simulate.dt, response.state.monitors[monitor]
        monitor = self.simulate.monitors[monitor]

        # A signal that sums several states has the mean of their correlation times, weighted by their variances.
        squared = self._observed(x) ** 2

        def of_signals(values):
            rows = jnp.einsum("gos,gs->go", squared, by_node(values).reshape(squared.shape[0], -1))
            return jnp.diagonal(monitor.spatial_covariance(self._selected(monitor, jnp.diag(rows.ravel()), x)))

        variance = of_signals(response.std**2)
        positive = variance > 0.0
        of_state = of_signals(response.correlation_time * response.std**2) / jnp.where(positive, variance, 1.0)
        filtering = self._filter(monitor, node, x)
        if callable(filtering):
            of_filter = gain_correlation_time(filtering, monitor.voi, dt, x.dtype)
        else:
            of_filter = filter_correlation_time(filtering[1], filtering[0])
        correlation_time = jnp.sqrt(of_filter**2 * dt**2 + of_state[:, None] * of_state)
        return jnp.sqrt(jnp.minimum(jnp.maximum(correlation_time, monitor.istep * dt) / length, 0.25))

    def _filter(self, monitor, node, x):
        """Filter of a monitor: (n_mean, taps), or the function `BalloonBold.response` around the fixed point."""
        if isinstance(monitor, BalloonBold):
            return monitor.response(node, self.simulate.observe(x[None]))
        return monitor.fir_filter(node)

    def _complex_gain(self, monitor, node, x):
        """Gain of a monitor's filter as for `sampling.sampled_signals`, and the filter's length [steps]."""
        filtering = self._filter(monitor, node, x)
        if callable(filtering):
            rows = np.asarray(monitor.voi)
            return lambda theta: filtering(theta)[:, rows].reshape(theta.size, -1), None
        n_mean, taps = filtering
        return lambda theta: spectral.filter_gain(taps.astype(x.dtype), n_mean, theta)[:, None], n_mean * taps.size

    def _by_group(self, filtering):
        """Filter with its gains, if it has any, in the order of the observed variables of each group."""
        if not callable(filtering):
            return filtering

        def gain(theta):
            gains = jnp.swapaxes(filtering(theta), 1, 2)
            n_group = 1 if self.simulate.step.is_nonlocal else gains.shape[1]
            return gains.reshape(theta.size, n_group, -1)

        return gain

    def _recording(self, state):
        """Monitors with output, and their nodes of the state."""
        pairs = zip(self.simulate.monitors, state.monitors, strict=True)
        return [pair for pair in pairs if not isinstance(pair[0], NoOutput)]

    def _observed(self, x):
        """Derivative of the observed variables by the state, shape (n_group, n_out, n_state)."""
        return jacobian(lambda x: self.simulate.observe(x[None])[0], (x,), self.simulate.step.is_nonlocal)[0]

    def _selected(self, monitor, covariance, x):
        """Covariance of the variables that a monitor records, in the order (voi, node, mode)."""
        order = self._order(monitor, x)
        return covariance[order][:, order]

    def _order(self, monitor, x):
        """Indices of the observed variables that a monitor records, in the order (voi, node, mode)."""
        n_node, n_mode = x.shape[1:]
        n_observed = jax.eval_shape(lambda x: self.simulate.observe(x[None]), x).shape[1]
        order = np.arange(n_observed * n_node * n_mode).reshape(n_node, n_observed, n_mode)
        return np.moveaxis(order, 1, 0)[np.asarray(monitor.voi)].ravel()

    def __repr__(self):
        return f"linear: {self.simulate.description}"
