"""Results of a cohort: scores and fitted values of all subjects, from their folders."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..fitting.result import FitResult
from ..persistence.locks import file_lock
from ..reporting.report import write_page
from .group import group_baselines
from .job import RESULT, TARGETS, VALUES
from .page import page_html
from .participants import read_participants
from .recipe import Job
from .reliability import intraclass_correlation, repetitions
from .rows import parameter_rows, score_rows, share_determined
from .status import STATUS, Progress, Status, read_status
from .tables import PARAMETERS, PARTICIPANTS, SCORES, write_table
from .uncertainty import has_standard_errors, read_standard_errors

if TYPE_CHECKING:
    import pandas
    from tvb.simulator.simulator import Simulator

_KEY = ("participant_id", "session_id", "seed")


@dataclass(frozen=True, repr=False)
class Cohort:
    """Scores and fitted values of the subjects of a cohort, as their folders have them.

    Attributes
    ----------
    folder : pathlib.Path
    entries : list of (str, Status)
        Folder of each fit, relative to that of the cohort, and its status.
    lost : dict of str to str
        By folder, the reason why no worker has completed a fit.
    interrupted : bool
        True if an interrupt ended the run.
    wall_time : float
        Duration of the run [s].
    """

    folder: Path
    entries: list
    lost: dict = field(default_factory=dict)
    interrupted: bool = False
    wall_time: float = 0.0

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Cohort":
        """Cohort in a folder, without its data and functions.

        Parameters
        ----------
        folder : path-like

        Returns
        -------
        Cohort

        Raises
        ------
        FileNotFoundError
            There is no cohort.
        """
        folder = Path(folder).absolute()
        found = sorted(each.parent for each in folder.glob(f"sub-*/**/{STATUS}"))
        if not found and not (folder / PARTICIPANTS).exists():
            raise FileNotFoundError(f"{folder}: no cohort; name the folder that was given to fit_cohort.")
        return cls(folder, [(str(each.relative_to(folder)), read_status(each)) for each in found])

    @classmethod
    def of_jobs(cls, folder: Path, jobs: list[Job], **attributes) -> "Cohort":
        """Cohort of some jobs. The tables in its folder are written, of all fits that there are."""
        with file_lock(folder / SCORES):
            whole = cls.read(folder)
            write_table(folder / SCORES, whole.score_rows)
            write_table(folder / PARAMETERS, whole.parameter_rows())
        statuses = dict(whole.entries)
        return cls(folder, [(job.folder, statuses.get(job.folder) or _missing(job)) for job in jobs], **attributes)

    @property
    def failures(self) -> dict[str, str]:
        """Traceback of each fit that an error ended, by its folder."""
        return {name: status.error for name, status in self.entries if status.progress is Progress.FAILED}

    @property
    def n_done(self) -> int:
        """Number of fits that are done."""
        return sum(status.progress is Progress.DONE for _, status in self.entries)

    @property
    def scores(self) -> "pandas.DataFrame":
        """Table of the fits: one row each.

        Returns
        -------
        pandas.DataFrame
            ``participant_id``, ``session_id``, ``seed``, ``status``; ``r`` and ``rmse`` on fresh noise, against
            recordings that the fit has not used where there are any (``judged_on``); ``r_training``; what needs no
            model: ``structure`` (r of the weights), ``group`` (r of the mean FC of the other subjects) and
            ``reliability`` (r of the recording that was fitted); ``n_determined``, the number of directions that FC
            determines, of fits with standard errors; method, seconds, and columns of the subjects' table.
        """
        return _frame(self.score_rows)

    @property
    def parameters(self) -> "pandas.DataFrame":
        """Table of the fitted values: one row for each value of each fit.

        Returns
        -------
        pandas.DataFrame
            ``participant_id``, ``session_id``, ``seed``, ``path``, ``region``, ``value``. Values of a parameter that is
            no vector of regions have their indices in place of the region. If any fit has standard errors, also
            ``standard_error`` and ``determined``.
        """
        return _frame(self.parameter_rows())

    def values(self, path: str) -> np.ndarray:
        """Fitted values of one parameter.

        Parameters
        ----------
        path : str
            Attribute path, such as ``"model.w"``.

        Returns
        -------
        ndarray, shape (n_fit, ...)
            Of the fits that are done, in the order of `done`.

        Raises
        ------
        KeyError
            No fit has this parameter.
        ValueError
            It has other shapes in other subjects.
        """
        found = [self._fitted[name][path] for name in self.done if path in self._fitted[name]]
        if len(found) < len(self.done):
            known = sorted({each for values in self._fitted.values() for each in values})
            raise KeyError(f"no fitted {path!r}; there is: {', '.join(known) or 'none'}")
        shapes = sorted({each.shape for each in found})
        if len(shapes) != 1:
            raise ValueError(f"{path}: the shapes {shapes} in different subjects; use `parameters`.")
        return np.stack(found)

    def standard_errors(self, path: str) -> np.ndarray:
        """Standard errors of the fitted values of one parameter.

        Parameters
        ----------
        path : str
            Attribute path, such as ``"model.w"``.

        Returns
        -------
        ndarray, shape (n_fit, ...)
            As `values`; NaN where they are not known.

        Raises
        ------
        KeyError, ValueError
            As of `values`.
        """
        return self._uncertain(path, 0)

    def determined(self, path: str) -> np.ndarray:
        """Values of one parameter that FC determines: 1, or 0 where it does not; otherwise as `standard_errors`."""
        return self._uncertain(path, 1)

    def _uncertain(self, path, place):
        self.values(path)
        return np.stack([self._errors[name][path][place] for name in self.done])

    @property
    def done(self) -> list[str]:
        """Folders of the fits that are done, relative to that of the cohort."""
        return [name for name, status in self.entries if status.progress is Progress.DONE]

    def regional(self, path: str) -> "pandas.DataFrame":
        """Mean and spread of a regional parameter over the fits that are done.

        Parameters
        ----------
        path : str

        Returns
        -------
        pandas.DataFrame
            One row for each region: ``mean``, ``sd`` (n - 1), ``min``, ``max``; and ``determined``, the share of the
            fits in which FC determines the value, if any has standard errors.
        """
        import pandas as pd

        values = self.values(path).reshape(len(self.done), -1)
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
        columns = {"mean": values.mean(axis=0), "sd": spread, "min": values.min(axis=0), "max": values.max(axis=0)}
        if self.has_standard_errors:
            columns["determined"] = share_determined(self.determined(path)).ravel()
        return pd.DataFrame(columns, index=pd.Index(self.places(self.done[0], path), name="region"))

    def reliability(self, over: str = "session_id") -> "pandas.DataFrame":
        """Intraclass correlation ICC(2,1) of the fitted values over sessions or seeds.

        Parameters
        ----------
        over : {"session_id", "seed"}, optional
            What is repeated. The other one is held at its first value.

        Returns
        -------
        pandas.DataFrame
            One row for each value: ``path``, ``region``, ``icc``, and the numbers of subjects and of repetitions. Of
            the subjects that have all repetitions.

        Raises
        ------
        ValueError
            Another name; nothing is repeated.

        See Also
        --------
        tvb_jaxfit.cohort.reliability.intraclass_correlation
        """
        if over not in _KEY[1:]:
            raise ValueError(f"reliability: over = {over!r}; give 'session_id' or 'seed'.")
        done = [(name, status) for name, status in self.entries if status.progress is Progress.DONE]
        repeated = repetitions(done, {"session_id": "session"}.get(over, over))
        if not repeated or len(next(iter(repeated.values()))) < 2:
            raise ValueError(f"reliability: no subject is fitted with two values of {over}, of which all others are.")
        rows, n_repeated = [], len(next(iter(repeated.values())))
        first = next(iter(repeated.values()))[0]
        for path in self._fitted[first]:
            values = np.array([[self._fitted[name][path].ravel() for name in names] for names in repeated.values()])
            icc = np.atleast_1d(intraclass_correlation(values))
            rows += [
                {"path": path, "region": place, "icc": each, "n_subjects": len(repeated), "n_repetitions": n_repeated}
                for place, each in zip(self.places(first, path), icc.tolist(), strict=True)
            ]
        return _frame(rows)

    def load(self, fit: str, sim: "Simulator | None" = None) -> FitResult:
        """Result of one fit.

        Parameters
        ----------
        fit : str
            Its folder, such as ``"sub-01"`` or ``"sub-01/ses-a"``; see `done`.
        sim : tvb.simulator.simulator.Simulator, optional
            The simulator of the subject; see `FitResult.load`.

        Returns
        -------
        FitResult
        """
        return FitResult.load(self.folder / fit / RESULT, sim)

    def report(self, path: str | os.PathLike, force: bool = False) -> Path:
        """Write a page on the cohort: scores, the worst fits first, fitted values by region, failures.

        Parameters
        ----------
        path : path-like
            HTML file.
        force : bool, optional
            Replace an existing file.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        FileExistsError
            The file exists, and ``force`` is not set.
        ValueError
            A path that is no HTML file.
        OSError
            The file cannot be written.
        """
        return write_page(path, lambda: page_html(self), force)

    @cached_property
    def score_rows(self) -> list[dict]:
        """Rows of the table of scores."""
        group = group_baselines({name: dict(self.entries)[name].participant_id for name in self.done}, self._targets)
        return score_rows(self.entries, self.lost, group, read_participants(self.folder))

    def parameter_rows(self) -> Iterable[dict]:
        """Rows of the table of fitted values."""
        errors = self._errors if self.has_standard_errors else None
        return parameter_rows(self._fitted, errors, dict(self.entries), self.places)

    @property
    def has_standard_errors(self) -> bool:
        """True if any fit that is done was asked for standard errors."""
        statuses = dict(self.entries)
        return any(has_standard_errors(statuses[name]) for name in self.done)

    @cached_property
    def _errors(self):
        """Standard errors of the fitted values, and which of them FC determines, by folder and path."""
        statuses = dict(self.entries)
        return {
            name: read_standard_errors(self.folder / name, statuses[name], fitted)
            for name, fitted in self._fitted.items()
        }

    @cached_property
    def _fitted(self):
        """Fitted values by folder and path."""
        found = {}
        for name in self.done:
            with np.load(self.folder / name / VALUES) as file:
                found[name] = dict(file)
        return found

    @cached_property
    def _targets(self):
        """FC that was fitted, FC that the fit is judged on, and labels, by folder."""
        found = {}
        for name in self.done:
            with np.load(self.folder / name / TARGETS) as file:
                found[name] = dict(file)
        return found

    def places(self, name: str, path: str) -> list:
        """Region of each value of a parameter of a fit, or its indices; None for a single value.

        Parameters
        ----------
        name : str
            Folder of the fit; see `done`.
        path : str
            Attribute path, such as ``"model.w"``.

        Returns
        -------
        list of str, or of None
        """
        values, labels = self._fitted[name][path], self._targets[name]["labels"].tolist()
        if values.size == 1:
            return [None]
        if values.shape == (len(labels),):
            return labels
        return [" ".join(map(str, np.unravel_index(place, values.shape))) for place in range(values.size)]

    def __repr__(self):
        n, failed = len(self.entries), len(self.failures)
        text = f"Cohort: {self.n_done} of {n} fits done"
        text += f", {failed} failed" * bool(failed) + f", {len(self.lost)} not completed" * bool(self.lost)
        lines = [text + ("; interrupted" if self.interrupted else ""), f"  {self.folder}"]
        done = [status.scores for _, status in self.entries if status.progress is Progress.DONE]
        for measure in ("r", "r_training", "structure", "group", "reliability"):
            values = [row.get(measure) for row in (self.score_rows if measure == "group" else done)]
            values = np.array([each for each in values if isinstance(each, float) and np.isfinite(each)])
            if values.size:
                median = f"median {np.median(values):.3f} ({values.min():.3f} to {values.max():.3f})"
                lines.append(f"  {_TITLES[measure]:<44} {median}")
        lines += [f"  failed: {name}: {error.strip().splitlines()[-1]}" for name, error in self.failures.items()][:5]
        return "\n".join(lines)


_TITLES = {
    "r": "r on fresh noise",
    "r_training": "r in training",
    "structure": "r of the structural weights",
    "group": "r of the mean FC of the other subjects",
    "reliability": "r of the recording that was fitted",
}


def _missing(job):
    """Status of a fit that is not there yet."""
    return Status(participant_id=job.subject.id, session=job.subject.session, seed=job.seed)


def _frame(rows):
    import pandas as pd

    return pd.DataFrame(list(rows))
