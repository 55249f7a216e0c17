"""What took long is not computed twice, and never returned for something else."""

import contextlib
import functools
import inspect
import os
import re
import warnings
from pathlib import Path

from .. import options as allowed
from ..options import check
from .content import digest, environment
from .parts import NotKeyed
from .store import NotStored, Unreadable, read, write

_path = Path(".tvb_jaxfit")


def set_cache_path(path):
    """Say where `cache` keeps what it keeps: ``.tvb_jaxfit`` in the current directory, where nothing is said.

    Parameters
    ----------
    path : path-like
        A directory, made when it is needed. What is in it can be deleted at any time.
    """
    global _path
    check("set_cache_path", path=(path, allowed.path))
    _path = Path(path)


def cache(name, redo=False):
    """Keep what a function returns in a file, and return that where nothing has changed.

    Parameters
    ----------
    name : str
        What the file is called, beside its key.
    redo : bool, optional
        Whether to compute it in any case.

    Returns
    -------
    callable
        Decorator. The decorated function has ``path(*arguments)``, the file of a call.

    Raises
    ------
    ValueError
        Where the name is none for a file.
    NotKeyed
        When called: where something that the function uses, or an argument, cannot be compared by content (an open
        file, a generator), by name.

    Warns
    -----
    UserWarning
        Where a file is damaged or foreign (the result is computed and the file replaced), where the result cannot be
        stored as arrays and JSON, or where the file cannot be written (it is returned all the same).

    Notes
    -----
    The key is made of the name, the code of the function and of every function of the user's that it calls, the content
    of all that they use (arguments, defaults, closures, globals: arrays by their bytes, states, TVB's objects and
    ``simulate`` by their attributes), the versions of what is installed, JAX's precision and the kind of device. So a
    changed loss, target or simulator is another file. What it does not see: files that the function opens, and draws
    from numpy's global stream. What the function changes beside what it returns is not done again either.

    Results are stored as arrays and JSON and never unpickled: numbers, strings, arrays, lists, tuples, dicts, `State`,
    `Parameter`, `History` and `Exploration` come back as they went. Of two processes that ask at once, one computes.

    Examples
    --------
    >>> import tempfile
    >>> from tvb_jaxfit import cache, set_cache_path
    >>> set_cache_path(tempfile.mkdtemp())
    >>> @cache("square")
    ... def square(x):
    ...     print("computing")
    ...     return x**2
    >>> square(3)
    computing
    9
    >>> square(3), square(4)
    computing
    (9, 16)
    """
    check("cache", name=(name, allowed.text), redo=(redo, allowed.flag))
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"cache: name {name!r}; give letters, digits, '_', '-' and '.', as of a file.")

    def decorator(function):
        @functools.wraps(function)
        def cached(*args, **kwargs):
            path = cached.path(*args, **kwargs)
            kind = f"cache of {path.stem}"
            with _alone(path):
                if not redo:
                    try:
                        return read(path, kind)
                    except (FileNotFoundError, NotADirectoryError):
                        pass
                    except Unreadable as error:
                        warnings.warn(f"cache: {error}; it is computed anew.", stacklevel=2)
                result = function(*args, **kwargs)
                try:
                    write(path, result, kind)
                except (NotStored, OSError) as error:
                    warnings.warn(f"cache: {name!r} was not kept ({error})", stacklevel=2)
                return result

        def path(*args, **kwargs):
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            try:
                key = digest([name, function, bound.arguments, environment()], name)
            except NotKeyed as error:
                raise NotKeyed(f"cache: {error}") from None
            return _path / f"{name}-{key}.npz"

        cached.path = path
        return cached

    return decorator


@contextlib.contextmanager
def _alone(path):
    """Hold a lock beside a file: another process, or thread, that wants it waits."""
    try:
        import fcntl
    except ImportError:
        # Without locks both compute, and the last one writes.
        yield
        return
    beside = path.with_name(f".{path.name}.lock")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(beside, fcntl)
    except OSError:
        # Where nothing can be written, nothing is; to compute is still possible.
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
        file.close()


def _locked(path, fcntl):
    while True:
        file = open(path, "ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever held it before has removed it: then this is the lock of nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()
