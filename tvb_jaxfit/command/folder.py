"""The folder of a fit: what lies in it, and how it gets there."""

import contextlib
import csv
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

from ..persistence.atomic import atomic_write, atomic_write_all, recover
from .options import Refused

_KIND = "account of a fit"
CHECKPOINT, ACCOUNT, PAGE = "checkpoint.npz", "fit.npz", "report.html"
_FILES = ("values.json", "values.npz", "fc.npy", "history.csv", ACCOUNT, PAGE, CHECKPOINT)
# What each page begins with.
_OF_A_PAGE = b'<p class="quiet">Fit to functional connectivity (FC), '


def claim(folder, force, resume, inputs=None):
    """Make sure, before anything else is done, that results can be written to a folder.

    Parameters
    ----------
    folder : path-like
        Where there is none, none is left.
    force, resume : bool
        Whether what a former fit has written there may be replaced, or gone on with.
    inputs : dict of str to path-like, optional
        Files that are read, by option: none of them is ever replaced.

    Raises
    ------
    Refused
        Where results of a fit are there already, or, to go on with, are not; where a file that would be replaced is an
        input, or was not written by a fit; where nothing can be written.
    """
    folder = Path(folder)
    recover(folder)
    there = [name for name in _FILES if (folder / name).exists()]
    read_too = [
        f"{name} is the input of {option}"
        for option, path in (inputs or {}).items()
        for name in there
        if Path(path).exists() and os.path.samefile(folder / name, path)
    ]
    if read_too:
        raise Refused(f"--out {folder}: {', '.join(read_too)}, and no output replaces an input; name another folder")
    if resume and CHECKPOINT not in there:
        how = "give --force in its place to replace what is there" if there else "leave it to begin"
        raise Refused(f"--resume: there is no {CHECKPOINT} in {folder} to go on from; {how}")
    if there and not (force or resume):
        raise Refused(
            f"--out {folder}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} there already; name another "
            "folder, or give --force to replace what a former fit has written, or --resume to go on with it"
        )
    foreign = foreign_in(folder)
    if foreign:
        raise Refused(
            f"--out {folder}: {', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} there, not as a fit has "
            "written it; only what a fit has written is replaced: move it, or name another folder"
        )
    _try_to_write(folder)


def _try_to_write(folder):
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with atomic_write(folder / "results") as file:
            # An empty file has its place on a full disk, too.
            file.write(bytes(65536))
            file.flush()
            os.fsync(file.fileno())
            raise _Tried
    except _Tried:
        pass
    except OSError as error:
        raise Refused(f"--out {folder}: {error}") from error
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


class _Tried(Exception):
    """What is written to try it takes no name."""


def foreign_in(folder):
    """Files in a folder that have names of results, and are not as a fit has written them.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of str
    """
    folder, written = Path(folder), {}
    there = [name for name in _FILES if os.path.lexists(folder / name)]
    if not there:
        return []
    # These load JAX.
    from ..fitting.checkpoint import is_checkpoint
    from ..persistence.serialise import ReadError, read

    with contextlib.suppress(OSError, ReadError):
        written = read(folder / ACCOUNT, _KIND)
        written = {ACCOUNT: None} | (written["written"] if isinstance(written, dict) else {})

    def is_ours(name):
        if name == CHECKPOINT:
            return is_checkpoint(folder / name)
        if name == PAGE:
            return _OF_A_PAGE in (folder / name).read_bytes()
        return name in written and written[name] in (None, _hash((folder / name).read_bytes()))

    return [name for name in there if not (folder / name).is_file() or not is_ours(name)]


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def inputs_of(options):
    """Files that a command reads, by option.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    dict of str to Path
    """
    named = {f"--{name}": getattr(options, name) for name in ("fc", "connectivity", "simulator")}
    settings = [text.partition("=") for text in options.set or []]
    named |= {f"--set {path}": value[1:] for path, _, value in settings if value[:1] == "@"}
    # FILE:KEY is of the file.
    return {
        option: Path(text) if Path(text).exists() else Path(text.rpartition(":")[0] or text)
        for option, text in named.items()
        if text is not None
    }


def stamp(path):
    """What tells a file from one that has replaced it; None where there is none.

    Parameters
    ----------
    path : path-like
    """
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size


def keep(folder, account, also_remove=()):
    """Write the results of a fit, but for the page: all of them, or none.

    Whatever a former fit has left there, its page included, is gone then: it would be taken for this one's.

    Parameters
    ----------
    folder : path-like
    account : FitSummary
    also_remove : iterable of str, optional
        Other files of the former fit.

    Raises
    ------
    OSError
        As of any writing; everything is as it was then.
    """
    contents = {
        "values.npz": _as_bytes(np.savez, **{each.path: each.fitted for each in account.parameters}),
        "values.json": json.dumps(_values(account), indent=1, ensure_ascii=False).encode(),
        "history.csv": _history(account).encode(),
    }
    if "Fitted" in account.matrices:
        contents["fc.npy"] = _as_bytes(np.save, account.matrices["Fitted"])
    from ..persistence.serialise import tree_to_arrays

    # How they were written, so that what is not this any more is somebody's.
    written = {name: _hash(content) for name, content in contents.items()}
    contents[ACCOUNT] = _as_bytes(np.savez, **tree_to_arrays({"account": account, "written": written}, _KIND))
    with atomic_write_all(folder, {*_FILES, *also_remove} - ({CHECKPOINT} - {*also_remove})) as file:
        for name, content in contents.items():
            file(name).write(content)


def _as_bytes(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def kept(folder):
    """FitSummary of the fit in a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    FitSummary

    Raises
    ------
    Refused
        Where there is none, or it is damaged.
    """
    from ..persistence.serialise import read

    try:
        recover(folder)
        held = read(Path(folder) / ACCOUNT, _KIND)
    except (OSError, ValueError) as error:
        raise Refused(f"{folder}: there is no fit of tvb-jaxfit fit to report on ({error})") from error
    # Of a former version, the account is alone.
    return held["account"] if isinstance(held, dict) else held


def _values(account):
    """Fitted values for people and other programs."""
    values = {
        each.path: {
            "unit": each.unit,
            "kept": each.constraint,
            "shape": list(each.fitted.shape),
            "initial": each.initial.tolist(),
            "fitted": each.fitted.tolist(),
        }
        for each in account.parameters
    }
    return {
        "simulator": account.description,
        "when": account.created,
        "regions": account.labels,
        "parameters": values,
        "diverged": "; ".join(history.diverged for history in account.stages.values() if history.diverged),
        "versions": account.details["Versions"],
        **account.code,
    }


def _history(account):
    """Loss and what else was recorded at each step, as CSV; and the same of the validation, where it was looked at."""
    names = list(dict.fromkeys(name for history in account.stages.values() for name in history.aux))
    of_unseen = list(dict.fromkeys(name for history in account.stages.values() for name in history.validation.aux))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["stage", "step", "loss", *names, "validation", *(f"validation {name}" for name in of_unseen)])
    for stage, history in account.stages.items():
        (steps, losses), aux = history.validation, history.validation.aux
        looked = [losses, *(aux.get(name, np.full(len(steps), "")) for name in of_unseen)]
        unseen = dict(zip(steps.tolist(), zip(*(each.tolist() for each in looked), strict=True), strict=True))
        for step, loss in enumerate(history.loss.tolist()):
            others = [history.aux[name].tolist()[step] if name in history.aux else "" for name in names]
            lines.writerow([stage, step, loss, *others, *unseen.get(step, [""] * len(looked))])
    return file.getvalue()
