"""Functional connectivity (FC) of a simulated or a recorded signal."""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from .checks.arrays import unmasked
from .runtime.processes import refuse_forked

__all__ = ["compute_fc", "covariance_to_fc", "standardise"]


def compute_fc(bold, skip_t=0):
    """Correlate the signals of all pairs of nodes.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        The signals. The second form is what TVB's monitors return, (n_time, n_voi, n_node, n_mode), with one variable
        and one mode. NumPy and JAX arrays of any floating dtype.
    skip_t : int, default 0
        Number of samples to leave out at the beginning, where the simulation has not settled.

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
    The correlation of a constant signal is 0/0. It is refused wherever the values can be seen. Inside ``jax.jit``,
    ``jax.grad`` and ``jax.vmap`` they cannot: there, the rows and columns of the constant signals are NaN, and so is a
    loss made of them.

    The diagonal, 1 by definition, carries no information. It is zero, as in empirical FC matrices, so that it adds
    nothing to a distance between two of them.

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
    # Accelerators would otherwise multiply float32 matrices with some 3 digits, which the optimiser sees as noise.
    fc = jnp.matmul(unit.T, unit, precision="highest")
    return jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)


def standardise(signals):
    """Shift and scale each column to mean 0 and Euclidean norm 1.

    The inner product of two such columns is their Pearson correlation.

    Parameters
    ----------
    signals : jax.Array of shape (n_sample, n_signal)
        One signal a column.

    Returns
    -------
    unit : jax.Array of shape (n_sample, n_signal)
        The columns, standardised. A constant column becomes NaN.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.observation import standardise
    >>> print(standardise(jnp.array([[1.0], [2.0], [3.0]])).ravel().round(4))
    [-0.7071  0.      0.7071]
    """
    # Shift and scale change neither the result nor, therefore, its derivative: they may be constants of the gradient.
    # They keep the digits of a small fluctuation about a large offset, which is what BOLD is in float32, keep squares
    # from overflowing, and turn an exactly constant column into 0/0 where centring alone would leave rounding errors.
    shifted = signals - jax.lax.stop_gradient(signals[:1])
    shifted = shifted / jax.lax.stop_gradient(jnp.max(jnp.abs(shifted), axis=0, keepdims=True))
    centred = shifted - jnp.mean(shifted, axis=0, keepdims=True)
    return centred / jnp.sqrt(jnp.sum(jnp.square(centred), axis=0, keepdims=True))


def covariance_to_fc(covariance):
    """Correlations from covariances, with a diagonal of zeros as in `compute_fc`.

    Parameters
    ----------
    covariance : jax.Array of shape (n, n)

    Returns
    -------
    fc : jax.Array of shape (n, n)
        What does not vary correlates with nothing: 0.

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
    varies = variance > 0.0
    scale = jnp.where(varies, jnp.where(varies, variance, 1.0) ** -0.5, 0.0)
    fc = scale[:, None] * covariance * scale[None, :]
    return jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)


def _select(bold, skip_t):
    """Return the samples to correlate, of shape (n_time, n_node)."""
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
    """Raise ValueError where a signal has no correlation; needs the values, so not under a trace."""
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
    """Name the nodes where `mask` is true, the first ten of them in full."""
    index = np.flatnonzero(mask).tolist()
    rest = f" and {len(index) - 10} more" if len(index) > 10 else ""
    return f"node{'s' if len(index) > 1 else ''} {', '.join(map(str, index[:10]))}{rest}"
