"""Arrays from files in the usual formats: functional connectivity, and values of regions."""

import csv
import errno
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks.suggestions import did_you_mean
from .provenance import record_source

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
# Cells of a table that stand for a missing number.
_MISSING = ("", "na", "n/a", "nan", "null", "none")
# By suffix, a file that can be read, for error messages.
_READABLE = {
    ".npy": "a file that numpy.save has written, of numbers",
    ".npz": "a file that numpy.savez has written, of numbers",
    ".mat": "a file that scipy.io.savemat or MATLAB's save -v7 has written",
}


@dataclass(frozen=True, eq=False)
class LabelledMatrix:
    """Matrix with names of its rows and columns. Its attributes are named as those of a pandas.DataFrame.

    Attributes
    ----------
    values : ndarray, shape (n_row, n_column)
    index, columns : list of str
        Names of the rows and of the columns.
    """

    values: np.ndarray
    index: list[str]
    columns: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_row, n_column)."""
        return self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype, copy=copy)


def read_array(path: str | os.PathLike, key: str) -> np.ndarray | LabelledMatrix:
    r"""Read an array from a file: npy, npz, mat, or text with commas, semicolons, tabs or spaces.

    Parameters
    ----------
    path : path-like
        ``FILE:KEY`` selects one of several arrays in an npz or mat file.
    key : str
        The array to read from such a file where the path names none.

    Returns
    -------
    ndarray or LabelledMatrix
        Empty cells, and cells that contain NA or NaN, are NaN.

    Raises
    ------
    OSError
        There is no such file, or it may not be read.
    ValueError
        The file is damaged, of an unknown format, or has no such array or no real numbers.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.persistence.matrix_files import read_array
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fc.csv"
    >>> _ = file.write_text(",left,right\nleft,0,0.4\nright,0.4,0\n")
    >>> read_array(file, "fc").columns
    ['left', 'right']
    """
    file, requested, name = Path(path), None, str(path)
    if not file.exists() and ":" in file.name:
        file, _, requested = name.rpartition(":")
        file = Path(file)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".mat": _read_mat} | dict.fromkeys(_TEXT_SUFFIXES, _read_text)
    suffix = file.suffix.lower()
    if not file.exists():
        raise FileNotFoundError(errno.ENOENT, f"No such file.{suggest_file(file)}".rstrip("."), name)
    if suffix not in readers:
        raise ValueError(f"{name}: {file.suffix or 'no ending'}; files are read that end in {', '.join(readers)}")
    if requested and suffix not in (".npz", ".mat"):
        raise ValueError(f"{name}: a {file.suffix} file holds one array, without a name; leave out :{requested}")
    try:
        array = readers[suffix](file, key, requested)
    except OSError:
        raise
    # A damaged file, or one of another format, can cause any error in a reader.
    except Exception as error:
        readable = _READABLE.get(suffix, "plain numbers as text in UTF-8, as many in each line")
        raise ValueError(f"{name}: not read as {suffix} ({_message(error)}); give {readable}") from error
    if np.asarray(array).dtype.kind not in "fiu":
        raise ValueError(f"{name}: an array of {np.asarray(array).dtype}; give one of real numbers")
    record_source(file, array, name=name)
    return array


def suggest_file(path: str | os.PathLike) -> str:
    """End of a message that suggests a file of a similar name in the same folder; empty if there is none.

    Parameters
    ----------
    path : path-like
        A file that does not exist. Only files with its suffix are suggested.
    """
    file = Path(path)
    entries = file.parent.iterdir() if file.parent.is_dir() else ()
    return did_you_mean(file.name, [entry.name for entry in entries if entry.suffix == file.suffix])


def _message(error):
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _read_npy(file, key, requested):
    with file.open("rb") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_npz(file, key, requested):
    with np.lib.npyio.NpzFile(file.open("rb"), own_fid=True, allow_pickle=False) as arrays:
        return arrays[_select(arrays.files, key, requested)]


def _read_mat(file, key, requested):
    from scipy.io import loadmat

    with file.open("rb") as stream:
        arrays = {name: array for name, array in loadmat(stream).items() if not name.startswith("__")}
    return arrays[_select(list(arrays), key, requested)]


def _select(names, key, requested):
    """Name of the array to read: the requested one, or else ``key`` or the only one."""
    name = requested or key
    if name in names:
        return name
    if requested or len(names) != 1:
        raise ValueError(f"no array {name!r}; there is: {', '.join(names) or 'nothing'}. Name it: FILE:KEY.")
    return names[0]


def _read_text(file, key, requested):
    text = file.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError("the file is empty")
    delimiter = next((sign for sign in ",;\t" if sign in lines[0]), None)
    rows = [line.split() for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    rows = [[cell.strip() for cell in row] for row in rows]
    columns, (first, *others) = None, rows[0]
    # The first line is a header if its cells after the first are no numbers. It is also one if its first cell is empty
    # and the others are 0, 1, 2, ..., as pandas numbers columns without names.
    is_numbered = not first and others == [str(i) for i in range(len(others))]
    if is_numbered or not all(map(_is_number, others or [first])):
        columns, rows = rows[0], rows[1:]
    index = None
    if rows and (not all(_is_number(row[0]) for row in rows) or (columns and columns[0] == "" and len(rows[0]) > 1)):
        index, rows = [row[0] for row in rows], [row[1:] for row in rows]
        columns = columns[-len(rows[0]) :] if columns else None
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise ValueError(f"lines of {', '.join(map(str, sorted(lengths))) or 'no'} numbers; give as many in each")
    values = np.array([[_number(cell) for cell in row] for row in rows])
    values = values[:, 0] if values.shape[1] == 1 else values
    names, columns = index or columns, columns or index
    # The names 0, 1, 2, ... mean that the table was written without names.
    if names is None or names == columns == [str(i) for i in range(len(values))]:
        return values
    return LabelledMatrix(values, names, columns)


def _number(cell):
    """Number in a cell; NaN if the cell stands for a missing one."""
    return np.nan if cell.lower() in _MISSING else float(cell)


def _is_number(cell):
    try:
        _number(cell)
    except ValueError:
        return False
    return True
