"""The population transfer function y / (1 - exp(-y)), accurate where its formula is not."""

import jax
import jax.numpy as jnp

# Taylor coefficients of y / (1 - exp(-y)) - 1 - y / 2 in even powers of y: B_2k / (2k)!.
# At |y| < 1/2 the first term left out is below 1e-17.
_SERIES = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
)
_SERIES_RADIUS = 0.5


def _split(y):
    """Safe arguments of the two branches: y near zero, |y| away from it (the double-where form)."""
    near = jnp.abs(y) < _SERIES_RADIUS
    return near, jnp.where(near, y, 0.0), jnp.where(near, 1.0, jnp.abs(y))


def _horner(coefficients, y2):
    total = jnp.zeros_like(y2)
    for coefficient in reversed(coefficients):
        total = total * y2 + coefficient
    return total


@jax.custom_jvp
def rectifier(y):
    r"""Smooth rectifier y / (1 - exp(-y)), to rounding for every finite y.

    Parameters
    ----------
    y : Array
        Any shape, floating point.

    Returns
    -------
    Array
        Same shape and dtype; 1 at y = 0.

    Notes
    -----
    .. math:: r(y) = \frac{y}{1 - e^{-y}} = 1 + \frac{y}{2} + \sum_{k\ge 1} \frac{B_{2k}}{(2k)!} y^{2k}

    The formula as written is 0/0 at zero, loses digits near it, and its derivative overflows for large negative y.
    Here the series serves within 1/2 of zero and exponentials of -\|y\| outside, for the value and the derivative.

    References
    ----------
    Wong, K.-F. and Wang, X.-J. (2006). J. Neurosci. 26(4), 1314-1328 (the transfer function it normalises).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from tvb_jaxfit.dynamics.transfer import rectifier
    >>> float(rectifier(jnp.asarray(0.0))), float(jax.grad(rectifier)(jnp.asarray(0.0)))
    (1.0, 0.5)
    """
    # No safe arguments here, as the derivative is its own: this is the inner loop of every simulation.
    y2 = y * y
    near = 1.0 + 0.5 * y + y2 * _horner(_SERIES, y2)
    return jnp.where(jnp.abs(y) < _SERIES_RADIUS, near, y / (1.0 - jnp.exp(-y)))


@rectifier.defjvp
def _rectifier_jvp(primals, tangents):
    (y,), (dy,) = primals, tangents
    near, y0, s = _split(y)
    q = jnp.exp(-s)
    r = 1.0 / (1.0 - q)
    positive = s * r
    negative = positive * q
    y2 = y0 * y0
    value = jnp.where(near, 1.0 + 0.5 * y0 + y2 * _horner(_SERIES, y2), jnp.where(y > 0.0, positive, negative))
    series = tuple((2 * k + 2) * coefficient for k, coefficient in enumerate(_SERIES))
    slope = jnp.where(
        near,
        0.5 + y0 * _horner(series, y2),
        jnp.where(y > 0.0, r * (1.0 - negative), q * r * (s - 1.0 + negative)),
    )
    return value, slope * dy


# The square of it is finite, so that a derivative that overflows times one that vanishes is 0 and not NaN.
def _largest_slope(x):
    return jnp.sqrt(jnp.finfo(x.dtype).max)


@jax.custom_jvp
def exp(x):
    """e to the x, with a derivative that stays finite where the value overflows.

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
    A sigmoid 1 / (1 + exp(x)) is flat where exp overflows, but autodiff of the formula gives 0 times infinity there.
    """
    return jnp.exp(x)


@exp.defjvp
def _exp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = exp(x)
    slope = y if jnp.iscomplexobj(y) else jnp.minimum(y, _largest_slope(y))
    return y, slope * dx
