r"""Structured reverse pass of a run, from node-local Jacobians computed block by block.

For the step x_{t+1} = phi(x_t, s_t, u_t; theta) with s_{t,i} = sum_j W_ij y_j(x_{t - d_ij}), the adjoint
lambda_t = dL / dx_t obeys

.. math::
    \lambda_t = g_t + A_t^T \lambda_{t+1} + Y_t^T \bar y_t, \quad
    \bar y_{t, j} = \sum_i W_{ij} \bar s_{t + d_{ij}, i}, \quad \bar s_t = D_t^T \lambda_{t+1}

with the direct cotangents g of the states and the node-local Jacobians A = d phi / d x, D = d phi / d s and
Y = d y / d x. The Jacobians do not depend on the adjoint: they are computed for all steps of a block at once. The
sequential part is the network run backwards, and a few multiply-adds per step. Parameter gradients are sums over the
block.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .blocks import Blocks, flatten_leading, unstack
from .local_jacobians import (
    fold_time,
    sum_to_shape,
    tile_over_time,
    unfold_time,
    unit_cotangents,
    vjp_by_rows,
    weighted_sum,
)
from .network import Network
from .step import Step
from .trajectory import ArgumentStructure, run_piece

# Up to this many Jacobian rows per node, gradients are sums of rows; beyond, the adjoints are pulled back again.
_MAX_ROWS = 6


def reverse_pass(
    structure: ArgumentStructure, is_differentiated: list[bool], blocks: Blocks, residuals, output_bars, last_bar
) -> tuple:
    """Gradients of the arguments of a run.

    Parameters
    ----------
    structure : ArgumentStructure
    is_differentiated : list of bool
        One per flat argument: weights, past, leaves.
    blocks : Blocks
    residuals : tuple
        (weights, past, leaves, kept), with ``kept`` as `run` returns it.
    output_bars : list of Array or None
        Cotangents of the outputs; None for zero.
    last_bar : Array or None
        Cotangent of the latest states.

    Returns
    -------
    tuple of Array or None
        One gradient per flat argument; None for arguments that are not differentiated.
    """
    *arguments, (kept, starts) = residuals
    _, past, leaves = arguments
    state_bar, history_bar = _final_history_cotangents(blocks, last_bar, past[0])
    backward = _ReversePass(structure, is_differentiated, blocks, arguments, output_bars, history_bar)
    begin, inputs = backward.start(state_bar, past), structure.unflatten(leaves)[2]
    arrays = (blocks.times(), blocks.split(inputs), blocks.split_outputs(output_bars), kept, starts)
    carry, input_bars = jax.lax.scan(backward.piece, begin, arrays, reverse=True)
    return backward.gradients(carry, input_bars, past)


@dataclass(frozen=True, eq=False)
class _Leaves:
    """Leaves of one group of arguments, and which of them are differentiated."""

    values: list
    is_differentiated: list

    @property
    def differentiated(self):
        """The differentiated leaves."""
        return [leaf for leaf, flag in zip(self.values, self.is_differentiated, strict=True) if flag]

    def merge(self, differentiated):
        """All leaves, with other values for the differentiated ones."""
        differentiated = iter(differentiated)
        pairs = zip(self.values, self.is_differentiated, strict=True)
        return [next(differentiated) if flag else leaf for leaf, flag in pairs]


class _Carry(NamedTuple):
    """Carry of the reverse scan.

    Attributes
    ----------
    adjoint : tuple of Array, shape (n_node, n_mode)
        lambda of each state variable.
    ring : Array or None
        Ring buffer of the cotangents of coupling inputs.
    theta, weights, reduce_params
        Sums of the gradients; those of theta have time folded into the node axis.
    """

    adjoint: tuple
    ring: Any
    theta: list
    weights: Any
    reduce_params: list


class _LocalStep(NamedTuple):
    """Local map of all steps of a block, linearised.

    Attributes
    ----------
    rows : list
        Pullback of each unit cotangent of the next state.
    vjp, source_vjp : callable
        Pullbacks of the next state and of the source output.
    source_output : Array
    dphi_dx, dphi_ds : tuple
        Jacobians by rows.
    dy_dx : list or None
        Jacobian of the source output by rows; None if it is the coupling variables.
    """

    rows: list
    vjp: Any
    source_output: Any
    source_vjp: Any
    dphi_dx: tuple
    dphi_ds: tuple
    dy_dx: list | None


class _ReversePass:
    """Reverse pass of one run: the arguments, and the scans over pieces and blocks."""

    def __init__(
        self, structure: ArgumentStructure, is_differentiated, blocks: Blocks, arguments, output_bars, history_bar
    ):
        self.blocks, self.structure, self.step = blocks, structure, blocks.step
        weights, past, leaves = arguments
        self.weights, self.differentiates_weights = weights, is_differentiated[0]
        groups = zip(structure.split(leaves), structure.split(is_differentiated[2:]), strict=True)
        self.theta, self.reduce_params, self.inputs = (_Leaves(*group) for group in groups)
        self.output_bars, self.history_bar = output_bars, history_bar
        delays, n_node = self.step.delays, past.shape[2]
        self.network, self.reversed_network = (
            Network(weights, delays, blocks.mask, forward) for forward in (True, False)
        )
        self.dense_network = Network(weights, delays)
        # A differentiated global parameter is broadcast over nodes and steps: its gradient is accumulated elementwise,
        # and summed once at the end.
        shapes = [(*leaf.shape[:-2], n_node, leaf.shape[-1]) for leaf in self.theta.differentiated]
        wide = list(map(jnp.broadcast_to, self.theta.differentiated, shapes))
        folded, self.folded_differentiated = (
            [tile_over_time(leaf, blocks.size) for leaf in leaves] for leaves in (self.theta.values, wide)
        )
        self.folded_theta = _Leaves(folded, self.theta.is_differentiated)
        self.theta_tree = self.arguments(self.theta.values, self.inputs.values)[0]

    def arguments(self, theta, inputs):
        """Trees of theta and inputs from their leaves."""
        theta, _, inputs = self.structure.unflatten([*theta, *self.reduce_params.values, *inputs])
        return theta, inputs

    def source_outputs(self, states):
        """Source outputs of a series of states."""
        return jax.vmap(partial(self.step.source_output, self.theta_tree))(states)

    def reduce(self, differentiated, states):
        """Outputs of a block that have a cotangent, as a function of the differentiated parameters and the states."""
        leaves = [*self.theta.values, *self.reduce_params.merge(differentiated), *self.inputs.values]
        params = self.structure.unflatten(leaves)[1]
        outputs = jax.tree.leaves(self.blocks.reduce(params, states))
        return [None if bar is None else leaf for leaf, bar in zip(outputs, self.output_bars, strict=True)]

    def start(self, state_bar, past):
        """Carry at the end of the run."""
        zeros = [jnp.zeros_like(leaf) for leaf in self.folded_differentiated]
        n_channel = jax.eval_shape(self.source_outputs, past).shape[1]
        empty = jnp.zeros((self.network.horizon, n_channel, *past.shape[2:]), past.dtype)
        weights = jnp.zeros_like(self.weights) if self.differentiates_weights else None
        reduce_params = [jnp.zeros_like(leaf) for leaf in self.reduce_params.differentiated]
        return _Carry(unstack(state_bar), self.reversed_network.ring(empty), zeros, weights, reduce_params)

    def piece(self, carry, arrays):
        """Reverse pass through one piece, which is run again if its states were not kept."""
        times, inputs, output_bars, kept, (x, ring) = arrays
        if kept is None:
            begin = (x, ring, None)
            kept = run_piece(self.blocks, self.network, self.theta_tree, self.weights, begin, times, inputs, keep=True)[
                2
            ]
        after, s = kept
        first = tuple(jnp.concatenate([v[None], later[:-1, -1]]) for v, later in zip(x, after, strict=True))
        samples = None
        if self.differentiates_weights and self.step.delays is not None:
            # Source outputs of the piece, from the earliest that any delay reaches.
            later = self.source_outputs(jnp.stack(flatten_leading(after, 2), axis=1))
            newest = self.step.source_output(self.theta_tree, x)
            ring = self.network.push(ring, times[0, 0], newest)
            samples = times[0, 0], jnp.concatenate([self.network.ordered(ring, times[0, 0], newest), later])
        arrays = (times, inputs, output_bars, after, s, first)
        return jax.lax.scan(partial(self.block, samples), carry, arrays, reverse=True)

    def block(self, samples, carry, arrays):
        """Reverse pass through one block."""
        times, inputs, output_bars, after, s, first = arrays
        states = jnp.stack(after, axis=1)
        reduce_bars, g = jax.vjp(self.reduce, self.reduce_params.differentiated, states)[1](output_bars)
        reduce_params = _add(carry.reduce_params, reduce_bars)
        if self.history_bar is not None:
            g = g + _history_cotangent(self.blocks, self.history_bar, times[0])
        # The adjoint of a state includes the direct cotangent of that state: here of the last one of the block.
        adjoint = tuple(leaf + last for leaf, last in zip(carry.adjoint, unstack(g[-1]), strict=True))
        earlier = _shift_forward(unstack(g, 1))
        local = self.linearise(inputs, after, s, first)
        jacobians = unfold_time((local.dphi_dx, local.dphi_ds, local.dy_dx), self.blocks.size)
        advance = partial(adjoint_step, self.step, self.reversed_network)
        steps = (times, *jacobians, earlier)
        (adjoint, ring), adjoints = jax.lax.scan(advance, (adjoint, carry.ring), steps, reverse=True)
        theta, weights, input_bars = self.add_gradients(carry, local, *adjoints, samples, times)
        return _Carry(adjoint, ring, theta, weights, reduce_params), unfold_time(input_bars, self.blocks.size)

    def linearise(self, inputs, after, s, first):
        """Local map of all steps of a block, and its Jacobians, with time folded into the node axis."""
        step = self.step
        inputs = _Leaves([fold_time(leaf) for leaf in jax.tree.leaves(inputs)], self.inputs.is_differentiated)
        before = tuple(jnp.concatenate([v[None], later[:-1]]) for v, later in zip(first, after, strict=True))
        if s is None:
            s = self.network.sum_series(self.source_outputs(jnp.stack(before, axis=1)))
        x, s = tuple(map(fold_time, before)), unstack(fold_time(s))

        def next_state(differentiated, x, s, differentiated_inputs):
            theta = self.folded_theta.merge(differentiated)
            theta, u = self.arguments(theta, inputs.merge(differentiated_inputs))
            return step.next_state(theta, jnp.stack(x), jnp.stack(s), u)

        def source_output(differentiated, x):
            theta, _ = self.arguments(self.folded_theta.merge(differentiated), self.inputs.values)
            return step.source_output(theta, jnp.stack(x))

        new, vjp = jax.vjp(next_state, self.folded_differentiated, x, s, inputs.differentiated)
        rows = [vjp(unit) for unit in unit_cotangents(new)]
        dphi_dx, dphi_ds = zip(*(row[1:3] for row in rows), strict=True)
        y, source_vjp = jax.vjp(source_output, self.folded_differentiated, x)
        dy_dx = None if step.channels is None else [source_vjp(unit)[1] for unit in unit_cotangents(y)]
        return _LocalStep(rows, vjp, y, source_vjp, dphi_dx, dphi_ds, dy_dx)

    def add_gradients(self, carry, local, adjoints, source_bars, samples, times):
        """Sums of the gradients of theta and weights, and the gradients of the inputs, of one block."""
        adjoints = tuple(fold_time(leaf) for leaf in adjoints)
        by_rows = len(local.rows) <= _MAX_ROWS
        theta_bars, _, _, input_bars = vjp_by_rows(local.rows, adjoints) if by_rows else local.vjp(jnp.stack(adjoints))
        theta, weights = _add(carry.theta, theta_bars), carry.weights
        if self.step.channels is not None:
            theta_bars, _ = local.source_vjp(jnp.stack([fold_time(leaf) for leaf in source_bars]))
            theta = _add(theta, theta_bars)
        if self.differentiates_weights:
            pair = weighted_sum(local.dphi_ds, adjoints), unstack(local.source_output)
            s_bar, y = (unfold_time(jnp.stack(rows), self.blocks.size) for rows in pair)
            weights = weights + _weights_gradient(self.dense_network, s_bar, y, samples, times)
        return theta, weights, input_bars

    def gradients(self, carry, input_bars, past):
        """One gradient per flat argument; None for arguments that are not differentiated."""
        early_theta, past_bar = self.history_gradient(carry.ring, past)
        past_bar = jnp.concatenate([past_bar, jnp.stack(carry.adjoint)[None]])
        totals = [jnp.sum(total, axis=0) for total in unfold_time(carry.theta, self.blocks.size)]
        triples = zip(totals, self.theta.differentiated, early_theta, strict=True)
        theta_bars = [sum_to_shape(total, leaf.shape) + early for total, leaf, early in triples]
        gradients = (
            (self.theta, theta_bars),
            (self.reduce_params, carry.reduce_params),
            (self.inputs, flatten_leading(input_bars, 3)),
        )
        leaves = (bar for group, bars in gradients for bar in _none_where_fixed(group, bars))
        return (carry.weights, past_bar, *leaves)

    def history_gradient(self, ring, past):
        """Gradients of theta and of the states before the start, which act through their source outputs alone."""
        network, zeros = self.reversed_network, [jnp.zeros_like(leaf) for leaf in self.theta.differentiated]
        if network.delays is None:
            return zeros, past[:0]

        def source_output(differentiated, x):
            theta, _ = self.arguments(self.theta.merge(differentiated), self.inputs.values)
            return self.step.source_output(theta, x)

        def body(carry, at):
            ring, totals = carry
            time, x = at
            y, vjp = jax.vjp(source_output, self.theta.differentiated, x)
            y_bar, ring = network.sum(jnp.zeros_like(y), ring, time)
            theta_bars, x_bar = vjp(y_bar)
            return (ring, _add(totals, theta_bars)), x_bar

        times = jnp.arange(-(network.horizon - 1), 0, dtype=jnp.int32)
        (_, totals), past_bar = jax.lax.scan(body, (ring, zeros), (times, past[:-1]), reverse=True)
        return totals, past_bar


def adjoint_step(step: Step, network: Network, carry, arrays):
    """One step of the adjoint recursion: from lambda_{t+1} to lambda_t.

    Parameters
    ----------
    step : Step
    network : Network
        The reversed network.
    carry : (tuple of Array, Array or None)
        lambda_{t+1} and the ring of the cotangents of coupling inputs.
    arrays : tuple
        Time, rows of dphi/dx, dphi/ds and dy/dx (None if y is the coupling variables), and g.

    Returns
    -------
    carry : as ``carry``
    adjoints : (tuple of Array, list of Array or None)
        lambda_{t+1} and the cotangents of the source outputs.

    Notes
    -----
    Returns the incoming adjoint, so that the new one has a single consumer and XLA fuses the step into one loop.
    """
    adjoint, ring = carry
    time, dphi_dx, dphi_ds, dy_dx, g = arrays
    y_bar, ring = network.sum(jnp.stack(weighted_sum(dphi_ds, adjoint)), ring, time)
    y_bar = unstack(y_bar)
    new = [leaf + direct for leaf, direct in zip(weighted_sum(dphi_dx, adjoint), g, strict=True)]
    if dy_dx is None:
        for variable, bar in zip(step.cvar, y_bar, strict=True):
            new[variable] = new[variable] + bar
    else:
        new = [leaf + bar for leaf, bar in zip(new, weighted_sum(dy_dx, y_bar), strict=True)]
    return (tuple(new), ring), (adjoint, None if dy_dx is None else y_bar)


def _final_history_cotangents(blocks, last_bar, like):
    """Cotangent of the final state, and cotangents of the final history as blocks, or None."""
    if last_bar is None:
        return jnp.zeros_like(like), None
    if blocks.step.horizon == 1:
        return last_bar[0], None
    n_fill = blocks.n_final * blocks.size - last_bar.shape[0]
    filled = jnp.concatenate([jnp.zeros((n_fill, *last_bar.shape[1:]), last_bar.dtype), last_bar])
    return jnp.zeros_like(like), filled.reshape(blocks.n_final, blocks.size, *last_bar.shape[1:])


def _history_cotangent(blocks, history_bar, time):
    """Cotangent of the states of a block as part of the final history; zero for earlier blocks."""
    n_block = blocks.n_block * blocks.n_piece
    index = time // blocks.size - (n_block - blocks.n_final)
    value = jax.lax.dynamic_index_in_dim(history_bar, jnp.maximum(index, 0), keepdims=False)
    return jnp.where(index >= 0, value, 0.0)


def _weights_gradient(network, s_bar, y, samples, times):
    """Gradient of the weights over a block: sum over time of s_bar (target) times the delayed y (source)."""
    if network.delays is None:
        return jnp.einsum("tcim,tcjm->ij", s_bar, y)
    first, outputs = samples
    # (n_channel, n_mode, time * n_node): the sample of time k is at k - first + horizon - 1.
    flat = jnp.transpose(outputs, (1, 3, 0, 2)).reshape(*outputs.shape[1::2], -1)
    offsets = np.arange(network.n_node, dtype=np.int32)[None] - network.delays * network.n_node

    def add(total, at):
        time, bar = at
        index = (time - first + network.horizon - 1) * network.n_node + offsets
        received = flat.at[:, :, index].get(mode="promise_in_bounds")
        return total + jnp.einsum("cim,cmij->ij", bar, received), None

    return jax.lax.scan(add, jnp.zeros_like(network.weights), (times, s_bar))[0]


def _shift_forward(series):
    """Series delayed by one step, with zeros first."""
    return jax.tree.map(lambda a: jnp.concatenate([jnp.zeros_like(a[:1]), a[:-1]]), series)


def _add(totals, values):
    """Elementwise sums of two lists of arrays."""
    return [total + value for total, value in zip(totals, values, strict=True)]


def _none_where_fixed(group, bars):
    """Gradients of all leaves of a group; None for those that are not differentiated."""
    return _Leaves([None] * len(group.values), group.is_differentiated).merge(bars)
