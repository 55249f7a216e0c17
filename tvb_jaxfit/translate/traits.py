"""Traits that a TVB object declares: float parameters and flags."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvb.basic.neotraits.api import Float, HasTraits, NArray


@dataclass(frozen=True)
class DeclaredParameter:
    """One float parameter that a class declares.

    Attributes
    ----------
    name : str
    is_scalar : bool
        True for a number (Float), False for an array.
    shape : tuple of int or None
        Shape of a table whose size does not depend on the number of regions (such as Zerlaut's P_e); None for a value
        that is global or regional.
    """

    name: str
    is_scalar: bool = False
    shape: tuple[int, ...] | None = None

    def read(self, owner):
        """TVB's own value."""
        return getattr(owner, self.name)

    def shaped(self, value):
        """Value in the shape of the state: (1,) if global, (n_node,) if regional, a table as it is declared."""
        return value.reshape(self.shape) if self.shape is not None else value.reshape(-1)


def parameters(owner: HasTraits) -> list[DeclaredParameter]:
    """Float parameters of a TVB object, in the order of their declaration."""
    return [_declared(name, attribute) for name, attribute in _attributes(owner) if _is_float(owner, name, attribute)]


def as_declared(owner: HasTraits, values: dict, regional: Callable = lambda value: value) -> dict:
    """Parameters in the shapes in which an object's own code reads them.

    Parameters
    ----------
    owner : HasTraits
    values : dict of str to Array
        Parameters and attributes derived from them, with axes of length 1 where they do not vary.
    regional : callable, optional
        Applied to an array of several values, to give it the layout that the code expects.

    Returns
    -------
    dict of str to Array
        Single values have shape () if they are declared as numbers, else (1,).
    """
    scalars = {p.name for p in parameters(owner) if p.is_scalar}

    def declared(name, value):
        if value.size > 1:
            return regional(value)
        return value.reshape(() if name in scalars else 1)

    return {name: declared(name, value) for name, value in values.items()}


def flags(owner: HasTraits) -> list[str]:
    """Names of the array attributes of integers or booleans, which are no parameters."""
    return [name for name, a in _attributes(owner) if isinstance(a, NArray) and a.dtype.kind in "biu"]


def _attributes(owner):
    for name in type(owner).declarative_attrs:
        yield name, getattr(type(owner), name)


def _is_float(owner, name, attribute):
    if isinstance(attribute, NArray):
        return attribute.dtype.kind == "f" and vars(owner).get(name, attribute.default) is not None
    return isinstance(attribute, Float) and vars(owner).get(name, attribute.default) is not None


def _declared(name, attribute):
    if isinstance(attribute, Float):
        return DeclaredParameter(name, is_scalar=True)
    default = attribute.default
    is_table = default is not None and np.size(default) != 1
    return DeclaredParameter(name, shape=np.shape(default) if is_table else None)
