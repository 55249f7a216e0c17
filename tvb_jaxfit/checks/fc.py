"""Arrays that are given as an FC but are none: what they probably are, and how to convert them to an FC.

An FC is a symmetric matrix of correlations, (n_node, n_node), with a diagonal of 1, 0 or NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Tolerances: of a correlation of 1, of a diagonal of 1 that was written with few digits, and of a diagonal of 0.
_TOLERANCE, _TOLERANCE_OF_ONE, _TOLERANCE_OF_ZERO = 1e-5, 1e-2, 1e-6
# Smallest eigenvalue: above the first, the matrix is a correlation matrix with rounded entries; below the second, it is
# none.
_POSITIVE, _NEGATIVE = -0.02, -0.05
# A Fisher z above 8 belongs to no measured correlation (0.9999998). The largest one that float64 can represent, that of
# the diagonal, is 18.7.
_LARGEST_Z, _LARGEST_Z_OF_ONE = 8.0, 19.0
_PERCENT = 100.0
# p-values: at least this share of the entries is smaller than this fraction of the largest one.
_TINY, _SHARE_OF_TINY = 1e-3, 0.1
_OR_CORRELATIONS = (
    "or, if the other values are correlations already and the diagonal means nothing, np.fill_diagonal(fc, 1.0) first"
)


def shape_problem(shape: tuple[int, ...], n_node: int, columns: Sequence[Any] | None = None) -> str:
    """Probable cause of a shape that no FC has.

    Parameters
    ----------
    shape : tuple of int
    n_node : int
    columns : sequence, optional
        Names of the columns, if the array came from a table.

    Returns
    -------
    str
        Cause and remedy. Empty if the shape is (n_node, n_node), or no cause is known.

    Examples
    --------
    >>> from tvb_jaxfit.checks.fc import shape_problem
    >>> shape_problem((1200, 68), 68)
    'it looks like a time series of 1200 samples; give its FC, np.corrcoef(x, rowvar=False)'
    """
    if len(shape) == 1:
        return _vector_problem(shape[0], n_node)
    if len(shape) == 3 and n_node in shape:
        axis = 0 if shape[1:] == (n_node, n_node) else 2
        return f"it looks like several FC; fit one of them or their mean, fc.mean(axis={axis}); evaluate() takes all"
    if len(shape) != 2 or shape == (n_node, n_node):
        return ""
    n_row, n_column = shape
    if n_row + 1 == n_column == n_node:
        return "the first row may have been taken for names; read the file with pandas.read_csv(path, header=None)"
    if n_column == n_row + 1 or (columns is not None and n_column > 1 and str(columns[0]).startswith("Unnamed")):
        return (
            "the first column looks like labels of the rows; read the file with tj.load_fc(path), or with "
            "pandas.read_csv(path, index_col=0)"
        )
    if shape == (n_node + 1, n_node + 1):
        return "the first row and column may be labels; read the file with tj.load_fc(path)"
    if n_column == n_node:
        return f"it looks like a time series of {n_row} samples; give its FC, np.corrcoef(x, rowvar=False)"
    if n_row == n_node:
        return f"it looks like a time series of {n_column} samples; give its FC, np.corrcoef(x)"
    return ""


def _vector_problem(size, n_node):
    pairs = n_node * (n_node - 1) // 2
    if size == n_node * n_node:
        return f"it looks like a matrix row by row; give fc.reshape({n_node}, {n_node})"
    if size not in (pairs, pairs + n_node):
        return ""
    k = 1 if size == pairs else 0
    return (
        f"it looks like one triangle of an FC; if that is the upper one, row by row, make the matrix: "
        f"fc = np.zeros(({n_node}, {n_node})); fc[np.triu_indices({n_node}, {k})] = x; fc = fc + np.triu(fc, "
        "1).T"
    )


def triangle_problem(fc: np.ndarray) -> str:
    """Remedy for a square matrix with values in one triangle only and zeros or NaN in the other; empty for others."""
    values = np.nan_to_num(fc)
    triangles = {"triu": np.triu(values, 1), "tril": np.tril(values, -1)}
    for name, opposite, k in (("triu", "tril", 1), ("tril", "triu", -1)):
        if np.any(triangles[name]) and not np.any(triangles[opposite]):
            return f"one triangle alone has values; give np.{name}(fc, {k}) + np.{name}(fc, {k}).T"
    return ""


def values_problem(fc: np.ndarray) -> str:
    """Probable cause of values that are no correlations.

    Parameters
    ----------
    fc : ndarray of float, shape (n, n)
        Symmetric, with the user's diagonal. NaN for pairs without data.

    Returns
    -------
    str
        Cause and conversion. Empty if all values are within the range of an FC (see `values_doubt` for these).

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.checks.fc import values_problem
    >>> values_problem(np.array([[100.0, 45.0], [45.0, 100.0]]))
    'values up to 100, on the diagonal 100: it looks like an FC in percent; give fc / 100'
    """
    off, diagonal = _off_diagonal_and_diagonal(fc)
    if off.size == 0 or is_in_range(fc):
        return ""
    largest, diagonal = np.max(np.abs(off)), diagonal[~np.isnan(diagonal)]
    is_usual = bool(np.all(_is_usual_diagonal(diagonal)))
    found = f"values up to {max(largest, np.max(np.abs(diagonal), initial=0.0)):.3g}"
    if is_usual:
        return f"{found}: {_large_values_problem(fc, off, largest)}"
    return f"{found}, on the diagonal {_range(diagonal)}: {_diagonal_problem(fc, off, largest, diagonal)}"


def is_in_range(fc: np.ndarray) -> bool:
    """True if all values of a square matrix can be correlations: within [-1, 1], on the diagonal 1, 0 or NaN."""
    off, diagonal = _off_diagonal_and_diagonal(fc)
    return bool(np.all(np.abs(off) <= 1.0 + _TOLERANCE) and np.all(_is_usual_diagonal(diagonal[~np.isnan(diagonal)])))


def _off_diagonal_and_diagonal(fc):
    """(off-diagonal values that are not NaN, diagonal)."""
    off = fc[~np.eye(len(fc), dtype=bool)]
    return off[~np.isnan(off)], np.diag(fc)


def _is_usual_diagonal(diagonal):
    return (np.abs(diagonal - 1.0) <= _TOLERANCE_OF_ONE) | (np.abs(diagonal) <= _TOLERANCE_OF_ZERO)


def _is_zero(diagonal):
    return bool(np.all(np.abs(np.nan_to_num(diagonal)) <= _TOLERANCE_OF_ZERO))


def values_doubt(fc: np.ndarray) -> str:
    """Another probable meaning of values that are within the range of an FC.

    Parameters
    ----------
    fc : ndarray of float, shape (n, n)
        Symmetric. NaN for pairs without data.

    Returns
    -------
    str
        Meaning and conversion. Empty if the values look like an FC.
    """
    off, _ = _off_diagonal_and_diagonal(fc)
    if off.size == 0 or np.any(off < 0.0):
        return ""
    tiny = (off > 0.0) & (off < _TINY * np.max(off))
    # Each pair occurs twice.
    if np.sum(tiny) >= max(4.0, _SHARE_OF_TINY * off.size):
        return (
            f"{np.sum(tiny) // 2} of {off.size // 2} pairs have values below {_TINY * np.max(off):.1g}, and none is "
            "negative: it looks like p-values, or weights of a connectome; give the correlations of BOLD themselves"
        )
    is_complete = off.size == fc.size - len(fc)
    if (
        is_complete
        and _is_zero(np.diag(fc))
        and _smallest_eigenvalue(fc) < _NEGATIVE
        and _smallest_eigenvalue(1.0 - fc) >= _POSITIVE
    ):
        return "1 - fc is a correlation matrix and fc is none: it looks like a distance; give 1 - fc"
    return ""


def _large_values_problem(fc, off, largest):
    """Cause of values above 1, where the diagonal is that of an FC."""
    # Distances, and weights of a connectome, are positive with a diagonal of zeros.
    is_positive = np.min(off) >= 0.0 and _is_zero(np.diag(fc))
    is_z = largest <= _LARGEST_Z and not (is_positive and _smallest_eigenvalue(np.tanh(fc)) < _NEGATIVE)
    causes = ["Fisher's z; give np.tanh(fc)"] if is_z else []
    if is_positive and largest <= 2.0 + _TOLERANCE:
        if _smallest_eigenvalue(1.0 - fc) >= _POSITIVE:
            causes.append("a distance 1 - r; give 1 - fc")
        elif _smallest_eigenvalue(1.0 - fc**2 / 2.0) >= _POSITIVE:
            causes.append("a distance sqrt(2 - 2 r); give 1 - fc**2 / 2")
    if _LARGEST_Z < largest <= _PERCENT and not (is_positive and _smallest_eigenvalue(fc / 100.0) < _NEGATIVE):
        causes.append("an FC in percent; give fc / 100")
    if is_positive and not (is_z and largest <= 2.0):
        causes.append("lengths or weights of a connectome, which are no FC")
    if causes:
        return f"it looks like {', or '.join(causes)}. Correlations lie within [-1, 1]"
    return "correlations lie within [-1, 1]; give np.corrcoef(x, rowvar=False) of the signals, (n_time, n_node)"


def _diagonal_problem(fc, off, largest, diagonal):
    """Cause of values of a matrix whose diagonal no correlations have."""
    unusual = diagonal[~_is_usual_diagonal(diagonal)]
    has_infinite = bool(np.isinf(unusual).any())
    is_constant = (
        not has_infinite and np.ptp(unusual) <= _TOLERANCE_OF_ONE * np.max(np.abs(unusual)) and len(unusual) > 1
    )
    if is_constant and abs(np.mean(unusual) - _PERCENT) <= 1.0:
        return "it looks like an FC in percent; give fc / 100"
    if largest <= 1.0 + _TOLERANCE and is_constant and abs(np.mean(unusual) + 1.0) <= _TOLERANCE_OF_ONE:
        return "it looks like partial correlations; give the correlations np.corrcoef(x, rowvar=False)"
    if largest <= _LARGEST_Z and (has_infinite or is_constant and 1.0 < np.mean(unusual) <= _LARGEST_Z_OF_ONE):
        return f"it looks like Fisher's z; give np.tanh(fc), {_OR_CORRELATIONS}"
    if has_infinite:
        return "a diagonal that is infinite, and values that are no correlations; give np.corrcoef(x, rowvar=False)"
    if _is_covariance(fc):
        to_correlations = "d = np.sqrt(np.diag(fc)); fc / np.outer(d, d)"
        if np.mean(off < 0.0) > 0.75:
            return f"it looks like a precision matrix; of its inverse, fc = np.linalg.inv(fc), give {to_correlations}"
        return f"it looks like a covariance; give {to_correlations}, {_OR_CORRELATIONS}"
    if largest <= 1.0 + _TOLERANCE and np.min(diagonal) >= 0.0:
        return "a diagonal that correlations do not have; " + _OR_CORRELATIONS.removeprefix("or, ")
    return (
        "it looks like a tangent-space matrix, or another transform of a covariance; give correlations "
        '(kind="correlation" of nilearn\'s ConnectivityMeasure)'
    )


def _is_covariance(fc):
    """True if no value is larger than the variances on the diagonal allow (Cauchy-Schwarz)."""
    variances = np.nan_to_num(np.diag(fc))
    largest = np.sqrt(np.outer(variances, variances).clip(min=0.0))
    return bool(np.all(variances >= 0.0) and np.all(np.nan_to_num(np.abs(fc)) <= largest * (1.0 + 1e-6)))


def _range(diagonal):
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in (np.min(diagonal), np.max(diagonal))))


def _smallest_eigenvalue(matrix):
    """Smallest eigenvalue with the diagonal set to 1; pairs without data count as uncorrelated."""
    matrix = np.nan_to_num(matrix)
    np.fill_diagonal(matrix, 1.0)
    return float(np.linalg.eigvalsh(matrix)[0])


def asymmetry_problem(fc: np.ndarray) -> str:
    """Probable cause of a square matrix whose triangles are unrelated; empty for others."""
    above, below = (np.nan_to_num(matrix)[np.triu_indices(len(fc), 1)] for matrix in (fc, fc.T))
    if above.size < 3 or np.mean(above == below) > 0.1 or np.ptp(above) == 0.0 or np.ptp(below) == 0.0:
        return ""
    if np.corrcoef(above, below)[0, 1] > 0.5:
        return ""
    return (
        "its triangles have little in common, as in a time series of as many samples as regions (give "
        "np.corrcoef(x, rowvar=False)) or a directed connectivity, which is no FC"
    )
