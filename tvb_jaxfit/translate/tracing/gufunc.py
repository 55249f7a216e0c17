"""numba's ufuncs and gufuncs: their Python source, traced for one region and vectorised over regions."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from .branches import MAX_PATHS, TooManyBranches, select_over_paths
from .mutable_array import MutableArray, has_jax_array, unwrap, wrap


class NoSource(NotImplementedError):
    """A compiled function that does not keep its Python source."""


def is_compiled(value) -> bool:
    """Check for a function made by numba's guvectorize or vectorize."""
    return hasattr(value, "gufunc_builder") or (hasattr(value, "_dispatcher") and isinstance(value, _dufunc()))


def _dufunc():
    from numba.np.ufunc.dufunc import DUFunc

    return DUFunc


def gufunc_counterpart(value, translate_function):
    """Function of `MutableArray`s that is equivalent to a compiled one.

    Parameters
    ----------
    value : numba GUFunc or DUFunc
    translate_function : callable
        Maps a Python function to its counterpart on `MutableArray`s.

    Raises
    ------
    NoSource
        If numba did not keep the Python function.
    """
    if not hasattr(value, "gufunc_builder"):
        source, name = value._dispatcher.py_func, value.__name__
        n_in = source.__code__.co_argcount
        return _CoreFunction(value, translate_function, source, name, [()] * n_in, [()], [False] * n_in)
    builder = value.gufunc_builder
    source = getattr(builder, "py_func", None)
    if source is None:
        raise NoSource(f"{value} is compiled without its Python source; write the model's dfun in numpy")
    inputs, outputs = (_core_dimensions(part) for part in builder.signature.replace(" ", "").split("->"))
    # A scalar that is declared as float64[:] is passed as an array of length 1, else as a number.
    declared = builder._sigs[0].args[: len(inputs)] if builder._sigs else [None] * len(inputs)
    as_arrays = [getattr(kind, "ndim", 0) > 0 for kind in declared]
    return _CoreFunction(
        value, translate_function, source, source.__name__, inputs, outputs, as_arrays, fills_outputs=True
    )


def _core_dimensions(part):
    """Core dimensions of each argument in a part of a signature: "(n),()" gives [("n",), ()]."""
    return [tuple(name for name in core.split(",") if name) for core in re.findall(r"\(([^)]*)\)", part)]


class _CoreFunction:
    """A function of core dimensions, broadcast over the loop dimensions as numpy does for a gufunc.

    Parameters
    ----------
    compiled : numba GUFunc or DUFunc
        Called if no argument holds a JAX array.
    translate_function : callable
    source : function
        Python function of one region.
    name : str
    inputs, outputs : list of tuple of str
        Core dimensions of each argument.
    as_arrays : list of bool
        Inputs that are passed as arrays of length 1 where they are scalars.
    fills_outputs : bool, optional
        True if the function writes to output arguments; False if it returns its result.
    """

    def __init__(self, compiled, translate_function, source, name, inputs, outputs, as_arrays, fills_outputs=False):
        self._compiled, self._translate_function, self._source = compiled, translate_function, source
        self.__name__, self._inputs, self._outputs = name, inputs, outputs
        self._as_arrays, self._fills_outputs = as_arrays, fills_outputs

    def __call__(self, *args, out=None):
        values, outputs = [unwrap(value) for value in args[: len(self._inputs)]], args[len(self._inputs) :]
        outputs = outputs or (out if isinstance(out, tuple) else () if out is None else (out,))
        if not has_jax_array(values):
            results = self._compiled(*values, *(np.array(unwrap(output)) for output in outputs))
        else:
            results = self._vectorised([jnp.asarray(value, jnp.result_type(float)) for value in values])
        results = results if isinstance(results, tuple) else (results,)
        for output, result in zip(outputs, results, strict=False):
            output.write(result)
        return wrap(results if len(results) > 1 else results[0])

    def _vectorised(self, values):
        """Results for all regions."""
        core_sizes, loop_shapes = self._split_shapes(values)
        loop = np.broadcast_shapes(*loop_shapes)
        flat, axes = [], []
        for value, loop_shape in zip(values, loop_shapes, strict=True):
            # A value that is the same for all regions is not repeated.
            axes.append(0 if np.prod(loop_shape, dtype=int) > 1 else None)
            core = value.shape[len(loop_shape) :]
            broadcast = value if axes[-1] is None else jnp.broadcast_to(value, (*loop, *core))
            flat.append(broadcast.reshape(core if axes[-1] is None else (-1, *core)))
        n_loop = int(np.prod(loop, dtype=int))
        results = jax.vmap(lambda *values: self._region(core_sizes, *values), axes, axis_size=n_loop)(*flat)
        return tuple(result.reshape(*loop, *result.shape[1:]) for result in results)

    def _split_shapes(self, values):
        """Size of each core dimension, and the loop shape of each argument."""
        core_sizes, loop_shapes = {}, []
        for value, core in zip(values, self._inputs, strict=True):
            split = value.ndim - len(core)
            if split < 0:
                raise TypeError(f"{self.__name__}: shape {value.shape} has no axis for each of ({', '.join(core)})")
            loop_shapes.append(value.shape[:split])
            for name, size in zip(core, value.shape[split:], strict=True):
                if core_sizes.setdefault(name, size) != size:
                    raise TypeError(f"{self.__name__}: {name} is {core_sizes[name]} and {size}")
        return core_sizes, loop_shapes

    def _region(self, core_sizes, *values):
        """Results for one region."""
        function = self._translate_function(self._source)

        def run():
            arguments = [
                MutableArray(value.reshape(1) if as_array and not core else value)
                for value, core, as_array in zip(values, self._inputs, self._as_arrays, strict=True)
            ]
            if not self._fills_outputs:
                return [jnp.asarray(unwrap(function(*arguments)))]
            shapes = [tuple(core_sizes[name] for name in core) or (1,) for core in self._outputs]
            outputs = [MutableArray(np.full(shape, np.nan)) for shape in shapes]
            function(*arguments, *outputs)
            results = (jnp.asarray(output.value, jnp.result_type(float)) for output in outputs)
            return [r if core else r.reshape(()) for r, core in zip(results, self._outputs, strict=True)]

        try:
            return select_over_paths(run)
        except TooManyBranches as error:
            raise NotImplementedError(
                f"{self.__name__} has more than {MAX_PATHS} combinations of branches; write numpy.where instead"
            ) from error
