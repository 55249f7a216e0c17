"""Covariances of a monitor's samples at all lags, from cross-spectra at the few frequencies of a quadrature."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .quadrature import FrequencyGrid, mean_gain

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
    grids: Sequence[FrequencyGrid],
    filtering: tuple[int, np.ndarray],
    variance: np.ndarray,
    istep: int,
    correlation_time: float,
) -> Autocovariance:
    """Covariances of samples at all lags.

    Parameters
    ----------
    spectra : callable
        Function of frequencies (n,) [rad per step] to cross-spectra, ndarray of complex (n, n_signal, n_signal), before
        the filter.
    grids : sequence of FrequencyGrid
        The coarsest first; a finer one is used if the variances of all before it are inaccurate.
    filtering : (int, ndarray)
        Filter ``(n_mean, taps)``: see `modal.covariance_coordinates`.
    variance : ndarray, shape (n_signal,)
        Variances of the signals, which are known already.
    istep : int
        Sampling period [steps].
    correlation_time : float
        Longest correlation time of the states [steps].

    Returns
    -------
    Autocovariance

    Notes
    -----
    The sum over equidistant frequencies is exact apart from covariances at lags of its period or more. The spectra
    are interpolated to these frequencies, so that each takes part in a sum of few numbers only.
    """
    n_mean, taps = filtering
    cycle = math.lcm(istep, n_mean)
    shortest = 2 * max(n_mean * taps.size, istep) + _PERIOD * correlation_time
    first, found, error = int(np.ceil(np.log2(shortest / cycle))), None, np.inf
    for grid in grids:
        values = spectra(grid.theta)
        own = np.real(np.diagonal(values, axis1=1, axis2=2))
        for doubling in range(_MAX_DOUBLINGS):
            period = cycle * 2 ** max(first + doubling, 1)
            even, odd = _weights(grid, filtering, own.sum(axis=1), period, istep)
            correlations = even @ own / variance
            candidate = float(np.max(np.abs(correlations[0] - 1.0)))
            if not candidate < error:
                break
            last = 1 + np.flatnonzero(np.max(np.abs(correlations), axis=1) > _NEGLIGIBLE)[-1]
            found = Autocovariance(even[:last], np.real(values), odd[:last], np.imag(values))
            error = candidate
            if error < _ACCURACY:
                return found
    return found


def _weights(grid, filtering, power, period, istep):
    """Weights of the spectra at a grid in the covariance at each lag, of their real and of their imaginary parts."""
    n_mean, taps = filtering
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
