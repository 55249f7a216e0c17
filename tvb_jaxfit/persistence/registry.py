"""Registry of the classes whose instances files may contain, and of the functions that files may name.

It imports neither NumPy nor JAX, so that light modules can register their classes.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

_PACKAGE = __name__.partition(".")[0]
_REGISTERED = {}
Registered = TypeVar("Registered", bound=Callable)


def serialisable(each: Registered) -> Registered:
    """Register a class or a function with `serialise`: a decorator, the outermost one.

    Instances are stored as their attributes (``vars(instance)``), members of an Enum by name, functions by name. A file
    contains the module and the name of the class or function.

    Parameters
    ----------
    each : type or function
        At the top level of a module of this package; a class without slots.

    Returns
    -------
    type or function
        The argument itself.
    """
    _REGISTERED[registered_name(each)] = each
    return each


def registered_name(each: Callable) -> str:
    """Module and qualified name of a class or function, as files contain them."""
    return f"{each.__module__}.{each.__qualname__}"


def is_serialisable(each: Any) -> bool:
    """True for a class or function that is registered."""
    return hasattr(each, "__qualname__") and _REGISTERED.get(registered_name(each)) is each


def registered(name: str) -> Callable:
    """Class or function with the given module and name, as `registered_name` returns them.

    Its module is imported if it belongs to this package; no other module is.

    Raises
    ------
    KeyError
        Nothing of this name is registered.
    ImportError
        This package has no such module.
    """
    module = name.rpartition(".")[0]
    if name not in _REGISTERED and module.partition(".")[0] == _PACKAGE:
        importlib.import_module(module)
    return _REGISTERED[name]
