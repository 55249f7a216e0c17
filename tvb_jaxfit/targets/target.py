"""Base class of the targets: an observable of a simulation, its value in the data, and their distance."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check, short_repr


@dataclass(frozen=True, eq=False, repr=False)
class Target:
    """Observable of a simulation, and its value in the data.

    Attributes
    ----------
    value : array_like
        In the data.
    weight : float
        Factor of the distance in the loss.
    distance : callable or None
        (simulated, value) to a scalar.
    """

    value: ArrayLike
    _: KW_ONLY
    weight: float = 1.0
    distance: Callable | None = None

    # True if a linear response has the value of the observable; else it is computed from samples that are drawn.
    is_stationary: ClassVar[bool] = False
    # True if the observable of a simulation is computed from its states, by a recorder, and not from the signals.
    observes_states: ClassVar[bool] = False

    # Names of the further measures of `scores`.
    measures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        owner = type(self).__name__
        check(owner, weight=(self.weight, allowed.number(minimum=0.0)), **self._rules())
        object.__setattr__(self, "weight", float(self.weight))
        object.__setattr__(self, "value", self._read(self.value))

    def _rules(self):
        """Options and their rules, by name."""
        return {"distance": (self.distance, allowed.optional(allowed.function))}

    def _read(self, value):
        """Value as a NumPy array of finite numbers."""
        owner = f"{type(self).__name__}: value"
        _refuse_labels(owner, value)
        array = np.asarray(real_array(value, owner, finite=True), float)
        if not array.size:
            raise ValueError(f"{owner}: no values; give those of the data.")
        return array

    def bound(self, sim) -> "Target":
        """The target for a configured TVB simulator, which is not modified."""
        return self

    def problems(self, n_node: int, period: float, n_time: int) -> list[str]:
        """Reasons why the target does not fit a simulation.

        Parameters
        ----------
        n_node : int
        period : float
            Of the samples [ms].
        n_time : int
            Number of samples that observables are computed from.
        """
        return []

    def n_samples(self, n_time: int) -> int:
        """Number of samples to be drawn from a linear response, for a simulation of a number of samples."""
        return n_time

    def of_signal(self, signals: jax.Array, period: float) -> jax.Array:
        """Observable of samples.

        Parameters
        ----------
        signals : Array, shape (n_time, n_node)
        period : float
            [ms]
        """
        raise NotImplementedError

    def recorder(self, simulate):
        """Monitor that records what the observable is computed from; only where ``observes_states``."""
        raise NotImplementedError

    def of_record(self, samples: jax.Array) -> jax.Array:
        """Observable of the samples of the `recorder`; only where ``observes_states``."""
        raise NotImplementedError

    def of_response(self, response, monitor: int) -> jax.Array:
        """Observable that is expected of a `LinearResponse`; only where ``is_stationary``."""
        raise NotImplementedError

    def distance_of(self, simulated: jax.Array) -> jax.Array:
        """Distance of an observable from its value in the data."""
        # A NumPy array, whose values are known: XLA would sort constants while it compiles, for minutes.
        value = np.asarray(self.value, simulated.dtype)
        distance = self._default_distance if self.distance is None else self.distance
        return jnp.asarray(distance(simulated, value), simulated.dtype)

    def scores(self, simulated: jax.Array) -> dict[str, float]:
        """Further measures of the agreement, by name: for an evaluation, not for gradients."""
        return {}

    def _default_distance(self, simulated, value):
        return root_mean_square(simulated - value)

    def __repr__(self):
        shown = {"weight": self.weight != 1.0, "distance": self.distance is not None}
        names = [
            name
            for name in vars(self)
            if name[0] != "_" and name != "value" and shown.get(name, self._is_changed(name))
        ]
        options = [f"{name}={short_repr(getattr(self, name))}" for name in names]
        shape = "x".join(map(str, np.shape(self.value)))
        return f"{type(self).__name__}({', '.join([f'{shape} values' if shape else f'{self.value:g}', *options])})"

    def _is_changed(self, name):
        default, value = type(self).__dataclass_fields__[name].default, getattr(self, name)
        return value is not default and value != default


def root_mean_square(values: jax.Array) -> jax.Array:
    """Root of the mean square; its derivative at zero is 0, as at a minimum."""
    mean_square = jnp.mean(jnp.square(values))
    is_zero = mean_square == 0.0
    return jnp.where(is_zero, mean_square, jnp.sqrt(jnp.where(is_zero, jnp.ones_like(mean_square), mean_square)))


def _refuse_labels(owner, value):
    """Refuse a labelled table or series: its labels would be lost."""
    for name in ("index", "columns"):
        labels = getattr(value, name, None)
        if callable(labels) or labels is None:
            continue
        if [str(label) for label in labels] != [str(place) for place in range(len(labels))]:
            raise ValueError(
                f"{owner}: a {type(value).__name__} with labels, which would be lost. Put it into the order of "
                "connectivity.region_labels, and give its values: .to_numpy()."
            )
