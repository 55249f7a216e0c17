"""Arrays that behave as numpy's do, written in place and seen through views, around JAX's immutable ones.

TVB's methods allocate an array, write its rows, and return it. Traced with these boxes in place of arrays they run as
they are, aliasing included: a row taken out and written to later changes the whole, as in numpy.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from .branches import decide

_BINARY = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lt le gt ge eq ne".split()
_REFLECTED = "add sub mul truediv floordiv mod pow matmul and_ or_ xor".split()
_UNARY = "neg pos abs invert".split()
_BASIC = (int, np.integer, slice, type(None), type(Ellipsis))


def plain(value):
    """The arrays in the boxes of a nested tuple, list or dict."""
    if isinstance(value, MutableArray):
        return value.value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def boxed(value):
    """Arrays of a nested tuple or list in boxes of their own; anything else as it is."""
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return MutableArray(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(boxed(item) for item in value)
    if isinstance(value, dict):
        return {key: boxed(item) for key, item in value.items()}
    return value


def is_traced(value):
    """Whether a JAX array is among the values: what is not is worked out by numpy, once."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(plain(value)))


def _mask_of(key):
    """(index before it, traced boolean mask) of an index that holds one, or None."""
    key = plain(key)
    key = key if isinstance(key, tuple) else (key,)
    places = [i for i, k in enumerate(key) if isinstance(k, jax.Array) and k.dtype == bool]
    if not places:
        return None
    before, mask, after = key[: places[0]], key[places[0]], key[places[0] + 1 :]
    if not _is_basic(before) or not all(isinstance(k, slice) and k == slice(None) for k in after):
        raise TypeError("a mask of what is differentiated stands next to another index; write numpy.where instead")
    return before, mask.reshape(mask.shape + (1,) * len(after)) if any(k is Ellipsis for k in before) else mask


def _over(mask, array, first):
    """A mask of some axes of an array, with axes of length 1 for the others."""
    axes = array.shape[first : first + mask.ndim]
    if len(axes) != mask.ndim or any(n not in (1, size) for n, size in zip(mask.shape, axes, strict=True)):
        raise IndexError(f"a mask of shape {mask.shape} for axes of shape {array.shape[first:]}")
    return mask.reshape((1,) * first + mask.shape + (1,) * (array.ndim - first - mask.ndim))


def _is_basic(key):
    return all(isinstance(k, _BASIC) for k in (key if isinstance(key, tuple) else (key,)))


def arrays_of(key):
    """An index whose lists are arrays, as JAX takes them."""
    if isinstance(key, tuple):
        return tuple(map(arrays_of, key))
    return np.asarray(key, None if key else int) if isinstance(key, list) and not is_traced(key) else key


def _put(array, key, new):
    if isinstance(array, jax.Array) or isinstance(new, jax.Array):
        return jnp.asarray(array).at[key].set(new)
    array = np.array(array)
    array[key] = new
    return array


