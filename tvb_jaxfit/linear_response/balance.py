"""Fixed point of a network at which a function of each region, such as its rate, has a target: one parameter is free.

The parameter is one more state variable of each region, which changes as long as the target is missed. A fixed point of
this larger network is the fixed point of the network itself, and the value of the parameter that gives the target.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..dynamics.step import Step
from .fixed_point import implicit, search
from .linearise import jacobian, steady_coupling_input

# Maximum number of times that regions are balanced one by one, each with the input of the others as they were before.
_MAX_ROUNDS = 30
# Change of the parameter in one step, relative to its size, where the relative error of the function is 1: slow enough
# for the state variables to follow.
_RATE = 0.002


class BalancedPoint(NamedTuple):
    """Fixed point with a target.

    Attributes
    ----------
    parameter : Array, shape (n_node,)
    x : Array, shape (n_var, n_node, 1)
        Fixed point.
    error : Array, shape (n_node,)
        Function of the fixed point, minus its target.
    converged : Array of bool, shape ()
    """

    parameter: jax.Array
    x: jax.Array
    error: jax.Array
    converged: jax.Array


def balanced_point(
    step: Step,
    local: Callable,
    theta,
    weights: jax.Array,
    target: jax.Array,
    start: tuple[jax.Array, jax.Array],
    state_range,
) -> BalancedPoint:
    r"""Fixed point at which a function of each region has a target, and the parameter that leads there.

    Parameters
    ----------
    step : Step
        Of which the coupling is used.
    local : callable
        (theta, parameter, x, coupling) to the change of the state in a step (n_var, n_node, 1), and to the function
        (n_node, 1); the parameter is of shape (n_node,). Each region depends on itself alone.
    theta : pytree of Array
        Parameters of ``step`` and ``local``.
    weights : Array, shape (n_node, n_node)
    target : Array, shape () or (n_node,)
        Not 0.
    start : (Array, Array)
        Parameter (n_node,) and state (n_var, n_node, 1) from which the search starts.
    state_range : array_like, shape (2, n_var)
        As for `fixed_point`.

    Returns
    -------
    BalancedPoint
        With the derivative of the implicit function.

    Notes
    -----
    The parameter p of a region follows :math:`p \leftarrow p + k (r - r^*) / |r^*|`, with the sign of k for which the
    response of the region counteracts the error. Regions are first balanced one by one, since the balanced network
    may be unstable as a whole: `fixed_point` searches along their flow, and by Newton's iteration close to the end.
    Where the target determines what a region sends, the second round is the last. The end is that of the network.
    """
    parameter, x = start
    size = jnp.maximum(jnp.max(jnp.abs(parameter)), 1.0)
    gain = jax.lax.stop_gradient(_RATE * size * _sign(step, local, theta, weights, parameter, x))
    target = jnp.broadcast_to(target, parameter.shape)[:, None]

    def local_step(theta, z, coupling, _):
        change, function = local(theta, z[-1, :, 0], z[:-1], coupling)
        missed = gain[:, None] * (function - target) / jnp.abs(target)
        return z + jnp.concatenate([change, missed[None]])

    def received(theta, s, y):
        from_before, is_coupled = theta[1:]
        return step.post(theta[0], jnp.where(is_coupled, s, from_before), y)

    larger = replace(
        step,
        local=lambda theta, *arguments: local_step(theta[0], *arguments),
        post=received,
        channels=step.channels and (lambda theta, y: step.channels(theta[0], y)),
        pairwise=step.pairwise and (lambda theta, *arguments: step.pairwise(theta[0], *arguments)),
    )
    z = jnp.concatenate([x, jnp.broadcast_to(parameter[None, :, None], (1, *x.shape[1:]))])
    state_range = jnp.concatenate(
        [jnp.asarray(state_range, x.dtype), jnp.stack([jnp.zeros_like(size), 2.0 * size])[:, None]], axis=1
    )
    # Without noise; the linearised step needs the shape of some.
    noise = {"noise": jnp.zeros_like(z[:1])}

    constants, frozen_weights = jax.lax.stop_gradient((theta, weights))

    def balance(carry):
        z, _, _, is_last, count = carry
        s = steady_coupling_input(step, constants, frozen_weights, z)
        found, *error = search(larger, (constants, s, is_last), frozen_weights, noise, z, state_range)
        moved = jnp.max(jnp.abs(found - z)) > jnp.sqrt(jnp.finfo(z.dtype).eps) * jnp.max(jnp.abs(z))
        is_next_last = (count + 1 >= _MAX_ROUNDS) | ((count > 0) & ~moved)
        return found, jnp.stack(error), is_last, is_next_last, count + 1

    # Rounds of regions one by one, and at last of the network.
    z, error, *_ = jax.lax.while_loop(
        lambda carry: ~carry[2], balance, (z, jnp.zeros(2, z.dtype), jnp.asarray(False), jnp.asarray(False), 0)
    )
    s = steady_coupling_input(step, theta, weights, z)
    rest = implicit(larger, (theta, s, True), weights, noise, z, *error)
    parameter, x = rest.x[-1, :, 0], rest.x[:-1]
    _, function = local(theta, parameter, x, _coupling(step, theta, weights, x))
    return BalancedPoint(parameter, x, (function - target)[:, 0], rest.converged)


def _coupling(step, theta, weights, x):
    return step.post(theta, steady_coupling_input(step, theta, weights, x), step.coupling_variables(x))


def _sign(step, local, theta, weights, parameter, x):
    """Sign of the change of the parameter that soon lowers the function of an isolated region, (n_node,)."""
    coupling = _coupling(step, theta, weights, x)

    def change_and_function(z):
        change, function = local(theta, z[-1, :, 0], z[:-1], coupling)
        return jnp.concatenate([change, function[None]])

    (both,) = jacobian(change_and_function, (jnp.concatenate([x, parameter[None, :, None]]),))
    change, function = both[:, :-1], both[:, -1:]
    # dx' = A dx + b dp for a time shorter than that of any growing mode: dx is along (norm - A)^-1 b.
    A, b = change[..., :-1], change[..., -1:]
    norm = jnp.sum(jnp.abs(A), axis=(1, 2), keepdims=True)
    moved = jnp.linalg.solve(norm * jnp.eye(A.shape[-1], dtype=A.dtype) - A, b)
    response = function[..., -1:] + function[..., :-1] @ moved
    return -jnp.sign(response[:, 0, 0])
