"""What simulations say of a linear fit."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import numpy as np

from ...dynamics.resting_state import resting_state
from ...evaluation.evaluate import resample
from ...evaluation.fc_monitor import transient_samples
from ...loss import fc_corr
from ...observation import compute_fc
from ...parameters import parameters_of, with_values
from ...runtime.programs import Program
from ...runtime.progress import bar_status
from ...translate.prepare import prepare

# Steps of a simulation, and how many there are: noise kicks a network out of a stable state now and then.
STEPS, _TIMES = 300_000, 3


def confirmation(sim, simulate, loss, target, monitor, key):
    """Function from a fitted state to what simulations from there give, on noise of their own.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Translated when the first state is to be confirmed.
    simulate : Simulate
        Of it; confirmed is over as many steps, and no less than 20 minutes of steps of 4 ms have.
    loss : callable
        (fc, target) to a scalar.
    target : ndarray
    monitor : int
    key : jax.Array
        Of the noise.

    Returns
    -------
    callable
        Of a state at its fixed point; returns mean loss, mean r, and FC (n, n_node, n_node) of each.
    """

    @cache
    def simulation():
        longer, start = prepare(sim, max(simulate.n_steps, STEPS) * simulate.dt, key)
        skip_t = transient_samples(longer.monitors[monitor], start.monitors[monitor])

        def scores(state, key):
            fc = compute_fc(longer(resample(state, key)).data[monitor], skip_t)
            return loss(fc, target), fc_corr(fc, target, missing="ignore"), fc

        return longer, start, Program(scores, shares_constants=True)

    def confirm(fitted):
        with bar_status("compiling"):
            longer, start, scores = simulation()
        values = {path: parameter.value for path, parameter in parameters_of(fitted).items()}
        there = resting_state(longer, with_values(start, values), fitted.initial_conditions[-1])
        keys = jax.random.split(key, _TIMES)
        # Threads do no more than run it: JAX's settings, such as enable_x64, may be those of this one alone.
        compiled = scores.compiled(there, keys[0])
        with ThreadPoolExecutor(min(_TIMES, os.cpu_count())) as pool:
            found = list(pool.map(lambda key: compiled(there, key), keys))
        losses, r, fc = zip(*found, strict=True)
        return float(np.mean(losses)), float(np.mean(r)), np.stack(fc)

    return confirm
