"""Axes, colours and arrays that all figures share."""

import numpy as np

from ..checks.arrays import real_array

COLOUR_MAP = "cividis"
# Red and green are distinguished by their position and their words, too.
COLOURS = {"agrees": "tab:green", "differs": "tab:red", "training": "tab:blue", "held out": "tab:orange"}

# Opacity of values that are not determined.
FAINT = 0.25


def make_axes(axes, n, size):
    """Axes as given, or new ones side by side.

    Parameters
    ----------
    axes : matplotlib.axes.Axes, sequence of these, or None
    n : int
        Number of axes needed.
    size : (float, float)
        Width and height of each new one [inch].

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n,)

    Raises
    ------
    ValueError
        If another number of axes is given.
    """
    if axes is None:
        import matplotlib.pyplot as plt

        return plt.subplots(1, n, figsize=(n * size[0], size[1]), layout="constrained", squeeze=False)[1][0]
    axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(axes) != n:
        raise ValueError(f"axes: {len(axes)}, where {n} are needed. Give as many, or none.")
    return axes


def drawable(value, name):
    """Array of floats to draw; masked entries become NaN and stay blank."""
    return np.asarray(real_array(value, name, masked=np.nan), float)


def is_right(hemispheres, n_node):
    """Hemisphere of each region, True for right; False for all regions if it is not known."""
    is_known = hemispheres is not None and np.size(hemispheres) > 0
    right = np.asarray(hemispheres if is_known else np.zeros(n_node), dtype=bool)
    if right.shape != (n_node,):
        raise ValueError(f"hemispheres: shape {right.shape} for {n_node} regions; give one for each, True for right.")
    return right
