"""What a network makes of its noise around its fixed point: covariances without a simulation."""

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
from . import modal, spectral
from .eigenvalues import eigenvalues
from .fixed_point import FixedPoint, fixed_point
from .linearise import Linearised, by_node, by_variable, delays_of, jacobian, linearise, solve_still, step_matrix
from .linearise import spread as to_matrix
from .validity import homeward, mean_push


def _promoting(function):
    """The same function whatever a user lets JAX promote in the user's own code."""

    @wraps(function)
    def promoting(*args):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args)

    return promoting


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LinearResponse(PicklableMixin):
    """Small fluctuations of a simulator around its fixed point.

    Attributes
    ----------
    fixed_point : FixedPoint
    linearised : Linearised
        The step at the fixed point.
    covariances : tuple of Array
        Of each monitor's samples, (n, n) with n = n_voi * n_node * n_mode; None for one that records nothing.
    std : Array, shape (n_var, n_node, n_mode)
        Standard deviation of the states.
    mean_shift : Array, shape (n_var, n_node, n_mode)
        How far the curvature of the step moves the mean of the states, to second order in the noise.
    correlation_time : Array, shape (n_var, n_node, n_mode)
        How long fluctuations of the states last [ms]: half the sum of the autocorrelation, the time constant where it
        decays exponentially.
    n_unstable : Array, shape ()
        Modes that grow, or decay too slowly to be told from one that does.
    state : State
        Where it is the response.
    system : LinearizedSimulator
        Of which simulator.
    """

    fixed_point: FixedPoint
    linearised: Linearised
    covariances: tuple
    std: jax.Array
    mean_shift: jax.Array
    correlation_time: jax.Array
    n_unstable: jax.Array
    state: State = field(repr=False)
    system: "LinearizedSimulator" = field(metadata={"static": True}, repr=False)

    @property
    def is_stable(self):
        """Whether there is a fixed point, and all fluctuations around it decay."""
        return self.fixed_point.converged & (self.n_unstable == 0)

    @property
    def nonlinearity(self):
        r"""How far fluctuations reach into the curvature, the largest over states: |shift| / spread.

        For a state x beside a saddle at distance d, :math:`\\dot x = -b x (d + x)`, it is spread / d.
        """
        moves = self.std > 0.0
        ratio = jnp.abs(self.mean_shift) / jnp.where(moves, self.std, 1.0)
        return jnp.where(moves, ratio, 0.0)

    @property
    def relaxation_residual(self):
        """How far from the fixed point the network still is, some time after it was let go from afar.

        Array, shape (2, n_var, n_node, n_mode), from the lower and the upper ends of the state variables' ranges, in
        parts of the ranges; see `homeward`. Where it is not nearly 0, there are other fixed points, or almost, and
        noise may kick the network from one to the other.
        """
        return self.system.relaxation_residual(self)

    def fc(self, monitor=0):
        """Correlation of a monitor's signals, (n, n), its diagonal 0 as in `compute_fc`."""
        return covariance_to_fc(self._of(monitor))

    def covariance(self, monitor=0):
        """Covariance of a monitor's signals, (n, n)."""
        return self._of(monitor)

    def fc_standard_error(self, length, monitor=0):
        r"""Standard deviation of the FC that a recording of some length gives.

        Parameters
        ----------
        length : float
            [ms]
        monitor : int

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        Bartlett's :math:`(1 - r^2) \sqrt{t / T}`; see `z_standard_error`. Near -1 and 1, FC is not normally distributed, and its
        Fisher z still is.

        References
        ----------
        Bartlett, M. S. (1946). Supplement to J. R. Stat. Soc. 8(1), 27-41.
        """
        return (1.0 - self.fc(monitor) ** 2) * self.z_standard_error(length, monitor)

    def z_standard_error(self, length, monitor=0):
        r"""Standard deviation of the Fisher z, arctanh(FC), that a recording of some length gives.

        Parameters
        ----------
        length : float
            [ms]
        monitor : int

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        :math:`\sqrt{t / T}`, :math:`t = \int \rho_i \rho_j`, with the autocorrelations taken as those of the filter,
        widened by what states do: :math:`t = \sqrt{t_{filter}^2 + t_i t_j}`, at least the period, and at most a quarter
        of the length.
        """
        self._of(monitor)
        return self.system.z_standard_error(self, length, monitor)

    def _of(self, monitor):
        if self.covariances[monitor] is None:
            raise ValueError(f"monitors[{monitor}]: records nothing.")
        return self.covariances[monitor]

    @cached_property
    def eigenvalues(self):
        """Growth of each mode a step, the largest first; of the slowest ones where delays make too many."""
        return eigenvalues(self.linearised, delays_of(self.system.simulate.step, self.linearised))

    @property
    def decay_rate(self):
        """Rate at which the slowest mode decays [1/ms]; negative where it grows."""
        return float(-np.log(np.abs(self.eigenvalues[0])) / self.system.simulate.dt)

    def power(self, frequencies, monitor=0):
        """Power spectral density of a monitor's signals as they are before they are sampled.

        Parameters
        ----------
        frequencies : array_like, shape (n,)
            Up to that of every second step [Hz].
        monitor : int

        Returns
        -------
        Array, shape (n, n_signal)
            One-sided [signal^2 / Hz]: its integral is the variance of the signals. Noise of the sensors themselves,
            which is drawn for each sample, is left out.

        Raises
        ------
        ValueError
            Where a frequency is out of range, or the monitor records nothing.
        """
        self._of(monitor)
        frequencies = np.asarray(frequencies, float)
        highest = 500.0 / self.system.simulate.dt
        if frequencies.ndim != 1 or not np.all((frequencies >= 0.0) & (frequencies <= highest)):
            raise ValueError(f"frequencies: {frequencies}; give a list of them from 0 to {highest:g} Hz.")
        return self.system.power(self, frequencies, monitor)

    def __repr__(self):
        if isinstance(self.mean_shift, jax.core.Tracer):
            return "LinearResponse(traced)"
        state = "stable" if bool(self.is_stable) else f"{int(self.n_unstable)} modes grow"
        if not bool(self.fixed_point.converged):
            state = f"no fixed point (a step still changes it by {float(self.fixed_point.residual):.1e})"
        # To print it works nothing out: the eigenvalues of a network with delays take seconds.
        slowest = f", slowest decay {self.decay_rate:.2e} / ms" if "eigenvalues" in vars(self) else ""
        return (
            f"LinearResponse: {self.system.simulate.description}\n"
            f"  fixed point: {state}{slowest}\n"
            f"  reach of fluctuations into the curvature: {float(self.nonlinearity.max()):.3f}"
        )

    def _repr_html_(self):
        return notebook_html(*repr(self).splitlines())


