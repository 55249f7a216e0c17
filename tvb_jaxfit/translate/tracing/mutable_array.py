"""Arrays with numpy's mutation and views, on top of JAX's immutable arrays.

TVB's methods allocate an array, write its rows, and return it. Traced with a `MutableArray` in place of each array,
they run unchanged, aliasing included: writing to a row that was taken out before changes the whole array.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from .branches import decide
from .dispatch import call_counterpart
from .indexing import cast_like, check_cast, expand_mask, is_basic, lists_as_arrays, n_kept_axes, set_item, traced_mask

_BINARY = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lt le gt ge eq ne".split()
_REFLECTED = "add sub mul truediv floordiv mod pow matmul and_ or_ xor".split()
_UNARY = "neg pos abs invert".split()


def unwrap(value):
    """Replace each `MutableArray` of a nested tuple, list or dict by its array."""
    if isinstance(value, MutableArray):
        return value.value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(unwrap(item) for item in value)
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    return value


def wrap(value):
    """Wrap each array of a nested tuple, list or dict in a `MutableArray`; other values stay as they are."""
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return MutableArray(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    return value


def has_jax_array(value) -> bool:
    """Check for a JAX array among values; without one, numpy evaluates them once, while the code is traced."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(unwrap(value)))


class MutableArray:
    """An array that can be written to: with storage of its own, or a view of another `MutableArray`.

    Parameters
    ----------
    value : array, optional
        Storage: one array.
    rows : list of array, optional
        Storage: one array for each row. New arrays are mostly written row by row, and stacked when they are read.
    parent : MutableArray, optional
        Of a view. ``get(parent array)`` is the value of the view; ``put(parent array, new)`` is the parent array with
        the view replaced.
    get, put : callable, optional
    """

    __slots__ = ("_get", "_parent", "_put", "_rows", "_stored")

    def __init__(self, value=None, *, rows=None, parent=None, get=None, put=None):
        self._stored, self._rows, self._parent, self._get, self._put = value, rows, parent, get, put

    @property
    def value(self):
        """Current content, an array of numpy or JAX."""
        if self._parent is not None:
            return self._get(self._parent.value)
        if self._rows is not None:
            stack = jnp.stack if has_jax_array(self._rows) else np.stack
            return stack(self._rows)
        return self._stored

    def write(self, new):
        """Replace the content, as ``x[...] = new`` does."""
        old = self if self._rows is None else self._rows[0]
        shape = np.shape(old) if self._rows is None else (len(self._rows), *np.shape(old))
        new = cast_like(unwrap(new), shape, old.dtype)
        if self._parent is not None:
            self._parent.write(self._put(self._parent.value, new))
        elif self._rows is not None:
            self._rows = list(new)
        else:
            self._stored = new

    def _view(self, get, put):
        return MutableArray(parent=self, get=get, put=put)

    def _is_row(self, key):
        rows = self._rows
        return rows is not None and isinstance(key, (int, np.integer)) and -len(rows) <= key < len(rows)

    def __getitem__(self, key):
        key = unwrap(key)
        masked = traced_mask(key)
        if masked is not None:
            whole, mask = self._masked(*masked)
            return MaskedSelection(whole.value, mask)
        key = lists_as_arrays(key)
        if self._is_row(key):
            return self._view(lambda whole: self._rows[key], lambda whole, new: set_item(whole, key, new))
        if is_basic(key):
            # Raises IndexError here for an index out of range, as numpy does.
            _ = np.empty(self.shape, bool)[key]
            return self._view(lambda whole: whole[key], lambda whole, new: set_item(whole, key, new))
        if has_jax_array(key):
            # NaN for an index out of range, where numpy raises an error.
            return MutableArray(jnp.asarray(self.value).at[key].get(mode="fill"))
        return MutableArray(self.value[key])

    def __setitem__(self, key, new):
        key = unwrap(key)
        masked = traced_mask(key)
        if masked is not None:
            whole, mask = self._masked(*masked)
            if not isinstance(new, MaskedSelection) and np.size(unwrap(new)) != 1:
                raise TypeError("a masked assignment takes one value, or values under the same mask")
            new = new.value if isinstance(new, MaskedSelection) else unwrap(new)
            if np.size(new) == 1:
                new = jnp.reshape(new, ())
            whole.write(jnp.where(mask, new, whole.value))
            return
        key, new = lists_as_arrays(key), unwrap(new)
        if self._is_row(key):
            row = self._rows[key]
            self._rows[key] = cast_like(new, row.shape, row.dtype)
            return
        check_cast(np.result_type(new) if not hasattr(new, "dtype") else new.dtype, self.dtype)
        self.write(set_item(self.value, key, new))

    def _masked(self, before, mask):
        """View that the index before a mask selects, and the mask in the dimensions of this view."""
        whole = self[before] if before else self
        first = whole.ndim - mask.ndim if any(k is Ellipsis for k in before) else n_kept_axes(before)
        return whole, expand_mask(mask, whole, first)

    @property
    def shape(self):
        """As in numpy."""
        if self._rows is not None:
            return (len(self._rows), *np.shape(self._rows[0]))
        return np.shape(self.value)

    @property
    def dtype(self):
        """As in numpy."""
        return self.value.dtype if self._rows is None else np.result_type(*(row.dtype for row in self._rows))

    @property
    def T(self):
        """View with the axes reversed."""
        return self.transpose()

    def transpose(self, *axes):
        """View with the axes in another order."""
        axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        axes = tuple(axes) or tuple(reversed(range(self.ndim)))
        inverse = tuple(np.argsort(axes))
        return self._view(lambda whole: whole.transpose(axes), lambda whole, new: new.transpose(inverse))

    def reshape(self, *shape, **named):
        """View in another shape."""
        shape = unwrap(shape[0] if len(shape) == 1 else shape)
        return self._view(
            lambda whole: whole.reshape(shape, **named), lambda whole, new: new.reshape(np.shape(whole), **named)
        )

    def ravel(self):
        """View in one dimension."""
        return self.reshape(-1)

    def copy(self, *_, **__):
        """Copy with storage of its own."""
        return MutableArray(self.value)

    def tolist(self):
        """List of numbers; of JAX arrays along the first axis if the value is traced."""
        return self.value.tolist() if not has_jax_array(self.value) else [item.copy() for item in self]

    def item(self, *index):
        """One number; a zero-dimensional view if the value is traced."""
        if has_jax_array(self.value):
            return self.ravel()[index[0]] if len(index) == 1 else self[index] if index else self.reshape(())
        return self.value.item(*index)

    def fill(self, new):
        """Set all elements to one value."""
        self.write(new)

    @property
    def ndim(self):
        """As in numpy."""
        return len(self.shape)

    @property
    def size(self):
        """As in numpy."""
        return int(np.prod(self.shape))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.value, name)
        if not callable(found):
            return wrap(found)
        return lambda *args, **named: wrap(found(*unwrap(args), **unwrap(named)))

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __bool__(self):
        return decide(self.value)

    def __float__(self):
        return float(self.value)

    def __int__(self):
        return int(self.value)

    def __index__(self):
        return operator.index(self.value)

    def __array__(self, dtype=None, copy=None):
        if has_jax_array(self.value):
            raise TypeError(
                "an array that depends on the state, a parameter or time is given to a function that is not "
                "translated to JAX; write it with numpy's functions"
            )
        # Read-only: changes that a function makes to this copy would be lost.
        array = np.array(self.value, dtype=dtype)
        array.setflags(write=False)
        return array

    def __array_ufunc__(self, ufunc, method, *inputs, **named):
        return call_counterpart(ufunc if method == "__call__" else getattr(ufunc, method), inputs, named)

    def __array_function__(self, function, types, args, named):
        return call_counterpart(function, args, named)

    __hash__ = None

    def __repr__(self):
        return f"MutableArray({self.value!r})"


