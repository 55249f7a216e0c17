"""Evaluation of translated functions in double precision, and their error compared with TVB's values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxpr.interpret import interpret

# Number of operations above which another trace takes seconds.
_SLOW_TO_TRACE = 2000


def in_double(function: Callable, *arguments, **named):
    """Value of a translated function in double precision, whatever the user's JAX mode; see `DoublePrecision`."""
    return DoublePrecision(function)(*arguments, **named)


class DoublePrecision:
    """A translated function as a function of numpy arrays in double precision.

    Parameters
    ----------
    function : callable
        Takes and returns trees of arrays. It is traced once for each combination of shapes and dtypes.
    """

    def __init__(self, function: Callable):
        self._function, self._traced = function, {}

    @property
    def is_slow_to_trace(self) -> bool:
        """True if a trace made so far is so long that tracing takes seconds."""
        return any(len(traced.eqns) > _SLOW_TO_TRACE for traced, _ in self._traced.values())

    def __call__(self, *arguments, **named):
        """Value of the function, a tree of numpy arrays."""
        with jax.enable_x64(True):
            flat, tree = jax.tree.flatten((arguments, named))
            flat = [np.asarray(jnp.asarray(value)) for value in flat]
            key = tree, tuple((value.shape, value.dtype) for value in flat)
            if key not in self._traced:
                arguments, named = jax.tree.unflatten(tree, flat)
                self._traced[key] = jax.make_jaxpr(self._function, return_shape=True)(*arguments, **named)
            traced, shapes = self._traced[key]
            results = interpret(traced, flat)
            return jax.tree.unflatten(jax.tree.structure(shapes), results)


def max_row_error(ours: np.ndarray, theirs: np.ndarray, rounding_error: np.ndarray | float = 0.0) -> float:
    """Largest difference relative to the largest value of its row.

    Parameters
    ----------
    ours, theirs : ndarray, shape (n_row, ...)
    rounding_error : ndarray or float, optional
        Rounding error of TVB's own formula, by element. The difference of a row counts if it is more than four times
        the largest rounding error of the row.

    Returns
    -------
    float
        Infinite if shapes differ, or if values differ that are not finite.
    """
    if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return np.inf
    worst = 0.0
    rounding_error = np.broadcast_to(rounding_error, theirs.shape)
    for row in range(theirs.shape[0]):
        finite = np.isfinite(theirs[row])
        same = ours[row] == theirs[row]
        if np.any(~finite & ~same & ~np.isnan(theirs[row])):
            return np.inf
        if not finite.any():
            continue
        difference = np.max(np.abs(ours[row][finite] - theirs[row][finite]))
        if difference > 4.0 * np.nanmax(rounding_error[row][finite]):
            worst = max(worst, difference / (np.max(np.abs(theirs[row][finite])) or 1.0))
    return worst
