"""Metric of NUTS for densities whose curvature varies: scales of the variables at probable values, not at the maximum.

The maximum of a density of many variables is not where its probability is: elsewhere, it can be far steeper.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg

from .laplace import Laplace, Point, curvature

# Largest rise of the potential at one standard deviation of a scale, where a normal density has 0.5; factor by which a
# longer scale is shortened, and how often at most.
_RISE, _SHORTER, _MAX_SHORTENED = 1.0, 0.8, 15


def scales(evaluate: Callable, laplace: Laplace) -> np.ndarray:
    """Scales of a density that is flat at its maximum and steep beside it.

    Parameters
    ----------
    evaluate : callable
        As for `maximum`.
    laplace : Laplace

    Returns
    -------
    ndarray, shape (n, n)
        The square root of the covariance with shorter columns: at the distance of a column to both sides, the mean rise
        of the potential is at most twice that of a normal density.
    """
    best = laplace.maximum

    def rise(column):
        return np.mean([evaluate(best.u + sign * column, best.x)[0] - best.potential for sign in (-1.0, 1.0)])

    root = laplace.root.copy()
    for column in root.T:
        for _ in range(_MAX_SHORTENED):
            if rise(column) <= _RISE:
                break
            column *= _SHORTER
    return root


def scales_at(evaluate: Callable, points: Sequence[Point], each: Callable = iter) -> np.ndarray:
    """Scales of a density at several points.

    Parameters
    ----------
    evaluate, each
        As for `laplace.curvature`.
    points : sequence of Point

    Returns
    -------
    ndarray, shape (n, n)
        Square root of the inverse of the mean size of the curvature: directions in which it is negative count, too.
    """
    total = 0.0
    for point in points:
        values, vectors = scipy.linalg.eigh(curvature(evaluate, point, each))
        total = total + (vectors * np.abs(values)) @ vectors.T
    values, vectors = scipy.linalg.eigh(total / len(points))
    # Variables have a prior with a curvature of about 1.
    return vectors / np.sqrt(np.maximum(values, 1.0))
