"""What code uses by name: globals, builtins, imports, and what it reaches through modules."""

import builtins
import collections
import dis
import functools
import importlib
import os
import random
import sys
import types

import jax
import numpy as np

from .installed import is_of_a_library, of_library
from .objects import Held
from .untracked import Untracked, is_asked, unseen_attribute, unseen_callable

# Instructions that only prepare others.
_BETWEEN = {"CACHE", "PUSH_NULL", "PRECALL", "KW_NAMES", "EXTENDED_ARG", "RESUME", "NOP", "COPY_FREE_VARS", "MAKE_CELL"}
_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}
_ABSENT = "absent"
# Packages whose functions may have been replaced, whoever calls them.
_WATCHED = {"builtins", "math", "random", "numpy", "scipy", "pandas", "jax", "optax", "tvb", "tvb_jaxfit"}
# Streams and settings that functions of libraries read: what they hold is content.
_STREAMS = (np.random.RandomState, random.Random)
_STATEFUL = (*_STREAMS, type(os.environ))
# Of a method of these, what they hold is content.
_DATA = (list, tuple, dict, set, frozenset, str, bytes, bytearray, collections.deque, np.ndarray, jax.Array)
_DRAW_ENTROPY = (np.random.default_rng, np.random.RandomState, np.random.SeedSequence, random.Random)


def used(code, namespace, local=None):
    """Names that code uses, and what they stand for.

    Parameters
    ----------
    code : types.CodeType
    namespace : dict
        Its globals.
    local : dict, optional
        Modules, and what is in them, by the local names under which they were imported.

    Returns
    -------
    list of (str, object)
        In the order of the names. What cannot be seen is `Untracked`.
    """
    found, local = {}, dict(local or {})
    instructions = [each for each in dis.get_instructions(code) if each.opname not in _BETWEEN]
    for index, instruction in enumerate(instructions):
        name, following = instruction.argval, instructions[index + 1 :]
        if instruction.opname == "IMPORT_NAME":
            level, names = (before.argval for before in instructions[index - 2 : index])
            _add(found, _imported("." * level + name, names, namespace))
            local |= _bound("." * level + name, following, namespace)
        elif instruction.opname in _GLOBAL and name not in local:
            _add(found, _global(name, namespace, following))
        elif "LOAD" in instruction.opname and isinstance(name, (str, tuple)):
            name = name[-1] if isinstance(name, tuple) and name else name
            if name in local and instruction.opname not in _ATTRIBUTE and instruction.opname != "LOAD_CONST":
                _add(found, _reached(name, local[name], following, is_local=True))
        if instruction.opname in _ATTRIBUTE and unseen_attribute(name) is not None:
            found[f".{name}"] = unseen_attribute(name)
    found = _without_seeded(found)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add(found, dict(used(constant, namespace, local)))
    return sorted(found.items(), key=lambda item: item[0])


def _add(found, new):
    """Add names; what has the same one, and is something else, stays beside it."""
    for name, value in new.items():
        while name in found and not _are_same(found[name], value):
            name += "'"
        found[name] = value


def _are_same(one, other):
    if isinstance(one, Held) and isinstance(other, Held):
        return one.value is other.value
    return one is other or type(one) is type(other) is str and one == other


def _without_seeded(found):
    """Without the streams that the code seeds before it draws from them: where they stood is no matter."""
    first = {}
    for value in found.values():
        if _is_of_a_stream(value):
            first.setdefault(id(value.__self__), value.__name__)
    seeded = [owner for owner, name in first.items() if name in ("seed", "set_state", "setstate")]
    return {name: of for name, of in found.items() if not (_is_of_a_stream(of) and id(of.__self__) in seeded)}


def _is_of_a_stream(value):
    is_bound = isinstance(value, (types.BuiltinFunctionType, types.MethodType)) or _is_of_cython(value)
    return is_bound and isinstance(getattr(value, "__self__", None), _STREAMS)


def _is_of_cython(value):
    return type(value).__name__ == "cython_function_or_method"


def is_of_the_users(value):
    """Whether a callable, or what it wraps, was written by the user.

    Parameters
    ----------
    value
    """
    for _ in range(10):
        if isinstance(value, types.FunctionType):
            if _is_written_by_the_user(value):
                return True
        elif isinstance(value, type):
            return not is_of_a_library(value.__module__)
        inner = (vars(value) if hasattr(value, "__dict__") else {}).get("__wrapped__")
        inner = getattr(value, "func", None) if isinstance(value, functools.partial) else inner
        inner = value.__func__ if isinstance(value, types.MethodType) else inner
        if inner is None and is_of_a_library(type(value).__module__):
            inner = getattr(value, "__wrapped__", None) if callable(value) else None
        if inner is None or inner is value:
            break
        value = inner
    kind = type(value)
    return callable(value) and not is_of_a_library(kind.__module__) and not _is_of_cython(value)


