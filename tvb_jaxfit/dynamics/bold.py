"""TVB's BOLD monitor: interim means, convolved with a hemodynamic response at the sampling steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..state import State
from .decimated_filter import KERNEL_BLOCKS, block_products, filter_at, kernel_blocks, leading_blocks, overlap_add
from .monitors import InterimMonitor, window_means


@dataclass(frozen=True, eq=False)
class Bold(InterimMonitor):
    """BOLD: interim means convolved with a hemodynamic response, at the sampling steps (TVB: Bold).

    Attributes
    ----------
    interim_istep : int
        Integration steps per interim mean (4 ms, rounded).
    kernel_time : ndarray, shape (n_lag,)
        Times of the kernel's samples [s].
    kernel : callable
        (time, **parameters) to the kernel.
    volterra : bool
        True for the first-order Volterra kernel: the signal is (convolution - 1) k_1 V_0.
    shift : int
        Shift of the kernel [interim samples]: 0, except in a negative control.

    Notes
    -----
    TVB applies the kernel one interim step late and wraps its first sample to the far end: the newest interim mean has
    the weight G[-1], the d-th last one G[d - 1]. A sample inside an interim period uses the interim means that are
    complete at that step: the sampling period need not be a multiple of the interim period.
    """

    kernel_time: np.ndarray | None = None
    kernel: Callable | None = None
    volterra: bool = False
    shift: int = 0

    def at_rest(self, leaves: State, observed: jax.Array) -> State:
        """Leaves with a stock of one constant sample."""
        stock = jnp.broadcast_to(self.select(observed), leaves.stock.shape)
        return leaves.replace(stock=stock.astype(leaves.stock.dtype))

    def transient(self, leaves: State) -> int:
        """Number of samples that depend on the empty part of the buffer, which is the oldest one.

        Before a first run the whole buffer is empty.
        """
        buffer = np.asarray(leaves.stock)
        filled = np.flatnonzero(np.any(buffer != 0.0, axis=(1, 2, 3)))
        n_empty = int(filled[0]) if filled.size else len(buffer)
        return -(-n_empty * self.interim_istep // self.istep)

    def fir_filter(self, leaves: State) -> tuple[int, jax.Array]:
        """Hemodynamic response to interim means."""
        hrf = _scalars(leaves.hrf_kernel)
        taps = self._sampled_kernel(hrf, leaves.stock.dtype)
        return self.interim_istep, taps * (hrf["k_1"] * hrf["V_0"]) if self.volterra else taps

    def _sampled_kernel(self, hrf, dtype):
        # The times are a NumPy array, so that a user's equation can evaluate functions of them while it is traced.
        sampled = jnp.asarray(self.kernel(np.asarray(self.kernel_time, dtype), **hrf), dtype)
        return jnp.roll(sampled, 1 + self.shift)

    def prepare_blocks(self, leaves: State, start: int, n_steps: int, size: int) -> jax.Array | None:
        """Kernel in blocks for `filter_block`; None unless a block of steps contains whole sampling periods."""
        if start % self.istep or n_steps % self.istep or size % self.istep or self.istep % self.interim_istep:
            return None
        period, limit = self.istep // self.interim_istep, self.kernel_time.size // KERNEL_BLOCKS
        size //= self.interim_istep
        sizes = [n for n in range(period, size + 1, period) if size % n == 0 and n <= max(limit, period)]
        return kernel_blocks(self._sampled_kernel(_scalars(leaves.hrf_kernel), leaves.stock.dtype), period, sizes[-1])

    def filter_block(self, bands: jax.Array, observed: jax.Array) -> jax.Array:
        """Products of the kernel blocks and one block of states."""
        selected = self.select(observed)
        means = selected.reshape(-1, self.interim_istep, math.prod(selected.shape[1:]))
        means = means[:, 0] if self.interim_istep == 1 else jnp.mean(means, axis=1)
        return block_products(bands, means.reshape(-1, bands.shape[-1], means.shape[-1]))

    def sample(self, leaves: State, observed: jax.Array, start: int, bands=None, products=None):
        """BOLD at the sampling steps.

        Parameters
        ----------
        leaves : State
            With the stock of interim means in order of time, the oldest first.
        observed : Array, shape (n_time, n_voi, n_node, n_mode)
        start : int
            In observed samples.
        bands, products : Array, optional
            Results of `prepare_blocks` and, for all blocks of the run, of `filter_block`.
        """
        hrf = _scalars(leaves.hrf_kernel)
        start, n_steps = start * self.pooled, observed.shape[0] * self.pooled
        means, interim = window_means(leaves.interim_stock, self.select(observed), self.interim_istep // self.pooled)
        n_lag = self.kernel_time.size
        past, signal = (a.reshape(a.shape[0], math.prod(means.shape[1:])) for a in (leaves.stock, means))
        if products is None:
            ends = self.steps(start, n_steps) // self.interim_istep - start // self.interim_istep - 1
            bold = filter_at(self._sampled_kernel(hrf, means.dtype), past, signal, ends)
        else:
            before = block_products(bands, leading_blocks(past, bands.shape[-1], bands.shape[0] - 1))
            bold = overlap_add(jnp.concatenate([before, products]))
        bold = bold.reshape(-1, *means.shape[1:])
        if self.volterra:
            bold = (bold - 1.0) * (hrf["k_1"] * hrf["V_0"])
        stock = jnp.concatenate([leaves.stock, means[-n_lag:]])[-n_lag:]
        return bold, {"stock": stock, "interim_stock": interim}


def _scalars(node):
    """Parameters of a kernel as scalars."""
    return {name: jnp.reshape(value, ()) for name, value in node.items()}
