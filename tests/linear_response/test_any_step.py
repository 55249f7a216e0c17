"""Covariances solve the discrete Lyapunov equation of the step, for any interaction of nodes, modes and variables."""

import jax
import numpy as np
import pytest
import scipy.linalg
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.coupling import SparseCoupling
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj


class Saturating(SparseCoupling):
    """Pairwise coupling: it depends on both regions, and does not separate into source outputs."""

    def pre(self, x_i, x_j):
        return np.tanh(x_j - 0.5 * x_i + 0.1) * (1.0 + x_i * x_j)

    def post(self, gx):
        return 0.03 * gx


class Interacting(models.Linear):
    """Model in which regions interact directly."""

    def dfun(self, state, coupling, local_coupling=0.0):
        return self.gamma * state + coupling - 0.02 * np.tanh(state.mean(axis=1, keepdims=True)) + 0.03


class TwoModes(models.Linear):
    """Two modes with different decay rates, which interact."""

    number_of_modes = 2

    def dfun(self, state, coupling, local_coupling=0.0):
        return self.gamma * state * np.array([1.0, 1.5]) + coupling + 0.02 * np.tanh(state.sum(axis=2, keepdims=True))


CASES = {
    "pairwise coupling": (lambda: models.Linear(gamma=np.array([-0.2])), Saturating),
    "model in which regions interact": (
        lambda: Interacting(gamma=np.array([-0.2])),
        lambda: coupling.Linear(a=np.array([0.02])),
    ),
    "several modes": (lambda: TwoModes(gamma=np.array([-0.2])), lambda: coupling.Linear(a=np.array([0.02]))),
    "several variables": (models.ReducedWongWangExcInh, lambda: coupling.Linear(a=np.array([0.1]))),
}
# These compile in a quarter of the time of the others.
BY_DEFAULT = ("several modes",)


def _by_brute_force(sim, rest):
    """Covariance of the states, from one matrix of a whole step that includes delayed samples."""
    simulate, state = tj.prepare(sim, sim.integrator.dt)
    horizon = np.broadcast_to(rest, state.initial_conditions.shape)
    no_noise = state.integrator.noise.draws * 0.0

    def step(samples, draws):
        noise = state.integrator.noise.replace(draws=draws)
        start = state.replace(initial_conditions=samples, integrator=state.integrator.replace(noise=noise))
        return simulate(start).final_state.initial_conditions

    M, B = jax.jit(jax.jacrev(step, (0, 1)))(jax.numpy.asarray(horizon), no_noise)
    M, B = np.reshape(M, (horizon.size,) * 2), np.reshape(B, (horizon.size, -1))
    assert np.max(np.abs(np.linalg.eigvals(M))) < 1.0
    newest = slice(-rest.size, None)
    return scipy.linalg.solve_discrete_lyapunov(M, B @ B.T)[newest, newest]


@pytest.mark.parametrize("delayed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in BY_DEFAULT else pytest.mark.slow) for case in CASES]
)
def test_covariance_is_that_of_the_linearised_step(ou, case, delayed):
    model, function = CASES[case]
    model = model()
    sim = Simulator(
        model=model,
        connectivity=ou.network(delayed=delayed).connectivity,
        coupling=function(),
        integrator=integrators.HeunStochastic(dt=0.5, noise=noise.Additive(nsig=np.array([1e-6]))),
        monitors=[monitors.RawVoi(variables_of_interest=np.arange(model.nvar))],
        simulation_length=50.0,
    )
    model.variables_of_interest = model.state_variables
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    exact = _by_brute_force(sim, np.asarray(response.fixed_point.x))
    assert response.is_stable and ou.off_by(response.covariance(), exact) < 1e-8
    # Negative control: the variances are not uniform.
    assert np.ptp(np.diagonal(exact)) > 1e-3 * np.max(np.diagonal(exact))
