"""Arrays from the user: converted to real numbers without loss, or refused."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

_MASKED = "a masked array, whose mask would be lost; fill it, or leave the masked entries out"


def real_array(
    value: Any,
    name: str,
    *,
    shape: Sequence[int | None] | None = None,
    finite: bool = False,
    masked: float | None = None,
) -> np.ndarray | jax.Array:
    """Convert to an array of real numbers; refuse what the conversion would change or lose.

    Parameters
    ----------
    value : array_like
        Numbers, lists, NumPy arrays, pandas objects; JAX arrays and tracers.
    name : str
        Beginning of the message, such as "target" or "Parameter: value".
    shape : tuple of int or None, optional
        Required shape; None in place of a length allows any length. Any shape by default.
    finite : bool, optional
        Refuse NaN and infinite values. Tracers have no values yet and are not checked.
    masked : float, optional
        Value that replaces masked entries. By default they are refused.

    Returns
    -------
    ndarray of float64, or the JAX array itself

    Raises
    ------
    ValueError
        Masked entries, complex numbers, text, objects, lists of different lengths, integers that float64 rounds,
        another shape, or values that are not finite. All problems stand in one message.
    """
    array, problem = _convert(value, masked)
    problems = [problem] if problem else []
    if array is not None:
        if shape is not None and not _has_shape(array.shape, shape):
            problems.append(f"shape {array.shape}; give {_shape_text(shape)}")
        if finite and not isinstance(array, jax.core.Tracer):
            not_finite = np.argwhere(~np.isfinite(np.asarray(array)))
            if len(not_finite):
                first = f", the first at {tuple(not_finite[0].tolist())}" if array.ndim else ""
                problems.append(f"{len(not_finite)} of {array.size} values are not finite{first}; give finite values")
    if problems:
        raise ValueError(f"{name}: {'; '.join(problems)}.")
    return array


def unmasked(value: Any, name: str, masked: float | None = None) -> np.ndarray | jax.Array:
    """Convert to an array of its own dtype, without masked entries: these are replaced or refused as by `real_array`.

    Parameters
    ----------
    value : array_like
    name : str
    masked : float, optional

    Returns
    -------
    ndarray, or the JAX array itself

    Raises
    ------
    ValueError
        Masked entries, or lists of different lengths.
    """
    if isinstance(value, jax.Array):
        return value
    if _has_masked(value):
        if masked is None:
            raise ValueError(f"{name}: {_MASKED}.")
        value = np.ma.asarray(value)
        value = np.ma.filled(value if value.dtype.kind == "f" else value.astype(float), masked)
    try:
        return _as_numpy(value)
    except ValueError as error:
        raise ValueError(f"{name}: lists of different lengths; give a rectangular array.") from error


def _convert(value, masked):
    """(array, None), or (None, problem)."""
    if isinstance(value, (list, tuple)) and any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        value = jax.numpy.asarray(value)
    if isinstance(value, jax.Array):
        if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            return None, "a key of jax.random; give real numbers"
        if jax.numpy.issubdtype(value.dtype, np.complexfloating):
            return None, f"complex numbers ({value.dtype}); give real ones, such as value.real"
        return value, None
    if _has_masked(value):
        if masked is None:
            return None, _MASKED
        value = np.ma.filled(np.ma.asarray(value).astype(float), masked)
    if hasattr(value, "toarray") and not hasattr(value, "__array__"):
        return None, f"a sparse matrix ({type(value).__name__}); give value.toarray()"
    try:
        raw = _as_numpy(value)
    except ValueError:
        return None, "lists of different lengths; give a rectangular array"
    if raw.dtype.kind == "c":
        return None, f"complex numbers ({raw.dtype}); give real ones, such as value.real"
    if raw.dtype.kind not in "biufO" and not _is_small_float(raw.dtype):
        return None, f"values of type {raw.dtype}; give real numbers"
    if raw.dtype.kind == "O" and any(item is None or isinstance(item, (str, bytes, complex)) for item in raw.flat):
        return None, "values that are no real numbers; give real numbers"
    try:
        with np.errstate(over="ignore"):
            array = raw.astype(np.float64)
    except (TypeError, ValueError):
        return None, f"{_describe(value, raw)} cannot be converted to numbers; give real numbers"
    is_wide = (raw.dtype.kind in "iu" and raw.dtype.itemsize == 8) or (raw.dtype.kind == "f" and raw.dtype.itemsize > 8)
    if is_wide and not np.array_equal(array.astype(np.longdouble), raw.astype(np.longdouble), equal_nan=True):
        return None, f"values of type {raw.dtype} that float64 rounds; give value.astype(float) if that is meant"
    return array, None


def _as_numpy(value):
    """NumPy array of a value. Missing values of pandas' own types become NaN."""
    array = np.asarray(value)
    if array.dtype.kind == "O" and hasattr(value, "to_numpy"):
        return np.asarray(value.to_numpy(na_value=np.nan))
    return array


def _has_masked(value):
    """True for a masked array with masked entries, and for a list that contains one."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(value).any())
    return isinstance(value, (list, tuple)) and any(_has_masked(item) for item in value)


def _is_small_float(dtype):
    """True for floating dtypes of JAX that NumPy does not know, such as bfloat16."""
    return jax.numpy.issubdtype(dtype, np.floating)


def _describe(value, raw):
    return f"{type(value).__name__} of shape {raw.shape}" if raw.ndim else repr(value)


def _has_shape(shape, required):
    return len(shape) == len(required) and all(
        length is None or n == length for n, length in zip(shape, required, strict=True)
    )


def _shape_text(shape):
    lengths = ["any" if length is None else str(length) for length in shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"
