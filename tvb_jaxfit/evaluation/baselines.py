"""What a score is held against: sessions, the connectome, blocks of regions."""

import itertools
import os
from dataclasses import dataclass

import numpy as np

from ..checks.options import short_repr
from ..persistence import serialisable
from .target import match_target

_MEANS = ("mean", "trained on", "held out")
_MOST_HALVES = 100


@serialisable
@dataclass(frozen=True)
class Targets:
    """Empirical FC that scores are made with, by name.

    Attributes
    ----------
    matrices : dict of str to ndarray, shape (n_node, n_node)
        In the order of the regions, with a diagonal of zeros and NaN for pairs without data: ``"target"``; or every
        session and their ``"mean"``, and where it is known which sessions a fit was trained on, the means ``"trained
        on"`` and ``"held out"``. A mean is over the sessions that have data of the pair.
    sessions : tuple of str
        Names of the single sessions; empty where there is one target.
    held_out : tuple of str
        Those that the fit was not trained on, where that is known.
    """

    matrices: dict
    sessions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()

    @property
    def primary(self):
        """Name of the target that counts: what was held out, or the mean of the sessions, or the only one."""
        return list(self.matrices)[-1]

    def __repr__(self):
        return f"Targets: {', '.join(self.matrices)} ({len(self.matrices[self.primary])} regions)"


def named_targets(target, region_labels, training_sessions=None, missing="refuse"):
    """Targets in the order of the regions; see `evaluate` for what they may be.

    Raises
    ------
    ValueError
        A target that does not fit the regions, with the session's name; sessions to train on that there are not, or
        that leave nothing to hold out.
    """
    keyed = _keyed(target)
    if keyed is None:
        if training_sessions is not None:
            raise ValueError(
                "training_sessions: there is one target alone, so that nothing is held out. Give the sessions."
            )
        return Targets({"target": match_target(target, region_labels, missing)})
    matrices = {}
    for name, matrix in keyed.values():
        if name in matrices or name in _MEANS:
            raise ValueError(f"target: a session cannot be called {name!r}, which stands for another. Rename it.")
        try:
            matrices[name] = match_target(matrix, region_labels, missing)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    sessions, held_out = tuple(matrices), ()
    means = {"mean": sessions}
    if training_sessions is not None:
        chosen = (
            [training_sessions] if isinstance(training_sessions, (str, int, np.integer)) else list(training_sessions)
        )
        unknown = [key for key in chosen if key not in keyed]
        trained = tuple(keyed[key][0] for key in dict.fromkeys(chosen) if key in keyed)
        held_out = tuple(name for name in sessions if name not in trained)
        if unknown or not trained or not held_out:
            raise ValueError(
                f"training_sessions: {training_sessions!r}; give some of {', '.join(map(repr, keyed))}, and not all of them."
            )
        means |= {"trained on": trained, "held out": held_out}
    matrices |= {name: _mean([matrices[one] for one in members]) for name, members in means.items()}
    return Targets(matrices, sessions, held_out)


def _mean(matrices):
    """Mean of matrices, each entry over those that have data of it; NaN where none has."""
    known = ~np.isnan(matrices)
    count = np.sum(known, axis=0)
    return np.where(count > 0, np.sum(np.where(known, matrices, 0.0), axis=0) / np.maximum(count, 1), np.nan)


def _keyed(target):
    """Sessions by the key that a user knows them by, with their names: None of a single matrix."""
    if isinstance(target, dict):
        keyed = {key: (str(key), matrix) for key, matrix in target.items()}
    elif hasattr(target, "columns") or (not _holds_frames(target) and np.ndim(target) < 3):
        return None
    else:
        keyed = {index: (f"session {index}", matrix) for index, matrix in enumerate(target)}
    if len(keyed) < 2:
        raise ValueError(f"target: {len(keyed)} session; give at least two, or the matrix of the only one itself.")
    return keyed


def _holds_frames(target):
    """Whether it is a list of matrices, tables or paths."""
    return isinstance(target, (list, tuple)) and any(
        hasattr(one, "columns") or isinstance(one, (str, os.PathLike)) or np.ndim(one) == 2 for one in target
    )


