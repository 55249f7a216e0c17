r"""Covariances as integrals of spectra: any step, with delays and coloured noise.

With :math:`z = e^{i \theta}` at frequency :math:`\theta` a step, what arrives is :math:`s = X(z)\, T_B(z)\, \xi`,
:math:`X = (1 - N(z) T_D)^{-1} N(z)`, :math:`T_\cdot = Y (z - A)^{-1} \cdot`, and N has the phase :math:`z^{-delay}` in
each entry. Nodes are solved for by themselves: one matrix of sums is factored at each frequency, however many state
variables there are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .linearise import apply_left, apply_right, solve_each, spread
from .modal import polynomial

# Panels of frequency double in width from this rate on [rad/ms]: slower than any rhythm of a rest.
_SLOWEST = 1e-4


class Spectra(NamedTuple):
    """What integrals over frequency give.

    Attributes
    ----------
    covariances : tuple of Array, each (n, n)
        Of the observed rows, through each filter.
    local : Array, shape (n_group, n_state + n_sum, n_state + n_sum)
        Of the states and sums of each group.
    unstable : Array, shape ()
        How many modes grow.
    """

    covariances: tuple
    local: jax.Array
    unstable: jax.Array


def frequencies(dt, order=10):
    """Nodes and weights of Gauss-Legendre quadrature over (0, pi), in panels that double in width.

    Parameters
    ----------
    dt : float
        [ms]
    order : int
        Nodes a panel.

    Returns
    -------
    theta, weight : ndarray, shape (n,)
        [rad a step]
    """
    n_panel = max(1, int(np.ceil(np.log2(np.pi / (_SLOWEST * dt)))))
    edges = np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-n_panel, 1)])
    at, weight = np.polynomial.legendre.leggauss(order)
    width = np.diff(edges)[:, None] / 2.0
    return (edges[:-1, None] + width * (1.0 + at)).ravel(), (width * weight).ravel()


def covariances(linearised, delays, observed, theta, weight, density, gains):
    """Covariances of the stationary process.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    observed : Array, shape (n_group, n_out, n_state)
        What monitors see of the state.
    theta, weight : ndarray, shape (n,)
        See `frequencies`.
    density : Array, shape (n,)
        Spectral density of the noise at theta, 1 where it is white.
    gains : list of Array, each of shape (n,)
        Squared gain of each filter at theta.

    Returns
    -------
    Spectra
    """
    dtype = linearised.A.dtype
    n_group, n_state, _ = linearised.A.shape
    n_local, n_out = n_state + linearised.D.shape[-1], n_group * observed.shape[1]
    nothing = [jnp.zeros((n_out, n_out), dtype) for _ in gains], jnp.zeros((n_group, n_local, n_local), dtype)

    @jax.checkpoint
    def add(totals, point):
        theta, weight, density, gains = point
        through = _transfer(linearised, delays, jnp.exp(1j * theta))
        of_observed, of_local = _densities(through, observed)
        seen, local = totals
        power = weight * density
        seen = [total + power * gain * of_observed for total, gain in zip(seen, gains, strict=True)]
        return (seen, local + power * of_local), through.turning

    points = jnp.asarray(theta, dtype), jnp.asarray(weight / np.pi, dtype), density, gains
    (seen, local), turning = jax.lax.scan(add, nothing, points)
    # The argument principle: the determinant of 1 - M / z turns once around 0 for each mode that grows.
    unstable = jnp.round(jnp.abs(jnp.sum(turning * points[1])))
    return Spectra(tuple(seen), local, unstable)


class _Transfer(NamedTuple):
    """States and sums by noise at one frequency: s = X T_B noise, x = G_D s + G_B noise."""

    X: jax.Array
    T_B: jax.Array
    G_D: jax.Array
    G_B: jax.Array
    turning: jax.Array


def _transfer(linearised, delays, z):
    A, D, Y, B, N = linearised
    n_group, n_state, n_sum = D.shape
    resolvent = z * jnp.eye(n_state, dtype=A.dtype) - A
    both = solve_each(resolvent, jnp.concatenate([D, B], axis=-1).astype(resolvent.dtype))
    G_D, G_B = both[..., :n_sum], both[..., n_sum:]
    N = N.astype(both.dtype) if delays is None else N * z ** (-jnp.asarray(delays, A.dtype))
    X = jnp.linalg.solve(jnp.eye(N.shape[0], dtype=A.dtype) - apply_right(N, Y @ G_D), N)
    through = _Transfer(X, Y @ G_B, G_D, G_B, None)
    return through._replace(turning=jax.lax.stop_gradient(_turning(linearised, delays, z, N, through)))


def _turning(linearised, delays, z, N, through):
    """Rate at which the determinant of 1 - M / z turns with the frequency: the imaginary part of its logarithm's
    derivative.
    """
    A, D, Y, _, _ = linearised
    n_group, n_state, _ = A.shape
    resolved = solve_each(
        z * jnp.eye(n_state, dtype=A.dtype) - A, jnp.broadcast_to(jnp.eye(n_state, dtype=z.dtype), A.shape)
    )
    of_nodes = jnp.imag(1j * z * jnp.sum(jnp.trace(resolved, axis1=1, axis2=2))) - n_group * n_state
    by_phase = -1j * z * (Y @ resolved) @ through.G_D
    turned = jnp.sum(_own(through.X, n_group) * jnp.swapaxes(by_phase, -1, -2))
    if delays is not None:
        # (1 - N T)^-1 = 1 + X T
        T = Y @ through.G_D
        inverse = jnp.eye(N.shape[0], dtype=A.dtype) + apply_right(through.X, T)
        turned = turned + jnp.sum(inverse.T * apply_right(N * (-1j * jnp.asarray(delays, A.dtype)), T))
    return of_nodes - jnp.imag(turned)


def _densities(through, observed):
    """Real parts of the spectral densities: of the observed rows (n, n), of states and sums in each group."""
    X, T_B, G_D, G_B, _ = through
    n_group, n_state, n_sum = G_D.shape
    X_T = apply_right(X, T_B)
    to_observed = observed @ G_D, observed @ G_B
    by_noise = apply_left(to_observed[0], X_T) + spread(to_observed[1])
    rows = X_T.reshape(n_group, n_sum, -1)
    own_sums, own_by_noise = rows @ _adjoint(rows), _own(X_T, n_group)
    crossed = own_by_noise @ _adjoint(G_B)
    of_states = G_D @ own_sums @ _adjoint(G_D) + G_B @ _adjoint(G_B)
    of_states = of_states + G_D @ crossed + _adjoint(G_D @ crossed)
    state_sum = G_D @ own_sums + _adjoint(crossed)
    upper = jnp.concatenate([of_states, state_sum], axis=-1)
    lower = jnp.concatenate([_adjoint(state_sum), own_sums], axis=-1)
    real, imaginary = jnp.real(by_noise), jnp.imag(by_noise)
    seen = real @ real.T + imaginary @ imaginary.T
    return seen, jnp.real(jnp.concatenate([upper, lower], axis=-2))


def _adjoint(matrix):
    return jnp.conj(jnp.swapaxes(matrix, -1, -2))


def _own(matrix, n_group):
    """Diagonal blocks of a matrix (n_group * a, n_group * b)."""
    parted = matrix.reshape(n_group, matrix.shape[0] // n_group, n_group, matrix.shape[1] // n_group)
    return jnp.moveaxis(jnp.diagonal(parted, axis1=0, axis2=2), -1, 0)


def power(linearised, delays, observed, theta):
    """Spectral density of each observed row at some frequencies, (n, n_group * n_out), for noise of density 1."""

    def at(theta):
        of_observed, _ = _densities(_transfer(linearised, delays, jnp.exp(1j * theta)), observed)
        return jnp.diagonal(of_observed)

    return jax.lax.map(at, theta)


def squared_gain(taps, pooled, theta):
    """Squared gain of a filter (see `modal.memory`) at some frequencies."""
    turned = jnp.exp(-1j * pooled * theta)
    of_mean = jnp.sin(0.5 * pooled * theta) / (pooled * jnp.sin(0.5 * theta))
    return of_mean**2 * jnp.abs(polynomial(turned, taps)) ** 2


def coloured_density(E, strength, theta):
    """Spectral density of first-order autoregressive noise, kept by E a step and driven by ``strength`` of variance."""
    return strength / jnp.abs(1.0 - E * jnp.exp(-1j * theta)) ** 2
