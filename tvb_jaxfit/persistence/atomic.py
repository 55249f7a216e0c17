"""Atomic replacement of files: a reader finds the old content or the complete new one, never a part.

A writer holds a lock on a hidden temporary file for as long as it writes. A hidden file without a lock was left by a
process that was killed, and `recover` removes it.
"""

import contextlib
import functools
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:
    # Without locks, files that are being written cannot be distinguished from abandoned ones: all of them stay.
    fcntl = None

# Ending of a temporary file, which is also the lock; of a folder of files that are being written; of a folder whose
# files are complete and are being renamed.
_TEMPORARY, _INCOMPLETE, _COMPLETE = ".tvb_jaxfit", "-parts", "-ready"
_PLAN = "plan"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends without an error.

    Parameters
    ----------
    path : path-like
        Its directory is made if necessary, and what killed writers left there is removed (see `recover`).

    Yields
    ------
    file
        To write to.

    Raises
    ------
    OSError
        As for any writing: full disk, no permission. ``path`` is then as it was.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.persistence.atomic import atomic_write
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new" / "file"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"all of it")
    >>> path.read_bytes(), [entry.name for entry in path.parent.iterdir()]
    (b'all of it', ['file'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path.parent)
    temporary, file = _create_locked(path)
    try:
        with file:
            yield file
            _sync(file)
            if fcntl is not None:
                # Before the lock is released: without a lock the file would count as left behind.
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
    except BaseException:
        _unlink(temporary)
        raise


@contextlib.contextmanager
def atomic_write_all(folder: str | os.PathLike, remove: Iterable[str] = ()) -> Iterator[Callable[[str], BinaryIO]]:
    """Open several files of a folder that replace the old ones together when the block ends without an error.

    A process that is killed before the files are renamed leaves the folder as it was. For one that is killed during
    the renaming, `recover` renames the rest.

    Parameters
    ----------
    folder : path-like
        Made if necessary.
    remove : iterable of str
        Names of files to delete at the same time, unless they are written.

    Yields
    ------
    callable
        (name) to a binary file to write to.

    Raises
    ------
    OSError
        As for any writing. The folder is then as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recover(folder)
    lock_path, lock = _create_locked(folder / "results")
    incomplete, complete = Path(f"{lock_path}{_INCOMPLETE}"), Path(f"{lock_path}{_COMPLETE}")
    files = {}
    try:
        with lock, contextlib.ExitStack() as stack:
            incomplete.mkdir()

            def open_file(name):
                files[name] = stack.enter_context(open(incomplete / name, "xb"))
                return files[name]

            yield open_file
            plan = {"files": list(files), "remove": sorted(set(remove) - set(files))}
            (incomplete / _PLAN).write_text(json.dumps(plan))
            for file in files.values():
                _sync(file)
                file.close()
            os.rename(incomplete, complete)
            _rename_files(complete)
    except BaseException:
        shutil.rmtree(incomplete, ignore_errors=True)
        raise
    finally:
        _unlink(lock_path)


def recover(folder: str | os.PathLike) -> None:
    """Remove what killed writers left in a folder, and rename the files that they had completed.

    Parameters
    ----------
    folder : path-like
        Temporary files of living processes are left alone.
    """
    folder = Path(folder)
    if fcntl is None or not folder.is_dir():
        return
    for incomplete in folder.glob(f".*{_TEMPORARY}{_INCOMPLETE}"):
        _run_if_unlocked(_lock_of(incomplete, _INCOMPLETE), functools.partial(shutil.rmtree, incomplete, True))
    for complete in folder.glob(f".*{_TEMPORARY}{_COMPLETE}"):
        # A living writer is about to finish the renaming: wait for it.
        _run_if_unlocked(_lock_of(complete, _COMPLETE), functools.partial(_rename_files, complete), wait=True)
    for temporary in folder.glob(f".*{_TEMPORARY}"):
        _run_if_unlocked(temporary, functools.partial(_unlink, temporary))


def _unlink(path):
    with contextlib.suppress(OSError):
        path.unlink()


def _lock_of(path, ending):
    return Path(str(path).removesuffix(ending))


def _rename_files(complete):
    """Carry out the plan of a folder of complete files. Safe to repeat after an interruption."""
    with contextlib.suppress(FileNotFoundError):
        plan = json.loads((complete / _PLAN).read_text())
        for name in plan["files"]:
            with contextlib.suppress(FileNotFoundError):
                os.replace(complete / name, complete.parent / name)
        for name in plan["remove"]:
            (complete.parent / name).unlink(missing_ok=True)
    shutil.rmtree(complete, ignore_errors=True)


def _run_if_unlocked(lock, action, wait=False):
    """Run an action if no process holds a lock, while holding the lock."""
    try:
        file = open(lock, "r+b")
    except FileNotFoundError:
        action()
        return
    except OSError:
        # It belongs to another user.
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # The file may have been renamed to its final name after it was opened.
            is_current = os.path.samestat(os.lstat(lock), os.fstat(file.fileno()))
        except OSError:
            return
        if is_current:
            action()


def _create_locked(path):
    """(hidden path beside a path, new file there, opened and locked)."""
    while True:
        # A name may have at most 255 bytes.
        temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}{_TEMPORARY}")
        file = open(temporary, "xb")
        if _lock(file):
            return temporary, file
        # `recover` in another process removed it before it was locked.
        file.close()


def _lock(file):
    """Lock a new file for as long as it is open. Returns False if it was removed meanwhile."""
    if fcntl is None:
        return True
    # flock belongs to the open file, so it also works between threads. On a file system without locks the error can be
    # ignored: other processes have no locks there either.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync(file):
    file.flush()
    os.fsync(file.fileno())
