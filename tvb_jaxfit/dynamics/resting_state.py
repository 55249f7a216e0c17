"""States of a network that has been constant for all time."""

import jax
import jax.numpy as jnp

from ..state import State
from .simulate import Simulate


def resting_state(simulate: Simulate, state: State, x: jax.Array) -> State:
    """State whose history and BOLD monitors are those of the constant state ``x``.

    Parameters
    ----------
    simulate : Simulate
    state : State
        State of ``simulate``; not modified.
    x : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    State
    """
    past, observed = state.initial_conditions, simulate.observe(x[None])
    pairs = zip(simulate.monitors, state.monitors, strict=True)
    monitors = [monitor.at_rest(leaves, observed) for monitor, leaves in pairs]
    return state.replace(initial_conditions=jnp.broadcast_to(x, past.shape).astype(past.dtype), monitors=monitors)
