"""BOLD kernels, and their application at the sampling times alone."""

import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np


def first_order_volterra(t, tau_s, tau_f, k_1, V_0):
    r"""First-order Volterra kernel of the balloon model.

    Parameters
    ----------
    t : Array, shape (n,)
        Time [s].
    tau_s, tau_f : Array, scalar
        Decay [s] and oscillation [s^2] of the kernel.
    k_1, V_0 : Array, scalar
        Scale of the BOLD signal: they act after the convolution, not here.

    Returns
    -------
    Array, shape (n,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.FirstOrderVolterra``. NaN, as there, where 1/tau_f < 1/(4 tau_s^2).

    .. math:: G(t) = \tfrac13 e^{-t / 2 \tau_s} \sin(\omega t) / \omega, \quad \omega^2 = 1/\tau_f - 1/(4 \tau_s^2)

    References
    ----------
    Friston, K. et al. (2000). NeuroImage 12, 466-477.
    """
    omega = jnp.sqrt(1.0 / tau_f - 1.0 / (4.0 * tau_s**2))
    return 1.0 / 3.0 * jnp.exp(-0.5 * (t / tau_s)) * jnp.sin(omega * t) / omega


def gamma(t, tau, n, a):
    r"""Gamma kernel, scaled to the peak ``a``: t^(n-1) exp(-t / tau).

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    tau, n, a : Array, scalar
        Time constant [s], order, peak.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.Gamma``. Its factorial cancels in the scaling, and is no parameter.

    References
    ----------
    Boynton, G. M. et al. (1996). J. Neurosci. 16, 4207-4221.
    """
    return a * _to_peak(_power(t / tau, n - 1.0) * jnp.exp(-(t / tau)))


def double_exponential(t, tau_1, f_1, amp_1, tau_2, f_2, amp_2, a, pi):
    """Difference of two damped sines, scaled to the peak ``a``.

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    tau_1, f_1, amp_1, tau_2, f_2, amp_2 : Array, scalar
        Time constants [s], frequencies [Hz] and amplitudes.
    a, pi : Array, scalar
        Peak; and pi, which TVB keeps among the parameters.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.DoubleExponential``.

    References
    ----------
    Polonsky, A. et al. (2000). Nat. Neurosci. 3, 1153-1159.
    """
    first = amp_1 * jnp.exp(-t / tau_1) * jnp.sin(2.0 * pi * f_1 * t)
    return a * _to_peak(first - amp_2 * jnp.exp(-t / tau_2) * jnp.sin(2.0 * pi * f_2 * t))


def mixture_of_gammas(t, a_1, a_2, l, c):  # noqa: E741 (TVB's name)
    """Difference of two gamma densities.

    Parameters
    ----------
    t : Array, shape (n_time,)
        Time [s].
    a_1, a_2, l, c : Array, scalar
        Two shapes, rate [1/s], and the weight of the undershoot.

    Returns
    -------
    Array, shape (n_time,)

    Notes
    -----
    TVB class: ``tvb.datatypes.equations.MixtureOfGammas``. Its gamma_a_1 and gamma_a_2 follow from a_1 and a_2.

    References
    ----------
    Glover, G. (1999). NeuroImage 9, 416-429.
    """
    return gamma_density(l * t, a_1) - c * gamma_density(l * t, a_2)


def gamma_density(x, a):
    """Density of the gamma distribution of shape ``a`` at x >= 0, with finite derivatives at 0."""
    return _power(x, a - 1.0) * jnp.exp(-x) / jnp.exp(special.gammaln(a))


def _power(x, exponent):
    """x ** exponent for x >= 0, its derivative in the exponent 0 at x = 0."""
    positive = x > 0.0
    at_zero = jnp.where(exponent == 0.0, 1.0, jnp.where(exponent > 0.0, 0.0, jnp.inf))
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, at_zero)


def _to_peak(pattern):
    return pattern / jnp.max(pattern)


# Pieces that a kernel is cut into: enough for little waste at its end, few enough for large matrix products.
PIECES = 5


