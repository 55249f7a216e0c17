"""Losses: distances and correlations of two functional connectivity (FC) matrices."""

import os
import warnings
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .checks.arrays import real_array, unmasked
from .checks.fc import is_in_range, shape_problem, values_problem
from .checks.options import boolean, check, choice
from .observation import standardise
from .persistence import serialisable
from .runtime.processes import refuse_forked

__all__ = ["fc_corr", "mean_fc_difference", "rmse", "rmse_corr"]

# Rule for the option `missing`, here and in `fit` and `evaluate`.
MISSING = choice("refuse", "ignore")
Missing = Literal["refuse", "ignore"]


@serialisable
def rmse(fc: ArrayLike, target: ArrayLike, missing: Missing = "refuse") -> jax.Array:
    """Root-mean-square difference of two matrices.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        Simulated FC, of a floating dtype.
    target : array of shape (n_node, n_node)
        Empirical FC. It is converted to the dtype of `fc`.
    missing : {"refuse", "ignore"}, optional
        Entries of the target without data (NaN, or masked) are refused, or have a weight of 0: they add nothing to the
        loss and to its gradient, whatever the value of `fc`.

    Returns
    -------
    rmse : jax.Array of shape ()
        Over all entries with data, including the diagonal. NaN if `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, or differ in shape; `target` is not finite, is masked, or has no entry with data.

    Warns
    -----
    UserWarning
        `target` has values that are no correlations, such as percents. It is not checked if it is an argument of a
        function under `jax.jit`, where its values are not known.

    Notes
    -----
    ``sqrt(mean((fc - target)**2))``. Its derivative at ``fc == target`` is 0/0; here it is 0, as at a minimum.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import rmse
    >>> print(f"{rmse(np.zeros((2, 2)), np.array([[0.0, 0.5], [0.5, 0.0]])):.4f}")
    0.3536
    """
    fc, target = _checked_pair(fc, target, missing)
    has_data = _has_data(target, missing)
    if isinstance(has_data, jax.core.Tracer):
        fc, target = _in_one_dtype(fc, target)
        # NaN must not enter the difference: its gradient would be NaN, too.
        difference = jnp.where(has_data, fc, 0.0) - jnp.where(has_data, target, 0.0)
        mean_square = jnp.sum(jnp.square(difference)) / jnp.sum(has_data, dtype=fc.dtype)
    else:
        _refuse_not_finite(target, missing)
        _warn_no_correlations(target)
        if not has_data.all():
            fc, target = fc[has_data], target[has_data]
        if target.size == 0:
            raise ValueError("target: no entry has data, so that the difference is undefined.")
        fc, target = _in_one_dtype(fc, target)
        mean_square = jnp.mean(jnp.square(fc - target))
    # Zero must not enter the square root: its infinite derivative would make the gradient of the other branch NaN.
    is_equal = mean_square == 0
    return jnp.where(is_equal, mean_square, jnp.sqrt(jnp.where(is_equal, jnp.ones_like(mean_square), mean_square)))


