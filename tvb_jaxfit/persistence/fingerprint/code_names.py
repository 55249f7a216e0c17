"""Names that code uses: globals, builtins, imports, and attributes that it reads from modules."""

import builtins
import collections
import dis
import functools
import importlib
import os
import random
import sys
import types
from typing import Any

import jax
import numpy as np

from ...runtime.modules import is_module
from .installed import is_library, library_label
from .objects import LibraryValue
from .untracked import Untracked, is_query, untracked_attribute, untracked_callable

# Instructions that only prepare others.
_AUXILIARY = {
    "CACHE",
    "PUSH_NULL",
    "PRECALL",
    "KW_NAMES",
    "EXTENDED_ARG",
    "RESUME",
    "NOP",
    "COPY_FREE_VARS",
    "MAKE_CELL",
}
_LOAD_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_LOAD_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}
_ABSENT = "absent"
# Packages in which a user's replacement of a function counts, whoever calls it.
_CHECKED_FOR_REPLACEMENTS = {
    "builtins",
    "math",
    "random",
    "numpy",
    "scipy",
    "pandas",
    "jax",
    "optax",
    "tvb",
    "tvb_jaxfit",
}
# Classes of a library whose state is content, for their bound methods too: random streams, environment variables.
_STREAMS = (np.random.RandomState, random.Random)
_STATEFUL = (*_STREAMS, type(os.environ))
# Classes of data: a bound method of an instance depends on the instance.
_DATA = (list, tuple, dict, set, frozenset, str, bytes, bytearray, collections.deque, np.ndarray, jax.Array)
# Constructors that draw entropy if they are called without arguments.
_DRAW_ENTROPY = (np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random)


def used_names(
    code: types.CodeType, namespace: dict[str, Any], local_imports: dict[str, Any] | None = None
) -> list[tuple[str, Any]]:
    """Names that code uses, with their values.

    Parameters
    ----------
    code : types.CodeType
    namespace : dict
        Its globals.
    local_imports : dict, optional
        Values of local names that enclosing functions have imported.

    Returns
    -------
    list of (str, object)
        Sorted by name. A dependency that cannot be tracked is `Untracked`.
    """
    found, local_imports = {}, dict(local_imports or {})
    instructions = [instruction for instruction in dis.get_instructions(code) if instruction.opname not in _AUXILIARY]
    for index, instruction in enumerate(instructions):
        name, following = instruction.argval, instructions[index + 1 :]
        if instruction.opname == "IMPORT_NAME":
            level, names = (previous.argval for previous in instructions[index - 2 : index])
            _add(found, _imported("." * level + name, names, namespace))
            local_imports |= _names_bound_by_import("." * level + name, following, namespace)
        elif instruction.opname in _LOAD_GLOBAL and name not in local_imports:
            _add(found, _global(name, namespace, following))
        elif "LOAD" in instruction.opname and isinstance(name, (str, tuple)):
            name = name[-1] if isinstance(name, tuple) and name else name
            if (
                name in local_imports
                and instruction.opname not in _LOAD_ATTRIBUTE
                and instruction.opname != "LOAD_CONST"
            ):
                _add(found, _attribute_chain(name, local_imports[name], following, is_import=True))
        if instruction.opname in _LOAD_ATTRIBUTE and untracked_attribute(name) is not None:
            found[f".{name}"] = untracked_attribute(name)
    found = _without_seeded_streams(found)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add(found, dict(used_names(constant, namespace, local_imports)))
    return sorted(found.items(), key=lambda item: item[0])


def _add(found, new):
    """Add names. A name that exists with another value gets an apostrophe."""
    for name, value in new.items():
        while name in found and not _are_same(found[name], value):
            name += "'"
        found[name] = value


def _are_same(first, second):
    if isinstance(first, LibraryValue) and isinstance(second, LibraryValue):
        return first.value is second.value
    return first is second or type(first) is type(second) is str and first == second


def _without_seeded_streams(found):
    """Names without the methods of random streams that the code seeds before it draws: their position is irrelevant."""
    first_method = {}
    for value in found.values():
        if _is_method_of_stream(value):
            first_method.setdefault(id(value.__self__), value.__name__)
    seeded = [owner for owner, name in first_method.items() if name in ("seed", "set_state", "setstate")]
    return {
        name: value
        for name, value in found.items()
        if not (_is_method_of_stream(value) and id(value.__self__) in seeded)
    }


def _is_method_of_stream(value):
    is_bound = isinstance(value, (types.BuiltinFunctionType, types.MethodType)) or _is_cython_function(value)
    return is_bound and isinstance(getattr(value, "__self__", None), _STREAMS)


def _is_cython_function(value):
    return type(value).__name__ == "cython_function_or_method"


def is_user_code(value: Any) -> bool:
    """True if a callable, or a callable that it wraps, was written by the user.

    Parameters
    ----------
    value
    """
    for _ in range(10):
        if isinstance(value, types.FunctionType):
            if _is_user_function(value):
                return True
        elif isinstance(value, type):
            return not is_library(value.__module__)
        inner = (vars(value) if hasattr(value, "__dict__") else {}).get("__wrapped__")
        inner = getattr(value, "func", None) if isinstance(value, functools.partial) else inner
        inner = value.__func__ if isinstance(value, types.MethodType) else inner
        if inner is None and is_library(type(value).__module__):
            inner = getattr(value, "__wrapped__", None) if callable(value) else None
        if inner is None or inner is value:
            break
        value = inner
    cls = type(value)
    return callable(value) and not is_library(cls.__module__) and not _is_cython_function(value)


