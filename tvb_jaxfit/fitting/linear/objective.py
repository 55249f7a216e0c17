"""What a linear fit descends: the loss that a recording is expected to have, and costs of what cannot be trusted."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ...dynamics.resting_state import resting_state
from ...loss import fc_corr
from ...parameters import BoundedParameter, Parameter, parameters_of, strip_parameters, with_values
from ...runtime.programs import Program

# Costs of being far from what can be trusted: of the mean fourth power of the nonlinearity in parts of _REACH; of the mean
# fourth power of what is left of the way home, for other fixed points; and (the prior) of the mean square by which
# regional values differ from each other, in parts of their range.
_CURVED, _REACH = 0.01, 0.4
_ASTRAY = 30.0
# Scatter of the entries of a value that is moved to see whether FC depends on it.
_MOVED = 0.1


@dataclass(frozen=True, eq=False)
class Seen:
    """A point of an objective, as it was looked at.

    Attributes
    ----------
    point : ndarray
    value : float
        Of the objective; infinite where there is no stable fixed point.
    loss, r : float
        Of the FC itself.
    nonlinearity : float
        The largest over states, see `LinearResponse.nonlinearity`.
    x : Array
        Fixed point.
    fc : Array
    """

    point: np.ndarray = field(repr=False)
    value: float
    loss: float
    r: float
    nonlinearity: float
    x: jax.Array = field(repr=False)
    fc: jax.Array = field(repr=False)

    @property
    def is_stable(self):
        """Whether there is a stable fixed point."""
        return bool(np.isfinite(self.value))


def free_of_charge(state):
    """The penalty of a fit without one: whatever the values are, they cost nothing."""
    return 0.0


class Objective:
    """Function of the images of the free values, as one vector of comparable entries.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray
    monitor : int
    length : float
        Of the recording whose loss is expected [ms].
    penalty : callable, optional
        State (plain) to a scalar: what values cost, whatever their FC.
    """

    def __init__(self, linear, state, loss, target, monitor, length, penalty=free_of_charge):
        self.penalty = penalty
        self.state, self.parameters, self._linear = state, parameters_of(state), linear
        images = {path: parameter.to_unconstrained() for path, parameter in self.parameters.items()}
        sizes = {path: jnp.full_like(image, size_of(self.parameters[path])) for path, image in images.items()}
        self.start, self._tree = ravel_pytree(images)
        self._sizes = ravel_pytree(sizes)[0]
        self._held = np.zeros(self.start.size, bool)
        self.x = state.initial_conditions[-1]
        self._rest = strip_parameters(state)
        # One draw for all pairs, and its opposite: neither favours a pair, and there is no slope along the draw.
        draw = np.triu(np.random.default_rng(0).normal(size=np.shape(target)), 1)
        draw = jnp.asarray(draw + draw.T, self.start.dtype)

        def expected(response):
            fc, scatter = _within(response.fc(monitor)), response.z_standard_error(length, monitor) * draw
            recorded = 0.5 * (loss(scattered(fc, scatter), target) + loss(scattered(fc, -scatter), target))
            curved = _CURVED * jnp.mean((response.nonlinearity / _REACH) ** 4)
            return recorded + curved + _ASTRAY * jnp.mean(response.relaxation_residual**4)

        def of_values(values, rest, x):
            there = with_values(rest, values)
            response = linear(there, x)
            value = jnp.where(response.is_stable, expected(response) + penalty(there), jnp.inf)
            fc = _within(response.fc(monitor))
            seen = (
                loss(fc, target),
                fc_corr(fc, target, missing="ignore"),
                jnp.max(response.nonlinearity),
                response.fixed_point.x,
                fc,
            )
            return value, seen

        def differing(point):
            """Mean square by which regional values have come to differ."""
            apart = self._tree(point - self.start / self._sizes)
            return sum(jnp.mean((values - jnp.mean(values)) ** 2) for values in apart.values())

        def evaluate(point, rest, x, prior):
            values, pull = jax.vjp(self._values, point)
            (value, seen), gradients = jax.value_and_grad(of_values, has_aux=True)(values, rest, x)
            apart, slope = jax.value_and_grad(differing)(point)
            return (value + prior * apart, *seen), gradients, pull(gradients)[0] + prior * slope

        self._evaluate = Program(evaluate, shares_constants=True)

    def _values(self, point):
        images = self._tree(point * self._sizes)
        return {path: parameter.from_unconstrained(images[path]) for path, parameter in self.parameters.items()}

    def _array(self, point):
        return jnp.asarray(point, self.start.dtype)

    def __call__(self, point, prior, x):
        """What there is at a point, the fixed point being searched from x.

        Returns
        -------
        Seen
        gradients : dict of str to Array
            Of the loss that is expected, and of the nonlinearity, in the values by path.
        slope : ndarray
            Of the objective, in the point.
        """
        seen, gradients, slope = self._evaluate(self._array(point), self._rest, x, prior)
        seen, slope = _seen(point, *seen), np.where(self._held, 0.0, np.asarray(slope, float))
        return (seen if np.all(np.isfinite(slope)) else replace(seen, value=np.inf)), gradients, slope

    @cached_property
    def first(self):
        """The point of the start values."""
        return np.asarray(self.start / self._sizes, float)

    def without_effect(self, seen):
        """Paths of the values on which the FC at a point does not depend: it is the same after each is moved alone.

        Parameters
        ----------
        seen : Seen
            With a stable fixed point.

        Returns
        -------
        list of str
        """
        random, found = np.random.default_rng(0), []
        for path, entries in self._entries().items():
            point = np.array(seen.point)
            point[entries] += _MOVED * random.normal(size=entries.size)
            other, *_ = self(point, 0.0, seen.x)
            if other.is_stable and np.max(np.abs(other.fc - seen.fc)) <= np.sqrt(np.finfo(self.start.dtype).eps):
                found.append(path)
        return found

    def hold(self, paths):
        """Keep the values at some paths at their start, from now on.

        Parameters
        ----------
        paths : list of str
        """
        for path, entries in self._entries().items():
            self._held[entries] = path in paths

    def at_start(self, point):
        """Point with those values at their start that are kept there."""
        return np.where(self._held, self.first, point)

    def _entries(self):
        """Entries of a point by path."""
        places = self._tree(jnp.arange(self.start.size, dtype=self.start.dtype))
        return {path: np.asarray(entries, int).ravel() for path, entries in places.items()}

    def state_of(self, seen):
        """State with the values of a point, which has been at its fixed point for ever."""
        state = with_values(self.state, self._values(self._array(seen.point)))
        return resting_state(self._linear.simulate, state, seen.x)

    def points(self, n, seed=0):
        """Points of a Latin hypercube over the values that are the same in all regions; see `_somewhere`."""
        from scipy.stats import qmc

        wide = [path for path, parameter in self.parameters.items() if _is_uniform(parameter)]
        if not wide:
            return
        for row in qmc.LatinHypercube(len(wide), seed=seed).random(n):
            moved = dict(self.parameters)
            for path, share in zip(wide, row, strict=True):
                moved[path] = _somewhere(moved[path], share)
            images = {path: parameter.to_unconstrained() for path, parameter in moved.items()}
            yield np.asarray(ravel_pytree(images)[0] / self._sizes, float)


def scattered(fc, z):
    r"""Correlations with so much added to their Fisher z, which leaves them between -1 and 1.

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

    For small z, :math:`r + (1 - r^2) z`: Bartlett's scatter of a recording's FC.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.fitting.linear.objective import scattered
    >>> print(scattered(jnp.array([0.0, 0.5, 0.99]), 0.5).round(3))
    [0.462 0.782 0.996]
    """
    added = jnp.tanh(z)
    return _within((fc + added) / (1.0 + fc * added))


def _within(fc):
    """Correlations without the 1 of rounding, of which a loss may take the Fisher z."""
    largest = 1.0 - jnp.finfo(fc.dtype).eps
    return jnp.clip(fc, -largest, largest)


def _seen(point, value, loss, r, nonlinearity, *arrays):
    value = float(value) if np.isfinite(value) else np.inf
    return Seen(np.array(point), value, float(loss), float(r), float(nonlinearity), *arrays)


def size_of(parameter):
    """Scale of an image: the range of the values, or their own size."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        return parameter.upper_bound - parameter.lower_bound
    if type(parameter) is Parameter or isinstance(parameter, BoundedParameter):
        return float(np.mean(np.abs(parameter.value))) or 1.0
    return 1.0


def _is_uniform(parameter):
    value = np.asarray(parameter.value)
    return bool(np.all(value == value.ravel()[0]))


def _somewhere(parameter, share):
    """Parameter at a share of its range; without one, between a quarter and four times its value."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        low, high = parameter.lower_bound, parameter.upper_bound
        return parameter.with_value(jnp.full_like(parameter.value, low + (0.02 + 0.96 * share) * (high - low)))
    return parameter.with_value(parameter.value * 4.0 ** (2.0 * share - 1.0))
