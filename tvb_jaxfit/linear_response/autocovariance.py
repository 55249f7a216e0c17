"""Covariances of a monitor's samples at all lags, from cross-spectra at the few frequencies of a quadrature."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .quadrature import frequency_grids, mean_gain

# Relative error of variances at which a sum over equidistant frequencies is accepted, and part of the variance above
# the highest of them.
_ACCURACY, _ABOVE = 1e-5, 1e-8
# Autocorrelation below which later lags are left out.
_NEGLIGIBLE = 1e-4
# Shortest period of the sum, in correlation times, and the number of times that it may be doubled.
_PERIOD, _MAX_DOUBLINGS = 20.0, 8


@dataclass(frozen=True, eq=False)
class Autocovariance:
    r"""Covariances of samples at all lags, as sums of few matrices.

    Attributes
    ----------
    even, odd : ndarray, shape (n_lag, m)
        Weights at the lags 0, 1, ... samples. Later covariances are negligible.
    symmetric, antisymmetric : ndarray, shape (m, n, n)
        Matrices.

    Notes
    -----
    At a lag :math:`\tau`, :math:`\Gamma_{ij}(\tau) = \mathrm{cov}(x_i(t + \tau), x_j(t))` is
    :math:`\sum_m e_m(\tau) A_m + o_m(\tau) B_m`, with symmetric A and antisymmetric B, so that
    :math:`\Gamma(-\tau) = \Gamma(\tau)^\top`.
    """

    even: np.ndarray
    symmetric: np.ndarray
    odd: np.ndarray
    antisymmetric: np.ndarray

    def __call__(self, lag: int) -> np.ndarray:
        """Covariance at a lag of at least 0 [samples], shape (n, n)."""
        if lag >= len(self.even):
            return np.zeros(self.symmetric.shape[1:])
        return np.tensordot(self.even[lag], self.symmetric, 1) + np.tensordot(self.odd[lag], self.antisymmetric, 1)

    def with_white_noise(self, covariance: np.ndarray) -> "Autocovariance":
        """The same samples, with independent noise of each sample added: of covariance (n, n)."""
        if not np.any(covariance):
            return self
        at_zero = (np.arange(len(self.even)) == 0)[:, None]
        symmetric = np.concatenate([self.symmetric, covariance[None]])
        return replace(self, even=np.hstack([self.even, at_zero]), symmetric=symmetric)


def autocovariance(
    spectra: Callable,
    delays: np.ndarray | None,
    dt: float,
    filtering: tuple | None,
    covariance,
    noise,
    istep: int,
    correlation_time,
) -> Autocovariance:
    """Covariances of samples at all lags.

    Parameters
    ----------
    spectra : callable
        Function of frequencies (n,) [rad per step] to cross-spectra (n, n_signal, n_signal), before the filter.
    delays : ndarray of int, or None
        [steps]
    dt : float
        [ms]
    filtering : (int, Array) or None
        Filter ``(n_mean, taps)``, see `modal.covariance_coordinates`; None if the spectra have the monitor's response.
    covariance, noise : Array, shape (n_signal, n_signal)
        Covariance of the samples, which is known already, and the part of it that is independent in each sample.
    istep : int
        Sampling period [steps].
    correlation_time : Array, shape ()
        Longest correlation time of the states [ms].

    Returns
    -------
    Autocovariance

    Notes
    -----
    The sum over equidistant frequencies is exact apart from covariances at lags of its period or more. The spectra
    are interpolated to these frequencies, so that each takes part in a sum of few numbers only.
    """
    n_mean, taps = (1, np.ones(1)) if filtering is None else (filtering[0], np.asarray(filtering[1], float))
    covariance, noise = np.asarray(covariance), np.asarray(noise, float)
    variance = np.diagonal(covariance - noise)
    cycle = math.lcm(istep, n_mean)
    shortest = 2 * max(n_mean * taps.size, istep) + _PERIOD * float(correlation_time) / dt
    first, found, error = max(1, math.ceil(math.log2(shortest / cycle))), None, np.inf
    for grid in frequency_grids(dt, delays, filtering is None):
        values = np.asarray(spectra(np.asarray(grid.theta, covariance.dtype)))
        own = np.real(np.diagonal(values, axis1=1, axis2=2))
        for doubling in range(_MAX_DOUBLINGS):
            period = cycle * 2 ** (first + doubling)
            even, odd = _weights(grid, n_mean, taps, own.sum(axis=1), period, istep)
            correlations = even @ own / variance
            candidate = float(np.max(np.abs(correlations[0] - 1.0)))
            if not candidate < error:
                break
            n_lag = 1 + np.flatnonzero(np.max(np.abs(correlations), axis=1) > _NEGLIGIBLE)[-1]
            found = Autocovariance(even[:n_lag], np.real(values), odd[:n_lag], np.imag(values))
            error = candidate
            if error < _ACCURACY:
                return found.with_white_noise(noise)
    return found.with_white_noise(noise)


def _weights(grid, n_mean, taps, power, period, istep):
    """Weights of the spectra at a grid in the covariance at each lag, of their real and of their imaginary parts."""
    theta = 2.0 * np.pi * np.arange(period // 2 + 1) / period
    # The response of the taps is periodic in frequency.
    of_taps = np.abs(np.fft.fft(taps, period // n_mean)) ** 2
    gain = of_taps[np.arange(theta.size) % of_taps.size] * mean_gain(theta, n_mean) ** 2
    at_nodes = np.interp(grid.theta, theta, gain) * power * grid.weight
    above = np.cumsum(at_nodes[::-1])[::-1]
    n_theta = np.searchsorted(theta, grid.theta[np.flatnonzero(above > _ABOVE * above[0])[-1]], side="right")
    factor = 2.0 * gain[: max(n_theta, 2)] / period
    factor[0] /= 2.0
    if factor.size == theta.size and period % 2 == 0:
        factor[-1] /= 2.0
    # Frequencies that differ by a multiple of the sampling frequency are the same in samples.
    n_sample, size = period // istep, grid.theta.size
    even, odd = np.zeros((2, n_sample, size))
    for start in range(0, factor.size, n_sample):
        piece = slice(start, min(start + n_sample, factor.size))
        count, weight = piece.stop - start, factor[piece, None]
        even[:count] += weight * grid.interpolation(theta[piece])
        odd[:count] += weight * grid.interpolation(theta[piece], -1)
    n_lag = n_sample // 2 + 1
    return np.real(np.fft.fft(even, axis=0))[:n_lag], np.imag(np.fft.fft(odd, axis=0))[:n_lag]
