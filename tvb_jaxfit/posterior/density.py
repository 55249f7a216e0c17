"""Density of a posterior, as a function of unconstrained variables."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from ..dependents import strip_free_parameters
from ..linear_response.response import LinearResponse
from ..runtime.processes import PicklableMixin
from ..runtime.programs import Program
from ..runtime.promotion import with_standard_promotion
from ..state import State
from ..uncertainty.expected_response import ExpectedResponse
from .laplace import Point
from .priors import JointPrior
from .validity import Validity


class Data(Protocol):
    """Data of a posterior: `ObservedFC` or `ObservedRecordings`."""

    monitor: int
    n_data: int

    def at(self, response: LinearResponse) -> Self:
        """The same data, with what depends on a response and is kept constant."""

    def nuisance(self, response: LinearResponse) -> dict:
        """Prior and start of each further unknown, by name: {name: (Prior, ndarray)}."""

    def log_likelihood(self, response: LinearResponse, nuisance: dict) -> jax.Array:
        """Logarithm of the likelihood, shape ()."""

    def is_same(self, other) -> bool:
        """True for the same data, however they are modelled."""

    @property
    def arrays(self) -> dict:
        """Fields that compiled functions take as arguments, by name: data that differ in these alone share them."""

    @property
    def structure(self) -> tuple:
        """All else that the likelihood depends on, as a key."""


@dataclass(frozen=True, eq=False)
class PosteriorDensity(PicklableMixin):
    """Density of the free values and of the further unknowns of the data.

    Attributes
    ----------
    expected : ExpectedResponse
    data : Data
    prior : JointPrior
        Of the free values, then of the further unknowns.
    validity : Validity
        Where the linear response is used: a factor of the prior.
    programs : dict
        Compiled functions, which copies with other data (``dataclasses.replace``) share.
    """

    expected: ExpectedResponse
    data: Data = field(repr=False)
    prior: JointPrior
    validity: Validity = Validity()
    programs: dict = field(default_factory=dict, repr=False)

    @property
    def n_free(self) -> int:
        """Number of free values, without the further unknowns."""
        return self.expected.free.vector.size

    def split(self, values):
        """Vector of free values, and further unknowns by name."""
        further = list(self.prior.slices.items())[len(self.expected.free.slices) :]
        return values[: self.n_free], {name: values[of_name] for name, of_name in further}

    @property
    def start(self) -> np.ndarray:
        """Start of the search for the fixed point: that of the state."""
        return np.asarray(self.expected.response.fixed_point.x)

    def evaluate(self, u: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Minus the logarithm of the density, its derivative, and the fixed point, compiled.

        Parameters
        ----------
        u : ndarray, shape (n,)
            Unconstrained variables.
        x : ndarray, shape (n_var, n_node, n_mode)
            Start of the search for the fixed point: of several fixed points, the nearest one counts.
        """
        (value, x), gradient = self._run("gradient", u, x)
        return float(value), np.asarray(gradient, float), np.asarray(x)

    def potential(self, u: np.ndarray, x: np.ndarray) -> float:
        """Minus the logarithm of the density, compiled; arguments as for `evaluate`. NaN without a fixed point."""
        return float(self._run("value", u, x)[0])

    def response(self, u: np.ndarray, x: np.ndarray) -> LinearResponse:
        """Linear response at given variables; arguments as for `evaluate`."""
        return self._run("response", u, x)

    def is_trusted(self, u: np.ndarray, x: np.ndarray) -> bool:
        """True where the linear response is stable and within the default limits; arguments as for `evaluate`."""
        return bool(self._run("is_trusted", u, x))

    def branch(self, point: Point) -> "Branch":
        """Neighbourhood of a point, within which its fixed point is followed."""
        return Branch(self, point, np.asarray(self._run("tangent", point.u, point.x)))

    def values(self, u: np.ndarray) -> np.ndarray:
        """Free values and further unknowns, shape (..., n), of variables of the same shape."""
        flat = jnp.asarray(u, self._dtype).reshape(-1, np.shape(u)[-1])
        return np.asarray(jax.vmap(self.prior.values)(flat), float).reshape(np.shape(u))

    def log_likelihood(self, u: np.ndarray, x: np.ndarray) -> float:
        """Logarithm of the likelihood, compiled; arguments as for `evaluate`. Minus infinity without a fixed point."""
        found = float(self._run("likelihood", u, x))
        return found if np.isfinite(found) else -np.inf

    def _precision(self):
        return self.expected.response.system.simulate.precision(self.expected.state)

    @property
    def _dtype(self):
        return self.expected.response.fixed_point.x.dtype

    @cached_property
    def plain_state(self) -> State:
        """State without free parameters."""
        return strip_free_parameters(self.expected.state)

    @cached_property
    def _arrays(self):
        # Directions of 100 MB for 84 regions: a copy at each call would take four times as long as the rest.
        return jax.tree.map(jnp.asarray, self.data.arrays)

    def _run(self, name, u, x):
        """Results of one of the compiled functions."""
        key = name, self.data.structure
        if key not in self.programs:
            # A copy, so that there is no reference cycle.
            self.programs[key] = Program(replace(self, programs={})._functions()[name], shares_constants=True)
        with self._precision():
            return self.programs[key](jnp.asarray(u, self._dtype), self.plain_state, x, self._arrays)

    def _functions(self):
        """Functions of (variables, plain state, start of the search, arrays of the data), by name."""

        @with_standard_promotion
        def likelihood(*arguments):
            found, response = self._likelihood(*arguments)
            return jnp.where(response.is_stable, found, jnp.nan)

        def fixed_point(*arguments):
            return self.traced(*arguments)[1].ravel()

        @with_standard_promotion
        def is_trusted(*arguments):
            response = self._likelihood(*arguments)[1]
            return response.is_stable & Validity().is_kept(response)

        return {
            "value": self.traced,
            "gradient": jax.value_and_grad(self.traced, has_aux=True),
            "tangent": jax.jacobian(fixed_point),
            "likelihood": likelihood,
            "response": lambda *arguments: self._likelihood(*arguments)[1],
            "is_trusted": is_trusted,
        }

    @with_standard_promotion
    def traced(self, u, plain_state, x, arrays):
        """Potential, shape (); NaN without a stable fixed point. And the fixed point. Inside what JAX transforms."""
        likelihood, response = self._likelihood(u, plain_state, x, arrays)
        total = likelihood + self.prior.log_density(u) + self.validity.log_factor(response)
        return jnp.where(response.is_stable, -total, jnp.nan), response.fixed_point.x

    def _likelihood(self, u, plain_state, x, arrays):
        vector, further = self.split(self.prior.values(u))
        response = self.expected.at(vector, plain_state, x)
        return replace(self.data, **arrays).log_likelihood(response, further), response


@dataclass(frozen=True, eq=False)
class Branch(PicklableMixin):
    """Neighbourhood of a point: of several fixed points, the continuation of the point's own.

    Attributes
    ----------
    density : PosteriorDensity
    point : Point
    tangent : ndarray, shape (n_x, n)
        Derivative of the fixed point by the variables.
    """

    density: PosteriorDensity = field(repr=False)
    point: Point
    tangent: np.ndarray = field(repr=False)

    def start(self, u):
        """Start of the search for the fixed point at given variables."""
        return self.point.x + (self.tangent @ (u - self.point.u)).reshape(self.point.x.shape)

    def value(self, u: np.ndarray) -> float:
        """Compiled `PosteriorDensity.potential` of the variables alone."""
        return self.density.potential(u, self.start(u))

    def potential(self, u: jax.Array) -> jax.Array:
        """`PosteriorDensity.evaluate` as a JAX function of the variables alone."""
        start = jax.lax.stop_gradient(self.start(u))
        density = self.density
        return density.traced(u, density.plain_state, start, density.data.arrays)[0]
