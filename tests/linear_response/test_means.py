"""Means of functions of states and coupling under noise, to second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response.linearise import steady_coupling_input
from tvb_jaxfit.runtime.programs import Program
from tvb_jaxfit.state import get_path, with_path
from tvb_jaxfit.translate.model_expression import model_expression


@pytest.mark.parametrize("options", [{}, pytest.param({"delayed": True, "ntau": 5.0}, marks=pytest.mark.slow)], ids=str)
def test_the_mean_of_products_is_their_covariance(ou, options):
    """Of a linear network, whose means are 0; the coupling is a W x, from delayed states."""
    sim = ou.network(**options)
    response, _, _ = ou.prepared(sim)
    exact, n = ou.brute_force(sim), ou.n_node
    variance = np.diagonal(exact.covariance)
    # With one state per region, other functions have no other means.
    found = response.mean_of(lambda theta, x, coupling: 1.0 + 2.0 * x[0] + x[0] ** 2)
    np.testing.assert_allclose(found[:, 0], 1.0 + variance, rtol=1e-7)
    delays = np.rint(sim.connectivity.tract_lengths / sim.integrator.dt).astype(int)
    weights = sim.coupling.a[0] * sim.connectivity.weights
    of_products = [sum(weights[i, j] * exact.P[i, delays[i, j] * n + j] for j in range(n)) for i in range(n)]
    found = response.mean_of(lambda theta, x, coupling: x[0] * coupling[0])
    assert ou.off_by(found[:, 0], np.array(of_products)) < 1e-6
    # Negative control.
    assert ou.off_by(found[:, 0], np.diagonal(weights @ exact.covariance.T * 0.9)) > 1e-2


@pytest.mark.slow
def test_the_mean_of_the_states_is_their_shift(build_small):
    linear, state = tj.prepare_linear(build_small(nsig=1e-7))
    response = linear(state)
    found = response.mean_of(lambda theta, x, coupling: x[0])
    np.testing.assert_allclose(found - response.fixed_point.x[0], response.mean_shift[0], rtol=1e-6)
    assert np.min(np.abs(response.mean_shift)) > 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("function", [coupling.Linear(a=np.array([0.07])), coupling.Sigmoidal()], ids=str)
def test_mean_rates_of_a_simulation(build_small, function):
    """On noise and on its negative, so that errors of first order in the noise cancel."""
    sim = build_small(nsig=1e-8, steps=100_000, coupling=function)
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    evaluate = model_expression(sim.model, 6, "H")
    simulate, start = tj.prepare(sim, noise=jax.random.key(1))
    theta, x = simulate.constants(start), response.fixed_point.x
    start = start.replace(initial_conditions=x[None])
    draws = start.integrator.noise.draws

    def rates(x):
        s = steady_coupling_input(simulate.step, theta, start.connectivity.weights, x)
        return evaluate(theta["model"], x, simulate.step.post(theta, s, simulate.step.coupling_variables(x)))

    at_rest, mean = rates(x), 0.0
    for sign in (1.0, -1.0):
        states = simulate(with_path(start, "integrator.noise.draws", sign * draws)).data[0]
        mean = mean + 0.5 * jnp.mean(jax.lax.map(rates, states[1000:]), axis=0)
    effect = np.asarray(mean - at_rest)
    assert np.max(np.abs(np.asarray(response.mean_of(evaluate) - mean))) < 0.05 * np.max(np.abs(effect))
    # Negative control: the rate at the mean state, without fluctuations around it.
    at_mean = np.asarray(rates(x + response.mean_shift))
    assert np.max(np.abs(at_mean - np.asarray(mean))) > 0.1 * np.max(np.abs(effect))


@pytest.mark.slow
def test_gradients_are_those_of_central_differences(build_small):
    sim = build_small(nsig=1e-6)
    linear, state = tj.prepare_linear(sim)
    evaluate, weights = model_expression(sim.model, 6, "H"), np.random.RandomState(0).normal(size=(6, 1))

    def loss(values, state):
        for path, value in values.items():
            state = with_path(state, path, value)
        return jnp.sum(weights * linear(state).mean_of(evaluate))

    paths = ("model.w", "model.I_o", "coupling.a", "integrator.noise.nsig")
    values = {path: get_path(state, path) for path in paths}
    gradient, value_of = Program(jax.grad(loss))(values, state), Program(loss)
    for path, value in values.items():
        step = 1e-4 * value
        up, down = (value_of(values | {path: value + sign * step}, state) for sign in (1.0, -1.0))
        slope = np.sum(np.asarray(gradient[path]) * step)
        assert slope != 0.0
        np.testing.assert_allclose((up - down) / 2.0, slope, rtol=1e-5, atol=1e-12, err_msg=path)