def correlation(a, b, among=None):
    """Pearson correlation of the off-diagonal entries of two matrices.

    Parameters
    ----------
    a, b : ndarray, shape (n_node, n_node)
        Where the second is NaN, there is no data: these entries are left out.
    among : ndarray of bool, shape (n_node, n_node), optional
        Which entries alone.

    Returns
    -------
    float
        NaN where it is undefined: fewer than three entries, all equal, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.evaluation.baselines import correlation
    >>> a = np.array([[9, 1, 2], [1, 9, 4], [2, 4, 9]])
    >>> round(correlation(a, 3 - 2 * a), 6)
    -1.0
    """
    used = ~np.eye(len(a), dtype=bool) & ~np.isnan(np.asarray(b, float))
    used = used if among is None else among & used
    x, y = np.asarray(a, float)[used], np.asarray(b, float)[used]
    if x.size < 3 or not np.ptp(x) > 0.0 or not np.ptp(y) > 0.0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])


def structural_baseline(weights, target):
    """SC-FC baseline: correlation of the mean of the weights and their transpose with a target, off the diagonal."""
    weights = np.asarray(weights, float)
    return correlation((weights + weights.T) / 2.0, target)


def noise_ceiling(targets):
    """How well sessions agree with each other, which no model of all of them can be asked to exceed.

    Parameters
    ----------
    targets : Targets

    Returns
    -------
    dict of str to float
        Empty of a single target. ``"leave_one_out"``: correlation of a session with the mean of the others, averaged
        over sessions; to be held against r with single sessions. ``"split_half"``: reliability of the mean of all
        sessions, from the correlation r of the means of two halves, averaged over (at most 100) ways to halve, as
        2 r / (1 + r); NaN where r is not positive. ``"trained on"``, where some are held out: correlation of the mean
        of those trained on with the mean of those held out; to be held against r with the latter.

    Notes
    -----
    A model without error, which has no noise of its own, would correlate with the mean of the sessions by
    sqrt(split_half).

    References
    ----------
    Spearman, C. (1910). Br. J. Psychol. 3, 271-295. Brown, W. (1910). Br. J. Psychol. 3, 296-322.
    """
    if not targets.sessions:
        return {}
    sessions = np.array([targets.matrices[name] for name in targets.sessions])
    everyone = range(len(sessions))
    alone = [_agreement(sessions, [one], [other for other in everyone if other != one]) for one in everyone]
    halves = _halves(len(sessions))
    r = np.mean([_agreement(sessions, half, [one for one in everyone if one not in half]) for half in halves])
    found = {"leave_one_out": float(np.mean(alone)), "split_half": float(2 * r / (1 + r)) if r > 0.0 else np.nan}
    if targets.held_out:
        found["trained on"] = _of_both(*(targets.matrices[name] for name in ("trained on", "held out")))
    return found


def _agreement(sessions, some, others):
    """Correlation of the means of two groups of sessions, where both have data."""
    return _of_both(_mean(sessions[list(some)]), _mean(sessions[list(others)]))


def _of_both(a, b):
    return correlation(a, np.where(np.isnan(a), np.nan, b))


def _halves(n):
    """Ways to choose half of n: all of them where they are few, else some at random, always the same."""
    ways = list(itertools.islice(itertools.combinations(range(n), n // 2), _MOST_HALVES + 1))
    if len(ways) <= _MOST_HALVES:
        return ways
    random = np.random.default_rng(0)
    return [random.permutation(n)[: n // 2] for _ in range(_MOST_HALVES)]


def region_blocks(groups, n_node):
    """Which pairs of regions lie within a group or between two.

    Parameters
    ----------
    groups : sequence of (str or int), shape (n_node,)
        Group of each region.
    n_node : int

    Returns
    -------
    dict of str to ndarray of bool, shape (n_node, n_node)
        ``"left-left"``, ``"left-right"``, ..., by alphabet; symmetric. Empty where all regions are of one group.

    Raises
    ------
    ValueError
        Another number of groups than of regions.
    """
    if isinstance(groups, str) or not hasattr(groups, "__iter__"):
        raise ValueError(f"groups: {short_repr(groups)}; give a list with the group of each of the {n_node} regions.")
    groups = np.asarray([str(group) for group in groups])
    if len(groups) != n_node:
        raise ValueError(f"groups: {len(groups)} for {n_node} regions; give the group of each region.")
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return {}
    of = {name: groups == name for name in names}
    return {
        f"{a}-{b}": np.outer(of[a], of[b]) | np.outer(of[b], of[a])
        for a, b in itertools.combinations_with_replacement(names, 2)
    }


def hemispheres(connectivity):
    """Hemisphere of each region of a TVB connectivity, ``"left"`` or ``"right"``; None where it does not say."""
    right = connectivity.hemispheres
    if right is None or np.size(right) != np.shape(connectivity.weights)[0]:
        return None
    return np.where(right, "right", "left")
