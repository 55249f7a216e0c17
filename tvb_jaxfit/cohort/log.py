"""Log of one fit: its messages and warnings, also where several fits run in threads of one process."""

import contextlib
import contextvars
import functools
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

_current = contextvars.ContextVar("log", default=None)


class Log:
    """Messages, each with its time.

    Attributes
    ----------
    text : str
    """

    def __init__(self):
        self.text = ""

    def __call__(self, message: str) -> None:
        """Add a message."""
        self.text += f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {message}\n"


@contextlib.contextmanager
def recorded_log() -> Iterator[Log]:
    """Log to which the warnings of the block are added, instead of being shown.

    Yields
    ------
    Log
    """
    log = Log()
    token = _current.set(log)
    _catching.enter()
    try:
        yield log
    finally:
        _current.reset(token)
        _catching.leave()


class _Catching:
    """The way that warnings take while at least one log is open: it belongs to the process, and not to a thread."""

    def __init__(self):
        self._lock, self._n_open, self._context = threading.Lock(), 0, None

    def enter(self):
        """Add the warnings of a thread to its log."""
        with self._lock:
            if self._n_open == 0:
                self._context = warnings.catch_warnings()
                self._context.__enter__()
                # The log of the next subject needs a warning, too, that was given before.
                warnings.simplefilter("always")
                warnings.showwarning = functools.partial(_show, warnings.showwarning)
            self._n_open += 1

    def leave(self):
        """Show warnings as before, once no log is open."""
        with self._lock:
            self._n_open -= 1
            if self._n_open == 0:
                self._context.__exit__(None, None, None)


_catching = _Catching()


def _show(shown_otherwise, message, category, *place, **options):
    log = _current.get()
    if log is None:
        shown_otherwise(message, category, *place, **options)
    else:
        log(f"{category.__name__}: {message}")
