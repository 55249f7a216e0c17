r"""Trajectories of a step, and their reverse pass from node-local Jacobians.

A step is x_{t+1} = phi(x_t, s_t, u_t; theta) with s_t = sum_j W_ij y_j(x_{t - d_ij}), phi and y node-local. Its reverse
pass is

.. math::
    \lambda_t = g_t + A_t^T \lambda_{t+1} + Y_t^T \bar y_t, \quad
    \bar y_{t, j} = \sum_i W_{ij} \sigma_{t + d_{ij}, i}, \quad \sigma_t = D_t^T \lambda_{t+1}

with the small node-local Jacobians A = d phi / d x, D = d phi / d s and Y = d y / d x. These need no sequence: they are
computed for a block of time steps at once, in cache. What is left to do in order is the network, run backwards, and a
few multiply-adds a step; the parameter gradients are reductions over the block.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .step import Network, send, start, sums

# Elements of one Jacobian in a block: a few such arrays stay in a core's cache.
BLOCK_ELEMENTS = 65536


def scan_steps(step, n_steps, theta, weights, past, inputs):
    """States after each step, by a plain scan: what `trajectory` computes, left to plain autodiff.

    Parameters and returns are those of `trajectory`.
    """
    return _scan(step, n_steps, theta, weights, past, inputs)[0]


def _scan(step, n_steps, theta, weights, past, inputs):
    """States, and the sums where they are not a matrix product away from the states."""
    network, ring = start(step, theta, weights, past)

    def body(carry, at):
        x, ring = carry
        time, u = at
        s = sums(step, theta, weights, network, ring, x, time)
        x = step.from_sum(theta, x, s, u)
        ring = network.put(ring, time + 1, send(step, theta, x))
        return (x, ring), (x, None if step.delays is None else s)

    return jax.lax.scan(body, (past[-1], ring), (jnp.arange(n_steps), inputs), length=n_steps)[1]


def _scan_in_pieces(step, n_steps, theta, weights, past, inputs):
    """As `scan_steps`, where Jacobians are not local: the reverse pass runs each piece again, one in memory."""
    network, ring = start(step, theta, weights, past)

    def body(carry, at):
        x, ring = carry
        time, u = at
        x = step.from_sum(theta, x, sums(step, theta, weights, network, ring, x, time), u)
        return (x, network.put(ring, time + 1, send(step, theta, x))), x

    @jax.checkpoint
    def piece(carry, arrays):
        return jax.lax.scan(body, carry, arrays)

    size = max(1, round(n_steps**0.5))
    whole = n_steps - n_steps % size
    arrays = (jnp.arange(n_steps), inputs)
    blocked = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), arrays)
    carry, states = jax.lax.scan(piece, (past[-1], ring), blocked)
    _, rest = piece(carry, jax.tree.map(lambda a: a[whole:], arrays))
    return jnp.concatenate([states.reshape(-1, *states.shape[2:]), rest])


def trajectory(step, n_steps, theta, weights, past, inputs):
    """States after each step, with the structured reverse pass.

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

    Notes
    -----
    Only what is differentiated is computed in the reverse pass: a gradient in two parameters does not pay for the
    others. Forward-mode differentiation goes through `scan_steps`.
    """
    if step.pairs is not None or step.mixes:
        return _scan_in_pieces(step, n_steps, theta, weights, past, inputs)
    leaves, treedef = jax.tree.flatten((theta, inputs))
    n_theta = len(jax.tree.leaves(theta))
    return _trajectory(step, n_steps, (treedef, n_theta), weights, past, *leaves)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _trajectory(step, n_steps, tree, weights, past, *leaves):
    theta, inputs = jax.tree.unflatten(tree[0], leaves)
    return scan_steps(step, n_steps, theta, weights, past, inputs)


def _forward(step, n_steps, tree, weights, past, *leaves):
    arguments = (weights, past, *leaves)
    weights, past, *leaves = (a.value for a in arguments)
    # An argument that is not differentiated appears as None: static, as the tree's structure is.
    wanted = [a.value if a.perturbed else None for a in arguments]
    theta, inputs = jax.tree.unflatten(tree[0], leaves)
    states, kept = _scan(step, n_steps, theta, weights, past, inputs)
    return states, (weights, past, leaves, wanted, states, kept)


def _backward(step, n_steps, tree, residuals, cotangents):
    weights, past, leaves, wanted, states, kept = residuals
    if isinstance(cotangents, SymbolicZero):
        return (None,) * len(wanted)
    treedef, n_theta = tree
    want_weights, _, *want_leaves = (w is not None for w in wanted)
    constants, entering = leaves[:n_theta], leaves[n_theta:]
    want_constants, want_entering = want_leaves[:n_theta], want_leaves[n_theta:]
    network, backwards = Network(weights, step.delays), Network(weights, step.delays, forward=False)

    def theta_with(chosen):
        """Constants with the differentiated ones replaced."""
        chosen = iter(chosen)
        return [next(chosen) if want else leaf for leaf, want in zip(constants, want_constants, strict=True)]

    def advance(chosen, x, s, entering):
        theta, inputs = jax.tree.unflatten(treedef, [*theta_with(chosen), *entering])
        return step.from_sum(theta, x, s, inputs)

    def sent(chosen, x):
        theta, _ = jax.tree.unflatten(treedef, [*theta_with(chosen), *entering])
        return step.sent(theta, x)

    # A global constant is spread over the nodes, so that the loop adds elementwise and sums once, at its end.
    chosen = [leaf for leaf, want in zip(constants, want_constants, strict=True) if want]
    wide = [jnp.broadcast_to(leaf, (*leaf.shape[:-2], past.shape[2], leaf.shape[-1])) for leaf in chosen]
    n_row = past.shape[1] * past.shape[3]
    size = _block_size(n_steps, past[0].size * n_row)
    every = jax.vmap(sent, (None, 0))
    # What was sent, from the first sample that anybody still waits for; wanted for the gradient of the weights.
    was_sent = every(chosen, jnp.concatenate([past, states[:-1]])) if want_weights and kept is not None else None

    def block(carry, arrays):
        adjoint, ring, *totals = carry
        time, x, inputs, g, s = arrays
        y = every(chosen, x) if step.delays is None else None
        s = jax.vmap(network.sum, (0, None))(y, 0) if step.delays is None else s
        # A value of its own for each step and node: what comes back is a local Jacobian, not yet a sum.
        each = [jnp.broadcast_to(leaf, (x.shape[0], *leaf.shape)) for leaf in wide]
        _, pull = jax.vjp(jax.vmap(advance), each, x, s, inputs)
        of_each, of_state, of_sum, of_inputs = _stacked([pull(row) for row in _unit_rows(x)])
        sending = None
        if step.channels is not None:
            value, pull = jax.vjp(jax.vmap(sent), each, x)
            of_each_sent, sending = _stacked([pull(row) for row in _unit_rows(value)])
        back, local = partial(_back, step, backwards, want_weights), (time, of_state, of_sum, sending, g)
        (adjoint, ring), through = jax.lax.scan(back, (adjoint, ring), local, reverse=True)
        through, through_sent, through_sum = through
        totals[0] = [total + _weighted(rows, through) for total, rows in zip(totals[0], of_each, strict=True)]
        if step.channels is not None:
            totals[0] = [t + _weighted(rows, through_sent) for t, rows in zip(totals[0], of_each_sent, strict=True)]
        if want_weights:
            totals[1] = totals[1] + _of_weights(network, through_sum, y, was_sent, time)
        of_wanted = zip(of_inputs, want_entering, strict=True)
        d_inputs = [_weighted(rows, through) if want else None for rows, want in of_wanted]
        return (adjoint, ring, *totals), d_inputs

    zeros = [jnp.zeros((size, *leaf.shape), leaf.dtype) for leaf in wide]
    n_channel = jax.eval_shape(sent, chosen, past[-1]).shape[0]
    nothing = jnp.zeros((network.horizon, n_channel, *past.shape[2:]), past.dtype)
    no_weights = jnp.zeros_like(weights) if want_weights else None
    no_ring = None if step.delays is None else backwards.ring(nothing)
    carry = (jnp.zeros_like(past[-1]), no_ring, zeros, no_weights)
    before = jnp.concatenate([past[-1:], states[:-1]])
    arrays = (before, entering, kept)
    carry, d_entering = _scan_blocks_in_reverse(block, carry, arrays, cotangents, size)
    adjoint, ring, totals, d_weights = carry
    d_early, d_past = _of_the_past(sent, backwards, ring, chosen, past)
    d_past = jnp.concatenate([d_past, adjoint[None]])
    d_chosen = (_summed_to(jnp.sum(total, axis=0), leaf.shape) for total, leaf in zip(totals, chosen, strict=True))
    d_chosen = iter(later + early for later, early in zip(d_chosen, d_early, strict=True))
    of_constants = (next(d_chosen) if want else None for want in want_constants)
    return (d_weights, d_past, *of_constants, *d_entering)


_trajectory.defvjp(_forward, _backward, symbolic_zeros=True)


def _back(step, backwards, want_sums, carry, arrays):
    """One step of the reverse recursion: adjoint (n_var, n_node, n_mode) of the state after to that before.

    The adjoints of what was sent and of the sums come out where they are wanted only: each is a write to memory.
    """
    adjoint, ring = carry
    time, by_state, by_sum, sending, g = arrays
    adjoint = adjoint + g
    before, of_sum = (_weighted(rows[None], adjoint[None])[0] for rows in (by_state, by_sum))
    ring = backwards.put(ring, time, of_sum)
    of_sent = backwards.sum(ring, time)
    if sending is not None:
        before = before + _weighted(sending[None], of_sent[None])[0]
    elif step.cvar == tuple(range(before.shape[0])):
        before = before + of_sent
    else:
        before = before.at[jnp.asarray(step.cvar)].add(of_sent)
    ring = None if step.delays is None else ring
    return (before, ring), (adjoint, None if sending is None else of_sent, of_sum if want_sums else None)


def _of_weights(network, of_sum, y, was_sent, time):
    """Gradient of the weights over a block: of_sum (n_time, n_channel, target, n_mode) times what was seen."""
    if network.delays is None:
        return jnp.einsum("tcim,tcjm->ij", of_sum, y)
    # (n_channel, n_mode, time * n_node): the sample of time k lies at k + horizon - 1.
    flat = jnp.transpose(was_sent, (1, 3, 0, 2)).reshape(*was_sent.shape[1::2], -1)

    def add(total, at):
        k, sigma = at
        index = (k + network.horizon - 1 - network.delays) * network.n_node + jnp.arange(network.n_node)[None]
        # Steps that only fill up a block look beyond the end; their sigma is zero.
        return total + jnp.einsum("cim,cmij->ij", sigma, jnp.take(flat, index, axis=2, mode="clip")), None

    return jax.lax.scan(add, jnp.zeros_like(network.weights), (time, of_sum))[0]


def _of_the_past(sent, backwards, ring, chosen, past):
    """Gradients of constants and samples before the start, which act through what was sent alone."""
    zeros = [jnp.zeros_like(leaf) for leaf in chosen]
    if backwards.delays is None:
        return zeros, past[:0]

    def body(carry, at):
        ring, totals = carry
        time, x = at
        value, pull = jax.vjp(sent, chosen, x)
        ring = backwards.put(ring, time, jnp.zeros_like(value))
        of_chosen, of_x = pull(backwards.sum(ring, time))
        return (ring, [total + new for total, new in zip(totals, of_chosen, strict=True)]), of_x

    times = jnp.arange(-(backwards.horizon - 1), 0)
    (_, totals), of_past = jax.lax.scan(body, (ring, zeros), (times, past[:-1]), reverse=True)
    return totals, of_past


def _unit_rows(x):
    """One cotangent for each (variable, mode) of a node: pulled back, they are the rows of the local Jacobians."""
    n_var, _, n_mode = x.shape[-3:]
    for variable in range(n_var):
        for mode in range(n_mode):
            yield jnp.zeros_like(x).at[..., variable, :, mode].set(1.0)


def _stacked(rows):
    """Rows of Jacobians, one tree a row, as one tree of (n_time, n_row, ...)."""
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *rows)


def _weighted(rows, adjoint):
    """Sum of Jacobian rows (n_time, n_row, ..., n_node, k), each times its adjoint (n_time, n_var, n_node, n_mode)."""
    n_time, _, n_node, _ = adjoint.shape
    weight = jnp.moveaxis(adjoint, 2, 3).reshape(n_time, -1, *(1,) * (rows.ndim - 4), n_node, 1)
    return jnp.sum(rows * weight, axis=1)


def _summed_to(total, shape):
    """Sum over the nodes where the parameter is global."""
    return total if total.shape == shape else jnp.sum(total, axis=-2, keepdims=True)


def _block_size(n_time, n_element):
    """Steps a block: what stays in cache; of such sizes one that leaves no odd piece, to be compiled by itself."""
    most = max(1, min(n_time, BLOCK_ELEMENTS // n_element))
    return next((size for size in range(most, most // 2, -1) if n_time % size == 0), most)


def _scan_blocks_in_reverse(block, carry, arrays, cotangents, size):
    """Scan `block` over blocks of ``size`` steps, last to first.

    An odd piece is filled up behind the last step, with states that occur and cotangents of zero: the adjoint enters
    the real steps as zero, as it should.
    """
    n_time = cotangents.shape[0]
    fill = -n_time % size

    def blocked(array, filling):
        filled = jnp.concatenate([array, filling]) if fill else array
        return filled.reshape(-1, size, *array.shape[1:])

    states, inputs, kept = jax.tree.map(lambda array: blocked(array, jnp.repeat(array[-1:], fill, axis=0)), arrays)
    cotangents = blocked(cotangents, jnp.zeros((fill, *cotangents.shape[1:]), cotangents.dtype))
    times = jnp.arange(n_time + fill).reshape(-1, size)
    carry, out = jax.lax.scan(block, carry, (times, states, inputs, cotangents, kept), reverse=True)
    return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n_time], out)
