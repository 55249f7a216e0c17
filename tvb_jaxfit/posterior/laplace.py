r"""Laplace approximation: a normal distribution with the maximum and the curvature of a density.

.. math:: \log p(y) \approx -U(\hat u) + \frac n2 \log 2\pi - \frac12 \log\det H

with the potential U, minus the logarithm of likelihood times prior, and its second derivative H at the minimum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from scipy.optimize import minimize

from ..runtime.threads import map_in_threads

# Step of the differences of gradients, in units of standard deviations.
_STEP = 1e-4
# Curvature below which a direction counts as flat, in units of that of the prior.
_FLAT = 1e-2
# Maximum number of evaluations of the first descent, and of later ones, which the curvature scales. They repeat until
# one gains less than this.
_FIRST, _LATER, _GAIN, _MAX_DESCENTS = 200, 200, 0.1, 6


@dataclass(frozen=True, eq=False)
class Laplace:
    """Normal approximation around the maximum of a density.

    Attributes
    ----------
    maximum : Point
    root : ndarray, shape (n, n)
        Square root R of the covariance, R R^T: what a standard normal vector is multiplied by.
    log_evidence : float
        Approximate logarithm of the probability of the data.
    n_flat : int
        Number of directions without curvature; they were given that of the prior.
    """

    maximum: "Point"
    root: np.ndarray = field(repr=False)
    log_evidence: float
    n_flat: int

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the variables, shape (n, n)."""
        return self.root @ self.root.T

    def draws(self, n_draws: int, seed: int) -> np.ndarray:
        """Independent draws of the approximation, shape (n_draws, n)."""
        normal = np.random.default_rng(seed).standard_normal((n_draws, self.maximum.u.size))
        return self.maximum.u + normal @ self.root.T


@dataclass(frozen=True, eq=False)
class Point:
    """Point of a density.

    Attributes
    ----------
    u : ndarray, shape (n,)
        Unconstrained variables.
    x : ndarray
        Fixed point, from which that of a neighbour is searched.
    potential : float
    """

    u: np.ndarray
    x: np.ndarray = field(repr=False)
    potential: float


def maximum(evaluate: Callable, start: Point, root: np.ndarray, max_evaluations: int) -> Point:
    """Maximum of a density near a start, by L-BFGS.

    Parameters
    ----------
    evaluate : callable
        Variables and start of the search for the fixed point, to the potential, its derivative, and the fixed point;
        NaN where there is none: `PosteriorDensity.evaluate`.
    start : Point
        With a finite potential.
    root : ndarray, shape (n, n)
        Square root of an approximate covariance: the descent takes place in units of it.
    max_evaluations : int

    Returns
    -------
    Point
    """
    best = start

    def of_scaled(v):
        nonlocal best
        u = start.u + root @ v
        value, gradient, x = evaluate(u, best.x)
        if np.isfinite(value) and np.all(np.isfinite(gradient)):
            if value < best.potential:
                best = Point(u, x, value)
            return value, root.T @ gradient
        # A slope back to the best point, so that a line search turns back.
        away = v - np.linalg.solve(root, best.u - start.u)
        distance = np.linalg.norm(away)
        return best.potential + 1.0 + 10.0 * distance, 10.0 * away / max(distance, 1e-300)

    options = {"maxiter": max_evaluations, "maxfun": max_evaluations, "maxcor": 30, "ftol": 1e-12, "gtol": 1e-5}
    minimize(of_scaled, np.zeros(start.u.size), jac=True, method="L-BFGS-B", options=options)
    return best


def curvature(evaluate: Callable, point: Point, each: Callable = iter) -> np.ndarray:
    """Second derivative of the potential, from central differences of its exact derivative.

    Parameters
    ----------
    evaluate : callable
        As for `maximum`; thread-safe.
    point : Point
    each : callable, optional
        Iterator over the variables, which may show progress.

    Returns
    -------
    ndarray, shape (n, n)
        Symmetric. Beside a point without a potential, the difference is that to the other side.
    """
    n = point.u.size

    def gradient(u):
        value, gradient, _ = evaluate(u, point.x)
        return gradient if np.isfinite(value) else np.full(n, np.nan)

    def row(i):
        step = _STEP * np.eye(n)[i]
        above, below = gradient(point.u + step), gradient(point.u - step)
        if np.all(np.isfinite(above)) and np.all(np.isfinite(below)):
            return (above - below) / (2.0 * _STEP)
        middle = gradient(point.u)
        above, below = (each if np.all(np.isfinite(each)) else middle for each in (above, below))
        return (above - below) / _STEP

    found = map_in_threads(row, range(n))
    rows = np.array([next(found) for _ in each(range(n))])
    return 0.5 * (rows + rows.T)


def laplace(evaluate: Callable, point: Point, each: Callable = iter) -> Laplace:
    """Normal approximation of a density at its maximum near a point.

    Parameters
    ----------
    evaluate, each
        As for `curvature`.
    point : Point
        Start of the search for the maximum.

    Returns
    -------
    Laplace
    """
    point = maximum(evaluate, point, np.eye(point.u.size), _FIRST)
    for _ in range(_MAX_DESCENTS):
        values, vectors = scipy.linalg.eigh(curvature(evaluate, point, each))
        former = point
        # The size of the curvature is the scale also of directions along which it is negative.
        point = maximum(evaluate, point, vectors / np.sqrt(np.maximum(np.abs(values), 1.0)), _LATER)
        if former.potential - point.potential < _GAIN:
            break
    is_flat = values < _FLAT
    values = np.where(is_flat, 1.0, values)
    log_evidence = -point.potential + 0.5 * point.u.size * np.log(2.0 * np.pi) - 0.5 * np.sum(np.log(values))
    return Laplace(point, vectors / np.sqrt(values), float(log_evidence), int(is_flat.sum()))
