"""Loss and penalty of a fit: checked before anything runs, and without the pairs that have no data."""

import inspect
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..dependents import dependent_parameters_of
from ..parameters import strip_parameters
from ..state import State, get_path


def checked_loss(loss: Callable, target: np.ndarray) -> Callable:
    """Loss of an FC and a target, in which pairs without data have a weight of 0.

    Parameters
    ----------
    loss : callable
        (fc, target) to a scalar. One with an argument ``missing``, as `rmse` has, is called with ``missing="ignore"``
        if the target has NaN; otherwise, one without a default for it is called with ``missing="refuse"``.
    target : ndarray, shape (n_node, n_node)

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        The loss returns no scalar of a floating type; or, with NaN in the target, its value or gradient are NaN.
    """
    gaps = np.isnan(target)
    if _takes_missing(loss, gaps.any()):
        loss = partial(loss, missing="ignore" if gaps.any() else "refuse")
    fc = jnp.asarray(_example(len(target)), jnp.result_type(float))
    refuse_no_scalar("loss", _shape_of("loss", lambda fc: loss(fc, target), fc))
    if gaps.any():
        value, gradient = jax.value_and_grad(loss)(fc, target)
        bad = [name for name, array in (("value", value), ("gradient", gradient)) if not np.isfinite(array).all()]
        if bad:
            raise ValueError(
                f"loss: its {' and its '.join(bad)} are NaN, as the target has NaN for {int(gaps.sum()) // 2} pairs "
                'without data. Let it leave these out, e.g. tj.fc_corr(fc, target, missing="ignore"), or jnp.where '
                "before any arithmetic."
            )
    return loss


def checked_penalty(penalty: Callable, state: State) -> Callable:
    """Penalty of a state; ValueError if it returns no scalar."""
    refuse_no_scalar("penalty", _shape_of("penalty", penalty, strip_parameters(state)))
    return penalty


def with_costs_of_dependents(penalty: Callable, state: State) -> Callable:
    """Penalty with the costs of values that dependent parameters should not have, such as a negative inhibition."""
    costs = {path: parameter.cost for path, parameter in dependent_parameters_of(state).items()}
    if not costs:
        return penalty
    return lambda state: penalty(state) + sum(cost(get_path(state, path)) for path, cost in costs.items())


def refuse_no_scalar(name, out):
    """Raise ValueError if the result of a function is not one real number.

    Parameters
    ----------
    name : str
        Name of the function.
    out : object
        Its result: arrays, tracers or their shapes.
    """
    if isinstance(out, (bool, int, float)):
        return
    if not (hasattr(out, "shape") and hasattr(out, "dtype")):
        raise ValueError(f"{name}: it gives a {type(out).__name__}; let it return a scalar.")
    if out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(
            f"{name}: it gives an array of shape {out.shape} and {out.dtype}; let it return one real number, e.g. "
            "jnp.mean of it."
        )


def _shape_of(name, function, argument):
    """Shape and dtype of the result of a function, which is traced and not run."""
    try:
        return jax.eval_shape(function, argument)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        error.add_note(f"{name}: it has to be a JAX function, with jax.numpy in place of numpy.")
        raise


def _takes_missing(loss, has_gaps):
    """True if a loss is to be called with ``missing``: it has such an argument, and needs it or the target has gaps."""
    try:
        argument = inspect.signature(loss).parameters.get("missing")
    except (TypeError, ValueError):
        return False
    return argument is not None and (has_gaps or argument.default is inspect.Parameter.empty)


def _example(n_node):
    """FC without special values: nearer regions correlate more."""
    index = np.arange(n_node)
    distance = np.abs(index[:, None] - index)
    return np.where(distance == 0, 0.0, 0.8 * np.exp(-distance / n_node) + 0.1 * np.sin(index[:, None] * index))
