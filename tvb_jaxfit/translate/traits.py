"""What a TVB object declares: which attributes are float parameters, and which are flags."""

from dataclasses import dataclass

import numpy as np
from tvb.basic.neotraits.api import Float, NArray


@dataclass(frozen=True)
class DeclaredParameter:
    """One float parameter that a class declares.

    Attributes
    ----------
    name : str
    is_scalar : bool
        A plain number (Float), not an array.
    shape : tuple of int or None
        Of a table whose size has nothing to do with regions (such as Zerlaut's P_e); None for a value that is global
        or regional.
    """

    name: str
    is_scalar: bool = False
    shape: tuple[int, ...] | None = None

    def read(self, owner):
        """TVB's own value."""
        return getattr(owner, self.name)

    def shaped(self, value):
        """Value as the state shows it: (1,) global, (n_node,) regional, a table as it is declared."""
        return value.reshape(self.shape) if self.shape is not None else value.reshape(-1)


def parameters(owner):
    """Float parameters of a TVB object, in the order of their declaration."""
    return [_declared(name, attribute) for name, attribute in _attributes(owner) if _is_float(owner, name, attribute)]


def as_declared(owner, values, regional=lambda value: value):
    """Parameters as an object's own code sees them: plain numbers and single values as declared, the rest by regional.

    Parameters
    ----------
    owner : HasTraits
    values : dict of str to Array
        Parameters, and what is derived from them, with axes of length 1 where they do not vary.
    regional : callable, optional
        Array of several values to the layout in which the code takes it.
    """
    numbers = {p.name for p in parameters(owner) if p.is_scalar}

    def one(name, value):
        if value.size > 1:
            return regional(value)
        return value.reshape(() if name in numbers else 1)

    return {name: one(name, value) for name, value in values.items()}


def flags(owner):
    """Names of the array attributes that are integers or booleans: facts, not parameters."""
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
    table = default is not None and np.size(default) != 1
    return DeclaredParameter(name, shape=np.shape(default) if table else None)
