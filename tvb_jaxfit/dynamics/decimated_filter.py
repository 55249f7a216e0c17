"""Causal FIR filter of a time series, evaluated only at the sampling times (BOLD)."""

import jax
import jax.numpy as jnp
import numpy as np

# Number of blocks that a kernel is divided into: enough that little of the last one is wasted, few enough for large
# matrix products.
KERNEL_BLOCKS = 5


def filter_at(kernel: jax.Array, past: jax.Array, signal: jax.Array, ends: np.ndarray) -> jax.Array:
    """Causal filter of a signal, evaluated at some of its samples.

    out[s] = sum over d of kernel[d] signal[ends[s] - d]

    Parameters
    ----------
    kernel : Array, shape (n_lag,)
    past : Array, shape (n_lag, n)
        Samples -n_lag to -1, which precede the signal.
    signal : Array, shape (n_time, n)
    ends : ndarray of int, shape (n_sample,)
        Indices of the samples, not decreasing, each >= -1; known before tracing.

    Returns
    -------
    Array, shape (n_sample, n)

    Notes
    -----
    Signal and kernel are divided into blocks; an output is a sum of products of a kernel block and a signal block. For
    evenly spaced samples, which is the usual case, blocks are whole sampling periods, and one small matrix, the stack
    of all kernel blocks, multiplies every signal block.
    """
    n_lag, n = past.shape
    lags, rows, n_blocks, reach = _banded_layout(n_lag, tuple(int(end) + n_lag for end in ends))
    size = lags.shape[-1]
    bands = _take_or_zero(kernel, lags)
    blocks = _blocks(past, signal[: ends[-1] + 1], size, n_blocks + reach)
    if len(bands) == 1:
        products = jnp.concatenate([block_products(bands[0], part) for part in blocks])
        return overlap_add(products)[rows]
    series = jnp.concatenate(blocks)
    shifted = (series[reach - j : reach + n_blocks - j] for j in range(reach + 1))
    return sum(jnp.einsum("brq,bqf->brf", bands[:, j], part) for j, part in enumerate(shifted)).reshape(-1, n)[rows]


def kernel_blocks(kernel: jax.Array, period: int, size: int) -> jax.Array:
    """Kernel in blocks, for a signal in blocks of ``size`` and outputs at the end of each period.

    Parameters
    ----------
    kernel : Array, shape (n_lag,)
    period, size : int
        Samples of the signal per output, and per block: a multiple of ``period``.

    Returns
    -------
    Array, shape (1 + reach, size // period, size)
        Weights of the samples of a block, for each output of the block ``reach`` or fewer blocks later.
    """
    slots = np.arange(period - 1, size, period)
    return _take_or_zero(kernel, _lags(slots, -(-(kernel.shape[0] - 1) // size), size))


def block_products(bands: jax.Array, blocks: jax.Array) -> jax.Array:
    """Products of kernel blocks (1 + reach, n_slot, size) and signal blocks (n_block, size, n).

    Returns
    -------
    Array, shape (n_block, 1 + reach, n_slot, n)
    """
    flat = bands.reshape(-1, bands.shape[-1])
    # A batched product: for a single one XLA would transpose the signal first.
    products = jnp.broadcast_to(flat, (blocks.shape[0], *flat.shape)) @ blocks
    return products.reshape(blocks.shape[0], *bands.shape[:2], blocks.shape[-1])


def overlap_add(products: jax.Array) -> jax.Array:
    """Outputs (n_sample, n) from `block_products`, whose first ``reach`` blocks precede the first output."""
    reach, n = products.shape[1] - 1, products.shape[-1]
    n_block = products.shape[0] - reach
    return sum(products[reach - j : reach + n_block - j, j] for j in range(reach + 1)).reshape(-1, n)


def leading_blocks(past: jax.Array, size: int, n_block: int) -> jax.Array:
    """The last ``n_block`` blocks (n_block, size, n) that precede a signal, padded with zeros in front."""
    return _blocks(past, past[:0], size, n_block)[0]


def _take_or_zero(kernel, lags):
    """Kernel at the given lags, zero outside of it."""
    n_lag = kernel.shape[0]
    return jnp.where((lags >= 0) & (lags < n_lag), kernel[np.clip(lags, 0, n_lag - 1)], 0.0)


def _lags(slots, reach, size):
    """Lag of every (..., blocks back, slot, time in block), for outputs at ``slots`` (..., n_slot) of each block."""
    return slots[..., None, :, None] + size * np.arange(reach + 1)[:, None, None] - np.arange(size)


def _blocks(past, signal, size, n_blocks):
    """The last blocks of the past and the signal: as two arrays if no block has samples of both, to avoid a copy."""
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
    """Layout of the banded filter matrix for outputs at ``ends``, counted from the start of the past.

    Returns
    -------
    lags : ndarray of int, shape (1 or n_block, 1 + reach, n_slot, size)
        Lag of every (block, blocks back, output in block, time in block).
    rows : ndarray of int, shape (n_sample,)
        Rows of the flattened outputs that are samples; the others are padding.
    n_blocks, reach : int
        Number of blocks with outputs, and number of earlier blocks that the kernel reaches.
    """
    ends = np.asarray(ends)
    spacing = np.diff(ends)
    is_even = bool(np.all(spacing == max(1, spacing[0]))) if spacing.size else True
    size = max(1, -(-n_lag // KERNEL_BLOCKS))
    if is_even:
        period = int(spacing[0]) if spacing.size else size
        size = period * -(-size // period)
    reach = -(-(n_lag - 1) // size)
    n_blocks = -(-(int(ends[-1] - ends[0]) + 1) // size)
    # The last sample is at the end of the last block.
    position = ends - ends[-1] + (reach + n_blocks) * size - 1
    if is_even:
        slots = np.arange(period - 1, size, period)[None]
        rows = np.arange(n_blocks * slots.size)[-ends.size :]
    else:
        block, counts = position // size, np.bincount(position // size - reach, minlength=n_blocks)
        slots = np.full((n_blocks, counts.max()), -n_lag - size * (reach + 1))
        column = np.concatenate([np.arange(count) for count in counts])
        slots[block - reach, column] = position % size
        rows = (block - reach) * slots.shape[1] + column
    return _lags(slots, reach, size), rows, n_blocks, reach
