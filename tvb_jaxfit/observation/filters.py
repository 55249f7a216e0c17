"""Band-pass filter of fMRI studies, differentiable."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import butter, sosfilt_zi

from ..checks.options import check, number, optional
from .signals import read_signals

_ORDER = 2
# Samples by which filtfilt extends a signal at both ends: three times the order of the band-pass.
_PADDING = 3 * 2 * _ORDER


def band_pass(
    bold: ArrayLike, low: float, high: float, period: float, *, clip: float | None = 3.0, skip_t: int = 0
) -> jax.Array:
    """Filter signals to a frequency band, without a shift of phase.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them, of at least 13 samples.
    low, high : float
        Limits of the band [Hz]. Deco's laboratory uses 0.008 to 0.08, 0.01 to 0.09 or 0.02 to 0.1 Hz.
    period : float
        Sampling period [ms].
    clip : float or None, default 3.0
        Samples further from the trend than that many standard deviations are set to the limit; None to keep them.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    filtered : jax.Array of shape (n_time - skip_t, n_node)
        Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        The limits are not 0 < low < high < 500 / period; another option is not allowed; `bold` has masked samples,
        another shape, values that are not finite, or fewer than 13 samples.

    Notes
    -----
    As in WholeBrain, Deco's laboratory: the linear trend is removed; samples are clipped, first from above, then from
    below with the standard deviation of what was clipped; a Butterworth filter of order 2 runs forwards and backwards
    over the signal, which is extended by 12 samples, reflected through the point at either end.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> seconds = np.arange(600)[:, None] * 2.0
    >>> inside, outside = np.sin(2 * np.pi * 0.04 * seconds), np.sin(2 * np.pi * 0.2 * seconds)
    >>> filtered = tj.band_pass(inside + outside, 0.01, 0.09, period=2000.0)
    >>> bool(np.abs(filtered - inside)[100:-100].max() < 0.1)
    True
    """
    positive = number(above=0.0)
    check(
        "band_pass",
        low=(low, positive),
        high=(high, positive),
        period=(period, positive),
        clip=(clip, optional(positive)),
    )
    highest = 500.0 / period
    if not low < high < highest:
        raise ValueError(
            f"band_pass: low = {low:g}, high = {high:g} Hz; give low < high < {highest:g} Hz, half the sampling rate "
            f"of period = {period:g} ms."
        )
    signals = read_signals(bold, "band_pass", skip_t, minimum=_PADDING + 1)
    return _filter(signals, float(low) / highest, float(high) / highest, None if clip is None else float(clip))


@functools.partial(jax.jit, static_argnames=("low", "high", "clip"))
def _filter(signals, low, high, clip):
    """Filtered signals; the limits are in units of half the sampling rate."""
    signals = _detrended(signals)
    if clip is not None:
        signals = jnp.minimum(signals, clip * jnp.std(signals, axis=0, keepdims=True))
        signals = jnp.maximum(signals, -clip * jnp.std(signals, axis=0, keepdims=True))
    # Sections of second order lose far fewer digits in float32 than one polynomial.
    sections = butter(_ORDER, [low, high], btype="bandpass", output="sos")
    steady = sosfilt_zi(sections)
    before = 2.0 * signals[:1] - signals[_PADDING:0:-1]
    after = 2.0 * signals[-1:] - signals[-2 : -_PADDING - 2 : -1]
    forwards = _run(sections, steady, jnp.concatenate([before, signals, after]))
    return _run(sections, steady, forwards[::-1])[::-1][_PADDING:-_PADDING]


def _detrended(signals):
    """Residuals of a straight line in time. Exactly 0 for a constant signal, so that it is recognised afterwards."""
    shifted = signals - jax.lax.stop_gradient(signals[:1])
    time = np.arange(signals.shape[0]) - (signals.shape[0] - 1) / 2.0
    line = jnp.asarray(time / np.linalg.norm(time), signals.dtype)[:, None]
    centred = shifted - jnp.mean(shifted, axis=0, keepdims=True)
    return centred - line * jnp.sum(line * centred, axis=0, keepdims=True)


def _run(sections, steady, signals):
    """Output of sections of second order in series, in the steady state of the first sample at the beginning.

    ``sections`` has rows (b0, b1, b2, 1, a1, a2); ``steady`` is the state of each after a long input of ones.
    """
    coefficients = [[float(value) for value in section] for section in sections]

    def step(states, sample):
        after = []
        for (b0, b1, b2, _, a1, a2), (first, second) in zip(coefficients, states, strict=True):
            output = b0 * sample + first
            after.append((b1 * sample - a1 * output + second, b2 * sample - a2 * output))
            sample = output
        return tuple(after), sample

    start = tuple(tuple(float(value) * signals[0] for value in section) for section in steady)
    return jax.lax.scan(step, start, signals)[1]
