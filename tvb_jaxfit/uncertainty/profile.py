"""Profile likelihood of one value: the others are fitted again at each of its values."""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares

from ..text import aligned
from .likelihood import FCLikelihood

# Relative tolerance and maximum number of evaluations of a fit of the other values.
_TOLERANCE, _MAX_EVALUATIONS = 1e-3, 30
# Deviance above that of the linear approximation at which a step is bisected, and how often it may be.
_MAX_EXCESS, _MAX_BISECTIONS = 10.0, 5
# Distance that values keep from their bounds, in units of the prior.
_MARGIN = 1e-6


@dataclass(frozen=True, eq=False)
class Profile:
    """Profile of one fitted value.

    Attributes
    ----------
    name : str
        Of the value.
    values : ndarray, shape (n,)
        Values at which it was fixed, the fitted one included.
    deviance : ndarray, shape (n,)
        Minus twice the logarithm of the likelihood and the prior, relative to the fitted value, with the other values
        fitted again: to a local minimum, near that of the neighbouring value. A deviance of 1 is one standard error
        away, 4 are two.
    quadratic : ndarray, shape (n,)
        The same by the quadratic approximation: squared distance in standard errors.
    fitted, standard_error : float
    """

    name: str
    values: np.ndarray = field(repr=False)
    deviance: np.ndarray = field(repr=False)
    quadratic: np.ndarray = field(repr=False)
    fitted: float
    standard_error: float

    def __repr__(self):
        columns = [
            ["value", *(f"{value:.5g}" for value in self.values)],
            ["deviance", *(f"{value:.3f}" for value in self.deviance)],
            ["quadratic", *(f"{value:.3f}" for value in self.quadratic)],
        ]
        rows = aligned(list(zip(*columns, strict=True)), n_left=0)
        title = f"Profile of {self.name}: {self.fitted:.5g} ± {self.standard_error:.2g}"
        return "\n".join([title, *(f"  {row}" for row in rows)])


def profile(likelihood: FCLikelihood, index: int, covariance: np.ndarray, n: int = 9, width: float = 2.0) -> Profile:
    """Profile of one value.

    Parameters
    ----------
    likelihood : FCLikelihood
    index : int
        Entry of the vector of free values.
    covariance : ndarray, shape (n_free, n_free)
        Of the values, in units of the prior: from it come the starts of the fits.
    n : int
        Number of values, an odd one.
    width : float
        Distance of the outermost values from the fitted one, in standard errors; at most up to a bound.

    Returns
    -------
    Profile
        Without values at which there is no stable fixed point.
    """
    free = likelihood.expected.free
    fitted, scale = free.vector[index], free.prior_std[index]
    error = float(np.sqrt(covariance[index, index]))
    ridge = _Ridge(likelihood, index)
    values, deviance = [fitted], [0.0]
    for side in (-1.0, 1.0):
        end = np.clip(side * width * error, ridge.low[index], ridge.high[index])
        point = np.zeros(free.vector.size), 0.0
        for change in np.linspace(0.0, end, n // 2 + 1)[1:] if end != 0.0 else ():
            point = ridge.advance(point, change)
            if point is None:
                break
            values.append(float(fitted + scale * change))
            deviance.append(point[1])
    order = np.argsort(values)
    values, deviance = np.array(values)[order], np.array(deviance)[order]
    quadratic = ((values - fitted) / (scale * error)) ** 2
    return Profile(free.name(index), values, deviance, quadratic, float(fitted), error * scale)


class _Ridge:
    """Best values of all others where one value is fixed: points of (changes in units of the prior, deviance)."""

    def __init__(self, likelihood, index):
        self.likelihood, self.index = likelihood, index
        free = likelihood.expected.free
        low, high = free.bounds
        self.fitted, self.scale = free.vector, free.prior_std
        self.others = np.arange(self.fitted.size) != index
        # A fitted value on its bound may move away from it only.
        self.low = np.minimum((low - self.fitted) / self.scale + _MARGIN, 0.0)
        self.high = np.maximum((high - self.fitted) / self.scale - _MARGIN, 0.0)

    def advance(self, point, change, depth=_MAX_BISECTIONS):
        """Point at a new change of the fixed value; None without a stable fixed point.

        The step is bisected where the ridge curves away from its tangent: fits from far beside it hardly move.
        """
        start, predicted = self._tangent(point[0], change)
        is_near = np.sum(self._residual(start) ** 2) - predicted <= _MAX_EXCESS
        if depth and not is_near:
            middle = self.advance(point, 0.5 * (point[0][self.index] + change), depth - 1)
            return None if middle is None else self.advance(middle, change, depth - 1)
        return self._fitted_from(start)

    def _residual(self, changes):
        of_data = self.likelihood.residual(self.fitted + self.scale * changes)
        return np.concatenate([of_data, changes])

    def _linearised(self, changes):
        of_data, jacobian = self.likelihood.whitened(self.fitted + self.scale * changes)
        return np.concatenate([of_data, changes]), np.concatenate([jacobian, np.eye(changes.size)])

    def _tangent(self, changes, change):
        """Changes at a new change of the fixed value by the linear approximation, and the deviance by it."""
        residual, jacobian = self._linearised(changes)
        residual = residual + jacobian[:, self.index] * (change - changes[self.index])
        of_others = jacobian[:, self.others]
        step = -np.linalg.solve(of_others.T @ of_others, of_others.T @ residual)
        new = np.array(changes)
        new[self.others] += step
        new = np.clip(new, self.low, self.high)
        new[self.index] = change
        return new, np.sum((residual + of_others @ step) ** 2)

    def _fitted_from(self, start):
        others, at_start = self.others, self._residual(start)
        if not np.all(np.isfinite(at_start)):
            return None
        if not others.any():
            return start, float(at_start @ at_start)

        def changes(values):
            new = np.array(start)
            new[others] = values
            return new

        found = least_squares(
            lambda values: self._residual(changes(values)),
            start[others],
            lambda values: self._linearised(changes(values))[1][:, others],
            # The start has to lie inside.
            (self.low[others] - _MARGIN, self.high[others] + _MARGIN),
            x_scale="jac",
            ftol=_TOLERANCE,
            xtol=_TOLERANCE,
            gtol=None,
            max_nfev=_MAX_EVALUATIONS,
        )
        return changes(found.x), 2.0 * float(found.cost)
