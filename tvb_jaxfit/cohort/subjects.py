"""Subjects of a cohort: who they are, and what belongs to each."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks.suggestions import did_you_mean

# Names of the column of a table that says who a row belongs to, in order of preference; the first is that of BIDS.
ID_COLUMNS = ("participant_id", "subject_id", "subject", "id")
SESSION_COLUMNS = ("session_id", "session")
# Cells of a table that stand for no value; BIDS has "n/a".
_MISSING = ("", "n/a", "N/A", "nan", "NaN")
_LABEL = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, eq=False)
class Subject(Mapping):
    """One recording of one subject: a mapping from names to what belongs to it.

    Attributes
    ----------
    id : str
        Without BIDS's prefix ``sub-``.
    session : str
        Without BIDS's prefix ``ses-``; empty for a subject with one recording.
    values : dict of str to object
        Arrays, paths, numbers: what the cells of its row are.
    """

    id: str
    session: str = ""
    values: dict = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """Name in messages and tables of contents: ``sub-01`` or ``sub-01/ses-a``."""
        return f"sub-{self.id}/ses-{self.session}" if self.session else f"sub-{self.id}"

    def __getitem__(self, name):
        if name not in self.values:
            known = ", ".join(self.values) or "nothing"
            raise KeyError(f"{self.label} has no {name!r}; it has {known}.{did_you_mean(str(name), self.values)}")
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self):
        return len(self.values)


class ObservedSubject(Subject):
    """Subject that notes what is asked of it.

    Attributes
    ----------
    asked : set of str
        Names of values, whether they exist or not. ``ALL`` if the names themselves were asked for.
    """

    ALL = "*"

    def __init__(self, subject: Subject):
        super().__init__(subject.id, subject.session, subject.values)
        object.__setattr__(self, "asked", set())

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def __iter__(self):
        self.asked.add(self.ALL)
        return super().__iter__()

    def __len__(self):
        self.asked.add(self.ALL)
        return super().__len__()


def read_subjects(subjects: Any) -> list[Subject]:
    """Subjects as `fit_cohort` takes them.

    Parameters
    ----------
    subjects : pandas.DataFrame, path-like, mapping or iterable
        See `fit_cohort`.

    Returns
    -------
    list of Subject

    Raises
    ------
    ValueError
        Something else; no subject; an id or a session that cannot be part of a file's name; two rows of one subject and
        session. All problems in one message.
    OSError
        The table cannot be read.

    Examples
    --------
    >>> from tvb_jaxfit.cohort.subjects import read_subjects
    >>> first, second = read_subjects({"sub-01": {"age": 30}, "sub-02": {"age": 41}})
    >>> first, second["age"]
    (Subject(id='01', session=''), 41)
    """
    if isinstance(subjects, (str, os.PathLike)):
        # Absolute: workers may run in another folder.
        subjects = _rows_of_file(Path(subjects).absolute())
    elif hasattr(subjects, "to_dict") and hasattr(subjects, "columns"):
        subjects = _rows_of_frame(subjects)
    elif isinstance(subjects, Mapping):
        subjects = subjects.items()
    if not isinstance(subjects, Iterable):
        raise ValueError(f"subjects: {_GIVE.format(type(subjects).__name__)}")
    found, problems = [], []
    for place, row in enumerate(subjects):
        try:
            found.append(_subject(row))
        except ValueError as error:
            problems.append(f"row {place}: {error}")
    problems += _repeated(found)
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(f"subjects: {'; '.join(problems[:10])}{more}")
    if not found:
        raise ValueError("subjects: there are none.")
    return found


_GIVE = "{} found; give a table with a column participant_id, or pairs of an id and a dict of what belongs to it."


def _subject(row):
    if isinstance(row, Subject):
        return row
    if not (isinstance(row, (tuple, list)) and len(row) == 2 and isinstance(row[1], Mapping)):
        raise ValueError(_GIVE.format(type(row).__name__))
    identity, values = row[0], dict(row[1])
    column = next((name for name in SESSION_COLUMNS if name in values), None)
    session = "" if column is None else _label(values.pop(column), "ses-")
    return Subject(_label(identity, "sub-"), session, values)


def _label(value, prefix):
    text = str(value).removeprefix(prefix)
    if not _LABEL.fullmatch(text):
        what = "id" if prefix == "sub-" else "session"
        raise ValueError(f"{what} {value!r}; give letters, digits, '_', '-', '+' and '.', as in a file's name")
    return text


def _repeated(subjects):
    seen, repeated = set(), {}
    for each in subjects:
        # Some file systems do not distinguish capitals.
        key = each.label.lower()
        if key in seen:
            repeated[key] = f"{each.label} occurs more than once; name its recordings in a column session_id"
        seen.add(key)
    return list(repeated.values())


def _rows_of_frame(frame):
    column = next((name for name in ID_COLUMNS if name in frame.columns), None)
    ids = frame.index if column is None else frame[column]
    others = frame if column is None else frame.drop(columns=column)
    for identity, row in zip(ids, others.to_dict("records"), strict=True):
        yield identity, {str(name): value for name, value in row.items() if not _is_missing(value)}


def _is_missing(value):
    return value is None or (isinstance(value, float) and value != value)


def _rows_of_file(path):
    """Rows of a table in a file; files are named relative to its folder."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        delimiter = "," if path.suffix.lower() == ".csv" else "\t"
        rows = [row for row in csv.reader(file, delimiter=delimiter) if any(map(str.strip, row))]
    if not rows:
        raise ValueError(f"{path} is empty; give a table whose first line names its columns.")
    names = [name.strip() for name in rows[0]]
    column = next((name for name in ID_COLUMNS if name in names), None)
    if column is None:
        raise ValueError(
            f"{path}: no column {ID_COLUMNS[0]}; there is: {', '.join(names)}. The columns of a .csv file are "
            "separated by commas, those of any other file by tabulators."
        )
    uneven = [str(place) for place, row in enumerate(rows, 1) if len(row) != len(names)]
    if uneven:
        raise ValueError(f"{path}: line {', '.join(uneven[:10])}: not {len(names)} cells, as the first line has.")
    for row in rows[1:]:
        cells = dict(zip(names, map(str.strip, row), strict=True))
        identity = cells.pop(column)
        yield identity, {name: _cell(text, path.parent) for name, text in cells.items() if text not in _MISSING}


def _cell(text, folder):
    """Value of a cell: a number, the path of a file, or text."""
    for kind in (int, float):
        # A label such as 1_000 is no number.
        if "_" not in text:
            try:
                return kind(text)
            except ValueError:
                pass
    place = folder / text
    # FILE:KEY names a part of a file.
    return str(place) if place.exists() or (folder / text.rpartition(":")[0]).is_file() else text
