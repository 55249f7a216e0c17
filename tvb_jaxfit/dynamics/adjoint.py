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

    def theta_with(chosen):
        chosen = iter(chosen)
        return jax.tree.unflatten(
            treedef, [next(chosen) if want else leaf for leaf, want in zip(leaves, want_leaves, strict=True)]
        )

    def advance(chosen, x, gx, z):
        return jax.vmap(partial(step.from_sum, theta_with(chosen)))(x, gx, z)

    def block(carry, arrays):
        adjoint, totals = carry
        x, z, g = arrays
        y = step.afferent(x)
        gx = jax.vmap(partial(weighted_sum, weights))(y)
        _, pull = jax.vjp(advance, chosen, x, gx, z)
        jacobians = [pull(row)[1:3] for row in _unit_rows(x)]
        by_state, by_sum = (jnp.stack(rows, axis=1) for rows in zip(*jacobians, strict=True))
        adjoint, through = jax.lax.scan(partial(_back, step, weights), adjoint, (by_state, by_sum, g), reverse=True)
        d_chosen, _, d_sum, d_draws = pull(through)
        d_weights = jnp.einsum("tcim,tcjm->ij", d_sum, y) if want_weights else None
        totals = jax.tree.map(jnp.add, totals, (d_chosen, d_weights))
        return (adjoint, totals), d_draws if want_draws else None

    before = jnp.concatenate([x0[None], states[:-1]])
    zeros = jax.tree.map(jnp.zeros_like, (chosen, weights if want_weights else None))
    carry = (jnp.zeros_like(x0), zeros)
    (adjoint, (d_chosen, d_weights)), d_draws = _scan_blocks_in_reverse(block, carry, (before, draws, cotangents))
    d_chosen = iter(d_chosen)
    return (d_weights, adjoint, d_draws, *(next(d_chosen) if want else None for want in want_leaves))


_trajectory.defvjp(_forward, _backward, symbolic_zeros=True)


def _unit_rows(x):
    """One cotangent for each (variable, mode) of a node: pulled back, they are the rows of the local Jacobians."""
    n_var, _, n_mode = x.shape[-3:]
    for variable in range(n_var):
        for mode in range(n_mode):
            yield jnp.zeros_like(x).at[..., variable, :, mode].set(1.0)


def _back(step, weights, adjoint, arrays):
    """One step of the reverse recursion: (n_var, n_node, n_mode) adjoint of the state after to that before."""
    by_state, by_sum, g = arrays
    adjoint = adjoint + g
    rows = jnp.moveaxis(adjoint, 1, 2).reshape(-1, 1, adjoint.shape[1], 1)
    d_sum = jnp.sum(by_sum * rows, axis=0)
    before = jnp.sum(by_state * rows, axis=0)
    d_afferent = jnp.einsum("ij,cim->cjm", weights, d_sum)
    if step.cvar == tuple(range(before.shape[0])):
        before = before + d_afferent
    else:
        before = before.at[jnp.asarray(step.cvar)].add(d_afferent)
    return before, adjoint


def _block_size(n_time, most):
    """Largest size up to ``most`` that leaves no odd piece, which would be compiled by itself; or ``most``."""
    return next((size for size in range(most, most // 2, -1) if n_time % size == 0), most)


def _scan_blocks_in_reverse(block, carry, arrays):
    """Scan `block` over the time axis in cache-sized blocks, last to first; an odd piece is the last in time."""
    n_time = arrays[2].shape[0]
    size = _block_size(n_time, max(1, min(n_time, BLOCK_ELEMENTS // max(1, arrays[2][0].size))))
    whole = n_time - n_time % size
    outputs = []
    if whole < n_time:
        carry, out = block(carry, jax.tree.map(lambda a: a[whole:], arrays))
        outputs.append(out)
    blocks = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), arrays)
    carry, out = jax.lax.scan(block, carry, blocks, reverse=True)
    outputs.insert(0, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), out))
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)
