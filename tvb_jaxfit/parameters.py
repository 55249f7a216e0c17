"""Parameters: values of a state that are marked for a fit, with their bounds.

A `Parameter` holds the value in physical units. The optimiser changes an unconstrained value, from which the parameter
computes the physical one. A simulation needs the values alone (`strip_parameters`).

A dependent parameter is not free: its value is a function of the other leaves of the state. It is worked out when the
state becomes plain, within whatever JAX transforms, so that gradients pass through it.
"""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .checks.arrays import real_array
from .checks.options import boolean, check
from .persistence import serialisable
from .runtime.processes import PicklableMixin, refuse_forked
from .state import State
from .text import value_range

# A start value on a bound, whose unconstrained value would be infinite, is moved inside by this part of the range (or
# of 1, if the other bound is infinite).
_START_MARGIN = 1e-3


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class Parameter(PicklableMixin):
    """A value to fit, without bounds.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value: finite real numbers. None: the simulator's own value, in `fit` and where it is put into a state.
    regional : bool, optional
        One value for each region. A single start value is repeated, in `fit` and where it is put into a state.

    Raises
    ------
    ValueError
        The value is masked, complex, not finite, or not a number.

    Attributes
    ----------
    value : Array
        In physical units. ``state.model.w = state.model.w.value`` takes the parameter out of the fit.
    shape : tuple of int
        Settable: ``state.model.w.shape = (n_nodes,)`` makes a single value regional.
    estimate : Array
        Quantity that a fit determines: here the value itself.
    formula : str
        Formula of a value that is not free itself; else empty.
    is_dependent : bool
        True if the value is a function of the other leaves of a state.

    Examples
    --------
    >>> from tvb_jaxfit import Parameter
    >>> w = Parameter(0.3)
    >>> w.shape = (3,)
    >>> w
    Parameter(0.3 x 3)
    """

    formula = ""
    is_dependent = False

    def __init__(self, value: "ArrayLike | Parameter | None" = None, regional: bool = False):
        refuse_forked(type(self).__name__)
        check(type(self).__name__, regional=(regional, boolean))
        value = value.value if isinstance(value, Parameter) else value
        self.regional = bool(regional)
        self.value = None
        if value is not None:
            self.value = jnp.asarray(real_array(value, f"{type(self).__name__}: value"), jnp.result_type(float))
            self.check()

    def check(self) -> None:
        """Raise ValueError if a value is not finite, or there is none."""
        real_array(self.value, f"{type(self).__name__}: value", finite=True)
        if self.value.size == 0:
            raise ValueError(f"{type(self).__name__}: value of shape {self.value.shape}; give one number or more.")

    def reshape_like(self, former: Any, n_node: int | None = None) -> "Parameter":
        """Parameter as it replaces a value of a state. The state calls it on assignment.

        Parameters
        ----------
        former : Array or Parameter
            The value that is replaced. It is the start value if this parameter has none.
        n_node : int, optional
            Number of regions, if the state knows it. A regional parameter gets a value for each of them.

        Returns
        -------
        Parameter
            This one, or a copy.

        Raises
        ------
        ValueError
            A regional parameter replaces a value that cannot be regional, or has another number of values.
        """
        former = former.value if isinstance(former, Parameter) else former
        new = self
        if self.value is None and hasattr(former, "dtype"):
            new = self.with_value(former)
            new.check()
        if not self.regional or n_node is None or new.value is None or new.shape == (n_node,):
            return new._as_scalar() if new.shape == (1,) != getattr(former, "shape", ()) else new
        if jnp.shape(former) not in ((), (1,), (n_node,)):
            raise ValueError(
                f"{type(self).__name__}: regional=True in place of a value of shape {jnp.shape(former)}, which is "
                f"neither global (1,) nor regional ({n_node},). Leave regional=True out."
            )
        new = new.with_value(new.value)
        new.shape = (n_node,)
        return new

    def _as_scalar(self):
        """Copy with the value in the shape (): a state holds single values so."""
        new = self.with_value(self.value)
        new.shape = ()
        return new

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the value; None without a value."""
        return None if self.value is None else self.value.shape

    @shape.setter
    def shape(self, shape):
        shape = tuple(shape)
        if self.value.size != 1 and self.value.size != int(np.prod(shape)):
            raise ValueError(
                f"{type(self).__name__}.shape: a value of shape {self.value.shape} does not become {shape}; "
                "a single value can be repeated, others keep their number."
            )
        is_same_size = self.value.size == int(np.prod(shape))
        self.value = self.value.reshape(shape) if is_same_size else jnp.broadcast_to(jnp.ravel(self.value), shape)

    def to_unconstrained(self) -> jax.Array:
        """Unconstrained value, which an optimiser changes. Here it is the value itself."""
        return self.value

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Value in physical units of an unconstrained one: the inverse of `to_unconstrained`."""
        return unconstrained

    def with_unconstrained(self, unconstrained: jax.Array) -> Self:
        """Copy at an unconstrained value."""
        return self.with_value(self.from_unconstrained(unconstrained))

    def regional_changes(self, changes: jax.Array) -> jax.Array:
        """Changes of the regions' values that follow from changes of what is optimised."""
        return changes

    @property
    def estimate(self) -> jax.Array | None:
        """Quantity that a fit determines: here the value itself."""
        return self.value

    def with_value(self, value: jax.Array) -> Self:
        """Copy of this parameter, with its bounds, and another value."""
        return self.tree_unflatten(self.static_fields(), (value,))

    def static_fields(self) -> tuple:
        """Fields beside the value. They are part of the structure of a state's tree."""
        return (self.regional,)

    def __jax_array__(self):
        return self.value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)

    def __float__(self):
        return float(np.asarray(self.value).item())

    def __format__(self, spec):
        return format(float(self), spec) if spec else str(self)

    def __repr__(self):
        return f"{type(self).__name__}({self._description()})"

    def _description(self):
        if self.value is None:
            return "the simulator's own" + (", regional" if self.regional else "")
        if isinstance(self.value, jax.core.Tracer) or not hasattr(self.value, "size"):
            return str(self.value)
        array = np.asarray(self.value).ravel()
        if array.size and np.all(array == array[0]):
            return f"{array[0]:.6g}" + (f" x {array.size}" if array.size > 1 else "")
        return f"{value_range(array)}, shape {self.value.shape}"

    def tree_flatten_with_keys(self):
        """Value with its key, and the static fields, for JAX."""
        return [(jax.tree_util.GetAttrKey("value"), self.value)], self.static_fields()

    @classmethod
    def tree_unflatten(cls, static_fields, children):
        """Parameter from the static fields and the value, for JAX."""
        new = object.__new__(cls)
        (new.value,) = children
        new._set_static_fields(*static_fields)
        return new

    def _set_static_fields(self, regional):
        self.regional = regional


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class BoundedParameter(Parameter):
    r"""A value to fit that stays between bounds at every step.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value, within the bounds.
    lower_bound, upper_bound : float, optional
        Either may be infinite.
    regional : bool, optional
        As for `Parameter`.

    Raises
    ------
    ValueError
        The bounds are not in order, or the start value lies outside them.

    Notes
    -----
    The optimiser changes u, with ``x = lower + (upper - lower) sigmoid(4 u / (upper - lower))``, or a softplus if one
    bound is infinite. dx/du is at most 1, and 1 in the middle, so that learning rates keep the scale of the value. At a
    bound u is infinite: a start value on a bound is moved inside by 0.1 % of the range (or of 1).

    Examples
    --------
    >>> from tvb_jaxfit import BoundedParameter
    >>> BoundedParameter(0.3, 0.0, 1.0)
    BoundedParameter(0.3, in [0, 1])
    """

    def __init__(
        self,
        value: ArrayLike | Parameter | None = None,
        lower_bound: float = -np.inf,
        upper_bound: float = np.inf,
        regional: bool = False,
    ):
        name = type(self).__name__
        bounds = {"lower_bound": lower_bound, "upper_bound": upper_bound}
        bounds = [float(real_array(bound, f"{name}: {which}", shape=())) for which, bound in bounds.items()]
        self._set_static_fields(regional, *bounds)
        if not self.lower_bound < self.upper_bound:
            raise ValueError(
                f"{name}: bounds [{lower_bound}, {upper_bound}] are not in order; give lower_bound < upper_bound."
            )
        super().__init__(value, regional)

    def check(self) -> None:
        """Raise ValueError if a value lies outside the bounds, or is not finite."""
        if isinstance(self.value, jax.core.Tracer):
            return
        value = np.asarray(self.value)
        outside = ~((value >= self.lower_bound) & (value <= self.upper_bound))
        if outside.any():
            raise ValueError(
                f"{type(self).__name__}: {outside.sum()} of {value.size} start values lie outside "
                f"[{self.lower_bound:g}, {self.upper_bound:g}] (found {value[outside].min():g} to "
                f"{value[outside].max():g}). Widen the bounds or move the start."
            )
        super().check()

    def to_unconstrained(self) -> jax.Array:
        """Unconstrained value (see the notes of the class)."""
        return self._to_unconstrained(self.value)

    def _to_unconstrained(self, x):
        low, high = self.lower_bound, self.upper_bound
        if np.isinf(low) and np.isinf(high):
            return x
        if np.isfinite(low) and np.isfinite(high):
            return _inverse_sigmoid(x, low, high)
        return _inverse_softplus(x - low) if np.isfinite(low) else -_inverse_softplus(high - x)

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Value in physical units (see the notes of the class)."""
        low, high = self.lower_bound, self.upper_bound
        if np.isinf(low) and np.isinf(high):
            return unconstrained
        if np.isfinite(low) and np.isfinite(high):
            return _sigmoid(unconstrained, low, high)
        return low + jax.nn.softplus(unconstrained) if np.isfinite(low) else high - jax.nn.softplus(-unconstrained)

    def static_fields(self) -> tuple:
        """Fields beside the value: regional, and the bounds."""
        return (self.regional, self.lower_bound, self.upper_bound)

    def _set_static_fields(self, regional, lower_bound, upper_bound):
        super()._set_static_fields(regional)
        self.lower_bound, self.upper_bound = lower_bound, upper_bound

    def _description(self):
        return f"{super()._description()}, in [{self.lower_bound:g}, {self.upper_bound:g}]"


# Compiled as a whole: operation by operation, each would be compiled for each shape.
@jax.jit
def _inverse_sigmoid(x, low, high):
    p = (x - low) / (high - low)
    p = jnp.where(p <= 0.0, _START_MARGIN, jnp.where(p >= 1.0, 1.0 - _START_MARGIN, p))
    return (high - low) / 4.0 * (jnp.log(p) - jnp.log1p(-p))


@jax.jit
def _sigmoid(unconstrained, low, high):
    return jnp.clip(low + (high - low) * jax.nn.sigmoid(4.0 * unconstrained / (high - low)), low, high)


@jax.jit
def _inverse_softplus(distance):
    distance = jnp.where(distance <= 0.0, _START_MARGIN, distance)
    return distance + jnp.log(-jnp.expm1(-distance))


def is_parameter(node: Any) -> bool:
    """True if a node of the tree is a `Parameter`."""
    return isinstance(node, Parameter)


def strip_parameters(state: State) -> State:
    """Copy of a state with the value of each `Parameter` in its place. Dependent ones follow from the others."""
    return with_plain_values(resolve_dependents(state))


def resolve_dependents(state: State) -> State:
    """Copy of a state whose dependent parameters, which remain, have the values that follow from the other leaves."""
    for path, parameter in parameters_of(state).items():
        if parameter.is_dependent:
            state = with_parameters(state, {path: parameter.resolve(with_plain_values(state), path)})
    return state


def with_plain_values(state: State, is_replaced: Callable = is_parameter) -> State:
    """Copy of a state with the present values of parameters, or of those that a function selects, in their places."""
    return jax.tree.map(lambda node: node.value if is_replaced(node) else node, state, is_leaf=is_parameter)


def parameters_of(state: State) -> dict[str, Parameter]:
    """Every `Parameter` of a state, by path."""
    nodes = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_parameter)[0]
    return {path_name(path): node for path, node in nodes if is_parameter(node)}


def path_name(path: tuple) -> str:
    """Attribute path of a JAX key path: ``monitors[0].period``."""
    return jax.tree_util.keystr(path).lstrip(".")


def with_values(state: State, values: dict[str, jax.Array]) -> State:
    """Copy of a state with new values at some paths. Parameters there remain parameters.

    Parameters
    ----------
    state : State
        Not modified.
    values : dict of str to Array
        New values by path.

    Returns
    -------
    State
    """

    def replaced(path, node):
        name = path_name(path)
        if name not in values:
            return node
        return node.with_value(values[name]) if is_parameter(node) else values[name]

    return jax.tree_util.tree_map_with_path(replaced, state, is_leaf=is_parameter)


def with_parameters(state: State, parameters: dict[str, Parameter]) -> State:
    """Copy of a state with parameters, by path, in place of what is there."""

    def replaced(path, node):
        return parameters.get(path_name(path), node)

    return jax.tree_util.tree_map_with_path(replaced, state, is_leaf=is_parameter) if parameters else state


__all__ = ["BoundedParameter", "Parameter", "State", "parameters_of", "strip_parameters", "with_values"]
