"""Subclasses of TVB's classes: the base class that an object behaves as, and the attributes that it overrides."""

import inspect
import sys
import types
from collections.abc import Collection
from functools import cache

from tvb.basic.neotraits.api import Attr

# Names that the interpreter looks up on a class when TVB reads, sets or tests an object.
_IMPLICIT = ("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__bool__", "__len__", "__class__")
# Lists that the metaclass makes for each class.
_MADE_BY_METACLASS = ("_own_declarative_attrs", "_own_declarative_props")
_ENTRY_POINTS = ("configure", "run", "__call__")
_TVB_PACKAGES = ("tvb.simulator", "tvb.datatypes", "tvb.basic.neotraits")


def nearest_base(value, kinds: Collection[type]) -> type | None:
    """Nearest class among ``kinds`` in an object's MRO, whatever the subclass overrides; None without one."""
    return next((cls for cls in type(value).__mro__ if cls in kinds), None)


def supported_base(value, kinds: Collection[type]) -> type | None:
    """Class among ``kinds`` that an object behaves as.

    Parameters
    ----------
    value : object
        A TVB object.
    kinds : collection of type
        Classes of TVB.

    Returns
    -------
    type or None
        The nearest base class, if the object's class overrides nothing that TVB uses.
    """
    base = nearest_base(value, kinds)
    return base if base is not None and not overridden_attributes(type(value), base) else None


def overridden_attributes(cls: type, base: type, translated: Collection[str] = ()) -> tuple[str, ...]:
    """Attributes that TVB reads from ``base`` and that a subclass overrides.

    Parameters
    ----------
    cls, base : type
    translated : collection of str, optional
        Names whose code is translated, so that a subclass may override them.

    Returns
    -------
    tuple of str
        Empty for a subclass that only adds names, or only changes defaults of TVB's traits.
    """
    if cls is base:
        return ()
    if type(cls) is not type(base):
        return (f"its metaclass {type(cls).__name__}",)
    names = (names_read_by_tvb() & set(dir(base)) | set(_IMPLICIT)) - {*translated, *_MADE_BY_METACLASS}
    return tuple(name for name in sorted(names) if not _is_same(cls, base, name))


def _is_same(cls, base, name):
    ours, theirs = (inspect.getattr_static(owner, name, None) for owner in (cls, base))
    if ours is theirs:
        return True
    if isinstance(theirs, Attr):
        # The value of a trait is read from the object, so that its default, label and domain do not matter.
        return type(ours) is type(theirs) and getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
    constants = (bool, int, float, str, bytes, type(None))
    return isinstance(theirs, constants) and type(ours) is type(theirs) and ours == theirs


def unsupported_reason(value, kinds: Collection[type], translated: Collection[str] = ()) -> str:
    """Reason why an object is none of ``kinds``: "MyBold is not supported: it replaces sample of TVB's Bold"."""
    name, base = type(value).__name__, nearest_base(value, kinds)
    names = () if base is None else overridden_attributes(type(value), base, translated)
    return f"{name} is not supported" + (f": it replaces {', '.join(names)} of TVB's {base.__name__}" if names else "")


@cache
def names_read_by_tvb() -> frozenset[str]:
    """Names that TVB's code uses from configure() to the end of a run, directly or in the functions that it calls.

    Functions are matched by name alone. The set may therefore be too large, but a method outside of it is never called
    in a simulation.
    """
    used, waiting = set(), set(_ENTRY_POINTS)
    by_name = _code_of_tvb()
    while waiting:
        name = waiting.pop()
        used.add(name)
        for code in by_name.get(name, ()):
            waiting |= _names_in(code) - used
    return frozenset(used)


def _code_of_tvb():
    """Code objects of TVB's functions, methods and properties, by name."""
    by_name = {}
    for module in [module for name, module in list(sys.modules.items()) if name.startswith(_TVB_PACKAGES)]:
        for value in list(vars(module).values()):
            members = vars(value).items() if isinstance(value, type) else [(getattr(value, "__name__", ""), value)]
            for name, member in members:
                for function in _functions(member):
                    if (function.__module__ or "").startswith(_TVB_PACKAGES):
                        by_name.setdefault(name, set()).add(function.__code__)
    return by_name


def _functions(member):
    parts = (member.fget, member.fset) if isinstance(member, property) else (getattr(member, "__func__", member),)
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _names_in(code):
    """Names and identifier-like string constants in a code object."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names
