r"""Covariances from the modes of a step whose matrix is symmetric but for a scale of each node.

M = diag(a) + diag(d) W diag(y) with W symmetric and d y > 0 has the eigenvectors R = T V, V those of the symmetric
:math:`T^{-1} M T`, :math:`T = \sqrt{d / y}`. Sums over time are functions of eigenvalues. Derivatives are those in M,
a full matrix: none goes through the eigenvectors, which have none where eigenvalues meet.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Below this distance of two eigenvalues a slope stands for their difference quotient: both are right to 1e-11 there.
_CLOSE = 1e-8


class Modes(NamedTuple):
    """M = R diag(values) L, L the inverse of R.

    Attributes
    ----------
    values : Array, shape (n,)
        Eigenvalues, ascending.
    R, L : Array, shape (n, n)
    """

    values: jax.Array
    R: jax.Array
    L: jax.Array


def is_symmetrisable(weights, d, y):
    """Whether diag(d) W diag(y) is symmetric but for a scale."""
    both = d * y
    return jnp.all(weights == weights.T) & (jnp.min(both) > 1e-9 * jnp.max(both))


def modes(a, d, weights, y):
    """Modes of diag(a) + diag(d) W diag(y); see `is_symmetrisable`. A constant: not differentiated.

    Parameters
    ----------
    a, d, y : Array, shape (n,)
    weights : Array, shape (n, n)

    Returns
    -------
    Modes
    """
    a, d, weights, y = jax.lax.stop_gradient((a, d, weights, y))
    both = d * y
    usable = both > 0.0
    root = jnp.sqrt(jnp.where(usable, both, 1.0))
    scale = jnp.sqrt(jnp.where(usable, d / jnp.where(usable, y, 1.0), 1.0))
    values, vectors = jnp.linalg.eigh(jnp.diag(a) + root[:, None] * weights * root)
    return Modes(values, scale[:, None] * vectors, vectors.T / scale)


@jax.custom_jvp
def stationary(M, Q, of):
    """Covariance P of x' = M x + noise of covariance Q a step: P = M P M^T + Q.

    Parameters
    ----------
    M, Q : Array, shape (n, n)
    of : Modes
        Of M.

    Returns
    -------
    Array, shape (n, n)
        Meaningless where an eigenvalue reaches 1.
    """
    return _sum_of_powers(Q, of)


@stationary.defjvp
def _stationary_moved(at, moves):
    (M, Q, of), (dM, dQ, _) = at, moves
    P = stationary(M, Q, of)
    half = dM @ (P @ M.T)
    return P, _sum_of_powers(half + half.T + dQ, of)


def _sum_of_powers(Q, of):
    """Sum over k of M^k Q M^kT."""
    return of.R @ ((of.L @ Q @ of.L.T) / _pairs(of.values)) @ of.R.T


def _pairs(values):
    """1 - a b for all pairs of eigenvalues; never 0."""
    gap = 1.0 - values[:, None] * values[None, :]
    tiny = jnp.finfo(values.dtype).eps
    return jnp.where(jnp.abs(gap) < tiny, tiny, gap)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def memory(M, taps, of, pooled):
    """What a filter makes of the past: K such that the filtered signal has the covariance K P + P K^T.

    Parameters
    ----------
    M : Array, shape (n, n)
    taps : Array, shape (n_lag,)
        The filter: out = sum over d of taps[d] mean of ``pooled`` steps, d such means ago.
    of : Modes
        Of M.
    pooled : int

    Returns
    -------
    Array, shape (n, n)
    """
    return (of.R * _memory_of(of.values, taps, pooled)[None, :]) @ of.L


@memory.defjvp
def _memory_moved(pooled, at, moves):
    (_, taps, of), (dM, dtaps, _) = at, moves
    p, dp = jax.jvp(lambda taps: _memory_of(of.values, taps, pooled), (taps,), (dtaps,))
    _, slope = jax.jvp(lambda values: _memory_of(values, taps, pooled), (of.values,), (jnp.ones_like(p),))
    apart = of.values[:, None] - of.values[None, :]
    close = jnp.abs(apart) < _CLOSE
    quotient = (p[:, None] - p[None, :]) / jnp.where(close, 1.0, apart)
    quotient = jnp.where(close, 0.5 * (slope[:, None] + slope[None, :]), quotient)
    moved = of.R @ ((of.L @ dM @ of.R) * quotient + jnp.diag(dp)) @ of.L
    return (of.R * p[None, :]) @ of.L, moved


def _memory_of(values, taps, pooled):
    r"""K as a function of an eigenvalue.

    Half the autocorrelation of the filter at 0, and that at each lag times :math:`\lambda^{lag}`.
    The autocorrelation is that of the taps, each widened to the triangle that is the autocorrelation of a mean.
    """
    m = pooled
    of_taps = autocorrelation(taps)
    triangle = jnp.asarray((m - np.abs(np.arange(-m + 1, m))) / m**2, values.dtype)
    powers = _powers(values, m)
    later = powers @ triangle[m - 1 :]
    # A tap's triangle reaches back before its lag: powers of the inverse, taken with the lag's own, stay below 1.
    first = of_taps[0] * (later - 0.5 * triangle[m - 1])
    if taps.size == 1:
        return first
    whole = _powers(values, 2 * m - 1) @ triangle
    step = values if m == 1 else powers[:, m - 1] * values
    # Lag k m - (m - 1) is where the triangle of tap k begins.
    return first + whole * values * polynomial(step, of_taps[1:])


def autocorrelation(taps):
    """Sum over d of taps[d] taps[d + k], for each k."""
    n = 1 << (2 * taps.size - 1).bit_length()
    spectrum = jnp.fft.rfft(taps, n)
    return jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), n)[: taps.size].astype(taps.dtype)


def _powers(values, n):
    """Powers 0 to n - 1 of each value, (n_value, n)."""
    powers = jnp.ones((values.size, 1), values.dtype)
    square = values[:, None]
    while powers.shape[1] < n:
        powers = jnp.concatenate([powers, powers * square], axis=1)
        square = square * square
    return powers[:, :n]


def polynomial(x, coefficients):
    """Sum of coefficients[k] x^k, in pieces: a small matrix product instead of thousands of steps."""
    size = max(1, int(np.sqrt(coefficients.size)))
    count = -(-coefficients.size // size)
    pieces = jnp.pad(coefficients, (0, count * size - coefficients.size)).reshape(count, size)
    low = _powers(x, size)
    high = _powers(low[:, -1] * x, count)
    return jnp.sum((low @ pieces.T) * high, axis=1)
