"""Cross-spectral densities of samples: closed forms, sums over lags, and integrals over frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response.cross_spectra import aliases
from tvb_jaxfit.state import get_path, with_path

# Period and number of steps that each sample averages [steps of 1 ms]. Rounding raises half the sampling frequency of
# the second period above pi per sample.
SAMPLES, MEANS = (8, 1), (41, 41)


def closed_form(exact, omega, istep, n_mean):
    """Sum over all lags of cov(x(t + lag), x(t)) exp(-i omega lag), for means over steps, by powers of the step."""
    powers = [exact.P]
    for _ in range(istep + n_mean):
        powers.append(exact.M @ powers[-1])
    weights = {d: (n_mean - abs(d)) / n_mean**2 for d in range(1 - n_mean, n_mean)}
    at_zero = sum(weight * (powers[d] if d >= 0 else powers[-d].T) for d, weight in weights.items())
    at_one = sum(weight * powers[istep + d] for d, weight in weights.items())
    step, one = np.linalg.matrix_power(exact.M, istep), np.eye(len(exact.M))
    found = []
    for z in np.exp(-1j * omega):
        later = z * np.linalg.solve(one - z * step, at_one)
        found.append((at_zero + later + later.conj().T)[: exact.n, : exact.n])
    return np.array(found)


@pytest.fixture(scope="module")
def of_network(ou):
    """Function of options to a simulator with samples, means and sensors, and its response."""

    def build(**options):
        sensors = ou.eeg(obsnoise=noise.Additive(nsig=np.array([1.0]), noise_seed=1))
        watched = [monitors.SubSample(period=8.0), monitors.TemporalAverage(period=41.0), sensors]
        watched.append(monitors.ProgressLogger(period=100.0))
        sim = ou.network(watched=watched, **options)
        return sim, *ou.prepared(sim)

    return build


@pytest.fixture(scope="module")
def white(of_network):
    return of_network()


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in ({"ntau": 5.0}, {"delayed": True, "ntau": 5.0})]


@pytest.mark.parametrize("options", [{}, *SLOW], ids=str)
def test_they_are_those_of_the_closed_form(ou, white, of_network, options):
    sim, response, linear, _ = of_network(**options) if options else white
    exact = ou.brute_force(sim)
    # By default only means: they are filtered, too.
    for index, (istep, n_mean) in [(0, SAMPLES), (1, MEANS)][not options :]:
        seconds = istep / 1000.0
        frequencies = np.linspace(0.0, 0.5, 9) / seconds
        expected = seconds * closed_form(exact, 2.0 * np.pi * seconds * frequencies, istep, n_mean)
        found = np.asarray(response.cross_spectra(frequencies, index, n_alias=istep))
        assert ou.off_by(found, expected) < 1e-12
        np.testing.assert_allclose(found, np.conj(np.swapaxes(found, 1, 2)), atol=1e-14 * np.max(np.abs(found)))
        # Negative controls: the other order of the signals, and without power from higher frequencies.
        assert ou.off_by(found.conj(), expected) > 1e-3
        assert ou.off_by(response.cross_spectra(frequencies, index, n_alias=0), expected) > 1e-3
    # Sensors: weighted sums of regions, with white noise of their own.
    omega, gain = np.linspace(0.0, np.pi, 5), linear.simulate.monitors[2].gain
    of_sensors = 0.01 * (gain @ closed_form(exact, omega, 10, 10) @ gain.T + np.eye(3))
    assert ou.off_by(response.cross_spectra(omega / (0.02 * np.pi), 2), of_sensors) < 1e-12


@pytest.mark.slow
def test_their_integral_is_the_covariance(ou, of_network):
    _, response, _, _ = of_network()
    for index, seconds in enumerate((0.008, 0.041, 0.010)):
        # The trapezoidal rule on the full circle converges geometrically.
        frequencies = np.linspace(0.0, 0.5, 129) / seconds
        weights = np.where(np.isin(np.arange(129), (0, 128)), 1.0, 2.0) / (256.0 * seconds)
        integral = np.tensordot(weights, np.real(response.cross_spectra(frequencies, index, n_alias=50)), 1)
        assert ou.off_by(integral, response.covariance(index)) < 1e-12


@pytest.mark.parametrize(
    ("watched", "delayed"),
    [
        pytest.param(lambda ou: monitors.TemporalAverage(period=20.0), False, marks=pytest.mark.slow),
        pytest.param(lambda ou: monitors.Bold(period=200.0, hrf_length=2000.0), True, marks=pytest.mark.slow),
        pytest.param(lambda ou: tj.BalloonBold(period=500.0), False, marks=pytest.mark.slow),
        pytest.param(lambda ou: tj.BalloonBold(period=500.0), True, marks=pytest.mark.slow),
    ],
)
def test_they_are_the_fourier_sum_of_the_covariances_at_all_lags(ou, watched, delayed):
    response, linear, state = ou.prepared(ou.network(watched=[watched(ou)], delayed=delayed))
    if isinstance(linear.simulate.monitors[0], tj.dynamics.balloon.BalloonBold):
        # Regions with responses of their own phases.
        response = linear(with_path(state, "monitors[0].tau_s", jnp.linspace(0.5, 0.9, ou.n_node)))
    found, period = linear.autocovariance(response, 0), linear.simulate.monitors[0].istep / 1000.0
    omega = np.linspace(0.0, np.pi, 7)
    lags = np.arange(1, len(found.even))
    lagged = np.array([found(lag) for lag in lags])
    one_sided = np.tensordot(np.exp(-1j * np.outer(omega, lags)), lagged, 1)
    expected = period * (found(0) + one_sided + np.conj(np.swapaxes(one_sided, 1, 2)))
    ours = response.cross_spectra(omega / (2.0 * np.pi * period))
    assert ou.off_by(ours, expected) < 1e-3
    # The sign of the phase, which is small in slow signals.
    assert ou.off_by(np.imag(ours), np.imag(expected)) < 0.1


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        pytest.param({}, ("model.gamma", "connectivity.weights"), marks=pytest.mark.slow),
        pytest.param(
            {"delayed": True, "ntau": 5.0},
            ("coupling.a", "integrator.noise.ntau", "integrator.noise.nsig"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_gradients_are_those_of_central_differences(white, of_network, options, paths):
    _, _, linear, state = of_network(**options) if options else white
    random = np.random.RandomState(2)
    cotangent = jnp.asarray(random.normal(size=(3, 5, 5)) + 1j * random.normal(size=(3, 5, 5)))

    @jax.jit
    def loss(values):
        changed = state
        for path, value in values.items():
            changed = with_path(changed, path, value)
        found = linear(changed).cross_spectra([0.0, 3.0, 25.0])
        return jnp.real(jnp.sum(cotangent * found)) / jnp.sqrt(jnp.sum(jnp.abs(found) ** 2))

    values = {path: get_path(state, path) for path in paths}
    gradient = jax.jit(jax.grad(loss))(values)
    for path in paths:
        direction = np.asarray(values[path]) * np.random.RandomState(3).uniform(0.5, 1.0, values[path].shape)
        up, down = (float(loss(values | {path: values[path] + h * direction})) for h in (1e-4, -1e-4))
        np.testing.assert_allclose(np.sum(gradient[path] * direction), (up - down) / 2e-4, rtol=1e-6)
        assert abs(up - down) > 1e-8


def test_frequencies_of_the_steps_are_the_same_in_samples():
    omega = np.array([0.0, 0.3, np.pi])
    for istep in range(1, 9):
        theta = np.asarray(aliases(omega, istep, istep))
        assert theta.shape == (3, istep) and np.all(np.abs(theta) <= np.pi * (1.0 + 1e-15))
        samples = np.exp(1j * istep * theta)
        np.testing.assert_allclose(samples, np.exp(1j * omega)[:, None] * np.ones(istep), atol=1e-13)
        assert np.all(np.diff(np.sort(theta, axis=1), axis=1) > 1e-3)
        # The nearest come first.
        np.testing.assert_allclose(np.abs(theta), np.sort(np.abs(theta), axis=1), atol=1e-13)
        np.testing.assert_array_equal(np.asarray(aliases(omega, istep, 1)), theta[:, :3])


def test_frequencies_that_are_refused(white):
    _, response, _, _ = white
    for frequencies in ([-1.0], [63.0], [np.nan], 3.0, [[1.0]]):
        with pytest.raises(ValueError, match="give a list of them from 0 to 62.5 Hz"):
            response.cross_spectra(frequencies)
    with pytest.raises(ValueError, match=r"monitors\[3\]: records nothing"):
        response.cross_spectra([1.0], 3)
    with pytest.raises(ValueError, match="n_alias = -1; give a whole number of at least 0"):
        response.cross_spectra([1.0], 1, n_alias=-1)
