"""Files: atomic writing, stored trees, fingerprints, and the cache on disk."""

import importlib

# Classes whose instances can be stored, by module and name.
_CLASSES = {}


def serialisable(kind):
    """Class decorator: `serialise` stores instances as their attributes."""
    _CLASSES[class_name(kind)] = kind
    return kind


def class_name(kind):
    """Module and name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def registered_class(name):
    """Class of a name in a file; KeyError where none is registered. Only modules of this package are imported."""
    module = name.rpartition(".")[0]
    if module.partition(".")[0] == __name__.partition(".")[0]:
        importlib.import_module(module)
    return _CLASSES[name]
