"""Tables of a cohort in files: tab-separated, as in BIDS."""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..persistence.atomic import atomic_write

PARTICIPANTS, SCORES, PARAMETERS = "participants.tsv", "scores.tsv", "parameters.tsv"
_MISSING = "n/a"


def write_table(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as a tab-separated table, atomically; its columns are all names of the rows.

    Parameters
    ----------
    path : pathlib.Path
    rows : iterable of dict
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    lines = csv.writer(file, delimiter="\t", lineterminator="\n")
    lines.writerow(names)
    lines.writerows([[_text(row.get(name)) for name in names] for row in rows])
    with atomic_write(path) as opened:
        opened.write(file.getvalue().encode())


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated table as text, without missing values; none without the file.

    Parameters
    ----------
    path : pathlib.Path
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except FileNotFoundError:
        return []
    return [{name: value for name, value in row.items() if value not in (None, _MISSING)} for row in rows]


def is_cell(value) -> bool:
    """True for a value that a cell of a table has room for."""
    return isinstance(value, (str, bool, int, float, np.number, np.bool_))


def _text(value):
    is_missing = value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))
    return _MISSING if is_missing else str(value)
