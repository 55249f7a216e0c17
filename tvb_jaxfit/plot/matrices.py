"""Figures of connectivity matrices: structural connectivity, FC, and the scatter of one FC against another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checks.options import check
from ..loss import fc_corr, rmse
from .axes import COLOUR_MAP, COLOURS, drawable, is_right, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def structural_connectivity(
    connectivity, lengths=None, axes: "Sequence[Axes] | None" = None, hemispheres=None
) -> np.ndarray:
    """Weights and tract lengths side by side; weights on a logarithmic scale over three decades.

    Parameters
    ----------
    connectivity : tvb.datatypes.connectivity.Connectivity or array_like, shape (n_node, n_node)
        Or the weights[target, source].
    lengths : array_like, shape (n_node, n_node), optional
        Tract lengths [mm]; a connectivity has its own.
    axes : sequence of matplotlib.axes.Axes, optional
        One for each matrix.
    hemispheres : array_like of bool, shape (n_node,), optional
        True for right; a connectivity has its own. Regions are ordered by hemisphere, starting with that of the first
        region, and a line separates the hemispheres.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the number of ``axes`` differs from the number of matrices, or ``hemispheres`` from that of regions.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> axes = plot.structural_connectivity(np.array([[0.0, 1.0], [0.5, 0.0]]), lengths=np.full((2, 2), 30.0))
    >>> [ax.get_title() for ax in axes]
    ['Weights', 'Tract lengths']
    """
    from matplotlib.colors import LogNorm, Normalize

    weights = drawable(getattr(connectivity, "weights", connectivity), "structural_connectivity: weights")
    lengths = getattr(connectivity, "tract_lengths", lengths)
    hemispheres = getattr(connectivity, "hemispheres", None) if hemispheres is None else hemispheres
    lengths = None if lengths is None else drawable(lengths, "structural_connectivity: lengths")
    connected = np.where(weights == 0.0, np.nan, weights)
    highest = np.nanmax(connected)
    scale = Normalize() if np.any(weights < 0.0) else LogNorm(highest / 1000.0, highest, clip=True)
    matrices = {"Weights": ("connection strength", connected, scale)}
    if lengths is not None:
        matrices["Tract lengths"] = ("[mm]", np.where(weights == 0.0, np.nan, lengths), Normalize(0.0))
    axes = make_axes(axes, len(matrices), (4.2, 3.6))
    for ax, (title, (unit, matrix, scale)) in zip(axes, matrices.items(), strict=True):
        image = _draw_matrix(ax, matrix, scale, title, hemispheres)
        ax.set(xlabel="source", ylabel="target")
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    return axes


def functional_connectivity(
    matrices: dict, target: str | None = None, axes: "Sequence[Axes] | None" = None, hemispheres=None
) -> np.ndarray:
    """FC matrices side by side on one scale, with their correlation with a target.

    Parameters
    ----------
    matrices : dict of str to array_like, shape (n_node, n_node)
        By title, in order. Entries without data (NaN, or masked) are blank; r leaves out the entries without data in
        the target.
    target : str, optional
        Title of the empirical FC; by default the first. The titles of the others show r (off-diagonal).
    axes : sequence of matplotlib.axes.Axes, optional
        One for each matrix.
    hemispheres : array_like of bool, shape (n_node,), optional
        As for `structural_connectivity`.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no matrix has the target's title, the number of ``axes`` differs from the number of matrices, or
        ``hemispheres`` from that of regions.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> axes = plot.functional_connectivity({"Empirical": fc, "Fitted": 0.5 * fc})
    >>> print(axes[1].get_title())
    Fitted
    r = 1.000
    """
    check("functional_connectivity", matrices=(matrices, _matrices_by_title))
    matrices = {title: drawable(matrix, f"functional_connectivity: {title}") for title, matrix in matrices.items()}
    target = next(iter(matrices)) if target is None else target
    if target not in matrices:
        raise ValueError(f"functional_connectivity: no {target!r}; there is: {', '.join(matrices)}.")
    from matplotlib.colors import Normalize

    axes = make_axes(axes, len(matrices), (3.0, 3.3))
    entries = [matrix[~np.eye(len(matrix), dtype=bool)] for matrix in matrices.values()]
    known = np.concatenate([values[~np.isnan(values)] for values in entries])
    scale = Normalize(min(0.0, known.min()), known.max()) if known.size else Normalize(0.0, 1.0)
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        r = "" if title == target else f"\nr = {float(fc_corr(matrix, matrices[target], missing='ignore')):.3f}"
        off_diagonal = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
        image = _draw_matrix(ax, off_diagonal, scale, title + r, hemispheres)
    axes[0].figure.colorbar(image, ax=list(axes), label="FC", shrink=0.8)
    return axes


def fc_scatter(fc, target, title: str = "", ax: "Axes | None" = None) -> "Axes":
    """Simulated against empirical FC, one point per pair of regions, with the identity line.

    Parameters
    ----------
    fc, target : array_like, shape (n_node, n_node)
        Pairs without data in the target (NaN, or masked) are left out.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> plot.fc_scatter(fc, fc).get_title()
    'r = 1.000, RMSE = 0.000'
    """
    fc, target = drawable(fc, "fc_scatter: fc"), drawable(target, "fc_scatter: target")
    upper = np.triu(~np.isnan(target), 1)
    x, y = target[upper], fc[upper]
    ax = make_axes(ax, 1, (4.0, 4.0))[0]
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    ax.plot([low, high], [low, high], "k--", linewidth=1.0)
    # Few points are large enough to be seen; many are transparent, so that their density shows.
    few = x.size < 500
    ax.scatter(x, y, s=18 if few else 6, alpha=0.8 if few else 0.3, color=COLOURS["training"], edgecolors="none")
    r, difference = (float(measure(fc, target, missing="ignore")) for measure in (fc_corr, rmse))
    scores = f"r = {r:.3f}, RMSE = {difference:.3f}"
    ax.set(title=f"{title}\n{scores}".strip(), xlabel="empirical FC", ylabel="simulated FC")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    return ax


def _matrices_by_title(value):
    """Rule of matrices with titles."""
    return None if isinstance(value, dict) and value else 'a dict of titles and matrices, e.g. {"Empirical": fc}'


def _draw_matrix(ax, matrix, scale, title, hemispheres=None):
    """Image of a matrix, ordered by hemisphere."""
    right = is_right(hemispheres, len(matrix))
    order = np.argsort(right != right[0], kind="stable")
    image = ax.imshow(matrix[np.ix_(order, order)], cmap=COLOUR_MAP, norm=scale, interpolation="none")
    ax.set_title(title, fontsize="medium")
    ax.set(xticks=[], yticks=[])
    n_first = int(np.sum(right == right[0]))
    if n_first < len(matrix):
        names = ["right", "left"] if right[0] else ["left", "right"]
        centres = [(n_first - 1) / 2.0, (n_first + len(matrix) - 1) / 2.0]
        ax.set_xticks(centres, names, fontsize="small")
        ax.set_yticks(centres, names, fontsize="small", rotation="vertical", va="center")
        ax.tick_params(length=0)
        for line in (ax.axhline, ax.axvline):
            line(n_first - 0.5, color=COLOURS["differs"], linewidth=1.0)
    return image
