"""Reliability of repeated measurements."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from .status import Status


def intraclass_correlation(values: ArrayLike) -> np.ndarray:
    r"""Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, single measurement.

    Parameters
    ----------
    values : array_like, shape (n_subject, n_measurement, ...)
        Measurements of the same subjects: sessions, seeds.

    Returns
    -------
    ndarray, shape (...)
        At most 1; about 0, or negative, without reliable differences between subjects. NaN with fewer than two subjects
        or two measurements, with values that are not finite, and where all values are equal.

    Notes
    -----
    With the mean squares of the subjects :math:`M_S`, the measurements :math:`M_M` and the residuals :math:`M_E`, of n
    subjects and k measurements:

    .. math:: \mathrm{ICC}(2, 1) = \frac{M_S - M_E}{M_S + (k - 1) M_E + k (M_M - M_E) / n}

    References
    ----------
    Shrout, P. E. and Fleiss, J. L. (1979). Intraclass correlations: uses in assessing rater reliability. Psychological
    Bulletin 86(2), 420-428.

    Examples
    --------
    The example of Shrout and Fleiss, Table 2:

    >>> from tvb_jaxfit.cohort.reliability import intraclass_correlation
    >>> ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> round(float(intraclass_correlation(ratings)), 2)
    0.29
    """
    values = np.asarray(values, float)
    n, k = values.shape[:2]
    if n < 2 or k < 2:
        return np.full(values.shape[2:], np.nan)
    # Without the mean, a large offset costs no digits.
    values = values - values.mean(axis=(0, 1))
    of_subjects, of_measurements = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    residuals = values - of_subjects - of_measurements
    subjects = k * np.sum(of_subjects**2, axis=(0, 1)) / (n - 1)
    measurements = n * np.sum(of_measurements**2, axis=(0, 1)) / (k - 1)
    error = np.sum(residuals**2, axis=(0, 1)) / ((n - 1) * (k - 1))
    total = subjects + (k - 1) * error + k * (measurements - error) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0.0, (subjects - error) / total, np.nan)[()]


def repetitions(fits: Iterable[tuple[str, Status]], over: str) -> dict[str, list[str]]:
    """Names of each subject's repetitions, in one order; of the subjects that have all of them.

    Parameters
    ----------
    fits : iterable of (str, Status)
        Name and status of each fit.
    over : {"session", "seed"}
        What is repeated. The other one is held at its first value.

    Returns
    -------
    dict of str to list of str
        By subject.
    """
    held, found = "seed" if over == "session" else "session", {}
    for name, status in fits:
        first = found.setdefault(status.participant_id, (getattr(status, held), {}))
        if getattr(status, held) == first[0]:
            first[1][getattr(status, over)] = name
    complete = sorted({each for _, names in found.values() for each in names})
    return {
        subject: [names[each] for each in complete]
        for subject, (_, names) in found.items()
        if len(names) == len(complete)
    }
