"""Regional parameters that follow maps, such as myelin or a gradient: few coefficients for all regions."""

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .checks.arrays import real_array
from .checks.maps import label_text, listed, read_maps, standardised
from .checks.options import check, choice, number, optional, texts
from .checks.suggestions import did_you_mean
from .parameters import Parameter
from .persistence import serialisable
from .runtime.processes import refuse_forked

# Part of the bounds that starts of a sweep leave out at each end.
_MARGIN = 0.02
# Largest slope of a sweep, relative to the scale: a standard deviation of the map changes the value by that part.
_MAX_SLOPE = 0.5


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class MapParameter(Parameter):
    r"""A regional value that follows maps: a function of few coefficients, which are what is fitted.

    Parameters
    ----------
    maps : array_like, shape (n_region, n_map), pandas.DataFrame, or dict
        One column for each map. A table with region labels (the index of a DataFrame; a dict of labelled Series or of
        dicts) is matched to the regions of the simulator by label; other maps are in their order. A dict of arrays
        names the maps.
    transform : {"exp", "linear", "sigmoid"}, optional
        See the notes.
    coefficients : array_like, shape (1 + n_map,), optional
        Start: intercept, then a slope for each map. None: the simulator's own value, with slopes of 0.
    lower_bound, upper_bound : float, optional
        Of "sigmoid", which needs both.
    region_labels : sequence of str, optional
        Labels of the simulator's regions. `fit` knows them; a labelled table that is put into a state needs them.

    Raises
    ------
    ValueError
        Maps that are constant, not finite, or linearly dependent; labels that do not match; another number of
        coefficients; bounds that do not suit the transform. All problems of the maps stand in one message.

    Warns
    -----
    UserWarning
        Maps that were not standardised (mean 0, standard deviation 1 over the regions), and are now.

    Attributes
    ----------
    coefficients : Array, shape (1 + n_map,)
    names : tuple of str
        Of the coefficients: "intercept", and the maps'.
    maps : ndarray, shape (n_region, n_map)
        Standardised, in the order of the regions.
    value : Array, shape (n_region,)
        In physical units.

    Notes
    -----
    With the predictor :math:`\eta = a + \sum_k b_k m_k` of the standardised maps :math:`m_k`,

    - "exp": :math:`w = e^\eta`, which is positive; a standard deviation of a map changes it by the factor :math:`e^b`;
    - "linear": :math:`w = \eta`, without bounds;
    - "sigmoid": :math:`w = l + (u - l) / (1 + e^{-4 (\eta - (l + u) / 2) / (u - l)})`, within bounds, with
      :math:`w \approx \eta` in the middle between them.

    References
    ----------
    Demirtas, M. et al. (2019). Neuron 101(6), 1181-1194.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import MapParameter
    >>> MapParameter({"myelin": np.array([-1.0, -1.0, 1.0, 1.0])}, coefficients=[-1.2, 0.3])
    MapParameter(exp(-1.2 + 0.3 myelin), 0.22313 .. 0.31485 .. 0.40657, shape (4,))
    """

    def __init__(
        self,
        maps: Any,
        transform: str = "exp",
        coefficients: ArrayLike | None = None,
        lower_bound: float | None = None,
        upper_bound: float | None = None,
        region_labels: Sequence[str] | None = None,
    ):
        refuse_forked("MapParameter")
        bounds = {"lower_bound": lower_bound, "upper_bound": upper_bound}
        check(
            "MapParameter",
            transform=(transform, choice("exp", "linear", "sigmoid")),
            region_labels=(region_labels, optional(texts)),
            **{name: (bound, optional(number())) for name, bound in bounds.items()},
        )
        _refuse_bounds(transform, lower_bound, upper_bound)
        values, map_names, labels = read_maps(maps)
        static = transform, lower_bound, upper_bound, _packed(values), ("intercept", *map_names), labels
        self._set_static_fields(True, *static)
        self.coefficients = None
        if coefficients is not None:
            shape = (len(self.names),)
            coefficients = real_array(coefficients, "MapParameter: coefficients", shape=shape, finite=True)
            self.coefficients = jnp.asarray(coefficients, jnp.result_type(float))
        if region_labels is not None:
            self._set_static_fields(*self.match(region_labels).static_fields())
        elif labels is None:
            self._packed_maps = _packed(standardised(values, map_names))

    @property
    def maps(self) -> np.ndarray:
        """Standardised maps in the order of the regions, shape (n_region, n_map)."""
        shape, data = self._packed_maps
        return np.frombuffer(data).reshape(shape)

    @property
    def value(self) -> jax.Array | None:
        """Value of each region in physical units; None without coefficients, or before the regions are known."""
        if self.coefficients is None or self._labels is not None:
            return None
        maps = jnp.asarray(self.maps, self.coefficients.dtype)
        return self._from_predictor(self.coefficients[0] + maps @ self.coefficients[1:])

    @property
    def estimate(self) -> jax.Array | None:
        """Coefficients: the quantities that a fit determines."""
        return self.coefficients

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return (self._packed_maps[0][0],)

    @shape.setter
    def shape(self, shape):
        if tuple(shape) != self.shape:
            raise ValueError(f"MapParameter.shape: the maps are of {self.shape[0]} regions, not {tuple(shape)}.")

    @property
    def formula(self) -> str:
        """The value as a formula of the maps."""
        if self.coefficients is None or isinstance(self.coefficients, jax.core.Tracer):
            predictor = " + ".join(["a", *(f"b_{name} {name}" for name in self.names[1:])])
        else:
            numbers = np.asarray(self.coefficients)
            slopes = zip(numbers[1:], self.names[1:], strict=True)
            terms = [f" {'-' if b < 0.0 else '+'} {abs(b):.4g} {name}" for b, name in slopes]
            predictor = f"{numbers[0]:.4g}{''.join(terms)}"
        bounds = f" in [{self.lower_bound:g}, {self.upper_bound:g}]" if self.transform == "sigmoid" else ""
        return f"{self.transform}({predictor}){bounds}" if self.transform != "linear" else predictor

    def match(self, region_labels: Sequence[str]) -> Self:
        """Copy with the maps in the order of the regions of a simulator.

        Parameters
        ----------
        region_labels : sequence of str

        Raises
        ------
        ValueError
            Regions that the maps lack, labels that occur several times, or another number of regions.
        """
        wanted, new = [label_text(label) for label in region_labels], self.with_coefficients(self.coefficients)
        if self._labels is None:
            if len(wanted) != self.shape[0]:
                raise ValueError(
                    f"MapParameter: maps of {self.shape[0]} regions for {len(wanted)} regions of the simulator."
                )
            return new
        own = list(self._labels)
        missing = [label for label in wanted if label not in own]
        repeated = sorted({label for label in own if own.count(label) > 1} & set(wanted))
        problems = [f"no values for {listed(missing)}{did_you_mean(missing[0], own)}"] if missing else []
        problems += [f"several values for {listed(repeated)}"] if repeated else []
        if problems:
            raise ValueError(f"MapParameter: maps with {'; '.join(problems)}. Give one row for each region.")
        values = self.maps[[own.index(label) for label in wanted]]
        new._packed_maps, new._labels = _packed(standardised(values, self.names[1:], wanted)), None
        return new

    def reshape_like(self, former: Any, n_node: int | None = None) -> "MapParameter":
        """Parameter as it replaces a value of a state; without coefficients, it starts from that value.

        Parameters
        ----------
        former : Array or Parameter
        n_node : int, optional
            Number of regions, if the state knows it.

        Raises
        ------
        ValueError
            Maps of another number of regions, or whose regions are not known; a start value that the transform does
            not reach; in place of a value that cannot be regional.
        """
        former = former.value if isinstance(former, Parameter) else former
        if self._labels is not None:
            raise ValueError(
                "MapParameter: maps with region labels, and this state does not know its regions' labels. Give "
                "region_labels=sim.connectivity.region_labels."
            )
        n_region = self.shape[0]
        if jnp.shape(former) not in ((), (1,), (n_region,)) or n_node not in (None, n_region):
            raise ValueError(
                f"MapParameter: maps of {n_region} regions in place of a value of shape {jnp.shape(former)}"
                f"{'' if n_node is None else f' in a state of {n_node} regions'}. Give one row for each region."
            )
        if self.coefficients is not None or not hasattr(former, "dtype"):
            return self
        intercept = self._to_predictor(float(np.mean(former)))
        return self.with_coefficients(jnp.zeros(len(self.names), former.dtype).at[0].set(intercept))

    def check(self) -> None:
        """Raise ValueError if a coefficient is not finite, or there are none."""
        real_array(self.coefficients, "MapParameter: coefficients", shape=(len(self.names),), finite=True)

    def to_unconstrained(self) -> jax.Array:
        """Coefficients, which an optimiser changes."""
        return self.coefficients

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Value in physical units of other coefficients."""
        return self.with_coefficients(unconstrained).value

    def with_unconstrained(self, unconstrained: jax.Array) -> Self:
        """Copy with other coefficients."""
        return self.with_coefficients(unconstrained)

    def regional_changes(self, changes: jax.Array) -> jax.Array:
        """Changes of the predictor in each region that follow from changes of the coefficients."""
        return changes[0] + jnp.asarray(self.maps, changes.dtype) @ changes[1:]

    def with_coefficients(self, coefficients: jax.Array | None) -> Self:
        """Copy with the same maps and other coefficients."""
        return self.tree_unflatten(self.static_fields(), (coefficients,))

    def with_value(self, value: jax.Array) -> Self:
        """Not available: a value follows from the coefficients.

        Raises
        ------
        ValueError
        """
        raise ValueError("MapParameter: its value follows from its coefficients; use with_coefficients.")

    @property
    def scale(self) -> float:
        """Scale of the coefficients: a change that matters."""
        if self.transform == "exp":
            return 1.0
        if self.transform == "sigmoid":
            return self.upper_bound - self.lower_bound
        return float(np.abs(self.coefficients[0])) or 1.0

    def at_fractions(self, fractions: np.ndarray) -> Self:
        """Copy with coefficients at fractions of their ranges, as a sweep of starts tries them.

        Parameters
        ----------
        fractions : ndarray, shape (1 + n_map,)
            Between 0 and 1: of the range between the bounds, or of a quarter to four times the value; of slopes up to
            half the scale in both directions.
        """
        centred, start = 2.0 * np.asarray(fractions) - 1.0, np.asarray(self.coefficients)
        coefficients = start + centred * _MAX_SLOPE * self.scale
        if self.transform == "exp":
            coefficients[0] = start[0] + np.log(4.0) * centred[0]
        elif self.transform == "linear":
            coefficients[0] = start[0] * 4.0 ** centred[0]
        else:
            inside = _MARGIN + (1.0 - 2.0 * _MARGIN) * fractions[0]
            coefficients[0] = self._to_predictor(self.lower_bound + inside * self.scale)
        return self.with_coefficients(jnp.asarray(coefficients, self.coefficients.dtype))

    def _from_predictor(self, predictor):
        if self.transform == "exp":
            return jnp.exp(predictor)
        if self.transform == "linear":
            return predictor
        low, high = self.lower_bound, self.upper_bound
        return low + (high - low) * jax.nn.sigmoid(4.0 / (high - low) * (predictor - 0.5 * (low + high)))

    def _to_predictor(self, value):
        if self.transform == "linear":
            return value
        low, high = (0.0, np.inf) if self.transform == "exp" else (self.lower_bound, self.upper_bound)
        if not low < value < high:
            raise ValueError(
                f"MapParameter: a start value of {value:g}, which {self.transform!r} does not reach (it lies between "
                f"{low:g} and {high:g}). Give coefficients, or another transform or bounds."
            )
        if self.transform == "exp":
            return np.log(value)
        return 0.5 * (low + high) + (high - low) / 4.0 * np.log((value - low) / (high - value))

    def static_fields(self) -> tuple:
        """Fields beside the coefficients: transform, bounds, maps, names."""
        bounds = self.lower_bound, self.upper_bound
        return (self.regional, self.transform, *bounds, self._packed_maps, self.names, self._labels)

    def _set_static_fields(self, regional, transform, lower_bound, upper_bound, packed_maps, names, labels):
        self.regional, self.transform = regional, transform
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        self._packed_maps, self.names, self._labels = packed_maps, names, labels

    def tree_flatten_with_keys(self):
        """Coefficients with their key, and the static fields, for JAX."""
        return [(jax.tree_util.GetAttrKey("coefficients"), self.coefficients)], self.static_fields()

    @classmethod
    def tree_unflatten(cls, static_fields, children):
        """Parameter from the static fields and the coefficients, for JAX."""
        new = object.__new__(cls)
        (new.coefficients,) = children
        new._set_static_fields(*static_fields)
        return new

    def _description(self):
        values = f", {super()._description()}" if isinstance(self.value, jax.Array) else ""
        return f"{self.formula}{values}"


def _refuse_bounds(transform, lower_bound, upper_bound):
    found = f"MapParameter: transform {transform!r} with bounds [{lower_bound}, {upper_bound}]"
    if transform != "sigmoid" and (lower_bound, upper_bound) != (None, None):
        raise ValueError(f'{found}; it has none. Leave them out, or give transform="sigmoid".')
    if transform == "sigmoid" and (None in (lower_bound, upper_bound) or not lower_bound < upper_bound):
        raise ValueError(f"{found}; give lower_bound < upper_bound.")


def _packed(values):
    """(shape, bytes) of the maps: hashable, so that they can be part of a tree's structure."""
    return values.shape, np.ascontiguousarray(values, float).tobytes()