class MutableArray:
    """An array to write to: of its own, or a view of another box.

    Parameters
    ----------
    value : array, optional
        Its own array.
    rows : list of array, optional
        Or the same row by row: new arrays are mostly written so, and are put together when they are read.
    parent, get, put
        Or a view: ``get(parent)`` reads it, ``put(parent, new)`` is the parent with the view written.
    """

    __slots__ = ("_get", "_own", "_parent", "_put", "_rows")

    def __init__(self, value=None, *, rows=None, parent=None, get=None, put=None):
        self._own, self._rows, self._parent, self._get, self._put = value, rows, parent, get, put

    @property
    def value(self):
        """What it holds now."""
        if self._parent is not None:
            return self._get(self._parent.value)
        if self._rows is not None:
            stack = jnp.stack if is_traced(self._rows) else np.stack
            return stack(self._rows)
        return self._own

    def write(self, new):
        """Replace what it holds, as ``x[...] = new`` does."""
        old = self if self._rows is None else self._rows[0]
        shape = np.shape(old) if self._rows is None else (len(self._rows), *np.shape(old))
        new = _fitted(plain(new), shape, old.dtype)
        if self._parent is not None:
            self._parent.write(self._put(self._parent.value, new))
        elif self._rows is not None:
            self._rows = list(new)
        else:
            self._own = new

    def _view(self, get, put):
        return MutableArray(parent=self, get=get, put=put)

    def __getitem__(self, key):
        masked = _mask_of(key)
        if masked is not None:
            whole, mask = self._under(*masked)
            return Masked(whole.value, mask)
        key = arrays_of(plain(key))
        if self._rows is not None and isinstance(key, (int, np.integer)) and -len(self._rows) <= key < len(self._rows):
            return self._view(lambda whole: self._rows[key], lambda whole, new: _put(whole, key, new))
        if _is_basic(key):
            # Of the values now: an index out of range fails here, as in numpy.
            _ = np.empty(self.shape, bool)[key]
            return self._view(lambda whole: whole[key], lambda whole, new: _put(whole, key, new))
        if is_traced(key):
            # NaN where numpy fails: an index that is out of range.
            return MutableArray(jnp.asarray(self.value).at[key].get(mode="fill"))
        return MutableArray(self.value[key])

    def __setitem__(self, key, new):
        masked = _mask_of(key)
        if masked is not None:
            whole, mask = self._under(*masked)
            if not isinstance(new, Masked) and np.size(plain(new)) != 1:
                raise TypeError("a masked assignment takes one value, or values under the same mask")
            new = new.value if isinstance(new, Masked) else plain(new)
            if np.size(new) == 1:
                new = jnp.reshape(new, ())
            whole.write(jnp.where(mask, new, whole.value))
            return
        key, new = arrays_of(plain(key)), plain(new)
        if self._rows is not None and isinstance(key, (int, np.integer)) and -len(self._rows) <= key < len(self._rows):
            row = self._rows[key]
            self._rows[key] = _fitted(new, row.shape, row.dtype)
            return
        _allow(np.result_type(new) if not hasattr(new, "dtype") else new.dtype, self.dtype)
        self.write(_put(self.value, key, new))

    def _under(self, before, mask):
        """What an index before a mask selects, and the mask over it."""
        whole = self[before] if before else self
        # Axes that the index keeps; a number takes its axis away.
        first = sum(isinstance(k, (slice, type(None))) for k in before)
        if any(k is Ellipsis for k in before):
            first = whole.ndim - mask.ndim
        return whole, _over(mask, whole, first)

    @property
    def shape(self):
        """As numpy's."""
        if self._rows is not None:
            return (len(self._rows), *np.shape(self._rows[0]))
        return np.shape(self.value)

    @property
    def dtype(self):
        """As numpy's."""
        return self.value.dtype if self._rows is None else np.result_type(*(row.dtype for row in self._rows))

    @property
    def T(self):
        """View with the axes reversed."""
        return self.transpose()

    def transpose(self, *axes):
        """View with the axes in another order."""
        axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        axes = tuple(axes) or tuple(reversed(range(self.ndim)))
        back = tuple(np.argsort(axes))
        return self._view(lambda whole: whole.transpose(axes), lambda whole, new: new.transpose(back))

    def reshape(self, *shape, **named):
        """View in another shape."""
        shape = plain(shape[0] if len(shape) == 1 else shape)
        return self._view(
            lambda whole: whole.reshape(shape, **named), lambda whole, new: new.reshape(np.shape(whole), **named)
        )

    def ravel(self):
        """View in one dimension."""
        return self.reshape(-1)

    def copy(self, *_, **__):
        """MutableArray of its own."""
        return MutableArray(self.value)

    def tolist(self):
        """Items of the first axis, each a view: what is differentiated is no plain number."""
        return self.value.tolist() if not is_traced(self.value) else [item.copy() for item in self]

    def item(self, *index):
        """One value, a view of no dimension where it is differentiated."""
        if is_traced(self.value):
            return self.ravel()[index[0]] if len(index) == 1 else self[index] if index else self.reshape(())
        return self.value.item(*index)

    def fill(self, new):
        """Write one value everywhere."""
        self.write(new)

    @property
    def ndim(self):
        """As numpy's."""
        return len(self.shape)

    @property
    def size(self):
        """As numpy's."""
        return int(np.prod(self.shape))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.value, name)
        if not callable(found):
            return boxed(found)
        return lambda *args, **named: boxed(found(*plain(args), **plain(named)))

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
        if is_traced(self.value):
            raise TypeError(
                "an array that depends on the state, a parameter or time is given to a function that is not followed; "
                "write it with numpy's functions"
            )
        # A copy that cannot be written to: what a function wrote would not come back.
        array = np.array(self.value, dtype=dtype)
        array.setflags(write=False)
        return array

    def __array_ufunc__(self, ufunc, method, *inputs, **named):
        return _by_stand_in(ufunc if method == "__call__" else getattr(ufunc, method), inputs, named)

    def __array_function__(self, function, types, args, named):
        return _by_stand_in(function, args, named)

    __hash__ = None

    def __repr__(self):
        return f"MutableArray({self.value!r})"


