"""Forward run in blocks of steps: each block is reduced to the requested outputs while its states are in cache."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .blocks import Blocks, flatten_leading, unstack
from .network import Network, coupling_input, start_network
from .step import Step, Theta


class ArgumentStructure(NamedTuple):
    """Structure of the flat arguments of `run`: weights, past, then leaves of theta, reduce_params and inputs."""

    treedef: Any
    n_theta: int
    n_reduce: int

    @classmethod
    def flatten(cls, theta, reduce_params, inputs):
        """Structure and list of leaves."""
        leaves, treedef = jax.tree.flatten((theta, reduce_params, inputs))
        return cls(treedef, len(jax.tree.leaves(theta)), len(jax.tree.leaves(reduce_params))), leaves

    def unflatten(self, leaves):
        """(theta, reduce_params, inputs) from their leaves."""
        return jax.tree.unflatten(self.treedef, leaves)

    def split(self, leaves):
        """Leaves, or any list parallel to them, as three lists."""
        n_theta, n_both = self.n_theta, self.n_theta + self.n_reduce
        return leaves[:n_theta], leaves[n_theta:n_both], leaves[n_both:]

    def run_arguments(self, weights, past, leaves):
        """Arguments of `run` after the blocks."""
        theta, reduce_params, inputs = self.unflatten(leaves)
        return theta, weights, past, inputs, reduce_params


def run_block(step: Step, network: Network, theta: Theta, weights, begin, times, inputs, keep_inputs: bool = False):
    """Run one block of steps.

    Parameters
    ----------
    step : Step
    network : Network
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    begin : (Array, Array or None)
        State and ring buffer at the start; the ring may lack the source output of this state.
    times : Array of int, shape (size,)
    inputs : tree of Array, shape (size, ...)
    keep_inputs : bool
        True to return the coupling inputs.

    Returns
    -------
    end : (Array, Array or None)
    after : tuple of Array, shape (size, n_node, n_mode)
        Each state variable after each step.
    s : Array, shape (size, n_channel, n_node, n_mode), or None
        Coupling input of each step.
    """

    def body(carry, at):
        variables, ring = carry
        time, u = at
        x = jnp.stack(variables)
        s, ring = coupling_input(step, theta, weights, network, ring, x, time)
        new = unstack(step.next_state(theta, x, s, u))
        return (new, ring), (new, s if keep_inputs else None)

    x, ring = begin
    (x, ring), (after, s) = jax.lax.scan(body, (unstack(x), ring), (times, inputs))
    return (jnp.stack(x), ring), after, s


def run_piece(
    blocks: Blocks, network: Network, theta: Theta, weights, begin, times, inputs, reduce=None, keep: bool = False
):
    """Run the blocks of one piece.

    Parameters
    ----------
    blocks : Blocks
    network : Network
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    begin : (Array, Array or None, Array or None)
        State, ring buffer, and the blocks of the latest states.
    times, inputs
        (n_block, size, ...)
    reduce : callable, optional
        States of a block to its outputs; None for no outputs.
    keep : bool
        True to return the states, and the coupling inputs that are not quickly recomputed.

    Returns
    -------
    end : as ``begin``
    outputs : tree of Array
        (n_block, ...)
    kept : (after, s) or None
        (n_block, size, ...), as `run_block` returns them.
    """
    step = blocks.step
    advance = partial(run_block, step, network, keep_inputs=keep and blocks.keeps_inputs)
    # Without node-local Jacobians, plain autodiff recomputes each block.
    advance = advance if step.is_local else jax.checkpoint(advance)

    def body(carry, at):
        x, ring, latest = carry
        times, inputs = at
        (x, ring), after, s = advance(theta, weights, (x, ring), times, inputs)
        states = jnp.stack(after, axis=1)
        if latest is not None:
            slot = jnp.mod(times[0] // blocks.size, blocks.n_final)
            latest = jax.lax.dynamic_update_index_in_dim(latest, states, slot, 0)
        return (x, ring, latest), (None if reduce is None else reduce(states), (after, s) if keep else None)

    end, (outputs, kept) = jax.lax.scan(body, begin, (times, inputs))
    return end, outputs, kept


def run(blocks: Blocks, theta: Theta, weights, past, inputs, reduce_params=(), keep: bool = False):
    """Run all pieces.

    Parameters
    ----------
    blocks : Blocks
    theta, weights, past, inputs
        As in `scan_steps`.
    reduce_params : tree of Array
        Parameters of ``blocks.reduce``.
    keep : bool
        True to return the values that the reverse pass needs.

    Returns
    -------
    outputs : tree of Array
        Outputs of ``blocks.reduce`` for the whole run, time axis first.
    last : Array, shape (min(horizon, n_steps), n_var, n_node, n_mode)
        The latest states.
    kept : tuple
        With ``keep``: (after, s) of all blocks, or None for a run of several pieces; state and ring buffer at the start
        of each piece.
    """
    split, reduce = blocks.split, partial(blocks.reduce, reduce_params)
    outputs_are_states = not jax.tree.leaves(reduce_params) and blocks.outputs_are_states(past[-1], reduce_params)
    if blocks.step.is_local and blocks.n_piece == 1 and (keep or outputs_are_states):
        # All states are stored in any case: one block writes each to its final place. Plain autodiff, which recomputes
        # blocks, keeps them.
        blocks = blocks.merged
    network, ring = start_network(blocks.step, theta, weights, past, blocks.mask)
    latest = None
    if blocks.step.horizon > 1:
        latest = jnp.zeros((blocks.n_final, blocks.size, *past.shape[1:]), past.dtype)
    keeps_states = keep and blocks.n_piece == 1

    def body(begin, at):
        end, outputs, kept = run_piece(blocks, network, theta, weights, begin, *at, reduce, keeps_states)
        return end, (outputs, kept, begin[:2] if keep else None)

    arrays = (blocks.times(), blocks.split(inputs))
    (x, _, latest), (outputs, kept, starts) = jax.lax.scan(body, (past[-1], ring, latest), arrays)
    if latest is None:
        last = x[None]
    else:
        n_block = blocks.n_piece * blocks.n_block
        last = jnp.roll(latest, -(n_block % blocks.n_final), axis=0)
        last = flatten_leading(last, 2)[-min(blocks.step.horizon, blocks.n_steps) :]
    return flatten_leading(outputs, 3), last, (split(flatten_leading(kept, 3)), starts)


def scan_steps(step: Step, n_steps: int, theta: Theta, weights: jax.Array, past: jax.Array, inputs: Any) -> jax.Array:
    """States after each step, by one plain scan that is differentiated by plain autodiff.

    Parameters
    ----------
    step : Step
    n_steps : int
    theta : pytree of Array
        Parameters of the step, node axis second to last.
    weights : Array, shape (n_node, n_node)
        Indexed [target, source].
    past : Array, shape (horizon, n_var, n_node, n_mode)
        States up to the start, in order of time; the last one is the initial state.
    inputs : pytree of Array
        Inputs of each step, (n_steps, ..., n_node, n_mode or 1).

    Returns
    -------
    Array, shape (n_steps, n_var, n_node, n_mode)
    """
    network, ring = start_network(step, theta, weights, past)
    times = jnp.arange(n_steps, dtype=jnp.int32)
    _, after, _ = run_block(step, network, theta, weights, (past[-1], ring), times, inputs)
    return jnp.stack(after, axis=1)
