"""Figures of cohorts: scores of all fits, and fitted values over subjects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOURS, FAINT, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Baselines without a model by their names among the scores: label, marker, colour.
_BASELINES = {
    "structure": ("structural weights", "_", "0.5"),
    "group": ("mean FC of the others", "x", COLOURS["held out"]),
    "reliability": ("recording that was fitted", "^", COLOURS["agrees"]),
}
# Largest number of fits whose names stand at the axis.
_MAX_NAMED = 30


def cohort_scores(rows: Sequence[dict], ax: "Axes | None" = None) -> "Axes":
    """r of each fit on fresh noise, the smallest first, beside what needs no model.

    Parameters
    ----------
    rows : sequence of dict
        ``participant_id``, ``session_id``, ``r``, and as far as they are known ``structure``, ``group`` and
        ``reliability``, as in `Cohort.scores`. Rows without r are left out.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No row has r.

    Examples
    --------
    >>> from tvb_jaxfit import plot
    >>> rows = [{"participant_id": "sub-01", "r": 0.6}, {"participant_id": "sub-02", "r": 0.4}]
    >>> plot.cohort_scores(rows).get_xticklabels()[0].get_text()
    'sub-02'
    """
    rows = sorted((row for row in rows if _number(row.get("r")) is not None), key=lambda row: row["r"])
    if not rows:
        raise ValueError("cohort_scores: no fit has a score.")
    if ax is None:
        ax = make_axes(None, 1, (min(9.0, 3.5 + 0.16 * len(rows)), 3.6))[0]
    place = np.arange(len(rows))
    for name, (label, marker, colour) in _BASELINES.items():
        values = np.array([np.nan if (found := _number(row.get(name))) is None else found for row in rows])
        if np.isfinite(values).any():
            ax.scatter(place, values, s=24, marker=marker, color=colour, label=label, zorder=2)
    ax.scatter(place, [row["r"] for row in rows], s=22, color=COLOURS["training"], label="fit, fresh noise", zorder=3)
    if len(rows) <= _MAX_NAMED:
        ax.set_xticks(place, [_name(row) for row in rows], rotation=60, ha="right", fontsize="small")
    else:
        ax.set_xlabel(f"{len(rows)} fits, the worst first")
    ax.set_ylabel("r with the empirical FC")
    ax.grid(axis="y", alpha=0.3)
    ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)
    return ax


def cohort_values(
    values: np.ndarray, name: str = "", labels: Sequence[str] | None = None, ax: "Axes | None" = None, determined=None
) -> "Axes":
    """Fitted values of one parameter over subjects: by region, mean and standard deviation; of one value, each.

    Parameters
    ----------
    values : array_like, shape (n_fit,) or (n_fit, n_node)
    name : str, optional
        Name of the parameter.
    labels : sequence of str, shape (n_node,), optional
        Of the regions.
    ax : matplotlib.axes.Axes, optional
    determined : array_like, shape (n_node,), optional
        Share of the fits in which FC determines the value of a region. Regions below one half are drawn faint.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Values of another shape; another number of labels.
    """
    values = np.asarray(values, float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or (labels is not None and len(labels) != values.shape[1]):
        raise ValueError(
            f"cohort_values: values of shape {values.shape}; give (n_fit, n_node), and a label per region."
        )
    ax = make_axes(ax, 1, (4.6, 3.4))[0]
    if values.shape[1] == 1:
        ax.hist(values[:, 0], bins="auto", color=COLOURS["training"], alpha=0.6)
        ax.plot(values[:, 0], np.zeros(len(values)), "|", color="k", markersize=12, clip_on=False)
        ax.set(xlabel=name, ylabel="fits")
        ax.yaxis.get_major_locator().set_params(integer=True)
        return ax
    order = np.argsort(values.mean(axis=0))
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    place = np.arange(values.shape[1])
    style = {"fmt": "o", "markersize": 3, "elinewidth": 0.8, "color": COLOURS["training"]}
    is_faint = np.zeros(values.shape[1], bool) if determined is None else np.asarray(determined)[order] < 0.5
    for members, opacity in ((~is_faint, 1.0), (is_faint, FAINT)):
        if members.any():
            means, spreads = values.mean(axis=0)[order][members], spread[order][members]
            ax.errorbar(place[members], means, spreads, alpha=opacity, **style)
    _name_regions(ax, labels, order, "region, in the order of the mean")
    ax.set_ylabel(f"{name}, mean ± sd over fits")
    return ax


def cohort_determined(
    determined: np.ndarray, name: str = "", labels: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Share of the fits in which FC determines the value of each region, the largest first.

    Parameters
    ----------
    determined : array_like, shape (n_node,)
        Shares, as column ``determined`` of `Cohort.regional`.
    name : str, optional
        Name of the parameter.
    labels : sequence of str, shape (n_node,), optional
        Of the regions.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Shares of another shape; another number of labels.

    Examples
    --------
    >>> from tvb_jaxfit import plot
    >>> ax = plot.cohort_determined([0.2, 1.0], "model.w", ["a", "b"])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['b', 'a']
    """
    shares = np.asarray(determined, float)
    if shares.ndim != 1 or (labels is not None and len(labels) != shares.size):
        raise ValueError(f"cohort_determined: shape {shares.shape}; give (n_node,), and a label per region.")
    ax = make_axes(ax, 1, (4.6, 3.4))[0]
    order = np.argsort(-shares, kind="stable")
    ax.bar(np.arange(shares.size), shares[order], width=0.9, color=COLOURS["training"])
    _name_regions(ax, labels, order, "region, in the order of the share")
    ax.set(ylim=(0.0, 1.0), ylabel=f"{name}, share of fits")
    ax.set_title(f"{np.sum(shares >= 0.5)} of {shares.size} determined in at least half of the fits", fontsize="medium")
    return ax


def _name_regions(ax, labels, order, otherwise):
    """Names of the regions at the axis, if there are few; else a label of the axis."""
    if labels is not None and len(labels) <= _MAX_NAMED:
        ax.set_xticks(np.arange(len(labels)), np.asarray(labels)[order], rotation=90, fontsize="x-small")
    else:
        ax.set_xlabel(otherwise)


def _number(value):
    """Finite number, or None."""
    is_number = isinstance(value, (int, float, np.number)) and np.isfinite(value)
    return float(value) if is_number else None


def _name(row):
    parts = [row["participant_id"], f"ses-{row['session_id']}" if row.get("session_id") else ""]
    return " ".join(filter(None, parts))
