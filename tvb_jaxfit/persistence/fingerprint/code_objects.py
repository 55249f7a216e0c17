"""What code consists of: modules, classes and functions, to the last one that they use.

Of a library, a name and a version; of what the user wrote, all that it is made of.
"""

import abc
import functools
import types
from _abc import _get_dump

import jax
import numpy as np

from .code_names import used
from .installed import is_of_a_library as _is_of_a_library
from .installed import of_library as _of_library
from .objects import parts_of, slots_of
from .untracked import Untracked, unseen_callable

# No content: what Python adds to a class of its own.
_NOT_OF_A_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"}


@parts_of.register(types.ModuleType)
def _module(value):
    if _is_of_a_library(value.__name__):
        return _of_library(value.__name__), []
    return "module", [(f".{name}", part) for name, part in sorted(vars(value).items()) if name[:2] != "__"]


@parts_of.register(type)
def _class(value):
    if _is_of_a_library(value.__module__) and "<locals>" not in value.__qualname__:
        return f"{_of_library(value.__module__)}.{value.__qualname__}", []
    own = {name: part for name, part in vars(value).items() if name not in _NOT_OF_A_CLASS and name[:5] != "_abc_"}
    slots = slots_of(value)
    parts = [(f".{name}", part) for name, part in sorted(own.items()) if name not in slots]
    above = [("<bases>", value.__bases__), ("<metaclass>", type(value)), ("<registered>", _registered(value))]
    return f"class {value.__qualname__} {value.__name__}", above + parts


def _registered(value):
    """Classes that were registered with an abstract one."""
    if not isinstance(value, abc.ABCMeta):
        return None
    return {reference() for reference in _get_dump(value)[0]}


@parts_of.register(types.BuiltinFunctionType)
def _builtin(value):
    if unseen_callable(value) is not None:
        return "builtin", [("", unseen_callable(value))]
    of = value.__self__
    bound = [] if of is None or isinstance(of, types.ModuleType) else [(".__self__", of)]
    return f"builtin {value.__module__}.{value.__qualname__}", bound


@parts_of.register(types.WrapperDescriptorType)
@parts_of.register(types.MethodDescriptorType)
@parts_of.register(types.GetSetDescriptorType)
@parts_of.register(types.MemberDescriptorType)
@parts_of.register(types.ClassMethodDescriptorType)
def _descriptor(value):
    return f"descriptor {value.__name__}", [(".__objclass__", value.__objclass__)]


@parts_of.register(np.ufunc)
def _ufunc(value):
    return f"ufunc {value.__name__}", []


@parts_of.register(Untracked)
def _unseen(value):
    return f"unseen {value.name}", []


@parts_of.register(types.MethodType)
def _method(value):
    of = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
    if _is_of_a_library(of.__module__) and unseen_callable(value) is not None:
        return "method", [("", unseen_callable(value))]
    return "method", [(".__self__", value.__self__), (".__func__", value.__func__)]


@parts_of.register(type(jax.jit(abs)))
@parts_of.register(functools._lru_cache_wrapper)
def _wrapped(value):
    return f"wrapped {type(value).__name__}", [(".__wrapped__", value.__wrapped__)]


@parts_of.register(functools.partial)
def _partial(value):
    return "partial", [(f".{name}", getattr(value, name)) for name in ("func", "args", "keywords")]


@parts_of.register(property)
@parts_of.register(staticmethod)
@parts_of.register(classmethod)
@parts_of.register(functools.cached_property)
def _of_a_class(value):
    names = ("fget", "fset", "fdel", "__func__", "func")
    return type(value).__name__, [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]


@parts_of.register(types.CellType)
def _cell(value):
    try:
        return "cell", [("", value.cell_contents)]
    except ValueError:
        return "empty cell", []


@parts_of.register(types.CodeType)
def _code(value):
    """Instructions and constants; neither where it stands nor its comments."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_exceptiontable")
    counts = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags")
    return f"code {[getattr(value, name) for name in names + counts]}", [("<constants>", value.co_consts)]


@parts_of.register(types.FunctionType)
def _function(value):
    closure = [
        (f" -> {name}", cell) for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    ]
    defaults = [(".__defaults__", value.__defaults__), (".__kwdefaults__", value.__kwdefaults__)]
    # Whose it is says where it was written: names can be those of what it wraps. An example in a docstring is the
    # user's, wherever it stands.
    home, code = value.__globals__.get("__name__"), value.__code__
    if _is_of_a_library(home) and code.co_filename[:8] != "<doctest":
        if unseen_callable(value) is not None:
            return "function", [("", unseen_callable(value))]
        if home == "functools" and isinstance(getattr(value, "registry", None), types.MappingProxyType):
            # Of single dispatch: the closure has what was dispatched before, too.
            return "dispatched", [(".registry", dict(value.registry))]
        # Defaults of what is made while it runs are content, as its closure is; others are the library's.
        made = "<locals>" in code.co_qualname
        place = f"{code.co_qualname} {code.co_firstlineno} {code.co_code}"
        return f"{_of_library(home)}.{place}", closure + made * defaults
    reached = [(f" -> {name}", part) for name, part in used(value.__code__, value.__globals__)]
    own = [(f".{name}", part) for name, part in sorted(vars(value).items())]
    return "function", [(".__code__", value.__code__), *closure, *defaults, *reached, *own]
