r"""Covariances of the sampling errors of a recording's FC, between all pairs of correlations.

For a stationary Gaussian process with the covariances :math:`\Gamma_{ij}(\tau) = \mathrm{cov}(x_i(t + \tau), x_j(t))`,
the covariances :math:`\hat c_{ij}` that are estimated from T samples have

.. math::
    \mathrm{cov}(\hat c_{ij}, \hat c_{kl}) = \frac{1}{T} \sum_\tau \left(1 - \frac{|\tau|}{T}\right)
    \left(\Gamma_{ik}(\tau)\, \Gamma_{jl}(\tau) + \Gamma_{il}(\tau)\, \Gamma_{jk}(\tau)\right),

and the correlations have, to first order, :math:`d\hat r_{ij} = d\hat c_{ij} - \frac{r_{ij}}{2} (d\hat c_{ii} +
d\hat c_{jj})` for signals of unit variance. Fisher's z is :math:`\mathrm{artanh}\, r`, so that
:math:`dz = dr / (1 - r^2)`.

References
----------
Bartlett, M. S. (1946). Supplement to J. R. Stat. Soc. 8(1), 27-41.
Roy, R. (1989). Asymptotic covariance structure of serial correlations in multivariate time series. Biometrika 76(4),
824-827.
Afyouni, S., Smith, S. M., Nichols, T. E. (2019). NeuroImage 199, 609-625.
"""

import numpy as np

from ..linear_response.autocovariance import Autocovariance

# Singular values of the covariances at all lags, relative to the largest, that are left out.
_RANK_TOLERANCE = 1e-8
# Variance of the terms of second order, in units of the squared variance of first order: of independent samples, the
# variance of z is 1 / (T - 3) = 1 / T + 3 / T^2 + ...
_SECOND_ORDER = 3.0


def fisher_z_covariance(
    autocovariance: Autocovariance, n_samples: int, pairs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Covariance matrix of the Fisher z of a recording's FC, to first order in 1 / n_samples.

    Parameters
    ----------
    autocovariance : Autocovariance
        Of n signals.
    n_samples : int
        Number of samples of the recording.
    pairs : (ndarray of int, ndarray of int), each of shape (n_pair,)
        First and second signal of each pair.

    Returns
    -------
    ndarray, shape (n_pair, n_pair)
    """
    variance = np.diagonal(autocovariance(0))
    scale = 1.0 / np.sqrt(np.outer(variance, variance))
    factors = _factors(autocovariance, n_samples) * scale
    first, second = pairs
    r = (autocovariance(0) * scale)[first, second]
    of_pairs = _covariance_of_pairs(factors, first, second)
    # With the variance of each signal, (n_pair, n); and of the variances with each other.
    with_variances = 2.0 * np.einsum("mpk,mpk->pk", factors[:, first], factors[:, second])
    of_variances = 2.0 * np.einsum("mik,mik->ik", factors, factors)
    through_second = with_variances[:, first] + with_variances[:, second]
    rows = of_variances[first] + of_variances[second]
    both = rows[:, first] + rows[:, second]
    half = 0.5 * r
    of_r = of_pairs - through_second * half - (through_second * half).T + np.outer(half, half) * both
    slope = 1.0 / (1.0 - r**2)
    return of_r * np.outer(slope, slope) / n_samples


def with_second_order(covariance: np.ndarray) -> np.ndarray:
    """Covariance matrix of z with independent errors of second order in 1 / n_samples on its diagonal.

    Parameters
    ----------
    covariance : ndarray, shape (n_pair, n_pair)
        To first order.

    Returns
    -------
    ndarray, shape (n_pair, n_pair)

    Notes
    -----
    The FC of many regions is nearly of low rank, so that to first order some combinations of correlations have
    hardly any error. Terms of second order, such as those of the normalisation by estimated variances and of Fisher's
    transformation, do not vanish there. Their variance is 3 times the square of that of first order for independent
    samples; errors of this size, independent in all pairs, keep these combinations from counting as exactly known.
    """
    return covariance + np.diag(_SECOND_ORDER * np.diagonal(covariance) ** 2)


def _factors(autocovariance, n_samples):
    """Matrices G (m, n, n): the weighted sum over lags of Gamma_ac Gamma_bd is the sum over m of G_ac G_bd."""
    n_lag = min(len(autocovariance.even), n_samples)
    lags = np.arange(n_lag)
    # Both signs of a lag: products of even and odd parts cancel.
    weight = np.where(lags == 0, 1.0, 2.0) * (1.0 - lags / n_samples)
    parts = (autocovariance.even, autocovariance.symmetric), (autocovariance.odd, autocovariance.antisymmetric)
    factors = []
    for weights, matrices in parts:
        size = np.sqrt(np.sum(matrices**2, axis=(1, 2)))
        scaled = np.sqrt(weight)[:, None] * weights[:n_lag] * size
        _, singular, right = np.linalg.svd(scaled, full_matrices=False)
        factors.append((singular, right / np.where(size > 0.0, size, 1.0), matrices))
    largest = max(singular.max() for singular, _, _ in factors)
    kept = [(s > _RANK_TOLERANCE * largest, s, right, matrices) for s, right, matrices in factors]
    return np.concatenate([np.tensordot(s[k, None] * right[k], matrices, 1) for k, s, right, matrices in kept])


def _covariance_of_pairs(factors, first, second):
    """Sum over m of G_ik G_jl + G_il G_jk, for pairs (i, j) and (k, l)."""
    m, n, _ = factors.shape
    columns, found = factors.reshape(m, n * n), np.empty((first.size, first.size))
    for i in np.unique(first):
        rows = np.flatnonzero(first == i)
        # Axes k, j, l: all pairs of the same first signal at once.
        products = (factors[:, i].T @ columns).reshape(n, n, n)[:, second[rows]]
        found[rows] = products[first, :, second].T + products[second, :, first].T
    return found
