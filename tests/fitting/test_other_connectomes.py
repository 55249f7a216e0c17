"""A linear fit has the r that it reports in TVB, too: connectomes of tvb-data, target of a known network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter

MINUTE, TRANSIENT = 60_000.0, 30


def _simulator(file, strength):
    """Simulator without delays and self-connections; ``strength``: coupling of a region with median in-strength."""
    white_matter = connectivity.Connectivity.from_file(file)
    white_matter.weights *= ~np.eye(len(white_matter.weights), dtype=bool)
    white_matter.weights = white_matter.scaled_weights(mode="tract")
    white_matter.speed = np.array([np.inf])
    white_matter.configure()
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([0.2]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=strength / np.median(white_matter.weights.sum(axis=1), keepdims=True)),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([4e-6]))),
        monitors=[monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, len(white_matter.region_labels), 1), 0.1),
        simulation_length=20 * MINUTE,
    )


def _recorded(sim, state, minutes):
    """FC of a simulation with other noise, from the values and the start of a state."""
    simulate, own = tj.prepare(sim, minutes * MINUTE + 1000.0 * TRANSIENT, noise=jax.random.key(5))
    own.model.w, own.model.I_o, own.coupling.a = state.model.w, state.model.I_o, state.coupling.a
    own.initial_conditions = state.initial_conditions
    return np.asarray(tj.compute_fc(simulate(own).data[0], TRANSIENT))


# Directed; one of the 76 regions has no input. The coupling is strong enough for 20 minutes to determine FC.
NETWORKS = {
    "connectivity_66.zip": (0.36, (0.1, 0.3), (0.32, 0.33)),
    "connectivity_76.zip": (0.68, (0.2, 0.3), (0.32, 0.33)),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", NETWORKS)
def test_tvb_confirms_a_linear_fit(file):
    strength, of_w, of_input = NETWORKS[file]
    sim = _simulator(file, strength)
    linear, hidden = tj.prepare_linear(sim)
    random = np.random.default_rng(1)
    n_node = len(sim.connectivity.region_labels)
    hidden.model.w, hidden.model.I_o = (jnp.asarray(random.uniform(*ends, n_node)) for ends in (of_w, of_input))
    hidden.initial_conditions = linear(hidden).fixed_point.x[None]
    target = _recorded(sim, hidden, 60)
    free = {
        "model.w": BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
        "model.I_o": BoundedParameter(lower_bound=0.2, upper_bound=0.4, regional=True),
        "coupling.a": BoundedParameter(lower_bound=0.0, upper_bound=2.0 * float(sim.coupling.a[0])),
    }
    result = tj.fit(sim, target, free, method="linear", run=tj.RunOptions(progress=False))
    result.write_back(sim)
    sim.initial_conditions = np.array(result.best.initial_conditions)
    sim.simulation_length = 20 * MINUTE + 1000.0 * TRANSIENT
    sim.integrator.noise.noise_seed = 11
    sim.configure()
    ((_, bold),) = sim.run()
    in_tvb = float(tj.fc_corr(np.asarray(tj.compute_fc(bold, TRANSIENT)), target))
    print(f"{file}: linear response r {result.r[-1]:.3f}, TVB {in_tvb:.3f}; {result.history}")
    assert result.r[-1] - 0.04 <= in_tvb
    assert "do not confirm" not in str(result.history.stop_reason)
    # Negative control: at the start of the fit, FC differs.
    assert result.loss[-1] < 0.1 * result.loss[0]
