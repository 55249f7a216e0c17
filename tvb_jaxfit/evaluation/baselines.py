"""Baselines of a score: structural connectivity, the noise ceiling of sessions, and blocks of regions."""

import itertools

import numpy as np

from ..checks.options import short_repr
from .sessions import Targets, mean_fc

_MAX_HALVES = 100


def correlation(a, b, entries=None) -> float:
    """Pearson correlation of the off-diagonal entries of two matrices.

    Parameters
    ----------
    a, b : ndarray, shape (n_node, n_node)
        Entries in which ``b`` is NaN are left out.
    entries : ndarray of bool, shape (n_node, n_node), optional
        Restricts the correlation to these entries.

    Returns
    -------
    float
        NaN if undefined: fewer than three entries, constant entries, or entries that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.evaluation.baselines import correlation
    >>> a = np.array([[9, 1, 2], [1, 9, 4], [2, 4, 9]])
    >>> round(correlation(a, 3 - 2 * a), 6)
    -1.0
    """
    used = ~np.eye(len(a), dtype=bool) & ~np.isnan(np.asarray(b, float))
    used = used if entries is None else entries & used
    x, y = np.asarray(a, float)[used], np.asarray(b, float)[used]
    if x.size < 3 or not np.ptp(x) > 0.0 or not np.ptp(y) > 0.0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])


def structural_baseline(weights, target) -> float:
    """Correlation of structural and functional connectivity, off the diagonal.

    Parameters
    ----------
    weights : array_like, shape (n_node, n_node)
        Connection weights; the mean of both directions is used.
    target : ndarray, shape (n_node, n_node)

    Returns
    -------
    float
    """
    weights = np.asarray(weights, float)
    return correlation((weights + weights.T) / 2.0, target)


def structural_baselines(weights, targets: Targets) -> dict[str, float]:
    """Structural baseline of every target, by name."""
    return {name: structural_baseline(weights, matrix) for name, matrix in targets.matrices.items()}


def noise_ceiling(targets: Targets) -> dict[str, float]:
    """Agreement of sessions with each other: the largest r that a model of all of them can be expected to reach.

    Parameters
    ----------
    targets : Targets

    Returns
    -------
    dict of str to float
        Empty for a single target.

        ``"leave_one_out"``: correlation of a session with the mean of the others, averaged over sessions. Compare it
        with r for single sessions.

        ``"split_half"``: Spearman-Brown reliability of the mean of all sessions, 2 r / (1 + r). Here r is the
        correlation of the means of two halves, averaged over (at most 100) splits. NaN if r is not positive.

        ``"trained on"``, if sessions are held out: correlation of the mean of the training sessions with the mean of
        the held-out sessions. Compare it with r for the latter.

    Notes
    -----
    A perfect model without noise of its own would correlate with the mean of the sessions by sqrt(split_half).

    References
    ----------
    Spearman, C. (1910). Br. J. Psychol. 3, 271-295. Brown, W. (1910). Br. J. Psychol. 3, 296-322.
    """
    if not targets.sessions:
        return {}
    sessions = np.array([targets.matrices[name] for name in targets.sessions])
    every = range(len(sessions))
    single = [_group_correlation(sessions, [i], [j for j in every if j != i]) for i in every]
    halves = split_halves(len(sessions))
    r = np.mean([_group_correlation(sessions, half, [i for i in every if i not in half]) for half in halves])
    ceiling = {"leave_one_out": float(np.mean(single)), "split_half": float(2 * r / (1 + r)) if r > 0.0 else np.nan}
    if targets.held_out:
        ceiling["trained on"] = common_correlation(*(targets.matrices[name] for name in ("trained on", "held out")))
    return ceiling


def _group_correlation(sessions, first, second):
    """Correlation of the means of two groups of sessions, for pairs with data in both."""
    return common_correlation(mean_fc(sessions[list(first)]), mean_fc(sessions[list(second)]))


def common_correlation(a, b) -> float:
    """Correlation of two matrices over the pairs with data in both; see `correlation`."""
    return correlation(a, np.where(np.isnan(a), np.nan, b))


def split_halves(n):
    """Ways to choose half of n items: all ways if there are at most 100, else 100 random ones, always the same."""
    ways = list(itertools.islice(itertools.combinations(range(n), n // 2), _MAX_HALVES + 1))
    if len(ways) <= _MAX_HALVES:
        return ways
    random = np.random.default_rng(0)
    return [random.permutation(n)[: n // 2] for _ in range(_MAX_HALVES)]


def region_blocks(region_groups, n_node) -> dict[str, np.ndarray]:
    """Blocks of an FC matrix: the pairs of regions within each group and between each two groups.

    Parameters
    ----------
    region_groups : sequence of (str or int), shape (n_node,)
        Group of each region.
    n_node : int

    Returns
    -------
    dict of str to ndarray of bool, shape (n_node, n_node)
        ``"left-left"``, ``"left-right"``, ... in alphabetical order; symmetric. Empty if there is only one group.

    Raises
    ------
    ValueError
        If the number of groups given differs from the number of regions.
    """
    if isinstance(region_groups, str) or not hasattr(region_groups, "__iter__"):
        raise ValueError(
            f"region_groups: {short_repr(region_groups)}; give a list with the group of each of the {n_node} regions."
        )
    groups = np.asarray([str(group) for group in region_groups])
    if len(groups) != n_node:
        raise ValueError(f"region_groups: {len(groups)} for {n_node} regions; give the group of each region.")
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return {}
    members = {name: groups == name for name in names}
    return {
        f"{a}-{b}": np.outer(members[a], members[b]) | np.outer(members[b], members[a])
        for a, b in itertools.combinations_with_replacement(names, 2)
    }


def hemispheres(connectivity):
    """Hemisphere of each region of a TVB connectivity, ``"left"`` or ``"right"``; None if it is not known.

    Parameters
    ----------
    connectivity : tvb.datatypes.connectivity.Connectivity

    Returns
    -------
    ndarray of str, shape (n_node,), or None
    """
    right = connectivity.hemispheres
    if right is None or np.size(right) != np.shape(connectivity.weights)[0]:
        return None
    return np.where(right, "right", "left")
