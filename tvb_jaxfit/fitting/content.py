"""What something consists of, as a digest: the same for what would compute the same, another for what might not.

Every object is a label and parts, each of them an object again. A user's function consists of its code and of all that
it uses: arguments' defaults, closure, globals and the functions among them, to the last. What a library holds stands
for itself by name and version; what has no content to be compared is refused by name.
"""

import dis
import enum
import functools
import hashlib
import importlib
import importlib.metadata
import logging
import pathlib
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

_SIZE = 16
# How deep a chain of objects may be: the interpreter has no room for more.
_DEEPEST = 200
# No content: what Python adds to a class of its own, and names that TVB draws at random.
_NOT_OF_A_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"}
_NOT_OF_AN_INSTANCE = {"gid", "title", "__weakref__"}


class NotKeyed(TypeError):
    """Something that cannot be compared by content."""


def digest(value, name="value"):
    """Digest of the content of anything, the same in every process.

    Parameters
    ----------
    value
        Numbers, arrays, containers, functions, classes, `State`s, TVB's objects, and instances of whatever consists of
        these.
    name : str, optional
        What errors call it.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    NotKeyed
        Where a part of it (named by its path) has no content: an open file, a generator, a lock.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.fitting.content import digest
    >>> def loss(x):
    ...     return scale * x
    >>> scale = np.ones(3)
    >>> before = digest(loss)
    >>> scale[1] = 2.0
    >>> digest(loss) == before
    False
    """
    return _Walk().digest(value, name).hex()


def environment():
    """What else numbers depend on: versions, precision, and what they are computed on."""
    names = ("jax", "jaxlib", "numpy", "optax", "tvb-library")
    settings = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    return {
        "python": sys.version_info[:3],
        "versions": [importlib.metadata.version(name) for name in names],
        "tvb_jaxfit": _own_sources(),
        "settings": [getattr(jax.config, name) for name in settings],
        "backend": jax.default_backend(),
    }


class _Walk:
    """One walk through the parts of something, each of them once."""

    def __init__(self):
        self._done, self._above = {}, []

    def digest(self, value, path):
        key = id(value)
        if key in self._done:
            return self._done[key][1]
        if key in self._above:
            # A part that holds the whole: how far above is what there is to say.
            return hashlib.blake2b(b"above %d" % self._above.index(key), digest_size=_SIZE).digest()
        if len(self._above) > _DEEPEST:
            raise NotKeyed(f"{path}: nested too deeply to be compared by content.")
        try:
            # An object() is nothing but itself: which one it is says the order.
            label, parts = (f"object {len(self._done)}", []) if type(value) is object else parts_of(value)
        except NotKeyed as error:
            raise NotKeyed(f"{path}: {error}") from None
        self._above.append(key)
        inner = [self.digest(part, f"{path}{edge}") for edge, part in parts]
        self._above.pop()
        if isinstance(value, (set, frozenset)):
            inner.sort()
        edges = [] if isinstance(value, (set, frozenset)) else [edge for edge, _ in parts]
        whole = hashlib.blake2b(repr((label, edges)).encode("utf-8", "surrogatepass"), digest_size=_SIZE)
        for part in inner:
            whole.update(part)
        # The value is held, so that its id stays its own.
        self._done[key] = value, whole.digest()
        return whole.digest()


@functools.singledispatch
def parts_of(value):
    """(label, parts): what something is, and (edge, part) of each thing that it consists of.

    Raises
    ------
    NotKeyed
        Where there is no saying.
    """
    kind = type(value)
    if hasattr(value, "__wrapped__"):
        # Of a compiled or a memoised function, the function.
        return f"wrapped {kind.__name__}", [(".__wrapped__", value.__wrapped__)]
    if kind.__name__ == "cython_function_or_method":
        return f"builtin {value.__module__}.{value.__qualname__}", []
    reduced = _reduced(value)
    if _reduces_by_itself(kind) or not (hasattr(value, "__dict__") or _slots(kind)):
        return "reduced", reduced
    return "instance", [("<class>", kind), *((f".{name}", part) for name, part in attributes(value))]


def attributes(value):
    """Attributes of an instance that are content: not what is worked out from others when it is first asked for."""
    kind = type(value)
    passing = {
        name for base in kind.__mro__ for name, of in vars(base).items() if isinstance(of, functools.cached_property)
    }
    passing |= _NOT_OF_AN_INSTANCE | set(getattr(kind, "_passing", ()))
    held = {name: getattr(value, name) for name in _slots(kind) if hasattr(value, name)}
    # What TVB declares is there when it is first asked for.
    declared = {name: getattr(kind, name).default for name in getattr(kind, "declarative_attrs", ())}
    return sorted((name, of) for name, of in (declared | held | vars_of(value)).items() if name not in passing)


