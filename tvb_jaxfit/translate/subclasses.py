"""Subclasses of TVB's classes: which base a class behaves as, and which attributes make it behave otherwise."""

import inspect
import sys
import types
from functools import cache

from tvb.basic.neotraits.api import Attr

# What the interpreter itself looks up on a class when TVB reads, sets or tests an object.
_IMPLICIT = ("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__bool__", "__len__", "__class__")
# Lists that the metaclass makes of each class.
_MADE = ("_own_declarative_attrs", "_own_declarative_props")
_ENTRIES = ("configure", "run", "__call__")
_MODULES = ("tvb.simulator", "tvb.datatypes", "tvb.basic.neotraits")


def nearest_base(value, kinds):
    """Nearest class among ``kinds`` that an object is an instance of, whatever its subclass changes; or None."""
    return next((cls for cls in type(value).__mro__ if cls in kinds), None)


def supported_base(value, kinds):
    """Class among ``kinds`` that an object behaves as: its own, or the base that its subclass leaves as it is; or None.

    Parameters
    ----------
    value : object
        A TVB object.
    kinds : collection of type
        Classes of TVB's.
    """
    base = nearest_base(value, kinds)
    return base if base is not None and not overridden_attributes(type(value), base) else None


def overridden_attributes(cls, base, followed=()):
    """Attributes that TVB reads from ``base`` and that a subclass defines otherwise.

    Parameters
    ----------
    cls, base : type
    followed : collection of str, optional
        Names whose code is translated, so that a subclass may define them.

    Returns
    -------
    tuple of str
        Empty for a subclass that adds names of its own, or other defaults of TVB's traits, alone.
    """
    if cls is base:
        return ()
    if type(cls) is not type(base):
        return (f"its metaclass {type(cls).__name__}",)
    names = (names_read() & set(dir(base)) | set(_IMPLICIT)) - {*followed, *_MADE}
    return tuple(name for name in sorted(names) if not _same(cls, base, name))


def _same(cls, base, name):
    ours, theirs = (inspect.getattr_static(one, name, None) for one in (cls, base))
    if ours is theirs:
        return True
    if isinstance(theirs, Attr):
        # Another default, label or domain of the same kind of trait: its value is read from the object.
        return type(ours) is type(theirs) and getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
    plain = (bool, int, float, str, bytes, type(None))
    return isinstance(theirs, plain) and type(ours) is type(theirs) and ours == theirs


def unsupported_reason(value, kinds, followed=()):
    """Why an object is none of ``kinds``: "MyBold is not supported: it replaces sample of TVB's Bold"."""
    name, base = type(value).__name__, nearest_base(value, kinds)
    names = () if base is None else overridden_attributes(type(value), base, followed)
    return f"{name} is not supported" + (f": it replaces {', '.join(names)} of TVB's {base.__name__}" if names else "")


@cache
def names_read():
    """Names that TVB's code mentions, directly or through what it calls, on the way from configure() to a run's end.

    Returns
    -------
    frozenset of str
        By name alone, so rather too many: a method outside it is never called in a simulation.
    """
    mentioned, waiting = set(), set(_ENTRIES)
    by_name = _code_of_tvb()
    while waiting:
        name = waiting.pop()
        mentioned.add(name)
        for code in by_name.get(name, ()):
            waiting |= _mentions(code) - mentioned
    return frozenset(mentioned)


def _code_of_tvb():
    """Code of TVB's functions, methods and properties, by name."""
    by_name = {}
    for module in [module for name, module in list(sys.modules.items()) if name.startswith(_MODULES)]:
        for value in list(vars(module).values()):
            members = vars(value).items() if isinstance(value, type) else [(getattr(value, "__name__", ""), value)]
            for name, member in members:
                for function in _functions(member):
                    if (function.__module__ or "").startswith(_MODULES):
                        by_name.setdefault(name, set()).add(function.__code__)
    return by_name


def _functions(member):
    parts = (member.fget, member.fset) if isinstance(member, property) else (getattr(member, "__func__", member),)
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _mentions(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _mentions(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names
