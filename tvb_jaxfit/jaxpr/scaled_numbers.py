"""Numbers as products of a scale and a rest, for `exact_derivatives`: rules that introduce and propagate scales."""

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .exponential import exp

# Powers up to this one do not overflow at ordinary arguments.
_MAX_SAFE_POWER = 2


@dataclass(frozen=True)
class Scaled:
    """A value as scale * rest, with rest = factor * exp(exponent - e), where e is the value of the exponent.

    The second factor of the rest has the value 1; it carries the derivative of the exponent.

    Attributes
    ----------
    scale : Array or float
        Constant under differentiation.
    factor : Array or float
    exponent : Array, optional
    sign : int, optional
        Sign of the value, 1 or -1, if the formula determines it.
    terms : tuple of Scaled
        Terms of a sum; empty for other values.
    """

    scale: object
    factor: object
    exponent: object = None
    sign: int | None = None
    terms: tuple = ()

    @property
    def rest(self):
        """Value over scale, of the order of 1, with its derivative."""
        one = self.exponent is not None and _proportional_to_exp(jnp.ones_like(self.exponent), self.exponent)
        return self.factor if self.exponent is None else self.factor * one

    @property
    def log(self):
        """Logarithm of the value, up to a constant."""
        if isinstance(self.factor, float):
            return self.exponent
        return jnp.log(self.factor) + (0.0 if self.exponent is None else self.exponent)

    def over(self, scale, exponent=None):
        """Quotient of the value by a scale and by exp(exponent)."""
        ratio, exponent = 0.25 * (self.scale * _quadruple_inverse(scale)), _difference(self.exponent, exponent)
        return self.factor * (ratio if exponent is None else _proportional_to_exp(ratio, exponent))


def _difference(a, b):
    """Difference of two exponents; None stands for 0."""
    return a if b is None else -b if a is None else a - b


@dataclass
class Number:
    """A value of the traced function.

    Attributes
    ----------
    direct : Array or float
        The value as the formula gives it, with the derivative of automatic differentiation.
    make_scaled : callable, optional
        Function without arguments that returns the `Scaled` form; None for a value that cannot overflow.
    """

    direct: object
    make_scaled: Callable | None = None

    def __post_init__(self):
        self._scaled = None

    def scaled(self) -> Scaled:
        """Scaled form; the scale is 1 for a value without one."""
        if self._scaled is None:
            make = self.make_scaled or (lambda: Scaled(1.0, self.direct, sign=_sign_of(self.direct)))
            self._scaled = make()
        return self._scaled

    @property
    def constant(self):
        """The value without a derivative."""
        return lax.stop_gradient(self.direct)


def _sign_of(value):
    """Sign of a constant of the formula; None for a traced value or a mixed sign."""
    if isinstance(value, jax.core.Tracer):
        return None
    if np.all(np.asarray(value) > 0):
        return 1
    return -1 if np.all(np.asarray(value) < 0) else None


# JAX refuses gradients of a scan inside vmap where a value has fewer batch axes than its derivative: where(True, ...)
# has those of both operands, and the value of the first.
@jax.custom_jvp
def _with_derivative_of(value, formula):
    """A value that is known already, with the derivative of a formula for it."""
    return jnp.where(True, value, formula)


@_with_derivative_of.defjvp
def _with_derivative_of_jvp(primals, tangents):
    return _with_derivative_of(*primals), tangents[1]


@jax.custom_jvp
def _proportional_to_exp(value, exponent):
    """A value that is known already, with the derivative of a multiple of exp(exponent)."""
    return jnp.where(True, value, exponent)


@_proportional_to_exp.defjvp
def _proportional_to_exp_jvp(primals, tangents):
    y = _proportional_to_exp(*primals)
    return y, y * tangents[1]


@jax.custom_jvp
def _log_of_one(x):
    """Logarithm of a number whose value is 1, with its derivatives."""
    return jnp.where(True, jnp.zeros_like(x), x)


@_log_of_one.defjvp
def _log_of_one_jvp(primals, tangents):
    y = _log_of_one(*primals)
    return y, _proportional_to_exp(jnp.ones_like(y), -y) * tangents[0]


def _quadruple_inverse(scale):
    """4 / scale: the reciprocal of the largest scales is subnormal, and processors may flush it to 0."""
    return 1.0 / (0.25 * scale)


def _bounded(scale):
    return jnp.minimum(scale, float(jnp.finfo(scale.dtype).max))


def _zero_where_infinite(x, derivative):
    """Derivative, or 0 where ``x`` overflows: a finite function of ``x`` is constant there."""
    return jnp.where(jnp.isinf(x), 0.0, derivative)


def _rejoined(value, scaled):
    """Number whose direct value has the derivative scale * derivative of the rest."""
    growing = scaled.scale if scaled.exponent is None else _proportional_to_exp(scaled.scale, scaled.exponent)
    return Number(_with_derivative_of(value, growing * scaled.factor), lambda: scaled)


# Functions of one array, with derivatives that neither overflow nor cancel.


