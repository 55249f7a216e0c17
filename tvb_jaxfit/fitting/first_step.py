"""First steps of an optimizer that are far larger than the values that they change: refused before the fit."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..constraints import MaskedParameter, PositiveParameter, ScaledParameter
from ..errors import caller_stacklevel
from ..maps import MapParameter
from ..parameters import BoundedParameter
from ..reporting.parameter_table import free_values
from ..runtime.programs import Program
from .domains import domain_of

# First steps of more than so many times a value's size (or its range) get a warning, or are refused.
_WARNED, _REFUSED = 1.0, 10.0
# Two gradients on which the first step of an optimizer such as Adam does not depend, and the relative difference of the
# steps that counts as none.
_SMALL_GRADIENT, _LARGE_GRADIENT, _TOLERANCE = 1e-6, 1e6, 0.05
# Maximum number of gradients that an optimizer accumulates for one step.
_MAX_ACCUMULATED = 32


class _LineSearch(Exception):
    """The optimizer evaluates the loss by itself, as in a line search."""


def refuse_large_first_step(optimizer, state, parameters, unconstrained):
    """Refuse a first step that is far larger than a value, and warn of one that is larger.

    Parameters
    ----------
    optimizer : optax.GradientTransformationExtraArgs
        Only optimizers whose first step does not depend on the size of the gradient, such as Adam, are examined; the
        step of others is not known yet.
    state : State
        Its origin knows the domains of the parameters.
    parameters : dict of str to Parameter
    unconstrained : dict of str to Array
        Unconstrained start values.

    Raises
    ------
    ValueError
        Parameters that the first step changes by more than ten times their size, or their range if they have one.

    Warns
    -----
    UserWarning
        Parameters that the first step changes by more than their size.
    """
    after = _after_first_step(optimizer, unconstrained)
    if after is None:
        return
    warned, refused = [], []
    for path, parameter in parameters.items():
        step, size, description = _step_and_size(parameter, unconstrained[path], after[path])
        if size > 0.0 and not step <= _WARNED * size:
            message = (
                f"{path}: the first step of the optimizer moves it by {step:.4g}, {step / size:.4g} times {description}"
            )
            domain = domain_of(state, path)
            message += "" if domain is None else f" (its domain is [{domain[0]:g}, {domain[1]:g}])"
            (warned if step <= _REFUSED * size else refused).append(f"{message}. {_remedy(path, parameter)}.")
    if refused:
        raise ValueError(" ".join(refused))
    if warned:
        warnings.warn(" ".join(warned), stacklevel=caller_stacklevel())


def _after_first_step(optimizer, unconstrained):
    """Unconstrained values after the first step; None if it depends on the size of the gradient."""

    def value_fn(unconstrained):
        raise _LineSearch

    @Program
    def updated(slope, state, unconstrained):
        slopes = jax.tree.map(lambda value: jnp.full_like(value, slope), unconstrained)
        value = jnp.zeros((), slope.dtype)
        return optimizer.update(slopes, state, unconstrained, value=value, grad=slopes, value_fn=value_fn)

    def first_update(slope):
        state = optimizer.init(unconstrained)
        # Some optimizers accumulate several gradients for one step.
        for _ in range(_MAX_ACCUMULATED):
            updates, state = updated(jnp.asarray(slope, jnp.result_type(float)), state, unconstrained)
            if any(np.any(np.asarray(update) != 0.0) for update in updates.values()):
                return updates
        return None

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        try:
            small, large = first_update(_SMALL_GRADIENT), first_update(_LARGE_GRADIENT)
        except _LineSearch:
            return None
        if small is None or large is None:
            return None
        is_same = all(np.allclose(small[path], large[path], _TOLERANCE, 0.0) for path in unconstrained)
        return optax.apply_updates(unconstrained, large) if is_same else None


def _step_and_size(parameter, before, after):
    """(step, size that it is compared with, description of that size)."""
    if isinstance(parameter, BoundedParameter) and np.isfinite(parameter.upper_bound - parameter.lower_bound):
        size = parameter.upper_bound - parameter.lower_bound
        step = np.max(np.abs(np.asarray(after) - np.asarray(before)))
        return step, size, f"the range between its bounds, [{parameter.lower_bound:g}, {parameter.upper_bound:g}]"
    start, end = (free_values(parameter.with_unconstrained(each)) for each in (before, after))
    size = np.max(np.abs(start))
    return (
        np.max(np.abs(end - start)),
        size,
        f"its value of {size:.6g}" if start.size == 1 else f"its size of {size:.6g}",
    )


def _remedy(path, parameter):
    if isinstance(parameter, (PositiveParameter, ScaledParameter, MaskedParameter, MapParameter)):
        return "Give a smaller learning rate"
    is_positive = np.all(free_values(parameter) > 0.0)
    kind, word = ("PositiveParameter", "positive") if is_positive else ("ScaledParameter", "scaled")
    regional, of_regions = ("regional=True", ":regional") if parameter.regional else ("", "")
    return (
        f"Give {kind}({regional}), whose steps are parts of the value ({path}{of_regions}:{word} on the command line), "
        "or a smaller learning rate"
    )
