"""Functional connectivity (FC) of a simulated or a recorded signal."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .checks.arrays import unmasked
from .runtime.processes import refuse_forked

__all__ = ["compute_fc", "covariance_to_fc", "standardise"]


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
    refuse_forked("compute_fc")
    bold = unmasked(bold, "bold")
    if not jnp.issubdtype(bold.dtype, jnp.floating):
        raise TypeError(f"bold has dtype {bold.dtype}; FC needs a floating dtype. Convert it: bold.astype(float).")
    signals = _select(jnp.asarray(bold), skip_t)
    if not isinstance(signals, jax.core.Tracer):
        _refuse_undefined(np.asarray(signals))
    unit = standardise(signals)
    # By default, accelerators multiply float32 matrices with about 3 digits, which is noise for the optimiser.
    fc = jnp.matmul(unit.T, unit, precision="highest")
    return jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)


def standardise(signals: jax.Array) -> jax.Array:
    """Shift and scale each column to mean 0 and Euclidean norm 1.

    The inner product of two such columns is their Pearson correlation.

    Parameters
    ----------
    signals : jax.Array of shape (n_sample, n_signal)
        One signal per column.

    Returns
    -------
    unit : jax.Array of shape (n_sample, n_signal)
        The standardised columns. A constant column becomes NaN.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.observation import standardise
    >>> print(standardise(jnp.array([[1.0], [2.0], [3.0]])).ravel().round(4))
    [-0.7071  0.      0.7071]
    """
    # The result does not depend on this first shift and scale, so that the gradient may treat them as constants. They
    # preserve the digits of a small fluctuation about a large offset (BOLD in float32) and prevent squares from
    # overflowing. An exactly constant column becomes 0/0; centring alone would leave rounding errors.
    shifted = signals - jax.lax.stop_gradient(signals[:1])
    shifted = shifted / jax.lax.stop_gradient(jnp.max(jnp.abs(shifted), axis=0, keepdims=True))
    centred = shifted - jnp.mean(shifted, axis=0, keepdims=True)
    return centred / jnp.sqrt(jnp.sum(jnp.square(centred), axis=0, keepdims=True))


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


def _select(bold, skip_t):
    """Samples to correlate, shape (n_time, n_node)."""
    try:
        skip_t = operator.index(skip_t)
    except TypeError:
        raise TypeError(f"skip_t is {skip_t!r}; it counts samples: give a whole number.") from None
    if skip_t < 0:
        raise ValueError(f"skip_t is {skip_t}; it counts samples from the beginning and cannot be negative.")
    if bold.ndim == 4:
        n_voi, n_mode = bold.shape[1], bold.shape[3]
        if (n_voi, n_mode) != (1, 1):
            raise ValueError(
                f"bold has shape {bold.shape}, that is n_voi = {n_voi} and n_mode = {n_mode}; FC is of one variable "
                "and one mode. Select them, for example bold[:, :1, :, :1], or record one variable: "
                "monitors.Bold(variables_of_interest=np.array([0]))."
            )
        bold = bold[:, 0, :, 0]
    elif bold.ndim != 2:
        raise ValueError(
            f"bold has shape {bold.shape}; expected (n_time, n_node) or TVB's (n_time, n_voi, n_node, n_mode)."
        )
    n_time = bold.shape[0]
    if n_time - skip_t < 3:
        raise ValueError(
            f"bold has {n_time} samples and skip_t = {skip_t} leaves {max(n_time - skip_t, 0)}; FC needs at least 3. "
            "Simulate longer, or skip less."
        )
    return bold[skip_t:]


def _refuse_undefined(signals):
    """Raise ValueError if the correlation of a signal is undefined. Needs values, not tracers."""
    finite = np.isfinite(signals).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"bold is not finite at {_nodes(~finite)}: the simulation diverged, or the recording has gaps. Reduce dt "
            "or the coupling, or leave these nodes out."
        )
    constant = (signals == signals[:1]).all(axis=0)
    if constant.any():
        raise ValueError(
            f"bold is constant over all {signals.shape[0]} samples at {_nodes(constant)}, so that its correlation is "
            "undefined. Simulate with noise, or leave these nodes out."
        )


def _nodes(mask):
    """Text that names the nodes where `mask` is true: at most ten of them, and how many more."""
    index = np.flatnonzero(mask).tolist()
    rest = f" and {len(index) - 10} more" if len(index) > 10 else ""
    return f"node{'s' if len(index) > 1 else ''} {', '.join(map(str, index[:10]))}{rest}"
