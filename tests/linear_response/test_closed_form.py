"""Covariances of Ornstein-Uhlenbeck networks, through every monitor, against solutions of Lyapunov equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tvb.datatypes import equations
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response import quadrature
from tvb_jaxfit.linear_response import response as linear_response
from tvb_jaxfit.state import with_path
from tvb_jaxfit.translate.clone import configured_clone

KERNELS = (equations.FirstOrderVolterra, equations.Gamma, equations.DoubleExponential, equations.MixtureOfGammas)


def all_monitors(ou):
    return [
        monitors.Raw(),
        monitors.SubSample(period=8.0),
        monitors.TemporalAverage(period=20.0),
        monitors.ProgressLogger(period=100.0),
        monitors.GlobalAverage(period=4.0),
        monitors.SpatialAverage(period=4.0, spatial_mask=np.array([0, 0, 1, 1, 1])),
        ou.eeg(obsnoise=None),
        ou.eeg(obsnoise=noise.Additive(nsig=np.array([1.0]), noise_seed=1)),
        ou.eeg(obsnoise=noise.Additive(nsig=np.array([1.0]), ntau=50.0, noise_seed=1), reference="average"),
        *(monitors.Bold(period=2000.0, hrf_kernel=kernel()) for kernel in KERNELS),
    ]


@pytest.fixture(scope="module")
def white(ou):
    """Simulator without delays, with all monitors, and its linear response."""
    sim = ou.network(watched=all_monitors(ou))
    return sim, *tj.prepare_linear(sim)


@pytest.fixture(scope="module")
def delayed(ou):
    """Simulator with delays and coloured noise, and its linear response."""
    sim = ou.network(delayed=True, ntau=5.0, watched=[monitors.Raw(), monitors.TemporalAverage(period=20.0)])
    return sim, *tj.prepare_linear(sim)


def weights_of(ou, path):
    """Directed weights, symmetric ones, or symmetric ones with one last digit changed, which excludes eigenmodes."""
    weights = np.array(ou.network(symmetric=path != "directed").connectivity.weights)
    if path == "by frequencies":
        weights[0, 1] = np.nextafter(weights[0, 1], 1.0)
    return jnp.asarray(weights)


def agrees(ou, response, exact, tolerance):
    """Assert that covariance, standard deviation, FC and stability are those by brute force."""
    assert ou.off_by(response.covariance(), exact.covariance) < tolerance
    std = np.sqrt(np.diagonal(exact.covariance))
    np.testing.assert_allclose(response.std[0, :, 0], std, rtol=tolerance)
    correlation = exact.covariance / np.outer(std, std) - np.eye(ou.n_node)
    np.testing.assert_allclose(response.fc(), correlation, atol=10 * tolerance)
    assert response.is_stable and np.max(response.nonlinearity) < 1e-10
    largest = np.max(np.abs(np.linalg.eigvals(exact.without_noise)))
    np.testing.assert_allclose(np.abs(response.eigenvalues[0]), largest, rtol=1e-12)
    np.testing.assert_allclose(response.decay_rate, -np.log(largest) / exact.dt, rtol=1e-9)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("directed", marks=pytest.mark.slow),
        "by modes",
        pytest.param("by frequencies", marks=pytest.mark.slow),
    ],
)
def test_white_noise_through_every_monitor(ou, white, path):
    sim, linear, state = white
    weights = weights_of(ou, path)
    response = linear(with_path(state, "connectivity.weights", weights))
    exact = ou.brute_force(sim, weights)
    agrees(ou, response, exact, 1e-13)
    P, smooth = exact.covariance, exact.filtered(np.full(10, 0.1))
    groups = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3]])
    gain = linear.simulate.monitors[6].gain
    of_sensors, rereference = gain @ smooth @ gain.T, np.eye(3) - 1.0 / 3.0
    expected = {
        1: P,
        2: exact.filtered(np.full(20, 0.05)),
        4: np.full((1, 1), P.mean()),
        5: groups @ P @ groups.T,
        6: of_sensors,
        7: of_sensors + np.eye(3),
        8: rereference @ (of_sensors + np.eye(3) / 50.0) @ rereference.T,
    }
    for index, covariance in expected.items():
        assert ou.off_by(response.covariance(index), covariance) < (1e-12 if path == "by modes" else 1e-10), index
    with pytest.raises(ValueError, match=r"monitors\[3\]: records nothing"):
        response.fc(3)
    for index in range(9, 13):
        brute = exact.filtered(impulse_response(configured_clone(sim).monitors[index], 4))
        assert ou.off_by(response.covariance(index), brute) < (1e-11 if path == "by modes" else 3e-9), index


def impulse_response(bold, n_mean):
    """Impulse response of TVB's Bold, one value per step; its kernel acts on a buffer with the oldest mean first."""
    taps = np.roll(bold.hemodynamic_response_function[0, ::-1], 1)
    parameters = bold.hrf_kernel.parameters
    if isinstance(bold.hrf_kernel, equations.FirstOrderVolterra):
        taps = taps * parameters["k_1"] * parameters["V_0"]
    return np.repeat(taps, n_mean) / n_mean


