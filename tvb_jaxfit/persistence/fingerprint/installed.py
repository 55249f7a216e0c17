"""Which modules are installed ones, and what tells one installation of them from another."""

import base64
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
import sysconfig

_STANDARD = pathlib.Path(sysconfig.get_path("stdlib"))
_OWN = __name__.partition(".")[0]
# Files that are run when a package is imported.
_RUN = (".py", ".so", ".pyd")


@functools.cache
def is_of_a_library(name):
    """Whether a module is an installed one, not written by the user.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool
    """
    if not isinstance(name, str):
        return False
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    if top == _OWN:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    # By its place: a file of the user's may have the name of a standard module.
    file = pathlib.Path(file)
    return _STANDARD in file.parents or bool({"site-packages", "dist-packages"} & set(file.parts))


def of_library(name):
    """Name of a library's module, its version, and what was edited in it since it was installed.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    top = name.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", "")
    return f"{name} {version if isinstance(version, str) else ''}{_edits(top)}"


def look_again():
    """Have packages without a record of their files read anew: they may have been edited and reloaded."""
    _sources.cache_clear()


def _edits(top):
    if top in sys.stdlib_module_names:
        return ""
    if top == _OWN:
        return f" {own_source_digest()}"
    recorded = _recorded(top)
    return f" {_sources(top)}" if recorded is None else recorded


@functools.cache
def own_source_digest():
    """Digest of this package as it was when it was first asked for: its version stays while it is worked on.

    Returns
    -------
    str
    """
    return _sources.__wrapped__(_OWN)


@functools.cache
def _recorded(top):
    """Digest of the files of a package that are not as they were installed, "" if all are; None without a record."""
    edited, is_recorded = [], False
    for distribution in _distributions().get(top, ()):
        files = importlib.metadata.distribution(distribution).files or ()
        record = next((file.locate() for file in files if file.name == "RECORD"), None)
        for file in files:
            if file.parts[0] not in (top, f"{top}.py") or file.suffix not in _RUN or not file.hash or record is None:
                continue
            is_recorded, path = True, file.locate()
            # An installer writes the record last: what is older is what it records.
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
def _sources(top):
    """Digest of the sources of a package that no installer has recorded."""
    module = sys.modules.get(top)
    homes = [pathlib.Path(home) for home in getattr(module, "__path__", ())]
    single = [] if homes or not getattr(module, "__file__", None) else [pathlib.Path(module.__file__)]
    files = [*single, *(file for home in homes for file in sorted(home.rglob("*.py")))]
    whole = hashlib.blake2b(digest_size=8)
    for file in files:
        whole.update(repr(file.name).encode() + file.read_bytes())
    return whole.hexdigest()
