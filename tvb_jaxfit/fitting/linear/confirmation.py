"""Confirmation of a fit by the linear response, by simulations from its result."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import jax
import numpy as np

from ...dynamics.noise import resample
from ...dynamics.resting_state import resting_state
from ...dynamics.simulate import Simulate
from ...evaluation.fc_monitor import transient_samples
from ...parameters import parameters_of, with_values
from ...runtime.progress import bar_status
from ...state import State
from ...translate.prepare import prepare
from ..criterion import Criterion, Scorer

# Length of a simulation [ms]: that of a number of samples, between these limits. It is long, since noise drives a
# network out of a stable state only now and then.
_N_SAMPLES, SHORTEST, LONGEST = 600, 60_000.0, 1_200_000.0
# Length of a segment of a simulation [ms].
_SEGMENT = 60_000.0
# Number of simulations.
_N_SIMULATIONS = 2


def confirmation(sim, simulate, criterion: Criterion, key, state=None) -> Callable:
    """Function from a fitted state to `ScoredRuns` of simulations from there, each on noise of its own.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
    simulate : Simulate
        Its own length is simulated, but at least 600 samples, or 20 minutes if these are shorter; at least a minute.
    criterion : Criterion
    key : jax.Array
        JAX key of the noise, unless another one is given.
    state : State, optional
        State of the kind that is confirmed: the program is compiled for it in the background.

    Returns
    -------
    callable
        Of a state at its fixed point and, optionally, a key and the number of samples. Returns `ScoredRuns`.
    """
    monitor = criterion.monitor

    def length_of(n_samples):
        samples = n_samples * simulate.monitors[monitor].istep * simulate.dt
        return max(simulate.n_steps * simulate.dt, min(max(samples, SHORTEST), LONGEST))

    @cache
    def simulation():
        # Segments of whole windows, so that they share one compiled program.
        n_windows = math.ceil(min(_SEGMENT, length_of(_N_SAMPLES)) / (simulate.cycle * simulate.dt))
        segment, start = prepare(sim, n_windows * simulate.cycle * simulate.dt, key)
        skip_t = transient_samples(segment.monitors[monitor], start.monitors[monitor])
        scorer = Scorer(replace(criterion, skip_t=skip_t))
        return criterion.recording(segment), criterion.recording_state(start), scorer

    def at_rest(fitted):
        segment, start, *_ = simulation()
        values = {path: parameter.value for path, parameter in parameters_of(fitted).items()}
        return resting_state(segment, with_values(start, values), fitted.initial_conditions[-1])

    def confirm(fitted, key=key, n_samples=_N_SAMPLES):
        with bar_status("compiling"):
            segment, _, scorer = simulation()
        n_segments = math.ceil(length_of(n_samples) / (segment.n_steps * segment.dt))
        state, keys = at_rest(fitted), jax.random.split(key, _N_SIMULATIONS)
        segment.compile_ahead(state)
        is_double = jax.config.jax_enable_x64

        def recorded(key):
            # The setting may be that of the calling thread alone.
            with jax.enable_x64(is_double):
                return recorded_in_segments(segment, state, key, n_segments, criterion)

        with ThreadPoolExecutor(min(_N_SIMULATIONS, os.cpu_count())) as pool:
            runs = list(pool.map(recorded, keys))
        return scorer.of_runs(runs, n_segments * segment.n_steps * segment.dt)

    if state is not None:
        simulation()[0].compile_ahead(resample(at_rest(state), key))
    return confirm


def recorded_in_segments(
    simulate: Simulate, state: State, key: jax.Array, n_segments: int, criterion: Criterion
) -> tuple[np.ndarray, ...]:
    """Samples of a long simulation, whose noise is drawn segment by segment: that of all steps may not fit in memory.

    Parameters
    ----------
    simulate : Simulate
        Simulation of one segment, see `Criterion.recording`.
    state : State
    key : Array
        A JAX random key.
    n_segments : int
    criterion : Criterion

    Returns
    -------
    tuple of ndarray
        See `Criterion.recorded`.
    """
    keys = jax.random.split(key, n_segments)
    result = simulate(resample(state, keys[0]))
    pieces = [[np.asarray(each) for each in criterion.recorded(result.data)]]
    for i in range(1, n_segments):
        result = simulate(result.next_state(keys[i]))
        pieces.append([np.asarray(each) for each in criterion.recorded(result.data)])
    return tuple(np.concatenate(samples) for samples in zip(*pieces, strict=True))
