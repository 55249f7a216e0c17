r"""Trajectories of a step, and their reverse pass from node-local Jacobians.

A step is x' = phi(x, W y(x), z; theta), with phi node-local. Its reverse pass is

.. math:: \lambda_t = g_t + A_t^T \lambda_{t+1} + y'^T W^T D_t^T \lambda_{t+1}

with the small node-local Jacobians A = d phi / d x and D = d phi / d (W y). These need no sequence: they are computed
for a block of time steps at once, in cache. What is left to do in order is one matrix-vector product and a few
multiply-adds a step; the parameter gradients are reductions over the block, and that of W one matrix product.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .step import weighted_sum

# Elements of one state array in a block: a few such arrays stay in a core's cache.
BLOCK_ELEMENTS = 65536


def scan_steps(step, n_steps, theta, weights, x0, draws):
    """States after each step, by a plain scan: what `trajectory` computes, left to plain autodiff.

    Parameters and returns are those of `trajectory`.
    """

    def body(x, z):
        x = step(theta, weights, x, z)
        return x, x

    return jax.lax.scan(body, x0, draws, length=n_steps)[1]


def trajectory(step, n_steps, theta, weights, x0, draws):
    """States after each step, with the structured reverse pass.

    Parameters
    ----------
    step : Step
    n_steps : int
    theta : pytree of Array
        Constants of the step.
    weights : Array, shape (n_node, n_node)
        ``weights[target, source]``.
    x0 : Array, shape (n_var, n_node, n_mode)
    draws : Array, shape (n_steps, n_var, n_node, n_mode), or None
        Standard normal draws; None for a deterministic step.

    Returns
    -------
    Array, shape (n_steps, n_var, n_node, n_mode)

    Notes
    -----
    Only what is differentiated is computed in the reverse pass: a gradient in two parameters does not pay for the
    others. Forward-mode differentiation goes through `scan_steps`.
    """
    leaves, treedef = jax.tree.flatten(theta)
    return _trajectory(step, n_steps, treedef, weights, x0, draws, *leaves)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _trajectory(step, n_steps, treedef, weights, x0, draws, *leaves):
    return scan_steps(step, n_steps, jax.tree.unflatten(treedef, leaves), weights, x0, draws)


def _forward(step, n_steps, treedef, weights, x0, draws, *leaves):
    arguments = (weights, x0, draws, *leaves)
    values = [None if a is None else a.value for a in arguments]
    # An argument that is not differentiated appears as None in the second list: static, as the tree's structure is.
    wanted = [a.value if a is not None and a.perturbed else None for a in arguments]
    states = _trajectory(step, n_steps, treedef, *values)
    return states, (values, wanted, states)


def _backward(step, n_steps, treedef, residuals, cotangents):
    (weights, x0, draws, *leaves), wanted, states = residuals
    if isinstance(cotangents, SymbolicZero):
        return (None,) * len(wanted)
    want_weights, _, want_draws, *want_leaves = (w is not None for w in wanted)
    chosen = [leaf for leaf, want in zip(leaves, want_leaves, strict=True) if want]

    def advance(chosen, x, gx, z):
        chosen = iter(chosen)
        theta = [next(chosen) if want else leaf for leaf, want in zip(leaves, want_leaves, strict=True)]
        return step.from_sum(jax.tree.unflatten(treedef, theta), x, gx, z)

    def block(carry, arrays):
        adjoint, *totals = carry
        x, z, g = arrays
        y = step.afferent(x)
        gx = jax.vmap(partial(weighted_sum, weights))(y)
        # A value of its own for each step and node: what comes back is a local Jacobian, not yet a sum.
        each = [jnp.broadcast_to(leaf, (x.shape[0], *leaf.shape)) for leaf in wide]
        _, pull = jax.vjp(jax.vmap(advance), each, x, gx, z)
        of_each, of_state, of_sum, of_draws = _stacked([pull(row) for row in _unit_rows(x)])
        adjoint, through = jax.lax.scan(partial(_back, step, weights), adjoint, (of_state, of_sum, g), reverse=True)
        totals[0] = [total + _weighted(rows, through) for total, rows in zip(totals[0], of_each, strict=True)]
        if want_weights:
            totals[1] = totals[1] + jnp.einsum("tcim,tcjm->ij", _weighted(of_sum, through), y)
        return (adjoint, *totals), _weighted(of_draws, through) if want_draws else None

    # A global parameter is spread over the nodes, so that the loop adds elementwise and sums once, at its end.
    wide = [jnp.broadcast_to(leaf, (*leaf.shape[:-2], x0.shape[1], leaf.shape[-1])) for leaf in chosen]
    size = _block_size(n_steps, x0.size)
    zeros = [jnp.zeros((size, *leaf.shape), leaf.dtype) for leaf in wide]
    before = jnp.concatenate([x0[None], states[:-1]])
    carry = (jnp.zeros_like(x0), zeros, jnp.zeros_like(weights) if want_weights else None)
    carry, d_draws = _scan_blocks_in_reverse(block, carry, (before, draws, cotangents), size)
    adjoint, totals, d_weights = carry
    d_chosen = iter(_summed_to(jnp.sum(total, axis=0), leaf.shape) for total, leaf in zip(totals, chosen, strict=True))
    return (d_weights, adjoint, d_draws, *(next(d_chosen) if want else None for want in want_leaves))


_trajectory.defvjp(_forward, _backward, symbolic_zeros=True)


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


def _back(step, weights, adjoint, arrays):
    """One step of the reverse recursion: (n_var, n_node, n_mode) adjoint of the state after to that before."""
    by_state, by_sum, g = arrays
    adjoint = adjoint + g
    before, d_sum = (_weighted(rows[None], adjoint[None])[0] for rows in (by_state, by_sum))
    d_afferent = jnp.einsum("ij,cim->cjm", weights, d_sum)
    if step.cvar == tuple(range(before.shape[0])):
        before = before + d_afferent
    else:
        before = before.at[jnp.asarray(step.cvar)].add(d_afferent)
    return before, adjoint


def _block_size(n_time, n_element):
    """Steps a block: what stays in cache; of such sizes one that leaves no odd piece, to be compiled by itself."""
    most = max(1, min(n_time, BLOCK_ELEMENTS // n_element))
    return next((size for size in range(most, most // 2, -1) if n_time % size == 0), most)


def _scan_blocks_in_reverse(block, carry, arrays, size):
    """Scan `block` over blocks of ``size`` steps, last to first.

    An odd piece is filled up behind the last step, with states that occur and cotangents of zero: the adjoint enters
    the real steps as zero, as it should.
    """
    states, draws, cotangents = arrays
    n_time = cotangents.shape[0]
    fill = -n_time % size

    def blocked(array, filling):
        filled = jnp.concatenate([array, filling]) if fill else array
        return filled.reshape(-1, size, *array.shape[1:])

    repeated = jax.tree.map(lambda array: blocked(array, jnp.repeat(array[-1:], fill, axis=0)), (states, draws))
    cotangents = blocked(cotangents, jnp.zeros((fill, *cotangents.shape[1:]), cotangents.dtype))
    carry, out = jax.lax.scan(block, carry, (*repeated, cotangents), reverse=True)
    return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n_time], out)
