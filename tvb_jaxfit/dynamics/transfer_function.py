"""The population transfer function y / (1 - exp(-y)), accurate where its formula is singular or overflows."""

import jax
import jax.numpy as jnp

from ..jaxpr.exponential import LARGEST_ARGUMENT, expm1_and_exp, polynomial

# Series of the derivative: (r'(y) - 1/2) / y in even powers of y, with the coefficients 2k B_2k / (2k)!. Within the
# radius the first omitted term is below 1e-16.
_SERIES = (1 / 6, -1 / 180, 1 / 5040, -1 / 151200, 1 / 4790016, -691 / 108972864000, 1 / 5337446400)
_SERIES_RADIUS = 0.5


@jax.custom_jvp
def rectifier(y: jax.Array) -> jax.Array:
    r"""Smooth rectifier y / (1 - exp(-y)), accurate to rounding for every finite y.

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

    The formula is 0/0 at zero and loses digits near zero, and its derivative overflows for large negative y. Here
    :math:`e^{-y} - 1` is computed as one function, and the derivative by its series for |y| < 1/2.

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
    # Special cases are selected last, off the critical path: the time of a step is its longest chain of operations.
    return _select_asymptote(y, jnp.where(jnp.abs(y) < _negligible(y), 1.0, y / -expm1_and_exp(-y)[0]))


@rectifier.defjvp
def _rectifier_jvp(primals, tangents):
    (y,), (dy,) = primals, tangents
    reciprocal, slope = _reciprocal_and_slope(y)
    return _rectifier_from_reciprocal(y, reciprocal), slope * dy


@jax.custom_jvp
def _rectifier_from_reciprocal(y, reciprocal):
    """The rectifier from 1 / (1 - exp(-y)), which its slope uses as well."""
    return _select_asymptote(y, _clamp_argument(y) * reciprocal)


@_rectifier_from_reciprocal.defjvp
def _rectifier_from_reciprocal_jvp(primals, tangents):
    y, reciprocal = primals
    return _rectifier_from_reciprocal(y, reciprocal), _reciprocal_and_slope(y)[1] * tangents[0]


def _reciprocal_and_slope(y):
    """1 / (1 - exp(-y)) at the clamped argument, and the derivative of the rectifier.

    The series gives the slope near zero, where the closed form loses all digits by cancellation.
    """
    is_near, clamped = jnp.abs(y) < _SERIES_RADIUS, _clamp_argument(y)
    near = jnp.where(is_near, y, 0.0)
    expm1, exponential = expm1_and_exp(-clamped)
    reciprocal = -1.0 / expm1
    series = 0.5 + near * polynomial(_SERIES, near * near)
    return reciprocal, jnp.where(is_near, series, reciprocal * (1.0 - clamped * reciprocal * exponential))


def _clamp_argument(y):
    """y without values that are negligible beside 1 or whose exponential overflows."""
    largest, smallest = LARGEST_ARGUMENT[y.dtype.itemsize], _negligible(y)
    y = jnp.where(jnp.abs(y) < smallest, smallest, y)
    return jnp.where(y > largest, largest, jnp.where(y < -largest, -largest, y))


def _select_asymptote(y, value):
    """The asymptotes y and 0 for arguments whose exponential overflows, else the value."""
    largest = LARGEST_ARGUMENT[y.dtype.itemsize]
    return jnp.where(y > largest, y, jnp.where(y < -largest, 0.0, value))


def _negligible(y):
    """Magnitude below which y does not change 1 + y."""
    return jnp.finfo(y.dtype).eps / 4.0
