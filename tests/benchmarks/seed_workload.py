"""The seed workload in TVB and in tvb_jaxfit (`theirs`: in TVB-Optim). ``table.py`` and ``sweep.py`` time it.

84 regions, 120 s at dt = 4 ms, BOLD at 1 s, FC after 20 samples, RMSE against the empirical FC; float64, unless
JAX_ENABLE_X64 is 0. The noise of the two JAX systems differs, unless TVB-Optim is given our draws.
"""

import dataclasses
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", os.environ.get("JAX_ENABLE_X64", "1") == "1")
warnings.simplefilter("ignore")

# Not from tvb.simulator.lab, which brings matplotlib.
from tvb.datatypes import connectivity  # noqa: E402
from tvb.simulator import coupling, integrators, models, monitors, noise, simulator  # noqa: E402

import tvb_jaxfit as tj  # noqa: E402
from tvb_jaxfit.dynamics.trajectory import scan_steps  # noqa: E402
from tvb_jaxfit.state import with_path  # noqa: E402

LENGTH, DT, SIGMA, SKIP = 120_000.0, 4.0, 0.00283, 20


def random_connectivity(n_node, density=1.0):
    """Random directed weights, rows of which add up to 1, without delays."""
    draw = np.random.default_rng(n_node)
    weights = draw.uniform(size=(n_node, n_node)) * (draw.uniform(size=(n_node, n_node)) < density)
    np.fill_diagonal(weights, 0.0)
    return connectivity.Connectivity(
        weights=weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9),
        tract_lengths=np.full((n_node, n_node), 10.0),
        centres=np.zeros((n_node, 3)),
        region_labels=np.array([f"region {i}" for i in range(n_node)]),
        speed=np.array([np.inf]),
    )


def data():
    """(connectivity, empirical FC): dk_average, which comes with TVB-Optim; random ones of that size without it."""
    try:
        white_matter, fc_target = tj.load_connectivity("dk_average"), tj.load_functional_connectivity("dk_average")
    except (ModuleNotFoundError, FileNotFoundError):
        return random_connectivity(84), np.corrcoef(np.random.default_rng(0).normal(size=(84, 100)))
    white_matter.weights = white_matter.scaled_weights(mode="tract")
    white_matter.speed = np.array([np.inf])
    return white_matter, fc_target


def simulator_of(white_matter, length, a):
    """Stochastic reduced Wong-Wang regions seen by BOLD at 1 s."""
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([0.3]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=np.array([a])),
        integrator=integrators.HeunStochastic(dt=DT, noise=noise.Additive(nsig=np.array([SIGMA**2 / 2]))),
        monitors=[monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, white_matter.weights.shape[0], 1), 0.3),
        simulation_length=length,
    )


def tvb_simulator():
    """The seed workload as a TVB simulator."""
    return simulator_of(data()[0], LENGTH, 0.15)


def start_values(n_node):
    """The 168 parameters that are differentiated, for 84 regions."""
    return {"model.w": jnp.full(n_node, 0.3), "model.I_o": jnp.full(n_node, 0.32)}


def with_free(state, free):
    """State with values put in."""
    for path, value in free.items():
        state = with_path(state, path, value)
    return state


def loss_of(simulate, fc_target):
    """Loss of {w, I_o} and a state."""

    def loss(free, state):
        return tj.rmse(tj.compute_fc(simulate(with_free(state, free)).data[0], skip_t=SKIP), fc_target)

    return loss


def ours(sim, fc_target):
    """(loss of {w, I_o}, their start values, simulate, state)."""
    simulate, state = tj.prepare(sim)
    return loss_of(simulate, fc_target), start_values(fc_target.shape[0]), simulate, state


def left_to_autodiff(simulate):
    """The same simulate without the structured reverse pass: plain autodiff, which runs blocks again."""
    return dataclasses.replace(simulate, step=dataclasses.replace(simulate.step, is_homogeneous=False))


def of_scan(simulate):
    """Sum over all states of a plain scan of the same steps, as a function of {w, I_o} and a state."""

    def total(free, state):
        state = with_free(state, free)
        theta, weights, past = simulate.constants(state), state.connectivity.weights, state.initial_conditions
        return jnp.sum(scan_steps(simulate.step, simulate.n_steps, theta, weights, past, simulate.inputs(state)[0]))

    return total
