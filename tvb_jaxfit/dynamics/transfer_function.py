"""The population transfer function y / (1 - exp(-y)), accurate where its formula is not."""

import math

import jax
import jax.numpy as jnp
from jax import lax

# Derivative of y / (1 - exp(-y)) - 1 - y / 2 over y, in even powers: 2k B_2k / (2k)!. Within 1/2 of zero the first term
# left out is below 1e-16.
_SERIES = (1 / 6, -1 / 180, 1 / 5040, -1 / 151200, 1 / 4790016, -691 / 108972864000, 1 / 5337446400)
_SERIES_RADIUS = 0.5
# ln 2 in two parts, the first with zeros enough at its end that its products with exponents are exact; the largest
# argument whose exponential is finite; Taylor coefficients of (exp(r) - 1 - r) / r^2, to rounding within ln(2) / 2.
_LN2 = {8: (6.93147180369123816490e-01, 1.90821492927058770002e-10), 4: (0.693359375, -2.12194440e-4)}
_LARGEST = {8: 709.0, 4: 88.0}
# A number to which integers are added exactly, and then show in its last bits.
_SHIFT = {8: 1.5 * 2.0**52, 4: 1.5 * 2.0**23}
_EXPM1 = {size: tuple(1 / math.factorial(k + 2) for k in range(n)) for size, n in ((8, 12), (4, 7))}


def _polynomial(coefficients, x):
    """Sum of coefficients times powers of x, in pairs of pairs (Estrin): one chain of products leaves a core idle."""
    terms = list(coefficients)
    while len(terms) > 1:
        pairs = [low + high * x for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
        x = x * x
    return terms[0]


def _smallest(y):
    return jnp.finfo(y.dtype).eps / 4.0


def _away(y):
    """y, but where it is too small to matter beside 1, or so large that an exponential of it would overflow."""
    largest, smallest = _LARGEST[y.dtype.itemsize], _smallest(y)
    y = jnp.where(jnp.abs(y) < smallest, smallest, y)
    return jnp.where(y > largest, largest, jnp.where(y < -largest, -largest, y))


@jax.custom_jvp
def _exponentials(x):
    """exp(x) - 1 and exp(x), both to rounding: half of what XLA's exp takes on a CPU, a quarter of its expm1."""
    size = x.dtype.itemsize
    high, low = _LN2[size]
    bits, bias, mantissa = (jnp.int64, 1023, 52) if size == 8 else (jnp.int32, 127, 23)
    k = lax.round(x * (1.0 / math.log(2.0)), lax.RoundingMethod.TO_NEAREST_EVEN)
    r = (x - k * high) - k * low
    # Not converted to an integer: XLA would saturate, at five more operations.
    power = lax.bitcast_convert_type((lax.bitcast_convert_type(k + _SHIFT[size], bits) + bias) << mantissa, x.dtype)
    less_one = r + r * r * _polynomial(_EXPM1[size], r)
    return power * less_one + (power - 1.0), power * less_one + power


@_exponentials.defjvp
def _exponentials_jvp(primals, tangents):
    less_one, q = _exponentials(*primals)
    slope = q * tangents[0]
    return (less_one, q), (slope, slope)


@jax.custom_jvp
def rectifier(y):
    r"""Smooth rectifier y / (1 - exp(-y)), to rounding for every finite y.

    Parameters
    ----------
    y : Array
        Any shape, single or double precision.

    Returns
    -------
    Array
        Same shape and dtype; 1 at y = 0.

    Notes
    -----
    .. math:: r(y) = \frac{y}{1 - e^{-y}} = 1 + \frac{y}{2} + \sum_{k\ge 1} \frac{B_{2k}}{(2k)!} y^{2k}

    The formula as written is 0/0 at zero, loses digits near it, and its derivative overflows for large negative y.
    Here :math:`e^{-y} - 1` is worked out as one, and the series serves the derivative within 1/2 of zero.

    References
    ----------
    Wong, K.-F. and Wang, X.-J. (2006). J. Neurosci. 26(4), 1314-1328 (the transfer function it normalises).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from tvb_jaxfit.dynamics.transfer_function import rectifier
    >>> float(rectifier(jnp.asarray(0.0))), float(jax.grad(rectifier)(jnp.asarray(0.0)))
    (1.0, 0.5)
    """
    # Chosen last, where nothing waits for it: a step is as long as the longest chain of its operations.
    return _with_asymptotes(y, jnp.where(jnp.abs(y) < _smallest(y), 1.0, y / -_exponentials(-y)[0]))


def _with_asymptotes(y, value):
    largest = _LARGEST[y.dtype.itemsize]
    return jnp.where(y > largest, y, jnp.where(y < -largest, 0.0, value))


@rectifier.defjvp
def _rectifier_jvp(primals, tangents):
    (y,), (dy,) = primals, tangents
    over_y, slope = _slope(y)
    return _known(y, over_y), slope * dy


@jax.custom_jvp
def _known(y, over_y):
    """The rectifier from 1 / (1 - exp(-y)), which its slope needs, too."""
    return _with_asymptotes(y, _away(y) * over_y)


@_known.defjvp
def _known_jvp(primals, tangents):
    y, over_y = primals
    return _known(y, over_y), _slope(y)[1] * tangents[0]


def _slope(y):
    """1 / (1 - exp(-y)) where it is finite, and the slope: where the series serves it, the other has no digits."""
    near, away = jnp.abs(y) < _SERIES_RADIUS, _away(y)
    y0 = jnp.where(near, y, 0.0)
    less_one, q = _exponentials(-away)
    over_y = -1.0 / less_one
    series = 0.5 + y0 * _polynomial(_SERIES, y0 * y0)
    return over_y, jnp.where(near, series, over_y * (1.0 - away * over_y * q))


@jax.custom_jvp
def exp(x):
    """e to the x, with a derivative of 0 where the value overflows.

    Parameters
    ----------
    x : Array
        Real or complex.

    Returns
    -------
    Array
        As ``jax.numpy.exp``, infinite ones included.

    Notes
    -----
    Where exp overflows, a function of it that is finite, such as 1 / (1 + exp(x)), is flat; autodiff of the formula
    gives 0 times infinity there.
    """
    return jnp.exp(x)


@exp.defjvp
def _exp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = exp(x)
    slope = y if jnp.iscomplexobj(y) else jnp.where(jnp.isinf(y), 0.0, y)
    return y, slope * dx