@serialisable
def fc_corr(fc: ArrayLike, target: ArrayLike, include_diagonal: bool = False, missing: Missing = "refuse") -> jax.Array:
    """Pearson correlation of the entries of two matrices.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        Simulated FC, of a floating dtype; at least 3 nodes.
    target : array of shape (n_node, n_node)
        Empirical FC. It is converted to the dtype of `fc`.
    include_diagonal : bool, default False
        Include the diagonal, for comparison with TVB-Optim, whose ``fc_corr`` includes it. Two FC matrices agree there
        by definition: if most correlations are positive, it raises the result, however good the fit.
    missing : {"refuse", "ignore"}, optional
        As for `rmse`.

    Returns
    -------
    r : jax.Array of shape ()
        Between -1 and 1. NaN if `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, differ in shape, or have fewer than 3 nodes; `target` is not finite, is masked, or
        has data in fewer than 3 entries; the entries of a matrix are all equal. Inside ``jax.jit``, ``jax.grad`` and
        ``jax.vmap`` the values of `fc` are not known: the correlation is then NaN if its entries are all equal.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import fc_corr
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> target = np.array([[0.0, 0.5, 0.3], [0.5, 0.0, 0.4], [0.3, 0.4, 0.0]])
    >>> print(f"{fc_corr(fc, target):.4f}, with the diagonal {fc_corr(fc, target, include_diagonal=True):.4f}")
    -0.5000, with the diagonal 0.8619
    """
    check("fc_corr", include_diagonal=(include_diagonal, boolean))
    fc, target = _checked_pair(fc, target, missing)
    n_node = fc.shape[0]
    if n_node < 3:
        raise ValueError(f"fc and target have shape {fc.shape}; a correlation of their entries needs 3 nodes or more.")
    used = np.ones((n_node, n_node), dtype=bool) if include_diagonal else ~np.eye(n_node, dtype=bool)
    fc, target = fc[used], target[used]
    has_data = _has_data(target, missing)
    if isinstance(has_data, jax.core.Tracer):
        return _masked_correlation(*_in_one_dtype(fc, target), has_data)
    _refuse_not_finite(target, missing)
    if not has_data.all():
        fc, target = fc[has_data], target[has_data]
    if target.size < 3:
        raise ValueError(f"target: {target.size} entries have data; a correlation needs 3 or more.")
    _refuse_constant("fc", fc)
    _refuse_constant("target", target)
    unit = standardise(jnp.stack(_in_one_dtype(fc, target), axis=1))
    return jnp.sum(unit[:, 0] * unit[:, 1])


@serialisable
def rmse_corr(fc: ArrayLike, target: ArrayLike, missing: Missing = "refuse") -> jax.Array:
    """Mean of `rmse` and 1 - `fc_corr`: compares the values and the pattern of two matrices.

    Parameters
    ----------
    fc, target : array of shape (n_node, n_node)
        As for `rmse`.
    missing : {"refuse", "ignore"}, optional
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
    The correlation alone does not determine the strength of FC, and a fit moves towards a bifurcation. The difference
    alone is already small for the right strength, whatever the pattern.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import rmse_corr
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> print(f"{rmse_corr(fc, fc):.4f}, {rmse_corr(fc, 0.5 * fc):.4f}")
    0.0000, 0.1034
    """
    return 0.5 * (rmse(fc, target, missing) + 1.0 - fc_corr(fc, target, missing=missing))


@serialisable
def mean_fc_difference(fc: ArrayLike, target: ArrayLike, missing: Missing = "refuse") -> jax.Array:
    """Difference of the means of two FC matrices over pairs of regions.

    Parameters
    ----------
    fc, target : array of shape (n_node, n_node)
        As for `rmse`; at least 2 nodes.
    missing : {"refuse", "ignore"}, optional
        As for `rmse`.

    Returns
    -------
    difference : jax.Array of shape ()
        Mean of the simulated minus mean of the empirical FC, off the diagonal. Differentiable.

    Raises
    ------
    TypeError, ValueError
        As `rmse`.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.loss import mean_fc_difference
    >>> fc = np.array([[1.0, 0.4], [0.4, 1.0]])
    >>> print(f"{mean_fc_difference(fc, 0.5 * fc):.2f}")
    0.20
    """
    fc, target = _checked_pair(fc, target, missing)
    has_data = _has_data(target, missing) & ~np.eye(fc.shape[0], dtype=bool)
    if not isinstance(target, jax.core.Tracer):
        _refuse_not_finite(target, missing)
        if not has_data.any():
            raise ValueError("target: no pair of regions has data, so that its mean is undefined.")
    fc, target = _in_one_dtype(fc, target)
    n_pair = jnp.sum(jnp.asarray(has_data), dtype=fc.dtype)
    zero = jnp.zeros((), fc.dtype)
    # NaN must not enter the difference: its gradient would be NaN, too.
    return jnp.sum(jnp.where(has_data, fc, zero) - jnp.where(has_data, target, zero)) / n_pair


