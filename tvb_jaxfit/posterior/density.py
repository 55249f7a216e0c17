"""Density of a posterior, as a function of unconstrained variables."""

from collections.abc import Callable
from dataclasses import dataclass, field
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
from ..uncertainty.expected_response import ExpectedResponse
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
    """

    expected: ExpectedResponse
    data: Data = field(repr=False)
    prior: JointPrior
    validity: Validity = Validity()

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
        """`potential`, its derivative, and the fixed point, compiled.

        Parameters
        ----------
        u : ndarray, shape (n,)
            Unconstrained variables.
        x : ndarray, shape (n_var, n_node, n_mode)
            Start of the search for the fixed point: of several fixed points, the nearest one counts.
        """
        with self._precision():
            (value, x), gradient = self._program(jnp.asarray(u, self._dtype), self._plain_state, x)
        return float(value), np.asarray(gradient, float), np.asarray(x)

    def response(self, u: np.ndarray, x: np.ndarray) -> LinearResponse:
        """Linear response at given variables; arguments as for `evaluate`."""
        vector, _ = self.split(self.prior.values(jnp.asarray(u, self._dtype)))
        with self._precision():
            return self._response_program(vector, self._plain_state, x)

    def near(self, u: np.ndarray, x: np.ndarray) -> Callable:
        """`potential` as a function of the variables alone, for use inside what JAX transforms.

        Parameters
        ----------
        u, x
            As for `evaluate`: a point, and its fixed point. The search starts from the tangent there.
        """
        origin, x, plain_state = jnp.asarray(u, self._dtype), jnp.asarray(x), self._plain_state

        def fixed_point(u):
            return self._potential(u, plain_state, x)[1].ravel()

        with self._precision():
            tangent = Program(jax.jacobian(fixed_point), shares_constants=True)(origin)

        def potential(u):
            start = x + (tangent @ (u - origin)).reshape(x.shape)
            return self._potential(u, plain_state, jax.lax.stop_gradient(start))[0]

        return potential

    def _precision(self):
        return self.expected.response.system.simulate.precision(self.expected.state)

    @property
    def _dtype(self):
        return self.expected.response.fixed_point.x.dtype

    @cached_property
    def _plain_state(self):
        return strip_free_parameters(self.expected.state)

    @with_standard_promotion
    def _potential(self, u, plain_state, x):
        """Potential, shape (); NaN without a stable fixed point. And the fixed point."""
        vector, further = self.split(self.prior.values(u))
        response = self.expected.at(vector, plain_state, x)
        total = self.data.log_likelihood(response, further) + self.prior.log_density(u)
        total = total + self.validity.log_factor(response)
        return jnp.where(response.is_stable, -total, jnp.nan), response.fixed_point.x

    @cached_property
    def _program(self):
        return Program(jax.value_and_grad(self._potential, has_aux=True), shares_constants=True)

    @cached_property
    def _response_program(self):
        return Program(self.expected.at)
