"""Provenance of arrays: SHA-256 of their values, and the file that the same values were read from."""

import hashlib
import os

import numpy as np
from numpy.typing import ArrayLike

# Files that this process has read, by the digest of their arrays: copies of an array are recognised by their values.
_SOURCES = {}


def digest(array: ArrayLike) -> str:
    """SHA-256 of an array's values.

    Parameters
    ----------
    array : array_like of real numbers
        As float64, in C order.

    Returns
    -------
    str

    Examples
    --------
    >>> import hashlib
    >>> import numpy as np
    >>> from tvb_jaxfit.persistence.provenance import digest
    >>> fc = np.eye(2)
    >>> digest(fc) == hashlib.sha256(fc.tobytes()).hexdigest()
    True
    """
    return hashlib.sha256(np.ascontiguousarray(array, "<f8").tobytes()).hexdigest()


def digest_of_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_source(path: str | os.PathLike, *arrays: ArrayLike, name: str | None = None) -> None:
    """Record the file that arrays were read from, for `describe`.

    Parameters
    ----------
    path : path-like
    *arrays : array_like of real numbers
    name : str, optional
        Name of the data set; the path by default.
    """
    of_file = digest_of_file(path)
    _SOURCES.update({digest(array): f"{name or path}, SHA-256 of the file {of_file}" for array in arrays})


def source_of(array: ArrayLike) -> str | None:
    """Recorded file of an array's values and the file's SHA-256, as text; None if no such file was read.

    Parameters
    ----------
    array : array_like of real numbers

    Returns
    -------
    str or None
    """
    return _SOURCES.get(digest(array))


def describe(array: ArrayLike) -> str:
    """Shape and SHA-256 of an array, and the file that it was read from.

    Parameters
    ----------
    array : array_like of real numbers

    Returns
    -------
    str
    """
    shape = " x ".join(str(n) for n in np.shape(array))
    key = digest(array)
    values, source = f"{shape} values, SHA-256 of them as float64 {key}", _SOURCES.get(key)
    return values if source is None else f"{source}; {values}"


def data_provenance(target: ArrayLike, connectivity) -> dict[str, str]:
    """Provenance of the empirical FC, the weights and the tract lengths of a fit.

    Parameters
    ----------
    target : array_like, shape (n_node, n_node)
        As the user gave it.
    connectivity : tvb.datatypes.connectivity.Connectivity

    Returns
    -------
    dict of str to str
    """
    weights, lengths = describe(connectivity.weights), describe(connectivity.tract_lengths)
    if source_of(connectivity.weights) is None and source_of(connectivity.tract_lengths) is not None:
        weights += "; not the weights of the file of the tract lengths: scaled or changed since it was read"
    return {"empirical FC": describe(target), "weights": weights, "tract lengths": lengths}
