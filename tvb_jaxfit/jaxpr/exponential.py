"""Exponentials with finite derivatives, and with fewer operations than XLA's."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

# By the size of a number in bytes, 8 or 4.
# The largest argument whose exponential is finite, rounded down.
LARGEST_ARGUMENT = {8: 709.0, 4: 88.0}
# ln 2 as a sum of two: the first has enough trailing zero bits that its products with exponents are exact.
_LN2 = {8: (6.93147180369123816490e-01, 1.90821492927058770002e-10), 4: (0.693359375, -2.12194440e-4)}
# Adding this number to an integer is exact and moves the integer to the last bits.
_SHIFT = {8: 1.5 * 2.0**52, 4: 1.5 * 2.0**23}
# Taylor coefficients of (exp(r) - 1 - r) / r^2, accurate to rounding for |r| <= ln(2) / 2.
_EXPM1 = {size: tuple(1 / math.factorial(k + 2) for k in range(n)) for size, n in ((8, 12), (4, 7))}


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """Polynomial with the given coefficients, the constant first.

    Notes
    -----
    Estrin's scheme: pairs of terms are independent of each other, where Horner's scheme is one chain of dependent
    operations.
    """
    terms = list(coefficients)
    while len(terms) > 1:
        pairs = [low + high * x for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        x = x * x
    return terms[0]


@jax.custom_jvp
def expm1_and_exp(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(x) - 1 and exp(x), both accurate to rounding.

    Parameters
    ----------
    x : Array
        Single or double precision, at most `LARGEST_ARGUMENT` in absolute value.

    Returns
    -------
    expm1, exp : Array

    Notes
    -----
    On a CPU it takes half the time of XLA's exp, and a quarter of that of its expm1.
    """
    size = x.dtype.itemsize
    high, low = _LN2[size]
    bits, bias, mantissa = (jnp.int64, 1023, 52) if size == 8 else (jnp.int32, 127, 23)
    k = lax.round(x * (1.0 / math.log(2.0)), lax.RoundingMethod.TO_NEAREST_EVEN)
    r = (x - k * high) - k * low
    # Bits are reinterpreted instead of converted: XLA's conversion saturates, which takes five more operations.
    power = lax.bitcast_convert_type((lax.bitcast_convert_type(k + _SHIFT[size], bits) + bias) << mantissa, x.dtype)
    expm1_of_r = r + r * r * polynomial(_EXPM1[size], r)
    return power * expm1_of_r + (power - 1.0), power * expm1_of_r + power


@expm1_and_exp.defjvp
def _expm1_and_exp_jvp(primals, tangents):
    expm1, value = expm1_and_exp(*primals)
    slope = value * tangents[0]
    return (expm1, value), (slope, slope)


@jax.custom_jvp
def exp(x: jax.Array) -> jax.Array:
    """Exponential with a derivative of 0 where the value overflows.

    Parameters
    ----------
    x : Array
        Real or complex.

    Returns
    -------
    Array
        As ``jax.numpy.exp``, infinite values included.

    Notes
    -----
    A finite function of an exponential that overflows, such as 1 / (1 + exp(x)), is flat there; autodiff of the formula
    gives 0 times infinity.
    """
    return jnp.exp(x)


@exp.defjvp
def _exp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = exp(x)
    slope = y if jnp.iscomplexobj(y) else jnp.where(jnp.isinf(y), 0.0, y)
    return y, slope * dx
