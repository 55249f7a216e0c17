"""Where a network without noise comes to rest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .linearise import at_rest, by_node, by_variable, linearise, solve_still

_MOST = 100
# Pseudo-time of the first implicit step [steps] where a step changes the state by a hundredth, more where it is less:
# what is far from rest follows its own path. And its growth from one step to the next, at least and at most: on a limit
# cycle the change never falls, but steps that are long enough leave it.
_FIRST, _LEAST, _GROWTH = 20.0, 1.2, 10.0


class FixedPoint(NamedTuple):
    """A state that a step without noise leaves as it is.

    Attributes
    ----------
    x : Array, shape (n_var, n_node, n_mode)
        Finite also where there is none.
    residual : Array, shape ()
        Largest change that a step still makes, relative to the largest value of the state variable (or 1).
    converged : Array of bool, shape ()
    """

    x: jax.Array
    residual: jax.Array
    converged: jax.Array


def fixed_point(step, theta, weights, inputs, start):
    r"""Fixed point that a network comes to from a state.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `linearise.at_rest`.
    start : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    FixedPoint

    Notes
    -----
    Implicit Euler steps in pseudo-time that grow as the change falls, which begin as relaxation and end as Newton's
    (pseudo-transient continuation): :math:`x \leftarrow x + (1/\tau + 1 - M)^{-1} (F(x) - x)`. The derivative is that
    of the implicit function.

    References
    ----------
    Kelley, C. T., Keyes, D. E. (1998). SIAM J. Numer. Anal. 35(2), 508-523.
    """
    quiet = jax.tree.map(jax.lax.stop_gradient, (theta, weights, inputs, start))
    change = _change(step, *quiet[:3])
    tolerance = 100.0 * jnp.finfo(start.dtype).eps

    def size(x, d):
        # Of each variable by itself: they have different units.
        scale = jnp.maximum(jnp.max(jnp.abs(x), axis=(1, 2)), 1e-3)
        return jnp.max(jnp.max(jnp.abs(d), axis=(1, 2)) / scale)

    def unfinished(carry):
        _, _, residual, _, count = carry
        return (residual > tolerance) & (count < _MOST)

    def implicit(carry):
        x, d, residual, pseudo, count = carry
        there = linearise(step, *quiet[:3], x)
        # (1 + 1/tau - M)^-1 = (1 - (M - 1/tau))^-1
        slower = there._replace(A=there.A - jnp.eye(there.A.shape[-1], dtype=x.dtype)[None] / pseudo)
        moved = x + by_variable(solve_still(slower, by_node(d).reshape(-1, 1)), x.shape)
        d_moved = change(moved)
        after = size(moved, d_moved)
        ok = jnp.isfinite(after) & (after < 10.0 * residual)
        growth = jnp.clip(residual / jnp.maximum(after, jnp.finfo(x.dtype).tiny), _LEAST, _GROWTH)
        growth = jnp.where(after > 2.0 * residual, 0.5, growth)
        pseudo = jnp.where(ok, jnp.minimum(pseudo * growth, 1e12), pseudo / 4.0)
        x, d = jnp.where(ok, moved, x), jnp.where(ok, d_moved, d)
        return x, d, jnp.where(ok, after, residual), pseudo, count + 1

    x = quiet[3]
    d = change(x)
    residual = size(x, d)
    pseudo = _FIRST * jnp.maximum(1.0, 0.01 / jnp.maximum(residual, tolerance))
    begin = (x, d, residual, pseudo, 0)
    x, _, residual, _, _ = jax.lax.while_loop(unfinished, implicit, begin)
    x, residual = jax.lax.stop_gradient((x, residual))
    # One Newton step, of which the matrix is held fixed, has the derivative of the implicit function.
    there = jax.lax.stop_gradient(linearise(step, theta, weights, inputs, x))
    d = _change(step, theta, weights, inputs)(x)
    last = x + by_variable(solve_still(there, by_node(d).reshape(-1, 1)), x.shape)
    converged = residual <= 1e4 * tolerance
    return FixedPoint(jnp.where(converged & jnp.isfinite(last), last, x), residual, converged)


def _change(step, theta, weights, inputs):
    return lambda x: at_rest(step, theta, weights, inputs, x) - x
