r"""Covariances as integrals of spectra, for any step, with delays and coloured noise.

At the frequency :math:`\theta` [rad per step], with :math:`z = e^{i \theta}`, the coupling input is
:math:`s = X(z)\, T_B(z)\, \xi`, where :math:`X = (1 - N(z) T_D)^{-1} N(z)`, :math:`T_\cdot = Y (z - A)^{-1} \cdot`, and
each entry of N has the phase :math:`z^{-delay}`. Groups are eliminated first: only one matrix, of the size of the
coupling input, is factorised per frequency, for any number of state variables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import spherical_jn

from .linearise import Linearised, apply_left, apply_right, block_diagonal, solve_each
from .filters import autocorrelation, polynomial

# From this angular frequency on, the panels double in width [rad/ms]. It is below all resting-state rhythms.
_LOWEST_FREQUENCY = 1e-4
# Band of rhythms, 1 to 100 Hz [rad/ms], and the number of parts that each of its panels is split into: a 10 Hz rhythm
# with a decay time of 300 ms is then integrated to 1e-5.
_RHYTHM_BAND, _PARTS_IN_BAND = (0.006, 0.6), 4
# Maximum number of turns of the longest delay's phase within a panel.
_MAX_TURNS = 1.0
# Tolerance for a number of turns to count as an integer.
_INTEGER_TOLERANCE = 0.05


@dataclass(frozen=True)
class FrequencyGrid:
    """Gauss-Legendre quadrature over (0, pi) in panels that double in width, up to a width that resolves the delays.

    Attributes
    ----------
    edges : tuple of float
        Edges of the panels [rad per step].
    order : int
        Number of nodes per panel.
    """

    edges: tuple[float, ...]
    order: int = 12

    @cached_property
    def _rule(self):
        return np.polynomial.legendre.leggauss(self.order)

    @cached_property
    def _panels(self):
        """Centres and half widths."""
        edges = np.asarray(self.edges)
        return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0

    @property
    def theta(self) -> np.ndarray:
        """Nodes, shape (n,) [rad per step]."""
        centre, half_width = self._panels
        return (centre[:, None] + half_width[:, None] * self._rule[0]).ravel()

    @property
    def weight(self) -> np.ndarray:
        """Weights, shape (n,), with the sum pi."""
        return (self._panels[1][:, None] * self._rule[1]).ravel()

    def filon_weights(self, lags) -> np.ndarray:
        r"""Weights of integrals of cos(lag theta) f(theta), for any lag and an f that is smooth in each panel.

        Parameters
        ----------
        lags : ndarray of int, shape (n_lag,)

        Returns
        -------
        ndarray, shape (n_lag, n)

        Notes
        -----
        Filon quadrature: the interpolating polynomial of f is integrated exactly, with
        :math:`\int_{-1}^1 e^{i k u} P_j(u) du = 2 i^j j_j(k)`.
        """
        centre, half_width = self._panels
        at, weight = self._rule
        order = np.arange(self.order)
        to_legendre = weight[:, None] * (order + 0.5) * np.polynomial.legendre.legvander(at, self.order - 1)
        bessel = spherical_jn(order, np.multiply.outer(lags, half_width)[..., None])
        phase = np.exp(1j * np.multiply.outer(lags, centre))[..., None] * 1j**order
        weights = 2.0 * half_width[:, None] * (np.real(phase * bessel) @ to_legendre.T)
        return weights.reshape(len(lags), -1)


def frequency_grid(dt: float, delays: np.ndarray | None = None, rhythms: bool = True) -> FrequencyGrid:
    """Frequencies at which spectra are evaluated.

    Parameters
    ----------
    dt : float
        [ms]
    delays : ndarray of int, optional
        [steps]
    rhythms : bool
        True if modes may oscillate many times before they decay.

    Returns
    -------
    FrequencyGrid
    """
    n_panel = max(1, int(np.ceil(np.log2(np.pi / (_LOWEST_FREQUENCY * dt)))))
    edges = np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-n_panel, 1)])
    max_width = np.pi if delays is None else _MAX_TURNS * 2.0 * np.pi / max(1, int(np.max(delays)))
    parts = []
    for low, high in pairwise(edges):
        in_band = rhythms and high > _RHYTHM_BAND[0] * dt and low < _RHYTHM_BAND[1] * dt
        count = max(_PARTS_IN_BAND if in_band else 1, int(np.ceil((high - low) / max_width)))
        parts.append(np.linspace(low, high, 1 + count)[1:])
    return FrequencyGrid((0.0, *np.concatenate(parts).tolist()))


def filter_weights(grid: FrequencyGrid, taps, n_mean: int) -> jax.Array:
    """Weights of integrals over (0, pi) of a filter's squared gain times a smooth function.

    Parameters
    ----------
    grid : FrequencyGrid
    taps : Array, shape (n_lag,)
        Filter: see `modal.covariance_coordinates`.
    n_mean : int

    Returns
    -------
    Array, shape (n,)

    Notes
    -----
    The squared gain of a truncated response oscillates faster in frequency than the spectra change. It is therefore
    expanded as a sum of cosines, each of which is integrated with its own Filon weights.
    """
    of_lags, of_mean = _filon_weights_of_filter(grid, taps.size, n_mean)
    if taps.size == 1:
        return taps[0] ** 2 * jnp.asarray(of_mean, taps.dtype)
    return autocorrelation(taps) @ jnp.asarray(of_lags, taps.dtype)


@lru_cache(maxsize=16)
def _filon_weights_of_filter(grid, n_lag, n_mean):
    """(of_lags, of_mean): weights of each lag of the taps' autocorrelation, or of a single mean; the other is None."""
    if n_lag == 1:
        lags = np.arange(n_mean)
        triangle = np.where(lags == 0, 1.0, 2.0) * (n_mean - lags) / n_mean**2
        pieces = np.array_split(lags, -(-n_mean // 1000))
        return None, sum(triangle[piece] @ grid.filon_weights(piece) for piece in pieces)
    weights = grid.filon_weights(n_mean * np.arange(n_lag))
    weights[1:] *= 2.0
    half = 0.5 * grid.theta
    return weights * (np.sin(n_mean * half) / (n_mean * np.sin(half))) ** 2, None


def integrate_spectra(
    linearised: Linearised, delays: np.ndarray | None, observed, grid: FrequencyGrid, density, filters
) -> tuple:
    """Covariances of the stationary process.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    observed : Array, shape (n_group, n_out, n_state)
        Derivative of the observed variables by the state.
    grid : FrequencyGrid
    density : Array, shape (n,)
        Spectral density of the noise, 1 for white noise.
    filters : list of Array, each of shape (n,)
        Weights of each filter: see `filter_weights`.

    Returns
    -------
    observed, local, n_unstable
        As in `covariance.Covariances`.
    """
    dtype = linearised.A.dtype
    n_group, n_state, _ = linearised.A.shape
    n_local, n_out = n_state + linearised.D.shape[-1], n_group * observed.shape[1]
    zeros = [jnp.zeros((n_out, n_out), dtype) for _ in filters], jnp.zeros((n_group, n_local, n_local), dtype)

    @jax.checkpoint
    def add(totals, point):
        theta, weight, density, filter_weight = point
        transfers = _transfers(linearised, delays, jnp.exp(1j * theta))
        of_observed, of_local = _densities(transfers, observed)
        sums, local = totals
        sums = [total + density * share * of_observed for total, share in zip(sums, filter_weight, strict=True)]
        return (sums, local + density * weight * of_local), transfers.phase_rate

    weights = [weight / np.pi for weight in (grid.weight, *filters)]
    points = jnp.asarray(grid.theta, dtype), jnp.asarray(weights[0], dtype), density, weights[1:]
    (sums, local), phase_rate = jax.lax.scan(add, zeros, points)
    # Argument principle: the determinant of 1 - M / z turns once around 0 for each unstable mode.
    turns = jnp.abs(jnp.sum(phase_rate * points[1]))
    n_unstable = jnp.round(turns)
    # A number of turns that is not an integer: a mode is too close to instability for these frequencies to resolve.
    is_integer = jnp.abs(turns - n_unstable) < _INTEGER_TOLERANCE
    n_unstable = jnp.where(is_integer, n_unstable, jnp.maximum(n_unstable, 1.0))
    return tuple(sums), local, n_unstable


class _Transfers(NamedTuple):
    """Transfer functions from the noise at one frequency: s = X T_B noise, x = G_D s + G_B noise."""

    X: jax.Array
    T_B: jax.Array
    G_D: jax.Array
    G_B: jax.Array
    phase_rate: jax.Array


def _transfers(linearised, delays, z):
    A, D, Y, B, N = linearised
    n_group, n_state, n_input = D.shape
    resolvent = z * jnp.eye(n_state, dtype=A.dtype) - A
    G = solve_each(resolvent, jnp.concatenate([D, B], axis=-1).astype(resolvent.dtype))
    G_D, G_B = G[..., :n_input], G[..., n_input:]
    N = N.astype(G.dtype) if delays is None else N * z ** (-jnp.asarray(delays, A.dtype))
    X = jnp.linalg.solve(jnp.eye(N.shape[0], dtype=A.dtype) - apply_right(N, Y @ G_D), N)
    transfers = _Transfers(X, Y @ G_B, G_D, G_B, None)
    return transfers._replace(phase_rate=jax.lax.stop_gradient(_phase_rate(linearised, delays, z, N, transfers)))


def _phase_rate(linearised, delays, z, N, transfers):
    """Derivative by frequency of the phase of det(1 - M / z): imaginary part of its logarithmic derivative."""
    A, D, Y, _, _ = linearised
    n_group, n_state, _ = A.shape
    resolvent = solve_each(
        z * jnp.eye(n_state, dtype=A.dtype) - A, jnp.broadcast_to(jnp.eye(n_state, dtype=z.dtype), A.shape)
    )
    of_groups = jnp.imag(1j * z * jnp.sum(jnp.trace(resolvent, axis1=1, axis2=2))) - n_group * n_state
    derivative = -1j * z * (Y @ resolvent) @ transfers.G_D
    of_network = jnp.sum(_diagonal_blocks(transfers.X, n_group) * jnp.swapaxes(derivative, -1, -2))
    if delays is not None:
        # (1 - N T)^-1 = 1 + X T
        T = Y @ transfers.G_D
        inverse = jnp.eye(N.shape[0], dtype=A.dtype) + apply_right(transfers.X, T)
        of_network = of_network + jnp.sum(inverse.T * apply_right(N * (-1j * jnp.asarray(delays, A.dtype)), T))
    return of_groups - jnp.imag(of_network)


def _densities(transfers, observed):
    """Real parts of spectral densities: of the observed variables (n, n); of states and inputs in each group."""
    X, T_B, G_D, G_B, _ = transfers
    n_group, n_state, n_input = G_D.shape
    X_T = apply_right(X, T_B)
    to_observed = observed @ G_D, observed @ G_B
    by_noise = apply_left(to_observed[0], X_T) + block_diagonal(to_observed[1])
    rows = X_T.reshape(n_group, n_input, -1)
    of_inputs, input_by_local_noise = rows @ _adjoint(rows), _diagonal_blocks(X_T, n_group)
    cross = input_by_local_noise @ _adjoint(G_B)
    of_states = G_D @ of_inputs @ _adjoint(G_D) + G_B @ _adjoint(G_B)
    of_states = of_states + G_D @ cross + _adjoint(G_D @ cross)
    state_input = G_D @ of_inputs + _adjoint(cross)
    upper = jnp.concatenate([of_states, state_input], axis=-1)
    lower = jnp.concatenate([_adjoint(state_input), of_inputs], axis=-1)
    real, imaginary = jnp.real(by_noise), jnp.imag(by_noise)
    of_observed = real @ real.T + imaginary @ imaginary.T
    return of_observed, jnp.real(jnp.concatenate([upper, lower], axis=-2))


def _adjoint(matrix):
    return jnp.conj(jnp.swapaxes(matrix, -1, -2))


def _diagonal_blocks(matrix, n_group):
    """Diagonal blocks (n_group, a, b) of a matrix (n_group * a, n_group * b)."""
    blocks = matrix.reshape(n_group, matrix.shape[0] // n_group, n_group, matrix.shape[1] // n_group)
    return jnp.moveaxis(jnp.diagonal(blocks, axis1=0, axis2=2), -1, 0)


def power(linearised: Linearised, delays: np.ndarray | None, observed, theta, reduce: Callable) -> jax.Array:
    """Reduced spectral densities of the observed variables, for white noise.

    Parameters
    ----------
    linearised, delays, observed
        As for `integrate_spectra`.
    theta : Array, shape (n,)
        Frequencies [rad per step].
    reduce : callable
        Function of the density matrix at one frequency, to an array.

    Returns
    -------
    Array, shape (n, ...)
    """

    def at(theta):
        of_observed, _ = _densities(_transfers(linearised, delays, jnp.exp(1j * theta)), observed)
        return reduce(of_observed)

    return jax.lax.map(at, theta)


def squared_gain(taps, n_mean: int, theta) -> jax.Array:
    """Squared gain of a filter (see `modal.covariance_coordinates`) at the frequencies ``theta`` [rad per step]."""
    phase = jnp.exp(-1j * n_mean * theta)
    # sin(m a) / (m sin(a)), also at a = 0.
    of_mean = jnp.sinc(n_mean * theta / (2.0 * np.pi)) / jnp.sinc(theta / (2.0 * np.pi))
    return of_mean**2 * jnp.abs(polynomial(phase, taps)) ** 2


def coloured_density(E, strength, theta) -> jax.Array:
    """Spectral density of first-order autoregressive noise: coefficient E per step, driving variance ``strength``."""
    return strength / jnp.abs(1.0 - E * jnp.exp(-1j * theta)) ** 2
