"""Figure of an estimate of effective connectivity."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOUR_MAP, COLOURS, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def effective_connectivity(result, axes: "Sequence[Axes] | None" = None) -> np.ndarray:
    """Directed weights, their agreement between halves of the data, the choice of the penalty, and the scores.

    Parameters
    ----------
    result : EffectiveConnectivity
    axes : sequence of four matplotlib.axes.Axes, optional

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the number of ``axes`` is not four.
    """
    axes = make_axes(axes, 4, (4.0, 3.6))
    _draw_weights(axes[0], result)
    _draw_halves(axes[1], result)
    _draw_path(axes[2], result)
    _draw_scores(axes[3], result)
    return axes


def _draw_weights(ax, result):
    image = ax.imshow(np.where(result.support, result.weights, np.nan), cmap=COLOUR_MAP, vmin=0.0)
    ax.set(title="Effective connectivity", xlabel="source", ylabel="target")
    ax.figure.colorbar(image, ax=ax, label="weight", shrink=0.85)


def _draw_halves(ax, result):
    first, second = (weights[result.support] for weights in result.weights_of_halves)
    top = 1.05 * max(first.max(), second.max())
    ax.plot([0.0, top], [0.0, top], color="0.6", linestyle="--")
    ax.scatter(first, second, s=14, color=COLOURS["training"])
    ax.set(xlabel="weights from one half of the sessions", ylabel="from the other half")
    ax.set(title=f"Both halves, r = {result.reliability:.2f}", xlim=(0.0, top), ylim=(0.0, top), aspect="equal")


def _draw_path(ax, result):
    place = np.arange(result.penalties.size)
    ax.semilogy(place, result.training_losses, "o-", color=COLOURS["training"], label="training half")
    ax.semilogy(place, result.held_out_losses, "o-", color=COLOURS["held out"], label="held-out half")
    chosen = int(np.flatnonzero(result.penalties == result.penalty)[0])
    ax.semilogy(chosen, np.min(result.held_out_losses), "k*", markersize=11, label="chosen")
    for name, style in (("structural weights", ":"), ("by the other half", "--")):
        loss = result.scores[f"held-out half, {name}"].loss
        ax.axhline(loss, color="0.5", linestyle=style, label=name)
    ax.set_xticks(place, [f"{penalty:g}" for penalty in result.penalties], rotation=45)
    ax.set(title="Choice of the penalty", xlabel="penalty", ylabel="difference from recordings")
    ax.legend(fontsize="x-small")


def _draw_scores(ax, result):
    names = list(result.scores)
    place = np.arange(len(names))[::-1]
    for offset, kind, label, colour in ((0.2, "fc", "FC", "training"), (-0.2, "lagged", "lagged", "held out")):
        values = [getattr(result.scores[name], kind) for name in names]
        bars = ax.barh(place + offset, values, 0.38, color=COLOURS[colour], label=label)
        ax.bar_label(bars, fmt="%.2f", padding=2, fontsize="x-small")
    ax.set_yticks(place, [name.replace(", ", ",\n") for name in names], fontsize="small")
    ax.set(title="Correlation with recordings", xlabel="r", xlim=(min(0.0, ax.get_xlim()[0]), 1.35))
    ax.set_xticks(np.linspace(0.0, 1.0, 6))
    ax.legend(fontsize="x-small", loc="center right")
