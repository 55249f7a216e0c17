"""Distances and similarities of two functional connectivity (FC) matrices."""

import jax
import jax.numpy as jnp
import numpy as np

from tvb_jaxfit.observation import standardise

from .processes import refuse_forked

__all__ = ["fc_corr", "rmse", "rmse_corr"]


def rmse(fc, target):
    """Root-mean-square difference of two matrices.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        Simulated FC, of a floating dtype.
    target : array of shape (n_node, n_node)
        Empirical FC. It is converted to the dtype of `fc`.

    Returns
    -------
    rmse : jax.Array of shape ()
        The difference, over all entries, the diagonal included. NaN where `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, or differ in shape; `target` is not finite.

    Notes
    -----
    ``sqrt(mean((fc - target)**2))``. Its derivative at ``fc == target`` is 0/0; here it is 0, that of the minimum.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import rmse
    >>> print(f"{rmse(np.zeros((2, 2)), np.array([[0.0, 0.5], [0.5, 0.0]])):.4f}")
    0.3536
    """
    fc, target = _pair(fc, target)
    _refuse_not_finite(target)
    fc, target = _as_arrays(fc, target)
    mean_square = jnp.mean(jnp.square(fc - target))
    # The square root must not see the zero, or its infinite derivative makes NaN of the branch that is not taken.
    equal = mean_square == 0
    return jnp.where(equal, mean_square, jnp.sqrt(jnp.where(equal, jnp.ones_like(mean_square), mean_square)))


def fc_corr(fc, target, include_diagonal=False):
    """Pearson correlation of the entries of two matrices.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        Simulated FC, of a floating dtype; at least 3 nodes.
    target : array of shape (n_node, n_node)
        Empirical FC. It is converted to the dtype of `fc`.
    include_diagonal : bool, default False
        Whether the diagonal counts as well. Two FC matrices agree there by definition, so that where most correlations
        are positive, it raises the figure whatever the fit. It is here for comparison with TVB-Optim, whose ``fc_corr``
        includes it.

    Returns
    -------
    r : jax.Array of shape ()
        The correlation, between -1 and 1. NaN where `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, differ in shape, or have fewer than 3 nodes; `target` is not finite; the entries
        of a matrix are all equal. Inside ``jax.jit``, ``jax.grad`` and ``jax.vmap``, where the values of `fc` cannot
        be seen, the correlation of an `fc` of equal entries is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import fc_corr
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> target = np.array([[0.0, 0.5, 0.3], [0.5, 0.0, 0.4], [0.3, 0.4, 0.0]])
    >>> print(f"{fc_corr(fc, target):.4f}, with the diagonal {fc_corr(fc, target, include_diagonal=True):.4f}")
    -0.5000, with the diagonal 0.8619
    """
    fc, target = _pair(fc, target)
    n_node = fc.shape[0]
    if n_node < 3:
        raise ValueError(f"fc and target have shape {fc.shape}; a correlation of their entries needs 3 nodes or more.")
    used = np.ones((n_node, n_node), dtype=bool) if include_diagonal else ~np.eye(n_node, dtype=bool)
    fc, target = fc[used], target[used]
    _refuse_not_finite(target)
    _refuse_constant("fc", fc)
    _refuse_constant("target", target)
    unit = standardise(jnp.stack(_as_arrays(fc, target), axis=1))
    return jnp.sum(unit[:, 0] * unit[:, 1])


def rmse_corr(fc, target):
    """Mean of `rmse` and 1 - `fc_corr`: values and pattern of two matrices at once.

    Parameters
    ----------
    fc, target : array of shape (n_node, n_node)
        As for `rmse`.

    Returns
    -------
    loss : jax.Array of shape ()

    Raises
    ------
    TypeError, ValueError
        As `rmse` and `fc_corr`.

    Notes
    -----
    The correlation alone leaves the strength of FC open, which moves a fit towards a bifurcation; the difference alone
    is content with the right strength.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import rmse_corr
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> print(f"{rmse_corr(fc, fc):.4f}, {rmse_corr(fc, 0.5 * fc):.4f}")
    0.0000, 0.1034
    """
    return 0.5 * (rmse(fc, target) + 1.0 - fc_corr(fc, target))


def _pair(fc, target):
    """Return both matrices, checked: in NumPy where their values can be seen, so that they can be under ``jax.jit``."""
    refuse_forked("loss")
    fc, target = (x if isinstance(x, jax.core.Tracer) else np.asarray(x) for x in (fc, target))
    if fc.shape != target.shape:
        raise ValueError(f"fc has shape {fc.shape} and target {target.shape}; they must be equal, region for region.")
    if fc.ndim != 2 or fc.shape[0] != fc.shape[1]:
        raise ValueError(f"fc and target have shape {fc.shape}; expected square matrices (n_node, n_node).")
    if not jnp.issubdtype(fc.dtype, jnp.floating):
        raise TypeError(f"fc has dtype {fc.dtype}; expected a floating dtype. Convert it: fc.astype(float).")
    if jnp.issubdtype(target.dtype, jnp.complexfloating):
        raise TypeError(f"target has dtype {target.dtype}; expected real numbers. Take its real part.")
    return fc, target


def _as_arrays(fc, target):
    fc = jnp.asarray(fc)
    return fc, jnp.asarray(target, dtype=fc.dtype)


def _refuse_not_finite(target):
    if not isinstance(target, jax.core.Tracer) and not np.isfinite(target).all():
        raise ValueError(
            f"target has {np.count_nonzero(~np.isfinite(target))} entries that are not finite, so that no loss is "
            "finite either. Replace them, or leave out their regions."
        )


def _refuse_constant(name, entries):
    if not isinstance(entries, jax.core.Tracer) and (entries == entries[0]).all():
        raise ValueError(f"{name}: all entries are {entries[0]}, so that their correlation with others is undefined.")
