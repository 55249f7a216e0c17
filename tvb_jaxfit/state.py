"""The state: one tree of plain arrays whose paths are the simulator's own attribute paths."""

import copy
import re
from dataclasses import dataclass

import jax
import numpy as np

from .checks.arrays import real_array
from .checks.suggestions import did_you_mean
from .markup import notebook_html, table, tag
from .persistence import serialisable
from .runtime.processes import PicklableMixin

# What may stand for an array in a state.
_ARRAYS = (np.ndarray, np.generic, jax.Array, list, tuple, str, bytes, complex)
_STEP_OF_PATH = re.compile(r"([A-Za-z_]\w*)|\[(\d+)\]")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*|\[\d+\])*")


@serialisable
@dataclass(frozen=True)
class Origin:
    """Simulator that a state belongs to, as far as no array says it.

    Attributes
    ----------
    region_labels : tuple of str
    components : tuple of (str, str)
        Path of each component, such as "model", and the name of its class.
    dt : float
        [ms]
    steps : tuple of int
        Steps between two samples of each monitor.
    domains : tuple of (str, float, float)
        Path, lowest and highest value of each parameter for which TVB declares them, or its formula needs them.
    positive : tuple of str
        Paths of parameters that a fit has to begin above 0: the formula takes their root, or divides by them.
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
    """A node of the tree: named children, reached as attributes.

    Parameters
    ----------
    static : tuple of (str, object), optional
        Facts that are no arrays and that no transformation touches: part of the tree's structure.
    **children
        Arrays, `Parameter`s, axes (see `Space`), other nodes, or lists of nodes.

    Raises
    ------
    AttributeError
        When an attribute that the tree does not have is read or set: nothing is added by a slip of the pen.
    ValueError
        When an array of real numbers is replaced by what is masked, complex or no numbers.

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

    # Number of regions, where it is known (see `with_n_regions`); part of the tree's structure.
    _n_node = None

    def __init__(self, static=(), **children):
        object.__setattr__(self, "_static", tuple(static))
        object.__setattr__(self, "_children", dict(children))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._children:
            return self._children[name]
        for fact, value in self._static:
            if fact == name:
                return value
        raise AttributeError(self._unknown(name))

    def __setattr__(self, name, value):
        if name not in self._children:
            raise AttributeError(self._unknown(name))
        self._children[name] = _placed(name, value, self._children[name], self._n_node)

    def _unknown(self, name):
        if name in dict(self._static):
            return f"{name!r} is a fact of the simulation, not a value to set."
        names = list(self._children) + [fact for fact, _ in self._static]
        return f"no {name!r} here; there is: {', '.join(names)}.{did_you_mean(name, names)}"

    @property
    def static(self):
        """Facts that are no arrays, by name."""
        return dict(self._static)

    def __dir__(self):
        return [*super().__dir__(), *self._children, *(fact for fact, _ in self._static)]

    def __contains__(self, name):
        return name in self._children

    def items(self):
        """Names and values of the children, in order."""
        return self._children.items()

    def replace(self, static=None, **children):
        """Copy of this node with some children (and static facts) replaced."""
        for name in children:
            if name not in self._children:
                raise AttributeError(self._unknown(name))
        facts = dict(self._static) | dict(static or ())
        placed = {name: _placed(name, value, self._children[name], self._n_node) for name, value in children.items()}
        return _sized(State(tuple(facts.items()), **(self._children | placed)), self._n_node)

    def __copy__(self):
        return self.replace()

    def __deepcopy__(self, memo):
        # JAX's arrays are immutable: a new tree around them is a full copy.
        return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else copy.deepcopy(leaf, memo), self)

    def tree_flatten_with_keys(self):
        """Children with their keys, for JAX."""
        keyed = [(jax.tree_util.GetAttrKey(name), child) for name, child in self._children.items()]
        return keyed, (tuple(self._children), self._static, self._n_node)

    @classmethod
    def tree_unflatten(cls, aux, children):
        """Node from JAX's flat form."""
        names, static, n_node = aux
        node = _sized(cls(static), n_node)
        node._children.update(zip(names, children, strict=True))
        return node

    def __repr__(self):
        return "\n".join(_lines("State", self))

    def _repr_html_(self):
        rows = list(_rows("", self))
        marked = [(path, _summary(value)) for path, value in rows if hasattr(type(value), "reshape_like")]
        others = [(path, _summary(value)) for path, value in rows if not hasattr(type(value), "reshape_like")]
        return notebook_html(
            _title("State", self),
            *([table(["marked", "value"], marked)] if marked else []),
            tag("details", tag("summary", f"{len(others)} other values"), table(["path", "value"], others)),
        )


