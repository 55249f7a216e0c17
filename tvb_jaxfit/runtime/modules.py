"""Modules of Python, and objects of other classes that stand in their place."""

import sys
import types
from typing import Any


def is_module(value: Any) -> bool:
    """True for a module, and for an object of another class in `sys.modules`: ``tvb.simulator.models`` is one.

    Parameters
    ----------
    value
    """
    if isinstance(value, types.ModuleType):
        return True
    names = getattr(value, "__dict__", None)
    name = names.get("__name__") if type(names) is dict else None
    return isinstance(name, str) and sys.modules.get(name) is value
