"""Fixed point of a network without noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .linearise import by_node, by_variable, linearise, solve_dc, steady_step

# Maximum numbers of steps: along the flow; and then regardless of it, towards any fixed point.
_MAX_FLOW_STEPS, _MAX_STEPS = 200, 300
# Pseudo-time of the first step [steps] for a relative residual of 1 %; longer for smaller residuals.
_FIRST_PSEUDO_TIME = 20.0
# Error of a step along the flow that is aimed at, and the largest one that is accepted, in units of the state
# variables' ranges. Larger errors end in other attractors, or on saddles between them.
_FLOW_ERROR, _MAX_FLOW_ERROR = 0.01, 0.03
# Bounds of the growth of the pseudo-time from one step to the next: along the flow; and regardless of it, where the
# lower bound is above 1: on a limit cycle the residual does not fall, and only longer steps leave the cycle.
_FLOW_GROWTH, _GROWTH = (0.2, 10.0), (1.2, 10.0)
# Residuals are relative to the values of a variable, from _SMALLEST to _LARGEST times the largest one of its range: a
# phase or a potential that runs away has no fixed point far out. The search ends beyond _RUNAWAY times the largest.
_SMALLEST, _LARGEST, _RUNAWAY = 1e-3, 100.0, 1e4
# Residual of a fixed point, relative to the one at which the search ends.
_ACCEPTED = 1e4


class FixedPoint(NamedTuple):
    """State that a step without noise leaves unchanged.

    Attributes
    ----------
    x : Array, shape (n_var, n_node, n_mode)
        Finite even if the search did not converge.
    residual : Array, shape ()
        Largest change that a step still makes, relative to the largest value of the state variable (at least 1e-3, at
        most 100 times the largest one of its range).
    converged : Array of bool, shape ()
    """

    x: jax.Array
    residual: jax.Array
    converged: jax.Array


def fixed_point(step, theta, weights, inputs, start, state_range) -> FixedPoint:
    r"""Fixed point that a network reaches from a start state.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `linearise.steady_step`.
    start : Array, shape (n_var, n_node, n_mode)
    state_range : array_like, shape (2, n_var)
        Lower and upper ends of the state variables' ranges. If the search does not converge from ``start``, it is
        repeated from their centre: from some states of the range, the step of a long dt diverges.

    Returns
    -------
    FixedPoint

    Notes
    -----
    Pseudo-transient continuation: implicit Euler steps of the pseudo-time :math:`\tau`,
    :math:`x \leftarrow x + (1/\tau + 1 - M)^{-1} (F(x) - x)`. Their difference from trapezoidal steps limits
    :math:`\tau`: far from a fixed point they follow the flow without delays, and near it they become Newton steps. On a
    limit cycle the flow does not converge; later steps leave it for the unstable fixed point, as the residual falls.
    The derivative is that of the implicit function.

    References
    ----------
    Kelley, C. T., Keyes, D. E. (1998). SIAM J. Numer. Anal. 35(2), 508-523.
    """
    constants = jax.tree.map(jax.lax.stop_gradient, (theta, weights, inputs, start))
    x, residual, tolerance = search(step, *constants, jnp.asarray(state_range, start.dtype))
    return implicit(step, theta, weights, inputs, x, residual, tolerance)


def implicit(step, theta, weights, inputs, x, residual, tolerance) -> FixedPoint:
    """End of a `search`, with the derivative of the implicit function.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `fixed_point`.
    x, residual, tolerance
        Results of `search`.

    Returns
    -------
    FixedPoint
    """
    x, residual = jax.lax.stop_gradient((x, residual))
    # One Newton step with a constant matrix has the derivative of the implicit function.
    linearised = jax.lax.stop_gradient(linearise(step, theta, weights, inputs, x))
    d = _residual_function(step, theta, weights, inputs)(x)
    last = x + by_variable(solve_dc(linearised, by_node(d).reshape(-1, 1)), x.shape)
    converged = residual <= _ACCEPTED * tolerance
    return FixedPoint(jnp.where(converged & jnp.isfinite(last), last, x), residual, converged)


def search(step, theta, weights, inputs, start, state_range):
    """(x, residual, tolerance): end of the pseudo-transient continuation, as for `fixed_point`; has no derivative."""
    residual_function = _residual_function(step, theta, weights, inputs)
    tolerance = 100.0 * jnp.finfo(start.dtype).eps
    size = (state_range[1] - state_range[0])[:, None, None]
    largest = jnp.maximum(_LARGEST * jnp.max(jnp.abs(state_range), axis=0), _SMALLEST)

    def relative_size(x, d):
        # Relative to each variable, since variables have different units.
        scale = jnp.clip(jnp.max(jnp.abs(x), axis=(1, 2)), _SMALLEST, largest)
        return jnp.max(jnp.max(jnp.abs(d), axis=(1, 2)) / scale)

    def not_converged(carry):
        x, _, residual, _, count = carry
        runs_away = jnp.any(jnp.max(jnp.abs(x), axis=(1, 2)) > _RUNAWAY * largest)
        return (residual > tolerance) & ~runs_away & (count < _MAX_STEPS)

    def pseudo_transient_step(carry):
        x, d, residual, pseudo_time, count = carry
        linearised = linearise(step, theta, weights, inputs, x)
        # (1 + 1/tau - M)^-1 = (1 - (M - 1/tau))^-1
        A = linearised.A
        shifted = linearised._replace(A=A - jnp.eye(A.shape[-1], dtype=x.dtype)[None] / pseudo_time)
        new_x = x + by_variable(solve_dc(shifted, by_node(d).reshape(-1, 1)), x.shape)
        new_d = residual_function(new_x)
        new_residual = relative_size(new_x, new_d)
        error = jnp.max(0.5 * pseudo_time * jnp.abs(new_d - d) / size)
        follows_flow = count < _MAX_FLOW_STEPS
        is_small = jnp.where(follows_flow, error < _MAX_FLOW_ERROR, new_residual < 10.0 * residual)
        accepted = jnp.isfinite(new_residual) & is_small
        tiny = jnp.finfo(x.dtype).tiny
        by_error = jnp.clip(0.9 * jnp.sqrt(_FLOW_ERROR / jnp.maximum(error, tiny)), *_FLOW_GROWTH)
        by_residual = jnp.clip(residual / jnp.maximum(new_residual, tiny), *_GROWTH)
        by_residual = jnp.where(new_residual > 2.0 * residual, 0.5, by_residual)
        growth = jnp.where(follows_flow, by_error, by_residual)
        growth = jnp.where(accepted, growth, 0.25)
        pseudo_time = jnp.minimum(pseudo_time * growth, 1e12)
        x, d = jnp.where(accepted, new_x, x), jnp.where(accepted, new_d, d)
        return x, d, jnp.where(accepted, new_residual, residual), pseudo_time, count + 1

    def search_from(carry):
        _, _, attempt = carry
        first = jnp.where(attempt == 0, start, jnp.mean(state_range, axis=0)[:, None, None])
        d = residual_function(first)
        residual = relative_size(first, d)
        pseudo_time = _FIRST_PSEUDO_TIME * jnp.maximum(1.0, 0.01 / jnp.maximum(residual, tolerance))
        x, _, residual, _, _ = jax.lax.while_loop(
            not_converged, pseudo_transient_step, (first, d, residual, pseudo_time, 0)
        )
        return x, residual, attempt + 1

    def found_nothing(carry):
        _, residual, attempt = carry
        return ~(residual <= tolerance * _ACCEPTED) & (attempt < 2)

    x, residual, _ = jax.lax.while_loop(found_nothing, search_from, (start, jnp.full((), jnp.inf, start.dtype), 0))
    return x, residual, tolerance


def _residual_function(step, theta, weights, inputs):
    return lambda x: steady_step(step, theta, weights, inputs, x) - x
