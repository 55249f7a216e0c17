"""Files of a fit's results: values, FC, history and summary, for people, for other programs, and for a report."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from ..persistence.serialise import read, to_bytes
from .result_names import KIND, SUMMARY
from .summary import FitSummary


def result_files(summary: FitSummary) -> dict[str, bytes]:
    """Contents of the files of a fit, by name.

    Parameters
    ----------
    summary : FitSummary

    Returns
    -------
    dict of str to bytes
        ``values.json`` and ``values.npz`` (fitted values), ``fc.npy`` (FC of the fitted simulator, if it has one),
        ``history.csv`` (loss and r of each step) and ``fit.npz``, the summary, with a hash of each other file.
    """
    contents = {
        "values.npz": _as_bytes(np.savez, **{each.path: each.fitted for each in summary.parameters}),
        "values.json": json.dumps(_values(summary), indent=1, ensure_ascii=False).encode(),
        "history.csv": _history(summary).encode(),
    }
    if "Fitted" in summary.matrices:
        contents["fc.npy"] = _as_bytes(np.save, summary.matrices["Fitted"])
    # The hashes tell these files from files that were changed since.
    hashes = {name: file_hash(content) for name, content in contents.items()}
    return contents | {SUMMARY: to_bytes({"summary": summary, "written": hashes}, KIND, compressed=True)}


def file_hash(content: bytes) -> str:
    """SHA-256 of the content of a file."""
    return hashlib.sha256(content).hexdigest()


def stored_summary(folder) -> FitSummary:
    """Summary of the fit in a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    FitSummary

    Raises
    ------
    OSError, ReadError
        There is no fit, or its file is damaged.
    """
    stored = read(Path(folder) / SUMMARY, KIND)
    # A former version has stored the summary alone.
    return stored["summary"] if isinstance(stored, dict) else stored


def _as_bytes(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def _coefficients(parameter, errors):
    """Coefficients of maps by name, with their standard errors if they are known."""
    found = {name: {"initial": initial, "fitted": fitted} for name, (initial, fitted) in parameter.coefficients.items()}
    if errors is not None and parameter.path in errors.names:
        uncertain = errors.standard_error[parameter.path].tolist(), errors.is_determined[parameter.path].tolist()
        for each, error, is_determined in zip(found.values(), *uncertain, strict=True):
            each |= {"standard_error": error, "determined": is_determined}
    return found


def _uncertainty(parameter):
    """Standard errors of the values of a parameter, and which of them FC determines; null where they are not free."""
    if parameter.standard_error is None:
        return {}
    is_free = np.isfinite(parameter.standard_error)
    return {
        "standard_error": np.where(is_free, parameter.standard_error, None).tolist(),
        "determined": np.where(is_free, parameter.is_determined, None).tolist(),
    }


def _values(summary):
    """Fitted values for people and other programs."""
    values = {
        each.path: {
            "unit": each.unit,
            "kept": each.constraint,
            "shape": list(each.fitted.shape),
            "initial": each.initial.tolist(),
            "fitted": each.fitted.tolist(),
        }
        | _uncertainty(each)
        | ({"coefficients": _coefficients(each, summary.standard_errors)} if each.coefficients else {})
        for each in summary.parameters
    }
    return {
        "simulator": summary.description,
        "when": summary.created,
        "regions": summary.labels,
        "parameters": values,
        "diverged": "; ".join(history.diverged for history in summary.stages.values() if history.diverged),
        "versions": summary.details["Versions"],
        **summary.code,
    }


def _history(summary):
    """Loss and other recorded scalars of each step, and of its validation if there is one, as CSV."""
    histories = summary.stages.values()
    names = list(dict.fromkeys(name for history in histories for name in history.aux))
    validation_names = list(dict.fromkeys(name for history in histories for name in history.validation.aux))
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(
        ["stage", "step", "loss", *names, "validation", *(f"validation {name}" for name in validation_names)]
    )
    for stage, history in summary.stages.items():
        (steps, losses), aux = history.validation, history.validation.aux
        columns = [losses, *(aux.get(name, np.full(len(steps), "")) for name in validation_names)]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        validations = dict(zip(steps.tolist(), rows, strict=True))
        for step, loss in enumerate(history.loss.tolist()):
            others = [history.aux[name].tolist()[step] if name in history.aux else "" for name in names]
            lines.writerow([stage, step, loss, *others, *validations.get(step, [""] * len(columns))])
    return file.getvalue()
