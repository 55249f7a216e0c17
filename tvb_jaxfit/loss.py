"""Distances and similarities of two functional connectivity (FC) matrices."""

import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from .checks.arrays import real_array, unmasked
from .checks.fc import is_in_range, shape_problem, values_problem
from .checks.options import boolean, check, choice
from .observation import standardise
from .runtime.processes import refuse_forked

__all__ = ["fc_corr", "rmse", "rmse_corr"]

MISSING = choice("refuse", "ignore")


def rmse(fc, target, missing="refuse"):
    """Root-mean-square difference of two matrices.

    Parameters
    ----------
    fc : array of shape (n_node, n_node)
        Simulated FC, of a floating dtype.
    target : array of shape (n_node, n_node)
        Empirical FC. It is converted to the dtype of `fc`.
    missing : {"refuse", "ignore"}, optional
        Whether entries of the target without data (NaN, or masked) are refused, or have a weight of 0: they add
        nothing to the loss and to its gradient, whatever `fc` is there.

    Returns
    -------
    rmse : jax.Array of shape ()
        The difference, over all entries with data, the diagonal included. NaN where `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, or differ in shape; `target` is not finite, is masked, or has no data at all.

    Warns
    -----
    UserWarning
        Where `target` has values that are no correlations, such as percents. Its values cannot be seen where it is an
        argument of a function under `jax.jit`.

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
    fc, target = _pair(fc, target, missing)
    known = _known(target, missing)
    if isinstance(known, jax.core.Tracer):
        fc, target = _as_arrays(fc, target)
        # The difference must not see what is missing, or NaN comes back with the gradient.
        difference = jnp.where(known, fc, 0.0) - jnp.where(known, target, 0.0)
        mean_square = jnp.sum(jnp.square(difference)) / jnp.sum(known, dtype=fc.dtype)
    else:
        _refuse_not_finite(target, missing)
        _warn_of_no_correlations(target)
        if not known.all():
            fc, target = fc[known], target[known]
        if target.size == 0:
            raise ValueError("target: no entry has data, so that there is no distance from it.")
        fc, target = _as_arrays(fc, target)
        mean_square = jnp.mean(jnp.square(fc - target))
    # The square root must not see the zero, or its infinite derivative makes NaN of the branch that is not taken.
    equal = mean_square == 0
    return jnp.where(equal, mean_square, jnp.sqrt(jnp.where(equal, jnp.ones_like(mean_square), mean_square)))


def fc_corr(fc, target, include_diagonal=False, missing="refuse"):
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
    missing : {"refuse", "ignore"}, optional
        As for `rmse`.

    Returns
    -------
    r : jax.Array of shape ()
        The correlation, between -1 and 1. NaN where `fc` has a NaN.

    Raises
    ------
    TypeError
        `fc` is not of a floating dtype, or `target` is complex.
    ValueError
        The matrices are not square, differ in shape, or have fewer than 3 nodes; `target` is not finite, is masked, or
        has data in fewer than 3 entries; the entries of a matrix are all equal. Inside ``jax.jit``, ``jax.grad`` and
        ``jax.vmap``, where the values of `fc` cannot be seen, the correlation of an `fc` of equal entries is NaN.

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
    fc, target = _pair(fc, target, missing)
    n_node = fc.shape[0]
    if n_node < 3:
        raise ValueError(f"fc and target have shape {fc.shape}; a correlation of their entries needs 3 nodes or more.")
    used = np.ones((n_node, n_node), dtype=bool) if include_diagonal else ~np.eye(n_node, dtype=bool)
    fc, target = fc[used], target[used]
    known = _known(target, missing)
    if isinstance(known, jax.core.Tracer):
        return _correlation_of_known(*_as_arrays(fc, target), known)
    _refuse_not_finite(target, missing)
    if not known.all():
        fc, target = fc[known], target[known]
    if target.size < 3:
        raise ValueError(f"target: {target.size} entries have data; a correlation needs 3 or more.")
    _refuse_constant("fc", fc)
    _refuse_constant("target", target)
    unit = standardise(jnp.stack(_as_arrays(fc, target), axis=1))
    return jnp.sum(unit[:, 0] * unit[:, 1])


def rmse_corr(fc, target, missing="refuse"):
    """Mean of `rmse` and 1 - `fc_corr`: values and pattern of two matrices at once.

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
    return 0.5 * (rmse(fc, target, missing) + 1.0 - fc_corr(fc, target, missing=missing))


def _pair(fc, target, missing):
    """Return both matrices, checked: in NumPy where their values can be seen, so that they can be under ``jax.jit``."""
    refuse_forked("loss")
    check("loss", missing=(missing, MISSING))
    if isinstance(target, (str, os.PathLike)):
        raise ValueError(f"target: {os.fspath(target)!r} is a path; give the values of type float, tj.load_fc(path).")
    if missing == "refuse" and np.ma.is_masked(target):
        raise ValueError(
            f'target: {np.ma.count_masked(target)} entries are masked; missing="ignore" leaves them out, or fill them.'
        )
    fc, known = unmasked(fc, "fc"), unmasked(target, "target", masked=np.nan)
    if jnp.issubdtype(known.dtype, jnp.complexfloating):
        raise TypeError(f"target has dtype {known.dtype}; expected real numbers. Take its real part.")
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


def _warn_of_no_correlations(target):
    """Warn of a target that is no FC, where its values can be seen: both matrices may be of another kind on purpose."""
    if not isinstance(target, jax.core.Tracer) and not is_in_range(target):
        warnings.warn(f"target: {values_problem(np.asarray(target, float))}.", stacklevel=3)


def _known(target, missing):
    """Whether each entry has data: in NumPy where that can be seen."""
    if isinstance(target, jax.core.Tracer) and missing == "ignore":
        return ~jnp.isnan(target)
    return ~np.isnan(target) if missing == "ignore" else np.ones(target.shape, bool)


def _correlation_of_known(fc, target, known):
    """Pearson correlation of the entries that are known, where only a running program sees which."""

    def centred(entries):
        # Shifted as by `standardise`: entries that are all equal become 0/0.
        entries = jnp.where(known, entries - jax.lax.stop_gradient(entries[jnp.argmax(known)]), 0.0)
        return jnp.where(known, entries - jnp.sum(entries) / jnp.sum(known, dtype=fc.dtype), 0.0)

    x, y = centred(jnp.where(known, fc, 0.0)), centred(jnp.where(known, target, 0.0))
    return jnp.sum(x * y) / jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y))


def _as_arrays(fc, target):
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
