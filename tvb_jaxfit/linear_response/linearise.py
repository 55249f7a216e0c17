"""Linearised step: small Jacobians of each node, and the network that couples them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Linearised(NamedTuple):
    """Linearised step x' = A x + D s + B z, with the coupling input s = sum over delays of N Y x(t - delay).

    A, D, Y and B act in each group separately. A group is one node, or the whole network if nodes interact in the local
    map. In a group, entries are ordered by (node, variable, mode).

    Attributes
    ----------
    A : Array, shape (n_group, n_state, n_state)
        Derivative of the state by the state before.
    D : Array, shape (n_group, n_state, n_input)
        Derivative of the state by the coupling input.
    Y : Array, shape (n_group, n_output, n_state)
        Derivative of the source output by the state.
    B : Array, shape (n_group, n_state, n_noise)
        Derivative of the state by the noise, which has unit variance per step.
    N : Array, shape (n_group * n_input, n_group * n_output)
        Derivative of the coupling input by the source output.
    """

    A: jax.Array
    D: jax.Array
    Y: jax.Array
    B: jax.Array
    N: jax.Array


def steady_step(step, theta, weights, inputs, x) -> jax.Array:
    """One step without noise from a state that has been constant for longer than all delays.

    Parameters
    ----------
    step : Step
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    inputs : dict of Array
        Inputs of one step, by name; the noise is 0.
    x : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    Array, shape (n_var, n_node, n_mode)
    """
    return step.next_state(theta, x, steady_coupling_input(step, theta, weights, x), inputs)


def steady_coupling_input(step, theta, weights, x) -> jax.Array:
    """Coupling input if all nodes have been at ``x`` for longer than all delays."""
    return coupling_input(step, theta, weights, step.coupling_variables(x), step.source_output(theta, x))


def coupling_input(step, theta, weights, coupling_variables, source_output) -> jax.Array:
    """Coupling input of targets with their own coupling variables, from source outputs that have been constant."""
    if step.pairwise is None:
        return jnp.einsum("ij,cjm->cim", weights, source_output)
    delayed = jnp.broadcast_to(source_output, (source_output.shape[1], *source_output.shape))
    return step.pairwise(theta, weights, coupling_variables, delayed)


def linearise(step, theta, weights, inputs, x) -> Linearised:
    """Jacobians of a step at a state that has been constant for longer than all delays.

    Parameters
    ----------
    step, theta, weights, inputs, x
        As for `steady_step`.

    Returns
    -------
    Linearised
    """
    is_nonlocal = step.is_nonlocal
    coupling_variables, source_output = step.coupling_variables(x), step.source_output(theta, x)
    input_of = partial(coupling_input, step, theta, weights)
    s = input_of(coupling_variables, source_output)

    def local(x, change, noise):
        # A pairwise coupling also depends on the target's own state: this part belongs to the local map.
        local_s = s if step.pairwise is None else input_of(step.coupling_variables(x), source_output)
        return step.next_state(theta, x, local_s + change, inputs | {"noise": noise})

    A, D, B = jacobian(local, (x, jnp.zeros_like(s), inputs["noise"]), is_nonlocal)
    (Y,) = jacobian(partial(step.source_output, theta), (x,), is_nonlocal)
    return Linearised(A, D, Y, B, _network(step, weights, partial(input_of, coupling_variables), source_output))


def _network(step, weights, input_of, source_output):
    if step.pairwise is not None:
        return jacobian(input_of, (source_output,), True)[0][0]
    return jnp.kron(weights, jnp.eye(source_output.shape[0] * source_output.shape[2], dtype=weights.dtype))


def jacobian(function, at, is_nonlocal=False) -> list[jax.Array]:
    """Jacobians of a node-local function.

    Parameters
    ----------
    function : callable
        Function of arrays (k, n_node, m), to an array (o, n_node, p).
    at : tuple of Array
        Arguments at which the Jacobians are taken.
    is_nonlocal : bool
        True for a function that is not node-local.

    Returns
    -------
    list of Array, each of shape (n_node, o * p, k * m)
        One per argument. For a nonlocal function, the shape is (1, n_node * o * p, n_node * k * m).
    """
    n_node = at[0].shape[1]
    n_group = 1 if is_nonlocal else n_node
    splits = np.cumsum([value.size // n_group for value in at])
    unit = jnp.eye(splits[-1], dtype=at[0].dtype)

    # One direction at a time: a single derivative is compiled, for any number of variables.
    def directional_derivative(row):
        parts = jnp.split(jnp.broadcast_to(row, (n_group, row.size)), splits[:-1], axis=-1)
        tangents = tuple(by_variable(part, value.shape) for part, value in zip(parts, at, strict=True))
        return by_node(jax.jvp(function, at, tangents)[1]).reshape(n_group, -1)

    return jnp.split(jnp.moveaxis(jax.lax.map(directional_derivative, unit), 0, -1), splits[:-1], axis=-1)


def by_node(values) -> jax.Array:
    """Array (..., k, n_node, m) rearranged to (..., n_node, k * m)."""
    values = jnp.swapaxes(values, -3, -2)
    return values.reshape(*values.shape[:-2], -1)


def by_variable(values, shape) -> jax.Array:
    """Inverse of `by_node` for values (n_node, k * m), or the same values flat, to shape (k, n_node, m)."""
    k, n_node, m = shape
    return jnp.swapaxes(values.reshape(n_node, k, m), 0, 1)


def block_diagonal(blocks) -> jax.Array:
    """Block-diagonal matrix (n_group * a, n_group * b) of blocks (n_group, a, b)."""
    n_group, a, b = blocks.shape
    unit = jnp.eye(n_group, dtype=blocks.dtype)
    return (blocks[:, :, None, :] * unit[:, None, :, None]).reshape(n_group * a, n_group * b)


def step_matrix(linearised: Linearised) -> jax.Array:
    """Matrix M = A + D N Y of a whole step without delays."""
    A, D, Y, _, N = linearised
    through_network = apply_left(D, apply_right(N, Y))
    return block_diagonal(A) + through_network


def apply_left(blocks, matrix) -> jax.Array:
    """Product of a block-diagonal matrix, as blocks (n_group, a, b), and a matrix (n_group * b, n)."""
    n_group, a, b = blocks.shape
    return jnp.einsum("gab,gbn->gan", blocks, matrix.reshape(n_group, b, -1)).reshape(n_group * a, -1)


def apply_right(matrix, blocks) -> jax.Array:
    """Product of a matrix (n, n_group * a) and a block-diagonal matrix, as blocks (n_group, a, b)."""
    n_group, a, b = blocks.shape
    return jnp.einsum("nga,gab->ngb", matrix.reshape(-1, n_group, a), blocks).reshape(-1, n_group * b)


def solve_dc(linearised: Linearised, right) -> jax.Array:
    """Solution (1 - M)^-1 ``right``: the steady response to constant inputs, ``right`` of (n_group * n_state, n)."""
    A, D, Y, _, N = linearised
    n_group, n_state, n_input = D.shape
    right = right.reshape(n_group, n_state, -1)
    solved = solve_each(jnp.eye(n_state, dtype=A.dtype)[None] - A, jnp.concatenate([D, right], axis=-1))
    by_input, local = solved[..., :n_input], solved[..., n_input:]
    network = jnp.eye(N.shape[0], dtype=A.dtype) - apply_right(N, Y @ by_input)
    inputs = jnp.linalg.solve(network, N @ (Y @ local).reshape(N.shape[1], -1))
    return (local + by_input @ inputs.reshape(n_group, n_input, -1)).reshape(n_group * n_state, -1)


def solve_each(matrices, right) -> jax.Array:
    """Solution of one small linear system per group."""
    # For 1 x 1 systems a division is faster than a call of LAPACK.
    return right / matrices if matrices.shape[-1] == 1 else jnp.linalg.solve(matrices, right)


def delays_of(step, linearised: Linearised) -> np.ndarray | None:
    """Delay of each entry of N [steps], or None without delays."""
    if step.delays is None:
        return None
    rows, columns = (size // step.delays.shape[0] for size in linearised.N.shape)
    return np.repeat(np.repeat(step.delays, rows, axis=0), columns, axis=1)
