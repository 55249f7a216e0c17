"""Fixed point of a network without noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .linearise import by_node, by_variable, linearise, solve_dc, steady_step

_MAX_STEPS = 100
# Pseudo-time of the first step [steps] for a relative residual of 1 %; longer for smaller residuals. Far from the fixed
# point the iteration follows the flow.
_FIRST_PSEUDO_TIME = 20.0
# Bounds of the growth of the pseudo-time from one step to the next. The lower bound is above 1: on a limit cycle the
# residual does not fall, and only longer steps leave the cycle.
_MIN_GROWTH, _MAX_GROWTH = 1.2, 10.0


class FixedPoint(NamedTuple):
    """State that a step without noise leaves unchanged.

    Attributes
    ----------
    x : Array, shape (n_var, n_node, n_mode)
        Finite even if the search did not converge.
    residual : Array, shape ()
        Largest change that a step still makes, relative to the largest value of the state variable (at least 1e-3).
    converged : Array of bool, shape ()
    """

    x: jax.Array
    residual: jax.Array
    converged: jax.Array


def fixed_point(step, theta, weights, inputs, start) -> FixedPoint:
    r"""Fixed point that a network reaches from a start state.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `linearise.steady_step`.
    start : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    FixedPoint

    Notes
    -----
    Pseudo-transient continuation: implicit Euler steps whose pseudo-time :math:`\tau` grows as the residual falls. The
    first steps are a relaxation, the last ones are Newton steps:
    :math:`x \leftarrow x + (1/\tau + 1 - M)^{-1} (F(x) - x)`. The derivative is that of the implicit function.

    References
    ----------
    Kelley, C. T., Keyes, D. E. (1998). SIAM J. Numer. Anal. 35(2), 508-523.
    """
    constants = jax.tree.map(jax.lax.stop_gradient, (theta, weights, inputs, start))
    x, residual, tolerance = _search(step, *constants)
    x, residual = jax.lax.stop_gradient((x, residual))
    # One Newton step with a constant matrix has the derivative of the implicit function.
    linearised = jax.lax.stop_gradient(linearise(step, theta, weights, inputs, x))
    d = _residual_function(step, theta, weights, inputs)(x)
    last = x + by_variable(solve_dc(linearised, by_node(d).reshape(-1, 1)), x.shape)
    converged = residual <= 1e4 * tolerance
    return FixedPoint(jnp.where(converged & jnp.isfinite(last), last, x), residual, converged)


def _search(step, theta, weights, inputs, start):
    """(x, residual, tolerance): end of the pseudo-transient continuation; not to be differentiated."""
    residual_function = _residual_function(step, theta, weights, inputs)
    tolerance = 100.0 * jnp.finfo(start.dtype).eps

    def relative_size(x, d):
        # Relative to each variable, since variables have different units.
        scale = jnp.maximum(jnp.max(jnp.abs(x), axis=(1, 2)), 1e-3)
        return jnp.max(jnp.max(jnp.abs(d), axis=(1, 2)) / scale)

    def not_converged(carry):
        _, _, residual, _, count = carry
        return (residual > tolerance) & (count < _MAX_STEPS)

    def pseudo_transient_step(carry):
        x, d, residual, pseudo_time, count = carry
        linearised = linearise(step, theta, weights, inputs, x)
        # (1 + 1/tau - M)^-1 = (1 - (M - 1/tau))^-1
        A = linearised.A
        shifted = linearised._replace(A=A - jnp.eye(A.shape[-1], dtype=x.dtype)[None] / pseudo_time)
        new_x = x + by_variable(solve_dc(shifted, by_node(d).reshape(-1, 1)), x.shape)
        new_d = residual_function(new_x)
        new_residual = relative_size(new_x, new_d)
        accepted = jnp.isfinite(new_residual) & (new_residual < 10.0 * residual)
        growth = jnp.clip(residual / jnp.maximum(new_residual, jnp.finfo(x.dtype).tiny), _MIN_GROWTH, _MAX_GROWTH)
        growth = jnp.where(new_residual > 2.0 * residual, 0.5, growth)
        pseudo_time = jnp.where(accepted, jnp.minimum(pseudo_time * growth, 1e12), pseudo_time / 4.0)
        x, d = jnp.where(accepted, new_x, x), jnp.where(accepted, new_d, d)
        return x, d, jnp.where(accepted, new_residual, residual), pseudo_time, count + 1

    d = residual_function(start)
    residual = relative_size(start, d)
    pseudo_time = _FIRST_PSEUDO_TIME * jnp.maximum(1.0, 0.01 / jnp.maximum(residual, tolerance))
    carry = (start, d, residual, pseudo_time, 0)
    x, _, residual, _, _ = jax.lax.while_loop(not_converged, pseudo_transient_step, carry)
    return x, residual, tolerance


def _residual_function(step, theta, weights, inputs):
    return lambda x: steady_step(step, theta, weights, inputs, x) - x
