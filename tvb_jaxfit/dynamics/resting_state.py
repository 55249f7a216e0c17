"""A network that has always been at rest."""

import jax.numpy as jnp

from .monitors import Bold


def resting_state(simulate, state, x):
    """State that has always been at x: its history, and what Bold monitors keep of it.

    Parameters
    ----------
    simulate : Simulate
    state : State
        Of it; not modified.
    x : Array, shape (n_var, n_node, n_mode)

    Returns
    -------
    State
    """
    past, seen = state.initial_conditions, simulate.observe(x[None])
    monitors = [
        leaves.replace(stock=jnp.broadcast_to(monitor.watch(seen), leaves.stock.shape).astype(leaves.stock.dtype))
        if isinstance(monitor, Bold)
        else leaves
        for monitor, leaves in zip(simulate.monitors, state.monitors, strict=True)
    ]
    return state.replace(initial_conditions=jnp.broadcast_to(x, past.shape).astype(past.dtype), monitors=monitors)
