"""Indices and element assignment with numpy's rules, for numpy and JAX arrays alike."""

import jax
import jax.numpy as jnp
import numpy as np

_BASIC = (int, np.integer, slice, type(None), type(Ellipsis))


def is_basic(key):
    """Check whether numpy would return a view for an index."""
    return all(isinstance(k, _BASIC) for k in (key if isinstance(key, tuple) else (key,)))


def lists_as_arrays(key):
    """Index with its lists converted to arrays, since JAX does not accept lists."""
    if isinstance(key, tuple):
        return tuple(map(lists_as_arrays, key))
    if isinstance(key, list) and not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(key)):
        return np.asarray(key, None if key else int)
    return key


def traced_mask(key):
    """Split an index at its boolean mask of JAX: (the index before the mask, the mask); None without such a mask."""
    key = key if isinstance(key, tuple) else (key,)
    places = [i for i, k in enumerate(key) if isinstance(k, jax.Array) and k.dtype == bool]
    if not places:
        return None
    before, mask, after = key[: places[0]], key[places[0]], key[places[0] + 1 :]
    if not is_basic(before) or not all(isinstance(k, slice) and k == slice(None) for k in after):
        raise TypeError("a mask of differentiated values is combined with another index; write numpy.where instead")
    return before, mask.reshape(mask.shape + (1,) * len(after)) if any(k is Ellipsis for k in before) else mask


def n_kept_axes(before):
    """Number of axes that an index keeps; an integer removes its axis."""
    return sum(isinstance(k, (slice, type(None))) for k in before)


def expand_mask(mask, array, first):
    """Reshape a mask to the dimensions of an array; the mask covers the axes from ``first`` on.

    Raises
    ------
    IndexError
        If the mask does not have the shape of these axes.
    """
    axes = array.shape[first : first + mask.ndim]
    if len(axes) != mask.ndim or any(n not in (1, size) for n, size in zip(mask.shape, axes, strict=True)):
        raise IndexError(f"a mask of shape {mask.shape} for axes of shape {array.shape[first:]}")
    return mask.reshape((1,) * first + mask.shape + (1,) * (array.ndim - first - mask.ndim))


def set_item(array, key, new):
    """Copy of an array after ``array[key] = new``."""
    if isinstance(array, jax.Array) or isinstance(new, jax.Array):
        return jnp.asarray(array).at[key].set(new)
    array = np.array(array)
    array[key] = new
    return array


def cast_like(new, shape, dtype):
    """Value as numpy would store it in an array of this shape and dtype.

    Raises
    ------
    TypeError
        See `check_cast`.
    """
    module = jnp if isinstance(new, jax.Array) else np
    new = module.asarray(new)
    extra = new.ndim - len(shape)
    if extra > 0 and new.shape[:extra] == (1,) * extra:
        new = new.reshape(new.shape[extra:])
    check_cast(new.dtype, dtype)
    # In single-precision mode, JAX stores an array that numpy declares as double in single precision.
    kind = dtype if module is np else jax.dtypes.canonicalize_dtype(dtype)
    return module.broadcast_to(new, shape).astype(kind)


def check_cast(new, dtype):
    """Refuse casts that numpy makes silently in an assignment.

    Raises
    ------
    TypeError
        If floats would be rounded to integers, or an imaginary part would be dropped.
    """
    if np.issubdtype(new, np.inexact) and not np.issubdtype(dtype, np.inexact):
        raise TypeError(f"floats would be rounded to {dtype} by an assignment in place")
    if np.issubdtype(new, np.complexfloating) and not np.issubdtype(dtype, np.complexfloating):
        raise TypeError("an assignment in place would drop an imaginary part")
