"""Target of a fit: the empirical FC, checked, with its regions in the simulator's order."""

import os
import warnings

import numpy as np

from ..checks.arrays import real_array
from ..checks.fc import asymmetry_problem, shape_problem, triangle_problem, values_doubt, values_problem
from ..data import load_fc
from ..errors import caller_stacklevel


def match_target(target, region_labels, missing="refuse", name="target") -> np.ndarray:
    """Target FC in the order of the regions, its diagonal set to zero.

    Parameters
    ----------
    target : array_like, pandas.DataFrame or path-like, shape (n_node, n_node)
        The labels of a DataFrame are matched to the regions; a path is read by `load_fc`.
    region_labels : sequence of str
    missing : {"refuse", "ignore"}, optional
        Refuse pairs of regions without data (NaN or masked values; for a DataFrame also regions that it lacks), or keep
        them as NaN.
    name : str, optional
        Name of the matrix in messages.

    Returns
    -------
    ndarray, shape (n_node, n_node)
        NaN for pairs without data.

    Raises
    ------
    ValueError
        With all problems at once: wrong shape; values that are not finite, complex or not numeric; asymmetric values or
        gaps; fewer than three pairs with data; values that are no correlations (see `tvb_jaxfit.checks.fc`); labels
        that do not match.

    Warns
    -----
    UserWarning
        If rows were put into another order, or values may be p-values, weights or distances.
    """
    labels = [label.decode() if isinstance(label, bytes) else str(label) for label in region_labels]
    target = read_target(target)
    if hasattr(target, "columns") and hasattr(target, "index"):
        if np.ndim(target) == 2 and len(target.index) != len(target.columns):
            raise ValueError(_wrong_shape(name, np.shape(target), len(labels), target.columns))
        target = _in_region_order(target, labels, missing, name)
    n_node = len(labels)
    # A column of names makes an object array: its shape explains more than the refusal of its values.
    if isinstance(target, np.ndarray) and target.dtype == object and target.shape != (n_node, n_node):
        raise ValueError(_wrong_shape(name, target.shape, n_node))
    target = np.array(real_array(target, name, masked=np.nan), dtype=float)
    if target.shape != (n_node, n_node):
        raise ValueError(_wrong_shape(name, target.shape, n_node))
    given = target.copy()
    np.fill_diagonal(target, 0.0)
    problems = _value_problems(target, missing) or _pair_problems(target) or list(filter(None, [values_problem(given)]))
    if problems:
        raise ValueError(f"{name}: {'; '.join(problems)}.")
    if doubt := values_doubt(given):
        warnings.warn(f"{name}: {doubt}.", stacklevel=caller_stacklevel())
    return target


def read_target(target):
    """Target itself, or the contents of the file if it is a path."""
    return load_fc(target) if isinstance(target, (str, os.PathLike)) else target


def _wrong_shape(name, shape, n_node, columns=None):
    """Message for a target of another shape."""
    cause = shape_problem(shape, n_node, columns)
    if not cause and len(shape) == 2 and shape[0] == shape[1] < n_node:
        cause = (
            "of some of the regions, give it with their labels, pandas.DataFrame(fc, labels, labels), and "
            'fc=FCOptions(missing="ignore"): all regions are simulated, and pairs without data have no weight'
        )
    return f"{name}: shape {shape} for {n_node} regions; give ({n_node}, {n_node}){cause and f'; {cause}'}."


def _value_problems(target, missing):
    """Problems of single values: not finite, or missing although ``missing`` is "refuse"."""
    gaps = np.isnan(target)
    bad = np.argwhere(~np.isfinite(target) & ~(gaps & (missing == "ignore")))
    problems = []
    if len(bad):
        n_infinite = np.isinf(target).sum()
        remedy = f" ({n_infinite} infinite: replace these, or set them to NaN)" if n_infinite else ""
        problems.append(f"{len(bad)} values are not finite, the first at {tuple(map(int, bad[0]))}{remedy}")
        if missing != "ignore" and triangle_problem(target):
            problems.append(triangle_problem(target))
        elif missing != "ignore" and gaps.any():
            problems.append(
                'fc=FCOptions(missing="ignore") leaves out pairs of regions without data (NaN, or masked), as '
                "--missing ignore does on the command line"
            )
    one_sided = np.argwhere(gaps & ~gaps.T)
    if len(one_sided) and missing == "ignore":
        i, j = map(int, one_sided[0])
        problems.append(
            f"it is missing at ({i}, {j}) but not at ({j}, {i}), and at {len(one_sided)} such places; to leave these "
            "pairs out, make both NaN; to use the value that is there, give np.where(np.isnan(fc), fc.T, fc)"
        )
    return problems


def _pair_problems(target):
    """Problems of values relative to each other: asymmetry, too few pairs with data, constant values."""
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
        problems.append("all its off-diagonal values are the same, so that no correlation with them is defined")
    return problems


def _in_region_order(frame, labels, missing, name):
    """Values of a labelled FC in the order of the regions; NaN for regions that it lacks, if they may be missing."""
    rows, columns = [str(i) for i in frame.index], [str(i) for i in frame.columns]
    default = [str(i) for i in range(len(rows))]
    # Tables number rows and columns without names.
    rows = columns if rows == default else rows
    if rows == columns == default:
        return frame
    if rows != columns:
        raise ValueError(f"{name}: its row and column labels differ; give a square frame with the same labels on both.")
    _refuse_label_mismatch(rows, labels, missing, name)
    found = [label for label in labels if label in set(rows)]
    order, places = [rows.index(label) for label in found], [labels.index(label) for label in found]
    if order != list(range(len(order))):
        message = f"{name}: rows and columns were put into the order of connectivity.region_labels."
        warnings.warn(message, stacklevel=caller_stacklevel())
    values = np.full((len(labels), len(labels)), np.nan)
    values[np.ix_(places, places)] = real_array(frame, name, masked=np.nan)[np.ix_(order, order)]
    return values


def _refuse_label_mismatch(rows, labels, missing, name):
    """Raise ValueError for labels that are extra, repeated, or missing although ``missing`` is "refuse"."""
    lacking, extra = sorted(set(labels) - set(rows)), sorted(set(rows) - set(labels))
    repeated = sorted({label for label in rows if rows.count(label) > 1})
    if not (extra or repeated or (lacking and missing != "ignore")):
        return
    kinds = {"missing": lacking, "extra": extra, "repeated": repeated}
    mismatch = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    alternative = ""
    if lacking and not (extra or repeated):
        alternative = (
            '; or give fc=FCOptions(missing="ignore") (--missing ignore on the command line): all regions are '
            "simulated, and the pairs of these regions have no weight"
        )
    raise ValueError(
        f"{name}: labels do not match connectivity.region_labels ({mismatch}). Rename or select them{alternative}."
    )
