"""Figures of time series."""

from typing import TYPE_CHECKING

import numpy as np

from .axes import COLOUR_MAP, drawable, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def time_series(
    time, data, window: tuple[float, float] | None = None, ylabel: str = "", ax: "Axes | None" = None
) -> "Axes":
    """Time series of all regions, one line per region, coloured by its mean.

    Parameters
    ----------
    time : array_like, shape (n_time,)
        [ms]
    data : array_like, shape (n_time, n_node) or (n_time, n_voi, n_node, n_mode)
        As a monitor returns it; of several variables or modes the first is drawn.
    window : (float, float), optional
        First and last time to show [ms].
    ylabel : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no sample in the window.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> ax = plot.time_series(np.arange(4.0), np.ones((4, 2)), ylabel="S")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time [ms]', 'S')
    """
    from matplotlib.collections import LineCollection

    time, data = drawable(time, "time_series: time"), drawable(data, "time_series: data")
    data = data[:, 0, :, 0] if data.ndim == 4 else data
    low, high = (time[0], time[-1]) if window is None else window
    inside = (time >= low) & (time <= high)
    if not inside.any():
        raise ValueError(
            f"time_series: no sample between {low:g} and {high:g} ms; times are {time[0]:g} to {time[-1]:g}."
        )
    time, data = time[inside], data[inside]
    ax = make_axes(ax, 1, (5.4, 3.2))[0]
    in_seconds = np.ptp(time) > 5000.0
    x = time / 1000.0 if in_seconds else time
    lines = LineCollection([np.column_stack([x, y]) for y in data.T], cmap=COLOUR_MAP, linewidths=0.8, alpha=0.8)
    lines.set_array(data.mean(axis=0))
    ax.add_collection(lines)
    ax.autoscale()
    ax.margins(x=0.0)
    ax.set(xlabel="time [s]" if in_seconds else "time [ms]", ylabel=ylabel)
    ax.figure.colorbar(lines, ax=ax, label="mean of the region")
    return ax
