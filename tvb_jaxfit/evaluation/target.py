"""The empirical FC: checked, and its regions brought into the simulator's order."""

import os
import warnings

import numpy as np

from ..checks.arrays import real_array
from ..checks.fc import asymmetry_problem, shape_problem, triangle_problem, values_doubt, values_problem
from ..data import load_fc
from ..errors import caller_stacklevel


def match_target(target, region_labels, missing="refuse"):
    """Target FC in the order of the regions, its diagonal set to zero.

    Parameters
    ----------
    target : array_like, pandas.DataFrame or path-like, shape (n_node, n_node)
        A DataFrame's labels are matched to the regions; of a path, the FC in that file (`load_fc`).
    region_labels : sequence of str
    missing : {"refuse", "ignore"}, optional
        Whether pairs of regions without data (NaN, or masked; of a DataFrame, regions that it does not have) are
        refused or kept as NaN.

    Returns
    -------
    ndarray, shape (n_node, n_node)
        NaN for pairs without data.

    Raises
    ------
    ValueError
        Wrong shape, values that are not finite, complex or no numbers, asymmetry (of values, and of where there are
        any), fewer than three pairs with data, values that are no correlations (see `tvb_jaxfit.checks.fc`), or labels
        that do not match: all at once.

    Warns
    -----
    UserWarning
        Where rows were put into another order, or values may be p-values, weights or distances.
    """
    labels = [label.decode() if isinstance(label, bytes) else str(label) for label in region_labels]
    target = read_target(target)
    if hasattr(target, "columns") and hasattr(target, "index"):
        if np.ndim(target) == 2 and len(target.index) != len(target.columns):
            raise ValueError(_misshapen(np.shape(target), len(labels), target.columns))
        target = _by_labels(target, labels, missing)
    n_node = len(labels)
    # Names in a column of their own are no numbers, and tell more as what they are.
    if isinstance(target, np.ndarray) and target.dtype == object and target.shape != (n_node, n_node):
        raise ValueError(_misshapen(target.shape, n_node))
    target = np.array(real_array(target, "target", masked=np.nan), dtype=float)
    if target.shape != (n_node, n_node):
        raise ValueError(_misshapen(target.shape, n_node))
    given = target.copy()
    np.fill_diagonal(target, 0.0)
    problems = _of_values(target, missing) or _of_pairs(target) or list(filter(None, [values_problem(given)]))
    if problems:
        raise ValueError("target: " + "; ".join(problems) + ".")
    if doubt := values_doubt(given):
        warnings.warn(f"target: {doubt}.", stacklevel=caller_stacklevel())
    return target


def read_target(target):
    """Target, read where it is the path of a file."""
    return load_fc(target) if isinstance(target, (str, os.PathLike)) else target


def _misshapen(shape, n_node, columns=None):
    """Message for a target of another shape."""
    cause = shape_problem(shape, n_node, columns)
    if not cause and len(shape) == 2 and shape[0] == shape[1] < n_node:
        cause = (
            "of some of the regions, give it with their labels, pandas.DataFrame(fc, labels, labels), and "
            'missing="ignore": the network stays whole, and pairs without data count nothing'
        )
    return f"target: shape {shape} for {n_node} regions; give ({n_node}, {n_node}){cause and f'; {cause}'}."


def _of_values(target, missing):
    """Problems of single values: those that are not finite, or missing where they may not be."""
    gaps = np.isnan(target)
    bad = np.argwhere(~np.isfinite(target) & ~(gaps & (missing == "ignore")))
    problems = []
    if len(bad):
        infinite = np.isinf(target).sum()
        told = f" ({infinite} infinite: replace these, or set them to NaN)" if infinite else ""
        problems.append(f"{len(bad)} values are not finite, the first at {tuple(map(int, bad[0]))}{told}")
        if missing != "ignore" and triangle_problem(target):
            problems.append(triangle_problem(target))
        elif missing != "ignore" and gaps.any():
            problems.append(
                'missing="ignore" leaves out pairs of regions without data (NaN, or masked), as --missing ignore does '
                "on the command line"
            )
    one_sided = np.argwhere(gaps & ~gaps.T)
    if len(one_sided) and missing == "ignore":
        i, j = map(int, one_sided[0])
        problems.append(
            f"it is missing at ({i}, {j}) but not at ({j}, {i}), and at {len(one_sided)} such places; to leave these "
            "pairs out, make both NaN; to use the value that is there, give np.where(np.isnan(fc), fc.T, fc)"
        )
    return problems


def _of_pairs(target):
    """Problems of values beside each other, among those that there are."""
    gap, problems = np.nan_to_num(np.abs(target - target.T)), []
    if gap.max() > 1e-6 * max(1.0, np.nanmax(np.abs(target))):
        worst = tuple(int(i) for i in np.unravel_index(gap.argmax(), gap.shape))
        remedy = triangle_problem(target) or asymmetry_problem(target) or "average it with its transpose"
        problems.append(f"it is not symmetric (by {gap.max():.3g} at {worst}); {remedy}")
    pairs = target[np.triu_indices(len(target), 1)]
    known = pairs[~np.isnan(pairs)]
    if known.size < min(3, pairs.size):
        problems.append(f"{known.size} of {pairs.size} pairs of regions have data; give at least 3")
    elif known.size and np.ptp(known) == 0.0:
        problems.append("all its off-diagonal values are the same, so it correlates with nothing")
    return problems


def _by_labels(frame, labels, missing):
    """Values of a labelled FC in the order of the regions; NaN for regions that it lacks, where they may be missing."""
    rows, columns = [str(i) for i in frame.index], [str(i) for i in frame.columns]
    counted = [str(i) for i in range(len(rows))]
    # Tables number what has no name.
    rows = columns if rows == counted else rows
    if rows == columns == counted:
        return frame
    if rows != columns:
        raise ValueError("target: its row and column labels differ; give a square frame with the same labels on both.")
    lacking, extra = sorted(set(labels) - set(rows)), sorted(set(rows) - set(labels))
    repeated = sorted({label for label in rows if rows.count(label) > 1})
    if extra or repeated or (lacking and missing != "ignore"):
        parts = {"missing": lacking, "extra": extra, "repeated": repeated}
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        some = ""
        if lacking and not (extra or repeated):
            some = (
                '; or give missing="ignore" (--missing ignore on the command line): the network stays whole, and the '
                "pairs of these regions count nothing"
            )
        raise ValueError(
            f"target: labels do not match connectivity.region_labels ({told}). Rename or select them{some}."
        )
    found = [label for label in labels if label in set(rows)]
    order, places = [rows.index(label) for label in found], [labels.index(label) for label in found]
    if order != list(range(len(order))):
        warnings.warn("target: rows and columns were put into the order of connectivity.region_labels.", stacklevel=4)
    values = np.full((len(labels), len(labels)), np.nan)
    values[np.ix_(places, places)] = real_array(frame, "target", masked=np.nan)[np.ix_(order, order)]
    return values
