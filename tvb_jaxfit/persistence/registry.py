"""Registry of the classes whose instances files may contain.

It imports neither NumPy nor JAX, so that light modules can register their classes.
"""

import importlib

_PACKAGE = __name__.partition(".")[0]
_CLASSES = {}


def serialisable(cls: type) -> type:
    """Register a class with `serialise`: a class decorator, the outermost one.

    Instances are stored as their attributes (``vars(instance)``), members of an Enum by name. A file contains the
    module and the name of the class.

    Parameters
    ----------
    cls : type
        A class at the top level of a module of this package, without slots.

    Returns
    -------
    type
        The class itself.
    """
    _CLASSES[class_name(cls)] = cls
    return cls


def class_name(cls: type) -> str:
    """Module and qualified name of a class, as files contain them."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_serialisable(cls: type) -> bool:
    """True if the class is registered."""
    return _CLASSES.get(class_name(cls)) is cls


def registered_class(name: str) -> type:
    """Class with the given module and name, as `class_name` returns them.

    Its module is imported if it belongs to this package; no other module is.

    Raises
    ------
    KeyError
        No class of this name is registered.
    ImportError
        This package has no such module.
    """
    module = name.rpartition(".")[0]
    if name not in _CLASSES and module.partition(".")[0] == _PACKAGE:
        importlib.import_module(module)
    return _CLASSES[name]
