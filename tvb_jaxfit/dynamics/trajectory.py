"""A run as blocks of steps: what is asked of a block is taken from it while it is in cache, the rest is forgotten."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .step import Step, coupling_input, start_network


def whole(taking, states):
    """Every state, as it is: what `Blocks` takes where nothing else is asked for."""
    return states


@dataclass(frozen=True, eq=False)
class Blocks:
    """How a run is cut up.

    Attributes
    ----------
    step : Step
    size, n_block, n_piece : int
        Steps a block, blocks a piece, pieces. The reverse pass holds the states of one piece in memory.
    take : callable
        What it needs, and states after each step of a block, (size, n_var, n_node, n_mode), to a tree of arrays with
        time in front: what of them is asked for.
    connected : ndarray of bool, shape (n_node, n_node), or None
        Pairs that are looked at; None for all.
    keeps_sums : bool
        Whether sums over the network are kept for the reverse pass, and not worked out again, a block at once.
    """

    step: Step
    size: int
    n_block: int
    n_piece: int = 1
    take: Callable = whole
    connected: np.ndarray | None = None
    keeps_sums: bool = True

    @property
    def n_steps(self):
        """Steps of the run."""
        return self.size * self.n_block * self.n_piece

    def cut(self, arrays):
        """Time series (n_steps, ...) as (n_piece, n_block, size, ...)."""
        shape = (self.n_piece, self.n_block, self.size)
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), arrays)

    def cut_taken(self, arrays):
        """Series of what was taken as (n_piece, n_block, ...)."""
        shape = (self.n_piece, self.n_block)
        return jax.tree.map(lambda a: a.reshape(*shape, a.shape[0] // (shape[0] * shape[1]), *a.shape[1:]), arrays)

    def times(self):
        """Number of each step, (n_piece, n_block, size)."""
        return self.cut(jnp.arange(self.n_steps, dtype=jnp.int32))

    @property
    def as_one(self):
        """The same run in one block."""
        return replace(self, size=self.n_steps, n_block=1, n_piece=1)

    def takes_all(self, x, taking):
        """Whether what is asked for is about as much as the states, each like ``x``: then blocks save no memory."""
        states = jax.ShapeDtypeStruct((self.size, *x.shape), x.dtype)
        taken = jax.tree.leaves(jax.eval_shape(self.take, taking, states))
        return 2 * sum(leaf.size for leaf in taken) >= states.size

    @property
    def n_last(self):
        """Blocks that hold the samples that a next run goes on from."""
        return -(-min(self.step.horizon, self.n_steps) // self.size)


def joined(arrays, n_axis):
    """Stacked series with their first axes made one."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[n_axis:]), arrays)


def run_block(step, network, theta, weights, begin, times, inputs, keep_sums=False):
    """One block of steps.

    Parameters
    ----------
    begin : (Array, Array or None)
        State and ring at its start; the ring may lack what is sent at this state.
    times : Array of int, shape (size,)
    inputs : tree of Array, shape (size, ...)

    Returns
    -------
    end : (Array, Array or None)
    after : tuple of Array, shape (size, n_node, n_mode)
        Each state variable after each step.
    seen : Array, shape (size, n_channel, n_node, n_mode), or None
        Sums over the network, where they are kept.
    """

    def body(carry, at):
        variables, ring = carry
        time, u = at
        x = jnp.stack(variables)
        s, ring = coupling_input(step, theta, weights, network, ring, x, time)
        new = rows(step.next_state(theta, x, s, u))
        return (new, ring), (new, s if keep_sums else None)

    x, ring = begin
    (x, ring), (after, seen) = jax.lax.scan(body, (rows(x), ring), (times, inputs))
    return (jnp.stack(x), ring), after, seen


def rows(x, axis=0):
    """Parts of an array along an axis."""
    return tuple(jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis]))


