r"""Runs of a step with a custom derivative: structured reverse mode, and forward mode beside the run.

A step is x_{t+1} = phi(x_t, s_t, u_t; theta) with the coupling input s_{t,i} = sum_j W_ij y_j(x_{t - d_ij}), where phi
and y are node-local. The derivative is computed from their small node-local Jacobians; see `reverse_pass` for the
equations, and docs/developers/adjoint.md for the derivation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..jaxpr.flatten import flatten_jaxpr
from ..jaxpr.fusion import materialise_shared
from ..jaxpr.linear_map import linear_call
from .blocks import Blocks, identity, split_run
from .reverse_pass import reverse_pass
from .step import Step, Theta
from .trajectory import ArgumentStructure, run


def trajectory(step: Step, n_steps: int, theta: Theta, weights: jax.Array, past: jax.Array, inputs: Any) -> jax.Array:
    """States after each step, with the structured reverse pass: `simulate_steps` without a reduction.

    Parameters and returns are those of `scan_steps`, which uses plain autodiff.
    """
    return simulate_steps(step, n_steps, theta, weights, past, inputs)[0]


def simulate_steps(
    step: Step,
    n_steps: int,
    theta: Theta,
    weights: jax.Array,
    past: jax.Array,
    inputs: Any,
    reduce: Callable = identity,
    reduce_params: Any = (),
) -> tuple[Any, jax.Array]:
    """Outputs of a run, with the structured reverse pass.

    Parameters
    ----------
    step, n_steps, theta, weights, past, inputs
        As in `scan_steps`.
    reduce : callable
        States of a block to its outputs, as in `Blocks`; it must accept the block lengths of `block_sizes`.
    reduce_params : tree of Array
        Parameters of ``reduce``.

    Returns
    -------
    outputs : tree of Array
        Time axis first.
    last : Array, shape (horizon, n_var, n_node, n_mode)
        The final history, from which a next run continues.

    Notes
    -----
    The reverse pass computes only the gradients that are differentiated. A gradient in a single number is computed in
    forward mode beside the run. `jax.jvp` and Hessian-vector products (forward over reverse) work as well.
    """
    n_node = past.shape[2]
    inputs = jax.tree.map(lambda a: jnp.broadcast_to(a, (*a.shape[:-2], n_node, a.shape[-1])), inputs)
    parts, begin = [], 0
    for blocks in split_run(step, n_steps, past, reduce):
        block_inputs = jax.tree.map(
            partial(jax.lax.slice_in_dim, start_index=begin, limit_index=begin + blocks.n_steps), inputs
        )
        if step.is_local:
            structure, leaves = ArgumentStructure.flatten(theta, reduce_params, block_inputs)
            outputs, last = _run(blocks, structure, weights, past, *leaves)
        else:
            outputs, last, _ = run(blocks, theta, weights, past, block_inputs, reduce_params)
        past = jnp.concatenate([past, last])[-past.shape[0] :]
        begin += blocks.n_steps
        parts.append(outputs)
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts), past


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(blocks, structure, weights, past, *leaves):
    """Outputs and latest states of a run."""
    arguments = structure.run_arguments(weights, past, leaves)
    return _optimised(blocks, lambda blocks, *args: run(blocks, *args)[:2], weights)(*arguments)


def _optimised(blocks, function, weights):
    """Function of blocks and arguments, rewritten for XLA.

    With a sparsity mask, sums are dense if any weight outside the mask is not zero.
    """

    def rewritten(blocks):
        return materialise_shared(flatten_jaxpr(partial(function, blocks)))

    if blocks.mask is None:
        return rewritten(blocks)
    outside = jnp.any(jnp.where(blocks.mask, 0.0, weights) != 0.0)
    dense = replace(blocks, mask=None)
    return lambda *arguments: jax.lax.cond(outside, rewritten(dense), rewritten(blocks), *arguments)


@partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(blocks, structure, arguments, tangents):
    """Result of `_run` and its tangent, which transposes to the structured reverse pass."""
    weights, past, *leaves = arguments
    # Arguments that are not differentiated have a symbolic zero as tangent.
    differentiated = tuple(index for index, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero))
    tangents = [tangents[index] for index in differentiated]
    if _is_single_number(structure, differentiated, arguments):
        # Forward mode in one number costs less than a reverse pass.
        unit = [jnp.ones_like(arguments[differentiated[0]])]
        jvp = partial(_forward_mode, structure, differentiated, unit)
        value, slope = _optimised(blocks, jvp, weights)(*arguments)
        number = jnp.reshape(tangents[0], ())
        return value, jax.tree.map(lambda leaf: leaf * number, slope)
    run_and_keep = _optimised(blocks, partial(run, keep=True), weights)
    outputs, last, kept = run_and_keep(*structure.run_arguments(weights, past, leaves))
    derivative = _Derivative(blocks, structure, differentiated, len(arguments), jax.tree.structure(kept))
    value, value_structure = jax.tree.flatten((outputs, last))
    residuals = [*arguments, *jax.tree.leaves(kept)]
    tangent = linear_call(derivative.forward, derivative.transpose, residuals, tangents, value)
    return (outputs, last), jax.tree.unflatten(value_structure, tangent)


def _is_single_number(structure, differentiated, arguments):
    """True if the only differentiated argument is one number of theta."""
    if len(differentiated) != 1:
        return False
    (index,) = differentiated
    return 2 <= index < 2 + structure.n_theta and arguments[index].size == 1


@dataclass(frozen=True, eq=False)
class _Derivative:
    """Derivative of a run as a linear function; residuals are the arguments and the states that `run` kept."""

    blocks: Blocks
    structure: ArgumentStructure
    differentiated: tuple[int, ...]
    n_argument: int
    kept_structure: Any

    def forward(self, residuals, tangents):
        """Tangents of the results."""
        arguments = residuals[: self.n_argument]
        jvp = partial(_forward_mode, self.structure, self.differentiated, tangents)
        return jax.tree.leaves(_optimised(self.blocks, jvp, arguments[0])(*arguments)[1])

    def transpose(self, residuals, cotangents):
        """Cotangents of the differentiated arguments."""
        (weights, past, *leaves), kept = residuals[: self.n_argument], residuals[self.n_argument :]
        *output_cotangents, last_cotangent = cotangents
        if all(g is None for g in cotangents):
            return [jnp.zeros_like(residuals[index]) for index in self.differentiated]
        is_differentiated = [index in self.differentiated for index in range(self.n_argument)]
        residuals = weights, past, leaves, jax.tree.unflatten(self.kept_structure, kept)
        reverse = _optimised(self.blocks, partial(reverse_pass, self.structure, is_differentiated), weights)
        gradients = reverse(residuals, output_cotangents, last_cotangent)
        return [gradients[index] for index in self.differentiated]


def _forward_mode(structure, differentiated, tangents, blocks, *arguments):
    """Result of a run and its tangent."""

    def of_differentiated(*values):
        replaced = dict(zip(differentiated, values, strict=True))
        weights, past, *leaves = (replaced.get(index, leaf) for index, leaf in enumerate(arguments))
        return run(blocks, *structure.run_arguments(weights, past, leaves))[:2]

    return jax.jvp(of_differentiated, tuple(arguments[index] for index in differentiated), tuple(tangents))
