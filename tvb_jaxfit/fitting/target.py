"""The empirical FC: checked, and its regions brought into the simulator's order."""

import warnings

import numpy as np


def match_target(target, region_labels):
    """Target FC in the order of the regions, its diagonal set to zero.

    Parameters
    ----------
    target : array_like or pandas.DataFrame, shape (n_node, n_node)
        A DataFrame's labels are matched to the regions.
    region_labels : sequence of str

    Returns
    -------
    ndarray, shape (n_node, n_node)

    Raises
    ------
    ValueError
        Wrong shape, values that are not finite, asymmetry, or labels that do not match: all at once.

    Warns
    -----
    UserWarning
        Where rows were put into another order, or values lie outside [-1, 1].
    """
    labels = [label.decode() if isinstance(label, bytes) else str(label) for label in region_labels]
    if hasattr(target, "columns") and hasattr(target, "index"):
        target = _by_labels(target, labels)
    target = np.array(target, dtype=float)
    n_node = len(labels)
    if target.shape != (n_node, n_node):
        raise ValueError(f"target: shape {target.shape} for {n_node} regions; give ({n_node}, {n_node}).")
    np.fill_diagonal(target, 0.0)
    problems = []
    if not np.all(np.isfinite(target)):
        where = np.argwhere(~np.isfinite(target))
        problems.append(f"{len(where)} values are not finite, the first at {tuple(map(int, where[0]))}")
    else:
        gap = np.abs(target - target.T)
        if gap.max() > 1e-6 * max(1.0, np.abs(target).max()):
            worst = tuple(int(i) for i in np.unravel_index(gap.argmax(), gap.shape))
            problems.append(f"it is not symmetric (by {gap.max():.3g} at {worst}); average it with its transpose")
        if np.ptp(target[~np.eye(n_node, dtype=bool)]) == 0.0:
            problems.append("all its off-diagonal values are the same, so it correlates with nothing")
    if problems:
        raise ValueError("target: " + "; ".join(problems) + ".")
    if np.abs(target).max() > 1.0 + 1e-9:
        warnings.warn(
            f"target: values up to {np.abs(target).max():.3g}; correlations lie within [-1, 1] (a Fisher z?).",
            stacklevel=3,
        )
    return target


def _by_labels(frame, labels):
    rows, columns = [str(i) for i in frame.index], [str(i) for i in frame.columns]
    if rows != columns:
        raise ValueError("target: its row and column labels differ; give a square frame with the same labels on both.")
    missing, extra = sorted(set(labels) - set(rows)), sorted(set(rows) - set(labels))
    repeated = sorted({label for label in rows if rows.count(label) > 1})
    if missing or extra or repeated:
        parts = {"missing": missing, "extra": extra, "repeated": repeated}
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        raise ValueError(f"target: labels do not match connectivity.region_labels ({told}). Rename or select them.")
    order = [rows.index(label) for label in labels]
    if order != list(range(len(order))):
        warnings.warn("target: rows and columns were put into the order of connectivity.region_labels.", stacklevel=4)
    return np.asarray(frame, dtype=float)[np.ix_(order, order)]