def run_piece(blocks, network, theta, weights, begin, times, inputs, take=None, keep=False):
    """One piece: `run_block` after `run_block`.

    Parameters
    ----------
    begin : (Array, Array or None, Array)
        State, ring, and the blocks of the latest states.
    times, inputs
        (n_block, size, ...)
    take : callable, optional
        States to what is asked of them; None takes nothing.
    keep : bool
        Whether states are kept, and sums that are not quickly worked out again.

    Returns
    -------
    end : as ``begin``
    taken : tree of Array
        (n_block, ...)
    kept : (after, seen) or None
        (n_block, size, ...)
    """
    step = blocks.step
    one = partial(run_block, step, network, keep_sums=keep and blocks.keeps_sums)
    # Where Jacobians are not local, plain autodiff runs each block again.
    one = one if step.is_local else jax.checkpoint(one)

    def body(carry, at):
        x, ring, latest = carry
        times, inputs = at
        (x, ring), after, seen = one(theta, weights, (x, ring), times, inputs)
        states = jnp.stack(after, axis=1)
        if latest is not None:
            place = jnp.mod(times[0] // blocks.size, blocks.n_last)
            latest = jax.lax.dynamic_update_index_in_dim(latest, states, place, 0)
        return (x, ring, latest), (None if take is None else take(states), (after, seen) if keep else None)

    end, (taken, kept) = jax.lax.scan(body, begin, (times, inputs))
    return end, taken, kept


def run(blocks, theta, weights, past, inputs, taking=(), keep=False):
    """All pieces.

    Returns
    -------
    taken : tree of Array
        What was asked for, time in front.
    last : Array, shape (min(horizon, n_steps), n_var, n_node, n_mode)
        The latest states.
    kept : tuple
        For the reverse pass, where ``keep`` is true: (after, seen) of all blocks, or None where there are several
        pieces; state and ring at the start of each piece.
    """
    asked, take = blocks, partial(blocks.take, taking)
    takes_all = not jax.tree.leaves(taking) and blocks.takes_all(past[-1], taking)
    if blocks.step.is_local and blocks.n_piece == 1 and (keep or takes_all):
        # All states lie in memory in any case: each is written where it stays. Not where autodiff runs blocks again.
        blocks = blocks.as_one
    network, ring = start_network(blocks.step, theta, weights, past, blocks.connected)
    latest = None
    if blocks.step.horizon > 1:
        latest = jnp.zeros((blocks.n_last, blocks.size, *past.shape[1:]), past.dtype)
    all_kept = keep and blocks.n_piece == 1

    def body(begin, at):
        end, taken, kept = run_piece(blocks, network, theta, weights, begin, *at, take, all_kept)
        return end, (taken, kept, begin[:2] if keep else None)

    arrays = (blocks.times(), blocks.cut(inputs))
    (x, _, latest), (taken, kept, starts) = jax.lax.scan(body, (past[-1], ring, latest), arrays)
    if latest is None:
        last = x[None]
    else:
        first = blocks.n_piece * blocks.n_block
        last = jnp.roll(latest, -(first % blocks.n_last), axis=0)
        last = joined(last, 2)[-min(blocks.step.horizon, blocks.n_steps) :]
    return joined(taken, 3), last, (asked.cut(joined(kept, 3)), starts)


def scan_steps(step, n_steps, theta, weights, past, inputs):
    """States after each step, by a plain scan, left to plain autodiff.

    Parameters
    ----------
    step : Step
    n_steps : int
    theta : pytree of Array
        Constants of the step, node axis second to last.
    weights : Array, shape (n_node, n_node)
        ``weights[target, source]``.
    past : Array, shape (horizon, n_var, n_node, n_mode)
        Samples up to the start, in order of time; the last is the state to start from.
    inputs : pytree of Array
        What enters at each step, (n_steps, ..., n_node, n_mode or 1).

    Returns
    -------
    Array, shape (n_steps, n_var, n_node, n_mode)
    """
    network, ring = start_network(step, theta, weights, past)
    times = jnp.arange(n_steps, dtype=jnp.int32)
    _, after, _ = run_block(step, network, theta, weights, (past[-1], ring), times, inputs)
    return jnp.stack(after, axis=1)
