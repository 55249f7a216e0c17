"""numpy's global random stream: copies of a simulator see where it stands, and other threads never see it moved."""

import contextlib
import copy
import threading

import numpy as np
from tvb.basic.neotraits.api import HasTraits


def global_stream_copy():
    """A stream of its own that gives the draws that numpy's global one would give next.

    Returns
    -------
    numpy.random.RandomState
    """
    # The global stream is the object that numpy's module functions are methods of.
    return copy.deepcopy(np.random.rand.__self__)


class GlobalStreamGuard:
    """Context in which a simulator's own code may draw from numpy's global stream, and leaves it as it was.

    Parameters
    ----------
    sim : Simulator
        Whose code runs in the context.

    Notes
    -----
    TVB's own components take their draws from streams that they are given, and nothing is done for them. A user's class
    may call ``np.random`` by itself: other threads then wait with their draws until the context ends, so that no draw
    comes twice. Entered again, it goes on where it ended.
    """

    def __init__(self, sim):
        self._applies, self._stands = has_user_classes(sim), None
        self._lock = _lock() if self._applies else contextlib.nullcontext()

    def __enter__(self):
        self._lock.__enter__()
        if self._applies:
            self._former = np.random.get_state()
            if self._stands is not None:
                np.random.set_state(self._stands)

    def __exit__(self, *error):
        if self._applies:
            self._stands = np.random.get_state()
            np.random.set_state(self._former)
        self._lock.__exit__(*error)

    def iterate(self, iterator):
        """Items of an iterator, each made in the context, and handed over outside of it."""
        iterator, end = iter(iterator), object()
        while True:
            with self:
                item = next(iterator, end)
            if item is end:
                return
            yield item


def _lock():
    """The lock that numpy takes for each draw; where the same thread cannot take it twice, none."""
    lock = np.random.get_bit_generator().lock
    return lock if isinstance(lock, type(threading.RLock())) else contextlib.nullcontext()


def has_user_classes(sim):
    """Whether any component of a simulator is of a class that is not TVB's own."""
    seen, waiting = set(), [sim]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, HasTraits):
            if not type(value).__module__.startswith("tvb."):
                return True
            waiting += list(vars(value).values())
        elif isinstance(value, (list, tuple)):
            waiting += value
    return False
