"""prepare_linear: a simulator's linear response."""

from ..dynamics.linear_response import Linear
from .simulator import prepare


def prepare_linear(sim):
    """Translate a TVB simulator into its linear response, a pure, differentiable function of its state."""
    simulate, state = prepare(sim)
    return Linear(simulate), state