def filter_at(kernel, past, signal, ends):
    """Causal filter of a signal, evaluated at some of its samples only.

    out[s] = sum over d of kernel[d] signal[ends[s] - d]

    Parameters
    ----------
    kernel : Array, shape (n_lag,)
    past : Array, shape (n_lag, n)
        Samples before the signal, -n_lag to -1.
    signal : Array, shape (n_time, n)
    ends : ndarray of int, shape (n_sample,), not decreasing, each >= -1
        Known before tracing.

    Returns
    -------
    Array, shape (n_sample, n)

    Notes
    -----
    Signal and kernel are cut into blocks, and samples are sums of products of a piece of the kernel and a block of the
    signal. Where samples are evenly spaced, as they nearly always are, blocks are whole sampling periods, and one
    small matrix, all pieces of the kernel one above the other, meets every block.
    """
    n_lag, n = past.shape
    lags, rows, n_blocks, back = _banded_layout(n_lag, tuple(int(end) + n_lag for end in ends))
    size = lags.shape[-1]
    bands = _at(kernel, lags)
    blocks = _blocks(past, signal[: ends[-1] + 1], size, n_blocks + back)
    if len(bands) == 1:
        products = jnp.concatenate([met(bands[0], part) for part in blocks])
        return gathered(products)[rows]
    whole = jnp.concatenate(blocks)
    past = (whole[back - j : back + n_blocks - j] for j in range(back + 1))
    return sum(jnp.einsum("brq,bqf->brf", bands[:, j], part) for j, part in enumerate(past)).reshape(-1, n)[rows]


def pieces(kernel, period, size):
    """Pieces of a kernel for a signal in blocks of a size, sampled at the end of each period.

    Parameters
    ----------
    kernel : Array, shape (n_lag,)
    period, size : int
        Samples of the signal between samples of the filter, and in a block: some periods.

    Returns
    -------
    Array, shape (1 + blocks that the kernel reaches back, size // period, size)
        For each block and each sample in it, what it takes of a block so far back.
    """
    slots = np.arange(period - 1, size, period)
    return _at(kernel, _lags(slots, -(-(kernel.shape[0] - 1) // size), size))


def met(bands, blocks):
    """Products of the pieces of a kernel (1 + back, n_slot, size) and blocks of a signal (n_block, size, n).

    Returns
    -------
    Array, shape (n_block, 1 + back, n_slot, n)
    """
    flat = bands.reshape(-1, bands.shape[-1])
    # Block by block: as one product XLA would transpose the signal first.
    products = jnp.broadcast_to(flat, (blocks.shape[0], *flat.shape)) @ blocks
    return products.reshape(blocks.shape[0], *bands.shape[:2], blocks.shape[-1])


def gathered(products):
    """Samples (n_sample, n) from the products of all blocks, those that the kernel reaches back to before the first."""
    back, n = products.shape[1] - 1, products.shape[-1]
    n_block = products.shape[0] - back
    return sum(products[back - j : back + n_block - j, j] for j in range(back + 1)).reshape(-1, n)


def early(past, size, back):
    """The last blocks (back, size, n) of what was before a signal, zeros before it."""
    return _blocks(past, past[:0], size, back)[0]


def _at(kernel, lags):
    n_lag = kernel.shape[0]
    return jnp.where((lags >= 0) & (lags < n_lag), kernel[np.clip(lags, 0, n_lag - 1)], 0.0)


def _lags(slots, back, size):
    """Lag of every (..., blocks back, slot, time in block), for samples at ``slots`` (..., n_slot) of each block."""
    return slots[..., None, :, None] + size * np.arange(back + 1)[:, None, None] - np.arange(size)


def _blocks(past, signal, size, n_blocks):
    """The last blocks of what was before and of a signal; apart, where no block has of both, as joining copies them."""
    n_time, n = signal.shape
    if n_time % size:
        past, signal = jnp.concatenate([past, signal]), signal[:0]
    n_past = n_blocks * size - signal.shape[0]
    if n_past <= 0:
        return [signal[-n_blocks * size :].reshape(n_blocks, size, n)]
    past = jnp.pad(past[-n_past:], ((max(0, n_past - past.shape[0]), 0), (0, 0)))
    parts = [past.reshape(-1, size, n), signal.reshape(-1, size, n)]
    return [part for part in parts if part.shape[0]]


def _banded_layout(n_lag, ends):
    """Lag of every (block, blocks back, sample in block, time in block), and the rows that are real samples."""
    ends = np.asarray(ends)
    spacing = np.diff(ends)
    even = bool(np.all(spacing == max(1, spacing[0]))) if spacing.size else True
    size = max(1, -(-n_lag // PIECES))
    if even:
        period = int(spacing[0]) if spacing.size else size
        size = period * -(-size // period)
    back = -(-(n_lag - 1) // size)
    n_blocks = -(-(int(ends[-1] - ends[0]) + 1) // size)
    # The last sample sits at the end of the last block.
    place = ends - ends[-1] + (back + n_blocks) * size - 1
    if even:
        slots = np.arange(period - 1, size, period)[None]
        rows = np.arange(n_blocks * slots.size)[-ends.size :]
    else:
        block, counts = place // size, np.bincount(place // size - back, minlength=n_blocks)
        slots = np.full((n_blocks, counts.max()), -n_lag - size * (back + 1))
        column = np.concatenate([np.arange(count) for count in counts])
        slots[block - back, column] = place % size
        rows = (block - back) * slots.shape[1] + column
    return _lags(slots, back, size), rows, n_blocks, back
