"""Expected FC of the linear response as a function of the free values, with its derivative."""

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..runtime.programs import Program
from .expected_response import ExpectedResponse

# Number of values whose derivatives are computed together.
_BATCH = 32


@dataclass(frozen=True, eq=False)
class ExpectedFC(ExpectedResponse):
    """Fisher z of the expected FC, of pairs of signals, as a function of the free values.

    Attributes
    ----------
    linear, state, free
        As of `ExpectedResponse`.
    monitor : int
        Index of the monitor.
    pairs : (ndarray of int, ndarray of int), each of shape (n_pair,)
        First and second signal of each pair.
    """

    monitor: int
    pairs: tuple = field(repr=False)

    def z(self, vector: np.ndarray) -> np.ndarray:
        """Fisher z of each pair, shape (n_pair,); NaN without a stable fixed point."""
        return self.evaluate(self._value_program, vector)

    def jacobian(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fisher z, and its derivative by the free values, shape (n_pair, n_free)."""
        return self.evaluate(self._jacobian_program, vector)

    def _z(self, vector, plain_state, x):
        response = self.at(vector, plain_state, x)
        return jnp.where(response.is_stable, fisher_z(response.fc(self.monitor), self.pairs), jnp.nan)

    @cached_property
    def _value_program(self):
        return Program(self._z)

    @cached_property
    def _jacobian_program(self):
        def jacobian(vector, plain_state, x):
            z, derivative = jax.linearize(lambda vector: self._z(vector, plain_state, x), vector)
            return z, jax.lax.map(derivative, jnp.eye(vector.size, dtype=vector.dtype), batch_size=_BATCH).T

        return Program(jacobian)


def fisher_z(fc: jax.Array, pairs: tuple) -> jax.Array:
    """Fisher z, arctanh(r), of pairs of signals; finite also where rounding makes r exceed 1.

    Parameters
    ----------
    fc : Array, shape (n, n)
    pairs : (ndarray of int, ndarray of int), each of shape (n_pair,)

    Returns
    -------
    Array, shape (n_pair,)
    """
    largest = 1.0 - jnp.finfo(fc.dtype).eps
    return jnp.arctanh(jnp.clip(fc[pairs], -largest, largest))
