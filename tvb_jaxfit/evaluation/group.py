"""Baseline without a model: the FC of other subjects against that of the target."""

import warnings

import numpy as np

from ..errors import caller_stacklevel
from .baselines import common_correlation
from .sessions import Targets, matrices_by_key, mean_fc
from .target import match_target, read_target

# Largest difference of two FC of one recording, in parts of the largest entry: both may be rounded to three digits.
_ROUNDING = 1e-3


def group_baselines(group, targets: Targets, region_labels, missing="refuse") -> dict[str, float] | None:
    """Correlation of a group's FC with every target, by name, off the diagonal.

    Parameters
    ----------
    group
        As in `evaluate`.
    targets : Targets
    region_labels : sequence of str
    missing : {"refuse", "ignore"}, optional

    Returns
    -------
    dict of str to float, or None
        None without a group. Over the pairs of regions with data in both; NaN if there are fewer than three.

    Raises
    ------
    ValueError
        If an FC of the group does not fit the regions, or the group has no other FC than that of a target.

    Warns
    -----
    UserWarning
        If an FC was left out, since it is that of a target.
    """
    if group is None:
        return None
    fc = mean_fc(_other_subjects(_matched(group, region_labels, missing), targets))
    return {name: common_correlation(fc, matrix) for name, matrix in targets.matrices.items()}


def _matched(group, region_labels, missing):
    """FC of the group by name, in the order of the regions."""
    group = read_target(group)
    keyed = matrices_by_key(group, "subject")
    if keyed is None:
        return {"group": match_target(group, region_labels, missing, "group")}
    if not keyed:
        raise ValueError("group: no FC; give that of other subjects, or None.")
    return {
        f"group, {name}": match_target(matrix, region_labels, missing, f"group, {name}")
        for name, matrix in keyed.values()
    }


def _other_subjects(members, targets):
    """FC of the group that is of no target."""
    same = {name: _same_target(fc, targets) for name, fc in members.items()}
    found = {name: target for name, target in same.items() if target is not None}
    if len(found) == len(members):
        name, target = next(iter(found.items()))
        raise ValueError(
            f"{name}: this is the FC of {target!r} itself, which would be compared with itself. Give the FC of other "
            "subjects."
        )
    if found:
        pairs = ", ".join(f"{name.removeprefix('group, ')!r} ({target!r})" for name, target in found.items())
        message = f"group: left out, since their FC is that of a target, which would be compared with itself: {pairs}."
        warnings.warn(message, stacklevel=caller_stacklevel())
    return [fc for name, fc in members.items() if name not in found]


def _same_target(fc, targets):
    """Name of the target with the same FC up to rounding; None if there is none."""
    for name, target in targets.matrices.items():
        known = ~np.isnan(fc) & ~np.isnan(target)
        scale = np.max(np.abs(target[known]), initial=0.0)
        if scale > 0.0 and np.max(np.abs(fc[known] - target[known])) <= _ROUNDING * scale:
            return name
    return None
