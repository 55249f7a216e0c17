"""One time step of a network: a node-local map, and a coupling function that combines the nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A pytree of arrays: the parameters of the step, derived once before the loop over time.
Theta = Any


@dataclass(frozen=True, eq=False)
class Step:
    """One time step: x' = local(theta, x, c, u) with c = post(theta, sum_j W_ij y_j(t - delay_ij), x[cvar]).

    Attributes
    ----------
    local : callable
        (theta, x, c, u) to x': states (n_var, n_node, n_mode), coupling (n_cvar, n_node, n_mode), and the inputs of the
        step (noise, stimulus) as a dict of arrays with the node axis second to last. Each node depends on itself alone,
        unless ``is_nonlocal``.
    cvar : tuple of int
        Indices of the coupling variables: the state variables that other nodes receive.
    post : callable
        (theta, s, y) to c: the coupling function applied to the coupling input s (n_channel, n_node, n_mode), with the
        node's own coupling variables y (n_cvar, n_node, n_mode).
    channels : callable or None
        (theta, y) to the source output (n_channel, n_node, n_mode); None if the source output is y itself.
    pairwise : callable or None
        (theta, weights, y_i, y_j) to s, for couplings that are no weighted sum of source outputs: y_j (target, n_cvar,
        source, n_mode) holds the coupling variables of each source as each target receives them.
    delays : ndarray of int, shape (n_node, n_node), or None
        Delays [steps] from source to target, indexed [target, source]; None for no delays.
    sparsity_mask : ndarray of bool, shape (n_node, n_node), or None
        Pairs [target, source] to which sums are restricted, as long as all other weights are zero; see
        `network.sparsity_mask`.
    is_nonlocal : bool
        True if ``local`` combines nodes as well.
    is_homogeneous : bool
        True if ``local`` and ``post`` are the same function for every node, apart from its parameters: several samples
        can then be evaluated as one sample of a larger network.

    Notes
    -----
    TVB evaluates the coupling once per step and keeps it through the stages of the integrator. The step therefore
    splits into a network sum and a node-local map, and its reverse pass needs only small node-local Jacobians (see
    `adjoint`).
    """

    local: Callable[[Theta, Any, Any, Any], Any]
    cvar: tuple[int, ...]
    post: Callable[[Theta, Any, Any], Any]
    channels: Callable[[Theta, Any], Any] | None = None
    pairwise: Callable[[Theta, Any, Any, Any], Any] | None = None
    delays: np.ndarray | None = None
    sparsity_mask: np.ndarray | None = None
    is_nonlocal: bool = False
    is_homogeneous: bool = True

    @property
    def horizon(self) -> int:
        """Number of samples that the coupling reads, the present one included."""
        return 1 if self.delays is None else int(self.delays.max()) + 1

    @property
    def is_local(self) -> bool:
        """True if nodes interact only through sums of source outputs: the Jacobians of a step are then node-local."""
        return self.pairwise is None and self.is_homogeneous and not self.is_nonlocal

    def coupling_variables(self, x):
        """Coupling variables of the state x, (..., n_var, n_node, n_mode) to (..., n_cvar, n_node, n_mode)."""
        if self.cvar == tuple(range(x.shape[-3])):
            return x
        return jnp.stack([jax.lax.index_in_dim(x, i, x.ndim - 3, keepdims=False) for i in self.cvar], axis=-3)

    def source_output(self, theta: Theta, x):
        """Output of each node at state x that travels to other nodes: its channels, or its coupling variables."""
        y = self.coupling_variables(x)
        return y if self.channels is None else self.channels(theta, y)

    def next_state(self, theta: Theta, x, s, u):
        """State after one step, from the coupling input s and the inputs u."""
        return self.local(theta, x, self.post(theta, s, self.coupling_variables(x)), u)