def test_negative_control_a_truncated_response_is_detected(ou, white):
    sim, linear, state = white
    exact, response = ou.brute_force(sim), linear(state)
    taps = impulse_response(configured_clone(sim).monitors[11], 4)
    # The kernel does not end at 0, so that its truncation has an effect.
    assert ou.off_by(response.covariance(11), exact.filtered(np.roll(taps, 400))) > 1e-5


@pytest.mark.parametrize("ntau", [5.0, 0.7])
def test_coloured_noise_with_delays(ou, delayed, ntau):
    sim, linear, state = delayed
    sim.integrator.noise.ntau = ntau
    response = linear(with_path(state, "integrator.noise.ntau", jnp.full_like(state.integrator.noise.ntau, ntau)))
    exact = ou.brute_force(sim)
    agrees(ou, response, exact, 1e-12)
    assert ou.off_by(response.covariance(1), exact.filtered(np.full(20, 0.05))) < 1e-9
    sim.integrator.noise.ntau = 5.0


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "EulerStochastic", "delayed": True, "dt": 0.5},
        pytest.param({"scheme": "EulerStochastic", "dt": 2.0}, marks=pytest.mark.slow),
        pytest.param({"delayed": True, "gamma": -0.02, "a": 0.005}, marks=pytest.mark.slow),
        pytest.param({"ntau": 5.0}, marks=pytest.mark.slow),
        pytest.param({"gamma": -0.002, "a": 0.0005}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_other_steps(ou, options):
    sim = ou.network(**options)
    response, _, _ = ou.prepared(sim)
    agrees(ou, response, ou.brute_force(sim), 1e-12)
    # Negative control: an additional delay of one step has an effect.
    if options.get("delayed"):
        sim.connectivity.tract_lengths = sim.connectivity.tract_lengths + sim.integrator.dt
        assert ou.off_by(response.covariance(), ou.brute_force(sim).covariance) > 1e-3


def test_frequency_integral_by_brute_force(ou, delayed):
    sim, linear, state = delayed
    response = linear(state)
    weights, lengths = sim.connectivity.weights, sim.connectivity.tract_lengths
    # The trapezoidal rule on the full circle converges geometrically.
    theta = 2.0 * np.pi * np.arange(4096) / 4096
    z = np.exp(1j * theta)[:, None, None]
    heun = 1.0 + sim.model.gamma[0] / 2.0
    M = np.eye(ou.n_node) * (1.0 + sim.model.gamma[0] * heun)
    M = M + heun * sim.coupling.a[0] * weights * z ** -np.rint(lengths)
    E = np.exp(-1.0 / 5.0)
    density = (1.0 - E**2) / 5.0 / np.abs(1.0 - E / z[:, 0, 0]) ** 2
    B = heun * np.diag(np.sqrt(2.0 * np.ravel(sim.integrator.noise.nsig)))
    H = np.linalg.inv(z * np.eye(ou.n_node) - M) @ B
    S = np.real(H @ np.conj(np.swapaxes(H, 1, 2))) * density[:, None, None]
    assert ou.off_by(response.covariance(), S.mean(axis=0)) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["EulerStochastic", "HeunStochastic"])
