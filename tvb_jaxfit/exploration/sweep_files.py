"""Files of a sweep's folder.

======================  ==========================================================================================
``sweep.npz``           the space, the size of a batch, and digests of all that the values depend on
``values.npz``          tree of the values, with empty arrays; written when the arrays are there
``value-0.npy``, ...    an array for each leaf of the tree, its points in front; NaN where there is no value
``done.npy``            one byte a point: 1 when its value is on disk
``log.jsonl``           one line a failure, and one a run
======================  ==========================================================================================
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..persistence.atomic import atomic_write
from ..persistence.serialise import read

SWEEP, VALUES, DONE, LOG = "sweep.npz", "values.npz", "done.npy", "log.jsonl"
# What `serialise` names the first two.
SWEEP_KIND, VALUES_KIND = "sweep", "values of a sweep"
# Elements of an array that are written at a time when it is made.
_CHUNK = 1 << 19


def leaf_file(folder: Path, index: int) -> Path:
    """File of a leaf of the values."""
    return folder / f"value-{index}.npy"


def read_sweep(folder: Path) -> dict[str, Any]:
    """Content of ``sweep.npz``: "space", "digests" and "batch_size".

    Raises
    ------
    FileNotFoundError
        There is no sweep in the folder.
    """
    return read(folder / SWEEP, SWEEP_KIND)


def read_done(folder: Path) -> np.ndarray:
    """Points whose value is on disk, as an array of bool."""
    return np.load(folder / DONE) == 1


def make_array(path: Path, shape: tuple[int, ...], dtype: np.dtype, value: float) -> None:
    """File of an array of one value, with all its bytes on disk."""
    with atomic_write(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        size, chunk = int(np.prod(shape)), np.full(_CHUNK, value, dtype)
        for begin in range(0, size, _CHUNK):
            file.write(chunk[: size - begin].tobytes())


def read_values(folder: Path) -> Any:
    """Tree of the values, which are read from disk when they are used; None if there are none yet."""
    if not (folder / VALUES).exists():
        return None
    leaves, structure = jax.tree.flatten(read(folder / VALUES, VALUES_KIND))
    # Plain arrays on the file's memory: a memmap behaves differently in places, and no function needs to know.
    arrays = [np.asarray(np.load(leaf_file(folder, i), mmap_mode="r")) for i in range(len(leaves))]
    return jax.tree.unflatten(structure, arrays)


def read_log(folder: Path) -> tuple[dict[int, str], float]:
    """(reasons by point, duration of all runs). A last line that is incomplete is skipped."""
    failed, seconds = {}, 0.0
    lines = (folder / LOG).read_text().splitlines() if (folder / LOG).exists() else []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            content = json.loads(line)
            seconds += content.get("seconds", 0.0)
            if "point" in content:
                failed[content["point"]] = content["reason"]
    return failed, seconds


class RowWriter:
    """Array of a npy file whose rows are written in place."""

    def __init__(self, path: Path):
        array = np.load(path, mmap_mode="r")
        self._dtype, self._offset = array.dtype, array.offset
        self._row_shape, self._n_bytes = array.shape[1:], array[:1].nbytes
        self._file = open(path, "r+b", buffering=0)
        self.flush, self.fileno, self.close = self._file.flush, self._file.fileno, self._file.close

    def write(self, begin: int, rows: np.ndarray) -> None:
        """Write rows from a given one on."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"the loss returns arrays of different shapes: {self._row_shape}, {rows.shape[1:]}.")
        data = memoryview(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8))
        self._file.seek(self._offset + int(begin) * self._n_bytes)
        # A disk that is nearly full takes a part.
        while data:
            data = data[self._file.write(data) :]
