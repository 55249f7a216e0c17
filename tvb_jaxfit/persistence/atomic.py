"""Files that are there whole, or as they were before; one alone, or several at once."""

import contextlib
import functools
import json
import os
import shutil
import uuid
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Without locks nobody can tell what is left over from what is being written: all of it stays.
    fcntl = None

# Ends of hidden names: a file that is being written (or the lock of several); beside it, a folder of files that are
# being written, and one of files that are all written.
_PART, _PARTS, _READY = ".tvb_jaxfit", "-parts", "-ready"
_PLAN = "plan"


@contextlib.contextmanager
def atomic_write(path):
    """Binary file that takes its name once it is written to the end, whatever happens before.

    Parameters
    ----------
    path : path-like
        Its directory is made where there is none. What has the name already is replaced. What writers that were killed
        have left in that directory is removed.

    Yields
    ------
    file
        To write into.

    Raises
    ------
    OSError
        As of any writing: a full disk, a place that may not be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tvb_jaxfit.persistence.atomic import atomic_write
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new" / "file"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"all of it")
    >>> path.read_bytes(), [each.name for each in path.parent.iterdir()]
    (b'all of it', ['file'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path.parent)
    written, file = _begun(path)
    try:
        with file:
            yield file
            _to_disk(file)
            if fcntl is not None:
                # Before the lock is gone: what has no lock is left over.
                os.replace(written, path)
        if fcntl is None:
            os.replace(written, path)
    except BaseException:
        with contextlib.suppress(OSError):
            written.unlink()
        raise


@contextlib.contextmanager
def atomic_write_all(folder, remove=()):
    """Several files of a folder that take their names at once, when all are written to the end.

    A process that is killed before leaves all as it was; one that is killed while they take their names leaves what
    `finish` needs to give them the rest.

    Parameters
    ----------
    folder : path-like
        Made where there is none.
    remove : iterable of str
        Names of files that are gone then, unless they are written.

    Yields
    ------
    callable
        Name to a binary file to write into.

    Raises
    ------
    OSError
        As of any writing; everything is as it was then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recover(folder)
    lock_path, lock = _begun(folder / "results")
    parts, ready, files = Path(f"{lock_path}{_PARTS}"), Path(f"{lock_path}{_READY}"), {}
    try:
        with lock, contextlib.ExitStack() as stack:
            parts.mkdir()

            def file(name):
                files[name] = stack.enter_context(open(parts / name, "xb"))
                return files[name]

            yield file
            (parts / _PLAN).write_text(json.dumps({"files": list(files), "remove": sorted(set(remove) - set(files))}))
            for each in files.values():
                _to_disk(each)
                each.close()
            os.rename(parts, ready)
            _put_in_place(ready)
    except BaseException:
        shutil.rmtree(parts, ignore_errors=True)
        raise
    finally:
        with contextlib.suppress(OSError):
            lock_path.unlink()


def recover(folder):
    """Remove what writers that were killed have left in a folder, and put in place what they had written to the end.

    Parameters
    ----------
    folder : path-like
        What a living process is about to write there stays alone.
    """
    folder = Path(folder)
    if fcntl is None or not folder.is_dir():
        return
    for parts in folder.glob(f".*{_PART}{_PARTS}"):
        _if_left_over(_lock_of(parts, _PARTS), functools.partial(shutil.rmtree, parts, ignore_errors=True))
    for ready in folder.glob(f".*{_PART}{_READY}"):
        # Its writer is about to be done.
        _if_left_over(_lock_of(ready, _READY), functools.partial(_put_in_place, ready), wait=True)
    for part in folder.glob(f".*{_PART}"):
        _if_left_over(part, functools.partial(_removed, part))


def _removed(path):
    with contextlib.suppress(OSError):
        path.unlink()


def _lock_of(path, end):
    return Path(str(path).removesuffix(end))


def _put_in_place(ready):
    """Give files their names; done again from where it was left, it comes to the same."""
    with contextlib.suppress(FileNotFoundError):
        plan = json.loads((ready / _PLAN).read_text())
        for name in plan["files"]:
            with contextlib.suppress(FileNotFoundError):
                os.replace(ready / name, ready.parent / name)
        for name in plan["remove"]:
            (ready.parent / name).unlink(missing_ok=True)
    shutil.rmtree(ready, ignore_errors=True)


def _if_left_over(lock, act, wait=False):
    """Do something where nobody has a lock, and nobody gets it meanwhile."""
    try:
        file = open(lock, "r+b")
    except FileNotFoundError:
        act()
        return
    except OSError:
        # Another user's.
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # What was opened may have taken its name since.
            is_there = os.path.samestat(os.lstat(lock), os.fstat(file.fileno()))
        except OSError:
            return
        if is_there:
            act()


def _begun(path):
    """(hidden path beside a path, file there that is locked)."""
    while True:
        # A name may have no more than 255 bytes.
        written = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}{_PART}")
        file = open(written, "xb")
        if _is_locked(file):
            return written, file
        # It was taken for one that is left over, between these lines.
        file.close()


def _is_locked(file):
    """Lock a new file as long as it is open: whether it is there still."""
    if fcntl is None:
        return True
    # Of the open file, so that it holds between threads, too. A place without locks has none of the others' either.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.stat(file.name), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _to_disk(file):
    file.flush()
    os.fsync(file.fileno())
