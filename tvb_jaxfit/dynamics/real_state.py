"""Checks of a state before a computation: real arrays, and the precision in which it was prepared."""

import jax
import jax.numpy as jnp
import numpy as np

from ..checks.arrays import real_array
from ..parameters import path_name, strip_parameters
from ..state import State


def real_state(state: State) -> State:
    """State with values in place of `Parameter` objects, and with real arrays only.

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
        If arrays are masked, complex, or not numeric. One message names all of them.
    """
    problems = []

    def real(path, leaf):
        if not isinstance(leaf, jax.Array) or jnp.iscomplexobj(leaf):
            try:
                return real_array(leaf, f"State.{path_name(path)}")
            except ValueError as error:
                problems.append(str(error))
        return leaf

    state = jax.tree_util.tree_map_with_path(real, strip_parameters(state))
    if problems:
        raise ValueError(" ".join(problems))
    return state


def refuse_lost_precision(state: State, owner: str) -> None:
    """Refuse a state in double precision while 64-bit mode is off: JAX would round it.

    Parameters
    ----------
    state : State
    owner : str
        First word of the message: the function that was called.

    Raises
    ------
    RuntimeError
    """
    if jax.config.jax_enable_x64:
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and leaf.dtype == np.float64:
            raise RuntimeError(
                f"{owner}: State.{path_name(path)} was prepared in double precision, and 64-bit mode was switched off "
                "since. Call prepare(sim) again, or switch it on again: "
                'jax.config.update("jax_enable_x64", True).'
            )
