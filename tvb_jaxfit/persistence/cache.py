"""Memoisation on disk: a result is computed once, and never returned for a call that could compute something else."""

import functools
import inspect
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

from ..checks import options as allowed
from ..checks.options import check
from .fingerprint.hasher import digest_and_untracked, environment
from .fingerprint.objects import NotHashable
from .locks import file_lock
from .serialise import ReadError, read, write

_folder = Path(".tvb_jaxfit")


def set_cache_path(path: str | os.PathLike) -> None:
    """Set the directory of `cache`. The default is ``.tvb_jaxfit`` in the current directory.

    Parameters
    ----------
    path : path-like
        Made when it is needed. Its files can be deleted at any time.

    Raises
    ------
    ValueError
        `path` is no path.
    """
    global _folder
    check("set_cache_path", path=(path, allowed.path))
    _folder = Path(path)


def cache(name: str, redo: bool = False) -> Callable[[Callable], Callable]:
    """Store the results of a function in files, and return them as long as nothing that they depend on has changed.

    Parameters
    ----------
    name : str
        First part of the files' names; the second is the key.
    redo : bool, optional
        Compute in any case, and replace what is stored.

    Returns
    -------
    callable
        Decorator. The decorated function has ``path(*arguments)``, the file of a call.

    Raises
    ------
    ValueError
        The name cannot be part of a file's name.
    NotHashable
        When called: an argument, or something that the function uses, cannot be compared by content (an open file, a
        generator). The message names it.

    Warns
    -----
    UserWarning
        A file is damaged or foreign (the result is computed, and the file replaced). The result cannot be stored as
        arrays and JSON, or the file cannot be written (the result is returned all the same). The function depends on
        something that cannot be tracked: see the notes.

    Notes
    -----
    The key is a digest of the name, of the code of the function, and of every function of the user's that it calls. It
    covers the content of everything that they use: arguments, defaults, closures and globals; arrays by their bytes;
    states, TVB's objects and ``simulate`` by their attributes. It also covers the installed versions, JAX's precision
    and the kind of device. So a changed loss, target or simulator is another file. Environment variables, the global
    random streams of Python and NumPy, context variables and data of libraries are part of the key if the function uses
    them by name. A `cached_property` is evaluated once more on a copy of its instance, to find out whether its value
    was changed.

    A warning names what cannot be tracked. If the function opens files, reads a clock or starts a process, the first
    result is returned. If it looks names up while it runs (`eval`, `globals`, `sys.modules`, `input`), it is computed
    at each call. The inside of a library is not tracked (the random streams that it draws from, the files that it
    reads), nor are values in an `lru_cache`. Side effects of the function are not repeated.

    Results are stored as arrays and JSON and never unpickled. Numbers, strings, arrays, lists, tuples, dicts, `State`,
    `Parameter`, `History` and `Exploration` are restored with their types. If two processes make the same call at the
    same time, one computes and the other waits.

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
    check("cache", name=(name, allowed.string), redo=(redo, allowed.boolean))
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"cache: name {name!r}; give letters, digits, '_', '-' and '.', as in a file's name.")

    def decorator(function):
        @functools.wraps(function)
        def cached(*args, **kwargs):
            path, untracked = _file_of_call(name, function, args, kwargs)
            kind = f"cache of {path.stem}"
            if untracked:
                _warn_untracked(untracked, name)
            if not _is_cacheable(untracked):
                return function(*args, **kwargs)
            with file_lock(path):
                if not redo:
                    try:
                        return read(path, kind)
                    except (FileNotFoundError, NotADirectoryError):
                        pass
                    except ReadError as error:
                        warnings.warn(f"cache: {error}; it is computed anew.", stacklevel=2)
                result = function(*args, **kwargs)
                try:
                    write(path, result, kind)
                # Any error of the writer: the result may have taken hours, and must not be lost.
                except Exception as error:
                    warnings.warn(f"cache: the result of {name!r} was not stored ({error})", stacklevel=2)
                return result

        cached.path = lambda *args, **kwargs: _file_of_call(name, function, args, kwargs)[0]
        return cached

    return decorator


def _file_of_call(name, function, args, kwargs):
    """(file of a call, its untracked dependencies by path)."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        key, untracked = digest_and_untracked([name, function, bound.arguments, environment()], name)
    except NotHashable as error:
        raise NotHashable(f"cache: {error}") from None
    return _folder / f"{name}-{key}.npz", untracked


def _is_cacheable(untracked):
    return all(dependency.is_cacheable for dependency in untracked.values())


def _warn_untracked(untracked, name):
    names = ", ".join(sorted({dependency.name for dependency in untracked.values()}))
    consequence = (
        "The first result is returned as long as nothing that is tracked has changed."
        if _is_cacheable(untracked)
        else "It is computed at each call, and not stored."
    )
    warnings.warn(
        f"cache: {name!r} depends on what cannot be tracked: {names}. {consequence} Pass the values as arguments, so "
        "that they are part of the key.",
        stacklevel=3,
    )
