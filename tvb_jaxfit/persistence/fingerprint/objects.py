"""What objects consist of: a label, and parts that are objects again. Of code, see `code`."""

import contextvars
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

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from ...runtime.processes import PicklableMixin
from .installed import is_of_a_library

# Names that TVB draws at random for its instances, and its estimates of the memory and time that a run takes.
_NOT_OF_TVB = {
    *("gid", "title", "_runtime", "_storage_requirement"),
    *("_memory_requirement_guess", "_memory_requirement_census"),
}
_OWN = __name__.partition(".")[0]
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


class NotHashable(TypeError):
    """Something that cannot be compared by content."""


class Held:
    """Something that a library holds, such as a setting: what it consists of is content as far as it can be compared.

    Parameters
    ----------
    value
    """

    def __init__(self, value):
        self.value = value


class WorkedOut:
    """Value of a `cached_property`: content where it is not what the property gives.

    Parameters
    ----------
    value
        What the instance holds.
    again : callable
        () to what the property gives, worked out once more on a copy of the instance.
    rest : callable
        () to a copy of the instance without what was worked out.
    name : str
    """

    def __init__(self, value, again, rest, name):
        self.value, self.again, self.rest, self.name = value, again, rest, name


@functools.singledispatch
def parts_of(value):
    """(label, parts): what something is, and (edge, part) of each thing that it consists of.

    Raises
    ------
    NotHashable
        Where there is no saying.
    """
    kind = type(value)
    if kind.__module__.startswith("numba.") and hasattr(value, "py_func"):
        # How it was compiled is no content.
        return "compiled", [(".py_func", value.py_func)]
    if kind.__name__ == "cython_function_or_method":
        return f"builtin {value.__module__}.{value.__qualname__}", []
    if not is_of_a_library(kind.__module__):
        return "instance", _of_users(value, kind)
    reduced = _reduced(value)
    if _reduces_by_itself(kind) or not (hasattr(value, "__dict__") or slots_of(kind)):
        return "reduced", reduced
    return "instance", [("<class>", kind), *((f".{name}", part) for name, part in attributes(value))]


def _of_users(value, kind):
    """All that an instance of the user's class holds, whatever it says to pickle."""
    parts = [("<class>", kind), *((f".{name}", part) for name, part in attributes(value))]
    base = next((each for each in kind.__mro__ if is_of_a_library(each.__module__)), object)
    if base in _CONTAINERS:
        return [*parts, ("<content>", _CONTAINERS[base](value))]
    reducing = next(
        (each for each in kind.__mro__ if is_of_a_library(each.__module__) and _REDUCERS & set(vars(each))), object
    )
    if reducing is object:
        return parts
    return [*parts, *((f"<content>{edge}", part) for edge, part in _reduced(value, reducing))]


# What instances of subclasses hold beside their attributes, read in the way of the class that they extend.
_CONTAINERS = {
    **{kind: lambda value, kind=kind: kind(kind.__iter__(value)) for kind in (list, tuple, set, frozenset)},
    **{kind: lambda value, kind=kind: kind.__repr__(value) for kind in (int, float, complex, str, bytes)},
    dict: lambda value: [[key, item] for key, item in dict.items(value)],
    np.ndarray: lambda value: np.ndarray.view(value, np.ndarray),
}
_REDUCERS = {"__reduce__", "__reduce_ex__"}


def attributes(value):
    """Attributes of an instance that are content: not what is worked out from others when it is first asked for."""
    kind = type(value)
    passing = {"__weakref__"}
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == _OWN:
            passing |= set(vars(base).get("_transient", ()))
    held = {name: getattr(value, name) for name in slots_of(kind) if hasattr(value, name)}
    declared = {}
    if hasattr(kind, "declarative_attrs"):
        # What TVB declares is there when it is first asked for.
        declared = {name: getattr(kind, name).default for name in kind.declarative_attrs}
        passing |= _NOT_OF_TVB
    content = declared | held | getattr(value, "__dict__", {})
    properties = _cached_properties(kind)
    if properties.keys() & content.keys():
        plain = {name: of for name, of in content.items() if name not in properties}
        for name in properties.keys() & content.keys():
            base, of = properties[name]
            if is_of_a_library(base.__module__):
                passing.add(name)
            else:
                again = functools.partial(_worked_out_again, value, plain, of)
                content[name] = WorkedOut(content[name], again, functools.partial(_copy_of, value, plain), name)
    return sorted(((name, of) for name, of in content.items() if name not in passing), key=lambda item: str(item[0]))


def _cached_properties(kind):
    """(class that has it, property) of each `cached_property`, by name."""
    found = {}
    for base in reversed(kind.__mro__):
        for name, of in vars(base).items():
            found.pop(name, None)
            if isinstance(of, functools.cached_property):
                found[name] = base, of
    return found


