"""Subjects of a command: rows of a table, or files of folders; and the check of their files."""

import argparse
import re
from pathlib import Path

from ..cohort.subjects import Subject, read_subjects
from .cohort_options import parse_column
from .inputs import connectivity_problems, fc_problems
from .outcome import Refused
from .recordings import recording_problems

# Columns of FC.
_FC_COLUMNS = ("fc", "held_out")
_FIELDS = re.compile(r"\{(subject|session)\}")


def subjects_of(options: argparse.Namespace) -> list[Subject]:
    """Subjects of a command.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of Subject

    Raises
    ------
    Refused
        No table and no folder; a column that does not exist; no file that matches.
    ValueError
        Ids that are not allowed, or not unique.
    """
    path = Path(options.subjects)
    columns = dict(parse_column(text)[0] for text in options.column)
    if path.is_dir():
        return read_subjects(_rows_of_folder(path, columns))
    if not path.exists():
        raise Refused(f"SUBJECTS {path}: no such file or folder")
    subjects = read_subjects(path)
    missing = [f"--column {name}={other}: the table has no column {other}" for name, other in columns.items()]
    missing = [
        text for text, other in zip(missing, columns.values(), strict=True) if not any(other in s for s in subjects)
    ]
    if missing:
        raise Refused(*missing)
    return [_renamed(each, columns) for each in subjects]


def _renamed(subject, columns):
    values = dict(subject.values)
    return Subject(
        subject.id,
        subject.session,
        values | {name: values[other] for name, other in columns.items() if other in values},
    )


def _rows_of_folder(folder, columns):
    """(id, values) of each subject and session whose files match the patterns."""
    if not columns:
        raise Refused(f"SUBJECTS {folder} is a folder: name its files, as in --column 'fc=sub-{{subject}}/*_fc.csv'")
    found, problems = {}, []
    for name, pattern in columns.items():
        matches = list(_matches(folder, pattern))
        if not matches:
            problems.append(f"--column {name}={pattern}: no file in {folder} matches")
        for key, path in matches:
            cells = found.setdefault(key, {})
            if name in cells:
                problems.append(
                    f"--column {name}={pattern}: {cells[name]} and {path} are of the same subject and session"
                )
            cells[name] = str(path)
    if problems:
        raise Refused(*problems)
    # What has no session, such as a connectome, belongs to all sessions of its subject.
    shared = {subject: cells for (subject, session), cells in found.items() if not session}
    sessions = {key for key in found if key[1]}
    keys = [key for key in found if key[1] or not any(subject == key[0] for subject, _ in sessions)]
    for subject, session in sorted(keys):
        values = shared.get(subject, {}) | found[subject, session]
        yield subject, values | ({"session_id": session} if session else {})


def _matches(folder, pattern):
    """((subject, session), path) of each file that matches a pattern such as ``sub-{subject}/*_fc.csv``."""
    if "{subject}" not in pattern:
        raise Refused(f"--column ...={pattern}: put {{subject}} where the id of a subject stands")
    seen, parts = set(), []
    for part in re.split(r"(\{(?:subject|session)\}|\*)", pattern):
        field = _FIELDS.fullmatch(part)
        if field and field[1] in seen:
            parts.append(f"(?P={field[1]})")
        elif field:
            seen.add(field[1])
            parts.append(f"(?P<{field[1]}>[A-Za-z0-9.+]+)")
        else:
            parts.append("[^/]*" if part == "*" else re.escape(part))
    expression = re.compile("".join(parts))
    for path in sorted(folder.glob(_FIELDS.sub("*", pattern))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match:
            yield (match["subject"], match.groupdict().get("session", "")), path


def subject_problems(subjects: list[Subject], options: argparse.Namespace) -> dict[str, list[str]]:
    """Problems of the files of each subject that has any, by its label.

    Parameters
    ----------
    subjects : list of Subject
    options : argparse.Namespace

    Returns
    -------
    dict of str to list of str
    """
    found = {}
    for each in subjects:
        problems = [] if "fc" in each else recording_problems(each, options.atlas)
        for column in _FC_COLUMNS:
            if column in each:
                problems += fc_problems(str(each[column]), column)
        if "connectivity" in each:
            problems += connectivity_problems(str(each["connectivity"]), "connectivity")
        elif not options.simulator and options.connectivity is None:
            problems.append("no connectivity, and none is given by --connectivity")
        if problems:
            found[each.label] = problems
    return found
