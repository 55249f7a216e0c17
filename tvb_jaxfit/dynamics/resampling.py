"""Fresh noise for a state."""

import contextlib

import jax
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..parameters import strip_parameters
from ..state import State


def resample(state: State, key: jax.Array) -> State:
    """Return a copy of a state with fresh noise.

    Parameters
    ----------
    state : State
        State of a stochastic simulator; not modified.
    key : Array
        JAX random key.

    Returns
    -------
    State
        Its parameters are plain arrays.

    Raises
    ------
    ValueError
        If the integrator is deterministic.
    """
    check("resample", state=(state, allowed.instance(State)), key=(key, allowed.random_key))
    state = strip_parameters(state)
    if "noise" not in state.integrator:
        raise ValueError("resample: the integrator is deterministic; there is no noise to draw.")
    noise = state.integrator.noise
    is_double = noise.draws.dtype == np.float64 and not jax.config.jax_enable_x64
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        draws = jax.random.normal(key, noise.draws.shape, noise.draws.dtype)
    return state.replace(integrator=state.integrator.replace(noise=noise.replace(draws=draws)))
