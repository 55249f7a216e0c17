"""Arrays from files of the command line; a file that cannot be read is refused."""

import numpy as np

from ..data import load_fc as read_fc
from ..persistence.matrix_files import LabelledMatrix, read_array
from .outcome import Refused

__all__ = ["LabelledMatrix", "load_array", "load_fc"]


def load_fc(name: str, option: str = "--fc") -> np.ndarray | LabelledMatrix:
    """Empirical FC from a file, or from the data set of a name; see `tvb_jaxfit.load_fc`.

    Parameters
    ----------
    name, option : str
        The file or data set, and the option that names it.

    Returns
    -------
    ndarray or LabelledMatrix, shape (n_node, n_node)

    Raises
    ------
    Refused
        The file does not exist, or cannot be read.
    """
    try:
        return read_fc(name)
    except (ValueError, OSError, ImportError) as error:
        raise Refused(f"{option} {_with_file_name(name, error)}") from error


def load_array(name: str, key: str) -> np.ndarray | LabelledMatrix:
    """Array from a file; see `tvb_jaxfit.persistence.matrix_files.read_array`.

    Parameters
    ----------
    name, key : str

    Returns
    -------
    ndarray or LabelledMatrix

    Raises
    ------
    Refused
        The file does not exist, or cannot be read.
    """
    try:
        return read_array(name, key)
    except (ValueError, OSError) as error:
        raise Refused(_with_file_name(name, error)) from error


def _with_file_name(name, error):
    """Message of an error, which begins with the name of the file."""
    reason = getattr(error, "strerror", None) or str(error)
    return reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"
