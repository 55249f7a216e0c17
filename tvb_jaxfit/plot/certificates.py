"""Figures of certificates."""

from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOURS, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..certificate.result import Certificate

# Differences of exactly zero are drawn at this value: zero has no logarithm.
_SMALLEST = 1e-17


def certificate(certificate: "Certificate", ax: "Axes | None" = None) -> "Axes":
    """Difference between a translation and TVB: one row per monitor, and one per negative control.

    Parameters
    ----------
    certificate : Certificate
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = list(_rows(certificate))
    ax = make_axes(ax, 1, (7.2, 1.2 + 0.45 * len(rows)))[0]
    for place, (_, difference, is_good) in enumerate(rows):
        x = np.clip(np.nan_to_num(difference, nan=np.inf), _SMALLEST, 10.0)
        ax.plot(x, place, "o", color=COLOURS["agrees" if is_good else "differs"])
        text = ("0" if difference == 0.0 else f"{difference:.0e}") + ("" if is_good else "  !")
        ax.annotate(text, (x, place), (0, 6), textcoords="offset points", ha="center", fontsize="small")
    n_float64 = len(certificate.float64_history)
    n_compared = n_float64 + len(certificate.float32_history)
    for tolerance, begin, end in (
        (certificate.tolerance, 0, n_float64),
        (certificate.float32_tolerance, n_float64, n_compared),
        (certificate.tolerance, n_compared, len(rows)),
    ):
        ax.plot([tolerance] * 2, [begin - 0.5, end - 0.5], color="k", linestyle="--", linewidth=1.0)
    ax.axhspan(n_compared - 0.5, len(rows) - 0.5, color="0.93", zorder=0)
    ax.set(xscale="log", xlim=(_SMALLEST / 10.0, 1e2), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize="small")
    ax.set(
        xlabel="largest relative difference (dashed: tolerance)",
        title=f"Certificate: {'PASSED' if certificate.passed else 'FAILED'}, {certificate.n_steps} steps",
    )
    return ax


def _rows(certificate):
    """Label, relative difference, and whether it is as it should be, of each row from top to bottom."""
    for comparison in certificate.float64_history:
        label = f"{comparison.monitor}\nTVB, history in float64"
        yield label, comparison.relative, comparison.agrees(certificate.tolerance)
    for comparison in certificate.float32_history:
        label = f"{comparison.monitor}\nTVB as it is"
        yield label, comparison.relative, comparison.agrees(certificate.float32_tolerance)
    for name, difference in certificate.negative_controls.items():
        # The reason why a control does not apply is a text.
        if not isinstance(difference, str):
            yield f"control: {name}", difference, not difference <= certificate.tolerance
