"""Linear response of a simulator as a function of the free values."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..dependents import strip_free_parameters, strip_with_rest
from ..linear_response.response import LinearResponse
from ..linear_response.simulator import LinearizedSimulator
from ..parameters import with_values
from ..runtime.processes import PicklableMixin
from ..state import State
from .free_values import FreeValues


@dataclass(frozen=True, eq=False)
class ExpectedResponse(PicklableMixin):
    """Linear response as a function of the free values.

    Attributes
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    free : FreeValues
        Of the state.
    """

    linear: LinearizedSimulator
    state: State = field(repr=False)
    free: FreeValues

    @cached_property
    def response(self) -> LinearResponse:
        """Response at the state, by the first way to compute covariances that is accurate."""
        state, x = strip_with_rest(strip_free_parameters(self.state), self.state.initial_conditions[-1])
        for way in self.linear.ways(state):
            response = replace(self.linear, way=way)(state, x)
            if bool(response.is_accurate) or not bool(response.is_stable):
                break
        return response

    def at(self, vector: jax.Array, plain_state: State, x: jax.Array) -> LinearResponse:
        """Response at given free values, inside a function that JAX transforms; see `evaluate`.

        Parameters
        ----------
        vector : Array, shape (n_free,)
        plain_state : State
            State without free parameters.
        x : Array, shape (n_var, n_node, n_mode)
            Start of the search for the fixed point.
        """
        return self.response.system(*self.state_at(vector, plain_state, x))

    def state_at(self, vector: jax.Array, plain_state: State, x: jax.Array) -> tuple[State, jax.Array]:
        """State at given free values, and the start of the search from it; arguments as for `at`."""
        return strip_with_rest(with_values(plain_state, self.free.values(vector)), x)

    def evaluate(self, program, vector: np.ndarray, *further):
        """Results of a compiled function of (vector, plain state, start of the search, ...), as ndarrays."""
        linear, x = self.response.system, self.response.fixed_point.x
        with linear.simulate.precision(self.state):
            found = program(jnp.asarray(vector, x.dtype), strip_free_parameters(self.state), x, *further)
        return jax.tree.map(lambda each: np.asarray(each, float), found)
