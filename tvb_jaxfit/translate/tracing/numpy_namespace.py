"""Stand-ins for the modules that a TVB method's code refers to: the same names, for boxes of JAX arrays.

What depends on no JAX array is worked out by numpy itself, so that shapes, flags and fixed tables stay what they are.
"""

import functools
import importlib
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np

from ...dynamics.hrf import gamma_density
from . import numexpr_namespace as numexpr_for_jax
from .mutable_array import Masked, MutableArray, arrays_of, boxed, is_traced, plain


class Missing(NotImplementedError):
    """Something has no counterpart in JAX."""


class _Module:
    """Stand-in for a module: own functions first, then those of a JAX module under the same name."""

    def __init__(self, original, counterpart, own=()):
        self._original, self._counterpart, self._own = original, counterpart, dict(own)

    def __getattr__(self, name):
        if name in self._own:
            return self._own[name]
        found = getattr(self._original, name)
        if isinstance(found, types.ModuleType):
            return _module(found)
        if type(found).__module__.startswith("scipy.stats"):
            return _Distribution(name)
        if isinstance(found, type) or not callable(found):
            return found
        return function(found, getattr(self._counterpart, name, None))


def function(original, counterpart):
    """A numpy function that takes boxes: numpy's where nothing is traced, its JAX counterpart else."""
    name = getattr(original, "__name__", str(original))

    def follow(*args, out=None, where=None, **named):
        if any(isinstance(arg, Masked) for arg in args):
            return _of_masked(original, counterpart, args, named)
        args, named, where = plain(args), plain(named), plain(where)
        if not is_traced((args, named, where)):
            result = original(*args, **named, **({} if where is None else {"where": where}))
        elif counterpart is None:
            raise Missing(f"{name} has no counterpart in JAX")
        else:
            if where is not None:
                # What is not asked for is worked out at 1, which no function of numpy's fails on.
                args = tuple(jnp.where(where, a, jnp.ones_like(a)) if np.ndim(a) else a for a in args)
            result = _of_arrays(counterpart, args, named)
            if where is not None:
                result = jnp.where(where, result, plain(out) if out is not None else jnp.nan)
        if out is None:
            return boxed(result)
        out = out[0] if isinstance(out, tuple) else out
        out.write(result)
        return out

    follow.__name__ = name
    if isinstance(original, np.ufunc):
        for method in ("reduce", "accumulate", "outer"):
            setattr(follow, method, function(getattr(original, method), getattr(counterpart, method, None)))
        follow.at = functools.partial(_at, original)
    return follow


def _of_arrays(counterpart, args, named):
    """Result of a JAX function, which takes no list where numpy takes one for an array."""
    try:
        return counterpart(*args, **named)
    except TypeError:
        arrays = [_array(arg).value if isinstance(arg, (list, tuple)) else arg for arg in args]
        if all(new is arg for new, arg in zip(arrays, args, strict=True)):
            raise
        return counterpart(*arrays, **named)


def _at(ufunc, array, key, *operands):
    """A ufunc in place, once for each time that an index comes."""
    key, operands = arrays_of(plain(key)), plain(operands)
    if not is_traced((array, key, operands)):
        new = np.array(array.value)
        ufunc.at(new, key, *operands)
        array.write(new)
    elif ufunc.__name__ not in _AT:
        raise Missing(f"{ufunc.__name__}.at is not followed")
    else:
        array.write(getattr(jnp.asarray(array.value).at[key], _AT[ufunc.__name__])(*operands))


_AT = {"add": "add", "subtract": "subtract", "multiply": "multiply", "maximum": "max", "minimum": "min"}


def _of_masked(original, counterpart, args, named):
    """A function of values under one mask: of each by itself, or their sum."""
    if original is np.sum and not named and len(args) == 1:
        return args[0].sum()
    if not isinstance(original, np.ufunc) or counterpart is None or named:
        raise Missing(f"{original.__name__} of values under a mask is not followed; write numpy.where instead")
    return next(arg for arg in args if isinstance(arg, Masked)).through(counterpart, args)


def _put_masked(array, mask, new):
    """numpy.putmask, for one value or an array of the same shape."""
    new = plain(new)
    array.write(jnp.where(plain(mask), jnp.reshape(new, ()) if np.size(new) == 1 else new, array.value))


def _copy_to(array, new, where=True, **_):
    array.write(jnp.where(plain(where), plain(new), array.value))


def _array(value, dtype=None, **_):
    value = plain(value)
    if not is_traced(value):
        return MutableArray(np.array(value, dtype=dtype))
    if isinstance(value, (list, tuple)):
        rows = [_array(item, dtype).value if isinstance(item, (list, tuple)) else item for item in value]
        return MutableArray(
            jnp.stack([jnp.asarray(row) for row in rows]) if dtype is None else jnp.stack(rows).astype(dtype)
        )
    return MutableArray(jnp.asarray(value, dtype))


