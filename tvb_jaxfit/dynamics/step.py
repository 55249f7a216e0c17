"""The one step that everything else runs: a node-local map, and the coupling where nodes meet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

Theta = Any  # a pytree of arrays: what the step needs of the parameters, worked out once before the loop


@dataclass(frozen=True, eq=False)
class Step:
    """x' = local(theta, x, post(theta, W x[cvar]), z), nodes meeting in W alone.

    Attributes
    ----------
    local : callable
        (theta, x, c, z) to x': states (n_var, n_node, n_mode), coupling (n_cvar, n_node, n_mode), standard normal
        draws like x (None for a deterministic step). No node looks at another.
    post : callable
        (theta, gx) to c, both (n_cvar, n_node, n_mode): the coupling function after the weighted sum.
    cvar : tuple of int
        The coupling variables: rows of the state that other nodes see.

    Notes
    -----
    TVB computes the coupling once a step and keeps it through the stages of the integrator; this is why the step
    splits in two, and why its reverse pass needs small node-local Jacobians only (see `adjoint`).
    """

    local: Callable[[Theta, Any, Any, Any], Any]
    post: Callable[[Theta, Any], Any]
    cvar: tuple[int, ...]

    def afferent(self, x):
        """Coupling variables of the state x, (..., n_var, n_node, n_mode) to (..., n_cvar, n_node, n_mode)."""
        if self.cvar == tuple(range(x.shape[-3])):
            return x
        return jnp.take(x, jnp.asarray(self.cvar), axis=-3)

    def from_sum(self, theta, x, gx, z):
        """Next state from the weighted sum gx = W x[cvar]."""
        return self.local(theta, x, self.post(theta, gx), z)

    def __call__(self, theta, weights, x, z):
        """Next state; weights (n_node, n_node) are [target, source]."""
        return self.from_sum(theta, x, weighted_sum(weights, self.afferent(x)), z)


def weighted_sum(weights, y):
    """Sum over sources: weights[target, source] times y (n_cvar, source, n_mode)."""
    return jnp.einsum("ij,cjm->cim", weights, y)
