"""Arrays and tables as short text for a terminal."""

from collections.abc import Sequence

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


def short_range(values: ArrayLike, style: str) -> str:
    """Smallest value, median and largest value as one text; equal values once.

    Parameters
    ----------
    values : array_like of real numbers
        At least one.
    style : str
        Format of a number, such as ".3g".

    Returns
    -------
    str

    Examples
    --------
    >>> from tvb_jaxfit.text import short_range
    >>> short_range([0.2, 0.3, 0.6], ".2f"), short_range([0.5, 0.5], ".2f")
    ('0.20 .. 0.30 .. 0.60', '0.50')
    """
    values = np.ravel(values)
    ends = np.quantile(values, (0.0, 0.5, 1.0)) if np.ptp(values) > 0.0 else values[:1]
    return " .. ".join(f"{value:{style}}" for value in ends)


def aligned(rows: Sequence[Sequence[str]], n_left: int | None = None) -> list[str]:
    """Rows of a table as lines with aligned columns.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells; all rows have the same number of them.
    n_left : int, optional
        Number of columns that are aligned on their left; the others on their right. Default: all.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from tvb_jaxfit.text import aligned
    >>> aligned([["", "r"], ["fit", "0.8123"]], n_left=1)
    ['          r', 'fit  0.8123']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust if n_left is None or index < n_left else str.rjust for index in range(len(widths))]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]