def _filled(make):
    """Allocation: arrays of one dimension or more are written row by row."""

    def allocate(shape, *args, dtype=float, **named):
        array = make(plain(shape), *plain(args), dtype=dtype, **named)
        return MutableArray(rows=list(array)) if array.ndim and len(array) else MutableArray(array)

    return allocate


def _like(make):
    def allocate(model, *args, dtype=None, **named):
        dtype = dtype or (model.dtype if hasattr(model, "dtype") else np.asarray(model).dtype)
        fill = plain(args)
        if is_traced(fill):
            return MutableArray(jnp.broadcast_to(fill[0], np.shape(plain(model))).astype(dtype))
        return _filled(make)(np.shape(plain(model)), *fill, dtype=dtype, **named)

    return allocate


def _unwritten(shape, dtype=float, **_):
    """What nobody writes must not pass for a number."""
    inexact = np.issubdtype(dtype, np.inexact)
    return np.full(shape, np.nan if inexact else 0, dtype)


def _full(shape, fill, dtype=None, **_):
    if is_traced(fill):
        return MutableArray(jnp.broadcast_to(plain(fill), plain(shape)))
    return _filled(np.full)(shape, fill, dtype=np.asarray(plain(fill)).dtype if dtype is None else dtype)


def _where(condition, *branches):
    values = plain((condition, *branches))
    if not is_traced(values):
        return boxed(np.where(*values))
    if not branches:
        # Indices of what is true: kept as the mask that they stand for.
        return (MutableArray(values[0]),)
    return MutableArray(jnp.where(*values))


def _choose(index, choices, **_):
    index, choices = plain(index), plain(choices)
    if not is_traced((index, choices)):
        return boxed(np.choose(index, choices))
    # NaN where numpy fails: an index that is out of range.
    within = (index >= 0) & (index < len(choices))
    return MutableArray(jnp.where(within, jnp.choose(index, choices, mode="clip"), jnp.nan))


class _Joined:
    """numpy.r_ and numpy.c_: arrays joined by indexing."""

    def __init__(self, name):
        self._name = name

    def __getitem__(self, key):
        values = plain(key)
        return boxed(getattr(jnp if is_traced(values) else np, self._name)[values])


class _Scipy:
    """scipy itself, for the modules that have stand-ins."""

    def __getattr__(self, name):
        if name not in ("special", "stats"):
            raise Missing("scipy is not followed")
        return _module(importlib.import_module(f"scipy.{name}"))


class _Distribution:
    """A distribution of scipy.stats, frozen or not: scipy's own where nothing is traced."""

    def __init__(self, name, *shapes, **named):
        self._name, self._shapes, self._named = name, shapes, named

    def __call__(self, *shapes, **named):
        return _Distribution(self._name, *shapes, **named)

    def __getattr__(self, method):
        import scipy.stats

        def follow(x, *shapes, **named):
            x, shapes, named = plain((x, (*self._shapes, *shapes), self._named | named))
            if not is_traced((x, shapes, named)):
                return boxed(getattr(getattr(scipy.stats, self._name), method)(x, *shapes, **named))
            if method not in _DENSITIES.get(self._name, ()):
                raise Missing(f"scipy.stats.{self._name}.{method} is not followed")
            # Ready for the derivative, whatever is an integer.
            x, shapes, named = jax.tree.map(lambda value: jnp.asarray(value, float), (x, shapes, named))
            counterpart = _gamma_density if self._name == "gamma" else getattr(jax.scipy.stats.norm, method)
            return MutableArray(counterpart(x, *shapes, **named))

        return follow


_DENSITIES = {"norm": ("pdf", "cdf", "ppf", "sf", "logpdf", "logcdf"), "gamma": ("pdf",)}


def _gamma_density(x, a, loc=0.0, scale=1.0):
    """scipy.stats.gamma.pdf; at x = loc, where hemodynamic responses begin, its derivatives are finite."""
    y = (x - loc) / scale
    return jnp.where(y < 0.0, 0.0, gamma_density(jnp.where(y < 0.0, 0.0, y), a)) / scale


def evaluate(expression, local_dict=None, global_dict=None, out=None, order="K", casting="same_kind", **options):
    """numexpr.evaluate: names are those of the dicts, or of the caller."""
    caller = sys._getframe(1)
    local_names = caller.f_locals if local_dict is None else local_dict
    global_names = caller.f_globals if global_dict is None else global_dict

    def look_up(name):
        return local_names[name] if name in local_names else global_names[name]

    result = boxed(numexpr_for_jax.value_of(expression, look_up, NUMPY, Missing, **options))
    if out is None:
        return result
    out.write(result)
    return out


