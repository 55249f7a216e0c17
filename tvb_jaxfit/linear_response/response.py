"""Linear response of a simulator to its noise: covariance, FC and power spectra without a simulation."""

from dataclasses import dataclass, field, replace
from functools import cached_property, wraps

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.monitors import NoOutput
from ..dynamics.real_state import real_state
from ..dynamics.simulate import Simulate
from ..markup import notebook_html
from ..observation import covariance_to_fc
from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.programs import Program
from ..state import State
from . import spectral, validity
from .covariance import Way, filter_correlation_time, noise_density, stationary_covariances, tolerance, ways
from .eigenvalues import eigenvalues
from .fixed_point import FixedPoint, fixed_point
from .linearise import Linearised, block_diagonal, by_node, by_variable, delays_of, jacobian, linearise, solve_dc


def _with_standard_promotion(function):
    """The same function, independent of the dtype and rank promotion that the user has set for JAX."""

    @wraps(function)
    def promoting(*args):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args)

    return promoting


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LinearResponse(PicklableMixin):
    """Small fluctuations of a simulator around its fixed point.

    A `LinearizedSimulator` makes it; it is a pytree, and may be used inside functions that JAX transforms.

    Attributes
    ----------
    fixed_point : FixedPoint
    linearised : Linearised
        Linearised step at the fixed point.
    covariances : tuple of Array or None
        Covariance of each monitor's samples, shape (n, n) with n = n_voi * n_node * n_mode; None for a monitor that
        records nothing.
    std : Array, shape (n_var, n_node, n_mode)
        Standard deviation of the states.
    mean_shift : Array, shape (n_var, n_node, n_mode)
        Difference between the mean of the states and the fixed point that the curvature of the step causes, to second
        order in the noise amplitude.
    correlation_time : Array, shape (n_var, n_node, n_mode)
        Correlation time of the states [ms]: half the sum of the autocorrelation over all lags, times dt. It is the time
        constant of an exponential decay.
    n_unstable : Array, shape ()
        Number of unstable modes, including those too close to the stability boundary to be resolved.
    error : Array, shape ()
        Largest error of a variance by rounding in the eigenmodes, relative to it; 0 for an integral over frequencies.
    state : State
        State at which the response was computed.
    system : LinearizedSimulator
        Simulator whose response this is.
    """

    fixed_point: FixedPoint
    linearised: Linearised
    covariances: tuple
    std: jax.Array
    mean_shift: jax.Array
    correlation_time: jax.Array
    n_unstable: jax.Array
    error: jax.Array
    state: State = field(repr=False)
    system: "LinearizedSimulator" = field(metadata={"static": True}, repr=False)

    @property
    def is_stable(self) -> jax.Array:
        """True if there is a fixed point and all fluctuations around it decay."""
        return self.fixed_point.converged & (self.n_unstable == 0)

    @property
    def nonlinearity(self) -> jax.Array:
        r"""Ratio of `mean_shift` to `std`, shape (n_var, n_node, n_mode): size of the neglected terms.

        It is 0 for a state that does not fluctuate. For a state x at the distance d from a saddle,
        :math:`\dot x = -b x (d + x)`, it is std / d.
        """
        fluctuates = self.std > 0.0
        ratio = jnp.abs(self.mean_shift) / jnp.where(fluctuates, self.std, 1.0)
        return jnp.where(fluctuates, ratio, 0.0)

    @property
    def relaxation_residual(self) -> jax.Array:
        """Distance to the fixed point that is left after a noise-free relaxation from far away.

        Array, shape (2, n_var, n_node, n_mode): from the lower and from the upper ends of the state variables' ranges,
        after 50 local time constants, in units of the ranges. If it is not close to 0, there is another fixed point, or
        one is about to appear, and noise may drive the network from one to the other.
        """
        return self.system.relaxation_residual(self)

    def fc(self, monitor: int = 0) -> jax.Array:
        """Correlation matrix of a monitor's signals, shape (n, n); its diagonal is 0, as in `compute_fc`."""
        return covariance_to_fc(self._covariance_of(monitor))

    def covariance(self, monitor: int = 0) -> jax.Array:
        """Covariance matrix of a monitor's signals, shape (n, n)."""
        return self._covariance_of(monitor)

    def fc_standard_error(self, length: float, monitor: int = 0) -> jax.Array:
        r"""Standard deviation, over recordings of a given length, of their FC.

        Parameters
        ----------
        length : float
            Length of a recording [ms].
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        Bartlett's formula :math:`(1 - r^2) \sqrt{t / T}`, with the correlation time t of `z_standard_error`. Near -1
        and 1 the FC is not normally distributed, but its Fisher z is.

        References
        ----------
        Bartlett, M. S. (1946). Supplement to J. R. Stat. Soc. 8(1), 27-41.
        """
        return (1.0 - self.fc(monitor) ** 2) * self.z_standard_error(length, monitor)

    def z_standard_error(self, length: float, monitor: int = 0) -> jax.Array:
        r"""Standard deviation, over recordings of a given length, of the Fisher z of their FC, arctanh(FC).

        Parameters
        ----------
        length : float
            Length of a recording [ms].
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        :math:`\sqrt{t / T}` with the correlation time :math:`t = \int \rho_i \rho_j`. The autocorrelations
        :math:`\rho` are approximated by that of the monitor's filter, widened by the correlation times of the states:
        :math:`t = \sqrt{t_{filter}^2 + t_i t_j}`. The time t is at least the sampling period and at most a quarter of
        the length.
        """
        self._covariance_of(monitor)
        return self.system.z_standard_error(self, length, monitor)

    def _covariance_of(self, monitor):
        if self.covariances[monitor] is None:
            raise ValueError(f"monitors[{monitor}]: records nothing.")
        return self.covariances[monitor]

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Growth factors of the modes per step, the largest first; only the slowest modes of a large delayed network.

        Computed on first access: this may take seconds for a network with delays.
        """
        return eigenvalues(self.linearised, delays_of(self.system.simulate.step, self.linearised))

    @property
    def decay_rate(self) -> float:
        """Decay rate of the slowest mode [1/ms], from `eigenvalues`; negative if the mode grows."""
        return float(-np.log(np.abs(self.eigenvalues[0])) / self.system.simulate.dt)

    def power(self, frequencies, monitor: int = 0) -> jax.Array:
        """Power spectral density of a monitor's signals before they are sampled.

        Parameters
        ----------
        frequencies : array_like, shape (n,)
            Frequencies from 0 to 500 / dt [Hz], with dt in ms.
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n_signal)
            One-sided density [signal^2 / Hz]: its integral is the variance of the signals. The observation noise of
            sensors, which is drawn for each sample, is not included.

        Raises
        ------
        ValueError
            A frequency is out of range, or the monitor records nothing.
        """
        self._covariance_of(monitor)
        frequencies = np.asarray(frequencies, float)
        highest = 500.0 / self.system.simulate.dt
        if frequencies.ndim != 1 or not np.all((frequencies >= 0.0) & (frequencies <= highest)):
            raise ValueError(f"frequencies: {frequencies}; give a list of them from 0 to {highest:g} Hz.")
        return self.system.power(self, frequencies, monitor)

    def __repr__(self):
        if isinstance(self.mean_shift, jax.core.Tracer):
            return "LinearResponse(traced)"
        stability = "stable" if bool(self.is_stable) else f"unstable, {int(self.n_unstable)} growing modes"
        if not bool(self.fixed_point.converged):
            stability = f"not found (a step still changes the state by {float(self.fixed_point.residual):.1e})"
        # The eigenvalues are shown only if they are known already: computing them is expensive.
        slowest = f", slowest decay {self.decay_rate:.2e} / ms" if "eigenvalues" in vars(self) else ""
        return (
            f"LinearResponse: {self.system.simulate.description}\n"
            f"  fixed point: {stability}{slowest}\n"
            f"  largest nonlinearity: {float(self.nonlinearity.max()):.3f}"
        )

    def _repr_html_(self):
        return notebook_html(*repr(self).splitlines())


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
        ill-conditioned (a relative error of a variance above 1.5e-8, in single precision 3e-4), from an integral of
        spectra over frequencies. Inside a function that JAX transforms this choice is not possible: covariances from
        ill-conditioned eigenmodes are NaN there, and ``replace(linear, way=Way.FREQUENCIES)`` takes the integral.
        """
        refuse_forked("linear")
        state = real_state(state)
        start = state.initial_conditions[-1] if start is None else start
        with self.simulate.precision(state):
            for way in self.ways(state):
                results = self._program(way)(state, start)
                error = results[-1]
                if isinstance(error, jax.core.Tracer) or error <= tolerance(error.dtype):
                    break
        return LinearResponse(*results, state, self)

    def ways(self, state: State) -> tuple[Way, ...]:
        """Ways to compute the covariances of a state, in the order in which they are tried."""
        if self.way is not None:
            return (self.way,)
        x, step = state.initial_conditions[-1], self.simulate.step
        outputs = jax.eval_shape(lambda x: step.source_output(self.simulate.constants(state), x), x)
        weights = state.connectivity.weights
        return ways(step, state.integrator.noise, weights, x.shape, outputs.size)

    @_with_standard_promotion
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

            self._programs[way] = Program(_with_standard_promotion(_response))
        return self._programs[way]

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
        filters = [monitor.fir_filter(node) for monitor, node in self._recording(state)]
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
        return rest, linearised, by_monitor, *of_states, covariances.n_unstable, covariances.error

    @_with_standard_promotion
    def power(self, response, frequencies, monitor):
        """See `LinearResponse.power`."""
        step, dt, linearised = self.simulate.step, self.simulate.dt, response.linearised
        x, (n_mean, taps) = response.fixed_point.x, self._filter(response.state, monitor)
        monitor = self.simulate.monitors[monitor]
        theta = jnp.asarray(2.0 * np.pi * frequencies * dt / 1000.0, x.dtype)
        gain = spectral.squared_gain(taps.astype(x.dtype), n_mean, theta)
        density = noise_density(response.state.integrator.noise, dt, theta)

        def variances(covariance):
            return jnp.diagonal(monitor.spatial_covariance(self._selected(monitor, covariance, x)))

        of_signals = spectral.power(linearised, delays_of(step, linearised), self._observed(x), theta, variances)
        # From two-sided per radian and step to one-sided per Hz.
        return (2.0 * dt / 1000.0) * (density * gain)[:, None] * of_signals

    @_with_standard_promotion
    def z_standard_error(self, response, length, monitor):
        """See `LinearResponse.z_standard_error`."""
        x, (n_mean, taps) = response.fixed_point.x, self._filter(response.state, monitor)
        monitor, dt = self.simulate.monitors[monitor], self.simulate.dt

        # A signal that sums several states has the mean of their correlation times, weighted by their variances.
        squared = self._observed(x) ** 2

        def of_signals(values):
            rows = jnp.einsum("gos,gs->go", squared, by_node(values).reshape(squared.shape[0], -1))
            return jnp.diagonal(monitor.spatial_covariance(self._selected(monitor, jnp.diag(rows.ravel()), x)))

        variance = of_signals(response.std**2)
        positive = variance > 0.0
        of_state = of_signals(response.correlation_time * response.std**2) / jnp.where(positive, variance, 1.0)
        of_filter = filter_correlation_time(taps, n_mean)
        correlation_time = jnp.sqrt(of_filter**2 * dt**2 + of_state[:, None] * of_state)
        correlation_time = jnp.maximum(correlation_time, monitor.istep * dt)
        return jnp.sqrt(jnp.minimum(correlation_time / length, 0.25))

    def _filter(self, state, monitor):
        return self.simulate.monitors[monitor].fir_filter(state.monitors[monitor])

    def _recording(self, state):
        """Monitors with output, and their nodes of the state."""
        pairs = zip(self.simulate.monitors, state.monitors, strict=True)
        return [(monitor, node) for monitor, node in pairs if not isinstance(monitor, NoOutput)]

    def _observed(self, x):
        """Derivative of the observed variables by the state, shape (n_group, n_out, n_state)."""
        return jacobian(lambda x: self.simulate.observe(x[None])[0], (x,), self.simulate.step.is_nonlocal)[0]

    def _selected(self, monitor, covariance, x):
        """Covariance of the variables that a monitor records, in the order (voi, node, mode)."""
        n_node, n_mode = x.shape[1:]
        order = np.arange(covariance.shape[0]).reshape(n_node, -1, n_mode)
        order = np.moveaxis(order, 1, 0)[np.asarray(monitor.voi)].ravel()
        return covariance[order][:, order]

    def __repr__(self):
        return f"linear: {self.simulate.description}"
