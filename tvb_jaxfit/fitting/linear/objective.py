"""Objective of a linear fit: the loss that is expected of a recording, and penalties for an invalid linearisation."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ...dependents import free_parameters_of, strip_free_parameters, strip_with_rest
from ...dynamics.resting_state import resting_state
from ...linear_response.response import LinearResponse
from ...linear_response.simulator import LinearizedSimulator
from ...loss import fc_corr
from ...parameters import resolve_dependents, strip_parameters, with_parameters, with_values
from ...runtime.programs import Program
from ...state import State
from ..criterion import Criterion
from ..keys import Purpose, generator, noise_key
from ..starts import latin_hypercube, parameter_scale

# Penalty weights: _NONLINEARITY_WEIGHT * mean((nonlinearity / _NONLINEARITY_SCALE)**4), and
# _MULTISTABILITY_WEIGHT * mean(relaxation_residual**4), which is not 0 if there are other attractors. A simulator that
# has them at its start values already, with a penalty above _MULTISTABLE, has none for them.
_NONLINEARITY_WEIGHT, _NONLINEARITY_SCALE = 0.01, 0.4
_MULTISTABILITY_WEIGHT, _MULTISTABLE = 30.0, 0.01
# Number of points at which a way is inaccurate before it is left out, if these are half of all points or more.
_MIN_INACCURATE = 4
# Standard deviation by which a value is perturbed to find out if FC depends on it.
_PERTURBATION = 0.1


@dataclass(frozen=True, eq=False)
class ObjectiveValue:
    """Result of an evaluation of the objective.

    Attributes
    ----------
    point : ndarray
    value : float
        Value of the objective; infinite without a stable fixed point.
    loss, r : float
        Loss of FC itself, with the other terms of the criterion; and its correlation with the target.
    nonlinearity : float
        Maximum over states of `LinearResponse.nonlinearity`.
    multistability : float
        Mean of the fourth power of `LinearResponse.relaxation_residual`.
    terms : ndarray, shape (n,)
        Terms of a loss of more than FC, without their weights: see `Criterion.names`.
    x : Array
        Fixed point.
    fc : Array, shape (n_node, n_node)
    """

    point: np.ndarray = field(repr=False)
    value: float
    loss: float
    r: float
    nonlinearity: float
    multistability: float
    terms: np.ndarray
    x: jax.Array = field(repr=False)
    fc: jax.Array = field(repr=False)

    @property
    def is_stable(self) -> bool:
        """True if there is a stable fixed point."""
        return bool(np.isfinite(self.value))


def no_penalty(state: State) -> float:
    """Penalty of a fit without one: 0 for all states."""
    return 0.0


class Objective:
    """Function of the unconstrained free values, as one vector (a point) of comparable entries.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    criterion : Criterion
    length : float
        Length of the recording whose loss is expected [ms].
    penalty : callable, optional
        State (plain) to a scalar, added to the loss.
    seed : int, optional
        Seed of all that is drawn.
    """

    def __init__(
        self,
        linear: LinearizedSimulator,
        state: State,
        criterion: Criterion,
        length: float,
        penalty: Callable = no_penalty,
        seed: int = 0,
    ):
        self.penalty, self._seed = penalty, seed
        self.state, self.parameters, self._linear = state, free_parameters_of(state), linear
        unconstrained = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        scales = {
            path: jnp.full_like(value, parameter_scale(self.parameters[path])) for path, value in unconstrained.items()
        }
        self.start, self._unravel = ravel_pytree(unconstrained)
        self._scales = ravel_pytree(scales)[0]
        self._is_fixed, self._multistability_weight = np.zeros(self.start.size, bool), _MULTISTABILITY_WEIGHT
        self.x = state.initial_conditions[-1]
        self._plain_state = strip_free_parameters(state)
        self._ways = list(linear.ways(strip_parameters(state)))
        # Number of points, and of those at which it was inaccurate, by way.
        self._counts = {way: np.zeros(2, int) for way in self._ways}
        self._order = {way: place for place, way in enumerate(self._ways)}
        expected_loss = _expected_loss(criterion, length, self.start.dtype, seed)
        of_values = _scored(expected_loss, criterion, penalty, noise_key(seed, Purpose.SAMPLES))

        def inhomogeneity(point):
            """Mean square of the differences between regional values."""
            changes = self._unravel(point - self.start / self._scales)
            regional = (self.parameters[path].regional_changes(change) for path, change in changes.items())
            return sum(jnp.mean((values - jnp.mean(values)) ** 2) for values in regional)

        def evaluate(linear, point, plain_state, x, homogeneity_weight, multistability_weight):
            values, vjp = jax.vjp(self._values, point)
            (value, (scores, is_inaccurate)), gradients = jax.value_and_grad(partial(of_values, linear), has_aux=True)(
                values, plain_state, x, multistability_weight
            )
            variance, slope = jax.value_and_grad(inhomogeneity)(point)
            value = value + homogeneity_weight * variance
            return is_inaccurate, (value, *scores), gradients, vjp(gradients)[0] + homogeneity_weight * slope

        def program(linear):
            def evaluate_by_way(*arguments):
                return evaluate(linear, *arguments)

            return Program(evaluate_by_way, shares_constants=True)

        self._programs = {way: program(replace(linear, way=way)) for way in self._ways}

    def _parameters(self, point):
        unconstrained = self._unravel(point * self._scales)
        return {path: parameter.with_unconstrained(unconstrained[path]) for path, parameter in self.parameters.items()}

    def _values(self, point):
        return {path: parameter.value for path, parameter in self._parameters(point).items()}

    def _array(self, point):
        return jnp.asarray(point, self.start.dtype)

    def __call__(self, point, homogeneity_weight, x):
        """Evaluate the objective at a point.

        Parameters
        ----------
        point : ndarray
        homogeneity_weight : float
            Weight of the mean square of the differences between regional values, relative to their range.
        x : Array
            Start of the search for the fixed point.

        Returns
        -------
        ObjectiveValue
        gradients : dict of str to Array
            Gradients of the expected loss and of the penalties in the physical values, by path.
        slope : ndarray
            Gradient of the objective in the point.
        """
        arguments, way = self._arguments(point, homogeneity_weight, x), self._ways[0]
        return self._result(point, arguments, way, *self._programs[way](*arguments))

    def evaluate_all(self, requests) -> Iterator[tuple]:
        """Results of `__call__` for several requests, in their order, evaluated on all cores.

        Parameters
        ----------
        requests : iterable of tuple
            Arguments of `__call__`: (point, homogeneity_weight, x).
        """
        requests = [(point, self._arguments(point, weight, x)) for point, weight, x in requests]
        if not requests:
            return
        # Compiled here: JAX's settings, such as enable_x64, may be those of this thread alone.
        way = self._ways[0]
        compiled = self._programs[way].compiled(*requests[0][1])
        futures = [self._pool.submit(compiled, *arguments) for _, arguments in requests]
        try:
            for (point, arguments), future in zip(requests, futures, strict=True):
                yield self._result(point, arguments, way, *future.result())
        finally:
            for future in futures:
                future.cancel()

    @cached_property
    def _pool(self):
        return ThreadPoolExecutor(os.cpu_count())

    def _arguments(self, point, homogeneity_weight, x):
        # Arrays: numbers would be converted in the thread of the evaluation, which may have other settings.
        weights = self._array(homogeneity_weight), self._array(self._multistability_weight)
        return self._array(point), self._plain_state, x, *weights

    def _result(self, point, arguments, way, is_inaccurate, result, gradients, slope):
        """Results of `__call__`; by the next ways if this one is inaccurate."""
        self._count(way, is_inaccurate)
        for next_way in [each for each in self._ways if self._order[each] > self._order[way]]:
            if not is_inaccurate:
                break
            is_inaccurate, result, gradients, slope = self._programs[next_way](*arguments)
            self._count(next_way, is_inaccurate)
        value, slope = _objective_value(point, *result), np.where(self._is_fixed, 0.0, np.asarray(slope, float))
        return (value if np.all(np.isfinite(slope)) else replace(value, value=np.inf)), gradients, slope

    def _count(self, way, is_inaccurate):
        """Leave out a way that is inaccurate at most points: the next one may take a hundred times as long."""
        counts = self._counts[way]
        counts += (1, bool(is_inaccurate))
        is_mostly_inaccurate = counts[1] >= _MIN_INACCURATE and 2 * counts[1] >= counts[0]
        if is_mostly_inaccurate and way is self._ways[0] and len(self._ways) > 1:
            self._ways = self._ways[1:]

    @cached_property
    def start_point(self) -> np.ndarray:
        """Point of the start values."""
        return np.asarray(self.start / self._scales, float)

    def accept_other_attractors(self, at_start: ObjectiveValue) -> bool:
        """Stop penalising other attractors if the start values have them already: the simulator is meant to have them.

        Parameters
        ----------
        at_start : ObjectiveValue
            With a stable fixed point.

        Returns
        -------
        bool
            True if the objective has changed.
        """
        if _MULTISTABILITY_WEIGHT * at_start.multistability > _MULTISTABLE:
            self._multistability_weight = 0.0
        return self._multistability_weight == 0.0

    def without_effect(self, value: ObjectiveValue) -> list[str]:
        """Paths of the values on which FC does not depend: each is perturbed alone, and FC stays the same.

        Parameters
        ----------
        value : ObjectiveValue
            With a stable fixed point.
        """
        random, paths = generator(self._seed, Purpose.PERTURBATION), []
        for path, entries in self._entries().items():
            point = np.array(value.point)
            point[entries] += _PERTURBATION * random.normal(size=entries.size)
            perturbed, *_ = self(point, 0.0, value.x)
            tolerance = np.sqrt(np.finfo(self.start.dtype).eps)
            changes = [np.max(np.abs(perturbed.fc - value.fc)), *np.abs(perturbed.terms - value.terms)]
            if perturbed.is_stable and np.max(changes) <= tolerance:
                paths.append(path)
        return paths

    def fix(self, paths: list[str]):
        """Keep the values at some paths at their start.

        Parameters
        ----------
        paths : list of str
        """
        for path, entries in self._entries().items():
            self._is_fixed[entries] = path in paths

    def with_fixed_values(self, point: np.ndarray) -> np.ndarray:
        """Point with the fixed values at their start."""
        return np.where(self._is_fixed, self.start_point, point)

    def _entries(self):
        """Indices of the entries of a point by path."""
        indices = self._unravel(jnp.arange(self.start.size, dtype=self.start.dtype))
        return {path: np.asarray(entries, int).ravel() for path, entries in indices.items()}

    def state_of(self, value: ObjectiveValue) -> State:
        """State with the values of a point, at rest in its fixed point."""
        state = resolve_dependents(with_parameters(self.state, self._parameters(self._array(value.point))))
        return resting_state(self._linear.simulate, state, value.x)

    def latin_hypercube(self, n: int) -> Iterator[np.ndarray]:
        """Points of a Latin hypercube over the values that are equal in all regions; see `latin_hypercube`."""
        for parameters in latin_hypercube(self.parameters, n, self._seed):
            unconstrained = {path: parameter.to_unconstrained() for path, parameter in parameters.items()}
            yield np.asarray(ravel_pytree(unconstrained)[0] / self._scales, float)


def _scored(expected_loss, criterion, penalty, key):
    """Function of free values: objective, scores of `ObjectiveValue`, and whether the response is inaccurate."""

    def of_values(linear, values, plain_state, x, multistability_weight):
        state, x = strip_with_rest(with_values(plain_state, values), x)
        response = linear(state, x)
        multistability = jnp.mean(response.relaxation_residual**4)
        fc = _clipped(response.fc(criterion.monitor))
        loss, distances = criterion.loss(fc, criterion.target), criterion.of_response(response, key)
        value = criterion.total(expected_loss(response, fc), distances)
        value = value + multistability_weight * multistability + penalty(state)
        value = jnp.where(response.is_stable, value, jnp.inf)
        scores = (
            criterion.total(loss, distances),
            fc_corr(fc, criterion.target, missing="ignore"),
            jnp.max(response.nonlinearity),
            multistability,
            jnp.array(list(criterion.terms(loss, distances).values()), fc.dtype),
            response.fixed_point.x,
            fc,
        )
        return value, (scores, response.is_stable & ~response.is_accurate)

    return of_values


def _expected_loss(criterion, length, dtype, seed):
    """Function of a linear response and its FC: expected loss of a recording, with a penalty for its nonlinearity.

    The sampling error of FC is represented by one draw and its opposite, so that no pair of regions is favoured, and
    the gradient along the draw vanishes.
    """
    loss, target, monitor = criterion.loss, criterion.target, criterion.monitor
    draw = np.triu(generator(seed, Purpose.SAMPLING).normal(size=np.shape(target)), 1)
    draw = jnp.asarray(draw + draw.T, dtype)

    def expected_loss(response, fc):
        error = response.z_standard_error(length, monitor) * draw
        recorded = 0.5 * (loss(add_fisher_z(fc, error), target) + loss(add_fisher_z(fc, -error), target))
        return recorded + nonlinearity_penalty(response)

    return expected_loss


def nonlinearity_penalty(response: LinearResponse) -> jax.Array:
    """Penalty of a response whose neglected terms are large: its linearisation is not valid there."""
    return _NONLINEARITY_WEIGHT * jnp.mean((response.nonlinearity / _NONLINEARITY_SCALE) ** 4)


def add_fisher_z(fc, z):
    r"""Correlations with a value added to their Fisher z, so that they stay between -1 and 1.

    Parameters
    ----------
    fc : Array
        Between -1 and 1.
    z : Array
        Added to arctanh(fc).

    Returns
    -------
    Array
        Between -1 and 1.

    Notes
    -----
    .. math:: \tanh(\mathrm{artanh}\, r + z) = \frac{r + \tanh z}{1 + r \tanh z}

    For small z, :math:`r + (1 - r^2) z`: Bartlett's sampling error of a recording's FC.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.fitting.linear.objective import add_fisher_z
    >>> print(add_fisher_z(jnp.array([0.0, 0.5, 0.99]), 0.5).round(3))
    [0.462 0.782 0.996]
    """
    added = jnp.tanh(z)
    return _clipped((fc + added) / (1.0 + fc * added))


def _clipped(fc):
    """Correlations below 1 by rounding, so that their Fisher z is finite."""
    largest = 1.0 - jnp.finfo(fc.dtype).eps
    return jnp.clip(fc, -largest, largest)


def _objective_value(point, value, loss, r, nonlinearity, multistability, terms, *arrays):
    value = float(value) if np.isfinite(value) else np.inf
    scores = (float(score) for score in (loss, r, nonlinearity, multistability))
    return ObjectiveValue(np.array(point), value, *scores, np.asarray(terms, float), *arrays)
