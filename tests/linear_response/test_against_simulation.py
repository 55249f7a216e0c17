"""Convergence of the FC of long simulations with weak noise to that of the linear response."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj

CASES = {
    # model, coupling, (dt, nsig, steps per sample, delays, regions)
    "ReducedWongWang": (
        lambda: models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.32])),
        lambda: coupling.Linear(a=np.array([0.05])),
        (4.0, 1e-10, 10, False, 76),
    ),
    "JansenRit": (
        lambda: models.JansenRit(mu=np.array([0.7]), variables_of_interest=["y1"]),
        lambda: coupling.SigmoidalJansenRit(a=np.array([5.0])),
        (1.0, 1e-12, 10, True, 6),
    ),
    "ReducedWongWangExcInh": (
        models.ReducedWongWangExcInh,
        lambda: coupling.Linear(a=np.array([0.15])),
        (1.0, 1e-12, 10, False, 6),
    ),
}
CHUNK, LENGTHS = 50_000, (1, 4, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ReducedWongWang",
        "JansenRit",
        "ReducedWongWangExcInh",
    ],
)
def test_fc_of_long_simulations_converges_to_that_of_the_linear_response(connectivity_of, weights_76, weights_6, name):
    model, function, (dt, nsig, per_sample, delayed, n_node) = CASES[name]
    weights = weights_76 if n_node == 76 else weights_6
    lengths = np.random.RandomState(2).uniform(0.0, 60.0, weights.shape)
    sim = Simulator(
        model=model(),
        connectivity=connectivity_of(weights, lengths, 4.0 if delayed else np.inf),
        coupling=function(),
        integrator=integrators.HeunStochastic(dt=dt, noise=noise.Additive(nsig=np.array([nsig]))),
        monitors=[monitors.TemporalAverage(period=per_sample * dt)],
        simulation_length=CHUNK * dt,
    )
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    assert response.is_stable and np.max(response.nonlinearity) < 0.01
    n_voi = len(sim.model.variables_of_interest)
    fc = np.asarray(response.fc())
    assert np.max(np.abs(fc)) > 0.05
    simulate, state = tj.prepare(sim, noise=jax.random.key(7))
    rest = jnp.broadcast_to(response.fixed_point.x, state.initial_conditions.shape)
    state = state.replace(initial_conditions=rest)
    sums, mean, count, off_by = 0.0, 0.0, 0, []
    offset = None
    for chunk in range(1, LENGTHS[-1] + 1):
        result = simulate(state)
        state = result.final_state
        data = np.asarray(result.data[0]).reshape(-1, n_voi * weights.shape[0])
        offset = data.mean(axis=0) if offset is None else offset
        data = data - offset
        sums, mean, count = sums + data.T @ data, mean + data.sum(axis=0), count + len(data)
        if chunk in LENGTHS:
            covariance = sums / count - np.outer(mean, mean) / count**2
            std = np.sqrt(np.diagonal(covariance))
            difference = covariance / np.outer(std, std) - np.eye(len(std)) - fc
            off_by.append((np.sqrt(np.mean(difference**2)), np.max(np.abs(difference))))
    (first, _), (second, _), (third, worst) = off_by
    # The error falls with the square root of the length, 1 : 1/2 : 1/6, with a margin for chance.
    assert second < first and third < 0.3 * first
    assert worst < 0.02
    # Negative control: correlations of 0 would not pass.
    assert np.max(np.abs(fc)) > 2.0 * worst


@pytest.mark.slow
def test_fc_of_short_recordings_has_the_predicted_standard_error(connectivity_of, weights_6):
    """Temporal averages of slow and of fast regions, over 200 recordings of 20 s."""
    sim = Simulator(
        model=models.ReducedWongWang(w=np.array([0.3]), I_o=np.linspace(0.3, 0.34, 6)),
        connectivity=connectivity_of(weights_6 + weights_6.T, np.zeros((6, 6)), np.inf),
        coupling=coupling.Linear(a=np.array([0.1])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([1e-8]))),
        monitors=[monitors.TemporalAverage(period=80.0)],
        simulation_length=20_000.0,
    )
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    simulate, state = tj.prepare(sim, 200 * 20_000.0, jax.random.key(1))
    state = state.replace(initial_conditions=response.fixed_point.x[None])
    recordings = np.asarray(simulate(state).data[0]).reshape(200, 250, 6)
    found = np.std([np.asarray(tj.compute_fc(recording)) for recording in recordings], axis=0)
    pairs = np.triu_indices(6, 1)
    np.testing.assert_allclose(found[pairs], np.asarray(response.fc_standard_error(20_000.0))[pairs], rtol=0.25)
    # Negative control: the standard error of independent samples.
    independent = (1.0 - np.asarray(response.fc())[pairs] ** 2) / np.sqrt(250.0)
    assert np.mean(found[pairs]) > 1.3 * np.mean(independent)
