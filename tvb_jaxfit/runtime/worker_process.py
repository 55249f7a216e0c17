"""Process of a worker: it runs the tasks that its parent sends, one after the other, and sends what they return.

Tasks arrive on standard input, outcomes leave on standard output. Both are taken away from the code of the tasks: it
reads an empty input, and prints on standard error. Nothing here imports JAX, so that a task decides on it.
"""

import contextlib
import os
import pickle
import queue
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import BinaryIO

from .remote import dumps

# Message that confirms that a task begins.
BEGUN = b""


def main(processors: Iterable[int] = ()) -> None:
    """Run tasks until the parent closes the channel.

    Parameters
    ----------
    processors : iterable of int, optional
        Processors that this process may use, where the operating system can restrict it. JAX and the BLAS libraries
        choose their number of threads by it when they start.
    """
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    reader, writer = _channel()
    tasks, is_idle = queue.SimpleQueue(), threading.Event()
    is_idle.set()
    threading.Thread(target=_receive_all, args=(reader, tasks, is_idle), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        while (task := tasks.get()) is not None:
            send(writer, BEGUN)
            outcome = _outcome(task)
            is_idle.set()
            send(writer, outcome)


def send(file: BinaryIO, message: bytes) -> None:
    """Send a message through a pipe: its length, and its bytes."""
    file.write(len(message).to_bytes(8, "big"))
    file.write(message)
    file.flush()


def receive(file: BinaryIO) -> bytes | None:
    """Wait for a message; None if the other side is gone, or goes while it sends."""
    header = file.read(8)
    if len(header) < 8:
        return None
    n_bytes = int.from_bytes(header, "big")
    message = file.read(n_bytes)
    return message if len(message) == n_bytes else None


def _channel():
    """Input and output of this process, which are no longer its standard input and output."""
    sys.stdout.flush()
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return reader, writer


def _receive_all(reader, tasks, is_idle):
    """Pass on the tasks. End this process at once when the parent is gone: nobody waits for a running task."""
    while (message := receive(reader)) is not None:
        is_idle.clear()
        tasks.put(message)
    if not is_idle.is_set():
        os._exit(1)
    tasks.put(None)


def _outcome(task):
    """Message with what a task returns, or raises."""
    try:
        function, arguments, keywords = pickle.loads(task)
        return dumps((True, function(*arguments, **keywords)))
    # A task that ends its process by sys.exit fails like one that raises an error.
    except BaseException as error:
        return _error_message(error)


def _error_message(error):
    note = f"In the worker process:\n{''.join(traceback.format_exception(error))}"
    try:
        error.add_note(note)
        message = dumps((False, error))
        if isinstance(pickle.loads(message)[1], Exception):
            return message
    # Errors of any class of the user's may refuse to be pickled, or to be made again.
    except Exception:
        pass
    replacement = RuntimeError(f"{type(error).__name__}: {error}")
    replacement.add_note(note)
    return dumps((False, replacement))
