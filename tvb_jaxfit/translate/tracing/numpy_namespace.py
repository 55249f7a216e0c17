"""numpy's namespace for traced code: the same names, for `MutableArray` arguments.

A call in which no argument holds a JAX array is evaluated by numpy itself. Shapes, flags and constant tables therefore
stay plain numpy values while the code is traced.
"""

import functools
import types

import jax.numpy as jnp
import numpy as np

from .indexing import lists_as_arrays
from .mutable_array import MaskedSelection, MutableArray, has_jax_array, unwrap, wrap


class NoCounterpart(NotImplementedError):
    """A function or module that has no counterpart in JAX."""


class NamespaceProxy:
    """Proxy for a module: overrides first, then numpy functions paired with the JAX functions of the same name.

    Parameters
    ----------
    original : module
    jax_module : module or None
        Module of JAX with the same names.
    overrides : dict, optional
        Attributes that take precedence.
    """

    def __init__(self, original, jax_module, overrides=()):
        self._original, self._jax_module, self._overrides = original, jax_module, dict(overrides)

    def __getattr__(self, name):
        if name in self._overrides:
            return self._overrides[name]
        found = getattr(self._original, name)
        if isinstance(found, types.ModuleType):
            raise NoCounterpart(f"{found.__name__} is not translated to JAX")
        if isinstance(found, type) or not callable(found):
            return found
        return paired_function(found, getattr(self._jax_module, name, None))


def paired_function(original, jax_function):
    """Function of `MutableArray` arguments: numpy's if no argument holds a JAX array, else its JAX counterpart.

    Parameters
    ----------
    original : callable
        Function of numpy or scipy.
    jax_function : callable or None
        Its counterpart; None if there is none, so that a call with a JAX array raises `NoCounterpart`.
    """
    name = getattr(original, "__name__", str(original))

    def call(*args, out=None, where=None, **named):
        if any(isinstance(arg, MaskedSelection) for arg in args):
            return _of_masked_selections(original, jax_function, args, named)
        args, named, where = unwrap(args), unwrap(named), unwrap(where)
        if not has_jax_array((args, named, where)):
            result = original(*args, **named, **({} if where is None else {"where": where}))
        elif jax_function is None:
            raise NoCounterpart(f"{name} has no counterpart in JAX")
        else:
            if where is not None:
                # Elements that are not requested are evaluated at 1, where numpy's functions are finite.
                args = tuple(jnp.where(where, a, jnp.ones_like(a)) if np.ndim(a) else a for a in args)
            result = _with_lists_as_arrays(jax_function, args, named)
            if where is not None:
                result = jnp.where(where, result, unwrap(out) if out is not None else jnp.nan)
        if out is None:
            return wrap(result)
        out = out[0] if isinstance(out, tuple) else out
        out.write(result)
        return out

    call.__name__ = name
    if isinstance(original, np.ufunc):
        for method in ("reduce", "accumulate", "outer"):
            setattr(call, method, paired_function(getattr(original, method), getattr(jax_function, method, None)))
        call.at = functools.partial(_ufunc_at, original)
    return call


def _with_lists_as_arrays(jax_function, args, named):
    """Result of a JAX function; lists are converted to arrays if JAX does not accept them."""
    try:
        return jax_function(*args, **named)
    except TypeError:
        arrays = [_array(arg).value if isinstance(arg, (list, tuple)) else arg for arg in args]
        if all(new is arg for new, arg in zip(arrays, args, strict=True)):
            raise
        return jax_function(*arrays, **named)


_AT_METHODS = {"add": "add", "subtract": "subtract", "multiply": "multiply", "maximum": "max", "minimum": "min"}


def _ufunc_at(ufunc, array, key, *operands):
    """``ufunc.at``: applied in place once for each occurrence of an index."""
    key, operands = lists_as_arrays(unwrap(key)), unwrap(operands)
    if not has_jax_array((array, key, operands)):
        new = np.array(array.value)
        ufunc.at(new, key, *operands)
        array.write(new)
    elif ufunc.__name__ not in _AT_METHODS:
        raise NoCounterpart(f"{ufunc.__name__}.at is not translated to JAX")
    else:
        array.write(getattr(jnp.asarray(array.value).at[key], _AT_METHODS[ufunc.__name__])(*operands))


def _of_masked_selections(original, jax_function, args, named):
    """Elementwise function of selections under one mask, or the sum of a selection."""
    if original is np.sum and not named and len(args) == 1:
        return args[0].sum()
    if not isinstance(original, np.ufunc) or jax_function is None or named:
        raise NoCounterpart(
            f"{original.__name__} of values under a mask is not translated to JAX; write numpy.where instead"
        )
    return next(arg for arg in args if isinstance(arg, MaskedSelection)).apply(jax_function, args)


