"""Recipe of a cohort, which all its fits have in common, and the list of fits."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..fitting.fit import fit
from ..fitting.options import GROUPS, with_single_options
from ..fitting.problem import FitRequest
from ..persistence.fingerprint.hasher import digest, digest_and_untracked, environment
from ..persistence.fingerprint.untracked import Untracked
from ..persistence.provenance import digest_of_file
from .subjects import ObservedSubject, Subject

# Options of `evaluate` that belong to each fit itself.
_NOT_FOR_EVALUATION = ("simulator_or_fit", "target", "training_sessions", "state", "progress")

# Length of the recording [ms] among what belongs to a subject.
_LENGTH = "recording_length"


@dataclass(frozen=True, eq=False)
class Recipe:
    """Common part of all fits of a cohort.

    Attributes
    ----------
    make_simulator : callable
        Subject to Simulator.
    free : dict of str to Parameter, or callable
        As in `fit`; or a function of the subject.
    target, held_out : str or callable
        Name of what belongs to a subject, or a function of the subject.
    options : dict of str to object
        Arguments of `fit`, groups of options as objects.
    evaluation : dict of str to object
        Options of `evaluate`.
    standard_errors : bool or callable
        Standard errors of the fitted values are computed; or a function of the subject that gives the length of its
        recording [ms].
    """

    make_simulator: Callable
    free: dict | Callable
    target: str | Callable
    held_out: str | Callable
    options: dict = field(default_factory=dict)
    evaluation: dict = field(default_factory=dict)
    standard_errors: bool | Callable = False

    def target_of(self, subject: Subject) -> Any:
        """Target of the fit of a subject."""
        return self.target(subject) if callable(self.target) else subject[self.target]

    def held_out_of(self, subject: Subject) -> Any:
        """FC of a subject that the fit does not use; None without any."""
        return self.held_out(subject) if callable(self.held_out) else subject.get(self.held_out)

    def free_of(self, subject: Subject) -> dict:
        """Parameters to fit of a subject."""
        return self.free(subject) if callable(self.free) else self.free

    def length_of(self, subject: Subject) -> float | None:
        """Length of the recording of a subject [ms]; None for that of the simulator."""
        return self.standard_errors(subject) if callable(self.standard_errors) else subject.get(_LENGTH)

    def digests(self) -> tuple[dict[str, str], dict[str, Untracked]]:
        """Digests of what determines a fit and of what determines its evaluation, and what they do not cover."""
        of_fit = [self.make_simulator, self.free, self.target, _numbers_alone(self.options), versions_and_settings()]
        found, untracked = digest_and_untracked(of_fit, "fit_cohort")
        afterwards = [self.held_out, self.evaluation, self.standard_errors]
        return {"fit": found, "evaluation": digest(afterwards, "evaluation")}, untracked


@dataclass(frozen=True, eq=False)
class Job:
    """One fit: of one recording of one subject, with one seed.

    Attributes
    ----------
    subject : Subject
    others : list of Subject
        Other recordings of the same subject: the fit is judged on them.
    seed : int
    folder : str
        Folder of its results, relative to that of the cohort; it is the name of the fit in messages.
    keys : dict of str to str
        Digests of what determines the fit and its evaluation, besides what belongs to the subject.
    digests : dict of str to dict of str to str
        Digest of each value that belongs to these subjects, by label and name.
    """

    subject: Subject
    others: list = field(repr=False)
    seed: int
    folder: str
    keys: dict = field(repr=False)
    digests: dict = field(repr=False)

    def digest(self) -> str:
        """Digest of all that can determine the fit, whether it is asked for or not."""
        return _joined(self.keys["fit"], *(f"{name} {each}" for name, each in self.digests[self.subject.label].items()))

    def digest_of(self, label: str, name: str) -> str | None:
        """Digest of a value of a subject; None if it has no such value."""
        return self.digests.get(label, {}).get(name)


def versions_and_settings() -> dict[str, Any]:
    """Versions, settings of JAX and kind of device: what determines the numbers beside code and data."""
    found = environment()
    return {name: found[name] for name in ("versions", "tvb_jaxfit", "settings", "backend")}


def checked_options(free: Any, evaluation: Any, options: dict) -> tuple[dict, dict]:
    """Arguments of `fit` with their groups, and options of `evaluate`; refused here if any fit would refuse them.

    Parameters
    ----------
    free : dict or callable
    evaluation : dict or None
    options : dict of str to object
        Arguments of `fit` besides simulator, target and free; options of its groups also by their own names.

    Returns
    -------
    options : dict of str to object
    evaluation : dict of str to object

    Raises
    ------
    TypeError
        Unknown names.
    ValueError
        Values that are not allowed.
    """
    defaults = fit.__kwdefaults__
    own = {name: value for name, value in options.items() if name in defaults}
    groups = {name: own.get(name, defaults[name]) for name in GROUPS}
    groups = with_single_options(groups, {name: value for name, value in options.items() if name not in defaults})
    complete = defaults | own | groups
    FitRequest(None, None, {} if callable(free) else free, **complete)
    run = complete["run"]
    if run.checkpoint is not None or run.resume:
        raise ValueError(
            "fit_cohort: checkpoint, resume; leave them: a second call of fit_cohort with the same folder continues."
        )
    evaluation = {} if evaluation is None else dict(evaluation)
    refused = [name for name in evaluation if name in _NOT_FOR_EVALUATION]
    if refused:
        raise ValueError(f"fit_cohort: evaluation: {', '.join(refused)}; leave these, which differ from fit to fit.")
    return complete, evaluation


def make_jobs(recipe: Recipe, subjects: list[Subject], seeds: tuple[int, ...]) -> tuple[list[Job], dict]:
    """Fits of a cohort, in the order of the subjects.

    Parameters
    ----------
    recipe : Recipe
    subjects : list of Subject
    seeds : tuple of int

    Returns
    -------
    jobs : list of Job
    untracked : dict of str to Untracked
        What the keys of the jobs do not cover.
    """
    common, untracked = recipe.digests()
    by_id, digests = {}, {}
    for each in subjects:
        by_id.setdefault(each.id, []).append(each)
        digests[each.label] = content_digests(each)
    jobs = []
    for subject in subjects:
        group = by_id[subject.id]
        others = [each for each in group if each is not subject]
        known = {each.label: digests[each.label] for each in group}
        for seed in seeds:
            folder = subject.label + (f"/seed-{seed}" if len(seeds) > 1 or seed != 0 else "")
            keys = {"fit": _joined(common["fit"], subject.label, str(seed))}
            keys["evaluation"] = _joined(common["evaluation"], *(each.label for each in others))
            jobs.append(Job(subject, others, seed, folder, keys, known))
    return jobs, untracked


def content_digests(subject: Subject) -> dict[str, str]:
    """Digest of each value that belongs to a subject; files count by their content.

    Parameters
    ----------
    subject : Subject

    Returns
    -------
    dict of str to str
        Also of the names together, as ``ObservedSubject.ALL``.

    Raises
    ------
    NotHashable
        A value cannot be compared by content.
    """
    found = {name: digest(_content(value), f"{subject.label}: {name}") for name, value in subject.items()}
    return found | {ObservedSubject.ALL: digest(sorted(subject.values))}


def _content(value):
    """A value, in which files are replaced by their names and contents, and folders by the sizes and times in them.

    The folder of a file does not count: data may be moved.
    """
    if isinstance(value, (list, tuple)):
        return [_content(each) for each in value]
    if isinstance(value, dict):
        return {name: _content(each) for name, each in value.items()}
    if not isinstance(value, (str, os.PathLike)):
        return value
    for path in (Path(value), Path(str(value).rpartition(":")[0] or "/")):
        if path.is_file():
            return [Path(value).name, digest_of_file(path)]
        if path.is_dir() and path == Path(value):
            files = sorted(each for each in path.rglob("*") if each.is_file())
            status = {str(each.relative_to(path)): each.stat() for each in files}
            return [path.name, [[name, each.st_size, each.st_mtime_ns] for name, each in status.items()]]
    return str(value)


def _numbers_alone(options):
    """Options that determine the numbers of a fit."""
    return {name: value for name, value in options.items() if name != "run"}


def _joined(*digests):
    return hashlib.blake2b("|".join(digests).encode(), digest_size=16).hexdigest()
