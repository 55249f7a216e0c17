"""What a fit is judged by: noise that it never saw."""

import jax

from ..parameters import plain


def resample(state, key):
    """State with fresh noise.

    Parameters
    ----------
    state : State
        Of a stochastic simulator; not modified. Parameters become plain.
    key : Array
        A JAX random key.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        Where the simulator draws no noise.
    """
    state = plain(state)
    if "noise" not in state.integrator:
        raise ValueError("resample: the integrator is deterministic; there is no noise to draw.")
    noise = state.integrator.noise
    draws = jax.random.normal(key, noise.draws.shape, noise.draws.dtype)
    return state.replace(integrator=state.integrator.replace(noise=noise.replace(draws=draws)))