def test_small_steps_converge_to_the_continuous_closed_form(ou, scheme):
    sim = ou.network(scheme=scheme)
    A = sim.model.gamma[0] * np.eye(ou.n_node) + sim.coupling.a[0] * sim.connectivity.weights
    exact = scipy.linalg.solve_continuous_lyapunov(A, -np.diag(2.0 * np.ravel(sim.integrator.noise.nsig)))
    errors = []
    for dt in (0.2, 0.1, 0.05):
        response, _, _ = ou.prepared(ou.network(scheme=scheme, dt=dt))
        errors.append(ou.off_by(response.covariance(), exact))
    assert errors[-1] < 5e-3
    # Convergence of first order or better.
    assert errors[1] < 0.55 * errors[0] and errors[2] < 0.55 * errors[1]


@pytest.mark.slow
def test_power_integrates_to_the_variance(ou, white, delayed):
    at, weight = np.polynomial.legendre.leggauss(200)
    frequencies, weight = 250.0 * (1.0 + at), 250.0 * weight
    for (_, linear, state), indices in ((white, (0, 4)), (delayed, (1,))):
        response = linear(state)
        for index in indices:
            power = np.asarray(response.power(frequencies, index))
            np.testing.assert_allclose(weight @ power, np.diagonal(response.covariance(index)), rtol=1e-8)
    # The ends of the frequency range are allowed, and continuous with the frequencies beside them.
    ends, beside = response.power([0.0, 500.0], 1), response.power([1e-4, 500.0 - 1e-4], 1)
    np.testing.assert_allclose(ends, beside, rtol=1e-6, atol=1e-12 * np.max(beside))
    assert np.all(np.asarray(ends[0]) > 0.0)
    with pytest.raises(ValueError, match="500 Hz"):
        response.power([600.0])


def test_power_of_one_node_is_a_lorentzian(ou, white):
    _, linear, state = white
    response = linear(with_path(with_path(state, "coupling.a", jnp.zeros(1)), "model.gamma", jnp.array([-0.02])))
    frequencies = np.array([0.0, 1.0, 3.0, 10.0])
    omega = 2.0 * np.pi * frequencies / 1000.0
    # Two-sided density per ms and radian: 2 D / (omega^2 + gamma^2). One-sided density per Hz: twice that, over 1000.
    lorentzian = 2.0 * 2.0 * 1e-3 / (omega**2 + 0.02**2) / 1000.0
    np.testing.assert_allclose(response.power(frequencies)[:, 0], lorentzian, rtol=1e-3)


def test_filon_weights_integrate_fast_oscillations():
    grid = quadrature.octave_panels(1.0)
    theta = np.asarray(grid.theta)
    lags = np.array([0, 1, 7, 500, 20000])
    smooth = 1.0 / (theta**2 + 0.01)
    dense = np.linspace(0.0, np.pi, 4_000_001)
    exact = [np.trapezoid(np.cos(lag * dense) / (dense**2 + 0.01), dense) for lag in lags]
    np.testing.assert_allclose(np.real(grid.filon_weights(lags)) @ smooth, exact, atol=1e-8 * exact[0])
    # Negative control: the quadrature alone does not resolve them.
    assert abs(np.sum(grid.weight * np.cos(20000 * theta) * smooth) - exact[-1]) > 1e-4 * exact[0]


def test_response_prints_without_solving_for_eigenvalues(white, monkeypatch):
    _, linear, state = white
    texts = []
    jax.eval_shape(lambda state: texts.append(repr(linear(state))) or linear(state).covariance(), state)
    assert texts == ["LinearResponse(traced)"]
    response = linear(state)
    solved = []
    solver = linear_response.eigenvalues
    monkeypatch.setattr(linear_response, "eigenvalues", lambda *arguments: solved.append(1) or solver(*arguments))
    text = repr(response)
    assert "fixed point: stable\n" in text and "Linear, 5 regions" in text and not solved
    # Eigenvalues that are known are shown.
    assert f"fixed point: stable, slowest decay {response.decay_rate:.2e} / ms" in repr(response) and solved == [1]
