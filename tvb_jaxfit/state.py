"""The state: a tree of JAX arrays whose paths are the simulator's own attribute paths."""

import copy
import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from .checks.arrays import real_array
from .checks.suggestions import did_you_mean
from .markup import notebook_html, table, tag
from .persistence import serialisable
from .runtime.processes import PicklableMixin
from .text import value_range

# Types that are checked when they are put in the place of an array of real numbers.
_ARRAY_LIKE = (np.ndarray, np.generic, jax.Array, list, tuple, str, bytes, complex)
_PATH_ELEMENT = re.compile(r"([A-Za-z_]\w*)|\[(\d+)\]")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\])*")


@serialisable
@dataclass(frozen=True)
class Origin:
    """Simulator that a state belongs to: the properties that no array of the state contains.

    Attributes
    ----------
    region_labels : tuple of str
    components : tuple of (str, str)
        Path of each component, such as "model", and the name of its class.
    dt : float
        [ms]
    steps : tuple of int
        Integration steps between two samples of each monitor.
    domains : tuple of (str, float, float)
        Path, smallest and largest value of each parameter whose domain TVB declares, or whose formula has one.
    positive : tuple of str
        Paths of parameters that must be above 0 when a fit starts: the formula takes their root, or divides by them.
    """

    region_labels: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    dt: float
    steps: tuple[int, ...]
    domains: tuple[tuple[str, float, float], ...] = ()
    positive: tuple[str, ...] = ()

    def __repr__(self):
        model = dict(self.components).get("model", "").rpartition(".")[2]
        return f"<{model}, {len(self.region_labels)} regions>"


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class State(PicklableMixin):
    """Node of the state's tree. Its children are attributes.

    Parameters
    ----------
    static : iterable of (str, object), optional
        Static fields: values that are no arrays and that no transformation of JAX changes. They are part of the tree's
        structure.
    **children
        Arrays, `Parameter`s, axes (see `Space`), other nodes, or lists of nodes.

    Raises
    ------
    AttributeError
        An attribute that the node does not have is read or set. So a misspelt name adds nothing to the tree.
    ValueError
        An array of real numbers is replaced by a masked or complex array, or by something that is no number.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.state import State
    >>> state = State(model=State(w=jnp.asarray([0.3])))
    >>> state.model.w = jnp.asarray([0.5])
    >>> state.model.W
    Traceback (most recent call last):
        ...
    AttributeError: no 'W' here; there is: w. Did you mean 'w'?
    """

    # Number of regions, or None if unknown (see `with_n_regions`). Part of the tree's structure.
    _n_node = None

    def __init__(self, static: Iterable[tuple[str, Any]] = (), **children: Any):
        object.__setattr__(self, "_static", tuple(static))
        object.__setattr__(self, "_children", dict(children))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._children:
            return self._children[name]
        for field, value in self._static:
            if field == name:
                return value
        raise AttributeError(self._unknown_attribute(name))

    def __setattr__(self, name, value):
        if name not in self._children:
            raise AttributeError(self._unknown_attribute(name))
        self._children[name] = _adapted(name, value, self._children[name], self._n_node)

    def _unknown_attribute(self, name):
        if name in dict(self._static):
            return f"{name!r} is a static field of the simulation, not a value to set."
        names = list(self._children) + [field for field, _ in self._static]
        return f"no {name!r} here; there is: {', '.join(names)}.{did_you_mean(name, names)}"

    @property
    def static(self) -> dict[str, Any]:
        """Static fields by name."""
        return dict(self._static)

    def __dir__(self):
        return [*super().__dir__(), *self._children, *(field for field, _ in self._static)]

    def __contains__(self, name):
        return name in self._children

    def items(self) -> ItemsView[str, Any]:
        """Names and values of the children, in order."""
        return self._children.items()

    def replace(self, static: Mapping[str, Any] | None = None, **children: Any) -> Self:
        """Copy of this node with other values of some children and static fields."""
        for name in children:
            if name not in self._children:
                raise AttributeError(self._unknown_attribute(name))
        fields = dict(self._static) | dict(static or ())
        new = {name: _adapted(name, value, self._children[name], self._n_node) for name, value in children.items()}
        return _set_n_node(State(tuple(fields.items()), **(self._children | new)), self._n_node)

    def __copy__(self):
        return self.replace()

    def __deepcopy__(self, memo):
        # JAX's arrays are immutable and can be shared.
        return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else copy.deepcopy(leaf, memo), self)

    def tree_flatten_with_keys(self):
        """Children with their keys, and the structure, for JAX."""
        keyed = [(jax.tree_util.GetAttrKey(name), child) for name, child in self._children.items()]
        return keyed, (tuple(self._children), self._static, self._n_node)

    @classmethod
    def tree_unflatten(cls, aux, children):
        """Node from the structure and the children, for JAX."""
        names, static, n_node = aux
        node = _set_n_node(cls(static), n_node)
        node._children.update(zip(names, children, strict=True))
        return node

    def __repr__(self):
        return "\n".join(_tree_lines("State", self))

    def _repr_html_(self):
        values = list(_values_by_path("", self))
        marked = [(path, _value_text(value)) for path, value in values if _is_placeholder(value)]
        others = [(path, _value_text(value)) for path, value in values if not _is_placeholder(value)]
        return notebook_html(
            _heading("State", self),
            *([table(["marked", "value"], marked)] if marked else []),
            tag("details", tag("summary", f"{len(others)} other values"), table(["path", "value"], others)),
        )


