"""The step made linear at a point: small Jacobians of each node, and the network between them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Linearised(NamedTuple):
    """x' = A x + D s + B z for each group by itself, s = sum over delays of N Y x(t - delay).

    A group is a node, or all nodes together where they meet in the local map. Inside a group, entries are ordered by
    (node, variable, mode).

    Attributes
    ----------
    A : Array, shape (n_group, n_state, n_state)
        By the state.
    D : Array, shape (n_group, n_state, n_sum)
        By the sums that arrive.
    Y : Array, shape (n_group, n_sent, n_state)
        What is sent, by the state.
    B : Array, shape (n_group, n_state, n_noise)
        By what enters as noise, of unit variance a step.
    N : Array, shape (n_group * n_sum, n_group * n_sent)
        What arrives, by what was sent.
    """

    A: jax.Array
    D: jax.Array
    Y: jax.Array
    B: jax.Array
    N: jax.Array


def at_rest(step, theta, weights, inputs, x):
    """What a step without noise makes of a state that has been the same for longer than all delays.

    Parameters
    ----------
    step : Step
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    inputs : dict of Array
        What enters at a step.
    x : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    Array, shape (n_var, n_node, n_mode)
    """
    return step.next_state(theta, x, arriving(step, theta, weights, x), inputs)


def arriving(step, theta, weights, x):
    """Sums that arrive where all nodes have been at x for longer than all delays."""
    return _arriving_of(step, theta, weights, step.coupling_variables(x), step.source_output(theta, x))


def _arriving_of(step, theta, weights, own, sent):
    if step.pairwise is None:
        return jnp.einsum("ij,cjm->cim", weights, sent)
    seen = jnp.broadcast_to(sent, (sent.shape[1], *sent.shape))
    return step.pairwise(theta, weights, own, seen)


def linearise(step, theta, weights, inputs, x):
    """Jacobians of a step at a state that has been the same for longer than all delays.

    Parameters
    ----------
    step, theta, weights, inputs, x
        As for `at_rest`; ``inputs`` has the noise, at 0.

    Returns
    -------
    Linearised
    """
    whole = step.is_nonlocal
    own, sent = step.coupling_variables(x), step.source_output(theta, x)
    arrives = partial(_arriving_of, step, theta, weights)
    s = arrives(own, sent)

    def local(x, more, noise):
        # What a node looks at of itself in pairs is its own affair, too.
        s_of_own = s if step.pairwise is None else arrives(step.coupling_variables(x), sent)
        return step.next_state(theta, x, s_of_own + more, inputs | {"noise": noise})

    A, D, B = jacobian(local, (x, jnp.zeros_like(s), inputs["noise"]), whole)
    (Y,) = jacobian(partial(step.source_output, theta), (x,), whole)
    return Linearised(A, D, Y, B, _network(step, weights, partial(arrives, own), sent))


def _network(step, weights, arrives, sent):
    if step.pairwise is not None:
        return jacobian(arrives, (sent,), True)[0][0]
    return jnp.kron(weights, jnp.eye(sent.shape[0] * sent.shape[2], dtype=weights.dtype))


def jacobian(function, at, whole=False):
    """Jacobians of a function that is local in the nodes.

    Parameters
    ----------
    function : callable
        Of arrays (k, n_node, m) to (o, n_node, p).
    at : tuple of Array
    whole : bool
        For a function that need not be local.

    Returns
    -------
    list of Array, each of shape (n_node, o * p, k * m)
        With ``whole``, (1, n_node * o * p, n_node * k * m).
    """
    n_node = at[0].shape[1]
    n_group = 1 if whole else n_node
    splits = np.cumsum([value.size // n_group for value in at])
    unit = jnp.eye(splits[-1], dtype=at[0].dtype)

    # One direction at a time: what is compiled is one derivative, however many variables there are.
    def along(row):
        parts = jnp.split(jnp.broadcast_to(row, (n_group, row.size)), splits[:-1], axis=-1)
        tangents = tuple(by_variable(part, value.shape) for part, value in zip(parts, at, strict=True))
        return by_node(jax.jvp(function, at, tangents)[1]).reshape(n_group, -1)

    return jnp.split(jnp.moveaxis(jax.lax.map(along, unit), 0, -1), splits[:-1], axis=-1)


def by_node(values):
    """(..., k, n_node, m) as (..., n_node, k * m)."""
    values = jnp.swapaxes(values, -3, -2)
    return values.reshape(*values.shape[:-2], -1)


def by_variable(values, shape):
    """The reverse of `by_node` for values of (n_node, k * m), or of all of them in a row, to shape (k, n_node, m)."""
    k, n_node, m = shape
    return jnp.swapaxes(values.reshape(n_node, k, m), 0, 1)


def spread(blocks):
    """Blocks (n_group, a, b) as one matrix (n_group * a, n_group * b) with them on its diagonal."""
    n_group, a, b = blocks.shape
    here = jnp.eye(n_group, dtype=blocks.dtype)
    return (blocks[:, :, None, :] * here[:, None, :, None]).reshape(n_group * a, n_group * b)


def step_matrix(linearised):
    """The whole step as one matrix, M = A + D N Y, where there are no delays (or nothing changes in time)."""
    A, D, Y, _, N = linearised
    through = apply_left(D, apply_right(N, Y))
    return spread(A) + through


def apply_left(blocks, matrix):
    """Block diagonal (n_group, a, b) times matrix (n_group * b, n)."""
    n_group, a, b = blocks.shape
    return jnp.einsum("gab,gbn->gan", blocks, matrix.reshape(n_group, b, -1)).reshape(n_group * a, -1)


def apply_right(matrix, blocks):
    """Matrix (n, n_group * a) times block diagonal (n_group, a, b)."""
    n_group, a, b = blocks.shape
    return jnp.einsum("nga,gab->ngb", matrix.reshape(-1, n_group, a), blocks).reshape(-1, n_group * b)


def solve_still(linearised, right):
    """(1 - M)^-1 times a matrix (n_group * n_state, n): where constant pushes move the state to."""
    A, D, Y, _, N = linearised
    n_group, n_state, n_sum = D.shape
    right = right.reshape(n_group, n_state, -1)
    solved = solve_each(jnp.eye(n_state, dtype=A.dtype)[None] - A, jnp.concatenate([D, right], axis=-1))
    of_sums, local = solved[..., :n_sum], solved[..., n_sum:]
    network = jnp.eye(N.shape[0], dtype=A.dtype) - apply_right(N, Y @ of_sums)
    sums = jnp.linalg.solve(network, N @ (Y @ local).reshape(N.shape[1], -1))
    return (local + of_sums @ sums.reshape(n_group, n_sum, -1)).reshape(n_group * n_state, -1)


def solve_each(matrices, right):
    """Solutions of a small system for each group: LAPACK takes longer to call than to divide."""
    return right / matrices if matrices.shape[-1] == 1 else jnp.linalg.solve(matrices, right)


def delays_of(step, linearised):
    """Delay of each entry of N [steps], or None."""
    if step.delays is None:
        return None
    rows, columns = (size // step.delays.shape[0] for size in linearised.N.shape)
    return np.repeat(np.repeat(step.delays, rows, axis=0), columns, axis=1)
