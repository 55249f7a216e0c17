"""numpy's global random stream: read without being advanced, and restored after a user's code has drawn from it."""

import contextlib
import copy
import threading
from collections.abc import Iterable, Iterator

import numpy as np
from tvb.basic.neotraits.api import HasTraits


def global_stream_copy() -> np.random.RandomState:
    """Copy of numpy's global random stream, which gives the draws that the stream itself would give next."""
    # numpy's module functions are methods of the global stream.
    return copy.deepcopy(np.random.rand.__self__)


class GlobalStreamGuard:
    """Context in which a simulator's own code may draw from numpy's global stream, which is restored afterwards.

    Parameters
    ----------
    sim : Simulator
        Simulator whose code runs in the context.

    Notes
    -----
    TVB's own components draw from streams that they are given; for them the context does nothing. A user's class may
    call ``np.random`` directly. Other threads then wait with their draws until the context ends, so that no draw is
    given twice. A context that is entered again continues the stream where it was left.
    """

    def __init__(self, sim):
        self._applies, self._position = has_user_classes(sim), None
        self._lock = _stream_lock() if self._applies else contextlib.nullcontext()

    def __enter__(self):
        self._lock.__enter__()
        if self._applies:
            self._outer_position = np.random.get_state()
            if self._position is not None:
                np.random.set_state(self._position)

    def __exit__(self, *error):
        if self._applies:
            self._position = np.random.get_state()
            np.random.set_state(self._outer_position)
        self._lock.__exit__(*error)

    def iterate(self, iterable: Iterable) -> Iterator:
        """Items of an iterable; each is made inside the context and yielded outside of it."""
        iterator, end = iter(iterable), object()
        while True:
            with self:
                item = next(iterator, end)
            if item is end:
                return
            yield item


def _stream_lock():
    """Lock that numpy takes for each draw; a null context if it is not re-entrant, as in a foreign bit generator."""
    lock = np.random.get_bit_generator().lock
    return lock if isinstance(lock, type(threading.RLock())) else contextlib.nullcontext()


def has_user_classes(sim) -> bool:
    """Check whether a simulator or one of its components is of a class outside of TVB."""
    visited, waiting = set(), [sim]
    while waiting:
        value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, HasTraits):
            if not type(value).__module__.startswith("tvb."):
                return True
            waiting += list(vars(value).values())
        elif isinstance(value, (list, tuple)):
            waiting += value
    return False
