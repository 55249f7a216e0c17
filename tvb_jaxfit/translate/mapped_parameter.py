"""The table between the state and TVB: which attribute of which object every parameter of the state is.

`prepare` reads it forwards, `write_back` backwards, so reading and writing cannot drift apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class MappedParameter:
    """One parameter of the state and its place in TVB.

    Attributes
    ----------
    path : str
        Path in the state, which is the attribute path in the Simulator.
    owner : callable
        Simulator to the object that holds the value.
    name : str
        Attribute of the owner; or key, where ``parameters`` is true, in the owner's ``parameters`` dict.
    native : callable
        (ndarray, simulator) to the array in TVB's own shape.
    shaped : callable
        ndarray as TVB holds it to the shape that the state shows: () or (1,) global, (n_node,) regional.
    in_equation_dict: bool
        Whether the value is an item of an equation's parameters, where TVB keeps plain numbers.
    is_scalar: bool
        Whether TVB keeps a plain number, not an array.
    shapes : callable or None
        Simulator to the shapes that the state may show besides that of the simulator's own value; none by default, and
        one value where TVB keeps a plain number.
    positive : bool
        Whether TVB's formula takes a root of the value or divides by it: 0 has no finite slope, less gives no number.
    """

    path: str
    owner: Callable
    name: str
    native: Callable = lambda value, sim: value
    shaped: Callable = lambda value: value
    in_equation_dict: bool = False
    is_scalar: bool = False
    shapes: Callable | None = None
    positive: bool = False

    def read(self, sim):
        """TVB's own value, as it is."""
        owner = self.owner(sim)
        return owner.parameters[self.name] if self.in_equation_dict else getattr(owner, self.name)

    def state_value(self, sim):
        """Value as a leaf of the state: a JAX array of the default float type, one number of shape ()."""
        value = self.shaped(np.asarray(self.read(sim), dtype=float))
        return jnp.asarray(value.reshape(()) if value.shape == (1,) else value, jnp.result_type(float))

    def allowed_shapes(self, sim):
        """Shapes that a state of this simulator may show; (1,) stands for one value in any shape."""
        if self.shapes is not None:
            return tuple(dict.fromkeys([*self.shapes(sim), self.state_value(sim).shape or (1,)]))
        return ((1,),) if self.in_equation_dict or self.is_scalar else (self.state_value(sim).shape or (1,),)

    def tvb_value(self, value, sim):
        """Value of the state in TVB's shape and dtype, ready to be written."""
        # A copy: what JAX hands out is read-only, and TVB and its users write in place.
        value = np.array(value, dtype=float)
        if self.in_equation_dict and isinstance(self.read(sim), np.ndarray):
            return value.reshape(np.shape(self.read(sim)))
        if self.in_equation_dict or self.is_scalar:
            return float(value.reshape(()))
        return np.asarray(self.native(value, sim), order="C")

    def write(self, sim, native):
        """Put a native value in place."""
        owner = self.owner(sim)
        if self.in_equation_dict:
            owner.parameters[self.name] = native
        else:
            setattr(owner, self.name, native)

    def domain(self, sim):
        """Domain that TVB's trait declares, or None."""
        return None if self.in_equation_dict else getattr(getattr(type(self.owner(sim)), self.name), "domain", None)

    def bounds(self, sim):
        """(lowest, highest) value of the domain; of a positive value that TVB declares none for, (0, inf); or None."""
        domain = self.domain(sim)
        if domain is None:
            return (0.0, np.inf) if self.positive else None
        low, high = getattr(domain, "lo", None), getattr(domain, "hi", None)
        return (-np.inf if low is None else float(low), np.inf if high is None else float(high))


def global_or_regional(n_node):
    """Shapes of one value for all regions, or one for each."""
    return ((1,), (n_node,), (n_node, 1))


def is_allowed_shape(shape, allowed):
    """Whether a shape is an allowed one; (1,) stands for one value in any shape."""
    return tuple(shape) in allowed or ((1,) in allowed and int(np.prod(shape)) == 1)


def shape_problem(path, shape, allowed):
    """What is wrong with a shape that is not allowed, and which ones are."""
    regional = next((one for one in allowed if len(one) == 1 and one != (1,)), None)
    if (1,) in allowed and regional:
        return (
            f"{path}: shape {tuple(shape)} is neither global (one value) nor regional {regional}. Give one value, or "
            f"one for each of the {regional[0]} regions"
        )
    if (1,) in allowed:
        return f"{path}: shape {tuple(shape)}. Give one value"
    return f"{path}: shape {tuple(shape)}. Give shape {' or '.join(map(str, allowed))}"


def node_column(value, n_node, path):
    """Parameter as a column, (1, 1) global or (n_node, 1) regional, to meet states of (n_node, n_mode).

    Raises
    ------
    ValueError
        Where it is neither.
    """
    if value.size == 1:
        return jnp.reshape(value, (1, 1))
    if value.shape in ((n_node,), (n_node, 1)):
        return jnp.reshape(value, (n_node, 1))
    raise ValueError(
        f"State.{path}: shape {value.shape} is neither global (one value) nor regional ({n_node},). "
        f"Give one value, or one for each of the {n_node} regions."
    )