class MaskedSelection:
    """Selection by a traced boolean mask, ``x[mask]``, in the shape of the whole array.

    Arithmetic acts on all elements; an assignment writes only the selected ones.
    """

    def __init__(self, value, mask):
        # 1 outside of the selection: a point at which numpy's functions and their derivatives are finite.
        self.value, self.mask = jnp.where(mask, value, jnp.ones((), jnp.result_type(value))), mask

    def apply(self, function, operands):
        """Elementwise function of operands, of which this selection is one, under the same mask."""
        return MaskedSelection(function(*map(self._operand, operands)), self.mask)

    def _operand(self, other):
        if isinstance(other, MaskedSelection):
            return other.value
        other = unwrap(other)
        if np.size(other) != 1:
            raise TypeError("values under a mask are combined with an array that is not under one")
        return jnp.reshape(other, ()) if isinstance(other, jax.Array) else other

    def sum(self):
        """Sum over the selected elements."""
        return MutableArray(jnp.sum(jnp.where(self.mask, self.value, 0.0)))

    __array_ufunc__, __array_function__ = MutableArray.__array_ufunc__, MutableArray.__array_function__

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(f"{name} of values under a mask of differentiated values; write numpy.where instead")


def _binary(name, reflected):
    """Methods of `MutableArray` and `MaskedSelection` for a binary operator."""
    function = getattr(operator, name)

    def method(self, other):
        if isinstance(other, MaskedSelection):
            return NotImplemented
        a, b = self.value, unwrap(other)
        if isinstance(b, (list, tuple)) and name == "mul" and isinstance(a, np.integer):
            return other * int(a)
        if isinstance(b, (list, tuple)):
            b = np.asarray(b)
        return MutableArray(function(b, a) if reflected else function(a, b))

    def masked(self, other):
        return self.apply(function, (other, self) if reflected else (self, other))

    return method, masked


def _in_place(name):
    """Method of `MutableArray` for an operator such as ``+=``."""
    function = getattr(operator, name)

    def method(self, other):
        self.write(function(self.value, unwrap(other)))
        return self

    return method


def _unary(name):
    """Methods of `MutableArray` and `MaskedSelection` for a unary operator."""
    function = getattr(operator, name)
    return (lambda self: MutableArray(function(self.value))), (
        lambda self: MaskedSelection(function(self.value), self.mask)
    )


def _add_operators():
    def add(special_name, methods):
        for cls, method in zip((MutableArray, MaskedSelection), methods, strict=True):
            setattr(cls, f"__{special_name}__", method)

    for name in _BINARY:
        add(name.strip("_"), _binary(name, reflected=False))
    for name in _REFLECTED:
        add(f"r{name.strip('_')}", _binary(name, reflected=True))
        setattr(MutableArray, f"__i{name.strip('_')}__", _in_place(name))
    for name in _UNARY:
        add(name, _unary(name))


_add_operators()