def _fitted(new, shape, dtype):
    """A value as numpy would store it in an array of this shape and dtype."""
    module = jnp if isinstance(new, jax.Array) else np
    new = module.asarray(new)
    extra = new.ndim - len(shape)
    if extra > 0 and new.shape[:extra] == (1,) * extra:
        new = new.reshape(new.shape[extra:])
    _allow(new.dtype, dtype)
    # Single precision is a mode of JAX; where numpy would widen to the array's double, the array's is meant.
    kind = dtype if module is np else jax.dtypes.canonicalize_dtype(dtype)
    return module.broadcast_to(new, shape).astype(kind)


def _allow(new, dtype):
    """Refuse what numpy does without a word: to round floats, or to drop an imaginary part, in an assignment."""
    if np.issubdtype(new, np.inexact) and not np.issubdtype(dtype, np.inexact):
        raise TypeError(f"floats would be rounded to {dtype} by an assignment in place")
    if np.issubdtype(new, np.complexfloating) and not np.issubdtype(dtype, np.complexfloating):
        raise TypeError("an assignment in place would drop an imaginary part")


class Masked:
    """What a traced boolean mask selects, kept in place: arithmetic acts on the whole, assignment on the selection."""

    def __init__(self, value, mask):
        # 1 where nothing is selected: no function of numpy's fails there, nor does its derivative.
        self.value, self.mask = jnp.where(mask, value, jnp.ones((), jnp.result_type(value))), mask

    def through(self, function, operands):
        """An elementwise function of operands, this one among them, under the same mask."""
        return Masked(function(*map(self._operand, operands)), self.mask)

    def _operand(self, other):
        if isinstance(other, Masked):
            return other.value
        other = plain(other)
        if np.size(other) != 1:
            raise TypeError("values under a mask meet an array that is not under one")
        return jnp.reshape(other, ()) if isinstance(other, jax.Array) else other

    def sum(self):
        """Sum of what is selected."""
        return MutableArray(jnp.sum(jnp.where(self.mask, self.value, 0.0)))

    __array_ufunc__, __array_function__ = MutableArray.__array_ufunc__, MutableArray.__array_function__

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(f"{name} of values under a mask of what is differentiated; write numpy.where instead")


def _by_stand_in(function, args, named):
    """Result of a numpy function that code has got hold of in a way that is not followed, such as a table of them."""
    from .numpy_namespace import stand_in

    found = stand_in(function)
    if found is None:
        raise TypeError(f"{getattr(function, '__name__', function)} is not followed; write it with numpy's functions")
    return found(*args, **named)


def _binary(name, reflected):
    function = getattr(operator, name)

    def method(self, other):
        if isinstance(other, Masked):
            return NotImplemented
        a, b = self.value, plain(other)
        if isinstance(b, (list, tuple)) and name == "mul" and isinstance(a, np.integer):
            return other * int(a)
        if isinstance(b, (list, tuple)):
            b = np.asarray(b)
        return MutableArray(function(b, a) if reflected else function(a, b))

    def masked(self, other):
        return self.through(function, (other, self) if reflected else (self, other))

    return method, masked


def _in_place(name):
    function = getattr(operator, name)

    def method(self, other):
        self.write(function(self.value, plain(other)))
        return self

    return method


def _unary(name):
    function = getattr(operator, name)
    return (lambda self: MutableArray(function(self.value))), (lambda self: Masked(function(self.value), self.mask))


for _name in _BINARY:
    Box_method, Masked_method = _binary(_name, reflected=False)
    setattr(MutableArray, f"__{_name.strip('_')}__", Box_method)
    setattr(Masked, f"__{_name.strip('_')}__", Masked_method)
for _name in _REFLECTED:
    Box_method, Masked_method = _binary(_name, reflected=True)
    setattr(MutableArray, f"__r{_name.strip('_')}__", Box_method)
    setattr(Masked, f"__r{_name.strip('_')}__", Masked_method)
    setattr(MutableArray, f"__i{_name.strip('_')}__", _in_place(_name))
for _name in _UNARY:
    Box_method, Masked_method = _unary(_name)
    setattr(MutableArray, f"__{_name}__", Box_method)
    setattr(Masked, f"__{_name}__", Masked_method)
del Box_method, Masked_method, _name
