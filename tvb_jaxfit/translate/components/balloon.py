"""Monitor of the Balloon-Windkessel model: reasons against it, and its parameters."""

import numpy as np

from ...dynamics.balloon_parameters import PARAMETERS
from ..mapped_parameter import MappedParameter, global_or_regional

# Bounds between which the equations are defined.
_LOWEST, _HIGHEST = dict.fromkeys(("tau_s", "tau_f", "tau_o", "alpha", "E0"), 0.0), {"E0": 1.0}


def refusals(sim, monitor, path):
    """Reasons against translation of a BalloonBold monitor that show before configure()."""
    n_node = len(sim.connectivity.weights)
    if not (np.isfinite(monitor.interim_period) and monitor.interim_period > 0.0):
        yield f"{path}.interim_period: {monitor.interim_period} ms; give a positive period, such as 4 ms."
    for name in PARAMETERS:
        value, low, high = getattr(monitor, name), _LOWEST.get(name, -np.inf), _HIGHEST.get(name, np.inf)
        if value.shape not in ((1,), (n_node,)):
            yield f"{path}.{name}: shape {value.shape}. Give (1,) for one value, or ({n_node},) for regional ones."
        elif not np.all(np.isfinite(value) & (value > low) & (value < high)):
            bounds = {(0.0, np.inf): "positive", (0.0, 1.0): "between 0 and 1"}.get((low, high), "finite")
            yield f"{path}.{name}: {value} is not {bounds}. Give values that are."


def parameters(sim, index):
    """Parameters of the BalloonBold monitor with an index, global or regional."""

    def owner(sim):
        return sim.monitors[index]

    def shapes(sim):
        return global_or_regional(len(sim.connectivity.weights))

    return [
        MappedParameter(
            f"monitors[{index}].{name}",
            owner,
            name,
            to_tvb=lambda value, sim: value.ravel(),
            to_state=np.ravel,
            shapes=shapes,
            positive=name in _LOWEST,
        )
        for name in PARAMETERS
    ]
