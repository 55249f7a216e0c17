"""Starts of a fit: scales of the parameters, and a Latin hypercube over the values that are equal in all regions."""

from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from ..dependents import free_parameters_of
from ..maps import MapParameter
from ..parameters import BoundedParameter, Parameter
from ..state import State
from .keys import Purpose, generator

# Part of a range that is left out at each of its ends.
_MARGIN = 0.02
# Minimum distance between two starts, in the largest of their unconstrained values, relative to its scale.
_START_DISTANCE = 0.1


def latin_hypercube(parameters: dict[str, Parameter], n: int, seed: int) -> Iterator[dict[str, Parameter]]:
    """Parameters at the points of a Latin hypercube over coefficients of maps and values equal in all regions.

    Parameters
    ----------
    parameters : dict of str to Parameter
        By path. Those with different values in different regions stay as they are.
    n : int
        Number of points.
    seed : int

    Yields
    ------
    dict of str to Parameter
        By path. Nothing if there is no parameter to sweep.
    """
    from scipy.stats import qmc

    n_dimensions = {path: _n_dimensions(parameter) for path, parameter in parameters.items()}
    swept = {path: count for path, count in n_dimensions.items() if count}
    if not swept:
        return
    ends = np.cumsum(list(swept.values()))
    for row in qmc.LatinHypercube(int(ends[-1]), seed=generator(seed, Purpose.SWEEP)).random(n):
        fractions = zip(swept, np.split(row, ends[:-1]), strict=True)
        yield parameters | {path: _at_fractions(parameters[path], of_path) for path, of_path in fractions}


def parameter_scale(parameter: Parameter) -> float:
    """Scale of an unconstrained value: the range of the values, or their mean absolute value."""
    if isinstance(parameter, MapParameter):
        return parameter.scale
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        return parameter.upper_bound - parameter.lower_bound
    if type(parameter) is Parameter or isinstance(parameter, BoundedParameter) or parameter.is_dependent:
        return float(np.mean(np.abs(parameter.value))) or 1.0
    return 1.0


def _n_dimensions(parameter):
    """Number of dimensions of a sweep: one for equal values, one for each coefficient of maps, else none."""
    if isinstance(parameter, MapParameter):
        return len(parameter.names)
    value = np.asarray(parameter.value)
    return int(np.all(value == value.ravel()[0]))


def _at_fractions(parameter, fractions):
    """Parameter at fractions of its range; without a finite range, between a quarter and four times its value."""
    if isinstance(parameter, MapParameter):
        return parameter.at_fractions(fractions)
    (fraction,) = fractions
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        low, high = parameter.lower_bound, parameter.upper_bound
        inside = _MARGIN + (1.0 - 2.0 * _MARGIN) * fraction
        return parameter.with_value(jnp.full_like(parameter.value, low + inside * (high - low)))
    return parameter.with_value(parameter.value * 4.0 ** (2.0 * fraction - 1.0))


def apart(candidates: list, point_of: Callable, n: int) -> list:
    """First candidates of a list that are apart from each other: neighbours lead to the same end.

    Parameters
    ----------
    candidates : list
        The best first.
    point_of : callable
        Candidate to its unconstrained values, relative to their scales, as one vector.
    n : int
        Maximum number of candidates.
    """
    chosen, points = [], []
    for candidate in candidates:
        point = point_of(candidate)
        if len(chosen) < n and all(np.max(np.abs(point - other)) > _START_DISTANCE for other in points):
            chosen.append(candidate)
            points.append(point)
    return chosen


def point_of_state(state: State) -> np.ndarray:
    """Unconstrained values of a state, relative to their scales, as one vector."""
    parameters = free_parameters_of(state).values()
    return np.concatenate([np.ravel(each.to_unconstrained()) / parameter_scale(each) for each in parameters])
