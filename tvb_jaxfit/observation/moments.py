"""Means, variances and covariances of signals, and global brain connectivity."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.arrays import real_array
from ..checks.options import check, integer
from .signals import read_signals


def signal_mean(bold: ArrayLike, skip_t: int = 0) -> jax.Array:
    """Mean of each signal over time.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them: BOLD, or a rate.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    mean : jax.Array of shape (n_node,)
        In units of the signals. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        `bold` has masked samples, another shape or values that are not finite; `skip_t` leaves no sample.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.signal_mean(np.array([[1.0, 0.0], [3.0, 2.0]])).tolist()
    [2.0, 1.0]
    """
    return jnp.mean(read_signals(bold, "a mean", skip_t, minimum=1), axis=0)


def signal_variance(bold: ArrayLike, skip_t: int = 0) -> jax.Array:
    """Variance of each signal over time: the diagonal of `lagged_covariance` at lag 0.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    variance : jax.Array of shape (n_node,)
        Sum of squared deviations from the mean, divided by the number of samples minus 1. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        `bold` has masked samples, another shape or values that are not finite; `skip_t` leaves fewer than 2 samples.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.signal_variance(np.array([[1.0, 0.0], [3.0, 2.0]])).tolist()
    [2.0, 2.0]
    """
    signals = read_signals(bold, "a variance", skip_t, minimum=2)
    return jnp.sum(jnp.square(_centred(signals)), axis=0) / (signals.shape[0] - 1)


def lagged_covariance(bold: ArrayLike, lag: int = 1, skip_t: int = 0) -> jax.Array:
    r"""Covariance of signals with signals that are some samples older.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals, as `compute_fc` takes them.
    lag : int, default 1
        Lag [samples]; 0 for the covariance matrix.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    covariance : jax.Array of shape (n_node, n_node)
        The first index is the later signal, as in ``weights[target, source]``. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        `lag` is not a whole number of at least 0; `bold` has masked samples, another shape or values that are not
        finite; fewer than ``lag + 2`` samples are left.

    Notes
    -----
    .. math:: C_{ij} = \frac{1}{T - \tau - 1} \sum_{t=1}^{T-\tau} (x_i(t + \tau) - \bar x_i) (x_j(t) - \bar x_j)

    with the means :math:`\bar x` over all T samples.

    References
    ----------
    Gilson, M. et al. (2016). PLoS Comput. Biol. 12(3), e1004762. Its matrix is the transpose of this one.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> leader = np.array([0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0])
    >>> bold = np.stack([leader, np.roll(leader, 1)], axis=1)
    >>> print(tj.lagged_covariance(bold, lag=1).round(3) + 0.0)
    [[ 0.    -0.429]
     [ 0.571  0.   ]]
    """
    check("lagged_covariance", lag=(lag, integer(0)))
    lag = int(lag)
    signals = read_signals(bold, f"a covariance at lag {lag}", skip_t, minimum=lag + 2)
    n_pair = signals.shape[0] - lag
    centred = _centred(signals)
    return jnp.matmul(centred[lag:].T, centred[:n_pair], precision="highest") / (n_pair - 1)


def global_brain_connectivity(fc: ArrayLike) -> jax.Array:
    """Global brain connectivity (GBC): mean FC of each node with all others.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        FC matrix; its diagonal is ignored.

    Returns
    -------
    gbc : jax.Array of shape (n_node,)
        Sum over the other nodes, divided by the number of all nodes. Differentiable.

    Raises
    ------
    ValueError
        `fc` is not a square matrix of real numbers, or has values that are not finite.

    Notes
    -----
    The divisor is that of WholeBrain and neuronumba, Deco's laboratory. Pearson's r between two GBC does not depend on
    it.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.global_brain_connectivity(np.array([[1.0, 0.5], [0.5, 1.0]])).tolist()
    [0.25, 0.25]
    """
    fc = real_array(fc, "global_brain_connectivity: fc", shape=(None, None), finite=True)
    if fc.shape[0] != fc.shape[1]:
        raise ValueError(f"global_brain_connectivity: fc: shape {fc.shape}; give a square matrix (n_node, n_node).")
    fc = jnp.asarray(fc)
    off_diagonal = jnp.where(np.eye(fc.shape[0], dtype=bool), jnp.zeros((), fc.dtype), fc)
    return jnp.mean(off_diagonal, axis=1)


def _centred(signals):
    """Deviations from the mean. Subtracting a sample first preserves the digits of a signal with a large offset."""
    shifted = signals - jax.lax.stop_gradient(signals[:1])
    return shifted - jnp.mean(shifted, axis=0, keepdims=True)
