"""What a fit is free to change: values of a state, marked as parameters."""

import jax

from ..checks.suggestions import did_you_mean
from ..parameters import Parameter
from ..state import get_path, with_path


def mark(state, free, paths, n_node):
    """State with the free values marked as parameters.

    Parameters
    ----------
    state : State
        Not modified.
    free : dict of str to Parameter
    paths : dict of str to tuple of tuple of int
        Paths that can be fitted, and the shapes that the simulator takes there, (1,) for one number.
    n_node : int

    Raises
    ------
    ValueError
        Unknown paths, things that are no `Parameter`, bounds that exclude a start value: all at once.
    """
    if not free:
        raise ValueError('free: empty; name what to fit, e.g. {"coupling.a": Parameter()}.')
    problems = []
    for path, parameter in free.items():
        if path not in paths:
            near = did_you_mean(str(path), paths, match_last_part=True)
            problems.append(f"{path!r}: no such parameter (there is: {', '.join(paths)}).{near}")
        elif not isinstance(parameter, Parameter):
            problems.append(f"{path!r}: {parameter!r} is no Parameter; give Parameter() or BoundedParameter(...)")
        else:
            try:
                state = with_path(state, path, _started(parameter, get_path(state, path), paths[path], n_node))
            except ValueError as error:
                problems.append(f"{path!r}: {error}")
    if problems:
        raise ValueError("free: " + "; ".join(problems))
    return state


def _started(parameter, own, shapes, n_node):
    """Parameter with a start value: its own, or else the simulator's; repeated where it is to be regional."""
    new = parameter.with_value(jax.numpy.asarray(own if parameter.value is None else parameter.value, own.dtype))
    if new.regional:
        new.shape = (n_node,)
    elif new.value.size == 1:
        new.shape = own.shape if own.size == 1 else ()
    both = {new.shape, own.shape}
    if len(both) > 1 and not (both <= {(), (n_node,)} and (new.shape or (1,)) in shapes):
        may = ", and a global value may be regional" if (n_node,) in shapes else ""
        raise ValueError(f"shape {new.shape}; the simulator's own is {own.shape}{may}")
    if hasattr(new, "check"):
        new.check()
    return new
