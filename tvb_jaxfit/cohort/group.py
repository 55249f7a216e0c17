"""Baseline of a cohort that needs no model: the mean FC of the other subjects."""

import numpy as np

from ..evaluation.baselines import common_correlation
from ..evaluation.sessions import mean_fc


def group_baselines(subjects: dict[str, str], targets: dict[str, dict]) -> dict[str, float]:
    """Correlation of the mean FC of the other subjects with the FC that a fit is judged on, off the diagonal.

    Parameters
    ----------
    subjects : dict of str to str
        Id of the subject of each fit, by the name of the fit.
    targets : dict of str to dict
        FC that was fitted (``"fitted"``) and FC that the fit is judged on (``"judged"``), by the name of the fit.

    Returns
    -------
    dict of str to float
        By the name of the fit. Each entry of a mean is over the subjects with data of that pair of regions. Empty for a
        single subject, or subjects of different parcellations.
    """
    by_subject = {}
    for name, subject in subjects.items():
        by_subject.setdefault(subject, []).append(targets[name]["fitted"])
    if len({np.shape(fc) for each in by_subject.values() for fc in each}) != 1 or len(by_subject) < 2:
        return {}
    own = {subject: mean_fc(np.stack(each)) for subject, each in by_subject.items()}
    known = {subject: ~np.isnan(fc) for subject, fc in own.items()}
    filled = {subject: np.where(known[subject], fc, 0.0) for subject, fc in own.items()}
    total, count = sum(filled.values()), sum(each.astype(int) for each in known.values())
    found = {}
    for name, subject in subjects.items():
        n_others = count - known[subject]
        mean = np.where(n_others > 0, (total - filled[subject]) / np.maximum(n_others, 1), np.nan)
        found[name] = common_correlation(mean, targets[name]["judged"])
    return found