def replaced_functions() -> dict[str, Any]:
    """Functions of the user's in the place of a library's: other functions of the library may call them.

    Returns
    -------
    dict of str to object
        By module, class and name.
    """
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] not in _CHECKED_FOR_REPLACEMENTS or not is_module(module):
            continue
        for name, value in list(vars(module).items()):
            if name[:1] == "_" and module_name == "builtins":
                continue
            if _is_user_function(value):
                found[f"{module_name}.{name}"] = value
            elif isinstance(value, type) and value.__module__ == module_name:
                members = list(vars(value).items())
                found |= {
                    f"{module_name}.{name}.{member}": function
                    for member, function in members
                    if _is_user_function(function)
                }
    return found


def _is_user_function(value):
    if not isinstance(value, types.FunctionType):
        return False
    module = value.__globals__.get("__name__")
    # Functions that libraries generate from text have no file, and no module in sys.modules.
    is_generated = value.__code__.co_filename[:8] == "<string>" and module not in sys.modules
    return isinstance(module, str) and not is_library(module) and not is_generated


def _global(name, namespace, following):
    if name in namespace:
        return _attribute_chain(name, namespace[name], following)
    value = getattr(builtins, name, None)
    if untracked_callable(value) is not None or is_user_code(value):
        return {name: value}
    return {}


def _attribute_chain(name, value, following, is_import=False):
    """Value of a name, or the attributes that the next instructions read from it if it is a module or of a library.

    Of a user's module only the attributes that are read are hashed. Those of a library are identified by name and
    version.
    """
    of_library, n_read = _is_of_library(value), 0
    for instruction in following:
        if instruction.opname not in _LOAD_ATTRIBUTE or not (is_module(value) or of_library):
            break
        if isinstance(value, types.FunctionType) or value is _ABSENT:
            break
        name, n_read = f"{name}.{instruction.argval}", n_read + 1
        value = _attribute(value, instruction.argval)
        of_library = of_library or _is_of_library(value)
        if is_user_code(value):
            break
    if of_library and not is_module(value):
        return {name: _library_part(name, value, following[n_read:])}
    # `_imported` has already added what an import binds.
    return {} if is_import and not n_read else {name: value}


def _is_of_library(value):
    if is_module(value):
        return is_library(value.__name__)
    return isinstance(value, type) and is_library(value.__module__)


def _attribute(value, name):
    try:
        return getattr(value, name)
    except Exception:
        return _ABSENT


def _library_part(name, value, following):
    """Part that represents a value of a library in the digest."""
    if value is sys.modules:
        return Untracked("sys.modules", False)
    if value is sys.stdin:
        return Untracked("sys.stdin", False)
    if any(value is constant for constant in (sys.stdout, sys.stderr, _ABSENT)):
        return name
    if is_user_code(value):
        return value
    if value is np.random.seed:
        # A function, where the other functions of np.random are methods of its stream.
        return np.random.rand.__self__.seed
    if value is os.environ or getattr(value, "__self__", None) is os.environ or value is os.getenv:
        return _environment_variables(following)
    return _library_callable(name, value, following) if callable(value) else LibraryValue(value)


def _library_callable(name, value, following):
    owner = getattr(value, "__self__", None)
    if is_query(value):
        return LibraryValue(value())
    if untracked_callable(value) is not None or isinstance(owner, _STATEFUL):
        return value
    if isinstance(owner, _DATA):
        return LibraryValue([getattr(value, "__name__", name), owner])
    has_no_arguments = following and following[0].opname == "CALL" and following[0].argval == 0
    if has_no_arguments and any(value is constructor for constructor in _DRAW_ENTROPY):
        return Untracked(f"{name}()", True)
    return _callable_label(name, value)


def _callable_label(name, value):
    """Name, version and code of a library's callable."""
    module = getattr(value, "__module__", None) or type(value).__module__
    code = getattr(value, "__code__", None)
    position = f" {code.co_firstlineno} {code.co_code}" if isinstance(code, types.CodeType) else ""
    return f"{library_label(str(module))}.{getattr(value, '__qualname__', name)}{position}"


def _environment_variables(following):
    """Environment variables that the code reads: one, if the next instructions name it, otherwise all."""
    variable, *after = [*following[:3], None]
    if variable is None or variable.opname != "LOAD_CONST" or not isinstance(variable.argval, str) or after[0] is None:
        return os.environ
    if after[0].opname == "STORE_SUBSCR":
        return f"sets {variable.argval}"
    # With a default, a second constant is loaded before the call.
    call = after[1] if after[0].opname == "LOAD_CONST" and after[1] is not None else after[0]
    if call.opname in ("CALL", "BINARY_SUBSCR") or call.argrepr == "[]":
        return f"{variable.argval} = {os.environ.get(variable.argval)!r}"
    return os.environ


def _imported(name, names, namespace):
    """Values that an import statement inside a function imports."""
    module = _import(name, namespace)
    if module is None:
        return {name: None}
    if is_library(module.__name__) or not names or "*" in names:
        return {name: module}
    return {f"{name}.{attribute}": getattr(module, attribute, None) for attribute in names}


def _names_bound_by_import(name, following, namespace):
    """Local names that an import statement binds, with their values."""
    module, bound = _import(name, namespace), {}
    if module is None or not following:
        return {}
    if following[0].opname.startswith("STORE"):
        # `import a.b` binds a.
        return {following[0].argval: _import(name.partition(".")[0], namespace) or module}
    for instruction, after in zip(following, following[1:], strict=False):
        if instruction.opname == "POP_TOP":
            break
        if instruction.opname == "IMPORT_FROM" and after.opname.startswith("STORE"):
            bound[after.argval] = getattr(module, instruction.argval, _ABSENT)
    return bound


def _import(name, namespace):
    try:
        return importlib.import_module(name, namespace.get("__package__"))
    except ImportError:
        return None
