"""Whose signal FC is computed from, and from which sample on."""

import numpy as np

from ..dynamics.monitors import Bold, Monitor
from ..parameters import plain


def choose_monitor(monitors: tuple[Monitor, ...], wanted=None):
    """Index of the monitor that FC is computed from.

    Raises
    ------
    ValueError
        Where it is not clear which.
    """
    if wanted is not None:
        if not 0 <= wanted < len(monitors):
            raise ValueError(f"monitor: {wanted}; the simulator has monitors 0 to {len(monitors) - 1}.")
        return int(wanted)
    bold = [index for index, monitor in enumerate(monitors) if isinstance(monitor, Bold)]
    candidates = bold or list(range(len(monitors)))
    if len(candidates) != 1:
        names = ", ".join(f"{index}: {type(monitors[index]).__name__}" for index in candidates)
        raise ValueError(f"monitor: which one FC is computed from is not clear ({names}); name its index.")
    return candidates[0]


def transient(monitor, leaves):
    """Samples of a Bold monitor that see the empty part of its stock, the oldest: all of it before a first run."""
    if not isinstance(monitor, Bold):
        return 0
    stock = np.asarray(leaves.stock)
    filled = np.flatnonzero(np.any(stock != 0.0, axis=(1, 2, 3)))
    empty = int(filled[0]) if filled.size else len(stock)
    return -(-empty * monitor.interim_istep // monitor.istep)


def is_noisy(state):
    """Whether runs from a state draw noise that has a size."""
    return "noise" in state.integrator and bool(np.any(np.asarray(plain(state).integrator.noise.nsig) > 0.0))