def _checked_pair(fc, target, missing):
    """Both matrices, checked: NumPy arrays, also under ``jax.jit``, unless they are tracers."""
    refuse_forked("loss")
    check("loss", missing=(missing, MISSING))
    if isinstance(target, (str, os.PathLike)):
        raise ValueError(f"target: {os.fspath(target)!r} is a path; give the values of type float, tj.load_fc(path).")
    if missing == "refuse" and np.ma.is_masked(target):
        raise ValueError(
            f'target: {np.ma.count_masked(target)} entries are masked; missing="ignore" leaves them out, or fill them.'
        )
    fc, raw_target = unmasked(fc, "fc"), unmasked(target, "target", masked=np.nan)
    if jnp.issubdtype(raw_target.dtype, jnp.complexfloating):
        raise TypeError(f"target has dtype {raw_target.dtype}; expected real numbers. Take its real part.")
    target = real_array(target, "target", masked=np.nan)
    fc, target = (x if isinstance(x, jax.core.Tracer) else np.asarray(x) for x in (fc, target))
    if fc.shape != target.shape:
        cause = shape_problem(target.shape, len(fc)) if fc.ndim == 2 else ""
        raise ValueError(
            f"fc has shape {fc.shape} and target {target.shape}; they must be equal, region for region"
            f"{cause and f'. The target: {cause}'}."
        )
    if fc.ndim != 2 or fc.shape[0] != fc.shape[1]:
        raise ValueError(f"fc and target have shape {fc.shape}; expected square matrices (n_node, n_node).")
    if not jnp.issubdtype(fc.dtype, jnp.floating):
        raise TypeError(f"fc has dtype {fc.dtype}; expected a floating dtype. Convert it: fc.astype(float).")
    return fc, target


def _warn_no_correlations(target):
    """Warn of a target that is no FC, if its values are known. No error: both matrices may be of another kind."""
    if not isinstance(target, jax.core.Tracer) and not is_in_range(target):
        warnings.warn(f"target: {values_problem(np.asarray(target, float))}.", stacklevel=3)


def _has_data(target, missing):
    """True for each entry with data: a NumPy array, unless it depends on the values of a tracer."""
    if isinstance(target, jax.core.Tracer) and missing == "ignore":
        return ~jnp.isnan(target)
    return ~np.isnan(target) if missing == "ignore" else np.ones(target.shape, bool)


def _masked_correlation(fc, target, has_data):
    """Pearson correlation of the entries with data, where these are known at run time only."""

    def centred(entries):
        # Shifted as in `standardise`, so that entries that are all equal give 0/0.
        entries = jnp.where(has_data, entries - jax.lax.stop_gradient(entries[jnp.argmax(has_data)]), 0.0)
        return jnp.where(has_data, entries - jnp.sum(entries) / jnp.sum(has_data, dtype=fc.dtype), 0.0)

    x, y = centred(jnp.where(has_data, fc, 0.0)), centred(jnp.where(has_data, target, 0.0))
    return jnp.sum(x * y) / jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y))


def _in_one_dtype(fc, target):
    fc = jnp.asarray(fc)
    return fc, jnp.asarray(target, dtype=fc.dtype)


def _refuse_not_finite(target, missing):
    if isinstance(target, jax.core.Tracer):
        return
    allowed = np.isfinite(target) | (np.isnan(target) & (missing == "ignore"))
    if not allowed.all():
        raise ValueError(
            f"target has {np.count_nonzero(~allowed)} entries that are not finite, so that no loss is finite either. "
            'Replace them, or leave out their regions; missing="ignore" leaves out entries without data (NaN).'
        )


def _refuse_constant(name, entries):
    if not isinstance(entries, jax.core.Tracer) and (entries == entries[0]).all():
        raise ValueError(f"{name}: all entries are {entries[0]}, so that their correlation with others is undefined.")
