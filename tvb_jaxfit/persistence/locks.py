"""Lock file beside a file: of all threads and processes that ask for it, one holds it at a time."""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

# By process: (condition that announces changes, paths of the locks that threads of the process hold). A forked process
# inherits the entry of its parent, and must not use it.
_held_by_process = {}
# Lock files of results of `cache`.
_LOCK_OF_RESULT = re.compile(r"\..+-[0-9a-f]{32}\.npz\.lock")


@contextlib.contextmanager
def file_lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock beside a file; other processes and threads that ask for it wait.

    A process that is forked during the block does not hold the lock: it neither keeps others waiting nor releases them.

    Parameters
    ----------
    path : pathlib.Path
        Its directory is made if necessary. Where nothing can be written, nothing is locked.
    wait : bool, optional
        Wait for another holder. False: enter the block at once, without the lock.

    Yields
    ------
    bool
        False if another process or thread holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        # Without locks, several processes compute the same result, and the last one writes it.
        yield True
        return
    lock_path, process = path.absolute().with_name(f".{path.name}.lock"), os.getpid()
    changed, held = _held_by_process.setdefault(process, (threading.Condition(), set()))
    # A lock of fcntl.lockf belongs to the process. The condition and the set lock between its threads.
    with changed:
        is_free = changed.wait_for(lambda: lock_path not in held, None if wait else 0.0)
        if is_free:
            held.add(lock_path)
            _remove_abandoned(lock_path.parent, held, fcntl)
    if not is_free:
        yield False
        return
    file = None
    try:
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            file = _lock(lock_path, fcntl, wait)
        except BlockingIOError:
            is_free = False
        except OSError:
            pass
        yield is_free
    finally:
        if os.getpid() == process:
            if file is not None:
                with contextlib.suppress(OSError):
                    lock_path.unlink()
                file.close()
            with changed:
                held.discard(lock_path)
                changed.notify_all()


def _remove_abandoned(folder, held, fcntl):
    """Remove lock files of processes that were killed."""
    for path in folder.glob(".*.lock"):
        # Closing a file releases all locks that this process has on it: its own lock files are not opened.
        if path in held or not _LOCK_OF_RESULT.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                path.unlink()


def _lock(path, fcntl, wait=True):
    """Locked file; raises BlockingIOError if another process holds the lock, and it is not to be waited for."""
    while True:
        file = open(path, "ab")
        # lockf belongs to the process, so that a forked one has no share in it; flock would be shared.
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.close()
            # Some systems report a lock that is held as missing permission.
            if not wait and error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError from error
            raise
        # The previous holder may have removed the file: then the lock protects nothing, and is taken anew.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()
