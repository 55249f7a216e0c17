"""Confirmation of a fit by the linear response, by simulations from its result."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...dynamics.noise import resample
from ...dynamics.resting_state import resting_state
from ...dynamics.simulate import Simulate
from ...evaluation.fc_monitor import transient_samples
from ...loss import fc_corr
from ...observation import compute_fc
from ...parameters import parameters_of, with_values
from ...runtime.programs import Program
from ...runtime.progress import bar_status
from ...state import State
from ...translate.prepare import prepare

# Length of a simulation [ms]: that of a number of samples, between these limits. It is long, since noise drives a
# network out of a stable state only now and then.
_N_SAMPLES, SHORTEST, LONGEST = 600, 60_000.0, 1_200_000.0
# Length of a segment of a simulation [ms].
_SEGMENT = 60_000.0
# Number of simulations.
_N_SIMULATIONS = 2


class LongRuns(NamedTuple):
    """Results of simulations from a fitted state.

    Attributes
    ----------
    loss, r : float
        Means over the simulations.
    fc : ndarray, shape (n, n_node, n_node)
    length : float
        Of each simulation [ms].
    """

    loss: float
    r: float
    fc: np.ndarray
    length: float


def confirmation(sim, simulate, loss, target, monitor, key, state=None) -> Callable:
    """Function from a fitted state to the results of simulations from there, each on noise of its own.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
    simulate : Simulate
        Its own length is simulated, but at least 600 samples, or 20 minutes if these are shorter; at least a minute.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    monitor : int
    key : jax.Array
        JAX key of the noise, unless another one is given.
    state : State, optional
        State of the kind that is confirmed: the program is compiled for it in the background.

    Returns
    -------
    callable
        Of a state at its fixed point and, optionally, a key and the number of samples. Returns `LongRuns`.
    """

    def length_of(n_samples):
        samples = n_samples * simulate.monitors[monitor].istep * simulate.dt
        return max(simulate.n_steps * simulate.dt, min(max(samples, SHORTEST), LONGEST))

    @cache
    def simulation():
        # Segments of whole windows, so that they share one compiled program.
        n_windows = math.ceil(min(_SEGMENT, length_of(_N_SAMPLES)) / (simulate.cycle * simulate.dt))
        segment, start = prepare(sim, n_windows * simulate.cycle * simulate.dt, key)
        skip_t = transient_samples(segment.monitors[monitor], start.monitors[monitor])

        def scores(signal):
            fc = compute_fc(signal, skip_t)
            return loss(fc, target), fc_corr(fc, target, missing="ignore"), fc

        return segment, start, Program(scores, shares_constants=True)

    def at_rest(fitted):
        segment, start, *_ = simulation()
        values = {path: parameter.value for path, parameter in parameters_of(fitted).items()}
        return resting_state(segment, with_values(start, values), fitted.initial_conditions[-1])

    def confirm(fitted, key=key, n_samples=_N_SAMPLES):
        with bar_status("compiling"):
            segment, _, scores = simulation()
        n_segments = math.ceil(length_of(n_samples) / (segment.n_steps * segment.dt))
        state, keys = at_rest(fitted), jax.random.split(key, _N_SIMULATIONS)
        segment.compile_ahead(state)
        is_double = jax.config.jax_enable_x64

        def signal(key):
            # The setting may be that of the calling thread alone.
            with jax.enable_x64(is_double):
                return signal_in_segments(segment, state, key, n_segments, monitor)

        with ThreadPoolExecutor(min(_N_SIMULATIONS, os.cpu_count())) as pool:
            signals = list(pool.map(signal, keys))
        losses, r, fc = zip(*(scores(jnp.asarray(each)) for each in signals), strict=True)
        length = n_segments * segment.n_steps * segment.dt
        return LongRuns(float(np.mean(losses)), float(np.mean(r)), np.stack(fc), length)

    if state is not None:
        simulation()[0].compile_ahead(resample(at_rest(state), key))
    return confirm


def signal_in_segments(simulate: Simulate, state: State, key: jax.Array, n_segments: int, monitor: int) -> np.ndarray:
    """Signal of a long simulation, whose noise is drawn segment by segment: that of all steps may not fit in memory.

    Parameters
    ----------
    simulate : Simulate
        Simulation of one segment.
    state : State
    key : Array
        A JAX random key.
    n_segments, monitor : int

    Returns
    -------
    ndarray, shape (n_time, n_voi, n_node, n_mode)
    """
    first, *others = jax.random.split(key, n_segments)
    result = simulate(resample(state, first))
    samples = [np.asarray(result.data[monitor])]
    for each in others:
        result = simulate(result.next_state(each))
        samples.append(np.asarray(result.data[monitor]))
    return np.concatenate(samples)
