"""Content of objects: a label, and parts that are objects again. For code, see `code_objects`."""

import builtins
import contextvars
import copyreg
import enum
import functools
import hashlib
import logging
import os
import pathlib
import re
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from ...runtime.modules import is_module
from ...runtime.processes import PicklableMixin
from .installed import is_library

# Attributes of TVB's objects that are no content: names that TVB draws at random, its estimates of memory and time.
_TRANSIENT_OF_TVB = {
    *("gid", "title", "_runtime", "_storage_requirement"),
    *("_memory_requirement_guess", "_memory_requirement_census"),
}
_PACKAGE = __name__.partition(".")[0]
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


class NotHashable(TypeError):
    """An object without content that could be compared."""


class LibraryValue:
    """A value that a library holds, such as a setting. Parts of it that cannot be compared are not refused.

    Parameters
    ----------
    value
    """

    def __init__(self, value: Any):
        self.value = value


class CachedValue:
    """Value of a `cached_property` of the user's. It is content only if it differs from what the property returns.

    Parameters
    ----------
    value
        The value that the instance holds.
    recomputed : callable
        () to the value that the property returns on a copy of the instance.
    without_cached : callable
        () to a copy of the instance without cached values.
    name : str
        Name of the property.
    """

    def __init__(self, value: Any, recomputed: Callable[[], Any], without_cached: Callable[[], Any], name: str):
        self.value, self.recomputed, self.without_cached, self.name = value, recomputed, without_cached, name


@functools.singledispatch
def content_of(value: Any) -> tuple[str, list[tuple[str, Any]]]:
    """Label of an object, and its parts as (edge, part). The edge extends the path of the object to that of the part.

    Raises
    ------
    NotHashable
        The object has no comparable content.
    """
    cls = type(value)
    if is_module(value):
        return content_of.dispatch(types.ModuleType)(value)
    if cls.__module__.startswith("numba.") and hasattr(value, "py_func"):
        # The source function alone is content, not its compiled form.
        return "compiled", [(".py_func", value.py_func)]
    if cls.__name__ == "cython_function_or_method":
        return f"builtin {value.__module__}.{value.__qualname__}", []
    if not is_library(cls.__module__):
        return "instance", _parts_of_user_instance(value, cls)
    reduced = _reduced(value)
    if _has_own_reduction(cls) or not (hasattr(value, "__dict__") or slots_of(cls)):
        return "reduced", reduced
    return "instance", [("<class>", cls), *_attribute_parts(value)]


def _attribute_parts(value):
    return ((f".{name}", part) for name, part in attributes(value))


def _parts_of_user_instance(value, cls):
    """Everything that an instance of the user's class holds, also what it hides from pickle."""
    parts = [("<class>", cls), *_attribute_parts(value)]
    base = next((base for base in cls.__mro__ if is_library(base.__module__)), object)
    if base in _CONTAINERS:
        return [*parts, ("<content>", _CONTAINERS[base](value))]
    reducing = next(
        (base for base in cls.__mro__ if is_library(base.__module__) and _REDUCERS & set(vars(base))), object
    )
    if reducing is object:
        return parts
    return [*parts, *((f"<content>{edge}", part) for edge, part in _reduced(value, reducing))]


# What instances of subclasses hold beside their attributes, read by the methods of the builtin class.
_CONTAINERS = {
    **{cls: lambda value, cls=cls: cls(cls.__iter__(value)) for cls in (list, tuple, set, frozenset)},
    **{cls: lambda value, cls=cls: cls.__repr__(value) for cls in (int, float, complex, str, bytes)},
    dict: lambda value: [[key, item] for key, item in dict.items(value)],
    np.ndarray: lambda value: np.ndarray.view(value, np.ndarray),
}
_REDUCERS = {"__reduce__", "__reduce_ex__"}


def attributes(value: Any) -> list[tuple[str, Any]]:
    """Attributes of an instance that are content, sorted by name. Values that are derived from others are not.

    A class of this package names attributes that are no content in ``_transient``. A `cached_property` of a library is
    no content; one of the user's is a `CachedValue`.
    """
    cls = type(value)
    transient = {"__weakref__"}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == _PACKAGE:
            transient |= set(vars(base).get("_transient", ()))
    slots = {name: getattr(value, name) for name in slots_of(cls) if hasattr(value, name)}
    declared = {}
    if hasattr(cls, "declarative_attrs"):
        # TVB puts the default of a declared attribute on the instance when it is first read.
        declared = {name: getattr(cls, name).default for name in cls.declarative_attrs}
        transient |= _TRANSIENT_OF_TVB
    content = declared | slots | getattr(value, "__dict__", {})
    properties = _cached_properties(cls)
    if properties.keys() & content.keys():
        own = {name: attribute for name, attribute in content.items() if name not in properties}
        for name in properties.keys() & content.keys():
            base, cached_property = properties[name]
            if is_library(base.__module__):
                transient.add(name)
            else:
                recomputed = functools.partial(_recomputed, value, own, cached_property)
                content[name] = CachedValue(content[name], recomputed, functools.partial(_copy_of, value, own), name)
    found = ((name, attribute) for name, attribute in content.items() if name not in transient)
    return sorted(found, key=lambda item: str(item[0]))


def _cached_properties(cls):
    """(class that defines it, property) of each `cached_property`, by name."""
    found = {}
    for base in reversed(cls.__mro__):
        for name, attribute in vars(base).items():
            found.pop(name, None)
            if isinstance(attribute, functools.cached_property):
                found[name] = base, attribute
    return found


def _copy_of(value, own):
    """New instance of the same class with the given attributes."""
    new = object.__new__(type(value))
    for name, attribute in own.items():
        object.__setattr__(new, name, attribute)
    return new


