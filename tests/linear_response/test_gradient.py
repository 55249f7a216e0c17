"""Gradients of the FC of the linear response against central differences, in double and single precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path

N_NODE = 5
PATHS = (
    "model.w",
    "model.I_o",
    "coupling.a",
    "integrator.noise.nsig",
    "connectivity.weights",
    "monitors[0].hrf_kernel.tau_s",
    "monitors[0].hrf_kernel.tau_f",
)
TARGET = np.corrcoef(np.random.RandomState(8).normal(size=(N_NODE, 12))) - np.eye(N_NODE)


def simulator(connectivity_of, dt, model=None, function=None, delayed=False, watched=None, nsig=1e-9):
    random = np.random.RandomState(1)
    weights = random.uniform(0.1, 1.0, (N_NODE, N_NODE))
    np.fill_diagonal(weights, 0.0)
    lengths = random.uniform(0.0, 20.0, weights.shape)
    kernel = equations.FirstOrderVolterra()
    return Simulator(
        model=model or models.ReducedWongWang(w=np.linspace(0.4, 0.7, N_NODE), I_o=np.array([0.31])),
        connectivity=connectivity_of(weights, lengths, 4.0 if delayed else np.inf),
        coupling=function or coupling.Linear(a=np.array([0.1])),
        integrator=integrators.HeunStochastic(dt=dt, noise=noise.Additive(nsig=np.array([nsig]), noise_seed=3)),
        monitors=watched or [monitors.Bold(period=2000.0, hrf_kernel=kernel), monitors.TemporalAverage(period=20.0)],
        simulation_length=2000.0,
    )


def loss_of(linear, nonlinearity=0.1):
    """Loss as a function of state and values at PATHS: the FC of all monitors, and a penalty of the nonlinearity."""
    target = jnp.asarray(TARGET)

    def loss(state, values):
        for path, value in values.items():
            state = with_path(state, path, value)
        response = linear(state)
        fcs = [response.fc(index) for index in range(len(state.monitors))]
        fit = sum(jnp.mean((fc - target.astype(fc.dtype)) ** 2) for fc in fcs)
        return fit + nonlinearity * jnp.mean(response.nonlinearity) if nonlinearity else fit

    return loss


def agrees_with_differences(loss, state, values, rtol=1e-6):
    """Assert that the gradient agrees along random directions, for each parameter; return the gradient."""
    value = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss, argnums=1))(state, values)
    random = np.random.RandomState(0)
    scale = {path: float(np.max(np.abs(at))) for path, at in values.items()}
    for path, at in values.items():
        direction = random.uniform(0.2, 1.0, np.shape(at)) * scale[path] * np.sign(np.asarray(at) + 1e-300)
        # Step of differences of fourth order.
        h = 2e-3

        def moved(k, path=path, at=at, direction=direction, h=h):
            return float(value(state, values | {path: at + k * h * direction}))

        difference = (8.0 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12.0 * h)
        found = float(np.sum(np.asarray(gradient[path]) * direction))
        assert abs(difference) > 1e-9, f"{path}: the loss does not depend on it"
        assert abs(found - difference) <= rtol * abs(difference) + 1e-10, f"{path}: {found} instead of {difference}"
    return gradient


@pytest.mark.slow
def test_a_regional_parameter(connectivity_of):
    linear, state = tj.prepare_linear(simulator(connectivity_of, 4.0))
    agrees_with_differences(loss_of(linear), state, {"model.w": get_path(state, "model.w")})


@pytest.mark.slow
@pytest.mark.parametrize("dt", [4.0, 1.0])
def test_every_parameter_by_both_methods(connectivity_of, dt):
    linear, state = tj.prepare_linear(simulator(connectivity_of, dt))
    state = with_path(state, "integrator.noise.nsig", jnp.linspace(1e-9, 3e-9, N_NODE))
    values = {path: get_path(state, path) for path in PATHS}
    loss = loss_of(linear)
    # Directed weights: spectral integral.
    gradient = agrees_with_differences(loss, state, values)
    weights = values["connectivity.weights"]
    # Symmetric weights: eigenmodes. Directed changes of them use the spectral integral, which agrees there.
    symmetric = values | {"connectivity.weights": 0.5 * (weights + weights.T)}
    by_modes = agrees_with_differences(loss, state, symmetric, rtol=1e-6)
    nearly = np.array(symmetric["connectivity.weights"])
    nearly[0, 1] = np.nextafter(nearly[0, 1], 1.0)
    by_frequencies = jax.jit(jax.grad(loss, argnums=1))(
        state, symmetric | {"connectivity.weights": jnp.asarray(nearly)}
    )
    for path in PATHS:
        scale = np.max(np.abs(by_modes[path]))
        np.testing.assert_allclose(by_modes[path], by_frequencies[path], atol=1e-7 * scale, err_msg=path)
    directed = np.asarray(by_modes["connectivity.weights"])
    assert np.max(np.abs(directed - directed.T)) > 1e-2 * np.max(np.abs(directed))
    # Negative control: the two gradients differ.
    assert np.max(np.abs(gradient["model.w"] - by_modes["model.w"])) > 1e-3 * np.max(np.abs(by_modes["model.w"]))


@pytest.mark.slow
def test_delays_and_several_variables(connectivity_of):
    sim = simulator(
        connectivity_of,
        1.0,
        models.JansenRit(mu=np.array([0.7]), variables_of_interest=["y1"]),
        coupling.SigmoidalJansenRit(a=np.array([5.0])),
        delayed=True,
        watched=[monitors.TemporalAverage(period=4.0), monitors.Raw()],
    )
    linear, state = tj.prepare_linear(sim)
    paths = ("model.mu", "model.A", "model.b", "coupling.a", "integrator.noise.nsig", "connectivity.weights")
    assert linear(state).is_stable
    # A common amplitude of the noise does not change the FC; the amplitude of a single variable does.
    state = with_path(state, "integrator.noise.nsig", jnp.full((6, N_NODE, 1), 1e-9).at[4].mul(5.0))
    values = {path: get_path(state, path) for path in paths}
    agrees_with_differences(loss_of(linear, nonlinearity=0.0), state, values, rtol=1e-5)


@pytest.mark.slow
def test_single_precision_gives_the_same_gradient(connectivity_of):
    # FC alone: the effect of curvature on small fluctuations is below the rounding error of single precision.
    sim = simulator(connectivity_of, 4.0)
    gradients = []
    for double in (True, False):
        with jax.enable_x64(double):
            linear, state = tj.prepare_linear(sim)
            state = with_path(state, "integrator.noise.nsig", jnp.linspace(1e-9, 3e-9, N_NODE))
            values = {path: get_path(state, path) for path in PATHS[:5]}
            assert values["model.w"].dtype == (jnp.float64 if double else jnp.float32)
            gradients.append(jax.jit(jax.grad(loss_of(linear, nonlinearity=0.0), argnums=1))(state, values))
    for path in PATHS[:5]:
        scale = np.max(np.abs(gradients[0][path]))
        np.testing.assert_allclose(gradients[1][path], gradients[0][path], atol=1e-3 * scale, err_msg=path)
