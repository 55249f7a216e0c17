"""What objects consist of: a label, and parts that are objects again. Of code, see `code`."""

import enum
import functools
import hashlib
import logging
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from ..processes import Portable

# Names that TVB draws at random for its instances.
_NOT_OF_TVB = {"gid", "title"}
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


class NotKeyed(TypeError):
    """Something that cannot be compared by content."""


@functools.singledispatch
def parts_of(value):
    """(label, parts): what something is, and (edge, part) of each thing that it consists of.

    Raises
    ------
    NotKeyed
        Where there is no saying.
    """
    kind = type(value)
    if kind.__module__.startswith("numba.") and hasattr(value, "py_func"):
        # How it was compiled is no content.
        return "compiled", [(".py_func", value.py_func)]
    if kind.__name__ == "cython_function_or_method":
        return f"builtin {value.__module__}.{value.__qualname__}", []
    reduced = _reduced(value)
    if _reduces_by_itself(kind) or not (hasattr(value, "__dict__") or slots_of(kind)):
        return "reduced", reduced
    return "instance", [("<class>", kind), *((f".{name}", part) for name, part in attributes(value))]


def attributes(value):
    """Attributes of an instance that are content: not what is worked out from others when it is first asked for."""
    kind = type(value)
    passing = {
        name for base in kind.__mro__ for name, of in vars(base).items() if isinstance(of, functools.cached_property)
    }
    passing |= {"__weakref__", *getattr(kind, "_passing", ())}
    held = {name: getattr(value, name) for name in slots_of(kind) if hasattr(value, name)}
    declared = {}
    if hasattr(kind, "declarative_attrs"):
        # What TVB declares is there when it is first asked for.
        declared = {name: getattr(kind, name).default for name in kind.declarative_attrs}
        passing |= _NOT_OF_TVB
    return sorted(
        (name, of) for name, of in (declared | held | getattr(value, "__dict__", {})).items() if name not in passing
    )


def slots_of(kind):
    """Names of what the instances of a class hold beside their dict."""
    return [name for base in kind.__mro__ for name, of in vars(base).items() if type(of) is types.MemberDescriptorType]


def _reduces_by_itself(kind):
    return not issubclass(kind, Portable) and any(
        getattr(kind, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


def _reduced(value):
    """What pickle would write, as parts, with nothing run; it knows what has more to it than its attributes."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise NotKeyed(
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
    return _shown(value) if type(value) in (int, float, complex, str, bytes) else ("reduced", _reduced(value))


@parts_of.register(np.ndarray)
@parts_of.register(np.generic)
def _array(value):
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        return "reduced", _reduced(value)
    array = np.asarray(value)
    label = f"{type(value).__name__} {array.dtype.descr if array.dtype.fields else array.dtype}{array.shape}"
    if array.dtype.hasobject:
        return label, [(f".flat[{index}]", item) for index, item in enumerate(array.ravel().tolist())]
    return f"{label} {hashlib.blake2b(np.ascontiguousarray(array), digest_size=16).hexdigest()}", []


@parts_of.register(jax.Array)
def _jax_array(value):
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"key {jax.random.key_impl(value)}", [("", np.asarray(jax.random.key_data(value)))]
    return "jax", [("", np.asarray(value))]


@parts_of.register(jax.core.Tracer)
def _traced(value):
    raise NotKeyed("a value that is being traced by JAX has no content yet. Call the function outside of jit.")


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
        return "reduced", _reduced(value)
    return type(value).__name__, [(f"[{index}]", item) for index, item in enumerate(value)]


@parts_of.register(dict)
@parts_of.register(types.MappingProxyType)
def _mapping(value):
    if type(value) not in (dict, types.MappingProxyType):
        return "reduced", _reduced(value)
    items = [pair for key, item in value.items() for pair in ((".<key>", key), (f"[{_short(key)}]", item))]
    return type(value).__name__, items


def _short(key):
    """Key as an error names it; it is content by itself."""
    return repr(key) if isinstance(key, (str, int)) else "..."


@parts_of.register(enum.Enum)
def _member(value):
    return f"member {value.name}", [("<class>", type(value))]


@parts_of.register(logging.Logger)
def _logger(value):
    return "logger", []


@parts_of.register(ClosedJaxpr)
def _jaxpr(value):
    return _ADDRESS.sub("", str(value.jaxpr)), [(".consts", value.consts)]
