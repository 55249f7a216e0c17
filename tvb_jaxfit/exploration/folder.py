"""Folder of a sweep: the values and failures of its points, on disk as soon as they are known.

The arrays have their full size from the beginning, so that a full disk is noticed before anything is computed. A point
is marked as done after its value has been synchronised with the disk. What a killed process leaves is therefore valid.
"""

import contextlib
import json
import os
import time
from pathlib import Path

import jax
import numpy as np

from ..persistence.serialise import read, write
from .batches import Outcome
from .recorder import value_dtype
from .space import Space
from .sweep_files import (
    DONE,
    LOG,
    SWEEP,
    SWEEP_KIND,
    VALUES,
    VALUES_KIND,
    RowWriter,
    leaf_file,
    make_array,
    read_done,
    read_log,
    read_sweep,
    read_values,
)

# Synchronising with the disk may take this part of the time.
_SYNC_PART = 0.05


class SweepFolder:
    """Values and failures of a sweep in a folder; begun, or continued where an earlier run stopped.

    Parameters
    ----------
    folder : path-like
        Made if necessary. The caller holds its lock.
    space : Space
    digests : dict of str to str
        Digests of all that the values depend on, by name.
    batch_size : int
        Size of a batch for a sweep that begins.

    Attributes
    ----------
    is_done, failed, values, seconds
        As those of `InMemory`. The values are on disk, and are read when they are used.
    batch_size : int
        That of the first run.

    Raises
    ------
    ValueError
        The folder belongs to another sweep. The message names what differs.
    OSError
        As for any writing: full disk, no permission.
    """

    def __init__(self, folder: str | os.PathLike, space: Space, digests: dict[str, str], batch_size: int):
        self.folder = Path(folder)
        try:
            known = read_sweep(self.folder)
        except FileNotFoundError:
            known = {"space": space, "digests": digests, "batch_size": batch_size}
            write(self.folder / SWEEP, known, SWEEP_KIND)
        _refuse_other(self.folder, known["digests"], digests)
        self.batch_size = known["batch_size"]
        if not (self.folder / DONE).exists():
            make_array(self.folder / DONE, (len(space),), np.dtype(np.uint8), 0)
        self.is_done = read_done(self.folder)
        failed, self.seconds = read_log(self.folder)
        self.failed = {point: reason for point, reason in failed.items() if self.is_done[point]}
        self._n_points, self._arrays, self._pending = len(space), None, []
        self._done, self._log = RowWriter(self.folder / DONE), open(self.folder / LOG, "ab")
        # A killed process may have left a part of a line.
        self._log.write(b"\n")
        self._synced = self._sync_seconds = 0.0

    @property
    def values(self):
        """Tree of arrays that read from the disk."""
        return read_values(self.folder)

    def add(self, points: range, outcome: Outcome) -> None:
        """Write the values and failures of some points."""
        if outcome.values is not None:
            self._write(points, outcome)
        for place, reason in outcome.failed.items():
            self._log_line({"point": points.start + place, "reason": reason})
        self.failed |= {points.start + place: reason for place, reason in outcome.failed.items()}
        self._pending.append(points)
        if time.perf_counter() - self._synced > self._sync_seconds / _SYNC_PART:
            self._mark()

    def finish(self, seconds: float) -> None:
        """Mark what is written as done, note a run and its duration, and close the files."""
        try:
            self._log_line({"seconds": seconds})
            self._mark()
        finally:
            for file in (self._log, self._done, *(self._arrays or ())):
                with contextlib.suppress(OSError):
                    file.close()

    def _write(self, points, outcome):
        if self._arrays is None:
            self._arrays = self._open_arrays(outcome.values)
        for array, rows in zip(self._arrays, jax.tree.leaves(outcome.values), strict=True):
            if len(outcome.done) == len(points):
                array.write(points.start, rows)
            else:
                for place, row in zip(outcome.done, rows, strict=True):
                    array.write(points.start + place, row[None])

    def _open_arrays(self, values):
        """Open the arrays; made if they are not there, for values of this kind."""
        if not (self.folder / VALUES).exists():
            tree = jax.tree.map(lambda rows: np.empty((0, *rows.shape[1:]), value_dtype(rows)), values)
            for index, empty in enumerate(jax.tree.leaves(tree)):
                shape = (self._n_points, *empty.shape[1:])
                make_array(leaf_file(self.folder, index), shape, empty.dtype, np.nan)
            write(self.folder / VALUES, tree, VALUES_KIND)
        tree = read(self.folder / VALUES, VALUES_KIND)
        return [RowWriter(leaf_file(self.folder, index)) for index in range(len(jax.tree.leaves(tree)))]

    def _log_line(self, content):
        self._log.write(json.dumps(content).encode() + b"\n")

    def _mark(self):
        """Mark points as done: their values and failures first, so that a mark never precedes them."""
        start = time.perf_counter()
        for file in (self._log, *(self._arrays or ())):
            file.flush()
            os.fsync(file.fileno())
        for points in self._pending:
            self._done.write(points.start, np.ones(len(points), np.uint8))
            self.is_done[points.start : points.stop] = True
        self._pending = []
        self._synced = time.perf_counter()
        self._sync_seconds = self._synced - start


def _refuse_other(folder, known, digests):
    different = [name for name in digests if known.get(name) != digests[name]]
    if different:
        raise ValueError(
            f"folder: {folder} belongs to another exploration, with other {', '.join(different)}. Give another folder, "
            "or delete this one to compute its values again."
        )
