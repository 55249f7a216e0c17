"""A parameter of the state and its place in TVB.

`prepare` reads the map of these (see `parameter_map`) forwards and `write_back` backwards, so that reading and writing
cannot drift apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class MappedParameter:
    """One parameter of the state and its place in TVB.

    Attributes
    ----------
    path : str
        Path in the state; also the attribute path in the Simulator.
    owner : callable
        Simulator to the object that holds the value.
    name : str
        Attribute of the owner; if ``in_equation_dict``, key of the owner's ``parameters`` dict.
    to_tvb : callable or None
        (ndarray, simulator) to the array in TVB's own shape; None for a parameter of one shape.
    to_state : callable
        ndarray as TVB holds it to the shape in the state: () or (1,) global, (n_node,) regional.
    in_equation_dict : bool
        True if the value is an item of an equation's ``parameters``, where TVB keeps plain numbers.
    is_scalar : bool
        True if TVB keeps a plain number, not an array.
    shapes : callable or None
        Simulator to the shapes that the state may have besides that of the simulator's own value. None allows no
        other shape, and one value if TVB keeps a plain number.
    positive : bool
        True if TVB's formula takes a root of the value or divides by it: the derivative at 0 is infinite, and a
        negative value gives no number.
    """

    path: str
    owner: Callable
    name: str
    to_tvb: Callable | None = None
    to_state: Callable = lambda value: value
    in_equation_dict: bool = False
    is_scalar: bool = False
    shapes: Callable | None = None
    positive: bool = False

    def read(self, sim: "Simulator") -> Any:
        """TVB's own value, as it is."""
        owner = self.owner(sim)
        return owner.parameters[self.name] if self.in_equation_dict else getattr(owner, self.name)

    def state_value(self, sim: "Simulator") -> jax.Array:
        """Value for the state: a JAX array of the default float type, a single number of shape ()."""
        value = self.to_state(np.asarray(self.read(sim), dtype=float))
        return jnp.asarray(value.reshape(()) if value.shape == (1,) else value, jnp.result_type(float))

    def allowed_shapes(self, sim: "Simulator") -> Shapes:
        """Shapes that a state of this simulator may have; (1,) stands for one value in any shape."""
        if self.shapes is not None:
            return tuple(dict.fromkeys([*self.shapes(sim), self.state_value(sim).shape or (1,)]))
        if self.in_equation_dict or self.is_scalar:
            return ((1,),)
        return (self.state_value(sim).shape or (1,),)

    def tvb_value(self, value: Any, sim: "Simulator") -> Any:
        """Value of the state in TVB's shape and dtype, ready to be written."""
        # A copy: arrays of JAX are read-only, and TVB and its users write in place.
        value = np.array(value, dtype=float)
        if self.in_equation_dict and isinstance(self.read(sim), np.ndarray):
            return value.reshape(np.shape(self.read(sim)))
        if self.in_equation_dict or self.is_scalar:
            return float(value.reshape(()))
        if self.to_tvb is not None:
            return np.asarray(self.to_tvb(value, sim), order="C")
        own_shape = np.shape(self.read(sim))
        return value.reshape(own_shape) if value.size == np.prod(own_shape, dtype=int) else value

    def write(self, sim: "Simulator", tvb_value: Any) -> None:
        """Put a value in TVB's shape and dtype in place."""
        owner = self.owner(sim)
        if self.in_equation_dict:
            owner.parameters[self.name] = tvb_value
        else:
            setattr(owner, self.name, tvb_value)

    def domain(self, sim: "Simulator") -> Any:
        """Domain that TVB's trait declares, or None."""
        if self.in_equation_dict:
            return None
        return getattr(getattr(type(self.owner(sim)), self.name), "domain", None)

    def bounds(self, sim: "Simulator") -> tuple[float, float] | None:
        """Lowest and highest value of the domain; (0, inf) for a positive value without a domain; else None."""
        domain = self.domain(sim)
        if domain is None:
            return (0.0, np.inf) if self.positive else None
        low, high = getattr(domain, "lo", None), getattr(domain, "hi", None)
        return (-np.inf if low is None else float(low), np.inf if high is None else float(high))


def global_or_regional(n_node: int) -> Shapes:
    """Shapes of one value for all regions, or one for each."""
    return ((1,), (n_node,), (n_node, 1))


def is_allowed_shape(shape: tuple[int, ...], allowed: Shapes) -> bool:
    """Return True if a shape is among the allowed ones; (1,) stands for one value in any shape."""
    return tuple(shape) in allowed or ((1,) in allowed and int(np.prod(shape)) == 1)


def shape_problem(path: str, shape: tuple[int, ...], allowed: Shapes) -> str:
    """Text on a shape that is not allowed: what was found, and which shapes to give."""
    regional = next((candidate for candidate in allowed if len(candidate) == 1 and candidate != (1,)), None)
    if (1,) in allowed and regional:
        return (
            f"{path}: shape {tuple(shape)} is neither global (one value) nor regional {regional}. Give one value, or "
            f"one for each of the {regional[0]} regions"
        )
    if (1,) in allowed:
        return f"{path}: shape {tuple(shape)}. Give one value"
    return f"{path}: shape {tuple(shape)}. Give shape {' or '.join(map(str, allowed))}"


def node_column(value: jax.Array, n_node: int, path: str) -> jax.Array:
    """Reshape a parameter to a column that broadcasts against states (n_node, n_mode).

    Returns
    -------
    Array, shape (1, 1) for a global value, (n_node, 1) for a regional one

    Raises
    ------
    ValueError
        If it is neither.
    """
    if value.size == 1:
        return jnp.reshape(value, (1, 1))
    if value.shape in ((n_node,), (n_node, 1)):
        return jnp.reshape(value, (n_node, 1))
    raise ValueError(
        f"State.{path}: shape {value.shape} is neither global (one value) nor regional ({n_node},). "
        f"Give one value, or one for each of the {n_node} regions."
    )
