"""A user's stimulus that is made of several of TVB's: the parts, and TVB's own pattern of the whole."""

import numpy as np
from tvb.datatypes.patterns import StimuliRegion

from ..clone import clone

# Number of steps at which the whole is compared with the sum of its parts, to decide if the state shows the parts.
_N_COMPARED = 50
_TOLERANCE = 1e-12


def parts(stimulus):
    """Stimuli in the attributes of another one, by path: ``stimuli[0]``, ``first``."""
    found = {}
    for name, value in vars(stimulus).items():
        items = value if isinstance(value, (list, tuple)) else None
        if items and all(isinstance(item, StimuliRegion) for item in items):
            found |= {f"{name}[{index}]": item for index, item in enumerate(items)}
        elif isinstance(value, StimuliRegion):
            found[name] = value
    return found


def pattern(stimulus, time, n_node, steps):
    """TVB's own pattern at some steps of a run over times (1, n_time): an array (n_step, n_node)."""
    stimulus = clone(stimulus)
    stimulus.configure_space()
    stimulus.configure_time(time)
    rows = [np.array(stimulus(int(step)), dtype=float).reshape(-1) for step in steps]
    return np.stack([np.broadcast_to(row, (n_node,)) for row in rows])


def adds_up(stimulus, time, n_node, steps=None):
    """True if a stimulus is the sum of its parts at given steps; by default at a few."""
    terms = parts(stimulus)
    if any(name.startswith("_") for name in terms):
        return False
    n_time = time.size
    steps = np.unique(np.linspace(0, n_time - 1, _N_COMPARED).astype(int)) if steps is None else steps
    whole = pattern(stimulus, time, n_node, steps)
    patterns = [pattern(term, time, n_node, steps) for term in terms.values()]
    rounding = _TOLERANCE * sum(np.max(np.abs(values)) for values in patterns)
    return bool(np.all(np.abs(whole - sum(patterns)) <= rounding))
