"""Numbers as scale times rest, for `exact_derivatives`: what makes them, and arithmetic with them."""

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..dynamics.transfer_function import exp

# A power overflows at ordinary arguments only beyond this one.
_SQUARE = 2


@dataclass(frozen=True)
class Scaled:
    """A value as scale times rest, and the rest as factor times exp(exponent - its value).

    Attributes
    ----------
    scale : Array or float
        Not differentiated.
    factor : Array or float
    exponent : Array, optional
    sign : int, optional
        Of the value, 1 or -1, where the formula shows it.
    terms : tuple of Scaled
        Of a sum: its terms.
    """

    scale: object
    factor: object
    exponent: object = None
    sign: int | None = None
    terms: tuple = ()

    @property
    def rest(self):
        """Of the order of one, with the derivative of the value over its scale."""
        one = self.exponent is not None and _growing(jnp.ones_like(self.exponent), self.exponent)
        return self.factor if self.exponent is None else self.factor * one

    @property
    def log(self):
        """Logarithm of the value, but for a constant."""
        if isinstance(self.factor, float):
            return self.exponent
        return jnp.log(self.factor) + (0.0 if self.exponent is None else self.exponent)

    def over(self, scale, exponent=None):
        """Divided by a scale, and by exp(exponent)."""
        ratio, exponent = 0.25 * (self.scale * _quadruple_inverse(scale)), _difference(self.exponent, exponent)
        return self.factor * (ratio if exponent is None else _growing(ratio, exponent))


def _difference(a, b):
    """Of two exponents."""
    return a if b is None else -b if a is None else a - b


@dataclass
class Number:
    """A value of the traced function.

    Attributes
    ----------
    usual : Array or float
        As autodiff has it.
    scaled : callable, optional
        To the same with its scale apart; a value that cannot overflow has none.
    """

    usual: object
    scaled: Callable | None = None

    def __post_init__(self):
        self._made = None

    def apart(self):
        """Scale and rest; a value without a scale of its own has scale 1."""
        if self._made is None:
            self._made = self.scaled() if self.scaled else Scaled(1.0, self.usual, sign=_sign_of(self.usual))
        return self._made

    @property
    def value(self):
        """Of this point: no derivative."""
        return lax.stop_gradient(self.usual)


def _sign_of(value):
    """Sign of a number that is written in the formula."""
    if isinstance(value, jax.core.Tracer):
        return None
    if np.all(np.asarray(value) > 0):
        return 1
    return -1 if np.all(np.asarray(value) < 0) else None


@jax.custom_jvp
def _known(value, formula):
    """A value that is known, with the derivative of a formula of it."""
    return value


@_known.defjvp
def _known_jvp(primals, tangents):
    return _known(*primals), tangents[1]


@jax.custom_jvp
def _growing(value, exponent):
    """A value that is known, and is proportional to exp(exponent)."""
    return value


@_growing.defjvp
def _growing_jvp(primals, tangents):
    y = _growing(*primals)
    return y, y * tangents[1]


@jax.custom_jvp
def _log_at_one(x):
    """Logarithm of what is 1."""
    return jnp.zeros_like(x)


@_log_at_one.defjvp
def _log_at_one_jvp(primals, tangents):
    y = _log_at_one(*primals)
    return y, _growing(jnp.ones_like(y), -y) * tangents[0]


def _quadruple_inverse(scale):
    """4 / scale: the reciprocal of the largest scales is subnormal, which processors may take for 0."""
    return 1.0 / (0.25 * scale)


def _bounded(scale):
    return jnp.minimum(scale, float(jnp.finfo(scale.dtype).max))


def _where_finite(x, slope):
    """Where a value overflows, what is finite of it is flat."""
    return jnp.where(jnp.isinf(x), 0.0, slope)


def _joined(value, scaled):
    """What goes on as a usual value: its derivative is the scale times that of the rest."""
    growing = scaled.scale if scaled.exponent is None else _growing(scaled.scale, scaled.exponent)
    return Number(_known(value, growing * scaled.factor), lambda: scaled)


# Values that may overflow, and how to write them with the scale apart.


def _with_slope(function, slope):
    """A function of one array whose derivative is ``slope(x, y)``."""

    @jax.custom_jvp
    def of(x):
        return function(x)

    @of.defjvp
    def _(primals, tangents):
        y = of(*primals)
        return y, slope(*primals, y) * tangents[0]

    return of


