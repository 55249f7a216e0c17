"""Recorder of an expression of states and coupling, such as a firing rate, which no monitor of TVB records."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from ..state import State
from .monitors import Monitor


@dataclass(frozen=True, eq=False)
class ExpressionMonitor(Monitor):
    """Every istep-th step of an expression of states and coupling.

    Attributes
    ----------
    evaluate : callable
        (theta of the model, x, coupling) of one step to an array (n_node, n_mode).
    """

    evaluate: Callable | None = None

    def of_states(self, theta, states: jax.Array, coupling: jax.Array, start: int) -> jax.Array:
        """Expression at the sampling steps, (n_time, 1, n_node, n_mode)."""
        at = self.steps(start, states.shape[0]) - start - 1
        values = jax.lax.map(lambda each: self.evaluate(theta["model"], *each), (states[at], coupling[at]))
        return values[:, None]

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """The values of `of_states`."""
        return observed, {}
