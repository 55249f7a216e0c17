"""Figures of the information about fitted values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOURS, FAINT, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Smallest information that is drawn, relative to the prior's.
_SMALLEST = 1e-3
# Largest number of entries whose names stand at an axis.
_MAX_NAMED = 12


def identifiability(result, axes: "Sequence[Axes] | None" = None) -> np.ndarray:
    """Information in FC about fitted values, beside the prior's, and the values with their standard errors.

    Parameters
    ----------
    result : Identifiability or StandardErrors
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
    result = getattr(result, "record", result)
    several = [path for path, values in result.values.items() if values.size > 1]
    single = [path for path, values in result.values.items() if values.size == 1]
    axes = make_axes(axes, 1 + len(several) + bool(single), (4.6, 3.4))
    _draw_spectrum(axes[0], result)
    for ax, path in zip(axes[1:], several, strict=False):
        _draw_values(ax, path, result)
    if single:
        _draw_single(axes[-1], single, result)
    return axes


def value_correlation(result, ax: "Axes | None" = None) -> "Axes":
    """Correlation between fitted values: which of them FC cannot tell apart.

    Parameters
    ----------
    result : Identifiability or StandardErrors
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A `StandardErrors` of more than 1000 values, which has no correlations.

    Notes
    -----
    Values are in the order of their paths, which lines separate. The diagonal is blank. Of values that FC says little
    about, the prior is independent, so that their correlations are small.
    """
    result = getattr(result, "record", result)
    if result.correlation is None:
        raise ValueError(
            f"value_correlation: the correlations of {result.eigenvalues.size} values were not kept. Compute them by "
            "result.identifiability().correlation."
        )
    ax = make_axes(ax, 1, (4.8, 4.2))[0]
    blank = np.eye(len(result.correlation), dtype=bool)
    image = ax.imshow(np.where(blank, np.nan, result.correlation), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
    ax.figure.colorbar(image, ax=ax, label="correlation", shrink=0.85)
    sizes = [values.size for values in result.values.values()]
    ends = np.cumsum(sizes)
    if ends[-1] <= _MAX_NAMED:
        places = np.arange(ends[-1])
        names = [f"{path}[{name}]" if name else path for path, names in result.names.items() for name in names]
    else:
        places, names = ends - (np.array(sizes) + 1.0) / 2.0, list(result.names)
    ax.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize="small")
    ax.set_yticks(places, names, fontsize="small")
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color="k", linewidth=0.8)
        ax.axvline(end - 0.5, color="k", linewidth=0.8)
    return ax


def _draw_spectrum(ax, result):
    """Eigenvalues of the information, relative to the prior's."""
    information = np.maximum(result.eigenvalues, _SMALLEST)
    number = np.arange(1, information.size + 1)
    determined = result.eigenvalues > 1.0
    ax.plot(number[determined], information[determined], "o", markersize=4, color=COLOURS["training"])
    ax.plot(number[~determined], information[~determined], "o", markersize=4, color=COLOURS["training"], alpha=FAINT)
    ax.axhline(1.0, color=COLOURS["held out"], linestyle="--", label="prior")
    ax.set(yscale="log", xlabel="direction", ylabel="information / prior's")
    ax.set_title(f"{determined.sum()} of {information.size} directions determined", fontsize="medium")
    ax.legend(fontsize="small")


def _draw_values(ax, path, result):
    """Values of one path with their standard errors."""
    values, errors, determined = result.values[path], result.standard_error[path], result.is_determined[path]
    place = np.arange(values.size)
    for members, alpha in ((determined, 1.0), (~determined, FAINT)):
        style = {"fmt": "o", "markersize": 4, "color": COLOURS["training"], "alpha": alpha, "elinewidth": 1}
        ax.errorbar(place[members], values[members], errors[members], **style)
    if values.size <= _MAX_NAMED:
        ax.set_xticks(place, result.names[path], rotation=45, ha="right", fontsize="small")
    else:
        ax.set_xlabel("region" if values.size == result.n_regions else "entry")
    ax.set_ylabel(path)
    ax.set_title(f"{determined.sum()} of {values.size} determined", fontsize="medium")


def _draw_single(ax, paths, result):
    """Standard errors of single values, relative to the prior's."""
    relative = np.array([result.standard_error[path][0] / result.prior_std[path][0] for path in paths])
    alpha = [1.0 if result.is_determined[path][0] else FAINT for path in paths]
    bars = ax.barh(np.arange(len(paths)), relative, height=0.5, color=COLOURS["training"])
    for bar, opacity in zip(bars, alpha, strict=True):
        bar.set_alpha(opacity)
    texts = [f"{path}\n{result.values[path][0]:.4g} ± {result.standard_error[path][0]:.2g}" for path in paths]
    ax.set_yticks(np.arange(len(paths)), texts, fontsize="small")
    ax.axvline(1.0, color=COLOURS["held out"], linestyle="--", label="prior")
    ax.set(xlim=(0.0, 1.1), ylim=(-0.75, len(paths) - 0.25), xlabel="standard error / prior's")
    ax.legend(fontsize="small")
