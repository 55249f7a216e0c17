"""Arrays from the files that people have them in: FC, and values of regions."""

import csv
import errno
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks.suggestions import did_you_mean
from .provenance import record_source

_TEXT = (".csv", ".tsv", ".txt", ".dat")
# How cells of a table say that there is no number.
_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none")
# How files that are read are written.
_SAVED = {
    ".npy": "a file that numpy.save has written, of numbers",
    ".npz": "a file that numpy.savez has written, of numbers",
    ".mat": "a file that scipy.io.savemat or MATLAB's save -v7 has written",
}


@dataclass(frozen=True, eq=False)
class LabelledMatrix:
    """A matrix with names of its rows and columns, as a pandas.DataFrame has them.

    Attributes
    ----------
    values : ndarray, shape (n_row, n_column)
    index, columns : list of str
        Names of the rows and of the columns.
    """

    values: np.ndarray
    index: list
    columns: list

    @property
    def shape(self):
        """(n_row, n_column)."""
        return self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype, copy=copy)


def read_array(path, key):
    r"""Array from a file: npy, npz, mat, or text with commas, semicolons, tabs or spaces.

    Parameters
    ----------
    path : path-like
        Of an npz or mat with several arrays, ``FILE:KEY``.
    key : str
        The array to take where none is named.

    Returns
    -------
    ndarray or LabelledMatrix

    Raises
    ------
    OSError
        Where there is no such file, or it may not be read.
    ValueError
        Where it holds no such array, is damaged or of another kind, or holds no real numbers.

    Notes
    -----
    Cells that are empty or say NA or NaN are NaN.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.persistence.matrix_files import read_array
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fc.csv"
    >>> _ = file.write_text(",left,right\nleft,0,0.4\nright,0.4,0\n")
    >>> read_array(file, "fc").columns
    ['left', 'right']
    """
    file, named, name = Path(path), None, str(path)
    if not file.exists() and ":" in file.name:
        file, _, named = name.rpartition(":")
        file = Path(file)
    read = {".npy": _npy, ".npz": _npz, ".mat": _mat} | dict.fromkeys(_TEXT, _text)
    if not file.exists():
        raise FileNotFoundError(errno.ENOENT, f"No such file.{suggest_file(file)}".rstrip("."), name)
    if file.suffix.lower() not in read:
        raise ValueError(f"{name}: {file.suffix or 'no ending'}; files are read that end in {', '.join(read)}")
    if named and file.suffix.lower() not in (".npz", ".mat"):
        raise ValueError(f"{name}: a {file.suffix} file holds one array, without a name; leave :{named}")
    try:
        array = read[file.suffix.lower()](file, key, named)
    except OSError:
        raise
    # What a damaged file, or one of another kind, makes of a reader can be anything.
    except Exception as error:
        how = _SAVED.get(file.suffix.lower(), "plain numbers as text in UTF-8, as many in each line")
        raise ValueError(f"{name}: not read as {file.suffix.lower()} ({_told(error)}); give {how}") from error
    if np.asarray(array).dtype.kind not in "fiu":
        raise ValueError(f"{name}: an array of {np.asarray(array).dtype}; give one of real numbers")
    record_source(file, array, name=name)
    return array


def suggest_file(path):
    """End of a message that names a file of a similar name, and the same ending, in the same folder; or empty.

    Parameters
    ----------
    path : path-like
    """
    file = Path(path)
    there = file.parent.iterdir() if file.parent.is_dir() else ()
    return did_you_mean(file.name, [each.name for each in there if each.suffix == file.suffix])


def _told(error):
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _npy(file, key, named):
    with file.open("rb") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def _npz(file, key, named):
    with np.lib.npyio.NpzFile(file.open("rb"), own_fid=True, allow_pickle=False) as arrays:
        return arrays[_one_of(arrays.files, key, named)]


def _mat(file, key, named):
    from scipy.io import loadmat

    with file.open("rb") as opened:
        arrays = {name: array for name, array in loadmat(opened).items() if not name.startswith("__")}
    return arrays[_one_of(list(arrays), key, named)]


def _one_of(names, key, named):
    """Name of the array to take: the one that was named, or else ``key`` or the only one."""
    wanted = named or key
    if wanted in names:
        return wanted
    if named or len(names) != 1:
        raise ValueError(f"no array {wanted!r}; there is: {', '.join(names) or 'nothing'}. Name it: FILE:KEY.")
    return names[0]


def _text(file, key, named):
    text = file.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError("the file is empty")
    delimiter = next((sign for sign in ",;\t" if sign in lines[0]), None)
    rows = [line.split() for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    rows = [[cell.strip() for cell in row] for row in rows]
    columns, (first, *others) = None, rows[0]
    # A line that begins with a name alone is one of numbers; one that begins with nothing, of names or of pandas'
    # numbers 0, 1, ... in their place.
    is_counted = not first and others == [str(i) for i in range(len(others))]
    if is_counted or not all(map(_is_number, others or [first])):
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
    # Numbers in order are what a table of no names has been given.
    if names is None or names == columns == [str(i) for i in range(len(values))]:
        return values
    return LabelledMatrix(values, names, columns)


def _number(cell):
    """Number of a cell; NaN where it says that there is none."""
    return np.nan if cell.lower() in _NO_NUMBER else float(cell)


def _is_number(cell):
    try:
        _number(cell)
    except ValueError:
        return False
    return True
