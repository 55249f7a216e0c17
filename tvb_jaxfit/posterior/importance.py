"""Importance resampling: draws of the Laplace approximation, corrected to those of the posterior."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .laplace import Laplace

# Degrees of freedom of the proposals: their tails are heavier than those of a normal distribution.
_DEGREES = 5.0
# Number of proposals for each draw, and share of effective proposals from which the draws are corrected.
_PER_DRAW, _SUFFICIENT = 4, 0.05


@dataclass(frozen=True, eq=False)
class Corrected:
    """Draws of the posterior, or of the Laplace approximation.

    Attributes
    ----------
    u : ndarray, shape (n_draws, n)
        Unconstrained variables.
    n_effective : float
        Number of proposals that the weighted ones are worth.
    n_proposals : int
    is_corrected : bool
        False for uncorrected draws: too few of the proposals count.
    """

    u: np.ndarray = field(repr=False)
    n_effective: float
    n_proposals: int
    is_corrected: bool


def corrected_draws(potential: Callable, laplace: Laplace, n_draws: int, seed: int, each: Callable = iter) -> Corrected:
    r"""Draws of a density by importance resampling around its Laplace approximation.

    Parameters
    ----------
    potential : callable
        Unconstrained variables (n,) to minus the logarithm of the density; NaN where there is none.
    laplace : Laplace
    n_draws, seed : int
    each : callable, optional
        Iterator over the proposals, which may show progress.

    Returns
    -------
    Corrected

    Notes
    -----
    Proposals are from a multivariate t distribution with the maximum and the covariance's shape of the approximation,
    and have the weights :math:`w = p / q`. They are worth :math:`(\sum w)^2 / \sum w^2` independent draws, few if there
    are many variables or the density is far from normal.
    """
    random, n = np.random.default_rng(seed), laplace.maximum.u.size
    normal = random.standard_normal((_PER_DRAW * n_draws, n))
    scale = np.sqrt(_DEGREES / random.chisquare(_DEGREES, len(normal)))
    v = normal * scale[:, None]
    proposals = laplace.maximum.u + v @ laplace.root.T
    log_density = np.array([-potential(u) for u in each(proposals)])
    log_proposal = -0.5 * (_DEGREES + n) * np.log1p(np.sum(v**2, axis=1) / _DEGREES)
    log_weight = np.where(np.isfinite(log_density), log_density - log_proposal, -np.inf)
    weight = np.exp(log_weight - log_weight.max())
    n_effective = float(weight.sum() ** 2 / np.sum(weight**2))
    if n_effective < _SUFFICIENT * len(proposals):
        return Corrected(laplace.draws(n_draws, seed), n_effective, len(proposals), False)
    # Systematic resampling: one random number for equidistant points of the cumulative weight.
    points = (np.arange(n_draws) + random.random()) / n_draws
    chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), points)
    return Corrected(random.permutation(proposals[chosen]), n_effective, len(proposals), True)
