"""Power and cross spectra of signals by Welch's method."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.options import check, integer, number, optional
from .signals import read_signals
from .windows import all_windows

_LONGEST_SEGMENT = 256


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Spectrum:
    """Spectral density of signals, as `power_spectrum` and `cross_spectrum` return it; a pytree.

    Attributes
    ----------
    frequencies : jax.Array of shape (n_frequency,)
        From 0 to half the sampling rate [Hz].
    density : jax.Array of shape (n_frequency, n_node) or (n_frequency, n_node, n_node)
        One-sided density [signal^2 / Hz].
    """

    frequencies: jax.Array
    density: jax.Array


def power_spectrum(bold: ArrayLike, period: float, segment: int | None = None, skip_t: int = 0) -> Spectrum:
    r"""Power spectral density of each signal.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them.
    period : float
        Sampling period [ms].
    segment : int, optional
        Length of a segment [samples]; the resolution in frequency is ``1000 / (segment * period)`` Hz. By default 256,
        or all samples if there are fewer.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    spectrum : Spectrum
        Density of shape (n_frequency, n_node). Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        An option is not allowed; `bold` has masked samples, another shape, values that are not finite, or fewer samples
        than a segment.

    Notes
    -----
    Welch's method: the mean over segments, which overlap by half, of the squared Fourier transform of the deviations
    from the segment's mean, multiplied by a Hann window. The numbers are those of ``scipy.signal.welch``.

    References
    ----------
    Welch, P. D. (1967). IEEE Trans. Audio Electroacoust. 15(2), 70-73.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> seconds = np.arange(512)[:, None] * 0.5
    >>> spectrum = tj.power_spectrum(np.sin(2 * np.pi * 0.25 * seconds), period=500.0)
    >>> float(spectrum.frequencies[spectrum.density[:, 0].argmax()])
    0.25
    """
    frequencies, transforms, scale = _segment_transforms("power_spectrum", bold, period, segment, skip_t)
    power = jnp.mean(jnp.square(jnp.real(transforms)) + jnp.square(jnp.imag(transforms)), axis=0)
    return Spectrum(frequencies, power * scale[:, None])


def cross_spectrum(bold: ArrayLike, period: float, segment: int | None = None, skip_t: int = 0) -> Spectrum:
    r"""Cross spectral density of all pairs of signals.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them.
    period : float
        Sampling period [ms].
    segment : int, optional
        Length of a segment [samples], as in `power_spectrum`.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    spectrum : Spectrum
        Complex density of shape (n_frequency, n_node, n_node), Hermitian in the nodes; `power_spectrum` is its
        diagonal. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        As in `power_spectrum`.

    Notes
    -----
    :math:`S_{ij} = \langle X_i X_j^* \rangle`, the Fourier transform of `lagged_covariance` over the lags: the phase of
    :math:`S_{ij}` is negative where i lags behind j. It is ``scipy.signal.csd(x_j, x_i)``.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> seconds = np.arange(512) * 0.5
    >>> phase = 2 * np.pi * 0.25 * seconds
    >>> bold = np.stack([np.sin(phase), np.sin(phase - np.pi / 2)], axis=1)
    >>> spectrum = tj.cross_spectrum(bold, period=500.0)
    >>> peak = spectrum.density[32]
    >>> float(spectrum.frequencies[32]), round(float(np.angle(peak[1, 0]) / np.pi), 6)
    (0.25, -0.5)
    """
    frequencies, transforms, scale = _segment_transforms("cross_spectrum", bold, period, segment, skip_t)
    cross = jnp.einsum("sfi,sfj->fij", transforms, jnp.conj(transforms), precision="highest") / transforms.shape[0]
    return Spectrum(frequencies, cross * scale[:, None, None].astype(cross.dtype))


def _segment_transforms(owner, bold, period, segment, skip_t):
    """Frequencies [Hz], Fourier transforms (n_segment, n_frequency, n_node), and their factor in a density."""
    check(owner, period=(period, number(above=0.0)), segment=(segment, optional(integer(2))))
    length = 2 if segment is None else int(segment)
    signals = read_signals(bold, "a spectrum" if segment is None else f"a segment of {length}", skip_t, minimum=length)
    length = min(_LONGEST_SEGMENT, signals.shape[0]) if segment is None else length
    starts = np.array([start for start, _ in all_windows(signals.shape[0], length, length - length // 2)])
    segments = signals[starts[:, None] + np.arange(length)]
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    centred = segments - jnp.mean(segments, axis=1, keepdims=True)
    transforms = jnp.fft.rfft(centred * jnp.asarray(hann[None, :, None], signals.dtype), axis=1)
    # One-sided: each frequency also stands for its negative, except 0 and half the sampling rate.
    sides = np.full(length // 2 + 1, 2.0)
    sides[0] = 1.0
    if length % 2 == 0:
        sides[-1] = 1.0
    scale = sides * (period / 1000.0) / np.sum(hann**2)
    frequencies = np.fft.rfftfreq(length, period / 1000.0)
    return jnp.asarray(frequencies, signals.dtype), transforms, jnp.asarray(scale, signals.dtype)
