"""What a network makes of its noise around its fixed point: covariances without a simulation."""

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..observation import correlations
from ..parameters import plain
from . import modal, spectral
from .fixed_point import FixedPoint, fixed_point
from .linearise import (
    Linearised,
    by_variable,
    delays_of,
    jacobian,
    linearise,
    solve_still,
    step_matrix,
)
from .monitors import Silent
from .simulate import Simulate
from .trust import mean_push


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LinearResponse:
    """Small fluctuations of a simulator around its fixed point.

    Attributes
    ----------
    fixed_point : FixedPoint
    linearised : Linearised
        The step at the fixed point.
    covariances : tuple of Array
        Of each monitor's samples, (n, n) with n = n_voi * n_node * n_mode; None for one that records nothing.
    spread : Array, shape (n_var, n_node, n_mode)
        Standard deviation of the states.
    shift : Array, shape (n_var, n_node, n_mode)
        How far the curvature of the step moves the mean of the states, to second order in the noise.
    n_unstable : Array, shape ()
        Modes that grow.
    """

    fixed_point: FixedPoint
    linearised: Linearised
    covariances: tuple
    spread: jax.Array
    shift: jax.Array
    n_unstable: jax.Array
    about: "Linear" = field(metadata={"static": True}, repr=False)

    @property
    def is_stable(self):
        """Whether there is a fixed point, and all fluctuations around it decay."""
        return self.fixed_point.converged & (self.n_unstable == 0)

    @property
    def reach(self):
        r"""How far fluctuations reach into the curvature, the largest over states: |shift| / spread.

        For a state x beside a saddle at distance d, :math:`\\dot x = -b x (d + x)`, it is spread / d.
        """
        moves = self.spread > 0.0
        ratio = jnp.abs(self.shift) / jnp.where(moves, self.spread, 1.0)
        return jnp.where(moves, ratio, 0.0)

    def fc(self, monitor=0):
        """Correlation of a monitor's signals, (n, n), its diagonal 0 as in `compute_fc`."""
        return correlations(self._of(monitor))

    def covariance(self, monitor=0):
        """Covariance of a monitor's signals, (n, n)."""
        return self._of(monitor)

    def _of(self, monitor):
        if self.covariances[monitor] is None:
            raise ValueError(f"monitors[{monitor}]: records nothing.")
        return self.covariances[monitor]

    @cached_property
    def eigenvalues(self):
        """Growth of each mode a step, the largest first; with delays, of the slowest ones."""
        delays = delays_of(self.about.simulate.step, self.linearised)
        there = jax.tree.map(lambda a: np.asarray(a, float), self.linearised)
        values = np.linalg.eigvals(np.asarray(step_matrix(there))) if delays is None else _slowest(there, delays)
        return values[np.argsort(-np.abs(values))]

    @property
    def margin(self):
        """Rate at which the slowest mode decays [1/ms]; negative where it grows."""
        return float(-np.log(np.abs(self.eigenvalues[0])) / self.about.simulate.dt)

    def power(self, frequencies, monitor=0):
        """Power spectral density of a monitor's signals before they are sampled.

        Parameters
        ----------
        frequencies : array_like, shape (n,)
            [Hz]
        monitor : int

        Returns
        -------
        Array, shape (n, n_voi * n_node * n_mode)
            One-sided, [signal^2 / Hz].
        """
        raise NotImplementedError

    def __repr__(self):
        if isinstance(self.shift, jax.core.Tracer):
            return "LinearResponse(traced)"
        state = "stable" if bool(self.is_stable) else f"{int(self.n_unstable)} modes grow"
        if not bool(self.fixed_point.converged):
            state = f"no fixed point (a step still changes it by {float(self.fixed_point.residual):.1e})"
        return (
            f"LinearResponse: {self.about.simulate.description}\n"
            f"  fixed point: {state}, slowest decay {self.margin:.2e} / ms\n"
            f"  reach of fluctuations into the curvature: {float(self.reach.max()):.3f}"
        )


@dataclass(frozen=True, eq=False)
class Linear:
    """A simulator's linear response as a pure function of its state: ``response = linear(state)``.

    Attributes
    ----------
    simulate : Simulate
        Of the same simulator.
    """

    simulate: Simulate

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
        state = plain(state)
        return self._run(state, state.initial_conditions[-1] if start is None else start)

    @cached_property
    def _run(self):
        return jax.jit(self._of)

    def _of(self, state, start):
        step, dt = self.simulate.step, self.simulate.dt
        theta, weights = self.simulate.constants(state), state.connectivity.weights
        noise = state.integrator.noise
        inputs = {"noise": jnp.zeros(noise.draws.shape[1:], noise.draws.dtype)}
        rest = fixed_point(step, theta, weights, inputs, start)
        there = linearise(step, theta, weights, inputs, rest.x)
        observed = self._observed(rest.x)
        filters = [monitor.filter(leaves) for monitor, leaves in self._recording(state)]
        seen = spectra(step, weights, there, observed, noise, filters, dt)
        watched = iter(seen.covariances)
        covariances = tuple(
            None
            if isinstance(monitor, Silent)
            else monitor.covariance(self._watched(monitor, next(watched), rest.x), leaves)
            for monitor, leaves in zip(self.simulate.monitors, state.monitors, strict=True)
        )
        shape, n_state = rest.x.shape, there.A.shape[1]
        variance = jnp.diagonal(seen.local, axis1=1, axis2=2)[:, :n_state]
        positive = variance > 0.0
        spread = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
        push = mean_push(step, theta, weights, inputs, rest.x, there, seen.local)
        return LinearResponse(
            rest,
            there,
            covariances,
            by_variable(spread, shape),
            by_variable(solve_still(there, push), shape),
            seen.unstable,
            self,
        )

    def _recording(self, state):
        pairs = zip(self.simulate.monitors, state.monitors, strict=True)
        return [(monitor, leaves) for monitor, leaves in pairs if not isinstance(monitor, Silent)]

    def _observed(self, x):
        """What monitors see, by the states: (n_group, n_out, n_state)."""
        return jacobian(lambda x: self.simulate.observed(x[None])[0], (x,), self.simulate.step.mixes)[0]

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
    coloured = "eta" in noise
    delays = delays_of(step, there)

    def by_frequency(there, observed, filters):
        theta, weight = spectral.frequencies(dt)
        theta_here = jnp.asarray(theta, there.A.dtype)
        density = jnp.ones_like(theta_here)
        if coloured:
            ntau = jnp.reshape(noise.ntau, ())
            E = jnp.exp(-dt / ntau)
            density = spectral.coloured_density(E, dt**2 / ntau * (1.0 - E**2), theta_here)
        gains = [spectral.squared_gain(taps, pooled, theta_here) for pooled, taps in zip(pools, filters, strict=True)]
        return spectral.covariances(there, delays, observed, theta, weight, density, gains)

    def by_modes(there, observed, filters):
        A, D, Y, B, _ = there
        a, d, y = (part[:, 0, 0] for part in (A, D, Y))
        M = jnp.diag(a) + d[:, None] * weights * y
        of = modal.modes(a, d, weights, y)
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
    if not small or step.mixes or step.pairs is not None or delays is not None or coloured:
        return by_frequency(there, observed, filters)
    usable = modal.is_symmetrisable(weights, there.D[:, 0, 0], there.Y[:, 0, 0])
    return jax.lax.cond(usable, by_modes, by_frequency, there, observed, filters)
