"""Ornstein-Uhlenbeck networks, and their covariances by brute force from one matrix of the whole system."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from tvb.datatypes.connectivity import Connectivity
from tvb.datatypes.projections import ProjectionSurfaceEEG
from tvb.datatypes.region_mapping import RegionMapping
from tvb.datatypes.sensors import SensorsEEG
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj

N_NODE = 5
_NSIG = np.array([1e-3, 2e-3, 5e-4, 1e-3, 3e-3])


def _eeg(**options):
    """EEG monitor with three sensors."""
    sensors = SensorsEEG(locations=np.eye(3), labels=np.array(["a", "b", "c"]))
    return monitors.EEG(
        period=10.0,
        sensors=sensors,
        region_mapping=RegionMapping(array_data=np.arange(12) % N_NODE),
        projection=ProjectionSurfaceEEG(projection_data=np.random.RandomState(5).normal(size=(3, 12))),
        **options,
    )


def _weights(symmetric):
    weights = np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE))
    np.fill_diagonal(weights, 0.0)
    return (weights + weights.T) / 2.0 if symmetric else weights


def network(
    *, dt=1.0, scheme="HeunStochastic", symmetric=False, delayed=False, ntau=0.0, gamma=-0.1, a=0.02, watched=None
):
    """Simulator of five regions, x' = gamma x + a W x + noise."""
    lengths = np.random.RandomState(1).uniform(0.0, 8.0, (N_NODE, N_NODE)) * delayed
    return Simulator(
        model=models.Linear(gamma=np.array([gamma])),
        connectivity=Connectivity(
            weights=_weights(symmetric),
            tract_lengths=lengths,
            centres=np.zeros((N_NODE, 3)),
            region_labels=np.array([f"region {i}" for i in range(N_NODE)]),
            speed=np.array([1.0]),
            cortical=np.ones(N_NODE, bool),
            orientations=np.zeros((N_NODE, 3)),
        ),
        coupling=coupling.Linear(a=np.array([a])),
        integrator=getattr(integrators, scheme)(dt=dt, noise=noise.Additive(nsig=_NSIG, ntau=ntau, noise_seed=3)),
        monitors=watched or [monitors.Raw()],
        simulation_length=5000.0,
    )


class BruteForce:
    """The same network, written by hand: one matrix of all states, including past states and coloured noise."""

    def __init__(self, sim, weights=None):
        weights = sim.connectivity.weights if weights is None else np.asarray(weights)
        self.dt, gamma, a = sim.integrator.dt, sim.model.gamma[0], sim.coupling.a[0]
        noise, self.n = sim.integrator.noise, len(weights)
        gain = self.dt * (1.0 + gamma * self.dt / 2.0 if "Heun" in type(sim.integrator).__name__ else 1.0)
        amplitude = np.sqrt(2.0 * np.ravel(noise.nsig) * (self.dt if noise.ntau == 0.0 else 1.0)) * gain / self.dt
        delays = np.rint(sim.connectivity.tract_lengths / self.dt).astype(int)
        n, horizon = self.n, delays.max()
        M = np.zeros((n * (horizon + 1),) * 2)
        M[n:, :-n] = np.eye(n * horizon)
        for i, j in np.ndindex(n, n):
            M[i, delays[i, j] * n + j] += gain * a * weights[i, j]
        M[:n, :n] += np.eye(n) * (1.0 + gamma * gain)
        Q = np.zeros_like(M)
        Q[:n, :n] = np.diag(amplitude**2)
        if noise.ntau > 0.0:
            # eta' = E eta + sqrt(1 - E^2) z, and the noise is dt / sqrt(ntau) eta'.
            E, size = np.exp(-self.dt / noise.ntau), len(M)
            to_states = np.zeros((size, n))
            to_states[:n] = np.diag(amplitude) * self.dt / np.sqrt(noise.ntau)
            M = np.block([[M, E * to_states], [np.zeros((n, size)), E * np.eye(n)]])
            by_noise = np.sqrt(1.0 - E**2) * np.vstack([to_states, np.eye(n)])
            Q = by_noise @ by_noise.T
        self.without_noise = M[: n * (horizon + 1), : n * (horizon + 1)]
        self.M, self.P = M, scipy.linalg.solve_discrete_lyapunov(M, Q, method="bilinear")

    @property
    def covariance(self):
        """Covariance of the states."""
        return self.P[: self.n, : self.n]

    def filtered(self, response):
        """Covariance through a filter with one tap per step: a sum of autocovariances over all lags."""
        autocorrelation = np.correlate(response, response, "full")[len(response) - 1 :]
        total, lagged = autocorrelation[0] * self.covariance, self.P
        for weight in autocorrelation[1:]:
            lagged = self.M @ lagged
            of_states = lagged[: self.n, : self.n]
            total = total + weight * (of_states + of_states.T)
        return total


def off_by(ours, theirs):
    """Largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape and np.max(np.abs(theirs)) > 0.0
    return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))


@pytest.fixture(scope="session")
def ou():
    """Namespace of network, eeg, brute_force, off_by, prepared (response, linear, state), n_node."""

    def prepared(sim):
        linear, state = tj.prepare_linear(sim)
        return linear(state), linear, state

    return SimpleNamespace(
        network=network, eeg=_eeg, brute_force=BruteForce, off_by=off_by, prepared=prepared, n_node=N_NODE
    )
