"""Signals of TVB and of its translation, and their difference."""

import numpy as np

from .result import Comparison


def translated_signals(simulate, state) -> list:
    """(time, data) of each monitor of a translated run."""
    return [(time, np.asarray(data)) for time, data in simulate(state)]


def compare_monitors(simulate, ours: list, theirs: list) -> tuple[Comparison, ...]:
    """Compare the signals of each monitor; ``simulate`` names the monitors."""
    comparisons = []
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        monitor = simulate.monitors[index]
        absolute, relative = largest_difference(our_data, data)
        finite = np.ones(0, bool) if our_data.shape != data.shape else _all_by_sample(np.isfinite(data))
        lost = np.flatnonzero(~finite)
        comparisons.append(
            Comparison(
                monitor=f"monitors[{index}] {monitor.name}, {monitor.istep * monitor.dt:g} ms",
                n_samples=len(data),
                times_equal=np.array_equal(our_time, time),
                absolute=absolute,
                relative=relative,
                not_finite_from=float(time[lost[0]]) if len(lost) else None,
                n_finite=int(finite.sum()) if len(lost) else None,
            )
        )
    return tuple(comparisons)


def largest_relative(comparisons) -> float:
    """Largest relative difference of all monitors."""
    return max(c.relative for c in comparisons)


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Largest difference, absolute and relative to the largest value; infinite if only one signal is finite."""
    if ours.shape != theirs.shape:
        return np.inf, np.inf
    finite = np.isfinite(theirs)
    if not np.array_equal(np.isfinite(ours), finite):
        return np.inf, np.inf
    absolute = float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0))
    return absolute, absolute / (float(np.max(np.abs(theirs[finite]), initial=0.0)) or 1.0)


def n_equal_samples(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> int:
    """Number of samples before the first that differs or is not finite."""
    if ours.shape != theirs.shape or not len(theirs):
        return 0
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0.0) or 1.0
        equal = _all_by_sample(np.abs(ours - theirs) <= tolerance * scale)
    return len(equal) if equal.all() else int(np.argmin(equal))


def _all_by_sample(values):
    return np.all(values.reshape(len(values), -1), axis=1)