def vars_of(value):
    """Attributes in an instance's dict."""
    return getattr(value, "__dict__", {})


def _slots(kind):
    return [name for base in kind.__mro__ for name, of in vars(base).items() if type(of) is types.MemberDescriptorType]


def _reduces_by_itself(kind):
    return any(
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


for _kind in (type(None), bool, int, float, complex, str, bytes, type(...), slice, range, np.dtype, pathlib.PurePath):
    parts_of.register(_kind)(_shown)


@parts_of.register(np.ndarray)
@parts_of.register(np.generic)
def _array(value):
    array = np.asarray(value)
    label = f"{type(value).__name__} {array.dtype.descr if array.dtype.fields else array.dtype}{array.shape}"
    if array.dtype.hasobject:
        return label, [(f".flat[{index}]", item) for index, item in enumerate(array.ravel().tolist())]
    return f"{label} {hashlib.blake2b(np.ascontiguousarray(array), digest_size=_SIZE).hexdigest()}", []


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
    return "sequence", [("<class>", type(value)), *((f"[{index}]", item) for index, item in enumerate(value))]


@parts_of.register(dict)
@parts_of.register(types.MappingProxyType)
def _mapping(value):
    items = [pair for key, item in value.items() for pair in ((".<key>", key), (f"[{key!r}]"[:80], item))]
    return "mapping", [("<class>", type(value)), *items]


@parts_of.register(enum.Enum)
def _member(value):
    return f"member {value.name}", [("<class>", type(value))]


@parts_of.register(logging.Logger)
def _logger(value):
    return "logger", []


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
    slots = _slots(value)
    parts = [(f".{name}", part) for name, part in sorted(own.items()) if name not in slots]
    return f"class {value.__qualname__}", [("<bases>", value.__bases__), *parts]


@parts_of.register(types.BuiltinFunctionType)
def _builtin(value):
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


@parts_of.register(types.MethodType)
def _method(value):
    return "method", [(".__self__", value.__self__), (".__func__", value.__func__)]


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
    # An example in a docstring is the user's, wherever it stands.
    if _is_of_a_library(value.__module__) and value.__code__.co_filename[:8] != "<doctest":
        # Defaults of what is made while it runs are content, as its closure is; others are the library's.
        made = "<locals>" in value.__qualname__
        return f"{_of_library(value.__module__)}.{value.__qualname__}", closure + made * defaults
    used = [(f" -> {name}", part) for name, part in _used(value.__code__, value.__globals__)]
    own = [(f".{name}", part) for name, part in sorted(vars(value).items())]
    return "function", [(".__code__", value.__code__), *closure, *defaults, *used, *own]


def _used(code, namespace):
    """Names of globals that code uses, or of what they are in modules, and what they stand for."""
    found = {}
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            name = instruction.argval
            found[name] = importlib.import_module(name or namespace["__package__"])
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and instruction.argval in namespace:
            name, value = instruction.argval, namespace[instruction.argval]
            # Of a module, what is used of it; what is used of a library's stands for itself.
            for following in instructions[index + 1 :]:
                attribute = following.argval
                if not isinstance(value, types.ModuleType) or following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                library = _is_of_a_library(value.__name__) and _of_library(value.__name__)
                name, value = f"{name}.{attribute}", getattr(value, attribute, None)
                if library and not isinstance(value, types.ModuleType):
                    value = f"{library}.{attribute}"
            found[name] = value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= dict(_used(constant, namespace))
    return sorted(found.items(), key=lambda item: item[0])


@functools.cache
def _is_of_a_library(name):
    """Whether a module is one that is installed, not written by the user."""
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or getattr(sys.modules.get(name), "__file__", None)
    return file is not None and bool({"site-packages", "dist-packages"} & set(pathlib.Path(file).parts))


def _of_library(name):
    """Name of a library's module, and its version."""
    version = getattr(sys.modules.get(name.partition(".")[0]), "__version__", "")
    return f"{name} {version if isinstance(version, str) else ''}"


@functools.cache
def _own_sources():
    """Digest of this package: its version stays the same while it is worked on."""
    home = pathlib.Path(__file__).parents[1]
    return digest([path.read_bytes() for path in sorted(home.rglob("*.py"))])


_ADDRESS = re.compile(" at 0x[0-9a-f]+")


@parts_of.register(ClosedJaxpr)
def _jaxpr(value):
    return _ADDRESS.sub("", str(value.jaxpr)), [(".consts", value.consts)]
