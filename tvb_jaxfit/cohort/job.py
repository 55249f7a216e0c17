"""One fit of a cohort: simulator, fit, evaluation, and its folder. It runs in any process."""

import contextlib
import io
import os
import pickle
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path

import numpy as np

from ..errors import FitFailed
from ..fitting.fit import fit
from ..fitting.method import Method
from ..fitting.options import RunOptions
from ..fitting.result import FitResult
from ..fitting.saved import file_content
from ..persistence.atomic import atomic_write_all, recover
from ..persistence.locks import file_lock
from ..reporting.result_files import result_files
from ..reporting.result_names import FILES
from ..reporting.summary import summarise
from ..runtime.compilation_cache import use_compilation_cache
from ..targets.read import split_targets
from .log import recorded_log
from .recipe import Job, Recipe, versions_and_settings
from .status import STATUS, Progress, Status, read_status
from .subjects import ObservedSubject

# The fit as `FitResult.load` reads it, and what was written while it ran.
RESULT, LOG = "result.npz", "log.txt"
# FC that was fitted, FC that the fit is judged on, and labels of the regions.
TARGETS, VALUES = "targets.npz", "values.npz"
# Beginning of the name of a checkpoint, whose end says what determines the fit; and the methods that have one.
_CHECKPOINT, _WITH_CHECKPOINT = ".checkpoint-", (Method.SIMULATE, Method.LINEAR_THEN_SIMULATE)
# Folder of compiled programs in that of a cohort.
COMPILED = ".compiled"
_ALL_FILES = (*FILES, RESULT, TARGETS, LOG, STATUS)


class Outcome(Enum):
    """Outcome of a call of `run_job`.

    Members
    -------
    RAN
        The fit, its evaluation, or both were made; or failed.
    UNCHANGED
        Everything was there already.
    BUSY
        Another process is at it.
    """

    RAN = auto()
    UNCHANGED = auto()
    BUSY = auto()


class OtherEnvironment(RuntimeError):
    """The process has other versions or settings than the one that asks for the fits."""


@dataclass(frozen=True)
class Worker:
    """Function that makes the fits of a cohort in other processes.

    Attributes
    ----------
    recipe : Recipe
    root : str
        Folder of the cohort; all processes must see it.
    environment : dict of str to object
        Versions and settings of the process that asks.
    process : int
        Number of that process. Others keep their compiled programs in the folder of the cohort.
    """

    recipe: Recipe
    root: str
    environment: dict
    process: int = field(default_factory=os.getpid)

    def __call__(self, job: Job | bytes, wait: bool) -> tuple[Outcome, Status]:
        """Make a fit, unless it is there; see `run_job`. The job may be pickled."""
        job = pickle.loads(job) if isinstance(job, bytes) else job
        found = versions_and_settings()
        differing = [name for name, value in found.items() if value != self.environment[name]]
        if differing:
            here = {name: found[name] for name in differing}
            raise OtherEnvironment(
                f"fit_cohort: the worker on {socket.gethostname()} has {here}; the process that asks for the fits has "
                f"{ ({name: self.environment[name] for name in differing}) }. Use the same versions and settings."
            )
        if os.getpid() != self.process:
            use_compilation_cache(Path(self.root) / COMPILED)
        return run_job(self.recipe, job, Path(self.root), wait)


def run_job(recipe: Recipe, job: Job, root: Path, wait: bool = True) -> tuple[Outcome, Status]:
    """Make a fit and its evaluation, as far as they are not there, and write its folder.

    Parameters
    ----------
    recipe : Recipe
    job : Job
    root : pathlib.Path
        Folder of the cohort.
    wait : bool, optional
        Wait for another process that is at the same fit; else return at once.

    Returns
    -------
    outcome : Outcome
    status : Status

    Raises
    ------
    OSError
        The folder cannot be written. What was there is unchanged.
    """
    folder = root / job.folder
    with file_lock(folder / STATUS, wait) as is_mine:
        if not is_mine:
            return Outcome.BUSY, read_status(folder)
        recover(folder)
        status = read_status(folder)
        if status.holds("fit", job) and status.holds("evaluation", job):
            return Outcome.UNCHANGED, status
        with recorded_log() as log:
            return Outcome.RAN, _Run(recipe, job, folder, log).run(status)


