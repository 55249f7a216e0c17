"""Record of an exploration: what is done, and the result, complete or until an interrupt."""

import warnings

import jax
import numpy as np

from ..errors import caller_stacklevel
from .batches import Outcome, error_line
from .results import Exploration, exploration
from .space import Space


class InMemory:
    """Values and failures in memory.

    Attributes
    ----------
    is_done : ndarray of bool, shape (n_points,)
        Points that need not be evaluated.
    failed : dict of int to str
        Reasons by point.
    values : tree of ndarray, or None
        NaN for points without a value; None as long as the kind of the values is not known.
    seconds : float
        Duration of earlier runs [s].
    """

    seconds = 0.0

    def __init__(self, n_points: int):
        self.is_done, self.failed, self.values = np.zeros(n_points, bool), {}, None

    def add(self, points: range, outcome: Outcome) -> None:
        """Store the values and failures of some points."""
        if outcome.values is not None:
            if self.values is None:
                self.values = jax.tree.map(self._nan_array, outcome.values)
            indices = points.start + outcome.done
            jax.tree.map(lambda stored, new: stored.__setitem__(indices, new), self.values, outcome.values)
        self.failed |= {points.start + place: reason for place, reason in outcome.failed.items()}
        self.is_done[points.start : points.stop] = True

    def finish(self, seconds: float) -> None:
        """Nothing: everything is in memory."""

    def _nan_array(self, rows):
        return np.full((len(self.is_done), *rows.shape[1:]), np.nan, value_dtype(rows))


def value_dtype(rows: np.ndarray) -> np.dtype:
    """Type of stored values: it can represent NaN."""
    return rows.dtype if np.issubdtype(rows.dtype, np.inexact) else np.dtype(float)


class Recorder:
    """Takes the outcomes of tasks, shows their progress, and makes the result.

    Parameters
    ----------
    space : Space
    store : InMemory or SweepFolder
    bar
        Progress bar.
    """

    def __init__(self, space: Space, store, bar):
        self.space, self.store, self._bar, self._error, self._noted = space, store, bar, None, set()
        self.n_done = int(np.count_nonzero(store.is_done))
        # Points at which the process dies. They are not done: a next run, with more memory, tries them again.
        self._deaths = {}

    def add(self, points: range, outcome: Outcome | Exception) -> None:
        """Record the outcome of a task, or the error of a point at which the process dies."""
        if isinstance(outcome, Outcome):
            self.store.add(points, outcome)
            self._error = self._error or outcome.error
            for note in [note for note in outcome.notes if note not in self._noted]:
                self.note(note)
        else:
            self._deaths[points.start] = error_line(outcome)
            self._error = self._error or outcome
        self.n_done += len(points)
        self._bar.update(len(points))

    def note(self, text: str) -> None:
        """Warn once of what a task noted."""
        self._noted.add(text)
        warnings.warn(text, stacklevel=caller_stacklevel())

    def exploration(self, stop_reason: str, wall_time: float) -> Exploration:
        """Exploration of what was recorded; raises the first exception of the loss if there are no values."""
        values, failed = self.store.values, self.store.failed | self._deaths
        if values is None and self._error is not None:
            raise self._error
        return exploration(self.space, values, failed, stop_reason, self.store.seconds + wall_time)


def remaining_points(is_done: np.ndarray) -> list[range]:
    """Ranges of the points that are not done."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_done, [True]]).astype(np.int8)))
    return [range(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
