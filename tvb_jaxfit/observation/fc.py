"""Functional connectivity (FC) of a simulated or a recorded signal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .signals import read_signals, refuse_constant


def compute_fc(bold: ArrayLike, skip_t: int = 0) -> jax.Array:
    """Correlate the signals of all pairs of nodes.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, of any floating dtype of NumPy or JAX. The second form is that of TVB's monitors, (n_time, n_voi,
        n_node, n_mode), with one variable and one mode.
    skip_t : int, default 0
        Number of samples to skip at the beginning: the transient of the simulation.

    Returns
    -------
    fc : jax.Array of shape (n_node, n_node)
        Pearson correlations, symmetric to rounding, with a diagonal of zeros. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        `bold` has masked samples or another shape; `skip_t` is negative or leaves fewer than 3 samples; a signal is
        constant or not finite.

    Notes
    -----
    The correlation of a constant signal is 0/0, which is an error if the values are known. Inside ``jax.jit``,
    ``jax.grad`` and ``jax.vmap`` they are not: there, the rows and columns of constant signals are NaN, and so is a
    loss that is computed from them.

    The diagonal is 1 by definition and carries no information. It is set to zero, as in empirical FC matrices, so that
    it adds nothing to a distance between two matrices.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.observation import compute_fc
    >>> rising, falling = np.arange(5.0), -np.arange(5.0)
    >>> zigzag = np.array([1.0, -1.0, 0.0, -1.0, 1.0])
    >>> fc = compute_fc(np.stack([rising, falling, zigzag], axis=1))
    >>> print(fc.round(6) + 0.0)
    [[ 0. -1.  0.]
     [-1.  0.  0.]
     [ 0.  0.  0.]]
    """
    signals = read_signals(bold, "FC", skip_t)
    refuse_constant(signals, "correlation")
    unit = standardise(signals)
    # By default, accelerators multiply float32 matrices with about 3 digits, which is noise for the optimiser.
    fc = jnp.matmul(unit.T, unit, precision="highest")
    return jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)


def standardise(signals: jax.Array, axis: int = 0) -> jax.Array:
    """Shift and scale each column to mean 0 and Euclidean norm 1.

    The inner product of two such columns is their Pearson correlation.

    Parameters
    ----------
    signals : jax.Array of shape (n_sample, n_signal)
        One signal per column.
    axis : int, default 0
        Axis of the samples; 1 for one signal per row.

    Returns
    -------
    unit : jax.Array of the same shape
        The standardised columns. A constant column becomes NaN.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.observation import standardise
    >>> print(standardise(jnp.array([[1.0], [2.0], [3.0]])).ravel().round(4))
    [-0.7071  0.      0.7071]
    """
    return _standardised(signals, axis)


# Compiled as a whole: operation by operation, each would be compiled for each shape.
@partial(jax.jit, static_argnames="axis")
def _standardised(signals, axis):
    # The result does not depend on this first shift and scale, so that the gradient may treat them as constants. They
    # preserve the digits of a small fluctuation about a large offset (BOLD in float32) and prevent squares from
    # overflowing. An exactly constant column becomes 0/0; centring alone would leave rounding errors.
    first = jax.lax.slice_in_dim(signals, 0, 1, axis=axis)
    shifted = signals - jax.lax.stop_gradient(first)
    shifted = shifted / jax.lax.stop_gradient(jnp.max(jnp.abs(shifted), axis=axis, keepdims=True))
    centred = shifted - jnp.mean(shifted, axis=axis, keepdims=True)
    return centred / jnp.sqrt(jnp.sum(jnp.square(centred), axis=axis, keepdims=True))


def covariance_to_fc(covariance: jax.Array) -> jax.Array:
    """Correlations of a covariance matrix, with a diagonal of zeros as in `compute_fc`.

    Parameters
    ----------
    covariance : jax.Array of shape (n, n)

    Returns
    -------
    fc : jax.Array of shape (n, n)
        Rows and columns of signals with a variance of 0 are 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.observation import covariance_to_fc
    >>> print(covariance_to_fc(jnp.array([[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])))
    [[0.  0.5 0. ]
     [0.5 0.  0. ]
     [0.  0.  0. ]]
    """
    variance = jnp.diagonal(covariance)
    is_positive = variance > 0.0
    # The inner where keeps the infinite derivative at 0 out of the gradient.
    scale = jnp.where(is_positive, jnp.where(is_positive, variance, 1.0) ** -0.5, 0.0)
    fc = scale[:, None] * covariance * scale[None, :]
    return jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)
