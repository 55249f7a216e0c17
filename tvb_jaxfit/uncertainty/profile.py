"""Profile likelihood of one value: the others are fitted again at each of its values."""

from dataclasses import dataclass, field

import numpy as np

from .likelihood import FCLikelihood

# Maximum numbers of Gauss-Newton steps, and of their halvings; decrease of the deviance at which they end.
_MAX_STEPS, _MAX_HALVINGS, _TOLERANCE = 12, 6, 1e-3
# Part of the range that values keep from their bounds.
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
        fitted again. A deviance of 1 is one standard error away, 4 are two.
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
        widths = [max(map(len, column)) for column in columns]
        rows = (
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            for row in zip(*columns, strict=True)
        )
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
    low, high = (_inside(free)[side][index] for side in (0, 1))
    values, deviance = [fitted], [0.0]
    for end in (max(fitted - width * error * scale, low), min(fitted + width * error * scale, high)):
        former = np.zeros(free.vector.size)
        for value in np.linspace(fitted, end, n // 2 + 1)[1:] if end != fitted else ():
            # Along the ridge of the quadratic approximation.
            change = (value - fitted) / scale - former[index]
            start = former + covariance[:, index] / covariance[index, index] * change
            start[index] = (value - fitted) / scale
            found = _fit_others(likelihood, index, start)
            if found is None:
                break
            former, minimum = found
            values.append(float(value))
            deviance.append(minimum)
    order = np.argsort(values)
    values, deviance = np.array(values)[order], np.array(deviance)[order]
    quadratic = ((values - fitted) / (scale * error)) ** 2
    return Profile(free.name(index), values, deviance, quadratic, float(fitted), error * scale)


def _inside(free):
    low, high = free.bounds
    margin = _MARGIN * free.prior_std
    return np.minimum(low + margin, free.vector), np.maximum(high - margin, free.vector)


def _fit_others(likelihood, index, start):
    """Changes of all values, in units of the prior, and the deviance there; None without a stable fixed point."""
    free = likelihood.expected.free
    others = np.arange(free.vector.size) != index
    low, high = ((end - free.vector) / free.prior_std for end in _inside(free))

    def clipped(changes):
        return np.where(others, np.clip(changes, low, high), changes)

    def deviance(changes):
        return float(np.sum(likelihood.residual(free.vector + free.prior_std * changes) ** 2) + changes @ changes)

    changes = clipped(start)
    lowest = deviance(changes)
    if not np.isfinite(lowest):
        return None
    for _ in range(_MAX_STEPS if others.any() else 0):
        residual, jacobian = likelihood.whitened(free.vector + free.prior_std * changes)
        of_others = jacobian[:, others]
        gradient = of_others.T @ residual + changes[others]
        # Values on a bound that the fit would leave stay there.
        full = np.zeros(changes.size)
        full[others] = gradient
        moves = others & ~((changes <= low) & (full > 0.0)) & ~((changes >= high) & (full < 0.0))
        if not moves.any():
            break
        information = jacobian[:, moves].T @ jacobian[:, moves] + np.eye(moves.sum())
        step = np.zeros(changes.size)
        step[moves] = -np.linalg.solve(information, full[moves])
        before = lowest
        for halving in range(_MAX_HALVINGS):
            candidate = clipped(changes + 0.5**halving * step)
            value = deviance(candidate)
            if value < lowest:
                changes, lowest = candidate, value
                break
        if before - lowest < _TOLERANCE:
            break
    return changes, lowest
