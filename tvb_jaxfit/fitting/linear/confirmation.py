"""Confirmation of a fit by the linear response, by simulations from its result."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from ...dynamics.noise import resample
from ...dynamics.resting_state import resting_state
from ...evaluation.fc_monitor import transient_samples
from ...loss import fc_corr
from ...observation import compute_fc
from ...parameters import parameters_of, with_values
from ...runtime.programs import Program
from ...runtime.progress import bar_status
from ...translate.prepare import prepare

# Length of a simulation [ms]: that of a number of samples, between these limits. It is long, since noise drives a
# network out of a stable state only now and then.
_N_SAMPLES, SHORTEST, LONGEST = 1_200, 60_000.0, 1_200_000.0
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
        Its own length is simulated, but at least 1,200 samples, or 20 minutes if these are shorter; at least a minute.
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
        Of a state at its fixed point and, optionally, a key. Returns `LongRuns`.
    """

    @cache
    def simulation():
        samples = _N_SAMPLES * simulate.monitors[monitor].istep * simulate.dt
        length = max(simulate.n_steps * simulate.dt, min(max(samples, SHORTEST), LONGEST))
        longer, start = prepare(sim, length, key)
        skip_t = transient_samples(longer.monitors[monitor], start.monitors[monitor])

        def scores(state, key):
            fc = compute_fc(longer(resample(state, key)).data[monitor], skip_t)
            return loss(fc, target), fc_corr(fc, target, missing="ignore"), fc

        return longer, start, Program(scores, shares_constants=True)

    def at_rest(fitted):
        longer, start, _ = simulation()
        values = {path: parameter.value for path, parameter in parameters_of(fitted).items()}
        return resting_state(longer, with_values(start, values), fitted.initial_conditions[-1])

    def confirm(fitted, key=key):
        with bar_status("compiling"):
            longer, _, scores = simulation()
        state, keys = at_rest(fitted), jax.random.split(key, _N_SIMULATIONS)
        # Compiled here: JAX's settings, such as enable_x64, may be those of this thread alone.
        compiled = scores.compiled(state, keys[0])
        with ThreadPoolExecutor(min(_N_SIMULATIONS, os.cpu_count())) as pool:
            results = list(pool.map(lambda key: compiled(state, key), keys))
        losses, r, fc = zip(*results, strict=True)
        return LongRuns(float(np.mean(losses)), float(np.mean(r)), np.stack(fc), longer.n_steps * longer.dt)

    if state is not None:
        simulation()[-1].compile_ahead(at_rest(state), jax.random.split(key, _N_SIMULATIONS)[0])
    return confirm
