"""Arrays from files of the command line; a file that cannot be read is refused."""

import numpy as np

from ..data import load_fc as read_fc
from ..persistence.matrix_files import LabelledMatrix, read_array
from .dependent_options import MapOption
from .outcome import Refused

__all__ = ["LabelledMatrix", "load_array", "load_fc", "load_maps"]


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


def load_maps(option: MapOption) -> dict[str, np.ndarray | dict[str, float]] | np.ndarray:
    """Maps of the regions from a file.

    Parameters
    ----------
    option : MapOption

    Returns
    -------
    dict of str to ndarray, shape (n_region,), or to dict of str to float
        Maps by name, with region labels if the file has them.
    ndarray, shape (n_region, n_map)
        Of a file without names.

    Raises
    ------
    Refused
        The file does not exist, or cannot be read, or has no map of a name.
    """
    table = load_array(option.file, "maps")
    if not isinstance(table, LabelledMatrix):
        if option.names:
            raise Refused(f"{option.file}: its maps have no names; leave {','.join(option.names)}, or name the columns")
        return table
    values = np.reshape(table.values, (len(table.values), -1))
    # In a file with labels on one side, they stand for both.
    labels = table.index if len(table.index) == len(values) else None
    n_map = values.shape[1]
    names = table.columns if len(table.columns) == n_map else [f"map_{i + 1}" for i in range(n_map)]
    columns = dict(zip(names, values.T, strict=True))
    unknown = [name for name in option.names if name not in columns]
    if unknown:
        raise Refused(f"{option.file}: no map {', '.join(unknown)}; there is: {', '.join(columns)}")
    maps = {name: columns[name] for name in option.names or columns}
    if labels is None:
        return maps
    return {name: dict(zip(labels, values.tolist(), strict=True)) for name, values in maps.items()}


def _with_file_name(name, error):
    """Message of an error, which begins with the name of the file."""
    reason = getattr(error, "strerror", None) or str(error)
    return reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"
