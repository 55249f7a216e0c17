"""``tvb-jaxfit cohort``: a fit of each subject of a table."""

import argparse
import contextlib
import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import optax

from ..cohort.run import fit_cohort
from ..cohort.subjects import Subject
from ..fitting.options import FCOptions, NoiseOptions
from ..persistence.provenance import digest_of_file
from .cohort_inputs import subject_problems, subjects_of
from .cohort_options import parse_array, parse_slurm
from .fit import make_parameters, search_options
from .folder import input_digests
from .matrices import load_fc
from .options import DEFAULTS
from .outcome import ExitCode, Refused
from .recordings import fc_of_recording
from .simulator import make_simulator

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# File of the page on a cohort, in its folder.
PAGE = "cohort.html"
# Options that determine the simulator.
_SIMULATOR_OPTIONS = (*DEFAULTS, "simulator", "simulation_length")
# Columns that have a meaning of their own; others with a point in their name are parameters.
_HELD_OUT, _CONNECTIVITY = "held_out", "connectivity"


@dataclass(frozen=True)
class SimulatorOfSubject:
    """Function of a subject: the simulator of a command's options, with what belongs to the subject.

    Attributes
    ----------
    options : dict of str to object
        Options of the command.
    hashes : dict of str to str
        SHA-256 of each input file that all subjects share: another content is another simulator.
    """

    options: dict
    hashes: dict = field(default_factory=dict)

    def __call__(self, subject: Subject) -> "Simulator":
        """Simulator of a subject."""
        options = argparse.Namespace(**copy.deepcopy(self.options))
        if options.simulator:
            return make_simulator(options, subject)
        options.connectivity = subject.get(_CONNECTIVITY, options.connectivity)
        settings = {name: subject[name] for name in subject if "." in name}
        is_file = {name: isinstance(value, str) and Path(value).exists() for name, value in settings.items()}
        options.set = [*(options.set or [])]
        options.set += [f"{name}={'@' if is_file[name] else ''}{value}" for name, value in settings.items()]
        return make_simulator(options)


@dataclass(frozen=True)
class TargetOfSubject:
    """Function of a subject: the FC that is fitted; see `fc_of_recording`.

    Attributes
    ----------
    atlas : str or None
        Image of the regions.
    digest : str or None
        SHA-256 of that file.
    """

    atlas: str | None = None
    digest: str | None = None

    def __call__(self, subject: Subject):
        """FC of a subject."""
        return fc_of_recording(subject, self.atlas)


def held_out_of(subject: Subject):
    """FC of a subject that the fit does not use; None without any."""
    return load_fc(subject[_HELD_OUT], _HELD_OUT) if _HELD_OUT in subject else None


def run(options: argparse.Namespace) -> ExitCode:
    """Fit the subjects, and write the tables and the page.

    Parameters
    ----------
    options : argparse.Namespace
        Checked.

    Returns
    -------
    ExitCode
        FAILED if a fit failed, or was not completed by any worker.

    Raises
    ------
    Refused, ValueError, OSError
        The table or its inputs cannot be used. Nothing has been fitted.
    """
    subjects = _part(subjects_of(options), options.array)
    problems = subject_problems(subjects, options)
    if options.dry_run:
        return _dry_run(subjects, problems, options)
    if not any(each.label not in problems for each in subjects):
        raise Refused(*(f"{label}: {reason}" for label, reasons in problems.items() for reason in reasons))
    fit_options = {
        "method": options.method,
        "optimizer": None if options.learning_rate is None else optax.adam(options.learning_rate),
        "max_steps": options.steps,
        "fc": FCOptions(monitor=options.monitor, skip_t=options.skip, missing=options.missing),
        "noise": NoiseOptions(patience=options.patience),
        "search": search_options(options),
    }
    with _executor(options) as (executor, n_workers):
        cohort = fit_cohort(
            SimulatorOfSubject({name: getattr(options, name) for name in _SIMULATOR_OPTIONS}, input_digests(options)),
            subjects,
            make_parameters(options),
            options.out,
            target=TargetOfSubject(options.atlas, options.atlas and digest_of_file(options.atlas)),
            held_out=held_out_of,
            evaluation={"n_seeds": options.evaluate, "n_tvb": options.tvb, "fc": FCOptions(missing=options.missing)},
            standard_errors=options.standard_errors,
            executor=executor,
            n_workers=n_workers,
            progress=not options.quiet,
            **fit_options,
        )
    print(cohort)
    print(cohort.report(Path(options.out) / PAGE, force=True))
    n, n_failed = len(cohort.entries), len(cohort.failures)
    print(f"tvb-jaxfit cohort: {cohort.n_done} done, {n_failed} failed, {n - cohort.n_done - n_failed} missing of {n}")
    if cohort.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE if cohort.n_done == n else ExitCode.FAILED


def _part(subjects, array):
    """Subjects of one part of a job array: all recordings of a subject are in one part."""
    if array is None:
        return subjects
    part, n = parse_array(array)
    ids = {identity: place for place, identity in enumerate(dict.fromkeys(each.id for each in subjects))}
    found = [each for each in subjects if ids[each.id] % n == part]
    if not found:
        raise Refused(f"--array {array}: there are only {len(ids)} subjects")
    return found


def _dry_run(subjects, problems, options):
    """Print what would be done; REFUSED if an input has a problem."""
    for each in subjects:
        reasons = problems.get(each.label)
        print(f"{each.label}: {'; '.join(reasons) if reasons else ', '.join(f'{k} {v}' for k, v in each.items())}")
    n_ids = len({each.id for each in subjects})
    print(
        f"tvb-jaxfit cohort: {len(subjects)} fits of {n_ids} subjects into {options.out}, {len(problems)} with problems"
    )
    return ExitCode.REFUSED if problems else ExitCode.DONE


@contextlib.contextmanager
def _executor(options):
    """(executor, number of processes): of a cluster, or none."""
    if not (options.scheduler or options.slurm):
        yield None, options.workers
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise Refused(f"a cluster needs dask.distributed: pip install tvb-jaxfit[cluster] ({error})") from error
    with contextlib.ExitStack() as stack:
        if options.slurm:
            cluster = stack.enter_context(_slurm_cluster(options))
            client = stack.enter_context(Client(cluster))
        else:
            client = stack.enter_context(Client(options.scheduler, timeout=60))
        print(f"dashboard: {client.dashboard_link}", file=sys.stderr)
        yield client.get_executor(pure=False), None


def _slurm_cluster(options):
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise Refused(f"--slurm needs dask-jobqueue: pip install tvb-jaxfit[cluster] ({error})") from error
    found = parse_slurm(options.slurm)[0]
    # One process for each core: a fit uses hardly more.
    cluster = SLURMCluster(processes=found["cores"], **found)
    cluster.scale(jobs=options.workers or 1)
    return cluster
