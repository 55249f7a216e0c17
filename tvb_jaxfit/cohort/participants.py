"""Table of the subjects of a cohort, as BIDS has it."""

from pathlib import Path

from ..persistence.locks import file_lock
from .recipe import Job
from .tables import PARTICIPANTS, is_cell, read_table, write_table


def read_participants(folder: Path) -> dict[tuple[str, str], dict]:
    """Rows of the table by id and session; none without the file.

    Parameters
    ----------
    folder : pathlib.Path
        Of the cohort.
    """
    rows = read_table(folder / PARTICIPANTS)
    return {(row["participant_id"].removeprefix("sub-"), row.get("session_id", "")): row for row in rows}


def write_participants(folder: Path, jobs: list[Job]) -> None:
    """Write the table of the subjects: every value that a cell has room for. Other subjects in the table stay.

    Parameters
    ----------
    folder : pathlib.Path
    jobs : list of Job
    """
    with file_lock(folder / PARTICIPANTS):
        rows = read_participants(folder)
        for each in {job.subject.label: job.subject for job in jobs}.values():
            cells = {name: value for name, value in each.items() if is_cell(value)}
            rows[each.id, each.session] = {
                "participant_id": f"sub-{each.id}",
                "session_id": each.session or None,
            } | cells
        write_table(folder / PARTICIPANTS, [rows[key] for key in sorted(rows)])
