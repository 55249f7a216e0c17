"""Dispatch of numpy functions that are called on a `MutableArray` without being looked up by name.

numpy calls ``__array_ufunc__`` or ``__array_function__`` of its arguments, for instance for a function taken from a
dict of functions. The counterparts are defined in `namespaces`, which imports `mutable_array`. It registers its look-up
here, so that `mutable_array` does not import it.
"""

from collections.abc import Callable

_lookups = []


def register_lookup(lookup: Callable) -> Callable:
    """Decorator: register a look-up, which maps a numpy function to its counterpart or None, for `call_counterpart`."""
    _lookups.append(lookup)
    return lookup


def call_counterpart(function: Callable, args, named):
    """Call the counterpart of a numpy function.

    Raises
    ------
    TypeError
        If no counterpart is registered.
    """
    counterparts = (lookup(function) for lookup in _lookups)
    found = next((counterpart for counterpart in counterparts if counterpart is not None), None)
    if found is None:
        name = getattr(function, "__name__", function)
        raise TypeError(f"{name} is not translated to JAX; write it with numpy's functions")
    return found(*args, **named)
