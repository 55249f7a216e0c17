r"""Priors of free values, as densities of unconstrained variables.

A variable u of any size stands for each value :math:`\theta = g(u)`. The density of u has the derivative of g in it:
:math:`p(u) = p(\theta) \, |dg / du|`. Default priors are made from a standard normal variable, so that their p(u) is
:math:`N(0, 1)`, whatever the values are.
"""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from ..maps import MapParameter
from ..runtime.processes import PicklableMixin
from ..uncertainty.free_values import FreeValues

# Largest size of an unconstrained start: one in a thousand of a standard normal variable is larger.
_FARTHEST = 3.0
# Standard deviation of the logarithm of a positive value: from a quarter of its size to four times as much.
_POSITIVE = float(np.log(16.0) / np.sqrt(12.0))
_LOG_2PI = float(np.log(2.0 * np.pi))
# Number of draws of a distribution from which its scale is estimated.
_N_DRAWS = 2000
# Probabilities of a standard normal variable at -1, 0 and 1.
_QUANTILES = (0.15865525, 0.5, 0.84134475)


class Prior(Protocol):
    """Prior of n values, as the density of n unconstrained variables."""

    def values(self, u: jax.Array) -> jax.Array:
        """Values of the variables, shape (n,)."""

    def variables(self, values: np.ndarray) -> np.ndarray:
        """Variables of values, shape (n,); for values on or outside a bound, those of a value inside."""

    def log_density(self, u: jax.Array) -> jax.Array:
        """Logarithm of the density of the variables, shape ()."""


class _FromNormal:
    """Values that are functions of standard normal variables."""

    def log_density(self, u):
        """See `Prior`."""
        return -0.5 * jnp.sum(u**2) - 0.5 * _LOG_2PI * u.size


@dataclass(frozen=True, eq=False)
class UniformPrior(_FromNormal):
    """Uniform between bounds: low + (high - low) Phi(u).

    Attributes
    ----------
    low, high : float
    """

    low: float
    high: float

    def values(self, u):
        """See `Prior`."""
        return self.low + (self.high - self.low) * ndtr(u)

    def variables(self, values):
        """See `Prior`."""
        inside = ndtr(np.array([-_FARTHEST, _FARTHEST]))
        share = np.clip((np.asarray(values) - self.low) / (self.high - self.low), *np.asarray(inside))
        return np.asarray(ndtri(share))

    def __str__(self):
        return f"uniform from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, eq=False)
class NormalPrior(_FromNormal):
    """Normal: mean + std u.

    Attributes
    ----------
    mean, std : ndarray, shape () or (n,)
    """

    mean: np.ndarray
    std: np.ndarray

    def values(self, u):
        """See `Prior`."""
        return self.mean + self.std * u

    def variables(self, values):
        """See `Prior`."""
        return np.clip((np.asarray(values) - self.mean) / self.std, -_FARTHEST, _FARTHEST)

    def __str__(self):
        return f"normal, {_short(self.mean)} ± {_short(self.std)}"


@dataclass(frozen=True, eq=False)
class LogNormalPrior(_FromNormal):
    """Log-normal distance from a bound: bound + median exp(sigma u).

    Attributes
    ----------
    median : ndarray, shape () or (n,)
        Of the distance; negative for values below an upper bound.
    sigma : ndarray, shape () or (n,)
    bound : float
    """

    median: np.ndarray
    sigma: np.ndarray
    bound: float = 0.0

    def values(self, u):
        """See `Prior`."""
        return self.bound + self.median * jnp.exp(self.sigma * u)

    def variables(self, values):
        """See `Prior`."""
        share = np.maximum((np.asarray(values, float) - self.bound) / self.median, np.finfo(float).tiny)
        return np.clip(np.log(share) / self.sigma, -_FARTHEST, _FARTHEST)

    def __str__(self):
        text = f"{_short(np.abs(self.median))} times or over {_short(np.exp(self.sigma))}"
        side = f"from {self.bound:g} {'down' if np.any(self.median < 0.0) else 'up'}, "
        return f"log-normal, {side if self.bound or np.any(self.median < 0.0) else ''}{text}"


@dataclass(frozen=True, eq=False)
class DistributionPrior(PicklableMixin):
    """Any continuous distribution of NumPyro: g(middle + spread u), with NumPyro's bijection g to its support.

    Attributes
    ----------
    distribution : numpyro.distributions.Distribution
        With the shape (n,), batch or event.
    middle, spread : ndarray, shape (n,)
        They make u about as large as a standard normal variable.
    """

    distribution: Any
    middle: np.ndarray = field(repr=False)
    spread: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, distribution) -> "DistributionPrior":
        """Prior of a distribution, with the median and half the range of two thirds of its draws."""
        draws = distribution.sample(jax.random.key(0), (_N_DRAWS,))
        low, middle, high = np.quantile(np.asarray(_bijection_of(distribution).inv(draws), float), _QUANTILES, axis=0)
        return cls(distribution, middle, 0.5 * (high - low))

    def values(self, u):
        """See `Prior`."""
        return _bijection_of(self.distribution)(self._unconstrained(u))

    def variables(self, values):
        """See `Prior`."""
        ends = np.asarray([self.values(jnp.full(self.middle.shape, side)) for side in (-_FARTHEST, _FARTHEST)], float)
        # Values on or outside a bound have none.
        inside = np.clip(values, ends.min(axis=0), ends.max(axis=0))
        unconstrained = np.asarray(_bijection_of(self.distribution).inv(jnp.asarray(inside)), float)
        return np.clip((unconstrained - self.middle) / self.spread, -_FARTHEST, _FARTHEST)

    def log_density(self, u):
        """See `Prior`."""
        unconstrained, bijection = self._unconstrained(u), _bijection_of(self.distribution)
        value = bijection(unconstrained)
        log_derivative = jnp.sum(bijection.log_abs_det_jacobian(unconstrained, value)) + np.sum(np.log(self.spread))
        return jnp.sum(self.distribution.log_prob(value)) + log_derivative

    def _unconstrained(self, u):
        return jnp.asarray(self.middle, u.dtype) + jnp.asarray(self.spread, u.dtype) * u

    def __str__(self):
        distribution = self.distribution
        while type(distribution).__name__ in ("ExpandedDistribution", "Independent"):
            distribution = distribution.base_dist
        return type(distribution).__name__


