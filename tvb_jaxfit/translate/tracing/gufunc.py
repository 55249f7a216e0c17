"""numba's ufuncs and gufuncs: their Python source, followed one region at a time."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from .branches import MOST_PATHS, TooManyBranches, on_every_path
from .mutable_array import MutableArray, boxed, is_traced, plain


class NoSource(NotImplementedError):
    """A compiled function has no Python source to follow."""


def is_compiled(value):
    """Whether something is a function made by numba's guvectorize or vectorize."""
    return hasattr(value, "gufunc_builder") or (hasattr(value, "_dispatcher") and isinstance(value, _ufuncs()))


def _ufuncs():
    from numba.np.ufunc.dufunc import DUFunc

    return DUFunc


def counterpart(value, follow):
    """Function of boxes that does what a compiled one does.

    Parameters
    ----------
    value : numba GUFunc or DUFunc
    follow : callable
        Python function to its counterpart on boxes.
    """
    if not hasattr(value, "gufunc_builder"):
        source, name = value._dispatcher.py_func, value.__name__
        n_in = source.__code__.co_argcount
        return _Elementwise(value, follow, source, name, [()] * n_in, [()], [False] * n_in)
    builder = value.gufunc_builder
    source = getattr(builder, "py_func", None)
    if source is None:
        raise NoSource(f"{value} is compiled without its Python source; write the model's dfun in numpy")
    inputs, outputs = (_dimensions(part) for part in builder.signature.replace(" ", "").split("->"))
    # A single value that is declared as float64[:] comes as an array of one, else as a number.
    declared = builder._sigs[0].args[: len(inputs)] if builder._sigs else [None] * len(inputs)
    arrays = [getattr(kind, "ndim", 0) > 0 for kind in declared]
    return _Elementwise(value, follow, source, source.__name__, inputs, outputs, arrays, writes=True)


def _dimensions(part):
    """Core dimensions of each argument: "(n),()" to [("n",), ()]."""
    return [tuple(name for name in one.split(",") if name) for one in re.findall(r"\(([^)]*)\)", part)]


class _Elementwise:
    """A function of core arrays, broadcast over the other axes as numpy does it."""

    def __init__(self, compiled, follow, source, name, inputs, outputs, arrays, writes=False):
        self._compiled, self._follow, self._source, self.__name__ = compiled, follow, source, name
        self._inputs, self._outputs, self._arrays, self._writes = inputs, outputs, arrays, writes

    def __call__(self, *args, out=None):
        values, outputs = [plain(value) for value in args[: len(self._inputs)]], args[len(self._inputs) :]
        outputs = outputs or (out if isinstance(out, tuple) else () if out is None else (out,))
        if not is_traced(values):
            results = self._compiled(*values, *(np.array(plain(output)) for output in outputs))
        else:
            results = self._by_region([jnp.asarray(value, jnp.result_type(float)) for value in values])
        results = results if isinstance(results, tuple) else (results,)
        for output, result in zip(outputs, results, strict=False):
            output.write(result)
        return boxed(results if len(results) > 1 else results[0])

    def _by_region(self, values):
        sizes, loops = self._split(values)
        loop = np.broadcast_shapes(*loops)
        flat, axes = [], []
        for value, own in zip(values, loops, strict=True):
            # What is the same for all regions is not repeated.
            axes.append(0 if np.prod(own, dtype=int) > 1 else None)
            core = value.shape[len(own) :]
            whole = value if axes[-1] is None else jnp.broadcast_to(value, (*loop, *core))
            flat.append(whole.reshape(core if axes[-1] is None else (-1, *core)))
        n_loop = int(np.prod(loop, dtype=int))
        many = jax.vmap(lambda *values: self._one(sizes, *values), axes, axis_size=n_loop)(*flat)
        return tuple(result.reshape(*loop, *result.shape[1:]) for result in many)

    def _split(self, values):
        """Size of each core dimension, and the other axes of each argument."""
        sizes, loops = {}, []
        for value, core in zip(values, self._inputs, strict=True):
            split = value.ndim - len(core)
            if split < 0:
                raise TypeError(f"{self.__name__}: shape {value.shape} has no axis for each of ({', '.join(core)})")
            loops.append(value.shape[:split])
            for name, size in zip(core, value.shape[split:], strict=True):
                if sizes.setdefault(name, size) != size:
                    raise TypeError(f"{self.__name__}: {name} is {sizes[name]} and {size}")
        return sizes, loops

    def _one(self, sizes, *values):
        """Results for one region."""
        function = self._follow(self._source)

        def run():
            arguments = [
                MutableArray(value.reshape(1) if array and not core else value)
                for value, core, array in zip(values, self._inputs, self._arrays, strict=True)
            ]
            if not self._writes:
                return [jnp.asarray(plain(function(*arguments)))]
            shapes = [tuple(sizes[name] for name in core) or (1,) for core in self._outputs]
            outputs = [MutableArray(np.full(shape, np.nan)) for shape in shapes]
            function(*arguments, *outputs)
            results = (jnp.asarray(output.value, jnp.result_type(float)) for output in outputs)
            return [r if core else r.reshape(()) for r, core in zip(results, self._outputs, strict=True)]

        try:
            return on_every_path(run)
        except TooManyBranches as error:
            raise NotImplementedError(
                f"{self.__name__} has more than {MOST_PATHS} combinations of branches; write numpy.where instead"
            ) from error
