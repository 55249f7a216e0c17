"""Time the seed workload beside TVB-Optim and TVB: one process, the same network, interleaved repetitions.

Run by name, in an environment that has the ``test`` extra::

    python tests/benchmarks/seed_workload.py

84 regions, 120 s at dt = 4 ms, BOLD at 1 s, FC after 20 samples, RMSE against the empirical FC; float64. The noise of
the two JAX systems differs, so FC is compared by its distance from TVB's own, and ours by its numbers.
"""

import copy
import json
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")

from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator  # noqa: E402

import tvb_jaxfit as tj  # noqa: E402
from tvb_jaxfit.dynamics.trajectory import scan_steps  # noqa: E402
from tvb_jaxfit.state import with_path  # noqa: E402

REPETITIONS = 9
LENGTH, DT, SIGMA = 120_000.0, 4.0, 0.00283


def tvb_simulator():
    """The seed workload as a TVB simulator."""
    white_matter = tj.load_connectivity("dk_average")
    white_matter.weights = white_matter.scaled_weights(mode="tract")
    white_matter.speed = np.array([np.inf])
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([0.3]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=np.array([0.15])),
        integrator=integrators.HeunStochastic(dt=DT, noise=noise.Additive(nsig=np.array([SIGMA**2 / 2]))),
        monitors=[monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, white_matter.weights.shape[0], 1), 0.3),
        simulation_length=LENGTH,
    )


def ours(sim, fc_target):
    """(loss of {w, I_o}, their start values)."""
    simulate, state = tj.prepare(sim)

    def loss(free, state):
        for path, value in free.items():
            state = with_path(state, path, value)
        return tj.rmse(tj.compute_fc(simulate(state).data[0], skip_t=20), fc_target)

    n_node = fc_target.shape[0]
    return loss, {"model.w": jnp.full(n_node, 0.3), "model.I_o": jnp.full(n_node, 0.32)}, simulate, state


def of_tvboptim(fc_target):
    """The same in TVB-Optim: (loss of (w, I_o), their start values)."""
    from tvboptim.data import load_structural_connectivity
    from tvboptim.experimental.network_dynamics import Network, prepare
    from tvboptim.experimental.network_dynamics.coupling import FastLinearCoupling
    from tvboptim.experimental.network_dynamics.dynamics.tvb import ReducedWongWang
    from tvboptim.experimental.network_dynamics.graph import DenseGraph
    from tvboptim.experimental.network_dynamics.noise import AdditiveNoise
    from tvboptim.experimental.network_dynamics.solvers import Heun
    from tvboptim.observations.observation import compute_fc, rmse
    from tvboptim.observations.tvb_monitors.bold import Bold

    weights, _, labels = load_structural_connectivity("dk_average")
    network = Network(
        dynamics=ReducedWongWang(w=0.3, I_o=0.32, INITIAL_STATE=(0.3,)),
        coupling={"instant": FastLinearCoupling(local_states=["S"], G=0.15)},
        graph=DenseGraph(weights / np.max(weights), region_labels=labels),
        noise=AdditiveNoise(sigma=SIGMA, apply_to="S"),
    )
    model, state = prepare(network, Heun(), t1=LENGTH, dt=DT)
    transient = model(state)
    bold = Bold(period=1000.0, downsample_period=DT, voi=0, history=transient)

    def loss(free):
        changed = copy.copy(state)
        changed.dynamics = copy.copy(state.dynamics)
        changed.dynamics.w, changed.dynamics.I_o = free
        return rmse(compute_fc(bold(model(changed)), skip_t=20), fc_target)

    n_node = fc_target.shape[0]
    return loss, (jnp.full(n_node, 0.3), jnp.full(n_node, 0.32))


def timed(function, *arguments):
    """Seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def main():
    """Measure and print a table; the last line is JSON."""
    fc_target = tj.load_functional_connectivity("dk_average")
    sim = tvb_simulator()
    loss, free, simulate, state = ours(sim, fc_target)
    their_loss, their_free = of_tvboptim(fc_target)

    def of_scan(free, state):
        """States alone, through plain autodiff of the same steps."""
        state = with_path(with_path(state, "model.w", free["model.w"]), "model.I_o", free["model.I_o"])
        theta, weights, past = simulate.constants(state), state.connectivity.weights, state.initial_conditions
        return jnp.sum(scan_steps(simulate.step, simulate.n_steps, theta, weights, past, simulate.inputs(state)[0]))

    work = {
        ("loss", "tvb_jaxfit"): (jax.jit(loss), free, state),
        ("loss", "TVB-Optim"): (jax.jit(their_loss), their_free),
        ("loss and gradient", "tvb_jaxfit"): (jax.jit(jax.value_and_grad(loss)), free, state),
        ("loss and gradient", "TVB-Optim"): (jax.jit(jax.value_and_grad(their_loss)), their_free),
        ("loss and gradient", "plain autodiff of our scan"): (jax.jit(jax.value_and_grad(of_scan)), free, state),
    }
    first = {name: timed(*call) for name, call in work.items()}
    seconds = {name: [] for name in work}
    for _ in range(REPETITIONS):
        for name, call in work.items():
            seconds[name].append(timed(*call))
    start = time.perf_counter()
    ((_, bold),) = sim.configure().run()
    of_tvb = time.perf_counter() - start
    print(f"simulation by TVB: {of_tvb:.2f} s")
    difference = np.max(np.abs(simulate(state).data[0] - bold)) / np.max(np.abs(bold))
    print(f"our BOLD against TVB's on the same draws: {difference:.1e} of its maximum")
    print(f"{'work':20}{'system':30}{'median':>10}{'smallest':>10}{'first call':>12}")
    for (what, system), taken in seconds.items():
        print(f"{what:20}{system:30}{np.median(taken):9.3f}s{min(taken):9.3f}s{first[what, system]:11.2f}s")
    ratios = {
        what: float(np.median(seconds[what, "TVB-Optim"]) / np.median(seconds[what, "tvb_jaxfit"]))
        for what in ("loss", "loss and gradient")
    }
    ratios["simulation by TVB over our loss"] = of_tvb / float(np.median(seconds["loss", "tvb_jaxfit"]))
    print(json.dumps({"times faster": ratios, "difference from TVB": float(difference)}))


if __name__ == "__main__":
    main()