def _copy_of(value, held):
    new = object.__new__(type(value))
    for name, of in held.items():
        object.__setattr__(new, name, of)
    return new


def _worked_out_again(value, held, of):
    return of.func(_copy_of(value, held))


def slots_of(kind):
    """Names of what the instances of a class hold beside their dict."""
    return [name for base in kind.__mro__ for name, of in vars(base).items() if type(of) is types.MemberDescriptorType]


def _reduces_by_itself(kind):
    return not issubclass(kind, PicklableMixin) and any(
        getattr(kind, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


def _reduced(value, kind=None):
    """What pickle would write, as parts, with nothing run; it knows what has more to it than its attributes.

    Parameters
    ----------
    value
    kind : type, optional
        The class whose way of reducing it is taken; by default its own.
    """
    try:
        if kind is None:
            reduced = value.__reduce_ex__(4)
        elif "__reduce_ex__" in vars(kind):
            reduced = kind.__reduce_ex__(value, 4)
        else:
            reduced = kind.__reduce__(value)
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


def _shown(value):
    return f"{type(value).__name__} {value!r}", []


for _kind in (type(None), bool, type(...), slice, range, np.dtype, pathlib.PurePath):
    parts_of.register(_kind)(_shown)


@parts_of.register(int)
@parts_of.register(float)
@parts_of.register(complex)
@parts_of.register(str)
@parts_of.register(bytes)
def _plain(value):
    return _shown(value) if type(value) in (int, float, complex, str, bytes) else _of_subclass(value)


def _of_subclass(value):
    """Of an instance of a class that extends a builtin one."""
    kind = type(value)
    return ("reduced", _reduced(value)) if is_of_a_library(kind.__module__) else ("instance", _of_users(value, kind))


@parts_of.register(np.ndarray)
@parts_of.register(np.generic)
def _array(value):
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        return _of_subclass(value)
    array = np.asarray(value)
    label = f"{type(value).__name__} {array.dtype.descr if array.dtype.fields else array.dtype}{array.shape}"
    if array.dtype.hasobject:
        return label, [(f".flat[{index}]", item) for index, item in enumerate(array.ravel().tolist())]
    return f"{label} {hashlib.blake2b(np.ascontiguousarray(array), digest_size=16).hexdigest()}", []


@parts_of.register(jax.Array)
def _jax_array(value):
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"key {jax.random.key_impl(value)}", [("", np.asarray(jax.random.key_data(value)))]
    return f"jax{' weak' * value.weak_type}", [("", np.asarray(value))]


@parts_of.register(jax.core.Tracer)
def _traced(value):
    raise NotHashable("a value that is being traced by JAX has no content yet. Call the function outside of jit.")


@parts_of.register(np.random.RandomState)
def _random_state(value):
    # Where it stands; what it was seeded from is no part of what it draws.
    return "random state", [("", value.get_state())]


@parts_of.register(list)
@parts_of.register(tuple)
@parts_of.register(set)
@parts_of.register(frozenset)
def _sequence(value):
    if type(value) not in (list, tuple, set, frozenset):
        return _of_subclass(value)
    return type(value).__name__, [(f"[{index}]", item) for index, item in enumerate(value)]


@parts_of.register(dict)
@parts_of.register(types.MappingProxyType)
def _mapping(value):
    if type(value) not in (dict, types.MappingProxyType):
        return _of_subclass(value)
    items = [pair for key, item in value.items() for pair in ((".<key>", key), (f"[{_short(key)}]", item))]
    return type(value).__name__, items


def _short(key):
    """Key as an error names it; it is content by itself."""
    return repr(key) if isinstance(key, (str, int)) else "..."


@parts_of.register(enum.Enum)
def _member(value):
    own = {name: of for name, of in vars(value).items() if name not in ("__objclass__", "_sort_order_")}
    return "member", [("<class>", type(value)), *((f".{name}", of) for name, of in sorted(own.items()))]


@parts_of.register(memoryview)
def _view(value):
    return f"view {value.format} {value.shape}", [("", value.tobytes())]


@parts_of.register(weakref.ReferenceType)
def _reference(value):
    return "reference", [("()", value())]


@parts_of.register(contextvars.ContextVar)
def _context_variable(value):
    return f"context variable {value.name}", [(".get()", value.get(None))]


@parts_of.register(threading.local)
def _of_this_thread(value):
    return "of this thread", [("<class>", type(value)), *((f".{name}", of) for name, of in sorted(vars(value).items()))]


@parts_of.register(type(os.environ))
def _process_environment(value):
    return "environment", [("", dict(value))]


@parts_of.register(Held)
def _held(value):
    return "held", [("", value.value)]


@parts_of.register(logging.Logger)
def _logger(value):
    return "logger", []


@parts_of.register(ClosedJaxpr)
def _jaxpr(value):
    return _ADDRESS.sub("", str(value.jaxpr)), [(".consts", value.consts)]
