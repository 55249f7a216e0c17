"""fit_cohort: the fits of all subjects, as far as they are not there yet."""

import itertools
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import options as allowed
from ..checks.options import check
from ..errors import caller_stacklevel
from ..parameters import Parameter
from ..runtime.accelerators import default_n_workers
from ..runtime.dask_executor import dependable
from ..runtime.executors import Inline, Width
from ..runtime.processes import refuse_forked
from ..runtime.progress import announce, progress_bar
from ..runtime.remote import RemoteFunction, dumps
from ..runtime.workers import ProcessWorkers
from .job import Outcome, Worker
from .participants import write_participants
from .recipe import Recipe, checked_options, make_jobs, versions_and_settings
from .result import Cohort
from .schedule import NotRun, completed
from .status import Progress, read_status
from .subjects import read_subjects


def fit_cohort(
    make_simulator: Callable,
    subjects: Any,
    free: dict[str, Parameter] | Callable,
    folder: str | os.PathLike,
    *,
    target: str | Callable = "fc",
    held_out: str | Callable = "held_out",
    seeds: tuple[int, ...] | None = None,
    evaluation: dict | None = None,
    standard_errors: bool | Callable = False,
    executor: Executor | None = None,
    n_workers: int | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> Cohort:
    """Fit a simulator to each subject, each in a folder of its own; a second call does what is missing.

    Parameters
    ----------
    make_simulator : callable
        Subject to Simulator of TVB. A subject is a mapping: ``subject["weights"]`` is what belongs to it under that
        name, ``subject.id`` its id.
    subjects : pandas.DataFrame, path-like, mapping or iterable
        A table with a column ``participant_id`` (or ``subject``, ``id``, or the index), or its file (tsv or csv, in
        which paths are relative to its folder); or a dict, or pairs, of an id and a dict of what belongs to it. A
        column ``session_id`` names several recordings of one subject: each is fitted, and judged on the others.
    free : dict of str to Parameter, or callable
        Parameters to fit, as in `fit`; or a function of the subject.
    folder : path-like
        Folder of the cohort. All workers must see it under this name.
    target : str or callable, optional
        Name of the target among what belongs to a subject, or a function of the subject. The target is as in `fit`: an
        FC, its file, or a dict of several observables.
    held_out : str or callable, optional
        In the same way, FC of the subject that the fit does not use: one, or a dict of several by name. A subject need
        not have any.
    seeds : sequence of int, optional
        Each subject is fitted with each seed. Default: that of the options of the fit, 0.
    evaluation : dict, optional
        Options of `evaluate`, by which each fit is judged: ``{"n_seeds": 8, "n_tvb": 1}``.
    standard_errors : bool or callable, optional
        Compute the standard errors of the fitted values, as `FitResult.identifiability` does, for a recording of the
        length ``subject["recording_length"]`` [ms] where the subject has one, or else of the simulator's; or a function
        of the subject that gives the length, or None.
    executor : concurrent.futures.Executor, optional
        Where the fits run: for example ``client.get_executor()`` of dask.distributed.
    n_workers : int, optional
        Without an executor: number of processes on this machine. Default: the number of GPUs that JAX would use, or
        else of processors. 0: this process, one fit after the other.
    progress : bool, optional
        Show a progress bar.
    **fit_options
        Arguments of `fit`: ``method="linear"``, ``skip_t=20``, ...

    Returns
    -------
    Cohort
        Scores, fitted values and failures of all subjects. After an interrupt (Ctrl-C), of those that are done.

    Raises
    ------
    ValueError, TypeError
        Options that are not allowed; subjects without ids, or with the same one: all in one message, before the first
        fit.
    NotHashable
        Something that determines the fits cannot be compared by content, so that a change of it would go unnoticed.
    OSError
        The folder cannot be written.

    Warns
    -----
    UserWarning
        The fits depend on something that cannot be tracked; workers were lost, and fits with them.

    Notes
    -----
    Each subject's folder is written atomically: values, FC, history, evaluation, log and status. A fit is there if its
    status says so, and if nothing that determines it has changed: the code of the functions, the options, versions, and
    what the functions have asked of the subject (files by their content). What has changed is made again, and only
    that; other options of the evaluation leave the fit as it is.

    A subject whose fit raises an error is recorded with its traceback; the others go on, and the next call tries it
    again. A worker that dies costs its own task, which is given to another one.

    The numbers of a subject are those of `fit` with the same options, on any worker of the same type of machine.

    Examples
    --------
    A script for each subject's connectome, with the options of `fit`::

        def make_simulator(subject):
            sim = resting_state_simulator()
            sim.connectivity = Connectivity.from_file(subject["connectivity"])
            sim.connectivity.configure()
            return sim

        cohort = tj.fit_cohort(make_simulator, "subjects.tsv", free, "study", method="linear")
        cohort.scores
        cohort.report("study.html")
    """
    refuse_forked("fit_cohort")
    check(
        "fit_cohort",
        make_simulator=(make_simulator, allowed.function),
        free=(free, allowed.either(allowed.instance(dict, "of paths and parameters"), allowed.function)),
        folder=(folder, allowed.path),
        target=(target, allowed.either(allowed.string, allowed.function)),
        held_out=(held_out, allowed.either(allowed.string, allowed.function)),
        seeds=(seeds, allowed.optional(_seeds)),
        evaluation=(evaluation, allowed.optional(allowed.instance(dict, "of options of evaluate"))),
        standard_errors=(standard_errors, allowed.either(allowed.boolean, allowed.function)),
        executor=(executor, allowed.optional(allowed.instance(Executor))),
        n_workers=(n_workers, allowed.optional(allowed.integer(0))),
        progress=(progress, allowed.boolean),
    )
    if executor is not None and n_workers is not None:
        raise ValueError("fit_cohort: executor, n_workers; give one of them: an executor has its own workers.")
    options, evaluation = checked_options(free, evaluation, fit_options)
    recipe = Recipe(make_simulator, free, target, held_out, options, evaluation, standard_errors)
    seeds = (options["search"].seed,) if seeds is None else tuple(dict.fromkeys(int(seed) for seed in seeds))
    jobs, untracked = make_jobs(recipe, read_subjects(subjects), seeds)
    _warn_untracked(untracked)
    root = Path(folder).absolute()
    root.mkdir(parents=True, exist_ok=True)
    write_participants(root, jobs)
    start, run = time.perf_counter(), _Run(root, jobs, progress)
    missing = run.missing()
    if missing:
        run.run(Worker(recipe, str(root), versions_and_settings()), missing, executor, n_workers)
    return Cohort.of_jobs(root, jobs, lost=run.lost, interrupted=run.interrupted, wall_time=time.perf_counter() - start)


def _is_busy(found):
    return found[0] is Outcome.BUSY


def _seeds(value):
    """Rule for a sequence of seeds."""
    is_sequence = isinstance(value, (list, tuple, range)) and len(value) > 0
    is_allowed = is_sequence and all(allowed.integer(0)(each) is None for each in value)
    return None if is_allowed else "whole numbers of at least 0, such as (0, 1, 2)"


class _Run:
    """Run of the jobs that are missing.

    Attributes
    ----------
    lost : dict of str to str
        By job, the reason why no worker has completed it.
    interrupted : bool
    """

    def __init__(self, root, jobs, progress):
        self.root, self.jobs, self.progress = root, jobs, progress
        self.lost, self.interrupted, self.n_failed = {}, False, 0

    def missing(self):
        """Jobs that are not done, or that something has changed of."""

        def is_done(job):
            status = read_status(self.root / job.folder)
            return status.holds("fit", job) and status.holds("evaluation", job)

        missing = [job for job in self.jobs if not is_done(job)]
        n_done = len(self.jobs) - len(missing)
        if n_done:
            announce(f"fit_cohort: {n_done} of {len(self.jobs)} fits are there already", self.progress)
        return missing

    def run(self, worker, missing, executor, n_workers):
        """Run jobs by an executor, or by processes of this machine."""
        with progress_bar("cohort", "fit", len(missing), self.progress) as bar:
            try:
                with _executor(executor, n_workers, len(missing)) as (used, n_running, travels):
                    # Pickled as a function is: what belongs to a subject may be any object.
                    how = (RemoteFunction(worker), dumps) if travels else (worker, lambda job: job)
                    results = completed(used, how[0], missing, n_running, _is_busy, how[1])
                    for job, result in results:
                        self._add(job, result, bar)
            except KeyboardInterrupt:
                self.interrupted = True
        if self.lost:
            label, reason = next(iter(self.lost.items()))
            warnings.warn(
                f"fit_cohort: {len(self.lost)} fits were not completed by any worker; call it again to make them. The "
                f"first is {label}: {reason}",
                stacklevel=caller_stacklevel(),
            )

    def _add(self, job, result, bar):
        bar.update()
        if isinstance(result, NotRun):
            self.lost[job.folder] = str(result)
        elif result[1].progress is Progress.FAILED:
            self.n_failed += 1
            announce(f"fit_cohort: {job.folder}: {result[1].stage}: {result[1].reason}", self.progress)
        if self.n_failed or self.lost:
            bar.set_postfix(failed=self.n_failed, lost=len(self.lost), refresh=False)


@contextmanager
def _executor(executor, n_workers, n_jobs):
    """(executor, number of tasks that it has at a time, whether functions travel to other processes)."""
    if executor is not None:
        yield dependable(executor), Width(executor, None), True
        return
    n_workers = min(n_jobs, default_n_workers() if n_workers is None else n_workers)
    if n_workers == 0:
        yield Inline(), lambda: 1, False
        return
    with ProcessWorkers(n_workers) as workers:
        try:
            yield workers, Width(workers, n_workers), True
        except KeyboardInterrupt:
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _warn_untracked(untracked):
    names = sorted({dependency.name for dependency in untracked.values()})
    if names:
        warnings.warn(
            f"fit_cohort: the fits depend on what cannot be tracked: {', '.join(itertools.islice(names, 5))}. If that "
            "changes, delete the folders of the subjects. Files that are named in what belongs to a subject are "
            "tracked.",
            stacklevel=caller_stacklevel(),
        )
