"""Dependent parameters of a state, beside the free ones that an optimiser changes."""

import jax

from .parameters import Parameter, is_parameter, parameters_of, resolve_dependents, with_plain_values
from .state import State


def free_parameters_of(state: State) -> dict[str, Parameter]:
    """Every `Parameter` of a state that an optimiser changes, by path."""
    return {path: parameter for path, parameter in parameters_of(state).items() if not parameter.is_dependent}


def dependent_parameters_of(state: State) -> dict[str, Parameter]:
    """Every `Parameter` of a state that is a function of the other leaves, by path."""
    return {path: parameter for path, parameter in parameters_of(state).items() if parameter.is_dependent}


def strip_free_parameters(state: State) -> State:
    """Copy of a state with the values of free parameters in their places; dependent parameters remain."""
    return with_plain_values(state, lambda node: is_parameter(node) and not node.is_dependent)


def strip_with_rest(state: State, start: jax.Array) -> tuple[State, jax.Array]:
    """Plain state, and its fixed point.

    Parameters
    ----------
    state : State
        Not modified.
    start : Array, shape (n_var, n_node, n_mode)
        Returned if no dependent parameter knows the fixed point: a start of the search.
    """
    state = resolve_dependents(state)
    known = [each.rest for each in dependent_parameters_of(state).values() if each.rest is not None]
    return with_plain_values(state), (known or [start])[-1]