_exp2 = _with_slope(jnp.exp2, lambda x, y: math.log(2.0) * _flat(y))
_expm1 = _with_slope(jnp.expm1, lambda x, y: exp(x))
_cosh = _with_slope(jnp.cosh, lambda x, y: _flat(_sinh(x)))
_sinh = _with_slope(jnp.sinh, lambda x, y: _flat(_cosh(x)))
# Without the difference 1 - y, which has no digits where the slope is small.
_logistic = _with_slope(lax.logistic, lambda x, y: y * _logistic(-x))
_tanh = _with_slope(jnp.tanh, lambda x, y: 4.0 * _less_than_half(x) * (1.0 - _less_than_half(x)))
# The square of what is large overflows, its root does not.
_asinh = _with_slope(jnp.arcsinh, lambda x, y: 1.0 / jnp.hypot(jnp.ones_like(x), x))


def _less_than_half(x):
    """Logistic of -2 |x|: what 1 - tanh(x)^2 is made of, without a difference of what is near 1."""
    return _logistic(-2.0 * jnp.abs(x))


def _flat(y):
    return _where_finite(y, y)


def _of_exp(equation, x):
    y = exp(x.usual)
    return Number(y, lambda: Scaled(_bounded(lax.stop_gradient(y)), 1.0, x.usual, 1))


def _of_exp2(equation, x):
    y = _exp2(x.usual)
    return Number(y, lambda: Scaled(_bounded(lax.stop_gradient(y)), 1.0, math.log(2.0) * x.usual, 1))


def _of_expm1(equation, x):
    y = _expm1(x.usual)
    return Number(y, lambda: _sum(y, _of_exp(equation, x).apart(), Scaled(1.0, -1.0, sign=-1)))


def _of_cosh(equation, x):
    return Number(_cosh(x.usual), lambda: _halves(x, 1))


def _of_sinh(equation, x):
    return Number(_sinh(x.usual), lambda: _halves(x, -1))


def _halves(x, sign):
    """(exp(x) + sign exp(-x)) / 2, of the scale cosh(x)."""
    up, down = (_growing(lax.logistic(way * 2.0 * x.value), way * x.usual) for way in (1.0, -1.0))
    known = jnp.ones_like(up) if sign == 1 else jnp.tanh(x.value)
    return Scaled(_bounded(jnp.cosh(x.value)), _known(known, up + sign * down), sign=1 if sign == 1 else None)


def _of_integer_pow(equation, x):
    n = equation.params["y"]
    if x.scaled is None and 0 <= n <= _SQUARE:
        return None
    y = equation.primitive.bind(x.usual, **equation.params)
    if x.scaled is None:
        return Number(y, lambda: _power(x.usual, n))
    apart = x.apart()
    sign = 1 if n % 2 == 0 else apart.sign
    scale = _bounded(apart.scale**n) if n > 0 else _where_finite(x.value, apart.scale**n)
    return _joined(y, Scaled(scale, apart.rest**n, sign=sign))


def _of_pow(equation, x, exponent):
    y = equation.primitive.bind(x.usual, exponent.usual)
    if x.scaled is None:
        base, over = (jnp.broadcast_to(jnp.asarray(one.usual, y.dtype), y.shape) for one in (x, exponent))
        return Number(y, lambda: _power(base, over, _sign_of(x.usual)))
    apart = x.apart()
    if apart.sign != 1:
        return None
    log = _known(jnp.log(jnp.maximum(x.value, float(jnp.finfo(y.dtype).tiny))), apart.log)
    return _joined(y, Scaled(_bounded(lax.stop_gradient(y)), 1.0, exponent.usual * log, 1))


def _power(x, exponent, sign=None):
    """A power of a value without a scale: what the base has beyond 1 makes the scale, and of an inverse all of it."""
    least = float(jnp.finfo(x.dtype).tiny) if isinstance(exponent, int) and exponent < 0 else 1.0
    base = jnp.maximum(jnp.abs(lax.stop_gradient(x)), least)
    over_base = jnp.where(jnp.abs(x) < least, jnp.ones_like(x), x / base) if least < 1.0 else x / base
    scale, rest = _bounded(base ** lax.stop_gradient(exponent)), over_base**exponent
    return Scaled(scale, rest, None if isinstance(exponent, int) else exponent * jnp.log(base), sign)


