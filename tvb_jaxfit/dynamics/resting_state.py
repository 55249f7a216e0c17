"""States of a network that has been constant for all time."""

import jax
import jax.numpy as jnp

from ..state import State
from .bold import Bold
from .simulate import Simulate


def resting_state(simulate: Simulate, state: State, x: jax.Array) -> State:
    """State whose history, and whose BOLD monitors' stocks, are those of the constant state ``x``.

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
    monitors = [
        leaves.replace(stock=jnp.broadcast_to(monitor.select(observed), leaves.stock.shape).astype(leaves.stock.dtype))
        if isinstance(monitor, Bold)
        else leaves
        for monitor, leaves in zip(simulate.monitors, state.monitors, strict=True)
    ]
    return state.replace(initial_conditions=jnp.broadcast_to(x, past.shape).astype(past.dtype), monitors=monitors)
