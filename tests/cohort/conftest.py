"""A cohort of small networks, whose functions travel to other processes by value."""

import sys

import cloudpickle
import numpy as np
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

cloudpickle.register_pickle_by_value(sys.modules[__name__])

N_NODE = 5
OPTIONS = {"method": "linear", "max_evaluations": 6, "n_starts": 1, "evaluation": {"n_seeds": 2}, "progress": False}
FREE = {
    "coupling.a": tj.PositiveParameter(),
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
}


def make_simulator(subject):
    weights = np.asarray(subject["weights"])
    n_node = len(weights)
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=weights,
            tract_lengths=np.zeros((n_node, n_node)),
            centres=np.zeros((n_node, 3)),
            region_labels=np.array([f"r{i}" for i in range(n_node)]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.3])),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([4e-6]))),
        monitors=[monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, n_node, 1), 0.1),
        simulation_length=60_000.0,
    )


def connectome(seed, n_node=N_NODE):
    weights = np.random.default_rng(seed).gamma(1.0, 1.0, (n_node, n_node))
    return np.triu(weights, 1) + np.triu(weights, 1).T


def fc(weights, seed):
    """FC of a linear network, as a recording of 200 samples has it."""
    mixing = np.linalg.inv(np.eye(len(weights)) - 0.1 * weights)
    return np.corrcoef(mixing @ np.random.default_rng(seed).normal(size=(len(weights), 200)))


def subjects(n, sessions=("",)):
    found = []
    for number in range(n):
        weights = connectome(number)
        for place, session in enumerate(sessions):
            values = {"weights": weights, "fc": fc(weights, 100 * place + number), "age": 20 + number}
            found.append((f"{number:02d}", values | ({"session_id": session} if session else {})))
    return found


@pytest.fixture(scope="session")
def small_cohort():
    """Names of this module: pytest does not let tests import it."""
    return sys.modules[__name__]
