"""Empirical FC: one target, or several sessions and their means."""

import os
from dataclasses import dataclass

import numpy as np

from ..persistence import serialisable
from .target import match_target

_MEANS = ("mean", "trained on", "held out")


@serialisable
@dataclass(frozen=True)
class Targets:
    """Empirical FC by name, in the order of the regions.

    Attributes
    ----------
    matrices : dict of str to ndarray, shape (n_node, n_node)
        For one target: ``"target"``. For several sessions: each session and their ``"mean"``; with known training
        sessions also the means ``"trained on"`` and ``"held out"``. The diagonal is zero; NaN marks pairs without data.
        Each entry of a mean is over the sessions with data of that pair.
    sessions : tuple of str
        Names of the sessions; empty for one target.
    held_out : tuple of str
        Names of the sessions that the fit was not trained on, if known.
    """

    matrices: dict[str, np.ndarray]
    sessions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """Name of the primary target: the mean of the held-out sessions, or of all sessions, or the one target."""
        return list(self.matrices)[-1]

    def __repr__(self):
        return f"Targets: {', '.join(self.matrices)} ({len(self.matrices[self.primary])} regions)"


def named_targets(target, region_labels, training_sessions=None, missing="refuse") -> Targets:
    """Match one target or several sessions to the regions.

    Parameters
    ----------
    target, training_sessions
        As in `evaluate`.
    region_labels : sequence of str
    missing : {"refuse", "ignore"}, optional

    Returns
    -------
    Targets

    Raises
    ------
    ValueError
        If a target does not fit the regions (with the session's name), or the training sessions do not exist or leave
        no session to hold out.
    """
    keyed = matrices_by_key(target)
    if keyed is None:
        if training_sessions is not None:
            raise ValueError(
                "training_sessions: there is one target alone, so that nothing is held out. Give the sessions."
            )
        return Targets({"target": match_target(target, region_labels, missing)})
    if len(keyed) < 2:
        raise ValueError(f"target: {len(keyed)} session; give at least two, or the matrix of the only one itself.")
    matrices = {}
    for name, matrix in keyed.values():
        if name in matrices or name in _MEANS:
            raise ValueError(
                f"target: a session cannot be called {name!r}: the name is reserved or used twice. Rename the session."
            )
        try:
            matrices[name] = match_target(matrix, region_labels, missing)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    sessions, held_out = tuple(matrices), ()
    means = {"mean": sessions}
    if training_sessions is not None:
        trained = _training_names(training_sessions, keyed)
        held_out = tuple(name for name in sessions if name not in trained)
        means |= {"trained on": trained, "held out": held_out}
    matrices |= {name: mean_fc([matrices[member] for member in members]) for name, members in means.items()}
    return Targets(matrices, sessions, held_out)


def _training_names(training_sessions, keyed):
    """Names of the training sessions; ValueError if some do not exist, or none or all sessions are named."""
    is_single = isinstance(training_sessions, (str, int, np.integer))
    keys = [training_sessions] if is_single else list(training_sessions)
    names = tuple(keyed[key][0] for key in dict.fromkeys(keys) if key in keyed)
    if any(key not in keyed for key in keys) or not 0 < len(names) < len(keyed):
        raise ValueError(
            f"training_sessions: {training_sessions!r}; give some of {', '.join(map(repr, keyed))}, and not all of "
            "them."
        )
    return names


def mean_fc(matrices):
    """Mean of FC matrices, each entry over the matrices with data of it; NaN if none has data."""
    known = ~np.isnan(matrices)
    count = np.sum(known, axis=0)
    return np.where(count > 0, np.sum(np.where(known, matrices, 0.0), axis=0) / np.maximum(count, 1), np.nan)


def matrices_by_key(given, kind="session"):
    """Several matrices as {key of the user: (name, matrix)}; None for a single matrix.

    Parameters
    ----------
    given
        As the target of `evaluate`.
    kind : str, optional
        What one of the matrices is, for the names of those that have none.
    """
    if isinstance(given, dict):
        return {key: (str(key), matrix) for key, matrix in given.items()}
    if hasattr(given, "columns") or (not _is_list_of_matrices(given) and np.ndim(given) < 3):
        return None
    return {index: (f"{kind} {index}", matrix) for index, matrix in enumerate(given)}


def _is_list_of_matrices(target):
    """True for a list or tuple with matrices, tables or paths; nested lists of numbers are one matrix."""
    return isinstance(target, (list, tuple)) and any(
        hasattr(item, "columns") or isinstance(item, (str, os.PathLike)) or np.ndim(item) == 2 for item in target
    )
