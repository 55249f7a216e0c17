"""Linear response of the Balloon-Windkessel monitor: exact for its integrated equations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tvb.simulator import integrators, monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.hemodynamics import Balloon, steady_hemodynamics
from tvb_jaxfit.linear_response.covariance import Way
from tvb_jaxfit.linear_response.linearise import block_diagonal, step_matrix
from tvb_jaxfit.runtime.programs import Program
from tvb_jaxfit.state import get_path, with_path

N_NODE = 6
ALPHA = np.linspace(0.25, 0.4, N_NODE)
MODEL = {"w": np.array([0.5]), "I_o": np.linspace(0.3, 0.37, N_NODE)}


@pytest.fixture
def build(build_small):
    """Simulator of six regions with different activity, and a Balloon-Windkessel monitor."""

    def simulator(interim=8.0, nsig=1e-8, parameter_set="cbig", **parts):
        balloon = tj.BalloonBold(period=40.0, interim_period=interim, parameter_set=parameter_set, alpha=ALPHA)
        parts = {"monitors": [balloon], "model": MODEL, "dt": 4.0, "steps": 50} | parts
        return build_small(nsig=nsig, **parts)

    return simulator


def linearised_balloon(interim, parameter_set, mean):
    """A (4 n, 4 n), b (4 n, n) and c (n, 4 n) of a step around the steady state of the activity ``mean`` (n,)."""
    p = {name: jnp.broadcast_to(value, mean.shape) for name, value in tj.balloon_parameters(parameter_set).items()}
    p["alpha"], mean, system = jnp.asarray(ALPHA), jnp.asarray(mean), Balloon(interim, True)
    steady, n = steady_hemodynamics(p, mean), mean.size
    A = jax.jacobian(lambda state: system.step(p, state, mean))(steady)
    b = jax.jacobian(lambda neural: system.step(p, steady, neural))(mean)
    c = jax.jacobian(lambda state: system.signal(p, state))(steady)
    return np.reshape(A, (4 * n, 4 * n)), np.reshape(b, (4 * n, n)), np.reshape(c, (n, 4 * n))


def by_one_matrix(response, n_mean, A, b, c, n_lag=0):
    """Covariance of the signals at a lag [interim periods] from one matrix, that of a step by an interim period."""
    M, B = np.asarray(step_matrix(response.linearised)), np.asarray(block_diagonal(response.linearised.B))
    n, n_state = len(M), len(A)
    # State and mean since the last hemodynamic step, over n_mean steps.
    step, drive = np.block([[M, np.zeros((n, n))], [M / n_mean, np.eye(n)]]), np.vstack([B, B / n_mean])
    Q, total = np.zeros((2 * n, 2 * n)), np.eye(2 * n)
    for _ in range(n_mean):
        Q, total = step @ Q @ step.T + drive @ drive.T, step @ total
    F = np.block([[total[:n, :n], np.zeros((n, n_state))], [b @ total[n:, :n], A]])
    G = scipy.linalg.block_diag(np.eye(n), b)
    P = scipy.linalg.solve_discrete_lyapunov(F, G @ Q @ G.T)
    return c @ (np.linalg.matrix_power(F, n_lag) @ P)[n:, n:] @ c.T


@pytest.mark.parametrize(
    ("interim", "parameter_set", "tolerance"),
    [pytest.param(4.0, "tvb", 1e-10, marks=pytest.mark.slow), (8.0, "cubnm", 1e-8)],
)
def test_the_covariance_is_that_of_one_matrix_of_network_and_hemodynamics(build, ou, interim, tolerance, parameter_set):
    """To rounding without interim means, and with them up to what fast activity adds by its sampling."""
    response, _, _ = ou.prepared(build(interim, parameter_set=parameter_set))
    mean = np.asarray(response.fixed_point.x).ravel()
    assert np.ptp(mean) > 0.05
    n_mean = int(interim / 4.0)
    exact = by_one_matrix(response, n_mean, *linearised_balloon(interim, parameter_set, mean))
    assert ou.off_by(response.covariance(), exact) < tolerance
    # A lag of 720 ms. Its cosine is integrated with interpolated spectra, whose error is larger.
    lagged = by_one_matrix(response, n_mean, *linearised_balloon(interim, parameter_set, mean), 180 // n_mean)
    assert ou.off_by(response.lagged_covariance(18), lagged) < 1e-5 and ou.off_by(exact, lagged) > 1e-3
    # Negative control: hemodynamics around rest.
    at_rest = by_one_matrix(response, n_mean, *linearised_balloon(interim, parameter_set, 0.0 * mean))
    assert ou.off_by(response.covariance(), at_rest) > 0.05


@pytest.mark.slow
def test_monitors_with_shared_and_with_own_filters_keep_their_order(ou):
    """Each covariance is that of the same monitor alone."""
    makers = [
        lambda: tj.BalloonBold(period=40.0, tau_s=np.array([1.0])),
        lambda: monitors.TemporalAverage(period=10.0),
        lambda: monitors.ProgressLogger(period=10.0),
        lambda: tj.BalloonBold(period=40.0, parameter_set="cubnm"),
    ]
    together, _, _ = ou.prepared(ou.network(watched=[make() for make in makers]))
    for index in (0, 1, 3):
        alone, _, _ = ou.prepared(ou.network(watched=[makers[index]()]))
        # Grids for hemodynamics have more frequencies.
        assert ou.off_by(together.covariance(index), alone.covariance()) < 1e-7
    assert ou.off_by(together.covariance(0), together.covariance(3)) > 0.1


@pytest.mark.slow
def test_small_fluctuations_of_the_simulated_monitor_are_linear(build):
    """On the same noise: the linearised hemodynamics of the simulated activity miss an error of second order only."""
    off_by = []
    for nsig in (1e-8, 1e-10):
        sim = build(4.0, nsig=nsig, monitors=[tj.BalloonBold(period=4.0, alpha=ALPHA), monitors.Raw()], steps=2500)
        linear, _ = tj.prepare_linear(sim)
        simulate, state = tj.prepare(sim)
        x = linear(state).fixed_point.x
        state = state.replace(
            initial_conditions=x[None],
            monitors=[simulate.monitors[0].at_rest(state.monitors[0], simulate.observe(x[None])), state.monitors[1]],
        )
        bold, neural = (np.asarray(data)[:, 0, :, 0] for data in simulate(state).data)
        mean = np.asarray(x).ravel()
        A, b, c = linearised_balloon(4.0, "tvb", mean)
        h, expected = np.zeros(len(A)), []
        for sample in neural:
            h = A @ h + b @ (sample - mean)
            expected.append(c @ h)
        steady = simulate.monitors[0].sample(state.monitors[0], jnp.broadcast_to(x, (1, *x.shape)), 0)[0]
        deviation = bold - np.asarray(steady)[0, 0, :, 0]
        off_by.append(np.max(np.abs(deviation - expected)) / np.max(np.abs(deviation)))
    # Noise of a tenth of the amplitude.
    assert 0.05 < off_by[1] / off_by[0] < 0.2 and off_by[1] < 1e-4


@pytest.mark.slow
def test_fc_of_a_long_simulation_is_within_its_standard_error(build):
    dt, n_steps, skip_t = 20.0, 120_000, 100
    sim = build(
        20.0,
        nsig=1e-7,
        dt=dt,
        steps=n_steps,
        monitors=[tj.BalloonBold(period=400.0, interim_period=20.0, parameter_set="cbig")],
    )
    sim.integrator = integrators.HeunStochastic(dt=dt, noise=noise.Additive(nsig=np.array([1e-7])))
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    assert response.is_stable and np.max(response.nonlinearity) < 0.02
    simulate, start = tj.prepare(sim, noise=jax.random.key(1))
    fc = tj.compute_fc(simulate(start).data[0], skip_t)
    upper = np.triu_indices(N_NODE, 1)
    difference = np.arctanh(np.asarray(fc)[upper]) - np.arctanh(np.asarray(response.fc())[upper])
    z = difference / np.asarray(response.z_standard_error(dt * n_steps))[upper]
    assert np.max(np.abs(z)) < 4.0 and 0.4 < np.sqrt(np.mean(z**2)) < 1.6


@pytest.mark.slow
def test_power_integrates_to_the_variance(build, ou):
    response, _, _ = ou.prepared(build())
    edges = np.concatenate([[0.0], np.geomspace(1e-3, 125.0, 30)])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = np.diff(edges)[:, None] / 2.0
    frequencies = (edges[:-1, None] + half * (1.0 + nodes)).ravel()
    variance = (half * weights).ravel() @ np.asarray(response.power(frequencies))
    np.testing.assert_allclose(variance, np.diagonal(response.covariance()), rtol=1e-6)


@pytest.mark.slow
def test_gradients_are_those_of_central_differences(build):
    linear, state = tj.prepare_linear(build(4.0))
    weights = np.random.RandomState(0).normal(size=(N_NODE, N_NODE))

    def loss(values, state):
        for path, value in values.items():
            state = with_path(state, path, value)
        response = linear(state)
        return jnp.sum(weights * (response.fc() + response.lagged_covariance(1) / jnp.trace(response.covariance())))

    paths = [*(f"monitors[0].{name}" for name in ("tau_s", "tau_f", "tau_o", "alpha", "E0", "k1", "k2", "k3"))]
    values = {path: get_path(state, path) for path in [*paths, "model.w", "coupling.a"]}
    gradient, value_of = Program(jax.grad(loss))(values, state), Program(loss)
    for path, value in values.items():
        step = 1e-4 * value
        up, down = (value_of(values | {path: value + sign * step}, state) for sign in (1.0, -1.0))
        slope = np.sum(np.asarray(gradient[path]) * step)
        assert slope != 0.0
        np.testing.assert_allclose((up - down) / 2.0, slope, rtol=1e-5, atol=1e-11, err_msg=path)


def test_eigenmodes_are_refused(build):
    linear, state = tj.prepare_linear(build())
    assert linear.ways(state) == (Way.FREQUENCIES,)
    with pytest.raises(ValueError, match=r"BalloonBold monitor needs Way\.FREQUENCIES"):
        replace(linear, way=Way.MODES)(state)
