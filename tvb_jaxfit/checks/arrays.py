"""Arrays that come from the user: converted to real numbers without loss, or refused."""

import jax
import numpy as np

_MASKED = "a masked array, whose mask would be lost; fill it, or leave the masked entries out"


def real_array(value, name, *, shape=None, finite=False, masked=None):
    """Array of real numbers, refused where the conversion would lose something.

    Parameters
    ----------
    value : array_like
        Numbers, lists, NumPy arrays, pandas objects; JAX arrays and tracers.
    name : str
        What the message calls it, such as "target" or "Parameter: value".
    shape : tuple of int or None, optional
        Shape that is required; None in place of a length allows any. Any shape by default.
    finite : bool, optional
        Whether NaN and infinite values are refused. Not checked on tracers, which hold no values yet.
    masked : float, optional
        Value for the masked entries of a masked array. They are refused by default.

    Returns
    -------
    ndarray of float64, or the JAX array itself

    Raises
    ------
    ValueError
        Masked entries, complex numbers, text, objects, ragged lists, integers that float64 rounds, another shape, or
        values that are not finite. All problems are in one message.
    """
    array, problem = _converted(value, masked)
    problems = [problem] if problem else []
    if array is not None:
        if shape is not None and not _fits(array.shape, shape):
            problems.append(f"shape {array.shape}; give {_shape_text(shape)}")
        if finite and not isinstance(array, jax.core.Tracer):
            bad = np.argwhere(~np.isfinite(np.asarray(array)))
            if len(bad):
                where = f", the first at {tuple(bad[0].tolist())}" if array.ndim else ""
                problems.append(f"{len(bad)} of {array.size} values are not finite{where}; give finite values")
    if problems:
        raise ValueError(f"{name}: {'; '.join(problems)}.")
    return array


def unmasked(value, name, masked=None):
    """Array in its own dtype, which a conversion to float64 would change; masked entries as by `real_array`.

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
        Masked entries, ragged lists.
    """
    if isinstance(value, jax.Array):
        return value
    if _has_masked(value):
        if masked is None:
            raise ValueError(f"{name}: {_MASKED}.")
        value = np.ma.asarray(value)
        value = np.ma.filled(value if value.dtype.kind == "f" else value.astype(float), masked)
    try:
        return _raw(value)
    except ValueError as error:
        raise ValueError(f"{name}: lists of different lengths; give a rectangular array.") from error


def _converted(value, masked):
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
        raw = _raw(value)
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
        return None, f"{_kind_of(value, raw)} cannot be converted to numbers; give real numbers"
    is_wide = (raw.dtype.kind in "iu" and raw.dtype.itemsize == 8) or (raw.dtype.kind == "f" and raw.dtype.itemsize > 8)
    if is_wide and not np.array_equal(array.astype(np.longdouble), raw.astype(np.longdouble), equal_nan=True):
        return None, f"values of type {raw.dtype} that float64 rounds; give value.astype(float) if that is meant"
    return array, None


def _raw(value):
    """NumPy array of a value; NaN where columns of pandas' own types have no number."""
    raw = np.asarray(value)
    if raw.dtype.kind == "O" and hasattr(value, "to_numpy"):
        return np.asarray(value.to_numpy(na_value=np.nan))
    return raw


def _has_masked(value):
    """Whether a masked array, or a list of arrays that holds one, has masked entries."""
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(value).any())
    return isinstance(value, (list, tuple)) and any(_has_masked(item) for item in value)


def _is_small_float(dtype):
    """Whether it is a float of JAX's that NumPy does not know, such as bfloat16."""
    return jax.numpy.issubdtype(dtype, np.floating)


def _kind_of(value, raw):
    return f"{type(value).__name__} of shape {raw.shape}" if raw.ndim else repr(value)


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def _shape_text(shape):
    lengths = ["any" if length is None else str(length) for length in shape]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"
