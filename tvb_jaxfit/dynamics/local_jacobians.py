"""Node-local Jacobians of many steps at once, by rows, and their products with adjoints.

A block of T steps is evaluated as one step of T * n_node nodes. Node-local functions are unaffected, and XLA still
vectorises over the node axis.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def fold_time(series: jax.Array) -> jax.Array:
    """Series (size, ..., n_node, k) as one sample (..., size * n_node, k)."""
    time_inside = jnp.moveaxis(series, 0, -3)
    return time_inside.reshape(*series.shape[1:-2], -1, series.shape[-1])


def unfold_time(tree: Any, size: int) -> Any:
    """Inverse of `fold_time`, for each array of a tree."""

    def unfold(sample):
        separate = sample.reshape(*sample.shape[:-2], size, -1, sample.shape[-1])
        return jnp.moveaxis(separate, -3, 0)

    return jax.tree.map(unfold, tree)


def tile_over_time(leaf: jax.Array, size: int) -> jax.Array:
    """A parameter (..., n_node or 1, k) for ``size`` times as many nodes; a global one is left to broadcast."""
    if leaf.shape[-2] == 1:
        return leaf
    return jnp.tile(leaf, (*(1,) * (leaf.ndim - 2), size, 1))


def sum_to_shape(total: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum over nodes for a global parameter; others are returned as they are."""
    return total if total.shape == shape else jnp.sum(total, axis=-2, keepdims=True)


def unit_cotangents(value: jax.Array) -> Iterator[jax.Array]:
    """Yield one cotangent per (variable, mode) of a node; their pullbacks are the rows of the local Jacobians."""
    n_var, n_node, n_mode = value.shape
    zero = jnp.zeros((n_node, n_mode), value.dtype)
    for variable in range(n_var):
        for mode in range(n_mode):
            unit = jnp.broadcast_to((jnp.arange(n_mode) == mode).astype(value.dtype), zero.shape)
            yield jnp.stack([unit if index == variable else zero for index in range(n_var)])


def weighted_sum(rows: Sequence[tuple], adjoint: Sequence[jax.Array]) -> list[jax.Array]:
    """Product of the transposed Jacobian and an adjoint: the sum of Jacobian rows, each times its adjoint.

    Parameters
    ----------
    rows : list of tuple of Array, shape (n_node, n_mode)
        For each (variable, mode), its derivatives.
    adjoint : tuple of Array, shape (n_node, n_mode)
        One per variable.

    Returns
    -------
    list of Array, shape (n_node, n_mode)
    """
    weights = _by_row(adjoint)
    columns = zip(*rows, strict=True)
    return [sum(row * weight for row, weight in zip(column, weights, strict=True)) for column in columns]


def vjp_by_rows(rows: Sequence, adjoint: Sequence[jax.Array]):
    """Sum of pulled-back unit cotangents, each times its adjoint: equal to the pullback of the adjoint."""

    def scale(row, weight):
        return jax.tree.map(lambda a: a * weight.reshape(*(1,) * (a.ndim - 2), -1, 1), row)

    scaled = map(scale, rows, _by_row(adjoint))
    return jax.tree.map(lambda *leaves: sum(leaves), *scaled)


def _by_row(adjoint):
    """The adjoint (n_node, 1) of each (variable, mode)."""
    return [leaf[:, mode : mode + 1] for leaf in adjoint for mode in range(leaf.shape[-1])]