def _of_one_or_all(name, pairwise):
    """A builtin such as max: of one array, or of several values."""
    builtin = {"max": max, "min": min}[name]

    def follow(*values, **named):
        if not is_traced(values):
            return builtin(*(np.asarray(v) if isinstance(v, MutableArray) else v for v in plain(values)), **named)
        if len(values) == 1 and isinstance(values[0], MutableArray):
            return MutableArray(getattr(jnp, name)(values[0].value))
        values = values[0] if len(values) == 1 else values
        result = plain(values[0])
        for value in values[1:]:
            result = pairwise(result, plain(value))
        return MutableArray(result)

    return follow


_OWN = {
    "array": _array,
    "asarray": lambda value, *args, **named: (
        value if isinstance(value, MutableArray) else _array(value, *args, **named)
    ),
    "empty": _filled(_unwritten),
    "zeros": _filled(np.zeros),
    "ones": _filled(np.ones),
    "full": _full,
    "empty_like": _like(_unwritten),
    "zeros_like": _like(np.zeros),
    "ones_like": _like(np.ones),
    "full_like": _like(np.full),
    "where": _where,
    "nonzero": _where,
    "putmask": _put_masked,
    "copyto": _copy_to,
    "choose": _choose,
    "r_": _Joined("r_"),
    "c_": _Joined("c_"),
    "copy": lambda value, **_: value.copy(),
    "linalg": _Module(np.linalg, jnp.linalg),
    "isscalar": np.isscalar,
    "fabs": function(np.fabs, jnp.abs),
}
_OWN["asanyarray"] = _OWN["ascontiguousarray"] = _OWN["asarray"]
NUMPY = _Module(np, jnp, _OWN)

_NUMPY_NAMES = {"pow": "power", "fabs": "abs", "atan": "arctan", "asin": "arcsin", "acos": "arccos"}


class _Math:
    """The math module, for numbers in boxes."""

    def __getattr__(self, name):
        found = getattr(math, name)
        if not callable(found):
            return found
        numpy_name = _NUMPY_NAMES.get(name, name)
        follow = getattr(NUMPY, numpy_name, None) if hasattr(np, numpy_name) else None
        return lambda *args: (
            follow(*args) if follow and any(isinstance(a, MutableArray) for a in args) else found(*args)
        )


class _TypeOf(type):
    """The builtin type, of objects that stand for others."""

    def __call__(cls, *args, **named):
        return args[0].__class__ if len(args) == 1 else type(*args, **named)

    def __instancecheck__(cls, value):
        return isinstance(value, type)


class _Type(metaclass=_TypeOf):
    """In place of type."""


BUILTINS = {
    "type": _Type,
    "max": _of_one_or_all("max", jnp.maximum),
    "min": _of_one_or_all("min", jnp.minimum),
}


def stand_in(value):
    """Counterpart of something that code refers to by a global name, or None where there is none.

    Parameters
    ----------
    value : object
        A module, or a function of numpy, scipy or numexpr.
    """
    if isinstance(value, types.ModuleType):
        return _module(value)
    module = getattr(value, "__module__", "") or ""
    name = getattr(value, "__name__", "")
    if isinstance(value, np.ufunc) and getattr(np, name, None) is value:
        return getattr(NUMPY, name)
    if module.split(".")[0] == "numpy" and callable(value) and not isinstance(value, type) and hasattr(np, name):
        return getattr(NUMPY, name)
    if module.split(".")[0] == "numexpr" and name == "evaluate":
        return evaluate
    if module.startswith("scipy.stats") and hasattr(value, "rvs"):
        return _Distribution(value.name)
    if module.startswith("scipy.integrate") and name in ("trapezoid", "trapz"):
        return function(value, jnp.trapezoid)
    if isinstance(value, np.ufunc) or module.startswith("scipy.special"):
        return function(value, getattr(jax.scipy.special, name, None))
    return None


def _module(value):
    if value is np:
        return NUMPY
    if value is math:
        return _Math()
    if value.__name__ == "scipy.special":
        return _Module(value, jax.scipy.special)
    if value.__name__ == "numexpr":
        return types.SimpleNamespace(evaluate=evaluate)
    if value.__name__ == "scipy.stats":
        return _Module(value, None)
    if value.__name__ == "scipy":
        return _Scipy()
    if value.__name__.split(".")[0] in ("numpy", "scipy", "numba"):
        raise Missing(f"{value.__name__} is not followed")
    return None
