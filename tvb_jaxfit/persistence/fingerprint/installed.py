"""Installed packages: whether a module belongs to one, and a label for its version and for edits of its files."""

import base64
import contextlib
import contextvars
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
import sysconfig
from collections.abc import Iterator

_STANDARD_LIBRARY = pathlib.Path(sysconfig.get_path("stdlib"))
_PACKAGE = __name__.partition(".")[0]
# Suffixes of files that are executed when a package is imported.
_EXECUTABLE = (".py", ".so", ".pyd")
_has_versions = contextvars.ContextVar("has_versions", default=True)


@functools.cache
def is_library(name: str | None) -> bool:
    """True if a module is an installed one: not written by the user.

    Parameters
    ----------
    name : str or None
        Name of the module. None, as of an object without a module, is no library.

    Returns
    -------
    bool
    """
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    if top == _PACKAGE:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    # Decided by the folder: a file of the user's may have the name of a standard module.
    file = pathlib.Path(file)
    return _STANDARD_LIBRARY in file.parents or bool({"site-packages", "dist-packages"} & set(file.parts))


@contextlib.contextmanager
def without_versions() -> Iterator[None]:
    """Context in which `library_label` is the name alone."""
    token = _has_versions.set(False)
    try:
        yield
    finally:
        _has_versions.reset(token)


def library_label(name: str) -> str:
    """Name of a library's module, its version, and a digest of the files that were edited since it was installed.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    if not _has_versions.get():
        return name
    top = name.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", "")
    return f"{name} {version if isinstance(version, str) else ''}{_edits(top)}"


def forget_sources() -> None:
    """Forget the digests of packages without an installer's record: they may have been edited and reloaded."""
    _source_digest.cache_clear()


def _edits(top):
    if top in sys.stdlib_module_names:
        return ""
    if top == _PACKAGE:
        return f" {own_source_digest()}"
    edits = _edits_since_installation(top)
    return f" {_source_digest(top)}" if edits is None else edits


@functools.cache
def own_source_digest() -> str:
    """Digest of this package's sources at the first call. They change during development, the version does not.

    Returns
    -------
    str
    """
    return _source_digest.__wrapped__(_PACKAGE)


@functools.cache
def _edits_since_installation(top):
    """Digest of the files of a package that were edited since installation.

    Empty if none was edited; None if there is no record of the installed files.
    """
    edited, is_recorded = [], False
    for distribution in _distributions().get(top, ()):
        files = importlib.metadata.distribution(distribution).files or ()
        record = next((file.locate() for file in files if file.name == "RECORD"), None)
        for file in files:
            is_of_package = file.parts[0] in (top, f"{top}.py")
            if not is_of_package or file.suffix not in _EXECUTABLE or not file.hash or record is None:
                continue
            is_recorded, path = True, file.locate()
            # An installer writes the record last: a file that is not newer than the record is as recorded.
            if os.path.exists(path) and os.stat(path).st_mtime > os.stat(record).st_mtime:
                content = pathlib.Path(path).read_bytes()
                found = base64.urlsafe_b64encode(hashlib.new(file.hash.mode, content).digest()).rstrip(b"=").decode()
                if found != file.hash.value:
                    edited.append(f"{file} {found}")
    if not is_recorded:
        return None
    return f" {hashlib.blake2b(repr(sorted(edited)).encode(), digest_size=8).hexdigest()}" if edited else ""


@functools.cache
def _distributions():
    return {
        top: sorted(set(distributions)) for top, distributions in importlib.metadata.packages_distributions().items()
    }


@functools.cache
def _source_digest(top):
    """Digest of the sources of a package whose files no installer has recorded."""
    module = sys.modules.get(top)
    folders = [pathlib.Path(folder) for folder in getattr(module, "__path__", ())]
    single = [] if folders or not getattr(module, "__file__", None) else [pathlib.Path(module.__file__)]
    files = [*single, *(file for folder in folders for file in sorted(folder.rglob("*.py")))]
    total = hashlib.blake2b(digest_size=8)
    for file in files:
        total.update(repr(file.name).encode() + file.read_bytes())
    return total.hexdigest()
