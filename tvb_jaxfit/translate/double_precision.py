"""Evaluation of translated functions in double precision, to be compared with TVB's own."""

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxpr.interpret import interpret

# Operations beyond which tracing once more takes seconds.
_LONG = 2000


def in_double(function, *arguments, **named):
    """A translated function's value in double precision, whatever mode the user chose; see `DoublePrecision`."""
    return DoublePrecision(function)(*arguments, **named)


class DoublePrecision:
    """A function of arrays as numpy's, in double precision, traced once for each shape of its arguments.

    Parameters
    ----------
    function : callable
        Of trees of arrays; a tree of arrays comes back as numpy's.
    """

    def __init__(self, function):
        self._function, self._traced = function, {}

    @property
    def is_long(self):
        """Whether the function, as far as it was traced, takes seconds to trace."""
        return any(len(traced.eqns) > _LONG for traced, _ in self._traced.values())

    def __call__(self, *arguments, **named):
        """Value of the function, a tree of numpy's arrays."""
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


def max_row_error(ours, theirs, floor=0.0):
    """Largest difference, relative to the largest value of its row; infinite where one is NaN and the other is not.

    Parameters
    ----------
    ours, theirs : ndarray, shape (n_row, ...)
    floor : ndarray or float
        Rounding of TVB's own formula; a difference of less than four times that is none.
    """
    if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return np.inf
    worst = 0.0
    floor = np.broadcast_to(floor, theirs.shape)
    for row in range(theirs.shape[0]):
        finite = np.isfinite(theirs[row])
        same = ours[row] == theirs[row]
        if np.any(~finite & ~same & ~np.isnan(theirs[row])):
            return np.inf
        if not finite.any():
            continue
        difference = np.max(np.abs(ours[row][finite] - theirs[row][finite]))
        if difference > 4.0 * np.nanmax(floor[row][finite]):
            worst = max(worst, difference / (np.max(np.abs(theirs[row][finite])) or 1.0))
    return worst