def _with_derivative(function, derivative):
    """Function of one array, whose derivative is ``derivative(x, y)``."""

    @jax.custom_jvp
    def result(x):
        return function(x)

    @result.defjvp
    def _(primals, tangents):
        y = result(*primals)
        return y, derivative(*primals, y) * tangents[0]

    return result


_exp2 = _with_derivative(jnp.exp2, lambda x, y: math.log(2.0) * _zero_if_infinite(y))
_expm1 = _with_derivative(jnp.expm1, lambda x, y: exp(x))
_cosh = _with_derivative(jnp.cosh, lambda x, y: _zero_if_infinite(_sinh(x)))
_sinh = _with_derivative(jnp.sinh, lambda x, y: _zero_if_infinite(_cosh(x)))
# The difference 1 - y would cancel where the derivative is small.
_logistic = _with_derivative(lax.logistic, lambda x, y: y * _logistic(-x))
_tanh = _with_derivative(jnp.tanh, lambda x, y: 4.0 * _half_tail(x) * (1.0 - _half_tail(x)))
# The square of a large x overflows; hypot does not.
_asinh = _with_derivative(jnp.arcsinh, lambda x, y: 1.0 / jnp.hypot(jnp.ones_like(x), x))


def _zero_if_infinite(y):
    return _zero_where_infinite(y, y)


def _half_tail(x):
    """(1 - tanh|x|) / 2 as the logistic function of -2 |x|, which does not cancel."""
    return _logistic(-2.0 * jnp.abs(x))


# Rules for operations that may overflow: they introduce a scale.


def _exp_rule(equation, x):
    y = exp(x.direct)
    return Number(y, lambda: Scaled(_bounded(lax.stop_gradient(y)), 1.0, x.direct, 1))


def _exp2_rule(equation, x):
    y = _exp2(x.direct)
    return Number(y, lambda: Scaled(_bounded(lax.stop_gradient(y)), 1.0, math.log(2.0) * x.direct, 1))


def _expm1_rule(equation, x):
    y = _expm1(x.direct)
    return Number(y, lambda: _sum(y, _exp_rule(equation, x).scaled(), Scaled(1.0, -1.0, sign=-1)))


def _cosh_rule(equation, x):
    return Number(_cosh(x.direct), lambda: _scaled_by_cosh(x, 1))


def _sinh_rule(equation, x):
    return Number(_sinh(x.direct), lambda: _scaled_by_cosh(x, -1))


def _scaled_by_cosh(x, sign):
    """(exp(x) + sign exp(-x)) / 2 with the scale cosh(x)."""
    constant = x.constant
    up, down = (_proportional_to_exp(lax.logistic(s * 2.0 * constant), s * x.direct) for s in (1.0, -1.0))
    known = jnp.ones_like(up) if sign == 1 else jnp.tanh(constant)
    rest = _with_derivative_of(known, up + sign * down)
    return Scaled(_bounded(jnp.cosh(constant)), rest, sign=1 if sign == 1 else None)


def _integer_pow_rule(equation, x):
    n = equation.params["y"]
    if x.make_scaled is None and 0 <= n <= _MAX_SAFE_POWER:
        return None
    y = equation.primitive.bind(x.direct, **equation.params)
    if x.make_scaled is None:
        return Number(y, lambda: _power(x.direct, n))
    base = x.scaled()
    sign = 1 if n % 2 == 0 else base.sign
    scale = _bounded(base.scale**n) if n > 0 else _zero_where_infinite(x.constant, base.scale**n)
    return _rejoined(y, Scaled(scale, base.rest**n, sign=sign))


def _pow_rule(equation, x, exponent):
    y = equation.primitive.bind(x.direct, exponent.direct)
    if x.make_scaled is None:
        base, power = (jnp.broadcast_to(jnp.asarray(operand.direct, y.dtype), y.shape) for operand in (x, exponent))
        return Number(y, lambda: _power(base, power, _sign_of(x.direct)))
    base = x.scaled()
    if base.sign != 1:
        return None
    log = _with_derivative_of(jnp.log(jnp.maximum(x.constant, float(jnp.finfo(y.dtype).tiny))), base.log)
    return _rejoined(y, Scaled(_bounded(lax.stop_gradient(y)), 1.0, exponent.direct * log, 1))


def _power(x, exponent, sign=None):
    """Power of a value without a scale.

    The scale is the power of max(|x|, 1); for a negative integer exponent, of |x|.
    """
    least = float(jnp.finfo(x.dtype).tiny) if isinstance(exponent, int) and exponent < 0 else 1.0
    base = jnp.maximum(jnp.abs(lax.stop_gradient(x)), least)
    over_base = jnp.where(jnp.abs(x) < least, jnp.ones_like(x), x / base) if least < 1.0 else x / base
    scale, rest = _bounded(base ** lax.stop_gradient(exponent)), over_base**exponent
    return Scaled(scale, rest, None if isinstance(exponent, int) else exponent * jnp.log(base), sign)


