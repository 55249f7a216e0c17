"""What code consists of: modules, classes and functions, to the last one that they use.

Of a library, a name and a version; of what the user wrote, all that it is made of.
"""

import dis
import functools
import importlib
import pathlib
import sys
import sysconfig
import types

import jax
import numpy as np

from .parts import parts_of, slots_of

_STANDARD = pathlib.Path(sysconfig.get_path("stdlib"))
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
        # Defaults of what is made while it runs are content, as its closure is; others are the library's.
        made = "<locals>" in code.co_qualname
        place = f"{code.co_qualname} {code.co_firstlineno} {code.co_code}"
        return f"{_of_library(home)}.{place}", closure + made * defaults
    used = [(f" -> {name}", part) for name, part in _used(value.__code__, value.__globals__)]
    own = [(f".{name}", part) for name, part in sorted(vars(value).items())]
    return "function", [(".__code__", value.__code__), *closure, *defaults, *used, *own]


def _used(code, namespace):
    """Names of globals that code uses, or of what they are in modules, and what they stand for."""
    found = {}
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            level, names = (before.argval for before in instructions[index - 2 : index])
            found |= _imported("." * level + instruction.argval, names, namespace)
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


def _imported(name, names, namespace):
    """What a function imports when it is called."""
    try:
        module = importlib.import_module(name, namespace.get("__package__"))
    except ImportError:
        return {name: None}
    if _is_of_a_library(module.__name__) or not names or "*" in names:
        return {name: module}
    return {f"{name}.{one}": getattr(module, one, None) for one in names}


@functools.cache
def _is_of_a_library(name):
    """Whether a module is one that is installed, not written by the user."""
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    if top == __name__.partition(".")[0]:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    # By its place: a file of the user's may have the name of a standard module.
    file = pathlib.Path(file)
    return _STANDARD in file.parents or bool({"site-packages", "dist-packages"} & set(file.parts))


def _of_library(name):
    """Name of a library's module, and its version."""
    version = getattr(sys.modules.get(name.partition(".")[0]), "__version__", "")
    return f"{name} {version if isinstance(version, str) else ''}"
