"""Runs on fresh noise from one state, in JAX and in TVB."""

import math
import warnings
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from ..dynamics.noise import resample
from ..dynamics.simulate import Simulate
from ..errors import DomainWarning
from ..parameters import strip_parameters
from ..state import State
from ..translate.clone import clone, configured_clone
from ..translate.divergence import DivergenceWatch, find_divergence
from ..translate.prepare import prepare
from ..translate.tvb_run import iterate_tvb
from ..writeback import write_back
from .diagnosis import explain_signal
from .fc_monitor import choose_monitor, is_noisy, refuse_no_fc


@runtime_checkable
class FittedSimulator(Protocol):
    """Attributes of a fit that `evaluate` reads; `FitResult` has them."""

    simulator: object
    simulate: Simulate
    best: State
    target: np.ndarray
    monitor: int
    skip_t: int
    history: object
    loss: np.ndarray
    r: np.ndarray


@dataclass(frozen=True)
class Runs:
    """Runs that start from one state, and the monitor that records them.

    Attributes
    ----------
    sim : tvb.simulator.simulator.Simulator
        Configured copy, at the position of the state.
    simulate : Simulate
        With one monitor only.
    state : State
        Of plain arrays.
    monitor : int
        Index of the monitor in the simulator.
    n_time : int
        Number of samples of a run.
    diverged : dict of int to (Divergence or None)
        By seed, the first state of TVB's own run that is not finite.
    """

    sim: object
    simulate: Simulate
    state: State
    monitor: int
    n_time: int
    diverged: dict = field(default_factory=dict)

    @property
    def length(self):
        """Length of a run [ms]."""
        return self.simulate.n_steps * self.simulate.dt

    @property
    def period(self):
        """Time between two samples [ms]."""
        return self.simulate.monitors[0].istep * self.simulate.dt

    def run_jax(self, seed, on_steps):
        """Run the translation on the noise of a JAX key.

        Parameters
        ----------
        seed : int
            Of the key.
        on_steps : callable
            Called with the number of steps that were completed since the last call.

        Returns
        -------
        ndarray, shape (n_time, n_node)
        """
        result = self.simulate(resample(self.state, jax.random.key(seed)))
        signal = np.asarray(result.data[0])
        on_steps(self.simulate.n_steps)
        return signal[:, 0, :, 0]

    def run_tvb(self, seed, on_steps):
        """Run TVB itself on a copy of the simulator.

        Parameters
        ----------
        seed : int
            Of TVB's random stream.
        on_steps : callable
            As in `run_jax`.

        Returns
        -------
        ndarray, shape (n_time, n_node)
        """
        sim, n_steps = clone(self.sim), self.simulate.n_steps
        sim.monitors = [sim.monitors[self.monitor]]
        sim.integrator.noise.random_stream.seed(seed)
        samples, watch = [], DivergenceWatch(sim)
        for ((_, sample),) in iterate_tvb(sim, n_steps, _length_for_tvb(n_steps, self.simulate.dt)):
            samples.append(sample[0, :, 0])
            on_steps(self.simulate.monitors[0].istep)
        self.diverged[seed] = watch.divergence
        return np.array(samples)

    def explain_no_fc(self, simulator, seed, signal, skip_t):
        """Explain why a run has no FC.

        Parameters
        ----------
        simulator : {"JAX", "TVB"}
        seed : int
        signal : ndarray, shape (n_time, n_node)
        skip_t : int

        Returns
        -------
        str
            Sentences, see `explain_signal`.
        """
        recorder = self.simulate.monitors[0]
        time = recorder.times(self.state.current_step, self.simulate.n_steps)

        def find():
            if simulator == "TVB":
                return self.diverged[seed]
            return find_divergence(self.sim, self.simulate, resample(self.state, jax.random.key(seed)))

        return explain_signal(self.sim, recorder, self.monitor, (time, signal), skip_t, find)


def prepare_runs_of_fit(result: FittedSimulator, state=None, monitor=None, simulation_length=None) -> Runs:
    """Prepare runs from the best state of a fit, or from another state.

    Raises
    ------
    ValueError, UnsupportedComponent
        As in `prepare_runs`; ValueError also if the result has no simulator.
    """
    if result.simulator is None:
        raise ValueError(
            "evaluate: this FitResult holds no simulator. Give the simulator itself, and state=; or load a saved "
            "result with its simulator, FitResult.load(path, sim)."
        )
    state = result.best if state is None else state
    monitor = result.monitor if monitor is None else monitor
    if simulation_length is None:
        # Runs of the fit's own length use the program that was compiled for the fit.
        return _runs(at_state(result.simulator, state), result.simulate, strip_parameters(state), monitor)
    return prepare_runs(result.simulator, state, monitor, simulation_length)


def prepare_runs(sim, state=None, monitor=None, simulation_length=None) -> Runs:
    """Prepare runs from the present position of a simulator, or from a state of it.

    Raises
    ------
    ValueError
        If the simulator is deterministic, the monitor does not exist or records no signal of regions, the length is
        too short for a sample, or the state is not of this simulator.
    UnsupportedComponent
        As in `prepare`.
    """
    sim = sim if state is None else at_state(sim, state)
    # The draws of this key are never used: TVB's own stream would take long to draw as many.
    simulate, start = prepare(sim, simulation_length, noise=jax.random.key(0))
    return _runs(configured_clone(sim), simulate, start, monitor)


def at_state(sim, state):
    """Configured copy of a simulator at the position of a state, with the parameters of the state.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified.
    state : State

    Returns
    -------
    tvb.simulator.simulator.Simulator
    """
    sim = configured_clone(sim)
    with warnings.catch_warnings():
        # The user gets this warning from write_back on the user's own simulator.
        warnings.simplefilter("ignore", DomainWarning)
        write_back(state, sim, position=True)
    return sim


def _runs(sim, simulate, state, monitor):
    monitor = choose_monitor(simulate.monitors, monitor)
    if not is_noisy(state):
        raise ValueError(
            "evaluate: the simulator is deterministic (no noise, or nsig is zero), so that all its runs are the same. "
            "Give it noise (integrator.noise.nsig)."
        )
    if len(simulate.monitors) > 1:
        simulate = simulate.with_monitor(monitor)
        state = state.replace(monitors=state.monitors[monitor : monitor + 1])
    n_time = refuse_no_fc("evaluate", sim, simulate, state, 0, 0, index=monitor)
    return Runs(sim, simulate, state, monitor, n_time)


def _length_for_tvb(n_steps, dt):
    """Length [ms] for which TVB's ceil(length / dt) is exactly ``n_steps``."""
    length = n_steps * dt
    while math.ceil(length / dt) > n_steps:
        length = math.nextafter(length, 0.0)
    return length