def _array(value, dtype=None, **_):
    value = unwrap(value)
    if not has_jax_array(value):
        return MutableArray(np.array(value, dtype=dtype))
    if isinstance(value, (list, tuple)):
        rows = [_array(item, dtype).value if isinstance(item, (list, tuple)) else item for item in value]
        stacked = jnp.stack([jnp.asarray(row) for row in rows]) if dtype is None else jnp.stack(rows).astype(dtype)
        return MutableArray(stacked)
    return MutableArray(jnp.asarray(value, dtype))


def _as_array(value, *args, **named):
    return value if isinstance(value, MutableArray) else _array(value, *args, **named)


def _allocate(make):
    """Allocation of a new array; stored row by row, since TVB's code mostly writes rows."""

    def allocate(shape, *args, dtype=float, **named):
        array = make(unwrap(shape), *unwrap(args), dtype=dtype, **named)
        return MutableArray(rows=list(array)) if array.ndim and len(array) else MutableArray(array)

    return allocate


def _allocate_like(make):
    def allocate(model, *args, dtype=None, **named):
        dtype = dtype or (model.dtype if hasattr(model, "dtype") else np.asarray(model).dtype)
        fill = unwrap(args)
        if has_jax_array(fill):
            return MutableArray(jnp.broadcast_to(fill[0], np.shape(unwrap(model))).astype(dtype))
        return _allocate(make)(np.shape(unwrap(model)), *fill, dtype=dtype, **named)

    return allocate


def _uninitialised(shape, dtype=float, **_):
    """In place of numpy.empty: NaN, so that elements that are never written are noticed."""
    inexact = np.issubdtype(dtype, np.inexact)
    return np.full(shape, np.nan if inexact else 0, dtype)


def _full(shape, fill, dtype=None, **_):
    if has_jax_array(fill):
        return MutableArray(jnp.broadcast_to(unwrap(fill), unwrap(shape)))
    return _allocate(np.full)(shape, fill, dtype=np.asarray(unwrap(fill)).dtype if dtype is None else dtype)


def _where(condition, *branches):
    values = unwrap((condition, *branches))
    if not has_jax_array(values):
        return wrap(np.where(*values))
    if not branches:
        # The indices of a traced condition are unknown: the mask that they stand for takes their place.
        return (MutableArray(values[0]),)
    return MutableArray(jnp.where(*values))


def _put_mask(array, mask, new):
    """numpy.putmask, for one value or an array of the same shape."""
    new = unwrap(new)
    array.write(jnp.where(unwrap(mask), jnp.reshape(new, ()) if np.size(new) == 1 else new, array.value))


def _copy_to(array, new, where=True, **_):
    array.write(jnp.where(unwrap(where), unwrap(new), array.value))


def _choose(index, choices, **_):
    index, choices = unwrap(index), unwrap(choices)
    if not has_jax_array((index, choices)):
        return wrap(np.choose(index, choices))
    # NaN for an index out of range, where numpy raises an error.
    in_range = (index >= 0) & (index < len(choices))
    return MutableArray(jnp.where(in_range, jnp.choose(index, choices, mode="clip"), jnp.nan))


class _Concatenator:
    """numpy.r_ and numpy.c_: arrays joined by indexing."""

    def __init__(self, name):
        self._name = name

    def __getitem__(self, key):
        values = unwrap(key)
        return wrap(getattr(jnp if has_jax_array(values) else np, self._name)[values])


_OVERRIDES = {
    "array": _array,
    "asarray": _as_array,
    "asanyarray": _as_array,
    "ascontiguousarray": _as_array,
    "empty": _allocate(_uninitialised),
    "zeros": _allocate(np.zeros),
    "ones": _allocate(np.ones),
    "full": _full,
    "empty_like": _allocate_like(_uninitialised),
    "zeros_like": _allocate_like(np.zeros),
    "ones_like": _allocate_like(np.ones),
    "full_like": _allocate_like(np.full),
    "where": _where,
    "nonzero": _where,
    "putmask": _put_mask,
    "copyto": _copy_to,
    "choose": _choose,
    "r_": _Concatenator("r_"),
    "c_": _Concatenator("c_"),
    "copy": lambda value, **_: value.copy(),
    "linalg": NamespaceProxy(np.linalg, jnp.linalg),
    "isscalar": np.isscalar,
    "fabs": paired_function(np.fabs, jnp.abs),
}
NUMPY = NamespaceProxy(np, jnp, _OVERRIDES)
