"""Content of modules, classes and functions.

A library's are identified by name and version. Those of the user consist of their code and of everything that it uses.
"""

import abc
import functools
import types
from _abc import _get_dump

import jax
import numpy as np

from .code_names import used_names
from .installed import is_library, library_label
from .objects import content_of, slots_of
from .untracked import Untracked, untracked_callable

# Attributes that Python adds to each class. They are no content.
_ADDED_TO_CLASSES = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"}


@content_of.register(types.ModuleType)
def _module(value):
    if is_library(value.__name__):
        return library_label(value.__name__), []
    # Its class is the user's where a module computes attributes.
    own = ((f".{name}", part) for name, part in sorted(vars(value).items()) if name[:2] != "__")
    return "module", [("<class>", type(value)), *own]


@content_of.register(type)
def _class(value):
    if is_library(value.__module__) and "<locals>" not in value.__qualname__:
        return f"{library_label(value.__module__)}.{value.__qualname__}", []
    slots = slots_of(value)
    own = {
        name: part
        for name, part in vars(value).items()
        if name not in _ADDED_TO_CLASSES and name[:5] != "_abc_" and name not in slots
    }
    parents = [
        ("<bases>", value.__bases__),
        ("<metaclass>", type(value)),
        ("<registered>", _registered_subclasses(value)),
    ]
    return f"class {value.__qualname__} {value.__name__}", [
        *parents,
        *((f".{name}", part) for name, part in sorted(own.items())),
    ]


def _registered_subclasses(value):
    """Virtual subclasses of an abstract class; None for other classes."""
    if not isinstance(value, abc.ABCMeta):
        return None
    return {reference() for reference in _get_dump(value)[0]}


@content_of.register(types.BuiltinFunctionType)
def _builtin(value):
    if untracked_callable(value) is not None:
        return "builtin", [("", untracked_callable(value))]
    owner = value.__self__
    bound = [] if owner is None or isinstance(owner, types.ModuleType) else [(".__self__", owner)]
    return f"builtin {value.__module__}.{value.__qualname__}", bound


@content_of.register(types.WrapperDescriptorType)
@content_of.register(types.MethodDescriptorType)
@content_of.register(types.GetSetDescriptorType)
@content_of.register(types.MemberDescriptorType)
@content_of.register(types.ClassMethodDescriptorType)
def _descriptor(value):
    return f"descriptor {value.__name__}", [(".__objclass__", value.__objclass__)]


@content_of.register(np.ufunc)
def _ufunc(value):
    return f"ufunc {value.__name__}", []


@content_of.register(Untracked)
def _untracked(value):
    return f"unseen {value.name}", []


@content_of.register(types.MethodType)
def _method(value):
    owner = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
    if is_library(owner.__module__) and untracked_callable(value) is not None:
        return "method", [("", untracked_callable(value))]
    return "method", [(".__self__", value.__self__), (".__func__", value.__func__)]


@content_of.register(type(jax.jit(abs)))
@content_of.register(functools._lru_cache_wrapper)
def _wrapper(value):
    return f"wrapped {type(value).__name__}", [(".__wrapped__", value.__wrapped__)]


@content_of.register(functools.partial)
def _partial(value):
    return "partial", [(f".{name}", getattr(value, name)) for name in ("func", "args", "keywords")]


@content_of.register(property)
@content_of.register(staticmethod)
@content_of.register(classmethod)
@content_of.register(functools.cached_property)
def _class_member(value):
    names = ("fget", "fset", "fdel", "__func__", "func")
    return type(value).__name__, [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]


@content_of.register(types.CellType)
def _cell(value):
    try:
        return "cell", [("", value.cell_contents)]
    except ValueError:
        return "empty cell", []


@content_of.register(types.CodeType)
def _code(value):
    """Instructions and constants. Line numbers and comments are no content."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_exceptiontable")
    counts = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags")
    return f"code {[getattr(value, name) for name in names + counts]}", [("<constants>", value.co_consts)]


@content_of.register(types.FunctionType)
def _function(value):
    code = value.__code__
    closure = [(f" -> {name}", cell) for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True)]
    defaults = [(".__defaults__", value.__defaults__), (".__kwdefaults__", value.__kwdefaults__)]
    # Ownership follows the module's globals: functools.wraps copies __module__ and __qualname__. An example in a
    # docstring counts as the user's, whatever its module.
    module = value.__globals__.get("__name__")
    if is_library(module) and code.co_filename[:8] != "<doctest":
        return _library_function(value, module, closure, defaults)
    used = [(f" -> {name}", part) for name, part in used_names(code, value.__globals__)]
    own = [(f".{name}", part) for name, part in sorted(vars(value).items())]
    return "function", [(".__code__", code), *closure, *defaults, *used, *own]


def _library_function(value, module, closure, defaults):
    if untracked_callable(value) is not None:
        return "function", [("", untracked_callable(value))]
    if module == "functools" and isinstance(getattr(value, "registry", None), types.MappingProxyType):
        # Single dispatch: the closure also contains a cache of earlier dispatches.
        return "dispatched", [(".registry", dict(value.registry))]
    # A function that is made at run time can have any defaults; those of a top-level one belong to the version.
    code = value.__code__
    is_nested = "<locals>" in code.co_qualname
    label = f"{library_label(module)}.{code.co_qualname} {code.co_firstlineno} {code.co_code}"
    return label, [*closure, *(defaults if is_nested else [])]
