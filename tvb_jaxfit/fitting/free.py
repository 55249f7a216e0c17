"""Marking the free values of a state as parameters."""

import jax
import numpy as np

from ..balance.balanced import Balanced
from ..checks.suggestions import did_you_mean
from ..dependents import dependent_parameters_of, free_parameters_of
from ..dynamics.simulate import Simulate
from ..maps import MapParameter
from ..parameters import Parameter, resolve_dependents
from ..state import State, get_path, with_path


def mark(state: State, free: dict[str, Parameter], paths: dict[str, tuple], labels, simulate: Simulate) -> State:
    """State with the free values marked as parameters.

    Parameters
    ----------
    state : State
        Not modified.
    free : dict of str to Parameter
    paths : dict of str to tuple of tuple of int
        Paths that can be fitted, with the shapes that the simulator accepts there; (1,) for a single number.
    labels : sequence of str
        Of the regions.
    simulate : Simulate
        Of the state.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        Unknown paths, values that are no `Parameter`, bounds that exclude a start value: all in one message. Dependent
        parameters alone, or without values at the start.
    """
    if not free:
        raise ValueError('free: empty; name the parameters to fit, e.g. {"coupling.a": Parameter()}.')
    problems = []
    for path, parameter in free.items():
        if path not in paths:
            near = did_you_mean(str(path), paths, match_last_part=True)
            problems.append(f"{path!r}: no such parameter (there is: {', '.join(paths)}).{near}")
        elif not isinstance(parameter, Parameter):
            problems.append(f"{path!r}: {parameter!r} is no Parameter; give Parameter() or BoundedParameter(...)")
        else:
            try:
                own = get_path(state, path)
                state = with_path(state, path, _with_start_value(parameter, own, paths[path], labels, simulate))
            except ValueError as error:
                problems.append(f"{path!r}: {error}")
    if problems:
        raise ValueError("free: " + "; ".join(problems))
    if not free_parameters_of(state):
        raise ValueError(f"free: {', '.join(free)} follows from the others, and nothing else is free. Name more.")
    state = resolve_dependents(state)
    for path, parameter in dependent_parameters_of(state).items():
        if not np.all(np.isfinite(parameter.value)):
            raise ValueError(f"free: {path!r}: {parameter.formula} has no solution at the start values.")
    return state


def _with_start_value(parameter, own, shapes, labels, simulate):
    """Parameter with its own start value, or else the simulator's; repeated for each region if it is regional."""
    n_node = len(labels)
    if isinstance(parameter, (MapParameter, Balanced)):
        if (n_node,) not in shapes:
            raise ValueError(f"{type(parameter).__name__}: the simulator takes no regional values here")
        new = parameter.match(labels) if isinstance(parameter, MapParameter) else parameter.bind(simulate)
        return new.reshape_like(own, n_node)
    new = parameter.with_value(jax.numpy.asarray(own if parameter.value is None else parameter.value, own.dtype))
    if new.regional:
        new.shape = (n_node,)
    elif new.value.size == 1:
        new.shape = own.shape if own.size == 1 else ()
    found = {new.shape, own.shape}
    if len(found) > 1 and not (found <= {(), (n_node,)} and (new.shape or (1,)) in shapes):
        remark = ", and a global value may be regional" if (n_node,) in shapes else ""
        raise ValueError(f"shape {new.shape}; the simulator's own is {own.shape}{remark}")
    if hasattr(new, "check"):
        new.check()
    return new
