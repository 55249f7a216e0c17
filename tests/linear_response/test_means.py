"""Means of functions of states and coupling under noise, to second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj
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
@pytest.mark.parametrize("function", [coupling.Linear(a=np.array([0.07])), coupling.HyperbolicTangent()], ids=str)
def test_mean_rates_of_a_simulation(build_small, function):
    """The mean firing rate differs from that of the fixed point as predicted, up to 5 % of the difference."""
    sim = build_small(nsig=2e-5, dt=4.0, coupling=function, model={"I_o": np.array([0.3])})
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    evaluate = model_expression(sim.model, 6, "H")
    predicted = np.asarray(response.mean_of(evaluate))[:, 0]
    quiet = linear(with_path(state, "integrator.noise.nsig", jnp.full_like(state.integrator.noise.nsig, 1e-14)))
    at_rest = np.asarray(quiet.mean_of(evaluate))[:, 0]
    runs = [tj.mean_rates(sim, rate="H", length=600_000.0, skip=2_000.0, key=jax.random.key(k)).rate for k in range(6)]
    error = np.std(runs, axis=0, ddof=1) / np.sqrt(len(runs))
    difference = np.mean(runs, axis=0) - predicted
    effect = predicted - at_rest
    print(effect, error, difference, np.max(response.nonlinearity))
    assert np.all(np.abs(difference) < 5.0 * error + 0.05 * np.abs(effect))
    # Negative control: the fixed point.
    assert np.all(np.abs(np.mean(runs, axis=0) - at_rest) > 5.0 * error)


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
