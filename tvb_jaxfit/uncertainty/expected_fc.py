"""Expected FC of the linear response as a function of the free values, with its derivative."""

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
from ..runtime.programs import Program
from ..state import State
from .free_values import FreeValues

# Number of values whose derivatives are computed together.
_BATCH = 32


@dataclass(frozen=True, eq=False)
class ExpectedFC(PicklableMixin):
    """Fisher z of the expected FC, of pairs of signals, as a function of the free values.

    Attributes
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s.
    free : FreeValues
        Of the state.
    monitor : int
        Index of the monitor.
    pairs : (ndarray of int, ndarray of int), each of shape (n_pair,)
        First and second signal of each pair.
    """

    linear: LinearizedSimulator
    state: State = field(repr=False)
    free: FreeValues
    monitor: int
    pairs: tuple = field(repr=False)

    @cached_property
    def response(self) -> LinearResponse:
        """Response at the state, by the first way to compute covariances that is accurate."""
        state, x = strip_with_rest(strip_free_parameters(self.state), self.state.initial_conditions[-1])
        for way in self.linear.ways(state):
            response = replace(self.linear, way=way)(state, x)
            if bool(response.is_accurate) or not bool(response.is_stable):
                break
        return response

    def z(self, vector: np.ndarray) -> np.ndarray:
        """Fisher z of each pair, shape (n_pair,); NaN without a stable fixed point."""
        return self._evaluate(self._value_program, vector)

    def jacobian(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fisher z, and its derivative by the free values, shape (n_pair, n_free)."""
        return self._evaluate(self._jacobian_program, vector)

    def _evaluate(self, program, vector):
        linear, x = self.response.system, self.response.fixed_point.x
        with linear.simulate.precision(self.state):
            found = program(jnp.asarray(vector, x.dtype), strip_free_parameters(self.state), x)
        return jax.tree.map(lambda each: np.asarray(each, float), found)

    def _z(self, vector, plain_state, x):
        state, x = strip_with_rest(with_values(plain_state, self.free.values(vector)), x)
        response = self.response.system(state, x)
        fc = response.fc(self.monitor)[self.pairs]
        largest = 1.0 - jnp.finfo(fc.dtype).eps
        return jnp.where(response.is_stable, jnp.arctanh(jnp.clip(fc, -largest, largest)), jnp.nan)

    @cached_property
    def _value_program(self):
        return Program(self._z)

    @cached_property
    def _jacobian_program(self):
        def jacobian(vector, plain_state, x):
            z, derivative = jax.linearize(lambda vector: self._z(vector, plain_state, x), vector)
            return z, jax.lax.map(derivative, jnp.eye(vector.size, dtype=vector.dtype), batch_size=_BATCH).T

        return Program(jacobian)
