"""Functions of a fit outside its process: in a pickle they travel by value, in a file they are lost."""

import copy
import pickle
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..persistence import serialisable
from ..persistence.registry import is_serialisable
from ..runtime.remote import dumps
from ..targets.target import Target


class _Place:
    """Place of an option; it accepts any call that only checks it."""

    def __init__(self, option: Any):
        self.name = getattr(option, "__qualname__", type(option).__qualname__)

    def __call__(self, *_):
        """Not available."""
        raise ValueError("this function was lost when its fit was pickled or saved. Give it again.")

    init = update = __call__


@serialisable
class Lost(_Place):
    """Place of an option that cloudpickle does not pickle, or that no file contains.

    Parameters
    ----------
    option
        Its name remains.
    """

    def __repr__(self):
        return f"<lost: {self.name}>"


class _Travelling(_Place):
    """Place of an option in a pickle of any kind; it is unpickled as the option itself."""

    def __init__(self, option, content):
        super().__init__(option)
        self._content = content

    def __reduce__(self):
        return pickle.loads, (self._content,)


# True while a function is pickled. It may refer to the fit that it belongs to, as a function of a notebook does to the
# names of the notebook: that copy of the fit is without functions, for it would contain itself.
_is_open = ContextVar("is_open", default=False)


def travelling(option: Any) -> Any:
    """Option of a fit as a pickle contains it: functions by value, or `Lost` if cloudpickle does not pickle them.

    Parameters
    ----------
    option : object
        Function, optimizer, callback, target or None.

    Returns
    -------
    object
        Of a target of this package, a copy with its functions replaced likewise.
    """
    is_own_class = not isinstance(option, Target) or is_serialisable(type(option))
    return _with_functions(option, _by_value) if is_own_class else _by_value(option)


def storable(option: Any) -> Any:
    """Option of a fit as a file contains it: `Lost` in place of functions that are not this package's own.

    Parameters
    ----------
    option : object
        Function, optimizer, callback, target or None.

    Returns
    -------
    object
        Of a target, a copy with its functions replaced likewise.
    """
    return _with_functions(option, Lost)


def is_lost(option: Any) -> bool:
    """True for a function that was lost, and for a target with such a function."""
    return isinstance(option, Lost) or isinstance(option, Target) and any(map(is_lost, vars(option).values()))


def _by_value(option):
    if _is_open.get():
        return Lost(option)
    token = _is_open.set(True)
    try:
        return _Travelling(option, dumps(option))
    # Pickling fails with various errors.
    except Exception:
        return Lost(option)
    finally:
        _is_open.reset(token)


def _with_functions(option, replaced: Callable):
    if isinstance(option, Target):
        new = copy.copy(option)
        vars(new).update({name: _with_functions(each, replaced) for name, each in vars(option).items()})
        return new
    is_function = callable(option) or hasattr(option, "init")
    is_kept = is_serialisable(option) or isinstance(option, Lost)
    return replaced(option) if is_function and not is_kept else option
