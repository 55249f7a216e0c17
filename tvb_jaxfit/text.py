"""Arrays as short text: smallest value, median and largest value."""

import numpy as np
from numpy.typing import ArrayLike


def min_median_max(values: ArrayLike) -> tuple[str, str, str]:
    """Smallest value, median and largest value, with 6 significant digits.

    Parameters
    ----------
    values : array_like of real numbers
        At least one.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from tvb_jaxfit.text import min_median_max
    >>> min_median_max([0.2, 0.3, 0.6])
    ('0.2', '0.3', '0.6')
    """
    values = np.asarray(values)
    return f"{values.min():.6g}", f"{np.median(values):.6g}", f"{values.max():.6g}"


def value_range(values: ArrayLike) -> str:
    """Smallest value, median and largest value as one text; a single value by itself.

    Parameters
    ----------
    values : array_like of real numbers
        At least one.

    Returns
    -------
    str

    Examples
    --------
    >>> from tvb_jaxfit.text import value_range
    >>> value_range([0.2, 0.3, 0.6]), value_range([[0.5]])
    ('0.2 .. 0.3 .. 0.6', '0.5')
    """
    values = np.asarray(values)
    return f"{values.item():.6g}" if values.size == 1 else " .. ".join(min_median_max(values))
