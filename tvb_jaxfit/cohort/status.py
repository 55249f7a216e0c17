"""Status of a fit of a cohort: what its folder says about it."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

# Written together with the files that it describes.
STATUS = "status.json"
_FORMAT = 1


class Progress(StrEnum):
    """Progress of a fit of a cohort.

    Members
    -------
    MISSING
        Nothing is there yet.
    FITTED
        It is fitted, and not yet evaluated.
    DONE
        It is fitted and evaluated.
    FAILED
        An error ended it; the status says which.
    """

    MISSING = "missing"
    FITTED = "fitted"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """Content of the status file of a fit.

    Attributes
    ----------
    progress : Progress
    participant_id, session, seed : str, str, int
    keys : dict of str to str
        Digests of what determined the fit and its evaluation.
    asked : dict of str to dict
        For the fit and its evaluation: digest of each value of a subject that was asked for, by label and name.
    scores : dict of str to float or str
        One row of the table of scores.
    error : str
        Traceback of an error; empty without one.
    stage : str
        Stage that the error ended: "simulator", "fit", "evaluation", "standard errors", "results".
    when, host : str
        Start of the fit, and name of the machine.
    """

    progress: Progress = Progress.MISSING
    participant_id: str = ""
    session: str = ""
    seed: int = 0
    keys: dict = field(default_factory=dict)
    asked: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)
    error: str = ""
    stage: str = ""
    when: str = ""
    host: str = ""

    @property
    def reason(self) -> str:
        """Last line of the error."""
        lines = self.error.strip().splitlines()
        return lines[-1] if lines else ""

    def holds(self, stage: str, job) -> bool:
        """True if the fit (or its evaluation) is done, and nothing that determines it has changed.

        Parameters
        ----------
        stage : {"fit", "evaluation"}
        job : Job
        """
        is_there = self.progress is Progress.DONE or (stage == "fit" and self._is_fitted)
        if not is_there or self.keys.get(stage) != job.keys[stage]:
            return False
        asked = self.asked.get(stage, {})
        return all(
            job.digest_of(label, name) == digest for label, each in asked.items() for name, digest in each.items()
        )

    @property
    def _is_fitted(self):
        return self.progress is Progress.FITTED or self.stage in ("evaluation", "results")

    def to_bytes(self) -> bytes:
        """Content of the file of the status."""
        return json.dumps({"format": _FORMAT} | asdict(self), indent=1, ensure_ascii=False).encode()


def read_status(folder: Path) -> Status:
    """Status that a folder has; `Progress.MISSING` without one, or with one that is damaged.

    Parameters
    ----------
    folder : pathlib.Path
    """
    try:
        stored = json.loads((folder / STATUS).read_bytes())
        if stored.pop("format") != _FORMAT:
            return Status()
        return Status(**stored | {"progress": Progress(stored["progress"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Status()
