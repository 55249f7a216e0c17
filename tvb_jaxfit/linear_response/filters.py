"""Filters of monitors: their autocorrelation, also as a function of an eigenvalue."""

import math

import jax
import jax.numpy as jnp
import numpy as np

# Lags of a covariance, in steps, and their weights: that of signals at the same time.
NO_SHIFT = ((0, 1.0),)


def autocorrelation_of_eigenvalue(values, taps, n_mean):
    r"""Half of a filter's summed autocovariance, as a function of an eigenvalue.

    Half the filter's autocorrelation at lag 0, plus its autocorrelation at each positive lag times
    :math:`\lambda^{lag}`. The filter's autocorrelation is that of the taps, convolved with a triangle, the
    autocorrelation of a mean.
    """
    m, taps = n_mean, taps.astype(values.dtype)
    triangle = jnp.asarray((m - np.abs(np.arange(-m + 1, m))) / m**2, values.dtype)
    powers = _powers(values, m)
    positive_lags = powers @ triangle[m - 1 :]
    # The triangle of a tap begins before the tap's own lag. Its powers of the inverse eigenvalue are combined with
    # those of the lag, so that no power exceeds 1.
    first = jnp.sum(taps**2) * (positive_lags - 0.5 * triangle[m - 1])
    if taps.size == 1:
        return first
    all_lags = _powers(values, 2 * m - 1) @ triangle
    step = values if m == 1 else powers[:, m - 1] * values
    # The triangle of tap k begins at lag k m - (m - 1).
    return first + all_lags * values * _positive_lags(step, taps)


def lagged_autocorrelation_of_eigenvalue(values, taps, n_mean, shifts) -> tuple:
    r"""A filter's summed autocovariance at a lag, as two functions of an eigenvalue.

    Parameters
    ----------
    values : Array, shape (n,)
        Eigenvalues.
    taps : Array, shape (n_lag,)
    n_mean : int
        See `modal.covariance_coordinates`.
    shifts : tuple of (int, float)
        Lags [steps] of at least 0, and their weights.

    Returns
    -------
    later, earlier : Array, shape (n,)
        Sums over k of :math:`w(k - L) \lambda^k` and of :math:`w(k + L) \lambda^k`, with the filter's autocorrelation w
        and the lag L. They multiply the covariances of the states at the lags k of the later and of the earlier signal;
        of the term k = 0, each has one half.

    Notes
    -----
    The autocorrelation at steps interpolates that of the taps linearly.
    """
    if shifts == NO_SHIFT:
        both = autocorrelation_of_eigenvalue(values, taps, n_mean)
        return both, both
    at_taps, between = autocorrelation(taps), np.arange(n_mean) / n_mean
    following = jnp.append(at_taps[1:], jnp.zeros(1, taps.dtype))
    at_steps = (jnp.outer(at_taps, 1.0 - between) + jnp.outer(following, between)).ravel() / n_mean
    later, earlier = np.arange(at_steps.size + max(shift for shift, _ in shifts)), np.arange(at_steps.size)

    def coefficients(lags):
        inside = np.abs(lags) < at_steps.size
        return jnp.where(inside, at_steps[np.where(inside, np.abs(lags), 0)], 0.0)

    def of_value(steps, sign):
        total = sum(weight * coefficients(steps + sign * shift) for shift, weight in shifts)
        return polynomial(values, total.at[0].divide(2.0).astype(values.dtype))

    return of_value(later, -1), of_value(earlier, 1)


def _positive_lags(x, taps):
    r"""Sum over the pairs i < j of taps[i] taps[j] x^(j - i - 1), shape (n,).

    Notes
    -----
    The sum over the lags of `autocorrelation` without an FFT, which would keep other programs waiting: see
    `runtime.blocking`. Taps are divided into pieces of about the square root of their number. Pairs within a piece need
    the lags up to its length. Those of two pieces need one sum for each piece, and sums over the pieces before it.
    """
    size = max(2, int(np.sqrt(taps.size)))
    count = -(-taps.size // size)
    pieces = jnp.pad(taps, (0, count * size - taps.size)).reshape(count, size)
    powers = _powers(x, size + 1)
    # Row i of the products is shifted by i, so that pairs of one lag are in a column.
    products = jnp.pad(pieces.T @ pieces, ((0, 0), (0, size))).ravel()
    by_lag = jnp.sum(jnp.pad(products, (0, size)).reshape(size, 2 * size + 1), axis=0)[1:size]
    within = powers[:, : size - 1] @ by_lag
    later, earlier = powers[:, :size] @ pieces.T, powers[:, size - 1 :: -1] @ pieces.T
    # Sum over this piece and those before, with a power for each piece between: lengths double.
    factor, length = powers[:, size:], 1
    while length < count:
        earlier = earlier + factor * jnp.pad(earlier, ((0, 0), (length, 0)))[:, :count]
        factor, length = factor * factor, 2 * length
    return within + jnp.sum(later[:, 1:] * earlier[:, :-1], axis=1)


def autocorrelation(taps) -> jax.Array:
    """Sum over d of taps[d] taps[d + k], for each lag k."""
    n = 1 << (2 * taps.size - 1).bit_length()
    spectrum = jnp.fft.rfft(taps, n)
    return jnp.fft.irfft(jnp.real(spectrum * jnp.conj(spectrum)), n)[: taps.size].astype(taps.dtype)


def sum_of_squared_autocorrelation(taps) -> jax.Array:
    r"""Sum over all lags, positive and negative, of the squared `autocorrelation`, shape ().

    Notes
    -----
    Parseval's theorem: the mean of :math:`|H|^4` over as many frequencies as there are lags, or more. The transform H
    is two products of matrices, as for an FFT of two factors. A call of an FFT would keep other programs waiting: see
    `runtime.blocking`.
    """
    size = math.isqrt(2 * taps.size - 2) + 1
    n_row, n_frequency = -(-taps.size // size), size // 2 + 1
    pieces = jnp.pad(taps, (0, n_row * size - taps.size)).reshape(n_row, size)
    first, second, index = np.arange(n_frequency)[:, None], np.arange(size)[:, None], np.arange(size)
    of_rows, turn = _cos_and_sin(first * index[:n_row] % size / size), _cos_and_sin(first * index / size**2)
    of_columns = _cos_and_sin(second * index % size / size)
    real, imaginary = (each.astype(taps.dtype) @ pieces for each in of_rows)
    real, imaginary = real * turn[0] - imaginary * turn[1], real * turn[1] + imaginary * turn[0]
    cos, sin = (each.astype(taps.dtype) for each in of_columns)
    power = (real @ cos - imaginary @ sin) ** 2 + (real @ sin + imaginary @ cos) ** 2
    # Frequencies of the other half are conjugates of these.
    count = np.where((np.arange(n_frequency) == 0) | (2 * np.arange(n_frequency) == size), 1.0, 2.0)
    return jnp.asarray(count, taps.dtype) @ jnp.sum(power**2, axis=1) / size**2


def _cos_and_sin(turns):
    angle = 2.0 * np.pi * turns
    return np.cos(angle), np.sin(angle)


def _powers(values, n):
    """Powers 0 to n - 1 of each value, shape (n_value, n)."""
    exponents, square = np.arange(n)[None], values[:, None]
    powers = jnp.ones((values.size, n), values.dtype)
    # A product over the bits of the exponents. XLA fuses arrays that are joined again and again into code whose length
    # doubles each time.
    for bit in range((n - 1).bit_length()):
        powers = powers * jnp.where((exponents >> bit) % 2 == 1, square, jnp.ones_like(square))
        square = square * square
    return powers


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
