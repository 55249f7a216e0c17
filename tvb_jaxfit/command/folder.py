"""Result folder of a fit: its files, and how they are written."""

import argparse
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..persistence.atomic import atomic_write, atomic_write_all, recover
from ..persistence.provenance import digest_of_file
from ..reporting.html import GENERATOR
from ..reporting.result_names import FILES, KIND, PAGE, SUMMARY
from .dependent_options import parse_maps
from .outcome import Refused

if TYPE_CHECKING:
    from ..reporting.summary import FitSummary

CHECKPOINT = "checkpoint.npz"
_FILES = (*FILES, PAGE, CHECKPOINT)
# Size of a trial file: on a full disk, an empty file could still be written.
_TRIAL_SIZE = 65536


def check_writable(folder, force: bool, resume: bool, inputs: dict | None = None):
    """Make sure, before the fit, that results can be written to a folder.

    Parameters
    ----------
    folder : path-like
        A folder that does not exist is not left behind.
    force, resume : bool
        The files of a former fit may be replaced, or continued from.
    inputs : dict of str to path-like, optional
        Input files by option: none of them is ever replaced.

    Raises
    ------
    Refused
        There are results of a fit already, or, to resume it, there are none; a file that would be replaced is an input,
        or was not written by a fit; nothing can be written.
    """
    folder = Path(folder)
    recover(folder)
    existing = [name for name in _FILES if (folder / name).exists()]
    conflicts = [
        f"{name} is the input of {option}"
        for option, path in (inputs or {}).items()
        for name in existing
        if Path(path).exists() and os.path.samefile(folder / name, path)
    ]
    if conflicts:
        raise Refused(f"--out {folder}: {', '.join(conflicts)}, and no output replaces an input; name another folder")
    if resume and CHECKPOINT not in existing:
        remedy = "give --force in its place to replace the existing files" if existing else "leave it to begin"
        raise Refused(f"--resume: there is no {CHECKPOINT} in {folder} to continue from; {remedy}")
    if existing and not (force or resume):
        raise Refused(
            f"--out {folder}: {', '.join(existing)} {'exists' if len(existing) == 1 else 'exist'}; name another "
            "folder, or give --force to replace the files of a former fit, or --resume to continue it"
        )
    foreign = foreign_files(folder)
    if foreign:
        raise Refused(
            f"--out {folder}: {', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} not as a fit has written "
            "it; only files that a fit has written are replaced: move it, or name another folder"
        )
    _try_to_write(folder)


def _try_to_write(folder):
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with atomic_write(folder / "results") as file:
            file.write(bytes(_TRIAL_SIZE))
            file.flush()
            os.fsync(file.fileno())
            raise _TrialDone
    except _TrialDone:
        pass
    except OSError as error:
        raise Refused(f"--out {folder}: {error}") from error
    finally:
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()


class _TrialDone(Exception):
    """The trial file was written; it never gets its name."""


def foreign_files(folder) -> list[str]:
    """Files in a folder with the name of a result, but with contents that no fit has written.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of str
    """
    folder, hashes = Path(folder), {}
    existing = [name for name in _FILES if os.path.lexists(folder / name)]
    if not existing:
        return []
    # These load JAX.
    from ..fitting.checkpoint import is_checkpoint
    from ..persistence.serialise import ReadError, read

    with contextlib.suppress(OSError, ReadError):
        stored = read(folder / SUMMARY, KIND)
        hashes = {SUMMARY: None} | (stored["written"] if isinstance(stored, dict) else {})

    def is_ours(name):
        if name == CHECKPOINT:
            return is_checkpoint(folder / name)
        if name == PAGE:
            return GENERATOR.encode() in (folder / name).read_bytes()
        return name in hashes and hashes[name] in (None, digest_of_file(folder / name))

    return [name for name in existing if not (folder / name).is_file() or not is_ours(name)]


def input_files(options: argparse.Namespace) -> dict[str, Path]:
    """Input files of a command, by option.

    Parameters
    ----------
    options : argparse.Namespace
    """
    named = {f"--{name}": getattr(options, name) for name in ("fc", "connectivity", "simulator")}
    named |= {f"--group {name}": name for name in options.group or []}
    named |= {f"--map {path}": option.file for path, option in parse_maps(options.map)[0].items()}
    settings = [text.partition("=") for text in options.set or []]
    named |= {f"--set {path}": value[1:] for path, _, value in settings if value[:1] == "@"}
    # FILE:KEY names a part of FILE.
    return {
        option: Path(text) if Path(text).exists() else Path(text.rpartition(":")[0] or text)
        for option, text in named.items()
        if text is not None
    }


def input_digests(options: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of each input file of a command, by option.

    Parameters
    ----------
    options : argparse.Namespace
    """
    return {option: digest_of_file(path) for option, path in input_files(options).items() if path.is_file()}


def file_identity(path) -> tuple | None:
    """Inode, time and size of a file, which change when it is replaced; None without a file.

    Parameters
    ----------
    path : path-like
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def write_results(folder, summary: "FitSummary", also_remove: Iterable[str] = ()):
    """Write the results of a fit, without the report: all files, or none.

    All other files of a former fit are removed, including its report: they would be mistaken for results of this fit.

    Parameters
    ----------
    folder : path-like
    summary : FitSummary
    also_remove : iterable of str, optional
        Further files of the former fit.

    Raises
    ------
    OSError
        The files cannot be written; the folder is as it was before.
    """
    from ..reporting.result_files import result_files

    contents = result_files(summary)
    with atomic_write_all(folder, {*_FILES, *also_remove} - ({CHECKPOINT} - {*also_remove})) as file:
        for name, content in contents.items():
            file(name).write(content)


def read_summary(folder) -> "FitSummary":
    """Summary of the fit in a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    FitSummary

    Raises
    ------
    Refused
        There is no fit, or its files are damaged.
    """
    from ..reporting.result_files import stored_summary

    try:
        recover(folder)
        return stored_summary(folder)
    except (OSError, ValueError) as error:
        raise Refused(f"{folder}: there is no fit of tvb-jaxfit fit to report on ({error})") from error
