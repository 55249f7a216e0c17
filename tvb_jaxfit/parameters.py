"""What is to be fitted: a value in the state, marked, with its bounds.

A `Parameter` holds the value itself, in physical units; what the optimiser moves is its unconstrained image. The state
that a simulation sees holds plain arrays (`strip_parameters`).
"""

import jax
import jax.numpy as jnp
import numpy as np

from .checks.arrays import real_array
from .checks.options import boolean, check
from .persistence import serialisable
from .runtime.processes import PicklableMixin, refuse_forked
from .state import State

# How far inside a value on its bound is taken, as a part of the range (or of 1): at the bound its image is infinite.
_INSIDE = 1e-3


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class Parameter(PicklableMixin):
    """A value to be fitted, without bounds.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value: finite real numbers. None: the simulator's own, in `fit` and where it is put into a state.
    regional : bool, optional
        One value for each region: a single start value is repeated, in `fit` and where it is put into a state.

    Raises
    ------
    ValueError
        Where the value is masked, complex, not finite, or not a number.

    Attributes
    ----------
    value : Array
        The value, in physical units. ``state.model.w = state.model.w.value`` freezes it.
    shape : tuple of int
        Settable: ``state.model.w.shape = (n_nodes,)`` makes a single value regional.

    Examples
    --------
    >>> from tvb_jaxfit import Parameter
    >>> w = Parameter(0.3)
    >>> w.shape = (3,)
    >>> w
    Parameter(0.3 x 3)
    """

    def __init__(self, value=None, regional=False):
        refuse_forked(type(self).__name__)
        check(type(self).__name__, regional=(regional, boolean))
        value = value.value if isinstance(value, Parameter) else value
        self.regional = bool(regional)
        self.value = None
        if value is not None:
            self.value = jnp.asarray(real_array(value, f"{type(self).__name__}: value"), jnp.result_type(float))
            self.check()

    def check(self):
        """Raise ValueError where a value is not finite, or there is none."""
        real_array(self.value, f"{type(self).__name__}: value", finite=True)
        if self.value.size == 0:
            raise ValueError(f"{type(self).__name__}: value of shape {self.value.shape}; give one number or more.")

    def reshape_like(self, former, n_node=None):
        """Return this parameter as it stands for a value of a state, which asks for it.

        Parameters
        ----------
        former : Array or Parameter
            The value that it is put in place of, from which it starts where it has no value of its own.
        n_node : int, optional
            Number of regions, where the state knows it: a regional parameter gets a value for each of them.

        Returns
        -------
        Parameter
            This one, or a copy.

        Raises
        ------
        ValueError
            A regional parameter in place of what cannot be regional, or with another number of values.
        """
        former = former.value if isinstance(former, Parameter) else former
        new = self
        if self.value is None and hasattr(former, "dtype"):
            new = self.with_value(former)
            new.check()
        if not self.regional or n_node is None or new.value is None or new.shape == (n_node,):
            return new._single() if new.shape == (1,) != getattr(former, "shape", ()) else new
        if jnp.shape(former) not in ((), (1,), (n_node,)):
            raise ValueError(
                f"{type(self).__name__}: regional=True in place of a value of shape {jnp.shape(former)}, which is "
                f"neither global (1,) nor regional ({n_node},). Leave regional=True out."
            )
        new = new.with_value(new.value)
        new.shape = (n_node,)
        return new

    def _single(self):
        """Copy whose one value is of shape (), as one number is in a state."""
        new = self.with_value(self.value)
        new.shape = ()
        return new

    @property
    def shape(self):
        """Shape of the value."""
        return None if self.value is None else self.value.shape

    @shape.setter
    def shape(self, shape):
        shape = tuple(shape)
        if self.value.size != 1 and self.value.size != int(np.prod(shape)):
            raise ValueError(
                f"{type(self).__name__}.shape: a value of shape {self.value.shape} does not become {shape}; "
                "a single value can be repeated, others keep their number."
            )
        same = self.value.size == int(np.prod(shape))
        self.value = self.value.reshape(shape) if same else jnp.broadcast_to(jnp.ravel(self.value), shape)

    def to_unconstrained(self):
        """Image of the value that an optimiser moves freely: here the value."""
        return self.value

    def from_unconstrained(self, image):
        """Value of an image; the inverse of `to_unconstrained`."""
        return image

    def with_value(self, value):
        """Copy of this parameter (bounds and all) with another value."""
        return self.tree_unflatten(self.static_fields(), (value,))

    def static_fields(self):
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
        return f"{type(self).__name__}({self._described()})"

    def _described(self):
        if self.value is None:
            return "the simulator's own" + (", regional" if self.regional else "")
        if isinstance(self.value, jax.core.Tracer) or not hasattr(self.value, "size"):
            return str(self.value)
        array = np.asarray(self.value).ravel()
        if array.size and np.all(array == array[0]):
            return f"{array[0]:.6g}" + (f" x {array.size}" if array.size > 1 else "")
        return f"{array.min():.6g} .. {np.median(array):.6g} .. {array.max():.6g}, shape {self.value.shape}"

    def tree_flatten_with_keys(self):
        """The value, for JAX."""
        return [(jax.tree_util.GetAttrKey("value"), self.value)], self.static_fields()

    @classmethod
    def tree_unflatten(cls, facts, children):
        """Parameter from JAX's flat form."""
        new = object.__new__(cls)
        (new.value,) = children
        new._take(*facts)
        return new

    def _take(self, regional):
        self.regional = regional


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class BoundedParameter(Parameter):
    r"""A value to be fitted, kept between bounds at every step.

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
        Where the bounds are not in order or exclude the start value.

    Notes
    -----
    The optimiser moves u, with x = lower + (upper - lower) sigmoid(4 u / (upper - lower)), or a softplus where one
    bound is infinite. dx/du is at most 1, and 1 in the middle, so learning rates keep the scale of the value. At a
    bound the image is infinite: a start value on a bound is taken 0.1 % of the range (or of 1) inside it.

    Examples
    --------
    >>> from tvb_jaxfit import BoundedParameter
    >>> BoundedParameter(0.3, 0.0, 1.0)
    BoundedParameter(0.3, in [0, 1])
    """

    def __init__(self, value=None, lower_bound=-np.inf, upper_bound=np.inf, regional=False):
        name = type(self).__name__
        bounds = {"lower_bound": lower_bound, "upper_bound": upper_bound}
        bounds = [float(real_array(bound, f"{name}: {which}", shape=())) for which, bound in bounds.items()]
        self._take(regional, *bounds)
        if not self.lower_bound < self.upper_bound:
            raise ValueError(
                f"{name}: bounds [{lower_bound}, {upper_bound}] are not in order; give lower_bound < upper_bound."
            )
        super().__init__(value, regional)

    def check(self):
        """Raise ValueError where the value lies outside the bounds, or is not finite."""
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

    def to_unconstrained(self):
        """Image of the value (see Notes of the class)."""
        return self._image_of(self.value)

    def _image_of(self, x):
        low, high = self.lower_bound, self.upper_bound
        if np.isinf(low) and np.isinf(high):
            return x
        if np.isfinite(low) and np.isfinite(high):
            p = (x - low) / (high - low)
            p = jnp.where(p <= 0.0, _INSIDE, jnp.where(p >= 1.0, 1.0 - _INSIDE, p))
            return (high - low) / 4.0 * (jnp.log(p) - jnp.log1p(-p))
        distance = x - low if np.isfinite(low) else high - x
        distance = jnp.where(distance <= 0.0, _INSIDE, distance)
        image = distance + jnp.log(-jnp.expm1(-distance))
        return image if np.isfinite(low) else -image

    def from_unconstrained(self, image):
        """Value of an image (see Notes of the class)."""
        low, high = self.lower_bound, self.upper_bound
        if np.isinf(low) and np.isinf(high):
            return image
        if np.isfinite(low) and np.isfinite(high):
            return jnp.clip(low + (high - low) * jax.nn.sigmoid(4.0 * image / (high - low)), low, high)
        return low + jax.nn.softplus(image) if np.isfinite(low) else high - jax.nn.softplus(-image)

    def static_fields(self):
        return (self.regional, self.lower_bound, self.upper_bound)

    def _take(self, regional, lower_bound, upper_bound):
        super()._take(regional)
        self.lower_bound, self.upper_bound = lower_bound, upper_bound

    def _described(self):
        return f"{super()._described()}, in [{self.lower_bound:g}, {self.upper_bound:g}]"