def with_n_regions(node, n_node):
    """Copy of a state in which every node knows the number of regions, as ``Parameter(regional=True)`` needs it.

    Parameters
    ----------
    node : State, list, or anything that such a tree holds
        Not modified.
    n_node : int

    Returns
    -------
    State, or what was given

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
    return _sized(State(node._static, **children), n_node)


def n_regions(state):
    """Number of regions of a state; None of one that no simulator gave."""
    return state._n_node


def _sized(node, n_node):
    object.__setattr__(node, "_n_node", n_node)
    return node


def _placed(name, value, former, n_node):
    """What stands in for a value, such as an axis or a `Parameter`, takes the shape of the value."""
    if hasattr(type(value), "reshape_like"):
        return value.reshape_like(former, n_node)
    is_number = jax.numpy.issubdtype(getattr(former, "dtype", object), np.floating)
    if isinstance(value, _ARRAYS) and (is_number or hasattr(type(former), "reshape_like")):
        # Masks and imaginary parts would be lost in the simulation; a list would be a part of the tree.
        array = real_array(value, name)
        value = array if isinstance(value, (list, tuple)) else value
        # One number is of shape (), also where it is written as TVB writes it: np.array([0.3]).
        return value.reshape(()) if np.shape(value) == (1,) != getattr(former, "shape", ()) else value
    return value


def _summary(value):
    if not hasattr(value, "dtype"):
        return repr(value)
    kind = f"{value.dtype}{list(value.shape)}"
    if isinstance(value, jax.core.Tracer) or value.size == 0:
        return kind
    array = np.asarray(value)
    if array.size == 1:
        return f"{array.item():.6g}  {kind}"
    return f"{array.min():.6g} .. {np.median(array):.6g} .. {array.max():.6g}  {kind}"


def _title(name, node):
    """Name of a node, and its facts; what has no text of its own is shown as its class."""
    has_text = {fact: type(value).__repr__ is not object.__repr__ for fact, value in node._static}
    facts = [
        f"{fact}={value!r}" if has_text[fact] else f"{fact}={type(value).__name__}" for fact, value in node._static
    ]
    return name + (f"  ({', '.join(facts)})" if facts else "")


def _rows(path, node):
    """Paths and values."""
    if isinstance(node, State):
        for name, child in node.items():
            yield from _rows(f"{path}.{name}".lstrip("."), child)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _rows(f"{path}[{index}]", child)
    else:
        yield path, node


def _lines(name, node, indent=""):
    if isinstance(node, State):
        yield indent + _title(name, node)
        for child_name, child in node.items():
            yield from _lines(child_name, child, indent + "  ")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _lines(f"{name}[{index}]", child, indent)
    else:
        yield f"{indent}{name} = {_summary(node)}"


def _steps(path):
    if not _PATH.fullmatch(path):
        raise AttributeError(f"{path!r} is no path; a path looks like 'model.w' or 'monitors[0].hrf_kernel.tau_s'.")
    return [(name or int(index)) for name, index in _STEP_OF_PATH.findall(path)]


def _descend(node, step, path):
    try:
        return node[step] if isinstance(step, int) else getattr(node, step)
    except (IndexError, TypeError, AttributeError) as error:
        raise AttributeError(f"the state has no {path!r}: {error}") from None


def get_path(state, path):
    """Child at a path such as ``monitors[0].hrf_kernel.tau_s``.

    Raises
    ------
    AttributeError
        Where the state has no such path; names what there is.
    """
    node = state
    for step in _steps(path):
        node = _descend(node, step, path)
    return node


def with_path(state, path, value):
    """Copy of the state with the child at ``path`` replaced; the state itself is not touched.

    Raises
    ------
    AttributeError
        As `get_path`.
    """

    def rebuilt(node, steps):
        if not steps:
            return value
        child = rebuilt(_descend(node, steps[0], path), steps[1:])
        if isinstance(steps[0], int):
            return [child if index == steps[0] else other for index, other in enumerate(node)]
        return node.replace(**{steps[0]: child})

    return rebuilt(state, _steps(path))
