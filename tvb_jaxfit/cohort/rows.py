"""Rows of the tables of a cohort: scores of the fits, and fitted values."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .status import Status


def score_rows(
    entries: Iterable[tuple[str, Status]], lost: dict[str, str], baselines: dict[str, float], participants: dict
) -> list[dict]:
    """Rows of the table of scores.

    Parameters
    ----------
    entries : iterable of (str, Status)
        Folder of each fit, and its status.
    lost : dict of str to str
        By folder, the reason why no worker has completed a fit.
    baselines : dict of str to float
        By folder, as of `group_baselines`.
    participants : dict
        As of `read_participants`.

    Returns
    -------
    list of dict
    """
    rows = []
    for name, status in entries:
        row = _key(status) | {"status": str(status.progress)} | status.scores | {"group": baselines.get(name)}
        row |= {"error": status.reason or lost.get(name) or None}
        others = participants.get((status.participant_id, status.session), {})
        rows.append(row | {key: value for key, value in others.items() if key not in row})
    return rows


def parameter_rows(
    fitted: dict[str, dict], errors: dict[str, dict] | None, statuses: dict[str, Status], places: Callable
) -> Iterator[dict]:
    """Rows of the table of fitted values.

    Parameters
    ----------
    fitted : dict of str to dict
        Values by folder and path.
    errors : dict of str to dict or None
        As of `read_standard_errors`, by folder; None for a table without them.
    statuses : dict of str to Status
        By folder.
    places : callable
        Folder and path to the names of the values.

    Yields
    ------
    dict
    """
    for name, by_path in fitted.items():
        for path, values in by_path.items():
            columns = {"region": places(name, path), "value": values.ravel().tolist()}
            if errors is not None:
                columns["standard_error"], determined = (each.ravel().tolist() for each in errors[name][path])
                columns["determined"] = [None if math.isnan(each) else each == 1.0 for each in determined]
            for cells in zip(*columns.values(), strict=True):
                yield _key(statuses[name]) | {"path": path} | dict(zip(columns, cells, strict=True))


def share_determined(determined: np.ndarray) -> np.ndarray:
    """Share of the fits in which FC determines a value, of those of which it is known; NaN without any.

    Parameters
    ----------
    determined : ndarray, shape (n_fit, ...)
        1 or 0; NaN where it is not known.

    Returns
    -------
    ndarray, shape (...)
    """
    n_known = np.isfinite(determined).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.nansum(determined, axis=0) / n_known


def _key(status):
    return {
        "participant_id": f"sub-{status.participant_id}",
        "session_id": status.session or None,
        "seed": status.seed,
    }
