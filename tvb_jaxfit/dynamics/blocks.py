"""Division of a run into blocks of steps, and of blocks into pieces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .step import Step

# Elements per state variable in one block: enough work for two cores, few enough to stay in their caches.
BLOCK_ELEMENTS = 43008
# Bytes of states and coupling inputs that the reverse pass keeps. A longer run is kept and recomputed piece by piece.
MEMORY_LIMIT = 2**29


def identity(params, states):
    """All states: the default reduction of `Blocks`."""
    return states


@dataclass(frozen=True, eq=False)
class Blocks:
    """Layout of a run: n_piece pieces of n_block blocks of ``size`` steps.

    Attributes
    ----------
    step : Step
    size, n_block, n_piece : int
        Steps per block, blocks per piece, pieces. The reverse pass keeps the states of one piece at a time.
    reduce : callable
        (params, states) to outputs: parameters, and the states after each step of a block, (size, n_var, n_node,
        n_mode), to a tree of arrays with the time axis first. Only its outputs leave the block.
    mask : ndarray of bool, shape (n_node, n_node), or None
        Pairs to which sums over the network are restricted; None for all.
    keeps_inputs : bool
        True if the coupling inputs are kept for the reverse pass, False if it recomputes them block by block.
    """

    step: Step
    size: int
    n_block: int
    n_piece: int = 1
    reduce: Callable = identity
    mask: np.ndarray | None = None
    keeps_inputs: bool = True

    @property
    def n_steps(self) -> int:
        """Number of steps of the run."""
        return self.size * self.n_block * self.n_piece

    def split(self, arrays):
        """Time series (n_steps, ...) as (n_piece, n_block, size, ...)."""
        shape = (self.n_piece, self.n_block, self.size)
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), arrays)

    def split_outputs(self, arrays):
        """Series of outputs as (n_piece, n_block, ...)."""
        shape = (self.n_piece, self.n_block)
        return jax.tree.map(lambda a: a.reshape(*shape, a.shape[0] // (shape[0] * shape[1]), *a.shape[1:]), arrays)

    def times(self):
        """Index of each step, (n_piece, n_block, size)."""
        return self.split(jnp.arange(self.n_steps, dtype=jnp.int32))

    @property
    def merged(self) -> "Blocks":
        """The same run as a single block."""
        return replace(self, size=self.n_steps, n_block=1, n_piece=1)

    def outputs_are_states(self, x, params) -> bool:
        """True if the outputs are about as large as the states, each like ``x``: blocks then save no memory."""
        states = jax.ShapeDtypeStruct((self.size, *x.shape), x.dtype)
        outputs = jax.tree.leaves(jax.eval_shape(self.reduce, params, states))
        return 2 * sum(leaf.size for leaf in outputs) >= states.size

    @property
    def n_final(self) -> int:
        """Number of blocks that contain the final history, from which a next run continues."""
        return -(-min(self.step.horizon, self.n_steps) // self.size)


def block_sizes(n_steps: int, past: jax.Array) -> tuple[int, int]:
    """Steps per block, and steps of a remainder where no suitable size divides the number of steps.

    Parameters
    ----------
    n_steps : int
    past : Array, shape (horizon, n_var, n_node, n_mode)

    Returns
    -------
    size, remainder : int
    """
    largest = max(1, min(n_steps, BLOCK_ELEMENTS // past[0, 0].size))
    size = next((size for size in range(largest, largest // 4, -1) if n_steps % size == 0), largest)
    return size, n_steps % size


def split_run(step: Step, n_steps: int, past: jax.Array, reduce: Callable = identity) -> Iterator[Blocks]:
    """Yield the `Blocks` of a run: one layout, and a second one for a remainder."""
    size, remainder = block_sizes(n_steps, past)
    n_block = n_steps // size
    n_bytes = n_steps * past[0].size * past.dtype.itemsize * 2
    fewest = -(-n_bytes // MEMORY_LIMIT)
    n_piece = next(n for n in range(min(fewest, n_block), n_block + 1) if n_block % n == 0)
    mask = step.sparsity_mask if step.is_local else None
    # Dense sums without delays are recomputed as one matrix product per block.
    keeps_inputs = step.delays is not None or mask is not None
    yield Blocks(step, size, n_block // n_piece, n_piece, reduce, mask, keeps_inputs)
    if remainder:
        yield Blocks(step, remainder, 1, 1, reduce, mask, keeps_inputs)


def flatten_leading(arrays: Any, n_axis: int) -> Any:
    """Arrays with their first ``n_axis`` axes merged into one."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[n_axis:]), arrays)


def unstack(x: jax.Array, axis: int = 0) -> tuple[jax.Array, ...]:
    """Tuple of the slices of an array along an axis."""
    return tuple(jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis]))
