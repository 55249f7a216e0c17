"""Stimuli that a user's subclass of TVB's holds and puts together: the parts, and TVB's own pattern of the whole."""

import numpy as np
from tvb.datatypes.patterns import StimuliRegion

from ..clone import clone

# Steps at which a whole is compared with the sum of its parts, when it is decided whether the state shows these.
_N_LOOKS = 50
_TOLERANCE = 1e-12


def parts(stimulus):
    """Stimuli that the attributes of another one hold, by path: ``stimuli[0]``, ``first``."""
    found = {}
    for name, value in vars(stimulus).items():
        several = value if isinstance(value, (list, tuple)) else None
        if several and all(isinstance(one, StimuliRegion) for one in several):
            found |= {f"{name}[{index}]": one for index, one in enumerate(several)}
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
    """Whether a stimulus is the sum of its parts, at all steps or at some."""
    held = parts(stimulus)
    if any(name.startswith("_") for name in held):
        return False
    n_time = time.size
    steps = np.unique(np.linspace(0, n_time - 1, _N_LOOKS).astype(int)) if steps is None else steps
    whole = pattern(stimulus, time, n_node, steps)
    each = [pattern(one, time, n_node, steps) for one in held.values()]
    rounding = _TOLERANCE * sum(np.max(np.abs(one)) for one in each)
    return bool(np.all(np.abs(whole - sum(each)) <= rounding))
