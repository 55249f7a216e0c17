"""What took long is not computed twice, and never returned for something else."""

import functools
import inspect
import re
import warnings
from pathlib import Path

from ..checks import options as allowed
from ..checks.options import check
from .fingerprint.hasher import environment, seen
from .fingerprint.objects import NotHashable
from .locks import file_lock
from .serialise import ReadError, read, write

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
    NotHashable
        When called: where something that the function uses, or an argument, cannot be compared by content (an open
        file, a generator), by name.

    Warns
    -----
    UserWarning
        Where a file is damaged or foreign (the result is computed and the file replaced), where the result cannot be
        stored as arrays and JSON, or where the file cannot be written (it is returned all the same). Where the function
        depends on what cannot be seen: see the notes.

    Notes
    -----
    The key is made of the name, the code of the function and of every function of the user's that it calls, the content
    of all that they use (arguments, defaults, closures, globals: arrays by their bytes, states, TVB's objects and
    ``simulate`` by their attributes), the versions of what is installed, JAX's precision and the kind of device. So a
    changed loss, target or simulator is another file. Environment variables, the global random streams of Python and
    NumPy, context variables and what libraries hold as data are part of it where the function uses them by name. A
    `cached_property` is worked out once more on a copy of its instance, to see whether it was changed.

    What the key does not see is named in a warning: where the function opens files, reads a clock or starts a process,
    what was computed first is returned; where it looks names up while it runs (`eval`, `globals`, `sys.modules`,
    `input`), it is computed at each call. What a library computes in the function's stead is not looked into (the
    streams that it draws from, the files that it reads), nor what an `lru_cache` has kept. What the function changes
    beside what it returns is not done again.

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
    check("cache", name=(name, allowed.string), redo=(redo, allowed.boolean))
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"cache: name {name!r}; give letters, digits, '_', '-' and '.', as of a file.")

    def decorator(function):
        @functools.wraps(function)
        def cached(*args, **kwargs):
            path, unseen = _place(name, function, args, kwargs)
            kind = f"cache of {path.stem}"
            if unseen:
                _warn_of(unseen, name)
            if not all(each.is_cacheable for each in unseen.values()):
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
                # Whatever a result makes of the writer, it took long and is not lost.
                except Exception as error:
                    warnings.warn(f"cache: {name!r} was not kept ({error})", stacklevel=2)
                return result

        cached.path = lambda *args, **kwargs: _place(name, function, args, kwargs)[0]
        return cached

    return decorator


def _place(name, function, args, kwargs):
    """(file of a call, what it depends on that cannot be seen)."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        key, unseen = seen([name, function, bound.arguments, environment()], name)
    except NotHashable as error:
        raise NotHashable(f"cache: {error}") from None
    return _path / f"{name}-{key}.npz", unseen


def _warn_of(unseen, name):
    is_cacheable = all(each.is_cacheable for each in unseen.values())
    what = ", ".join(sorted({each.name for each in unseen.values()}))
    then = (
        "What was computed first is returned as long as nothing that can be seen has changed."
        if is_cacheable
        else "It is computed at each call, and not kept."
    )
    warnings.warn(
        f"cache: {name!r} depends on what cannot be seen: {what}. {then} Hand the values over as arguments, so that "
        "they are part of the key.",
        stacklevel=3,
    )
