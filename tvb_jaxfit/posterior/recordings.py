r"""Likelihood of recordings: Whittle's, of the Fourier coefficients of their signals.

The Fourier coefficients :math:`d_k` of stationary signals at different frequencies are nearly independent, and complex
normal with the cross-spectral density of the signals as covariance. Their products, averaged over m neighbouring
frequencies and recordings, have a complex Wishart distribution:

.. math:: \log p = \sum_k m_k \left[ -\log\det \pi S_k - \mathrm{tr}(S_k^{-1} \hat S_k) \right] , \qquad
          S_k = g \left(S_{model}(f_k) + \eta\, \mathrm{diag}(v) \right) g

with the gain g of each signal, and observation noise of :math:`\eta` times the mean density v of the signal.

References
----------
Whittle, P. (1953). Arkiv för Matematik 2(5), 423-434.
Friston, K. J. et al. (2014). NeuroImage 94, 396-407: the same data, for dynamic causal models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check
from ..linear_response.response import LinearResponse
from ..runtime.processes import PicklableMixin
from .priors import LogNormalPrior

# Standard deviation of the logarithm of a gain, and median and standard deviation of the logarithm of the noise.
_GAIN_SPREAD, _NOISE, _NOISE_SPREAD = 1.0, 0.05, 1.5
# Relative power from further multiples of the sampling frequency that is left out, and the largest number of these.
_FOLDED, _MAX_ALIASES = 1e-3, 16
# Difference of equal frequencies by rounding [Hz].
_EQUAL = 1e-12
# Names of the further unknowns among the values of a posterior.
GAIN, NOISE = "recordings.gain", "recordings.noise"


class Recordings:
    """Measured signals, as data of a posterior.

    Parameters
    ----------
    signals : array_like or sequence of array_like, each of shape (n_time, n_node)
        Recordings in the order of the regions. Several (sessions, or runs) may differ in length.
    period : float
        Sampling interval [ms]: that of the monitor.
    band : (float, float), optional
        Frequencies that count [Hz]. Choose those that preprocessing has left as they were.
    gain : {"regional", "global", "known"}, optional
        Unknown amplitudes: of each region's signal, of all signals together, or none, for signals in the units of the
        monitor.
    noise : bool, optional
        Observation noise, white and independent in each signal, of unknown strength.
    max_frequencies : int, optional
        Neighbouring frequencies are averaged until there are at most so many.

    Raises
    ------
    ValueError
        Signals that are too short for the band, not finite, constant, or of different numbers of regions.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import Recordings
    >>> signals = np.random.default_rng(0).normal(size=(300, 4))
    >>> Recordings(signals, period=1000.0)
    Recordings(1 of 300 samples, 4 regions, 28 frequencies from 0.01 to 0.1 Hz)
    """

    def __init__(
        self,
        signals,
        period: float,
        band: tuple[float, float] = (0.01, 0.1),
        gain: str = "regional",
        noise: bool = True,
        max_frequencies: int = 32,
    ):
        check(
            "Recordings",
            period=(period, allowed.number(above=0.0)),
            band=(band, allowed.interval),
            gain=(gain, allowed.choice("regional", "global", "known")),
            noise=(noise, allowed.boolean),
            max_frequencies=(max_frequencies, allowed.integer(1)),
        )
        self.signals = _checked(signals)
        self.period, self.band, self.gain = float(period), tuple(map(float, band)), gain
        self.noise, self.max_frequencies = bool(noise), int(max_frequencies)
        self.frequencies, self.counts, self.spectra = _averaged(
            _periodograms(self.signals, self.period, self.band), self.max_frequencies
        )

    @property
    def n_node(self) -> int:
        """Number of regions."""
        return self.signals[0].shape[1]

    def __repr__(self):
        lengths = sorted({len(each) for each in self.signals})
        length = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        return (
            f"Recordings({len(self.signals)} of {length} samples, {self.n_node} regions, {self.frequencies.size} "
            f"frequencies from {self.band[0]:g} to {self.band[1]:g} Hz)"
        )


def _checked(signals) -> list[np.ndarray]:
    """Recordings as a list of (n_time, n_node) arrays."""
    is_list = isinstance(signals, Sequence) and any(np.ndim(one) > 1 for one in signals)
    if not is_list:
        signals = real_array(signals, "Recordings: signals")
    each, wrong = [], []
    for number, one in enumerate(signals if is_list or signals.ndim == 3 else [signals]):
        one = np.asarray(real_array(one, f"Recordings: signals[{number}]"), float)
        each.append(one)
        if one.ndim != 2 or min(one.shape) == 0:
            wrong.append(f"signals[{number}]: shape {one.shape}; give (n_time, n_node)")
        elif not np.all(np.isfinite(one)):
            wrong.append(f"signals[{number}]: {np.sum(~np.isfinite(one))} values are not finite")
        elif np.any(np.ptp(one, axis=0) == 0.0):
            wrong.append(f"signals[{number}]: {np.sum(np.ptp(one, axis=0) == 0.0)} regions are constant")
    if len({one.shape[1:] for one in each}) > 1:
        wrong.append(f"signals: different numbers of regions: {', '.join(str(one.shape) for one in each)}")
    if wrong:
        raise ValueError("Recordings: " + "; ".join(wrong) + ".")
    return each


def _periodograms(signals, period, band):
    """(frequencies [Hz], products of Fourier coefficients [signal^2 / Hz]) of all recordings, in order of frequency."""
    seconds = period / 1000.0
    found = []
    for number, one in enumerate(signals):
        frequencies = np.fft.rfftfreq(len(one), seconds)
        # The mean and, of an even number of samples, the highest frequency are no complex normal variables.
        inside = (frequencies >= band[0]) & (frequencies <= band[1]) & (frequencies > 0.0)
        inside &= frequencies < 0.5 / seconds * (1.0 - 1e-9)
        if not inside.any():
            raise ValueError(
                f"Recordings: signals[{number}]: {len(one)} samples of {period:g} ms have no frequency from "
                f"{band[0]:g} to {band[1]:g} Hz. Give longer signals or a wider band."
            )
        coefficients = np.fft.rfft(one - one.mean(axis=0), axis=0)[inside] * np.sqrt(seconds / len(one))
        found += list(zip(frequencies[inside], coefficients, strict=True))
    found.sort(key=lambda pair: pair[0])
    return np.array([frequency for frequency, _ in found]), np.array([each for _, each in found])


def _averaged(periodograms, n_max):
    """Mean frequencies, number of coefficients, and mean products, of neighbouring frequencies."""
    frequencies, coefficients = periodograms
    # Equal frequencies of recordings stay together.
    starts = np.flatnonzero(np.diff(frequencies, prepend=-1.0) > _EQUAL)
    edges = starts[np.arange(1, n_max) * starts.size // n_max] if starts.size > n_max else starts[1:]
    groups = np.split(np.arange(frequencies.size), edges)
    spectra = [np.einsum("ki,kj->ij", coefficients[group], coefficients[group].conj()) / group.size for group in groups]
    return (
        np.array([frequencies[group].mean() for group in groups]),
        np.array([group.size for group in groups]),
        np.array(spectra),
    )


@dataclass(frozen=True, eq=False)
class ObservedRecordings(PicklableMixin):
    """Recordings as data of a monitor.

    Attributes
    ----------
    recordings : Recordings
    monitor : int
        Index of the monitor.
    n_alias : int
        Number of multiples of the sampling frequency from which power is folded in.
    spectra : ndarray of complex, shape (n_frequency, n_node, n_node), or None
        Measured cross-spectra; None for those of the recordings.
    """

    recordings: Recordings
    monitor: int
    n_alias: int = _MAX_ALIASES
    spectra: np.ndarray | None = field(default=None, repr=False)

    @property
    def n_data(self) -> int:
        """Number of data: real and imaginary parts of Fourier coefficients."""
        return 2 * int(self.recordings.counts.sum()) * self.recordings.n_node

    def at(self, response: LinearResponse) -> "ObservedRecordings":
        """The same data, with as many multiples of the sampling frequency as a response needs."""
        omega = 2.0 * np.pi * self.recordings.frequencies * self.recordings.period / 1000.0
        of_aliases, own = response.system.aliased_spectra(response, omega, self.monitor, _MAX_ALIASES)
        power = np.real(np.diagonal(np.asarray(of_aliases), axis1=2, axis2=3))
        total = power.sum(axis=1) + np.diagonal(np.asarray(own))
        # Both neighbours of a frequency at a time.
        left_out = np.array([(power[:, 1 + 2 * n :].sum(axis=1) / total).max() for n in range(_MAX_ALIASES + 1)])
        return ObservedRecordings(self.recordings, self.monitor, int(np.argmax(left_out < _FOLDED)))

    def nuisance(self, response: LinearResponse) -> dict:
        """Prior and start of each further unknown, by name: {name: (Prior, ndarray)}."""
        recordings, found = self.recordings, {}
        weights = recordings.counts / recordings.counts.sum()
        modelled = weights @ np.real(np.diagonal(np.asarray(self._modelled(response)), axis1=1, axis2=2))
        measured = weights @ np.real(np.diagonal(recordings.spectra, axis1=1, axis2=2))
        ratio = np.sqrt(measured / modelled)
        if recordings.gain != "known":
            start = ratio if recordings.gain == "regional" else np.exp([np.mean(np.log(ratio))])
            found[GAIN] = LogNormalPrior(start, np.asarray(_GAIN_SPREAD)), start
        if recordings.noise:
            start = np.array([_NOISE])
            found[NOISE] = LogNormalPrior(np.asarray(_NOISE), np.asarray(_NOISE_SPREAD)), start
        return found

    def log_likelihood(self, response: LinearResponse, nuisance: dict) -> jax.Array:
        """Logarithm of the likelihood, shape ().

        Parameters
        ----------
        response : LinearResponse
        nuisance : dict of str to Array
            Values of the further unknowns.
        """
        spectra, counts = self._modelled(response), self.recordings.counts
        dtype = jnp.real(spectra).dtype
        counts = jnp.asarray(counts, dtype)
        if NOISE in nuisance:
            power = jnp.real(jnp.diagonal(spectra, axis1=1, axis2=2))
            noise = nuisance[NOISE][0] * (counts / jnp.sum(counts)) @ power
            spectra = spectra + jnp.diag(noise)[None].astype(spectra.dtype)
        measured = jnp.asarray(self.recordings.spectra if self.spectra is None else self.spectra, spectra.dtype)
        log_gain = jnp.zeros((), dtype)
        if GAIN in nuisance:
            gain = jnp.broadcast_to(nuisance[GAIN], spectra.shape[1:2])
            measured = measured / (gain[:, None] * gain[None, :]).astype(spectra.dtype)[None]
            log_gain = 2.0 * jnp.sum(jnp.log(gain))

        def of_frequency(both):
            modelled, measured = both
            factor = jnp.linalg.cholesky(modelled)
            whitened = jax.scipy.linalg.cho_solve((factor, True), measured)
            log_det = 2.0 * jnp.sum(jnp.log(jnp.real(jnp.diagonal(factor))))
            return log_det + jnp.real(jnp.trace(whitened))

        each = jax.lax.map(of_frequency, (spectra, measured))
        return -jnp.sum(counts * (each + log_gain + self.recordings.n_node * np.log(np.pi)))

    def _modelled(self, response):
        return response.cross_spectra(self.recordings.frequencies, self.monitor, self.n_alias)

    @property
    def arrays(self) -> dict:
        """See `Data`."""
        return {"spectra": self.recordings.spectra}

    @property
    def structure(self) -> tuple:
        """See `Data`."""
        given = self.recordings
        grid = given.frequencies.tobytes(), given.counts.tobytes(), given.period
        return self.monitor, self.n_alias, given.gain, given.noise, *grid

    def is_same(self, other) -> bool:
        """True for the same Fourier coefficients."""
        if not isinstance(other, ObservedRecordings):
            return False
        return np.array_equal(self.recordings.spectra, other.recordings.spectra)

    def __str__(self):
        return f"recordings: {self.recordings.counts.sum()} Fourier coefficients of {self.recordings.n_node} regions"
