"""Distances between two distributions, such as those of FCD: exact ones, and smooth ones for gradients."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.arrays import unmasked
from ..checks.options import check, choice, integer, number, optional
from ..persistence import serialisable
from ..runtime.processes import refuse_forked
from .signals import is_known
from .windows import DEFINITIONS

# Bins of CBIG's histogram of correlations, from -1 to 1.
_N_BINS = 10_000


@serialisable
def ks_distance(
    x: ArrayLike, y: ArrayLike, definition: Literal["cubnm", "cbig", "deco", "neurolib", "tvb"] | None = None
) -> jax.Array:
    """Kolmogorov-Smirnov (KS) distance of two samples: the largest difference of their distribution functions.

    Parameters
    ----------
    x, y : array of shape (n,) and (m,)
        Samples, such as ``compute_fcd(...).distribution``.
    definition : {"cubnm", "cbig", "deco", "neurolib", "tvb"}, optional
        Published code whose distance is computed. "cbig" compares the distribution functions at the edges of 10,000
        bins from -1 to 1 only; all others, and the default, compare them exactly.

    Returns
    -------
    distance : jax.Array of shape ()
        From 0 to 1, in the dtype of `x`. Its gradient is zero: for a fit, use `wasserstein_distance` or
        `soft_ks_distance`.

    Raises
    ------
    TypeError
        A sample is not of a floating dtype.
    ValueError
        A sample has no values, masked ones, another number of dimensions, or values that are not finite; `definition`
        is unknown.

    Notes
    -----
    The distribution of several runs or subjects is that of their concatenated values. For runs of equal length, this is
    the mean of their distribution functions, which CBIG compares.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> float(tj.ks_distance(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.35, 0.45, 0.55])))
    0.5
    """
    check("ks_distance", definition=(definition, optional(choice(*DEFINITIONS))))
    x, y = _read_pair("ks_distance", x, y)
    return _or_nan(_ks_of_bins(x, y) if definition == "cbig" else _ks(x, y), x, y)


@serialisable
def soft_ks_distance(x: ArrayLike, y: ArrayLike, width: float) -> jax.Array:
    r"""Kolmogorov-Smirnov distance of two samples that are smoothed: a KS distance with a gradient.

    Parameters
    ----------
    x, y : array of shape (n,) and (m,)
        Samples, such as ``compute_fcd(...).distribution``.
    width : float
        Width of the smoothing, in units of the samples; 0.05 suits FCD. Values that are further than that from the
        place of the largest difference have no gradient.

    Returns
    -------
    distance : jax.Array of shape ()
        At most the `ks_distance`, which is the limit for small widths. In the dtype of `x`. Differentiable.

    Raises
    ------
    TypeError
        A sample is not of a floating dtype.
    ValueError
        A sample has no values, masked ones, another number of dimensions, or values that are not finite; `width` is not
        a positive number.

    Notes
    -----
    Each step of the distribution functions becomes a ramp of this width:

    .. math:: F_w(t) = \frac{1}{n} \sum_i \min(\max((t - x_i) / w, 0), 1), \qquad d = \max_t |F_w(t) - G_w(t)|

    The maximum is taken over all t: the difference is piecewise linear between the ends of the ramps.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> x, y = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.35, 0.45, 0.55])
    >>> [round(float(tj.soft_ks_distance(x, y, width)), 3) for width in (0.001, 0.1, 1.0)]
    [0.5, 0.375, 0.15]
    """
    check("soft_ks_distance", width=(width, number(above=0.0)))
    x, y = _read_pair("soft_ks_distance", x, y)
    return _or_nan(_soft_ks(x, y, float(width)), x, y)


@serialisable
def wasserstein_distance(x: ArrayLike, y: ArrayLike, order: Literal[1, 2] = 1) -> jax.Array:
    r"""Wasserstein distance of two samples: the mean distance of their sorted values.

    Parameters
    ----------
    x, y : array of shape (n,) and (m,)
        Samples, such as ``compute_fcd(...).distribution``, of any lengths.
    order : {1, 2}, default 1
        Exponent p of the mean.

    Returns
    -------
    distance : jax.Array of shape ()
        In units of the samples, and in the dtype of `x`. Differentiable: every value has a gradient.

    Raises
    ------
    TypeError
        A sample is not of a floating dtype.
    ValueError
        A sample has no values, masked ones, another number of dimensions, or values that are not finite; `order` is
        not 1 or 2.

    Notes
    -----
    .. math:: W_p = \left( \int_0^1 |F^{-1}(q) - G^{-1}(q)|^p \, dq \right)^{1/p}

    The quantile functions of samples are piecewise constant, so that the integral is a sum. For p = 1 it equals
    ``scipy.stats.wasserstein_distance``. The gradient of p = 2 is taken as zero for equal samples.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> round(float(tj.wasserstein_distance(np.array([0.1, 0.4]), np.array([0.2, 0.3, 0.7]))), 6)
    0.183333
    """
    check("wasserstein_distance", order=(order, _one_or_two))
    x, y = _read_pair("wasserstein_distance", x, y)
    in_x, in_y, share = _quantiles(x.size, y.size)
    difference = jnp.abs(_sorted(x)[in_x] - _sorted(y)[in_y])
    share = share.astype(x.dtype)
    if order == 1:
        return jnp.sum(share * difference)
    square = jnp.sum(share * jnp.square(difference))
    is_zero = square == 0.0
    return jnp.where(is_zero, square, jnp.sqrt(jnp.where(is_zero, jnp.ones_like(square), square)))


def _one_or_two(value):
    """Rule for the option `order`."""
    return None if integer(1)(value) is None and value <= 2 else "1 or 2"


def _read_pair(owner, x, y):
    """Checked samples in the dtype of the first: NumPy arrays, also under ``jax.jit``, unless they are tracers."""
    refuse_forked(owner)
    x, y = (_read(f"{owner}: {name}", value) for name, value in (("x", x), ("y", y)))
    return x, y.astype(x.dtype)


def _read(name, values):
    values = unmasked(values, name)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {values.dtype}; give a floating dtype: {name[-1]}.astype(float).")
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name} has shape {values.shape}; give values in one dimension, such as compute_fcd(...).distribution or "
            "the entries of one triangle of an FC."
        )
    if not is_known(values):
        return values
    values = np.asarray(values)
    n_bad = int(np.sum(~np.isfinite(values)))
    if n_bad:
        raise ValueError(f"{name}: {n_bad} of {values.size} values are not finite; give finite values.")
    return values


def _or_nan(distance, *samples):
    """NaN if a sample that could not be checked has one: sorted, it would count as a large value."""
    has_nan = [jnp.isnan(values).any() for values in samples if not is_known(values)]
    distance = jnp.asarray(distance)
    return jnp.where(functools.reduce(jnp.logical_or, has_nan), jnp.nan, distance) if has_nan else distance


def _namespace(*samples):
    """NumPy for samples whose values are known: XLA takes minutes to sort many constants of a program."""
    return np if all(isinstance(values, np.ndarray) for values in samples) else jnp


def _sorted(values):
    return _namespace(values).sort(values)


def _ks(x, y):
    """Exact distance: both distribution functions at all values, from one sort."""
    xp = _namespace(x, y)
    pooled = xp.concatenate([x, y])
    order = xp.argsort(pooled)
    n_x, values = xp.cumsum(order < x.size), pooled[order]
    n_y = np.arange(1, pooled.size + 1).astype(n_x.dtype) - n_x
    difference = xp.abs(n_x.astype(x.dtype) / x.size - n_y.astype(x.dtype) / y.size)
    # Among equal values, the distribution functions are known at the last one only.
    is_last = xp.concatenate([values[1:] != values[:-1], np.ones(1, bool)])
    return xp.max(xp.where(is_last, difference, xp.zeros_like(difference)))


def _ks_of_bins(x, y):
    """Distance of the cumulated histograms."""
    edges = np.linspace(-1.0, 1.0, _N_BINS + 1)[1:-1].astype(x.dtype)
    below_x, below_y = (
        _namespace(values).searchsorted(_sorted(values), edges, side="left").astype(x.dtype) / values.size
        for values in (x, y)
    )
    return jnp.max(jnp.abs(below_x - below_y))


def _soft_ks(x, y, width):
    """Largest difference of the smoothed distribution functions.

    The end of a ramp where it is largest is found without a gradient; the gradient is that of the difference there.
    """
    ends = jnp.concatenate([x, y, x + width, y + width])
    in_x, in_y = (_ramps(values, jax.lax.stop_gradient(ends), width) for values in (x, y))
    at = ends[jnp.argmax(jnp.abs(in_x - in_y))]
    return jnp.abs(jnp.subtract(*(jnp.mean(jnp.clip((at - values) / width, 0.0, 1.0)) for values in (x, y))))


def _ramps(values, at, width):
    """Smoothed distribution function: sums over a ramp are differences of cumulated sums."""
    values = _sorted(values if is_known(values) else jax.lax.stop_gradient(values))
    cumulated = _namespace(values).cumsum(values)
    cumulated = jnp.concatenate([np.zeros(1, values.dtype), cumulated])
    n_below, n_begun = (jnp.searchsorted(values, place, side="right") for place in (at - width, at))
    on_ramp = (n_begun - n_below).astype(values.dtype) * at - (cumulated[n_begun] - cumulated[n_below])
    return (n_below.astype(values.dtype) + on_ramp / width) / values.size


@functools.lru_cache(maxsize=16)
def _quantiles(n, m):
    """Index into either of two sorted samples, and length, of each interval on which both quantile functions are flat.

    Returns
    -------
    in_x, in_y : ndarray of int
    share : ndarray of float
        Lengths; they sum to 1.
    """
    # Levels i / n and j / m in units of 1 / (n m): whole numbers, so that equal levels are equal.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return levels[:-1] // m, levels[:-1] // n, np.diff(levels) / (n * m)