# By primitive: (equation, *operands) to the result, or to None where there is nothing to do.
MADE = {
    "exp": _of_exp,
    "exp2": _of_exp2,
    "expm1": _of_expm1,
    "cosh": _of_cosh,
    "sinh": _of_sinh,
    "integer_pow": _of_integer_pow,
    "pow": _of_pow,
    "logistic": lambda equation, x: Number(_logistic(x.usual)),
    "tanh": lambda equation, x: Number(_tanh(x.usual)),
    "asinh": lambda equation, x: Number(_asinh(x.usual)),
}


# What is done with them.


def _product(a, b):
    """Sign of a product or a ratio."""
    return None if None in (a, b) else a * b


def _negative(apart):
    return Scaled(apart.scale, -apart.factor, apart.exponent, _product(-1, apart.sign))


def _sum(y, a, b):
    """A sum y with a scale of the size of its terms; where they have one sign, of the size of y."""
    value, largest = lax.stop_gradient(y), float(jnp.finfo(y.dtype).max)
    sign, terms = a.sign if a.sign == b.sign else None, (a, b)
    size = jnp.abs(value) if sign else sum(lax.stop_gradient(jnp.abs(one.scale * one.rest)) for one in terms)
    scale = jnp.broadcast_to(jnp.clip(size, float(jnp.finfo(y.dtype).tiny), largest), value.shape)
    formula = _of_terms(scale, [one for one in terms if isinstance(one.rest, jax.Array)])
    if sign:
        return Scaled(scale, float(sign), _log_at_one(sign * formula), sign, terms)
    ratio = 0.25 * (jnp.clip(value, -largest, largest) * _quadruple_inverse(scale))
    return Scaled(scale, _known(ratio, formula), terms=terms)


def _of_terms(scale, terms, exponent=None):
    """A sum over its scale, from its terms; over exp(exponent), too, where that is given."""
    return jnp.broadcast_to(sum(one.over(scale, exponent) for one in terms), scale.shape)


def _add(y, a, b):
    return Number(y, lambda: _sum(y, a.apart(), b.apart()))


def _sub(y, a, b):
    return Number(y, lambda: _sum(y, a.apart(), _negative(b.apart())))


def _neg(y, a):
    return Number(y, lambda: _negative(a.apart()))


def _mul(y, a, b):
    def scaled():
        one, other = a.apart(), b.apart()
        exponents = [exponent for exponent in (one.exponent, other.exponent) if exponent is not None]
        exponent = functools.reduce(operator.add, exponents) if exponents else None
        sign = _product(one.sign, other.sign)
        return Scaled(_bounded(one.scale * other.scale), one.factor * other.factor, exponent, sign)

    return Number(y, scaled)


def _div(y, a, b):
    over, under = a.apart(), b.apart()
    sign = _product(over.sign, under.sign)
    if b.scaled is None:
        return Number(y, lambda: Scaled(over.scale, over.factor / b.usual, over.exponent, sign))
    if a.scaled is None:
        scale, factor = _where_finite(b.value, _quadruple_inverse(under.scale)), 0.25 * over.factor / under.factor
        return _joined(y, Scaled(scale, factor, _difference(None, under.exponent), sign))
    scale, exponent = _where_finite(b.value, over.scale / under.scale), _difference(over.exponent, under.exponent)
    if under.terms and under.sign and over.exponent is not None:
        # In exp(x) / (1 + exp(x)), a difference of equal slopes is 0 without rounding.
        exponent = -_log_at_one(under.sign * _of_terms(under.scale, under.terms, over.exponent))
    return _joined(y, Scaled(scale, over.factor / under.factor, exponent, sign))


def _log(y, a):
    return Number(_known(y, a.apart().log))


def _log1p(y, a):
    return Number(_known(y, _sum(1.0 + a.usual, Scaled(1.0, 1.0, sign=1), a.apart()).log))


def _sqrt(y, a):
    apart = a.apart()
    return _joined(y, Scaled(_where_finite(a.value, jnp.sqrt(apart.scale)), jnp.sqrt(apart.rest), sign=apart.sign))


def _select(y, which, *cases):
    def scaled():
        apart = [case.apart() for case in cases]
        same = all(one.sign == apart[0].sign for one in apart)
        scale, rest = (
            lax.select_n(which.usual, *(jnp.broadcast_to(jnp.asarray(part, y.dtype), y.shape) for part in parts))
            for parts in ([one.scale for one in apart], [one.rest for one in apart])
        )
        return Scaled(scale, rest, sign=apart[0].sign if same else None)

    return Number(y, scaled)


# By primitive: (usual result, *operands) to the result, where an operand has a scale.
KEPT = {
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
