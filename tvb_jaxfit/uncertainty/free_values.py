"""Free values of a state as one vector, in physical units, with their names, bounds and priors."""

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..checks.maps import label_text
from ..constraints import MaskedParameter, PositiveParameter
from ..maps import MapParameter
from ..parameters import BoundedParameter
from ..runtime.processes import PicklableMixin

# Standard deviation of a uniform prior, relative to its range.
_UNIFORM = 1.0 / np.sqrt(12.0)
# Range of a value without two bounds, relative to its size: from a quarter of it to four times as much.
_LOW, _HIGH = 0.25, 4.0


@dataclass(frozen=True, eq=False)
class FreeValues(PicklableMixin):
    """Quantities that a fit determines, as a vector: values, or coefficients of maps.

    Attributes
    ----------
    parameters : dict of str to Parameter
        By path.
    labels : list of str
        Of the regions.
    """

    parameters: dict
    labels: list = field(repr=False)

    @cached_property
    def vector(self) -> np.ndarray:
        """Values, shape (n_free,)."""
        return np.concatenate([_estimate(each) for each in self.parameters.values()])

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Entries of the vector by path."""
        ends = np.cumsum([_estimate(each).size for each in self.parameters.values()])
        starts = [0, *ends[:-1]]
        return {path: slice(int(a), int(b)) for path, a, b in zip(self.parameters, starts, ends, strict=True)}

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Names of the entries by path: of regions, of connections, or of coefficients; empty for a single value."""
        return {path: _names(each, self.labels) for path, each in self.parameters.items()}

    @cached_property
    def prior_std(self) -> np.ndarray:
        """Standard deviations of the prior, shape (n_free,).

        Notes
        -----
        The prior is uniform: between the bounds; without two bounds, from a quarter of the mean size of the values to
        four times as much. Slopes of maps are in the range of a sweep of starts: half their scale in both directions.
        """
        return np.concatenate([_prior_std(each) for each in self.parameters.values()])

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, each of shape (n_free,); infinite without."""
        both = [np.tile(_bounds(each), (_estimate(each).size, 1)) for each in self.parameters.values()]
        return tuple(np.concatenate(both).T)

    @cached_property
    def is_on_bound(self) -> np.ndarray:
        """True for values within 1 % of the range from a bound, shape (n_free,)."""
        low, high = self.bounds
        margin = 0.01 * np.where(np.isfinite(high - low), high - low, 0.0)
        return (self.vector <= low + margin) | (self.vector >= high - margin)

    def values(self, vector: jax.Array) -> dict[str, jax.Array]:
        """Values of the parameters by path, as a state holds them."""
        return {path: _value(each, vector[self.slices[path]]) for path, each in self.parameters.items()}

    def name(self, index: int) -> str:
        """Name of an entry of the vector: its path, with the region in brackets."""
        for path, of_path in self.slices.items():
            if of_path.start <= index < of_path.stop:
                entry = self.names[path][index - of_path.start]
                return f"{path}[{entry}]" if entry else path
        raise IndexError(index)

    def by_path(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Entries of a vector by path, shape (n,)."""
        return {path: values[of_path] for path, of_path in self.slices.items()}


def _estimate(parameter):
    value = np.asarray(parameter.estimate, float)
    return value[parameter.mask].ravel() if isinstance(parameter, MaskedParameter) else value.ravel()


def _value(parameter, entries):
    if isinstance(parameter, MapParameter):
        return parameter.with_coefficients(entries).value
    if isinstance(parameter, MaskedParameter):
        free = np.nonzero(np.atleast_1d(parameter.mask))
        return jnp.atleast_1d(parameter.value).at[free].set(entries).reshape(parameter.shape)
    return entries.reshape(parameter.shape)


def _names(parameter, labels):
    labels = [label_text(label) for label in labels]
    if isinstance(parameter, MapParameter):
        return list(parameter.names)
    shape = parameter.shape
    mask = parameter.mask if isinstance(parameter, MaskedParameter) else np.ones(shape, bool)
    if mask.size == 1:
        return [""]
    names = [labels if size == len(labels) else [str(i) for i in range(size)] for size in shape]
    return [", ".join(of[i] for of, i in zip(names, index, strict=True)) for index in np.argwhere(mask)]


def _bounds(parameter):
    low, high = getattr(parameter, "lower_bound", None), getattr(parameter, "upper_bound", None)
    if isinstance(parameter, BoundedParameter):
        return low, high
    return (0.0 if isinstance(parameter, PositiveParameter) else -np.inf), np.inf


def _prior_std(parameter):
    values = _estimate(parameter)
    if isinstance(parameter, MapParameter):
        std = np.full(values.size, parameter.scale * _UNIFORM)
        if parameter.transform == "exp":
            std[0] = np.log(_HIGH / _LOW) * _UNIFORM
        elif parameter.transform == "linear":
            std[0] = (_HIGH - _LOW) * parameter.scale * _UNIFORM
        return std
    low, high = _bounds(parameter)
    if np.isfinite(high - low):
        return np.full(values.size, (high - low) * _UNIFORM)
    size = np.mean(np.abs(values)) or 1.0
    return np.full(values.size, (_HIGH - _LOW) * size * _UNIFORM)
