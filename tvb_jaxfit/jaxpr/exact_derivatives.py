"""Derivatives of formulas with exponentials and powers: exact wherever the value is finite.

The derivative of 1 / (1 + exp(x)) is exp(x) / (1 + exp(x))^2. Autodiff multiplies exp(x) by 1 / (1 + exp(x))^2, one of
which may overflow and the other vanish though their product is an ordinary number. Here each such value v is also
written as s t: the scale s is a constant of autodiff, t is of the order of one. Scales are multiplied and divided among
themselves, where they cancel; autodiff works on t alone, so that derivatives of every order are right. Values are those
of the formula as it is written.
"""

import functools

import jax
import jax.numpy as jnp

from .flatten import CALLS, by_itself, is_literal
from .scaled_numbers import KEPT, MADE, Number, Scaled

# Applied to scale and rest alike.
_PLACES = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose slice copy rev".split())


def exact_derivatives(function):
    """The same function of arrays, with derivatives that neither overflow nor vanish on the way.

    Parameters
    ----------
    function : callable
        Of arrays, to a tree of arrays.

    Returns
    -------
    callable
        Same arguments, same result, bit for bit. Where an exponential overflows and the result is finite, the
        derivative is that of the limit.

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
        if not _has_scales(closed.jaxpr):
            results = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *jax.tree.leaves(arguments))
        else:
            results = [number.usual for number in _evaluate(closed, map(Number, jax.tree.leaves(arguments)))]
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return exact


def _has_scales(jaxpr):
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in MADE or name == "jit" and _has_scales(equation.params["jaxpr"].jaxpr):
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
    real = bool(equation.outvars) and jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating)
    if real and name in MADE:
        found = MADE[name](equation, *numbers)
        if found is not None:
            return [found]
    results = by_itself(jaxpr, equation, [number.usual for number in numbers])
    if real and any(number.scaled for number in numbers):
        if name in _PLACES:
            return [Number(results[0], lambda: _moved(equation, numbers[0].apart()))]
        if name in KEPT:
            return [KEPT[name](results[0], *numbers)]
    return map(Number, results)


def _moved(equation, apart):
    def moved(value):
        return equation.primitive.bind(value, **equation.params) if isinstance(value, jax.Array) else value

    return Scaled(moved(apart.scale), moved(apart.factor), moved(apart.exponent), apart.sign)
