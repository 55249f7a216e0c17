"""The loss and the penalty of a fit: checked before anything runs, and without the pairs that have no data."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..parameters import strip_parameters


def checked_loss(loss, target):
    """Loss of an FC and a target, where pairs without data count nothing.

    Parameters
    ----------
    loss : callable
        (fc, target) to a scalar. One with an argument ``missing``, as `rmse` has, is called with ``missing="ignore"``
        where the target has NaN, and one that has no default for it with ``missing="refuse"`` elsewhere.
    target : ndarray, shape (n_node, n_node)

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        Where it gives no scalar of a floating type; or, with NaN in the target, NaN or a gradient of NaN.
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


def checked_penalty(penalty, state):
    """Penalty of a state, once it is clear that it gives a scalar; ValueError otherwise."""
    refuse_no_scalar("penalty", _shape_of("penalty", penalty, strip_parameters(state)))
    return penalty


def refuse_no_scalar(name, out):
    """Raise ValueError where what a function gives is not one real number.

    Parameters
    ----------
    name : str
        Of the function.
    out : object
        What it gives: arrays, tracers or their shapes.
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
    """What a function would give, without running it."""
    try:
        return jax.eval_shape(function, argument)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        error.add_note(f"{name}: it has to be a JAX function, with jax.numpy in place of numpy.")
        raise


def _takes_missing(loss, has_gaps):
    """Whether a loss has an argument ``missing``: any, where there are gaps, or else one without a default."""
    try:
        argument = inspect.signature(loss).parameters.get("missing")
    except (TypeError, ValueError):
        return False
    return argument is not None and (has_gaps or argument.default is inspect.Parameter.empty)


def _example(n_node):
    """An FC of no special values: nearer regions correlate more."""
    index = np.arange(n_node)
    distance = np.abs(index[:, None] - index)
    return np.where(distance == 0, 0.0, 0.8 * np.exp(-distance / n_node) + 0.1 * np.sin(index[:, None] * index))