def with_n_regions(node: Any, n_node: int) -> Any:
    """Copy of a state in which every node knows the number of regions. ``Parameter(regional=True)`` needs it.

    Parameters
    ----------
    node : State, list, or any value of a state
        Not modified.
    n_node : int

    Returns
    -------
    State, list, or the value itself

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit import Parameter
    >>> from tvb_jaxfit.state import State, with_n_regions
    >>> state = with_n_regions(State(model=State(w=jnp.asarray([0.3]))), 4)
    >>> state.model.w = Parameter(0.5, regional=True)
    >>> state.model.w
    Parameter(0.5 x 4)
    """
    if isinstance(node, list):
        return [with_n_regions(child, n_node) for child in node]
    if not isinstance(node, State):
        return node
    children = {name: with_n_regions(child, n_node) for name, child in node.items()}
    return _set_n_node(State(node._static, **children), n_node)


def n_regions(state: State) -> int | None:
    """Number of regions of a state; None if it did not come from a simulator."""
    return state._n_node


def _set_n_node(node, n_node):
    object.__setattr__(node, "_n_node", n_node)
    return node


def _is_placeholder(value):
    """True for what stands in the place of a value: a `Parameter`, or an axis of a `Space`."""
    return hasattr(type(value), "reshape_like")


def _adapted(name, value, former, n_node):
    """Value as it replaces a former one: checked, or reshaped by its own method ``reshape_like``.

    Only assignments are checked here. Maps over the tree put values in place unchecked, so that a simulation checks all
    of them again (`real_state`).
    """
    if _is_placeholder(value):
        return value.reshape_like(former, n_node)
    is_real = jax.numpy.issubdtype(getattr(former, "dtype", object), np.floating)
    if isinstance(value, _ARRAY_LIKE) and (is_real or _is_placeholder(former)):
        array = real_array(value, name)
        # A list would become a part of the tree's structure.
        value = array if isinstance(value, (list, tuple)) else value
        # A single value has the shape (), also where it is given as TVB writes it: np.array([0.3]).
        return value.reshape(()) if np.shape(value) == (1,) != getattr(former, "shape", ()) else value
    return value


def _value_text(value):
    if not hasattr(value, "dtype"):
        return repr(value)
    kind = f"{value.dtype}{list(value.shape)}"
    if isinstance(value, jax.core.Tracer) or value.size == 0:
        return kind
    return f"{value_range(value)}  {kind}"


def _heading(name, node):
    """Name of a node with its static fields. A field whose class has no repr of its own is shown as the class."""
    fields = [
        f"{field}={type(value).__name__ if type(value).__repr__ is object.__repr__ else repr(value)}"
        for field, value in node._static
    ]
    return name + (f"  ({', '.join(fields)})" if fields else "")


def _values_by_path(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, State):
        for name, child in node.items():
            yield from _values_by_path(f"{path}.{name}".lstrip("."), child)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _values_by_path(f"{path}[{index}]", child)
    else:
        yield path, node


def _tree_lines(name, node, indent=""):
    if isinstance(node, State):
        yield indent + _heading(name, node)
        for child_name, child in node.items():
            yield from _tree_lines(child_name, child, indent + "  ")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _tree_lines(f"{name}[{index}]", child, indent)
    else:
        yield f"{indent}{name} = {_value_text(node)}"


def _parse_path(path):
    """Names and indices of a path: ["monitors", 0, "period"]."""
    if not _PATH.fullmatch(path):
        raise AttributeError(f"{path!r} is no path; a path looks like 'model.w' or 'monitors[0].hrf_kernel.tau_s'.")
    return [(name or int(index)) for name, index in _PATH_ELEMENT.findall(path)]


def _child(node, element, path):
    try:
        return node[element] if isinstance(element, int) else getattr(node, element)
    except (IndexError, TypeError, AttributeError) as error:
        raise AttributeError(f"the state has no {path!r}: {error}") from None


def get_path(state: State, path: str) -> Any:
    """Value or node at a path such as ``monitors[0].hrf_kernel.tau_s``.

    Raises
    ------
    AttributeError
        The state has no such path. The message names those that it has.
    """
    node = state
    for element in _parse_path(path):
        node = _child(node, element, path)
    return node


def with_path(state: State, path: str, value: Any) -> State:
    """Copy of a state with another value at a path.

    Raises
    ------
    AttributeError
        As `get_path`.
    """

    def replaced(node, elements):
        if not elements:
            return value
        element, *rest = elements
        new = replaced(_child(node, element, path), rest)
        if isinstance(element, int):
            return [new if index == element else child for index, child in enumerate(node)]
        return node.replace(**{element: new})

    return replaced(state, _parse_path(path))
