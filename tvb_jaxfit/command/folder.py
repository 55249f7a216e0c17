"""The folder of a fit: what lies in it, and how it gets there."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np

from ..files import whole
from ..fitting.store import arrays_of, read
from .options import Refused

_KIND = "account of a fit"
CHECKPOINT, ACCOUNT, PAGE = "checkpoint.npz", "fit.npz", "report.html"
_FILES = ("values.json", "values.npz", "fc.npy", "history.csv", ACCOUNT, PAGE, CHECKPOINT)


def claim(folder, force, resume):
    """Make sure, before anything else is done, that results can be written to a folder.

    Parameters
    ----------
    folder : path-like
        Where there is none, none is left.
    force, resume : bool
        Whether what is there may be replaced, or gone on with.

    Raises
    ------
    Refused
        Where results of a fit are there already, or, to go on with, are not; where nothing can be written.
    """
    folder = Path(folder)
    there = [name for name in _FILES if (folder / name).exists()]
    if resume and CHECKPOINT not in there:
        raise Refused(f"--resume: there is no {CHECKPOINT} in {folder} to go on from; leave it to begin")
    if there and not (force or resume):
        raise Refused(
            f"--out {folder}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} there already; name another "
            "folder, or give --force to replace what is there, or --resume to go on with it"
        )
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with whole(folder / ".written") as file:
            # An empty file has its place on a full disk, too.
            file.write(bytes(65536))
        (folder / ".written").unlink()
    except OSError as error:
        raise Refused(f"--out {folder}: {error}") from error
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


@contextlib.contextmanager
def put_aside(path):
    """A file is out of the way within, and gone afterwards; after an error that put none in its place, it is back."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.before")
    if path.exists():
        path.replace(aside)
    try:
        yield
    except BaseException:
        if aside.exists() and not path.exists():
            aside.replace(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def keep(folder, account):
    """Write the results of a fit, but for the page: all of them, or none.

    Whatever a former fit has left there, its page included, is gone then: it would be taken for this one's.

    Parameters
    ----------
    folder : path-like
    account : Account

    Raises
    ------
    OSError
        As of any writing; everything is as it was then.
    """
    folder, files = Path(folder), {}
    with contextlib.ExitStack() as stack:

        def file(name):
            files[name] = stack.enter_context(whole(folder / name))
            return files[name]

        np.savez(file(ACCOUNT), **arrays_of(account, _KIND))
        np.savez(file("values.npz"), **{each.path: each.fitted for each in account.parameters})
        if "Fitted" in account.matrices:
            np.save(file("fc.npy"), account.matrices["Fitted"])
        file("values.json").write(json.dumps(_values(account), indent=1, ensure_ascii=False).encode())
        file("history.csv").write(_history(account).encode())
        # Before any of them takes its name, there has to be room for all.
        for each in files.values():
            each.flush()
            os.fsync(each.fileno())
        for name in {*_FILES} - {*files, CHECKPOINT}:
            (folder / name).unlink(missing_ok=True)


def kept(folder):
    """Account of the fit in a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    Account

    Raises
    ------
    Refused
        Where there is none, or it is damaged.
    """
    try:
        return read(Path(folder) / ACCOUNT, _KIND)
    except (OSError, ValueError) as error:
        raise Refused(f"{folder}: there is no fit of tvb-jaxfit fit to report on ({error})") from error


def _values(account):
    """Fitted values for people and other programs."""
    values = {
        each.path: {
            "unit": each.unit,
            "kept": each.kind,
            "shape": list(each.fitted.shape),
            "initial": each.initial.tolist(),
            "fitted": each.fitted.tolist(),
        }
        for each in account.parameters
    }
    return {
        "simulator": account.description,
        "when": account.when,
        "regions": account.labels,
        "parameters": values,
        "versions": account.facts["Versions"],
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
