"""Simulators of models with an excitatory and an inhibitory population."""

import numpy as np
import pytest
from tvb.simulator.lab import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

from tests.conftest import white_matter

N_NODE = 5


def weights_of(n_node=N_NODE, seed=0):
    """Directed weights whose incoming strengths are about 1, and differ."""
    weights = np.random.RandomState(seed).uniform(0.1, 1.0, (n_node, n_node))
    np.fill_diagonal(weights, 0.0)
    return weights / weights.sum(axis=1).mean()


def exc_inh(model="ReducedWongWangExcInh", *, nsig=1e-6, length=1000.0, n_node=N_NODE, **values):
    """Simulator of a model with values; it starts near its balanced fixed point."""
    values = {name: np.atleast_1d(value) for name, value in values.items()}
    integrator = integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([nsig]), noise_seed=3))
    initial = np.empty((1, 2, n_node, 1))
    initial[:, 0], initial[:, 1] = 0.16, 0.04
    return Simulator(
        connectivity=white_matter(weights_of(n_node)),
        model=getattr(models, model)(**values),
        coupling=coupling.Linear(a=np.array([1.0])),
        integrator=integrator,
        monitors=[monitors.TemporalAverage(period=50.0, variables_of_interest=np.array([0]))],
        initial_conditions=initial,
        simulation_length=length,
    )


@pytest.fixture
def make():
    """Function: `exc_inh`."""
    return exc_inh
