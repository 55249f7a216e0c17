"""A lock beside a file: of all threads and processes that want it, one has it."""

import contextlib
import os
import re
import threading

# By process, since a forked one has what its parent had: what its threads have, and whom to tell when that changes.
_turns = {}
# What `cache` has locks of.
_OF_A_RESULT = re.compile(r"\..+-[0-9a-f]{32}\.npz\.lock")


@contextlib.contextmanager
def file_lock(path):
    """Have a lock beside a file: another process, or thread, that wants it waits.

    A process that is forked meanwhile does not have it: it neither keeps others waiting nor lets them go on.

    Parameters
    ----------
    path : pathlib.Path
        Its directory is made where there is none. Where nothing can be written, there is no lock.
    """
    try:
        import fcntl
    except ImportError:
        # Without locks both compute, and the last one writes.
        yield
        return
    beside, process = path.absolute().with_name(f".{path.name}.lock"), os.getpid()
    changed, taken = _turns.setdefault(process, (threading.Condition(), set()))
    # The lock of a file is one of the process: between its threads, this is.
    with changed:
        changed.wait_for(lambda: beside not in taken)
        taken.add(beside)
        # Whoever else of this process wants one waits meanwhile.
        _remove_left_over(beside.parent, taken, fcntl)
    file = None
    try:
        with contextlib.suppress(OSError):
            beside.parent.mkdir(parents=True, exist_ok=True)
            file = _locked(beside, fcntl)
        yield
    finally:
        if os.getpid() == process:
            if file is not None:
                with contextlib.suppress(OSError):
                    beside.unlink()
                file.close()
            with changed:
                taken.discard(beside)
                changed.notify_all()


def _remove_left_over(folder, taken, fcntl):
    """Remove the locks of processes that were killed."""
    for path in folder.glob(".*.lock"):
        # To close a file would give up this process's own lock of it.
        if path in taken or not _OF_A_RESULT.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                path.unlink()


def _locked(path, fcntl):
    while True:
        file = open(path, "ab")
        # Of the process: a forked one has no part in it. (flock would be of the open file, which a fork shares.)
        fcntl.lockf(file, fcntl.LOCK_EX)
        # Whoever had it before has removed it: then this is the lock of nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()
