"""Arrays from files of the command line: what cannot be read is refused."""

from ..data import load_fc as read_fc
from ..persistence.matrix_files import LabelledMatrix, read_array
from .options import Refused

__all__ = ["LabelledMatrix", "load_array", "load_fc"]


def load_fc(name):
    """Empirical FC from a file, or the one of a name; see `tvb_jaxfit.load_fc`.

    Parameters
    ----------
    name : str

    Returns
    -------
    ndarray or LabelledMatrix, shape (n_node, n_node)

    Raises
    ------
    Refused
        Where there is none, or it cannot be read.
    """
    try:
        return read_fc(name)
    except (ValueError, OSError, ImportError) as error:
        raise Refused(f"--fc {_begun(name, error)}") from error


def load_array(name, key):
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
        Where there is none, or it cannot be read.
    """
    try:
        return read_array(name, key)
    except (ValueError, OSError) as error:
        raise Refused(_begun(name, error)) from error


def _begun(name, error):
    """Message of an error, beginning with the name of the file."""
    reason = getattr(error, "strerror", None) or str(error)
    return reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"