class _Run:
    """A run of one job."""

    def __init__(self, recipe, job, folder, log):
        self.recipe, self.job, self.folder, self.log = recipe, job, folder, log
        self.stage, self.asked = "simulator", {}
        subject = job.subject
        self.status = Status(
            participant_id=subject.id,
            session=subject.session,
            seed=job.seed,
            keys=job.keys,
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            host=socket.gethostname(),
        )

    def run(self, former):
        """Status after the run. An error of the fit becomes part of it; one of writing does not."""
        try:
            result, is_new = self._fitted(former)
            content = self._content(result) if is_new else None
        # The user's functions, TVB and a fit can raise any error.
        except Exception:
            return self._failed()
        if is_new:
            self._write(self.status, {RESULT: content})
        try:
            with self._observed("evaluation", [self.job.subject, *self.job.others]) as (subject, *others):
                self._evaluate(result, subject, others)
                self._find_standard_errors(result, subject)
            self.stage = "results"
            done = replace(self.status, progress=Progress.DONE, asked=self.asked, scores=self._scores(result))
            summary = summarise(result)
            contents = result_files(summary) | {TARGETS: _targets(result), RESULT: file_content(result, summary)}
        except Exception:
            return self._failed(result)
        return self._write(done, contents)

    @contextlib.contextmanager
    def _observed(self, stage, subjects) -> Iterator[list[ObservedSubject]]:
        """Subjects that note what is asked of them; kept with its digests for the status."""
        observed = [ObservedSubject(each) for each in subjects]
        try:
            yield observed
        finally:
            self.asked[stage] = {
                each.label: {name: self.job.digest_of(each.label, name) for name in sorted(each.asked)}
                for each in observed
                if each.asked
            }

    def _fitted(self, former):
        """(result of the fit, False if it is the one that is there, since nothing that determines it has changed)."""
        with self._observed("fit", [self.job.subject]) as (subject,):
            sim = self.recipe.make_simulator(subject)
            result = self._loaded(sim) if former.holds("fit", self.job) else None
            if result is not None:
                self.status = replace(self.status, scores={"seconds": former.scores.get("seconds")})
                return result, False
            self.stage, start = "fit", time.perf_counter()
            result = fit(sim, self.recipe.target_of(subject), self.recipe.free_of(subject), **self._options())
            if result.history.stop_reason.interrupted:
                raise KeyboardInterrupt
            self.log(repr(result))
            if result.diverged:
                raise FitFailed(f"the fit diverged: {result.diverged}")
            scores = {"seconds": round(time.perf_counter() - start, 3)}
        self.status = replace(self.status, progress=Progress.FITTED, asked=dict(self.asked), scores=scores)
        return result, True

    def _loaded(self, sim):
        """Result in the folder; None if the simulator differs, for a reason that no digest covers."""
        try:
            return FitResult.load(self.folder / RESULT, sim)
        except (OSError, ValueError) as error:
            self.log(f"fitted again: {error}")
            return None

    def _options(self):
        """Options of the fit, with a checkpoint where there is one: a fit that was killed continues."""
        options = dict(self.recipe.options)
        kept = {}
        if options["method"] in _WITH_CHECKPOINT and (options["search"].n_starts or 1) == 1:
            kept = {"checkpoint": self.folder / f"{_CHECKPOINT}{self.job.digest()}.npz", "resume": True}
        return options | {
            "search": replace(options["search"], seed=self.job.seed),
            "run": RunOptions(callback=options["run"].callback, progress=False, **kept),
        }

    def _evaluate(self, result, subject, others):
        """Score the fit on fresh noise: against recordings that it has not used, if there are any."""
        self.stage = "evaluation"
        target, options = None, dict(self.recipe.evaluation)
        held_out = self.recipe.held_out_of(subject)
        sessions = {f"ses-{each.session}": _fc_of(self.recipe.target_of(each)) for each in others}
        if held_out is not None:
            sessions |= held_out if isinstance(held_out, dict) else {"held out recording": held_out}
        if sessions:
            name = f"ses-{subject.session}" if subject.session else "recording of the fit"
            target, options["training_sessions"] = {name: result.target} | sessions, [name]
        self.log(repr(result.evaluate(target, **options, progress=False)))
        if result.evaluation.interrupted:
            raise KeyboardInterrupt
        if result.evaluation.failed:
            raise FitFailed(f"not finite on fresh noise: {'; '.join(result.evaluation.failures())}")

    def _find_standard_errors(self, result, subject):
        """Standard errors, if they are asked for; a fit that has none is not failed by it."""
        self.stage, result.standard_errors = "standard errors", None
        if not self.recipe.standard_errors:
            return
        length = self.recipe.length_of(subject)
        try:
            self.log(repr(result.identifiability(length)))
        except ValueError as error:
            self.log(f"no standard errors: {error}")

    def _scores(self, result):
        """Row of the table of scores."""
        evaluation, best = result.evaluation, result.history.best_step
        primary = evaluation.targets.primary
        scores = {
            "method": str(result.way),
            "r_training": float(result.r[best]) if result.r.size else np.nan,
            "r": evaluation.mean("r"),
            "rmse": evaluation.mean("rmse"),
            "judged_on": "held out" if evaluation.targets.held_out else "fitted",
            "structure": evaluation.structural_baseline[primary],
            "reliability": evaluation.noise_ceiling.get("trained on", np.nan),
            "stopped": str(result.history.stop_reason),
        }
        scores |= {name: evaluation.mean(name) for name in evaluation.observables}
        if self.recipe.standard_errors:
            errors = result.standard_errors
            scores["n_determined"] = np.nan if errors is None else errors.n_determined
        return self.status.scores | {name: _plain(value) for name, value in scores.items()}

    def _failed(self, result=None):
        """Status of a run that an error ended: what was reached before is kept."""
        error = traceback.format_exc()
        self.log(error)
        failed = replace(self.status, progress=Progress.FAILED, error=error, stage=self.stage, asked=self.asked)
        return self._write(failed, {} if result is None else {RESULT: self._content(result)})

    def _content(self, result):
        return file_content(result, summarise(result, simulate_fc=False))

    def _write(self, status, contents):
        """Write all files together, or none; return the status."""
        contents = {**contents, LOG: self.log.text.encode(), STATUS: status.to_bytes()}
        with atomic_write_all(self.folder, _ALL_FILES) as file:
            for name, content in contents.items():
                file(name).write(content)
        if RESULT in contents:
            for path in self.folder.glob(f"{_CHECKPOINT}*"):
                path.unlink(missing_ok=True)
        return status


def _targets(result):
    labels = np.array([str(label) for label in result.simulator.connectivity.region_labels])
    judged = result.evaluation.targets.matrices[result.evaluation.targets.primary]
    file = io.BytesIO()
    np.savez(file, fitted=result.target, judged=judged, labels=labels)
    return file.getvalue()


def _fc_of(target):
    """FC of a target of several observables."""
    return split_targets(target)[0]


def _plain(value):
    """Number as JSON has it: NaN becomes None."""
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