def replaced():
    """Functions of the user's that stand in places of libraries: what a library calls may be one of them.

    Returns
    -------
    dict of str to object
        By module, class and name.
    """
    found = {}
    for home, module in list(sys.modules.items()):
        if home.partition(".")[0] not in _WATCHED or not isinstance(module, types.ModuleType):
            continue
        for name, value in list(vars(module).items()):
            if name[:1] == "_" and home == "builtins":
                continue
            if _is_written_by_the_user(value):
                found[f"{home}.{name}"] = value
            elif isinstance(value, type) and value.__module__ == home:
                inner = list(vars(value).items())
                found |= {f"{home}.{name}.{own}": of for own, of in inner if _is_written_by_the_user(of)}
    return found


def _is_written_by_the_user(value):
    if not isinstance(value, types.FunctionType):
        return False
    home = value.__globals__.get("__name__")
    # What libraries generate as text has no file and no module.
    is_of_a_module = value.__code__.co_filename[:8] != "<string>" or home in sys.modules
    return isinstance(home, str) and not is_of_a_library(home) and is_of_a_module


def _global(name, namespace, following):
    if name in namespace:
        return _reached(name, namespace[name], following)
    value = getattr(builtins, name, None)
    if unseen_callable(value) is not None or is_of_the_users(value):
        return {name: value}
    return {}


def _reached(name, value, following, is_local=False):
    """What is used of a module, by the attributes that are asked for; any other value itself."""
    of_library, asked = _is_library(value), 0
    for step in following:
        if step.opname not in _ATTRIBUTE or not (isinstance(value, types.ModuleType) or of_library):
            break
        if isinstance(value, types.FunctionType) or value is _ABSENT:
            break
        name, value, asked = f"{name}.{step.argval}", _attribute(value, step.argval), asked + 1
        of_library = of_library or _is_library(value)
        if is_of_the_users(value):
            break
    if of_library and not isinstance(value, types.ModuleType):
        return {name: _of_a_library(name, value, following[asked:])}
    # Of an import, what is imported is content by itself.
    return {} if is_local and not asked else {name: value}


def _is_library(value):
    home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return isinstance(value, (types.ModuleType, type)) and is_of_a_library(home)


def _attribute(value, name):
    try:
        return getattr(value, name)
    except Exception:
        return _ABSENT


def _of_a_library(name, value, following):
    """What stands for something that was reached in a library."""
    if value is sys.modules:
        return Untracked("sys.modules", False)
    if value is sys.stdin:
        return Untracked("sys.stdin", False)
    if any(value is each for each in (sys.stdout, sys.stderr, _ABSENT)):
        return name
    if is_of_the_users(value):
        return value
    if value is np.random.seed:
        # A function, where the others are methods of NumPy's stream.
        return np.random.rand.__self__.seed
    if value is os.environ or getattr(value, "__self__", None) is os.environ or value is os.getenv:
        return _variables(following)
    if callable(value):
        if is_asked(value):
            return Held(value())
        if unseen_callable(value) is not None or isinstance(getattr(value, "__self__", None), _STATEFUL):
            return value
        if isinstance(getattr(value, "__self__", None), _DATA):
            return Held([getattr(value, "__name__", name), value.__self__])
        is_called_empty = following and following[0].opname == "CALL" and following[0].argval == 0
        if is_called_empty and any(value is each for each in _DRAW_ENTROPY):
            return Untracked(f"{name}()", True)
        return _standing(name, value)
    return Held(value)


def _standing(name, value):
    """A callable of a library: its name, and which one it is."""
    home = getattr(value, "__module__", None) or type(value).__module__
    code = getattr(value, "__code__", None)
    place = f" {code.co_firstlineno} {code.co_code}" if isinstance(code, types.CodeType) else ""
    return f"{of_library(str(home))}.{getattr(value, '__qualname__', name)}{place}"


def _variables(following):
    """The variables of the process that are asked for: one by its name, or all."""
    asked, *after = [*following[:3], None]
    if asked is None or asked.opname != "LOAD_CONST" or not isinstance(asked.argval, str) or after[0] is None:
        return os.environ
    if after[0].opname == "STORE_SUBSCR":
        return f"sets {asked.argval}"
    # With a default, too.
    then = after[1] if after[0].opname == "LOAD_CONST" and after[1] is not None else after[0]
    if then.opname in ("CALL", "BINARY_SUBSCR") or then.argrepr == "[]":
        return f"{asked.argval} = {os.environ.get(asked.argval)!r}"
    return os.environ


def _imported(name, names, namespace):
    """What a function imports when it is called."""
    module = _module(name, namespace)
    if module is None:
        return {name: None}
    if is_of_a_library(module.__name__) or not names or "*" in names:
        return {name: module}
    return {f"{name}.{one}": getattr(module, one, None) for one in names}


def _bound(name, following, namespace):
    """Local names that an import binds."""
    module, bound = _module(name, namespace), {}
    if module is None or not following:
        return {}
    if following[0].opname.startswith("STORE"):
        # `import a.b` binds a.
        return {following[0].argval: _module(name.partition(".")[0], namespace) or module}
    for before, after in zip(following, following[1:], strict=False):
        if before.opname == "POP_TOP":
            break
        if before.opname == "IMPORT_FROM" and after.opname.startswith("STORE"):
            bound[after.argval] = getattr(module, before.argval, _ABSENT)
    return bound


def _module(name, namespace):
    try:
        return importlib.import_module(name, namespace.get("__package__"))
    except ImportError:
        return None
