r"""Covariances from the eigenmodes of a step whose matrix is similar to a symmetric one.

M = diag(a) + diag(d) W diag(y), with W symmetric and d y > 0, has the eigenvectors R = T V, where
:math:`T = \sqrt{d / y}` and V are the eigenvectors of the symmetric matrix :math:`T^{-1} M T`. Sums over time are
functions of the eigenvalues. Derivatives are taken with respect to the full matrix M, not through the eigenvectors,
which are not differentiable where eigenvalues coincide.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Eigenvalues closer than this use the derivative in place of the difference quotient; at this distance both have an
# error of 1e-11.
_CLOSE = 1e-8


class Modes(NamedTuple):
    """Eigendecomposition M = R diag(values) L, with L the inverse of R.

    Attributes
    ----------
    values : Array, shape (n,)
        Eigenvalues, in ascending order.
    R, L : Array, shape (n, n)
    """

    values: jax.Array
    R: jax.Array
    L: jax.Array


def is_symmetrisable(weights, d, y) -> jax.Array:
    """True if diag(d) W diag(y) is similar to a symmetric matrix by a diagonal scaling."""
    products = d * y
    return jnp.all(weights == weights.T) & (jnp.min(products) > 1e-9 * jnp.max(products))


def eigenmodes(a, d, weights, y) -> Modes:
    """Eigenmodes of diag(a) + diag(d) W diag(y) that satisfies `is_symmetrisable`; constant under differentiation.

    Parameters
    ----------
    a, d, y : Array, shape (n,)
    weights : Array, shape (n, n)

    Returns
    -------
    Modes
    """
    a, d, weights, y = jax.lax.stop_gradient((a, d, weights, y))
    products = d * y
    usable = products > 0.0
    root = jnp.sqrt(jnp.where(usable, products, 1.0))
    scale = jnp.sqrt(jnp.where(usable, d / jnp.where(usable, y, 1.0), 1.0))
    values, vectors = jnp.linalg.eigh(jnp.diag(a) + root[:, None] * weights * root)
    return Modes(values, scale[:, None] * vectors, vectors.T / scale)


@jax.custom_jvp
def discrete_lyapunov(M, Q, modes) -> jax.Array:
    """Solution P of the discrete Lyapunov equation P = M P M^T + Q.

    P is the stationary covariance of x' = M x + noise with covariance Q per step.

    Parameters
    ----------
    M, Q : Array, shape (n, n)
    modes : Modes
        Eigenmodes of M.

    Returns
    -------
    Array, shape (n, n)
        Without meaning if an eigenvalue reaches 1.
    """
    return _sum_of_powers(Q, modes)


@discrete_lyapunov.defjvp
def _discrete_lyapunov_jvp(primals, tangents):
    (M, Q, modes), (dM, dQ, _) = primals, tangents
    P = discrete_lyapunov(M, Q, modes)
    half = dM @ (P @ M.T)
    return P, _sum_of_powers(half + half.T + dQ, modes)


def _sum_of_powers(Q, modes):
    """Sum over k of M^k Q M^kT."""
    return modes.R @ ((modes.L @ Q @ modes.L.T) / _one_minus_products(modes.values)) @ modes.R.T


def _one_minus_products(values):
    """1 - a b for all pairs (a, b) of eigenvalues; never 0."""
    gap = 1.0 - values[:, None] * values[None, :]
    tiny = jnp.finfo(values.dtype).eps
    return jnp.where(jnp.abs(gap) < tiny, tiny, gap)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def lagged_filter(M, taps, modes, n_mean) -> jax.Array:
    """Matrix K of a filter such that the filtered signal has the covariance K P + P K^T.

    Parameters
    ----------
    M : Array, shape (n, n)
    taps : Array, shape (n_lag,)
        Filter: output = sum over d of taps[d] times the mean of ``n_mean`` steps, d such means ago.
    modes : Modes
        Eigenmodes of M.
    n_mean : int

    Returns
    -------
    Array, shape (n, n)
    """
    return (modes.R * _of_eigenvalue(modes.values, taps, n_mean)[None, :]) @ modes.L


@lagged_filter.defjvp
def _lagged_filter_jvp(n_mean, primals, tangents):
    # Derivative of a matrix function: difference quotients of the scalar function in the eigenbasis.
    (_, taps, modes), (dM, dtaps, _) = primals, tangents
    p, dp = jax.jvp(lambda taps: _of_eigenvalue(modes.values, taps, n_mean), (taps,), (dtaps,))
    _, slope = jax.jvp(lambda values: _of_eigenvalue(values, taps, n_mean), (modes.values,), (jnp.ones_like(p),))
    difference = modes.values[:, None] - modes.values[None, :]
    close = jnp.abs(difference) < _CLOSE
    quotient = (p[:, None] - p[None, :]) / jnp.where(close, 1.0, difference)
    quotient = jnp.where(close, 0.5 * (slope[:, None] + slope[None, :]), quotient)
    tangent = modes.R @ ((modes.L @ dM @ modes.R) * quotient + jnp.diag(dp)) @ modes.L
    return (modes.R * p[None, :]) @ modes.L, tangent


def _of_eigenvalue(values, taps, n_mean):
    r"""K of `lagged_filter` as a function of an eigenvalue.

    Half the filter's autocorrelation at lag 0, plus its autocorrelation at each positive lag times
    :math:`\lambda^{lag}`. The filter's autocorrelation is that of the taps, convolved with a triangle, the
    autocorrelation of a mean.
    """
    m = n_mean
    of_taps = autocorrelation(taps)
    triangle = jnp.asarray((m - np.abs(np.arange(-m + 1, m))) / m**2, values.dtype)
    powers = _powers(values, m)
    positive_lags = powers @ triangle[m - 1 :]
    # The triangle of a tap begins before the tap's own lag. Its powers of the inverse eigenvalue are combined with
    # those of the lag, so that no power exceeds 1.
    first = of_taps[0] * (positive_lags - 0.5 * triangle[m - 1])
    if taps.size == 1:
        return first
    all_lags = _powers(values, 2 * m - 1) @ triangle
    step = values if m == 1 else powers[:, m - 1] * values
    # The triangle of tap k begins at lag k m - (m - 1).
    return first + all_lags * values * polynomial(step, of_taps[1:])


def autocorrelation(taps) -> jax.Array:
    """Sum over d of taps[d] taps[d + k], for each lag k."""
    n = 1 << (2 * taps.size - 1).bit_length()
    spectrum = jnp.fft.rfft(taps, n)
    return jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), n)[: taps.size].astype(taps.dtype)


def _powers(values, n):
    """Powers 0 to n - 1 of each value, shape (n_value, n)."""
    powers = jnp.ones((values.size, 1), values.dtype)
    square = values[:, None]
    while powers.shape[1] < n:
        powers = jnp.concatenate([powers, powers * square], axis=1)
        square = square * square
    return powers[:, :n]


def polynomial(x, coefficients) -> jax.Array:
    """Sum over k of coefficients[k] x^k.

    The sum is split into pieces of about the square root of its length: a small matrix product takes the place of
    thousands of sequential steps.
    """
    size = max(1, int(np.sqrt(coefficients.size)))
    count = -(-coefficients.size // size)
    pieces = jnp.pad(coefficients, (0, count * size - coefficients.size)).reshape(count, size)
    low = _powers(x, size)
    high = _powers(low[:, -1] * x, count)
    return jnp.sum((low @ pieces.T) * high, axis=1)
