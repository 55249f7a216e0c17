"""Counterparts of everything that traced code refers to by a global name: modules, library functions, builtins."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np

from .dispatch import register_lookup
from .mutable_array import MutableArray, has_jax_array, unwrap
from .numexpr_namespace import evaluate
from .numpy_namespace import NUMPY, NoCounterpart, paired_function
from .scipy_namespace import Distribution, scipy_proxy

# Names of numpy's functions that the math module calls otherwise.
_NUMPY_NAMES = {"pow": "power", "fabs": "abs", "atan": "arctan", "asin": "arcsin", "acos": "arccos"}


class _Math:
    """The math module, for numbers that are `MutableArray`s."""

    def __getattr__(self, name):
        found = getattr(math, name)
        if not callable(found):
            return found
        numpy_name = _NUMPY_NAMES.get(name, name)
        of_arrays = getattr(NUMPY, numpy_name, None) if hasattr(np, numpy_name) else None

        def call(*args):
            takes_arrays = of_arrays and any(isinstance(arg, MutableArray) for arg in args)
            return of_arrays(*args) if takes_arrays else found(*args)

        return call


def _extremum(name, pairwise):
    """The builtin max or min: of one array, or of several values."""
    builtin = {"max": max, "min": min}[name]

    def call(*values, **named):
        if not has_jax_array(values):
            return builtin(*(np.asarray(v) if isinstance(v, MutableArray) else v for v in unwrap(values)), **named)
        if len(values) == 1 and isinstance(values[0], MutableArray):
            return MutableArray(getattr(jnp, name)(values[0].value))
        values = values[0] if len(values) == 1 else values
        result = unwrap(values[0])
        for value in values[1:]:
            result = pairwise(result, unwrap(value))
        return MutableArray(result)

    return call


class _TypeOfProxies(type):
    """The builtin type: the class of the object that a proxy stands for."""

    def __call__(cls, *args, **named):
        return args[0].__class__ if len(args) == 1 else type(*args, **named)

    def __instancecheck__(cls, value):
        return isinstance(value, type)


class _Type(metaclass=_TypeOfProxies):
    """Counterpart of the builtin type."""


BUILTINS = {
    "type": _Type,
    "max": _extremum("max", jnp.maximum),
    "min": _extremum("min", jnp.minimum),
}


@register_lookup
def library_counterpart(value):
    """Counterpart of a module, or of a function of numpy, scipy or numexpr.

    Parameters
    ----------
    value : object

    Returns
    -------
    object or None
        None for anything else, such as a user's own module.

    Raises
    ------
    NoCounterpart
        For a module of numpy, scipy or numba that is not supported.
    """
    if isinstance(value, types.ModuleType):
        return _module_counterpart(value)
    module = getattr(value, "__module__", "") or ""
    library = module.split(".")[0]
    name = getattr(value, "__name__", "")
    if isinstance(value, np.ufunc) and getattr(np, name, None) is value:
        return getattr(NUMPY, name)
    if library == "numpy" and callable(value) and not isinstance(value, type) and hasattr(np, name):
        return getattr(NUMPY, name)
    if library == "numexpr" and name == "evaluate":
        return evaluate
    if module.startswith("scipy.stats") and hasattr(value, "rvs"):
        return Distribution(value.name)
    if module.startswith("scipy.integrate") and name in ("trapezoid", "trapz"):
        return paired_function(value, jnp.trapezoid)
    if isinstance(value, np.ufunc) or module.startswith("scipy.special"):
        return paired_function(value, getattr(jax.scipy.special, name, None))
    return None


def _module_counterpart(module):
    if module is np:
        return NUMPY
    if module is math:
        return _Math()
    if module.__name__ == "numexpr":
        return types.SimpleNamespace(evaluate=evaluate)
    proxy = scipy_proxy(module)
    if proxy is None and module.__name__.split(".")[0] in ("numpy", "scipy", "numba"):
        raise NoCounterpart(f"{module.__name__} is not translated to JAX")
    return proxy
