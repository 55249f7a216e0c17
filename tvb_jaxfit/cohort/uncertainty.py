"""Standard errors of fitted values, as the files of a fit have them."""

import json
from pathlib import Path

import numpy as np

from .status import Status

# Fitted values for people and other programs, with their standard errors; and their score, which says that these were
# asked for.
_VALUES, _SCORE = "values.json", "n_determined"


def has_standard_errors(status: Status) -> bool:
    """True for a fit that was asked for standard errors."""
    return _SCORE in status.scores


def read_standard_errors(folder: Path, status: Status, fitted: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Standard errors of the fitted values of one fit, and which of them FC determines, by path.

    Parameters
    ----------
    folder : pathlib.Path
        Of the fit.
    status : Status
    fitted : dict of str to ndarray
        Values by path.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        In the shape of the values: standard errors, and 1 for values that FC determines, or 0; NaN where they are not
        known, and for parameters that follow maps.
    """
    known = {}
    if has_standard_errors(status):
        known = json.loads((folder / _VALUES).read_text(encoding="utf-8"))["parameters"]

    def of(path, name):
        given = known.get(path, {}).get(name)
        return np.full(fitted[path].shape, np.nan) if given is None else np.array(given, float)

    return {path: (of(path, "standard_error"), of(path, "determined")) for path in fitted}
