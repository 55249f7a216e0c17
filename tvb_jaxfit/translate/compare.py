"""Evaluation of translated functions in double precision, to be compared with TVB's own."""

import re
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np

# Operations beyond which a function is run one by one: to compile it would take longer.
_LONG = 2000
_KEPT = 128
# Each is run a few times on small arrays: what counts is the time to compile.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_ADDRESS = re.compile("0x[0-9a-f]+")
_compiled = OrderedDict()


def in_double(function, *arguments, **named):
    """A translated function's value in double precision, whatever mode the user chose; see `Double`."""
    return Double(function)(*arguments, **named)


class Double:
    """A function of arrays as numpy's, in double precision, traced once for each shape of its arguments.

    Parameters
    ----------
    function : callable
        Of trees of arrays; a tree of arrays comes back as numpy's.

    Notes
    -----
    Functions that trace to the same operations are compiled once.
    """

    def __init__(self, function):
        self._function, self._traced = function, {}

    @property
    def is_long(self):
        """Whether the function, as far as it was traced, is too long to be compiled."""
        return any(len(traced.eqns) > _LONG for traced, _ in self._traced.values())

    def __call__(self, *arguments, **named):
        """Value of the function, a tree of numpy's arrays."""
        with jax.enable_x64(True):
            flat, tree = jax.tree.flatten((arguments, named))
            flat = [jnp.asarray(value) for value in flat]
            key = tree, tuple((value.shape, value.dtype) for value in flat)
            if key not in self._traced:
                arguments, named = jax.tree.unflatten(tree, flat)
                self._traced[key] = jax.make_jaxpr(self._function, return_shape=True)(*arguments, **named)
            traced, shapes = self._traced[key]
            if len(traced.eqns) > _LONG:
                results = jax.core.eval_jaxpr(traced.jaxpr, traced.consts, *flat)
            else:
                results = _run(traced, flat)
            return jax.tree.unflatten(jax.tree.structure(shapes), [np.asarray(value) for value in results])


def _run(traced, flat):
    key = _ADDRESS.sub("", str(traced.jaxpr))
    if key not in _compiled:
        _compiled[key] = jax.jit(
            lambda consts, flat: jax.core.eval_jaxpr(traced.jaxpr, consts, *flat), compiler_options=_QUICKLY
        )
        if len(_compiled) > _KEPT:
            _compiled.popitem(last=False)
    return _compiled[key](traced.consts, flat)


def worst_by_row(ours, theirs, floor=0.0):
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
