"""Runs on fresh noise from one state, in JAX and in TVB."""

import math
import warnings
from dataclasses import dataclass, field

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
from ..translate.random_stream import GlobalStreamGuard
from ..writeback import write_back
from .diagnosis import explain_signal
from .fc_monitor import choose_monitor, is_noisy, refuse_no_fc


@dataclass(frozen=True)
class Runs:
    """Where runs start, and what records them.

    Attributes
    ----------
    sim : tvb.simulator.simulator.Simulator
        Configured copy that stands where the state does.
    simulate : Simulate
        With one monitor alone.
    state : State
        Plain.
    monitor : int
        Its index among the simulator's own.
    n_time : int
        Samples of a run.
    diverged : dict of int to (Divergence or None)
        By seed, where TVB's own run stopped being finite.
    """

    sim: object
    simulate: Simulate
    state: State
    monitor: int
    n_time: int
    diverged: dict = field(default_factory=dict)

    @property
    def length(self):
        """Of a run [ms]."""
        return self.simulate.n_steps * self.simulate.dt

    @property
    def period(self):
        """Between two samples [ms]."""
        return self.simulate.monitors[0].istep * self.simulate.dt

    def run_jax(self, seed, tick):
        """Signal (n_time, n_node) on the noise of a JAX key; ``tick`` is told the steps that are done."""
        result = self.simulate(resample(self.state, jax.random.key(seed)))
        signal = np.asarray(result.data[0])
        tick(self.simulate.n_steps)
        return signal[:, 0, :, 0]

    def run_tvb(self, seed, tick):
        """Signal of TVB's own run on a copy whose random stream starts from a seed."""
        sim, n_steps = clone(self.sim), self.simulate.n_steps
        sim.monitors = [sim.monitors[self.monitor]]
        sim.integrator.noise.random_stream.seed(seed)
        sim.simulation_length = _length(n_steps, self.simulate.dt)
        samples, watch = [], DivergenceWatch(sim)
        # A user's model may draw from numpy's global stream.
        for ((_, sample),) in GlobalStreamGuard(sim).iterate(sim(n_steps=n_steps)):
            samples.append(sample[0, :, 0])
            tick(self.simulate.monitors[0].istep)
        self.diverged[seed] = watch.divergence
        return np.array(samples)

    def explain_no_fc(self, simulator, seed, signal, skip_t):
        """Why the run of a simulator ("JAX" or "TVB") with a seed has no FC: sentences, see `explain_signal`."""
        recorder = self.simulate.monitors[0]
        time = recorder.times(self.state.current_step, self.simulate.n_steps)

        def find():
            if simulator == "TVB":
                return self.diverged[seed]
            return find_divergence(self.sim, self.simulate, resample(self.state, jax.random.key(seed)))

        return explain_signal(self.sim, recorder, self.monitor, (time, signal), skip_t, find)


def prepare_runs_of_fit(result, state=None, monitor=None, simulation_length=None):
    """Runs from the best state of a fit, or from another.

    Raises
    ------
    ValueError, UnsupportedComponent
        As `prepare_runs`.
    """
    if result.simulator is None:
        raise ValueError("evaluate: this FitResult holds no simulator. Give the simulator itself, and state=.")
    state = result.best if state is None else state
    monitor = result.monitor if monitor is None else monitor
    if simulation_length is None:
        # As long as the fit's: what was compiled for it does.
        return _runs(at_state(result.simulator, state), result.simulate, strip_parameters(state), monitor)
    return prepare_runs(result.simulator, state, monitor, simulation_length)


def prepare_runs(sim, state=None, monitor=None, simulation_length=None):
    """Runs from where a simulator stands, or from a state of it.

    Raises
    ------
    ValueError
        A deterministic simulator, a monitor that is not there or is no signal of regions, a length that it records
        nothing in; a state that is not of this simulator.
    UnsupportedComponent
        As `prepare`.
    """
    sim = sim if state is None else at_state(sim, state)
    # The draws of this key are not used: TVB's own stream would take long to draw as many.
    simulate, start = prepare(sim, simulation_length, noise=jax.random.key(0))
    return _runs(configured_clone(sim), simulate, start, monitor)


def at_state(sim, state):
    """Configured copy of a simulator, put where a state stands, with its parameters."""
    sim = configured_clone(sim)
    with warnings.catch_warnings():
        # Whoever writes the state back for good is told.
        warnings.simplefilter("ignore", DomainWarning)
        write_back(state, sim, position=True)
    return sim


def _runs(sim, simulate, state, monitor):
    monitor = choose_monitor(simulate.monitors, monitor)
    if not is_noisy(state):
        raise ValueError(
            "evaluate: the simulator is deterministic (no noise, or nsig is zero), so that all its runs are the same; "
            "there is no fresh noise to judge it on."
        )
    if len(simulate.monitors) > 1:
        simulate = simulate.with_monitor(monitor)
        state = state.replace(monitors=state.monitors[monitor : monitor + 1])
    n_time = refuse_no_fc("evaluate", sim, simulate, state, 0, 0, index=monitor)
    return Runs(sim, simulate, state, monitor, n_time)


def _length(n_steps, dt):
    """Length of so many steps: rounded so that TVB's ceil(length / dt) is their number."""
    length = n_steps * dt
    while math.ceil(length / dt) > n_steps:
        length = math.nextafter(length, 0.0)
    return length
