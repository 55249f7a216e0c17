"""Arrays that are given for an FC and are none: what they probably are, and how an FC is made of them.

An FC is a symmetric matrix of correlations, (n_node, n_node), with a diagonal of 1, 0 or NaN.
"""

import numpy as np

# Rounding of a correlation of 1, of a diagonal of 1 written with few digits, and of one of 0.
_ROUNDING, _DIAGONAL, _ZERO = 1e-5, 1e-2, 1e-6
# Eigenvalues above the first are those of a correlation matrix, rounded; below the second, of none.
_POSITIVE, _NEGATIVE = -0.02, -0.05
# A Fisher z of more is that of no measured correlation (0.9999998); the largest that float64 has is 18.7.
_LARGEST_Z, _LARGEST_Z_OF_ONE = 8.0, 19.0
# A percentage, and entries of p-values that are smaller than those of correlations.
_PERCENT, _TINY, _SHARE_OF_TINY = 100.0, 1e-3, 0.1
_OR_CORRELATIONS = (
    "or, if the other values are correlations already and the diagonal means nothing, np.fill_diagonal(fc, 1.0) first"
)


def shape_problem(shape, n_node, columns=None):
    """Probable cause of a shape that is none of an FC.

    Parameters
    ----------
    shape : tuple of int
    n_node : int
    columns : sequence, optional
        Names of the columns of a table.

    Returns
    -------
    str
        With the remedy; empty where no cause is known, or the shape is (n_node, n_node).

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


def triangle_problem(fc):
    """Remedy for a square matrix of which one triangle alone has values, the other zeros or NaN; else an empty text."""
    for half, other in (("triu", "tril"), ("tril", "triu")):
        filled, empty = (getattr(np, name)(np.nan_to_num(fc), 1 if name == "triu" else -1) for name in (half, other))
        if np.any(filled) and not np.any(empty):
            k = 1 if half == "triu" else -1
            return f"one triangle alone has values; give np.{half}(fc, {k}) + np.{half}(fc, {k}).T"
    return ""


def values_problem(fc):
    """Probable cause of values that are no correlations.

    Parameters
    ----------
    fc : ndarray of float, shape (n, n)
        Symmetric. The diagonal as the user has it; NaN for pairs without data.

    Returns
    -------
    str
        With the conversion; empty where all values are within the range of an FC, see `values_doubt`.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.checks.fc import values_problem
    >>> values_problem(np.array([[100.0, 45.0], [45.0, 100.0]]))
    'values up to 100, on the diagonal 100: it looks like an FC in percent; give fc / 100'
    """
    off, diagonal = _parts(fc)
    if off.size == 0 or is_in_range(fc):
        return ""
    largest, diagonal = np.max(np.abs(off)), diagonal[~np.isnan(diagonal)]
    is_usual = bool(np.all(_is_usual(diagonal)))
    found = f"values up to {max(largest, np.max(np.abs(diagonal), initial=0.0)):.3g}"
    if is_usual:
        return f"{found}: {_beyond_one(fc, off, largest)}"
    return f"{found}, on the diagonal {_ends(diagonal)}: {_of_diagonal(fc, off, largest, diagonal)}"


def is_in_range(fc):
    """Whether all values of a square matrix are those of correlations: within [-1, 1], the diagonal 1, 0 or NaN."""
    off, diagonal = _parts(fc)
    return bool(np.all(np.abs(off) <= 1.0 + _ROUNDING) and np.all(_is_usual(diagonal[~np.isnan(diagonal)])))


def _parts(fc):
    """(off-diagonal values that are there, diagonal)."""
    off = fc[~np.eye(len(fc), dtype=bool)]
    return off[~np.isnan(off)], np.diag(fc)


def _is_usual(diagonal):
    return (np.abs(diagonal - 1.0) <= _DIAGONAL) | (np.abs(diagonal) <= _ZERO)


def _is_zero(diagonal):
    return bool(np.all(np.abs(np.nan_to_num(diagonal)) <= _ZERO))


def values_doubt(fc):
    """What values that are within the range of an FC may be in its place.

    Parameters
    ----------
    fc : ndarray of float, shape (n, n)
        Symmetric. NaN for pairs without data.

    Returns
    -------
    str
        Empty where nothing speaks against an FC.
    """
    off, _ = _parts(fc)
    if off.size == 0 or np.any(off < 0.0):
        return ""
    tiny = (off > 0.0) & (off < _TINY * np.max(off))
    # Each pair is there twice.
    if np.sum(tiny) >= max(4.0, _SHARE_OF_TINY * off.size):
        return (
            f"{np.sum(tiny) // 2} of {off.size // 2} pairs have values below {_TINY * np.max(off):.1g}, and none is "
            "negative: it looks like p-values, or weights of a connectome; give the correlations of BOLD themselves"
        )
    has_all = off.size == fc.size - len(fc)
    if has_all and _is_zero(np.diag(fc)) and _lowest(fc) < _NEGATIVE and _lowest(1.0 - fc) >= _POSITIVE:
        return "1 - fc is a correlation matrix and fc is none: it looks like a distance; give 1 - fc"
    return ""


def _beyond_one(fc, off, largest):
    """Cause of values above 1 beside a usual diagonal."""
    # So are distances, and weights of a connectome.
    is_positive = np.min(off) >= 0.0 and _is_zero(np.diag(fc))
    is_z = largest <= _LARGEST_Z and not (is_positive and _lowest(np.tanh(fc)) < _NEGATIVE)
    causes = ["Fisher's z; give np.tanh(fc)"] if is_z else []
    if is_positive and largest <= 2.0 + _ROUNDING:
        if _lowest(1.0 - fc) >= _POSITIVE:
            causes.append("a distance 1 - r; give 1 - fc")
        elif _lowest(1.0 - fc**2 / 2.0) >= _POSITIVE:
            causes.append("a distance sqrt(2 - 2 r); give 1 - fc**2 / 2")
    if _LARGEST_Z < largest <= _PERCENT and not (is_positive and _lowest(fc / 100.0) < _NEGATIVE):
        causes.append("an FC in percent; give fc / 100")
    if is_positive and not (is_z and largest <= 2.0):
        causes.append("lengths or weights of a connectome, which are no FC")
    if causes:
        return f"it looks like {', or '.join(causes)}. Correlations lie within [-1, 1]"
    return "correlations lie within [-1, 1]; give np.corrcoef(x, rowvar=False) of the signals, (n_time, n_node)"


def _of_diagonal(fc, off, largest, diagonal):
    """Cause of values beside a diagonal that no correlations have."""
    one = diagonal[~_is_usual(diagonal)]
    is_alike = not np.isinf(one).any() and np.ptp(one) <= _DIAGONAL * np.max(np.abs(one)) and len(one) > 1
    has_infinite = bool(np.isinf(one).any())
    if is_alike and abs(np.mean(one) - _PERCENT) <= 1.0:
        return "it looks like an FC in percent; give fc / 100"
    if largest <= 1.0 + _ROUNDING and is_alike and abs(np.mean(one) + 1.0) <= _DIAGONAL:
        return "it looks like partial correlations; give the correlations np.corrcoef(x, rowvar=False)"
    if largest <= _LARGEST_Z and (has_infinite or is_alike and 1.0 < np.mean(one) <= _LARGEST_Z_OF_ONE):
        return f"it looks like Fisher's z; give np.tanh(fc), {_OR_CORRELATIONS}"
    if has_infinite:
        return "a diagonal that is infinite, and values that are no correlations; give np.corrcoef(x, rowvar=False)"
    if _is_covariance(fc):
        to_correlations = "d = np.sqrt(np.diag(fc)); fc / np.outer(d, d)"
        if np.mean(off < 0.0) > 0.75:
            return f"it looks like a precision matrix; of its inverse, fc = np.linalg.inv(fc), give {to_correlations}"
        return f"it looks like a covariance; give {to_correlations}, {_OR_CORRELATIONS}"
    if largest <= 1.0 + _ROUNDING and np.min(diagonal) >= 0.0:
        return "a diagonal that correlations do not have; " + _OR_CORRELATIONS.removeprefix("or, ")
    return (
        "it looks like a tangent-space matrix, or another transform of a covariance; give correlations "
        '(kind="correlation" of nilearn\'s ConnectivityMeasure)'
    )


def _is_covariance(fc):
    """Whether no value is larger than variances on the diagonal allow."""
    variances = np.nan_to_num(np.diag(fc))
    largest = np.sqrt(np.outer(variances, variances).clip(min=0.0))
    return bool(np.all(variances >= 0.0) and np.all(np.nan_to_num(np.abs(fc)) <= largest * (1.0 + 1e-6)))


def _ends(diagonal):
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in (np.min(diagonal), np.max(diagonal))))


def _lowest(matrix):
    """Smallest eigenvalue of a matrix with a diagonal of 1; pairs without data count as uncorrelated."""
    matrix = np.nan_to_num(matrix)
    np.fill_diagonal(matrix, 1.0)
    return float(np.linalg.eigvalsh(matrix)[0])


def asymmetry_problem(fc):
    """Probable cause of a matrix whose triangles have nothing in common; else an empty text."""
    above, below = (np.nan_to_num(each)[np.triu_indices(len(fc), 1)] for each in (fc, fc.T))
    if above.size < 3 or np.mean(above == below) > 0.1 or np.ptp(above) == 0.0 or np.ptp(below) == 0.0:
        return ""
    if np.corrcoef(above, below)[0, 1] > 0.5:
        return ""
    return (
        "its triangles have little in common, as in a time series of as many samples as regions (give "
        "np.corrcoef(x, rowvar=False)) or a directed connectivity, which is no FC"
    )