def is_parameter(node):
    """Whether a node of the tree is a `Parameter`."""
    return isinstance(node, Parameter)


def strip_parameters(state):
    """State with every `Parameter` replaced by its value: what a simulation sees.

    Parameters
    ----------
    state : State
        Not modified.

    Returns
    -------
    State
    """
    return jax.tree.map(lambda node: node.value if is_parameter(node) else node, state, is_leaf=is_parameter)


def parameters_of(state):
    """Every `Parameter` of a state, by path.

    Returns
    -------
    dict of str to Parameter
    """
    found = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_parameter)[0]
    return {path_name(path): node for path, node in found if is_parameter(node)}


def path_name(path):
    """JAX key path as the attribute path of the simulator: ``monitors[0].period``."""
    return jax.tree_util.keystr(path).lstrip(".")


def with_values(state, values):
    """State with the parameters at some paths given new values, staying parameters.

    Parameters
    ----------
    state : State
        Not modified.
    values : dict of str to Array

    Returns
    -------
    State
    """

    def place(path, node):
        name = path_name(path)
        if name not in values:
            return node
        return node.with_value(values[name]) if is_parameter(node) else values[name]

    return jax.tree_util.tree_map_with_path(place, state, is_leaf=is_parameter)


__all__ = ["BoundedParameter", "Parameter", "State", "parameters_of", "strip_parameters", "with_values"]
