"""The past that a run starts from: TVB's ring buffer in order of time."""

import numpy as np


def of(sim):
    """Samples up to the present of a configured simulator.

    Parameters
    ----------
    sim : Simulator

    Returns
    -------
    ndarray, shape (horizon, n_var, n_node, n_mode)
        In order of time, the last the current state. TVB keeps the coupling variables of the earlier ones; their other
        variables have no effect, and are shown as the current state's.
    """
    past, state = sim.history, np.asarray(sim.current_state, dtype=float)
    slots = (sim.current_step + 1 + np.arange(past.n_time)) % past.n_time
    samples = np.repeat(state[None], past.n_time, axis=0)
    samples[:-1, sim.model.cvar] = past.buffer[slots[:-1]]
    return samples


def is_at(sim, samples):
    """Whether a configured simulator's past is this one: the present exactly, the rest as precisely as TVB keeps it."""
    own = of(sim)
    return (
        own.shape == samples.shape
        and np.array_equal(own[-1].astype(samples.dtype), samples[-1])
        and np.array_equal(own.astype("f"), samples.astype("f"))
    )


def is_misaligned(sim):
    """Whether TVB takes as the present another sample than the last of the initial conditions that it was given.

    Notes
    -----
    TVB keeps the last ``horizon`` samples of longer initial conditions, but counts its steps as if it had kept all:
    the present is then the sample at (length - 1) modulo horizon.
    """
    given = sim.initial_conditions
    if given is None:
        return False
    length, horizon = given.shape[0], sim.connectivity.horizon
    return length > horizon and length % horizon != 0