def _bijection_of(distribution):
    from numpyro.distributions import biject_to

    return biject_to(distribution.support)


@dataclass(frozen=True, eq=False)
class JointPrior(PicklableMixin):
    """Independent priors of the entries of a vector.

    Attributes
    ----------
    parts : dict of str to (Prior, int)
        Prior and number of entries of each path.
    """

    parts: dict = field(repr=False)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Entries by path."""
        sizes = [size for _, size in self.parts.values()]
        ends = np.cumsum(sizes).tolist()
        return {path: slice(end - n, end) for path, n, end in zip(self.parts, sizes, ends, strict=True)}

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(size for _, size in self.parts.values())

    def values(self, u: jax.Array) -> jax.Array:
        """Values of the variables, shape (n,)."""
        parts = [prior.values(u[self.slices[path]]) for path, (prior, _) in self.parts.items()]
        return jnp.concatenate(parts) if parts else u

    def variables(self, values: np.ndarray) -> np.ndarray:
        """Variables of values, shape (n,)."""
        return np.concatenate([prior.variables(values[self.slices[path]]) for path, (prior, _) in self.parts.items()])

    def log_density(self, u: jax.Array) -> jax.Array:
        """Logarithm of the density of the variables, shape ()."""
        return sum(prior.log_density(u[self.slices[path]]) for path, (prior, _) in self.parts.items())


def joint_prior(initial: FreeValues, given: dict[str, Any]) -> JointPrior:
    """Prior of free values: the given distributions, and default ones.

    Parameters
    ----------
    initial : FreeValues
        At the start of the fit, which the data have not influenced.
    given : dict of str to numpyro.distributions.Distribution
        By path.

    Returns
    -------
    JointPrior

    Raises
    ------
    ValueError
        Distributions of paths that are not free, of another shape, or discrete: all in one message.

    Notes
    -----
    Default priors are uniform between two bounds; log-normal, from a quarter of the initial size to four times as much,
    for positive values, and for the distance from a single bound; and normal around the initial value with
    `FreeValues.prior_std` for others. Slopes of maps are normal around 0.
    """
    wrong = [f"{path}: is no free value ({', '.join(initial.slices)})" for path in given if path not in initial.slices]
    parts = {}
    for path, of_path in initial.slices.items():
        size = of_path.stop - of_path.start
        if path in given:
            prior, problem = _given_prior(given[path], size)
            wrong += [f"{path}: {problem}"] if problem else []
            parts[path] = prior, size
        else:
            parts[path] = _default_prior(initial, path), size
    if wrong:
        raise ValueError("posterior: prior: " + "; ".join(wrong) + ". Give numpyro.distributions by path.")
    return JointPrior(parts)


def _default_prior(initial, path):
    parameter, of_path = initial.parameters[path], initial.slices[path]
    values, std = initial.vector[of_path], initial.prior_std[of_path]
    low, high = (bound[of_path][0] for bound in initial.bounds)
    if isinstance(parameter, MapParameter):
        return NormalPrior(np.where(np.arange(values.size) == 0, values, 0.0), std)
    if np.isfinite(high - low):
        return UniformPrior(float(low), float(high))
    if np.isfinite(low) or np.isfinite(high):
        bound, sign = (low, 1.0) if np.isfinite(low) else (high, -1.0)
        distance = np.mean(np.abs(values - bound)) or std[0]
        return LogNormalPrior(np.asarray(sign * distance), np.asarray(_POSITIVE), float(bound))
    return NormalPrior(np.asarray(np.mean(values)), std[:1].reshape(()))


def _given_prior(distribution, size):
    """(prior, None) of a distribution, or (None, problem)."""
    from numpyro.distributions import Distribution

    name = type(distribution).__name__
    if not isinstance(distribution, Distribution):
        return None, f"{name} is no distribution of NumPyro"
    shape = distribution.shape()
    if shape not in ((), (size,)) and (shape != (1,) or distribution.event_shape):
        return None, f"a distribution of shape {shape}, but there are {size} values"
    if distribution.is_discrete:
        return None, f"{name} is discrete"
    try:
        if _bijection_of(distribution).forward_shape((size,)) != (size,):
            return None, f"the values of {name} are not independent variables"
        prior = DistributionPrior.of(distribution if shape == (size,) else distribution.expand((size,)))
    except NotImplementedError as error:
        return None, f"{name} has no draws, or its support no bijection ({error})"
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        # NumPyro warns of values outside the support.
        warnings.simplefilter("ignore")
        ends = [prior.log_density(jnp.full(size, side)) for side in (-_FARTHEST, _FARTHEST)]
    if not np.all(np.isfinite(ends)):
        support = distribution.support
        return None, f"{name} has no density in a part of its support, {support}; an AffineTransform needs its domain"
    return prior, None


def _short(values):
    values = np.asarray(values)
    return f"{values.min():.3g}" if np.ptp(values) == 0.0 else f"{values.min():.3g} .. {values.max():.3g}"
