"""First steps that are far larger than the values that they move: refused, since nothing good comes of them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..constraints import MaskedParameter, PositiveParameter, ScaledParameter
from ..errors import caller_stacklevel
from ..parameters import BoundedParameter
from ..reporting.parameter_table import free_values
from ..runtime.programs import Program
from .domains import domain_of

# First steps of more than so many times a value's size (or its range) get a warning, or a refusal.
_WARNED, _REFUSED = 1.0, 10.0
# Slopes on which the first step of an optimiser such as Adam does not depend, and by how much it may differ.
_FLAT, _STEEP, _SAME = 1e-6, 1e6, 0.05
# Evaluations of which one makes a step, at most.
_WAITED = 32


class _Asked(Exception):
    """An optimiser evaluates the loss by itself, as a line search does."""


def refuse_leaps(optimizer, state, parameters, images):
    """Refuse a first step that is far larger than what it moves, and warn of one that is larger.

    Parameters
    ----------
    optimizer : optax.GradientTransformationExtraArgs
        Of those whose first step is the same whatever the slopes are, as Adam's is; of others, no step is known yet.
    state : State
        Whose origin knows domains.
    parameters : dict of str to Parameter
    images : dict of str to Array
        Of the start values.

    Raises
    ------
    ValueError
        With each parameter that is moved by more than ten times its size, or its range where it has one.

    Warns
    -----
    UserWarning
        Of each that is moved by more than its size.
    """
    moved = _first_step(optimizer, images)
    if moved is None:
        return
    warned, refused = [], []
    for path, parameter in parameters.items():
        step, size, what = _compared(parameter, images[path], moved[path])
        if size > 0.0 and not step <= _WARNED * size:
            message = f"{path}: the first step of the optimizer moves it by {step:.4g}, {step / size:.4g} times {what}"
            domain = domain_of(state, path)
            message += "" if domain is None else f" (its domain is [{domain[0]:g}, {domain[1]:g}])"
            (warned if step <= _REFUSED * size else refused).append(f"{message}. {_remedy(path, parameter)}.")
    if refused:
        raise ValueError(" ".join(refused))
    if warned:
        warnings.warn(" ".join(warned), stacklevel=caller_stacklevel())


def _first_step(optimizer, images):
    """Images after the first step, of an optimiser that takes the same one whatever the slopes are; None of others."""

    def value_fn(images):
        raise _Asked

    @Program
    def updated(slope, state, images):
        slopes = jax.tree.map(lambda image: jnp.full_like(image, slope), images)
        value = jnp.zeros((), slope.dtype)
        return optimizer.update(slopes, state, images, value=value, grad=slopes, value_fn=value_fn)

    def first(slope):
        state = optimizer.init(images)
        # Gradients of several evaluations may make one step.
        for _ in range(_WAITED):
            updates, state = updated(jnp.asarray(slope, jnp.result_type(float)), state, images)
            if any(np.any(np.asarray(update) != 0.0) for update in updates.values()):
                return updates
        return None

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        try:
            flat, steep = first(_FLAT), first(_STEEP)
        except _Asked:
            return None
        if flat is None or steep is None:
            return None
        alike = all(np.allclose(flat[path], steep[path], _SAME, 0.0) for path in images)
        return optax.apply_updates(images, steep) if alike else None


def _compared(parameter, before, after):
    """(step, size that it is held against, that size in words)."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        size = parameter.upper_bound - parameter.lower_bound
        step = np.max(np.abs(np.asarray(after) - np.asarray(before)))
        return step, size, f"the range between its bounds, [{parameter.lower_bound:g}, {parameter.upper_bound:g}]"
    start, end = (free_values(parameter.with_value(parameter.from_unconstrained(one))) for one in (before, after))
    size = np.max(np.abs(start))
    return (
        np.max(np.abs(end - start)),
        size,
        f"its value of {size:.6g}" if start.size == 1 else f"its size of {size:.6g}",
    )


def _remedy(path, parameter):
    if isinstance(parameter, (PositiveParameter, ScaledParameter, MaskedParameter)):
        return "Give a smaller learning rate"
    is_positive = np.all(free_values(parameter) > 0.0)
    kind, word = ("PositiveParameter", "positive") if is_positive else ("ScaledParameter", "scaled")
    regional, of_regions = ("regional=True", ":regional") if parameter.regional else ("", "")
    return (
        f"Give {kind}({regional}), whose steps are parts of the value ({path}{of_regions}:{word} on the command line), "
        "or a smaller learning rate"
    )
