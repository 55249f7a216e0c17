"""Figures of the information about fitted values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOURS, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Smallest information that is drawn, relative to the prior's.
_SMALLEST = 1e-3
# Opacity of values that are not determined.
_FAINT = 0.25


def identifiability(result, axes: "Sequence[Axes] | None" = None) -> np.ndarray:
    """Information in FC about fitted values, beside the prior's, and the values with their standard errors.

    Parameters
    ----------
    result : Identifiability
    axes : sequence of matplotlib.axes.Axes, optional
        One for the information; one for each path with several values; and one for the single values, if there are any.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If another number of ``axes`` is given.

    Notes
    -----
    Values about which FC says less than the prior are drawn faint.
    """
    several = [path for path, values in result.values.items() if values.size > 1]
    single = [path for path, values in result.values.items() if values.size == 1]
    axes = make_axes(axes, 1 + len(several) + bool(single), (4.6, 3.4))
    _draw_spectrum(axes[0], result)
    for ax, path in zip(axes[1:], several, strict=False):
        _draw_values(ax, path, result)
    if single:
        _draw_single(axes[-1], single, result)
    return axes


def _draw_spectrum(ax, result):
    """Eigenvalues of the information, relative to the prior's."""
    information = np.maximum(result.eigenvalues, _SMALLEST)
    number = np.arange(1, information.size + 1)
    determined = result.eigenvalues > 1.0
    ax.plot(number[determined], information[determined], "o", markersize=4, color=COLOURS["training"])
    ax.plot(number[~determined], information[~determined], "o", markersize=4, color=COLOURS["training"], alpha=_FAINT)
    ax.axhline(1.0, color=COLOURS["held out"], linestyle="--", label="prior")
    ax.set(yscale="log", xlabel="direction", ylabel="information / prior's")
    ax.set_title(f"{determined.sum()} of {information.size} directions determined", fontsize="medium")
    ax.legend(fontsize="small")


def _draw_values(ax, path, result):
    """Values of one path with their standard errors."""
    values, errors, determined = result.values[path], result.standard_error[path], result.is_determined[path]
    place = np.arange(values.size)
    for members, alpha in ((determined, 1.0), (~determined, _FAINT)):
        style = {"fmt": "o", "markersize": 4, "color": COLOURS["training"], "alpha": alpha, "elinewidth": 1}
        ax.errorbar(place[members], values[members], errors[members], **style)
    names = result.free.names[path]
    if values.size <= 12:
        ax.set_xticks(place, names, rotation=45, ha="right", fontsize="small")
    else:
        ax.set_xlabel("region" if values.size == len(result.free.labels) else "entry")
    ax.set_ylabel(path)
    ax.set_title(f"{determined.sum()} of {values.size} determined", fontsize="medium")


def _draw_single(ax, paths, result):
    """Standard errors of single values, relative to the prior's."""
    relative = np.array([result.standard_error[path][0] / result.prior_std[path][0] for path in paths])
    alpha = [1.0 if result.is_determined[path][0] else _FAINT for path in paths]
    bars = ax.barh(np.arange(len(paths)), relative, height=0.5, color=COLOURS["training"])
    for bar, opacity in zip(bars, alpha, strict=True):
        bar.set_alpha(opacity)
    texts = [f"{path}\n{result.values[path][0]:.4g} ± {result.standard_error[path][0]:.2g}" for path in paths]
    ax.set_yticks(np.arange(len(paths)), texts, fontsize="small")
    ax.axvline(1.0, color=COLOURS["held out"], linestyle="--", label="prior")
    ax.set(xlim=(0.0, 1.1), ylim=(-0.75, len(paths) - 0.25), xlabel="standard error / prior's")
    ax.legend(fontsize="small")
