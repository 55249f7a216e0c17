"""States as computations take them: arrays of real numbers alone."""

import jax
import jax.numpy as jnp

from ..arrays import real_array
from ..parameters import path_name, plain


def real_state(state):
    """State with plain arrays in place of parameters, each of them of real numbers.

    Parameters
    ----------
    state : State
        Not modified.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        Where an array is masked, complex, or not of numbers. All of them are in one message.
    """
    problems = []

    def real(path, leaf):
        if not isinstance(leaf, jax.Array) or jnp.iscomplexobj(leaf):
            try:
                return real_array(leaf, f"State.{path_name(path)}")
            except ValueError as error:
                problems.append(str(error))
        return leaf

    state = jax.tree_util.tree_map_with_path(real, plain(state))
    if problems:
        raise ValueError(" ".join(problems))
    return state
