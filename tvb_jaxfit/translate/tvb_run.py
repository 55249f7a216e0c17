"""Runs of TVB itself, which leave NumPy's global random stream as it is."""

from collections.abc import Iterator

import numpy as np
from tvb.simulator.simulator import Simulator

from .random_stream import GlobalStreamGuard


def iterate_tvb(sim: Simulator, n_steps: int, simulation_length: float | None = None) -> Iterator[list]:
    """Iterate over the outputs of TVB's own run.

    Parameters
    ----------
    sim : Simulator
        Configured; it goes on by the run.
    n_steps : int
        Number of steps, whatever ``length / dt`` rounds to.
    simulation_length : float, optional
        [ms], for which TVB evaluates the stimulus; the simulator's own by default.

    Yields
    ------
    list of (float, ndarray) or None
        Time and sample of each monitor; None for a monitor that does not sample at this step.
    """
    if simulation_length is not None:
        sim.simulation_length = simulation_length
    yield from GlobalStreamGuard(sim).iterate(sim(n_steps=n_steps))


def run_tvb(
    sim: Simulator, n_steps: int, simulation_length: float | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run TVB itself; as ``sim.run()``, for a number of steps.

    Parameters
    ----------
    sim, n_steps, simulation_length
        As for `iterate_tvb`.

    Returns
    -------
    list of (ndarray, ndarray)
        Times [ms] and samples of each monitor.
    """
    collected = [[] for _ in sim.monitors]
    for output in iterate_tvb(sim, n_steps, simulation_length):
        for samples, sample in zip(collected, output, strict=True):
            if sample is not None:
                samples.append(sample)
    return [(np.array([t for t, _ in samples]), np.array([x for _, x in samples])) for samples in collected]