@dataclass(frozen=True, eq=False)
class LinearizedSimulator(PicklableMixin):
    """A simulator's linear response as a pure function of its state: ``response = linear(state)``.

    Attributes
    ----------
    simulate : Simulate
        Of the same simulator.
    ends : ndarray, shape (2, n_var)
        Of the state variables' ranges.
    """

    simulate: Simulate
    ends: np.ndarray = field(repr=False)

    def __call__(self, state, start=None):
        """Linear response at a state.

        Parameters
        ----------
        state : State
            Of this simulator; its noise and stocks do not matter.
        start : Array, shape (n_var, n_node, n_mode), optional
            Where the search for the fixed point begins; by default the newest of ``state.initial_conditions``.

        Returns
        -------
        LinearResponse
        """
        refuse_forked("linear")
        state = real_state(state)
        with self.simulate.precision(state):
            found = self._run(state, state.initial_conditions[-1] if start is None else start)
        return LinearResponse(*found, state, self)

    @_promoting
    def relaxation_residual(self, response):
        """See `LinearResponse.relaxation_residual`."""
        step, state, x = self.simulate.step, response.state, response.fixed_point.x
        theta, inputs = self.simulate.constants(state), self._without_noise(state)
        return homeward(step, theta, state.connectivity.weights, inputs, response.linearised, x, self.ends)

    def _without_noise(self, state):
        draws = state.integrator.noise.draws
        return {"noise": jnp.zeros(draws.shape[1:], draws.dtype)}

    @cached_property
    def _run(self):
        # Of a copy, as in `Simulate`.
        return Program(_promoting(replace(self)._of))

    def _of(self, state, start):
        step, dt = self.simulate.step, self.simulate.dt
        theta, weights = self.simulate.constants(state), state.connectivity.weights
        noise, inputs = state.integrator.noise, self._without_noise(state)
        rest = fixed_point(step, theta, weights, inputs, start)
        there = linearise(step, theta, weights, inputs, rest.x)
        observed = self._observed(rest.x)
        filters = [monitor.fir_filter(leaves) for monitor, leaves in self._recording(state)]
        seen = spectra(step, weights, there, observed, noise, filters, dt)
        watched = iter(seen.covariances)
        covariances = tuple(
            None
            if isinstance(monitor, NoOutput)
            else monitor.sample_covariance(self._watched(monitor, next(watched), rest.x), leaves)
            for monitor, leaves in zip(self.simulate.monitors, state.monitors, strict=True)
        )
        shape, n_state = rest.x.shape, there.A.shape[1]
        variance = jnp.diagonal(seen.local, axis1=1, axis2=2)[:, :n_state]
        positive = variance > 0.0
        spread = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
        push = mean_push(step, theta, weights, inputs, rest.x, there, seen.local)
        shift = solve_still(there, push[:, None])
        # The spectral density at frequency 0 is the sum of the autocovariance.
        still = jnp.sum(solve_still(there, to_matrix(there.B)) ** 2, axis=1).reshape(spread.shape)
        still = still * _density(noise, dt, jnp.zeros(1, rest.x.dtype))
        duration = 0.5 * dt * still / jnp.where(positive, variance, 1.0)
        of_states = (by_variable(values, shape) for values in (spread, shift, duration))
        return rest, there, covariances, *of_states, seen.unstable

    @_promoting
    def power(self, response, frequencies, monitor):
        """See `LinearResponse.power`."""
        step, dt, there = self.simulate.step, self.simulate.dt, response.linearised
        x, (pooled, taps) = response.fixed_point.x, self._filter(response.state, monitor)
        monitor = self.simulate.monitors[monitor]
        theta = jnp.asarray(2.0 * np.pi * frequencies * dt / 1000.0, x.dtype)
        gain = spectral.squared_gain(taps.astype(x.dtype), pooled, theta)
        density = _density(response.state.integrator.noise, dt, theta)

        def variances(covariance):
            return jnp.diagonal(monitor.spatial_covariance(self._watched(monitor, covariance, x)))

        of_rows = spectral.power(there, delays_of(step, there), self._observed(x), theta, variances)
        # Per Hz instead of per radian a step, of negative frequencies, too.
        return (2.0 * dt / 1000.0) * (density * gain)[:, None] * of_rows

    @_promoting
    def z_standard_error(self, response, length, monitor):
        """See `LinearResponse.z_standard_error`."""
        x, (pooled, taps) = response.fixed_point.x, self._filter(response.state, monitor)
        monitor, dt = self.simulate.monitors[monitor], self.simulate.dt

        # Of a sum of states, as their variances share in it.
        squared = self._observed(x) ** 2

        def of_rows(values):
            each = jnp.einsum("gos,gs->go", squared, by_node(values).reshape(squared.shape[0], -1))
            return jnp.diagonal(monitor.spatial_covariance(self._watched(monitor, jnp.diag(each.ravel()), x)))

        variance = of_rows(response.std**2)
        positive = variance > 0.0
        own = of_rows(response.correlation_time * response.std**2) / jnp.where(positive, variance, 1.0)
        lasting = jnp.sqrt(_duration(taps, pooled) ** 2 * dt**2 + own[:, None] * own)
        lasting = jnp.maximum(lasting, monitor.istep * dt)
        return jnp.sqrt(jnp.minimum(lasting / length, 0.25))

    def _filter(self, state, monitor):
        return self.simulate.monitors[monitor].fir_filter(state.monitors[monitor])

    def _recording(self, state):
        pairs = zip(self.simulate.monitors, state.monitors, strict=True)
        return [(monitor, leaves) for monitor, leaves in pairs if not isinstance(monitor, NoOutput)]

    def _observed(self, x):
        """What monitors see, by the states: (n_group, n_out, n_state)."""
        return jacobian(lambda x: self.simulate.observe(x[None])[0], (x,), self.simulate.step.is_nonlocal)[0]

    def _watched(self, monitor, covariance, x):
        """Covariance of the rows that a monitor watches, in the order (voi, node, mode)."""
        n_node, n_mode = x.shape[1:]
        order = np.arange(covariance.shape[0]).reshape(n_node, -1, n_mode)
        order = np.moveaxis(order, 1, 0)[np.asarray(monitor.voi)].ravel()
        return covariance[order][:, order]

    def __repr__(self):
        return f"linear: {self.simulate.description}"