# By primitive: function of (equation, *operands), to the result, or to None if the ordinary operation is right.
INTRODUCE_SCALE = {
    "exp": _exp_rule,
    "exp2": _exp2_rule,
    "expm1": _expm1_rule,
    "cosh": _cosh_rule,
    "sinh": _sinh_rule,
    "integer_pow": _integer_pow_rule,
    "pow": _pow_rule,
    "logistic": lambda equation, x: Number(_logistic(x.direct)),
    "tanh": lambda equation, x: Number(_tanh(x.direct)),
    "asinh": lambda equation, x: Number(_asinh(x.direct)),
}


# Rules for operations on values with a scale: they propagate it.


def _sign_of_product(a, b):
    """Sign of a product or a quotient; None if unknown."""
    return None if None in (a, b) else a * b


def _negative(scaled):
    return Scaled(scaled.scale, -scaled.factor, scaled.exponent, _sign_of_product(-1, scaled.sign))


def _sum(y, a, b):
    """Sum y of two scaled values; its scale is |y| if the signs are equal, otherwise the sum of the sizes."""
    value, largest = lax.stop_gradient(y), float(jnp.finfo(y.dtype).max)
    sign, terms = a.sign if a.sign == b.sign else None, (a, b)
    size = jnp.abs(value) if sign else sum(lax.stop_gradient(jnp.abs(term.scale * term.rest)) for term in terms)
    scale = jnp.broadcast_to(jnp.clip(size, float(jnp.finfo(y.dtype).tiny), largest), value.shape)
    formula = _sum_over_scale(scale, [term for term in terms if isinstance(term.rest, jax.Array)])
    if sign:
        return Scaled(scale, float(sign), _log_of_one(sign * formula), sign, terms)
    ratio = 0.25 * (jnp.clip(value, -largest, largest) * _quadruple_inverse(scale))
    return Scaled(scale, _with_derivative_of(ratio, formula), terms=terms)


def _sum_over_scale(scale, terms, exponent=None):
    """Sum of terms over its scale, and over exp(exponent) if it is given."""
    return jnp.broadcast_to(sum(term.over(scale, exponent) for term in terms), scale.shape)


def _add(y, a, b):
    return Number(y, lambda: _sum(y, a.scaled(), b.scaled()))


def _sub(y, a, b):
    return Number(y, lambda: _sum(y, a.scaled(), _negative(b.scaled())))


def _neg(y, a):
    return Number(y, lambda: _negative(a.scaled()))


def _mul(y, a, b):
    def make_scaled():
        left, right = a.scaled(), b.scaled()
        exponents = [exponent for exponent in (left.exponent, right.exponent) if exponent is not None]
        exponent = functools.reduce(operator.add, exponents) if exponents else None
        sign = _sign_of_product(left.sign, right.sign)
        return Scaled(_bounded(left.scale * right.scale), left.factor * right.factor, exponent, sign)

    return Number(y, make_scaled)


def _div(y, a, b):
    over, under = a.scaled(), b.scaled()
    sign = _sign_of_product(over.sign, under.sign)
    if b.make_scaled is None:
        return Number(y, lambda: Scaled(over.scale, over.factor / b.direct, over.exponent, sign))
    if a.make_scaled is None:
        scale = _zero_where_infinite(b.constant, _quadruple_inverse(under.scale))
        factor = 0.25 * over.factor / under.factor
        return _rejoined(y, Scaled(scale, factor, _difference(None, under.exponent), sign))
    scale = _zero_where_infinite(b.constant, over.scale / under.scale)
    exponent = _difference(over.exponent, under.exponent)
    if under.terms and under.sign and over.exponent is not None:
        # In exp(x) / (1 + exp(x)) the difference of the two equal exponents is then exactly 0.
        exponent = -_log_of_one(under.sign * _sum_over_scale(under.scale, under.terms, over.exponent))
    return _rejoined(y, Scaled(scale, over.factor / under.factor, exponent, sign))


def _log(y, a):
    return Number(_with_derivative_of(y, a.scaled().log))


def _log1p(y, a):
    return Number(_with_derivative_of(y, _sum(1.0 + a.direct, Scaled(1.0, 1.0, sign=1), a.scaled()).log))


def _sqrt(y, a):
    scaled = a.scaled()
    scale = _zero_where_infinite(a.constant, jnp.sqrt(scaled.scale))
    return _rejoined(y, Scaled(scale, jnp.sqrt(scaled.rest), sign=scaled.sign))


def _select(y, which, *cases):
    def make_scaled():
        scaled = [case.scaled() for case in cases]
        same_sign = all(case.sign == scaled[0].sign for case in scaled)
        scale, rest = (
            lax.select_n(which.direct, *(jnp.broadcast_to(jnp.asarray(part, y.dtype), y.shape) for part in parts))
            for parts in ([case.scale for case in scaled], [case.rest for case in scaled])
        )
        return Scaled(scale, rest, sign=scaled[0].sign if same_sign else None)

    return Number(y, make_scaled)


# By primitive: function of (direct result, *operands), to the result, if an operand has a scale.
PROPAGATE_SCALE = {
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "square": lambda y, a: _mul(y, a, a),
    "select_n": _select,
}
