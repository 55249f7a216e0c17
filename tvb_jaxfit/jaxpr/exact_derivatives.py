"""Derivatives of formulas with exponentials and powers that are exact wherever the value is finite.

The derivative of 1 / (1 + exp(x)) is exp(x) / (1 + exp(x))^2 up to its sign. Automatic differentiation multiplies
exp(x) by 1 / (1 + exp(x))^2: one factor may overflow and the other underflow, although the product is an ordinary
number.

This pass represents each such value v also as a product s t: the scale s is constant under differentiation, and t is of
the order of 1. Scales are multiplied and divided among themselves, where they cancel. Only t is differentiated, so that
derivatives of every order are exact. Values are those of the original formula.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from .flatten import CALLS, eval_equation, is_literal
from .scaled_numbers import INTRODUCE_SCALE, PROPAGATE_SCALE, Number, Scaled

# Operations that only move elements: they apply to the scale and to the rest alike.
_MOVES = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose slice copy rev".split())


def exact_derivatives(function: Callable) -> Callable:
    """The same function of arrays, with derivatives that have no intermediate overflow or underflow.

    Parameters
    ----------
    function : callable
        Function of arrays, to a tree of arrays.

    Returns
    -------
    callable
        Function with the same arguments and the same result, bit for bit. If an exponential overflows and the result is
        finite, the derivative is that of the limit.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from tvb_jaxfit.jaxpr.exact_derivatives import exact_derivatives
    >>> def softplus(x):
    ...     return jnp.log(1.0 + jnp.exp(x))
    >>> float(jax.grad(exact_derivatives(softplus))(jnp.float32(88.0)))
    1.0
    """

    @functools.wraps(function)
    def exact(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not _introduces_scales(closed.jaxpr):
            results = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        else:
            results = [number.direct for number in _evaluate(closed, map(Number, jax.tree.leaves(arguments)))]
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return exact


def _introduces_scales(jaxpr):
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in INTRODUCE_SCALE or name == "jit" and _introduces_scales(equation.params["jaxpr"].jaxpr):
            return True
    return False


def _evaluate(closed, numbers):
    values = {atom: Number(value) for atom, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)}
    values |= zip(closed.jaxpr.invars, numbers, strict=True)

    def read(atom):
        return Number(atom.val) if is_literal(atom) else values[atom]

    for equation in closed.jaxpr.eqns:
        results = _apply(closed.jaxpr, equation, [read(atom) for atom in equation.invars])
        values |= zip(equation.outvars, results, strict=True)
    return [read(atom) for atom in closed.jaxpr.outvars]


def _apply(jaxpr, equation, numbers):
    name = equation.primitive.name
    if name == "jit":
        return _evaluate(equation.params[CALLS[name]], numbers)
    is_real = bool(equation.outvars) and jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating)
    if is_real and name in INTRODUCE_SCALE:
        result = INTRODUCE_SCALE[name](equation, *numbers)
        if result is not None:
            return [result]
    results = eval_equation(jaxpr, equation, [number.direct for number in numbers])
    if is_real and any(number.make_scaled for number in numbers):
        if name in _MOVES:
            return [Number(results[0], lambda: _moved(equation, numbers[0].scaled()))]
        if name in PROPAGATE_SCALE:
            return [PROPAGATE_SCALE[name](results[0], *numbers)]
    return map(Number, results)


def _moved(equation, scaled):
    def move(value):
        return equation.primitive.bind(value, **equation.params) if isinstance(value, jax.Array) else value

    return Scaled(move(scaled.scale), move(scaled.factor), move(scaled.exponent), scaled.sign)