def _recomputed(value, own, cached_property):
    return cached_property.func(_copy_of(value, own))


def slots_of(cls: type) -> list[str]:
    """Names of the attributes that instances of a class hold in slots."""
    return [
        name
        for base in cls.__mro__
        for name, attribute in vars(base).items()
        if type(attribute) is types.MemberDescriptorType
    ]


def _has_own_reduction(cls):
    return not issubclass(cls, PicklableMixin) and any(
        getattr(cls, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


def _reduced(value, cls=None):
    """Parts that pickle would write: they include state that attributes do not show. Nothing is unpickled.

    Parameters
    ----------
    value
    cls : type, optional
        Class whose method reduces the value; by default its own.
    """
    try:
        if cls is None:
            # Pickle looks here first, as for regular expressions.
            registered = copyreg.dispatch_table.get(type(value))
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        elif "__reduce_ex__" in vars(cls):
            reduced = cls.__reduce_ex__(value, 4)
        else:
            reduced = cls.__reduce__(value)
    except Exception as error:
        raise NotHashable(
            f"a {type(value).__module__}.{type(value).__qualname__} cannot be compared by content ({error}). Give the "
            "function what it needs of it, as numbers, arrays or functions."
        ) from None
    if isinstance(reduced, str):
        return [(".name", reduced), (".class", type(value))]
    names = (".class", ".arguments", ".state", ".items", ".pairs", ".setter")
    parts = (
        list(part) if name in (".items", ".pairs") and part else part
        for name, part in zip(names, reduced, strict=False)
    )
    return list(zip(names, parts, strict=False))


def _by_repr(value):
    return f"{type(value).__name__} {value!r}", []


for _class in (type(None), bool, type(...), slice, range, np.dtype, pathlib.PurePath):
    content_of.register(_class)(_by_repr)


@content_of.register(int)
@content_of.register(float)
@content_of.register(complex)
@content_of.register(str)
@content_of.register(bytes)
def _scalar(value):
    return _by_repr(value) if type(value) in (int, float, complex, str, bytes) else _of_subclass(value)


def _of_subclass(value):
    """Content of an instance of a subclass of a builtin class."""
    cls = type(value)
    if is_library(cls.__module__):
        return "reduced", _reduced(value)
    return "instance", _parts_of_user_instance(value, cls)


@content_of.register(np.ndarray)
@content_of.register(np.generic)
def _array(value):
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        return _of_subclass(value)
    array = np.asarray(value)
    label = f"{type(value).__name__} {array.dtype.descr if array.dtype.fields else array.dtype}{array.shape}"
    if array.dtype.hasobject:
        return label, [(f".flat[{index}]", item) for index, item in enumerate(array.ravel().tolist())]
    return f"{label} {hashlib.blake2b(np.ascontiguousarray(array), digest_size=16).hexdigest()}", []


@content_of.register(jax.Array)
def _jax_array(value):
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"key {jax.random.key_impl(value)}", [("", np.asarray(jax.random.key_data(value)))]
    return f"jax{' weak' * value.weak_type}", [("", np.asarray(value))]


@content_of.register(jax.core.Tracer)
def _tracer(value):
    raise NotHashable("a value that is being traced by JAX has no content yet. Call the function outside of jit.")


@content_of.register(np.random.RandomState)
def _random_state(value):
    # The position in the stream alone; the seed has no influence on further draws.
    return "random state", [("", value.get_state())]


@content_of.register(list)
@content_of.register(tuple)
@content_of.register(set)
@content_of.register(frozenset)
def _sequence(value):
    if type(value) not in (list, tuple, set, frozenset):
        return _of_subclass(value)
    return type(value).__name__, [(f"[{index}]", item) for index, item in enumerate(value)]


@content_of.register(dict)
@content_of.register(types.MappingProxyType)
def _mapping(value):
    if value is vars(builtins):
        # Also a namespace of a module has it, as `__builtins__`.
        return content_of(builtins)
    if type(value) not in (dict, types.MappingProxyType):
        return _of_subclass(value)
    items = [pair for key, item in value.items() for pair in ((".<key>", key), (f"[{_short_key(key)}]", item))]
    return type(value).__name__, items


def _short_key(key):
    """Key in a path of an error message. The key itself is a part of its own."""
    return repr(key) if isinstance(key, (str, int)) else "..."


@content_of.register(enum.Enum)
def _enum_member(value):
    own = {name: attribute for name, attribute in vars(value).items() if name not in ("__objclass__", "_sort_order_")}
    return "member", [("<class>", type(value)), *((f".{name}", part) for name, part in sorted(own.items()))]


@content_of.register(memoryview)
def _memoryview(value):
    return f"view {value.format} {value.shape}", [("", value.tobytes())]


@content_of.register(weakref.ReferenceType)
def _weak_reference(value):
    return "reference", [("()", value())]


@content_of.register(contextvars.ContextVar)
def _context_variable(value):
    return f"context variable {value.name}", [(".get()", value.get(None))]


@content_of.register(threading.local)
def _thread_local(value):
    own = ((f".{name}", part) for name, part in sorted(vars(value).items()))
    return "of this thread", [("<class>", type(value)), *own]


@content_of.register(type(os.environ))
def _environment_variables(value):
    return "environment", [("", dict(value))]


@content_of.register(LibraryValue)
def _library_value(value):
    return "held", [("", value.value)]


@content_of.register(logging.Logger)
def _logger(value):
    return "logger", []


@content_of.register(ClosedJaxpr)
def _closed_jaxpr(value):
    return _ADDRESS.sub("", str(value.jaxpr)), [(".consts", value.consts)]
