"""Provenance of arrays: SHA-256 of their values, and the file that the same values were read from."""

import hashlib
from pathlib import Path

import numpy as np

# Files that this process has read, by the digest of their arrays: copies of an array are recognised by their values.
_FILES = {}


def digest(array):
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


def record_source(path, *arrays, name=None):
    """Record the file that arrays were read from, for `described`.

    Parameters
    ----------
    path : path-like
    *arrays : array_like of real numbers
    name : str, optional
        Of the data set; the path by default.
    """
    of_file = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    _FILES.update({digest(array): f"{name or path}, SHA-256 of the file {of_file}" for array in arrays})


def file_of(array):
    """File with an array's values and its SHA-256, as text; None where none was read.

    Parameters
    ----------
    array : array_like of real numbers

    Returns
    -------
    str or None
    """
    return _FILES.get(digest(array))


def described(array):
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
    own, file = f"{shape} values, SHA-256 of them as float64 {key}", _FILES.get(key)
    return own if file is None else f"{file}; {own}"


def data_provenance(target, connectivity):
    """Provenance of the empirical FC, the weights and the tract lengths of a fit.

    Parameters
    ----------
    target : array_like, shape (n_node, n_node)
        As it was given.
    connectivity : tvb.datatypes.connectivity.Connectivity

    Returns
    -------
    dict of str to str
    """
    weights, lengths = described(connectivity.weights), described(connectivity.tract_lengths)
    if file_of(connectivity.weights) is None and file_of(connectivity.tract_lengths) is not None:
        weights += "; not the weights of the file of the tract lengths: scaled or changed since it was read"
    return {"empirical FC": described(target), "weights": weights, "tract lengths": lengths}
