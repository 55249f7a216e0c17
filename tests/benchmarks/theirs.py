"""The seed workload in TVB-Optim, in a module that imports neither TVB nor tvb_jaxfit: its memory is its own."""

import copy
import os
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import serve
from tvboptim.data import load_functional_connectivity, load_structural_connectivity
from tvboptim.experimental.network_dynamics import Network, prepare
from tvboptim.experimental.network_dynamics.coupling import FastLinearCoupling
from tvboptim.experimental.network_dynamics.dynamics.tvb import ReducedWongWang
from tvboptim.experimental.network_dynamics.graph import DenseGraph
from tvboptim.experimental.network_dynamics.noise import AdditiveNoise
from tvboptim.experimental.network_dynamics.solvers import Heun
from tvboptim.observations.observation import compute_fc, rmse
from tvboptim.observations.tvb_monitors.bold import Bold

jax.config.update("jax_enable_x64", os.environ.get("JAX_ENABLE_X64", "1") == "1")
warnings.simplefilter("ignore")

DT, SIGMA, SKIP = 4.0, 0.00283, 20


def model_of(length):
    """The same network in TVB-Optim: (model, state, BOLD monitor)."""
    weights, _, labels = load_structural_connectivity("dk_average")
    network = Network(
        dynamics=ReducedWongWang(w=0.3, I_o=0.32, INITIAL_STATE=(0.3,)),
        coupling={"instant": FastLinearCoupling(local_states=["S"], G=0.15)},
        graph=DenseGraph(weights / np.max(weights), region_labels=labels),
        noise=AdditiveNoise(sigma=SIGMA, apply_to="S"),
    )
    model, state = prepare(network, Heun(), t1=length, dt=DT)
    return model, state, Bold(period=1000.0, downsample_period=DT, voi=0, history=model(state))


def loss_of(length, fc_target):
    """(loss of (w, I_o) and draws, or None for its own noise; their start values)."""
    model, state, bold = model_of(length)

    def loss(free, draws=None):
        changed = copy.copy(state)
        changed.dynamics = copy.copy(state.dynamics)
        changed.dynamics.w, changed.dynamics.I_o = free
        if draws is not None:
            changed._internal = copy.copy(state._internal)
            changed._internal.noise_samples = draws
        return rmse(compute_fc(bold(model(changed)), skip_t=SKIP), fc_target)

    n_node = fc_target.shape[0]
    return loss, (jnp.full(n_node, 0.3), jnp.full(n_node, 0.32))


def gradient(length):
    """Loss and gradient, and how far the loss is from ours on our draws."""
    fc_target = load_functional_connectivity("dk_average")
    loss, free = loss_of(length, fc_target)

    def check():
        import works

        return works.beside_ours(length, loss, free)

    return {"gradient": (jax.jit(jax.value_and_grad(loss)), free)}, check


if __name__ == "__main__":
    serve.main({"gradient": gradient}, *sys.argv[1:])
