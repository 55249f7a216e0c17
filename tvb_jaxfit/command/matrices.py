"""Arrays from the files that people have them in: FC, and values of regions."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import load_functional_connectivity
from ..provenance import remember
from .options import Refused

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
class Labelled:
    """A matrix with names of its rows and columns, as `match_target` matches them to the regions."""

    values: np.ndarray
    index: list
    columns: list

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def load_fc(name):
    """Empirical FC from a file, or the one of a name.

    Parameters
    ----------
    name : str
        File as of `load_array`, or a data set of `load_functional_connectivity`.

    Returns
    -------
    ndarray or Labelled, shape (n_node, n_node)

    Raises
    ------
    Refused
        As `load_array`.
    """
    if not Path(name).suffix and not Path(name).exists():
        try:
            return load_functional_connectivity(name)
        except (ValueError, OSError, ImportError) as error:
            raise Refused(f"--fc {name}: no such file, and {error}") from error
    return load_array(name, "fc")


def load_array(name, key):
    r"""Array from a file: npy, npz, mat, or text with commas, semicolons, tabs or spaces.

    Parameters
    ----------
    name : str
        Of an npz or mat with several arrays, ``FILE:KEY``.
    key : str
        The array to take where none is named.

    Returns
    -------
    ndarray or Labelled

    Raises
    ------
    Refused
        Where there is no such file or array, it cannot be read, or it is none of numbers.

    Notes
    -----
    Cells that are empty or say NA or NaN are NaN.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.command.matrices import load_array
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fc.csv"
    >>> _ = file.write_text(",left,right\nleft,0,0.4\nright,0.4,0\n")
    >>> load_array(str(file), "fc").columns
    ['left', 'right']
    """
    file, named = Path(name), None
    if not file.exists() and ":" in file.name:
        file, _, named = name.rpartition(":")
        file = Path(file)
    read = {".npy": _npy, ".npz": _npz, ".mat": _mat} | dict.fromkeys(_TEXT, _text)
    if file.suffix.lower() not in read:
        raise Refused(f"{name}: {file.suffix or 'no ending'}; files are read that end in {', '.join(read)}")
    if not file.exists():
        raise Refused(f"{name}: No such file")
    if named and file.suffix.lower() not in (".npz", ".mat"):
        raise Refused(f"{name}: a {file.suffix} file holds one array, without a name; leave :{named}")
    try:
        array = read[file.suffix.lower()](file, key, named)
    except OSError as error:
        raise Refused(f"{name}: {error}") from error
    # What a damaged file, or one of another kind, makes of a reader can be anything.
    except Exception as error:
        how = _SAVED.get(file.suffix.lower(), "plain numbers as text in UTF-8, as many in each line")
        raise Refused(f"{name}: not read as {file.suffix.lower()} ({_told(error)}); give {how}") from error
    if np.asarray(array).dtype.kind not in "fiu":
        raise Refused(f"{name}: an array of {np.asarray(array).dtype}; give one of real numbers")
    remember(file, array, name=name)
    return array


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
    return Labelled(values, names, columns)


def _number(cell):
    """Number of a cell; NaN where it says that there is none."""
    return np.nan if cell.lower() in _NO_NUMBER else float(cell)


def _is_number(cell):
    try:
        _number(cell)
    except ValueError:
        return False
    return True
