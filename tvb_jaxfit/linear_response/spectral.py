r"""Covariances as integrals of spectra: any step, with delays and coloured noise.

With :math:`z = e^{i \theta}` at frequency :math:`\theta` a step, what arrives is :math:`s = X(z)\, T_B(z)\, \xi`,
:math:`X = (1 - N(z) T_D)^{-1} N(z)`, :math:`T_\cdot = Y (z - A)^{-1} \cdot`, and N has the phase :math:`z^{-delay}` in
each entry. Nodes are solved for by themselves: one matrix of sums is factored at each frequency, however many state
variables there are.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import spherical_jn

from .linearise import apply_left, apply_right, solve_each, spread
from .modal import autocorrelation, polynomial

# Panels of frequency double in width from this rate on [rad/ms]: slower than any rhythm of a rest.
_SLOWEST = 1e-4
# Where rhythms lie [rad/ms], 1 to 100 Hz, and parts that panels there are split in: a rhythm of 10 Hz that decays in
# 300 ms is then integrated to 1e-5.
_RHYTHMS, _PARTS = (0.006, 0.6), 4
# Turns of the longest delay's phase within a panel, at most.
_TURNS = 1.0
# How far from a whole number turns may be.
_WHOLE = 0.05


class Spectra(NamedTuple):
    """What integrals over frequency give.

    Attributes
    ----------
    covariances : tuple of Array, each (n, n)
        Of the observed rows, through each filter.
    local : Array, shape (n_group, n_state + n_sum, n_state + n_sum)
        Of the states and sums of each group.
    unstable : Array, shape ()
        How many modes grow, or decay too slowly to be told from one that does.
    """

    covariances: tuple
    local: jax.Array
    unstable: jax.Array


@dataclass(frozen=True)
class Frequencies:
    """Gauss-Legendre quadrature over (0, pi), in panels that double in width, none wider than delays allow.

    Attributes
    ----------
    edges : tuple of float
        Of the panels [rad a step].
    order : int
        Nodes a panel.
    """

    edges: tuple[float, ...]
    order: int = 12

    @cached_property
    def _rule(self):
        return np.polynomial.legendre.leggauss(self.order)

    @cached_property
    def _panels(self):
        """Middles and half widths."""
        edges = np.asarray(self.edges)
        return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0

    @property
    def theta(self):
        """Nodes, (n,) [rad a step]."""
        middle, half = self._panels
        return (middle[:, None] + half[:, None] * self._rule[0]).ravel()

    @property
    def weight(self):
        """Weights, (n,); they sum to pi."""
        return (self._panels[1][:, None] * self._rule[1]).ravel()

    def moments(self, lags):
        r"""Weights of integrals of cos(lag theta) f(theta), however fast the cosine turns, for f smooth in each panel.

        Parameters
        ----------
        lags : ndarray of int, shape (n_lag,)

        Returns
        -------
        ndarray, shape (n_lag, n)

        Notes
        -----
        The interpolating polynomial of f is integrated: :math:`\\int_{-1}^1 e^{i k u} P_j(u) du = 2 i^j j_j(k)`.
        """
        middle, half = self._panels
        at, weight = self._rule
        order = np.arange(self.order)
        to_legendre = weight[:, None] * (order + 0.5) * np.polynomial.legendre.legvander(at, self.order - 1)
        bessel = spherical_jn(order, np.multiply.outer(lags, half)[..., None])
        turned = np.exp(1j * np.multiply.outer(lags, middle))[..., None] * 1j**order
        moments = 2.0 * half[:, None] * (np.real(turned * bessel) @ to_legendre.T)
        return moments.reshape(len(lags), -1)


def frequencies(dt, delays=None, rhythms=True):
    """Where to evaluate spectra.

    Parameters
    ----------
    dt : float
        [ms]
    delays : ndarray of int, optional
        [steps]
    rhythms : bool
        Whether modes may oscillate, many times before they decay.

    Returns
    -------
    Frequencies
    """
    n_panel = max(1, int(np.ceil(np.log2(np.pi / (_SLOWEST * dt)))))
    edges = np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-n_panel, 1)])
    widest = np.pi if delays is None else _TURNS * 2.0 * np.pi / max(1, int(np.max(delays)))
    parts = []
    for low, high in pairwise(edges):
        in_band = rhythms and high > _RHYTHMS[0] * dt and low < _RHYTHMS[1] * dt
        count = max(_PARTS if in_band else 1, int(np.ceil((high - low) / widest)))
        parts.append(np.linspace(low, high, 1 + count)[1:])
    return Frequencies((0.0, *np.concatenate(parts).tolist()))


def filter_weights(at, taps, pooled):
    """Weights of integrals over (0, pi) of the squared gain of a filter (see `modal.memory`) times a smooth function.

    Parameters
    ----------
    at : Frequencies
    taps : Array, shape (n_lag,)
    pooled : int

    Returns
    -------
    Array, shape (n,)

    Notes
    -----
    A response that is cut off rings faster over the frequencies than spectra change: the squared gain is taken as the
    sum of cosines that it is.
    """
    moments, of_mean = _moments_of_filter(at, taps.size, pooled)
    if taps.size == 1:
        return taps[0] ** 2 * jnp.asarray(of_mean, taps.dtype)
    return autocorrelation(taps) @ jnp.asarray(moments, taps.dtype)


@lru_cache(maxsize=16)
def _moments_of_filter(at, n_lag, pooled):
    """Moments of each lag of the autocorrelation of taps, and those of a mean alone."""
    if n_lag == 1:
        lags = np.arange(pooled)
        once = np.where(lags == 0, 1.0, 2.0) * (pooled - lags) / pooled**2
        pieces = np.array_split(lags, -(-pooled // 1000))
        return None, sum(once[piece] @ at.moments(piece) for piece in pieces)
    moments = at.moments(pooled * np.arange(n_lag))
    moments[1:] *= 2.0
    half = 0.5 * at.theta
    return moments * (np.sin(pooled * half) / (pooled * np.sin(half))) ** 2, None


def covariances(linearised, delays, observed, at, density, through):
    """Covariances of the stationary process.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    observed : Array, shape (n_group, n_out, n_state)
        What monitors see of the state.
    at : Frequencies
    density : Array, shape (n,)
        Spectral density of the noise, 1 where it is white.
    through : list of Array, each of shape (n,)
        Weights of each filter: see `filter_weights`.

    Returns
    -------
    Spectra
    """
    dtype = linearised.A.dtype
    n_group, n_state, _ = linearised.A.shape
    n_local, n_out = n_state + linearised.D.shape[-1], n_group * observed.shape[1]
    nothing = [jnp.zeros((n_out, n_out), dtype) for _ in through], jnp.zeros((n_group, n_local, n_local), dtype)

    @jax.checkpoint
    def add(totals, point):
        theta, weight, density, of_filters = point
        transfer = _transfer(linearised, delays, jnp.exp(1j * theta))
        of_observed, of_local = _densities(transfer, observed)
        seen, local = totals
        seen = [total + density * share * of_observed for total, share in zip(seen, of_filters, strict=True)]
        return (seen, local + density * weight * of_local), transfer.turning

    shares = [weight / np.pi for weight in (at.weight, *through)]
    points = jnp.asarray(at.theta, dtype), jnp.asarray(shares[0], dtype), density, shares[1:]
    (seen, local), turning = jax.lax.scan(add, nothing, points)
    # The argument principle: the determinant of 1 - M / z turns once around 0 for each mode that grows.
    turns = jnp.abs(jnp.sum(turning * points[1]))
    unstable = jnp.round(turns)
    # No whole number of turns: a mode is so close to growing that these frequencies do not resolve it.
    unstable = jnp.where(jnp.abs(turns - unstable) < _WHOLE, unstable, jnp.maximum(unstable, 1.0))
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
    """Rate at which the determinant of 1 - M / z turns with the frequency: Im of its logarithm's derivative."""
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


def power(linearised, delays, observed, theta, take):
    """What is taken of the spectral densities of the observed rows at some frequencies, for noise of density 1."""

    def at(theta):
        of_observed, _ = _densities(_transfer(linearised, delays, jnp.exp(1j * theta)), observed)
        return take(of_observed)

    return jax.lax.map(at, theta)


def squared_gain(taps, pooled, theta):
    """Squared gain of a filter (see `modal.memory`) at some frequencies."""
    turned = jnp.exp(-1j * pooled * theta)
    # sin(m a) / (m sin(a)), at a = 0, too.
    of_mean = jnp.sinc(pooled * theta / (2.0 * np.pi)) / jnp.sinc(theta / (2.0 * np.pi))
    return of_mean**2 * jnp.abs(polynomial(turned, taps)) ** 2


def coloured_density(E, strength, theta):
    """Spectral density of first-order autoregressive noise, kept by E a step and driven by ``strength`` of variance."""
    return strength / jnp.abs(1.0 - E * jnp.exp(-1j * theta)) ** 2
