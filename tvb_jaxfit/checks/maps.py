"""Maps of regions from the user: read from arrays and tables, and standardised, or refused."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import caller_stacklevel
from .arrays import real_array

# Maps whose means and standard deviations are that close to 0 and 1 are standardised already: others divide by n - 1.
_MEAN_TOLERANCE, _STD_TOLERANCE = 1e-3, 0.02
# Maximum number of regions that a message names.
_MAX_NAMED = 8


def read_maps(maps: Any) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...] | None]:
    """Read maps from an array, a DataFrame, or a dict of columns.

    Parameters
    ----------
    maps : array_like, shape (n_region, n_map), pandas.DataFrame, or dict

    Returns
    -------
    values : ndarray, shape (n_region, n_map)
    names : tuple of str
        Of the maps.
    labels : tuple of str or None
        Of the regions, in the order of the rows; None if the maps have none.

    Raises
    ------
    ValueError
        Another shape; columns of different lengths or with different labels; values that are no real numbers.
    """
    if isinstance(maps, Mapping):
        return _read_columns(maps)
    labels, names = None, None
    if hasattr(maps, "columns") and hasattr(maps, "index"):
        names, labels = tuple(map(label_text, maps.columns)), _labels_of_index(maps.index)
    values = np.asarray(real_array(maps, "MapParameter: maps"))
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"MapParameter: maps of shape {values.shape}; give (n_region, n_map).")
    return values, names or tuple(f"map_{index + 1}" for index in range(values.shape[1])), labels


def _read_columns(maps):
    """`read_maps` of a dict of columns."""
    columns, labels = {}, {}
    for name, column in maps.items():
        is_labelled = isinstance(column, Mapping) or hasattr(column, "index") and hasattr(column, "to_numpy")
        if isinstance(column, Mapping):
            labels[name], column = tuple(map(label_text, column)), list(column.values())
        elif is_labelled:
            labels[name] = _labels_of_index(column.index)
        columns[name] = np.asarray(real_array(column, f"MapParameter: map {name}", shape=(None,)))
    labels = {name: of_map for name, of_map in labels.items() if of_map is not None}
    lengths = {name: len(column) for name, column in columns.items()}
    if not columns or len(set(lengths.values())) > 1 or labels and len(labels) < len(columns):
        raise ValueError(
            f"MapParameter: maps of {lengths} regions, with region labels for {list(labels) or 'none'}; give one map "
            "or more, all of the same regions, and labels for all of them or for none."
        )
    first = next(iter(labels.values()), None)
    for name, of_map in labels.items():
        if sorted(of_map) != sorted(first):
            raise ValueError(f"MapParameter: map {name} has other region labels than {next(iter(labels))}.")
        columns[name] = columns[name][[of_map.index(label) for label in first]]
    return np.stack(list(columns.values()), axis=1), tuple(map(label_text, columns)), first


def _labels_of_index(index):
    """Labels of a pandas index; None for the plain numbers that pandas gives to rows without labels."""
    labels = list(index)
    return None if labels == list(range(len(labels))) else tuple(map(label_text, labels))


def standardised(values: np.ndarray, names, labels=None) -> np.ndarray:
    """Maps with mean 0 and standard deviation 1 over the regions; those that have them already are left alone.

    Parameters
    ----------
    values : ndarray, shape (n_region, n_map)
    names : sequence of str
        Of the maps.
    labels : sequence of str, optional
        Of the regions.

    Returns
    -------
    ndarray, shape (n_region, n_map)

    Raises
    ------
    ValueError
        Maps that are constant, not finite, or linearly dependent: all in one message.

    Warns
    -----
    UserWarning
        Maps that were not standardised.
    """
    problems = []
    for name, column in zip(names, values.T, strict=True):
        is_bad = ~np.isfinite(column)
        if is_bad.any():
            places = np.flatnonzero(is_bad) if labels is None else np.asarray(labels)[is_bad]
            problems.append(f"map {name} has no finite value in {is_bad.sum()} regions ({listed(places)})")
        elif np.ptp(column) == 0.0:
            problems.append(f"map {name} is the same in all regions")
    if not problems:
        mean, std = values.mean(axis=0), values.std(axis=0)
        standard = (values - mean) / std
        n_needed = values.shape[1] + 1
        if np.linalg.matrix_rank(np.column_stack([np.ones(len(values)), standard]), 1e-8) < n_needed:
            problems.append(f"maps {', '.join(names)} are linearly dependent, so that no data determine their slopes")
    if problems:
        raise ValueError(f"MapParameter: {'; '.join(problems)}. Leave out such maps or regions.")
    is_other = (np.abs(mean) > _MEAN_TOLERANCE) | (np.abs(std - 1.0) > _STD_TOLERANCE)
    if not is_other.any():
        return values
    found = ", ".join(
        f"{name} (mean {m:.4g}, standard deviation {s:.4g})"
        for name, m, s, other in zip(names, mean, std, is_other, strict=True)
        if other
    )
    warnings.warn(
        f"MapParameter: maps were standardised over the {len(values)} regions: {found}. Coefficients are per standard "
        "deviation.",
        stacklevel=caller_stacklevel(),
    )
    return np.where(is_other, standard, values)


def label_text(label) -> str:
    """Label of a region as text; TVB may hold bytes."""
    return label.decode() if isinstance(label, bytes) else str(label)


def listed(labels) -> str:
    """Labels as the part of a sentence, the first of them by name."""
    labels = [str(label) for label in labels]
    more = f" and {len(labels) - _MAX_NAMED} more" if len(labels) > _MAX_NAMED else ""
    return ", ".join(labels[:_MAX_NAMED]) + more
