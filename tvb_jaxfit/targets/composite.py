"""Published costs that compare FC and FCD, by their names."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from ..checks.arrays import real_array
from ..loss import fc_corr, mean_fc_difference
from ..observation.distances import ks_distance, soft_ks_distance
from .fcd import FCDTarget

# Names of published costs: values of the option ``loss`` of `fit`.
NAMES = ("pfic",)
# Smoothing in a fit: of the KS distance, see `soft_ks_distance`; and of the absolute value of a difference of means.
_WIDTH, _SMALL_DIFFERENCE = 0.05, 0.02


def pfic_cost(fc: ArrayLike, target: ArrayLike, fcd: ArrayLike, fcd_target: ArrayLike) -> jax.Array:
    r"""Cost of parametric feedback inhibition control (pFIC): correlation and mean of FC, and distribution of FCD.

    Parameters
    ----------
    fc, target : array of shape (n_node, n_node)
        Simulated and empirical FC.
    fcd, fcd_target : array of shape (n,) and (m,)
        Distributions of the simulated and of the empirical FCD, as of `compute_fcd`.

    Returns
    -------
    cost : jax.Array of shape ()

    Raises
    ------
    TypeError, ValueError
        As `fc_corr` and `ks_distance`.

    Notes
    -----
    .. math:: (1 - r) + |\overline{FC} - \overline{FC}_{target}| + KS

    with r and the means over pairs of regions, and KS at the edges of CBIG's 10,000 bins. As the option
    ``loss="pfic"`` of `fit`, whose gradients need a smooth cost, KS is `soft_ks_distance` with a width of 0.05, and the
    absolute difference d of the means is :math:`\sqrt{d^2 + 0.02^2} - 0.02`.

    References
    ----------
    Zhang, S. et al. (2024). PNAS 121(23), e2318641121. Kong, X. et al. (2021). Nat. Commun. 12, 6373.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> fc = np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    >>> fcd = np.linspace(0.1, 0.7, 20)
    >>> print(f"{tj.pfic_cost(fc, 0.5 * fc, fcd, fcd):.3f}")
    0.200
    """
    of_fcd = _distribution("fcd", fcd), _distribution("fcd_target", fcd_target)
    difference = abs(mean_fc_difference(fc, target))
    return 1.0 - fc_corr(fc, target) + difference + ks_distance(*of_fcd, "cbig")


def _distribution(name, values):
    values = real_array(values, f"pfic_cost: {name}", shape=(None,), finite=True)
    if not values.size:
        raise ValueError(f"pfic_cost: {name}: no values; give compute_fcd(...).distribution.")
    return values


def smooth_fc_distance(fc, target, missing="refuse"):
    """1 - `fc_corr`, plus a smooth absolute value of `mean_fc_difference`: a kink would end a descent."""
    difference = mean_fc_difference(fc, target, missing)
    smooth = jnp.sqrt(difference**2 + _SMALL_DIFFERENCE**2) - _SMALL_DIFFERENCE
    return 1.0 - fc_corr(fc, target, missing=missing) + smooth


def fc_loss(loss):
    """Loss of FC that an option ``loss`` stands for."""
    return smooth_fc_distance if isinstance(loss, str) else loss


def targets_of(loss, others: dict) -> dict:
    """Targets besides FC, with the distances of a published cost.

    Raises
    ------
    ValueError
        The cost needs a target that is not there.
    """
    if not isinstance(loss, str):
        return others
    of_fcd = {name: each for name, each in others.items() if isinstance(each, FCDTarget)}
    if not of_fcd:
        raise ValueError(
            f'loss: {loss!r} compares FC and FCD, and there is no FCD. Give target={{"fc": ..., "fcd": '
            "tj.FCDTarget(...)}."
        )
    soft_ks = partial(soft_ks_distance, width=_WIDTH)
    changed = {name: replace(each, distance=soft_ks) for name, each in of_fcd.items() if each.distance is None}
    return others | changed