def spectra(step, weights, there, observed, noise, filters, dt):
    """Covariances through each filter: by modes where the step is symmetric but for a scale, else by frequencies."""
    delays = delays_of(step, there)

    def by_frequency(there, observed, filters):
        at = spectral.frequencies(dt, delays, rhythms=delays is not None or there.A.shape[1] > 1)
        theta = jnp.asarray(at.theta, there.A.dtype)
        density = _density(noise, dt, theta)
        through = [spectral.filter_weights(at, taps, pooled) for pooled, taps in zip(pools, filters, strict=True)]
        return spectral.covariances(there, delays, observed, at, density, through)

    def by_modes(there, observed, filters):
        A, D, Y, B, _ = there
        a, d, y = (part[:, 0, 0] for part in (A, D, Y))
        M, of = step_matrix(there), modal.modes(a, d, weights, y)
        P = modal.stationary(M, jnp.diag(jnp.sum(B[:, 0] ** 2, axis=-1)), of)
        seen = []
        for pooled, taps in zip(pools, filters, strict=True):
            half = modal.memory(M, taps, of, pooled) @ P
            full = half + half.T
            both = observed[:, :, None, None, 0] * observed[None, None, :, :, 0] * full[:, None, :, None]
            seen.append(both.reshape(observed.shape[0] * observed.shape[1], -1))
        to_sums = weights * y
        of_sums = to_sums @ P
        crossed, sums = jnp.diagonal(of_sums), jnp.sum(of_sums * to_sums, axis=1)
        local = jnp.stack([jnp.stack([jnp.diagonal(P), crossed], -1), jnp.stack([crossed, sums], -1)], -2)
        growing = jnp.sum(jnp.abs(of.values) >= 1.0).astype(M.dtype)
        return spectral.Spectra(tuple(seen), local, growing)

    pools = [pooled for pooled, _ in filters]
    filters = [taps.astype(there.A.dtype) for _, taps in filters]
    small = there.A.shape[1:] == there.D.shape[1:] == there.Y.shape[1:] == (1, 1)
    if not small or step.is_nonlocal or step.pairwise is not None or delays is not None or "eta" in noise:
        return by_frequency(there, observed, filters)
    usable = modal.is_symmetrisable(weights, there.D[:, 0, 0], there.Y[:, 0, 0])
    return jax.lax.cond(usable, by_modes, by_frequency, there, observed, filters)


def _duration(taps, pooled):
    """Sum of the squared autocorrelation of a filter [steps]: of its taps, or of the one mean that it is."""
    lags = modal.autocorrelation(taps) if taps.size > 1 else 1.0 - jnp.arange(pooled, dtype=taps.dtype) / pooled
    return (2.0 * jnp.sum((lags / lags[0]) ** 2) - 1.0) * (pooled if taps.size > 1 else 1)


def _density(noise, dt, theta):
    """Spectral density of the noise, relative to white noise of unit variance a step."""
    if "eta" not in noise:
        return jnp.ones_like(theta)
    ntau = jnp.reshape(noise.ntau, ())
    kept = jnp.exp(-dt / ntau)
    return spectral.coloured_density(kept, dt**2 / ntau * (1.0 - kept**2), theta)
