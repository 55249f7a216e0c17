"""Difference between the linear response and recordings, as a function of directed weights and other free values."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..constraints import MaskedParameter
from ..dependents import free_parameters_of, strip_free_parameters, strip_with_rest
from ..dynamics.resting_state import resting_state
from ..fitting.linear.objective import nonlinearity_penalty
from ..fitting.starts import parameter_scale
from ..linear_response.covariance import Way
from ..linear_response.simulator import LinearizedSimulator
from ..parameters import resolve_dependents, strip_parameters, with_parameters, with_values
from ..runtime.programs import Program
from ..state import State, with_path
from .observed import Observed, difference, normalised

WEIGHTS = "connectivity.weights"
# Smallest start of a weight, relative to the mean of all: smaller ones would hardly change.
_SMALLEST = 1e-3


@dataclass(frozen=True, eq=False)
class Value:
    """Result of an evaluation.

    Attributes
    ----------
    point : ndarray
    value : float
        Difference from the recordings and penalties; infinite without a stable fixed point, or if `is_inaccurate`.
    loss : float
        Difference alone, see `observed.difference`.
    predicted : Observed
    weights : Array, shape (n_node, n_node)
    nonlinearity : float
        Largest `LinearResponse.nonlinearity`.
    x : Array
        Fixed point.
    is_inaccurate : bool
        True if eigenmodes are ill-conditioned, so that there is no value.
    """

    point: np.ndarray = field(repr=False)
    value: float
    loss: float
    predicted: Observed = field(repr=False)
    weights: jax.Array = field(repr=False)
    nonlinearity: float
    x: jax.Array = field(repr=False)
    is_inaccurate: bool = False

    @property
    def is_stable(self) -> bool:
        """True if there is a stable fixed point, and a value."""
        return bool(np.isfinite(self.value))


class Objective:
    r"""Function of a point: unconstrained weights, the logarithm of their common scale, and other free values.

    A weight is :math:`g \bar w\, \mathrm{softplus}(u)`, with the common scale g and the mean structural weight.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With structural weights, and `Parameter`s for the other free values.
    monitor, lag : int
    """

    def __init__(self, linear: LinearizedSimulator, state: State, monitor: int, lag: int):
        self.linear, self.state, self.monitor, self.lag = linear, state, monitor, lag
        self._parameters = free_parameters_of(state)
        self.structural = np.asarray(state.connectivity.weights)
        self.support = np.nonzero(self.structural)
        self._plain_state, self.n_weights = strip_free_parameters(state), self.support[0].size
        weights = self.structural[self.support]
        unconstrained = {path: parameter.to_unconstrained() for path, parameter in self._parameters.items()}
        scales = {
            path: jnp.full_like(each, parameter_scale(self._parameters[path])) for path, each in unconstrained.items()
        }
        start, self._unravel = ravel_pytree(unconstrained)
        self._dtype = state.connectivity.weights.dtype
        self._scales = ravel_pytree(scales)[0].astype(self._dtype)
        relative = np.maximum(weights / np.mean(weights), _SMALLEST)
        of_weights = relative + np.log(-np.expm1(-relative))
        of_free = np.asarray(start.astype(self._dtype) / self._scales, float)
        self.start_point = np.concatenate([of_weights, np.zeros(1), of_free])
        self.x = state.initial_conditions[-1]
        ways = [way for way in linear.ways(strip_parameters(state)) if way is not Way.SYMMETRIC]
        evaluate = partial(_evaluate, self._values, monitor, lag, self.support, weights)
        self._programs = [_program(replace(linear, way=way), evaluate) for way in ways]

    def _values(self, point):
        """Weights of the connections in units of their scale, their scale, and the other free values by path."""
        unconstrained = self._unravel(point[self.n_weights + 1 :] * self._scales)
        values = {path: self._parameters[path].with_unconstrained(each).value for path, each in unconstrained.items()}
        return jax.nn.softplus(point[: self.n_weights]), jnp.exp(point[self.n_weights]), values

    def __call__(self, point, observed: Observed, penalty: float, x) -> tuple[Value, np.ndarray]:
        """Evaluate at a point.

        Parameters
        ----------
        point : ndarray
        observed : Observed
        penalty : float
            Factor of the mean squared deviation of the weights from scaled structural ones, relative to their mean
            square.
        x : Array
            Start of the search for the fixed point.

        Returns
        -------
        value : Value
        slope : ndarray
        """
        arrays = jnp.asarray(point, self._dtype), self._plain_state, observed, jnp.asarray(penalty, self._dtype), x
        (value, (scores, predicted, weights, x, is_inaccurate)), slope = self._programs[0](*arrays)
        slope = np.array(slope, float)
        value = float(value) if np.isfinite(value) and np.all(np.isfinite(slope)) else np.inf
        loss, nonlinearity = (float(score) for score in scores)
        return Value(np.array(point), value, loss, predicted, weights, nonlinearity, x, bool(is_inaccurate)), slope

    def compute_over_frequencies(self) -> None:
        """Compute covariances over frequencies from now on."""
        self._programs = self._programs[-1:]

    def scaled(self, factor: float) -> np.ndarray:
        """Start point with the structural weights times a factor."""
        point = self.start_point.copy()
        point[self.n_weights] = np.log(factor)
        return point

    def state_of(self, value: Value) -> State:
        """State with the weights and other free values of a point as parameters, at rest in its fixed point."""
        point = jnp.asarray(value.point, self._dtype)
        unconstrained = self._unravel(point[self.n_weights + 1 :] * self._scales)
        free = {path: self._parameters[path].with_unconstrained(each) for path, each in unconstrained.items()}
        weights = MaskedParameter(value.weights, mask=self.structural != 0.0, lower_bound=0.0)
        state = with_path(with_parameters(self.state, free), WEIGHTS, weights)
        return resting_state(self.linear.simulate, resolve_dependents(state), value.x)


def _program(linear, evaluate: Callable) -> Program:
    def evaluate_by_way(*arguments):
        return jax.value_and_grad(evaluate, has_aux=True)(*arguments, linear=linear)

    return Program(evaluate_by_way, shares_constants=True)


def _evaluate(values_of, monitor, lag, support, structural, point, plain_state, observed, penalty, x, *, linear):
    relative, scale, values = values_of(point)
    mean, mean_square = (np.asarray(each, point.dtype) for each in (np.mean(structural), np.mean(structural**2)))
    deviation = jnp.mean(jnp.square(mean * relative - structural.astype(point.dtype))) / mean_square
    weights = jnp.zeros_like(plain_state.connectivity.weights).at[support].set(scale * mean * relative)
    state = with_values(plain_state, {**values, WEIGHTS: weights})
    state, x = strip_with_rest(state, x)
    response = linear(state, x)
    predicted = normalised(response.covariance(monitor), response.lagged_covariance(lag, monitor))
    loss = difference(predicted, observed)
    value = loss + penalty * deviation + nonlinearity_penalty(response)
    value = jnp.where(response.is_stable, value, jnp.inf)
    is_inaccurate = response.is_stable & ~response.is_accurate
    return value, ((loss, jnp.max(response.nonlinearity)), predicted, weights, response.fixed_point.x, is_inaccurate)
