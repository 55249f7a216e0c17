"""Likelihood of recordings: closed forms, its score and information over recordings, gains, and what is refused."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import tvb_jaxfit as tj
from tvb_jaxfit.parameters import with_values
from tvb_jaxfit.posterior.recordings import GAIN, NOISE, ObservedRecordings, Recordings
from tvb_jaxfit.runtime.programs import Program

BAND = (0.02, 2.0)


@dataclass
class Spectra:
    """Response with known cross-spectra, as a function of frequency [Hz]."""

    of: object

    def cross_spectra(self, frequencies, monitor, n_alias):
        return jnp.asarray(np.array([self.of(f) for f in np.asarray(frequencies)], complex))


def log_likelihood(recordings, of, nuisance=None):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        nuisance = {name: jnp.asarray(np.atleast_1d(value)) for name, value in (nuisance or {}).items()}
        return float(ObservedRecordings(recordings, 0, 2).log_likelihood(Spectra(of), nuisance))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def coefficients(signals, period, band):
    """(frequencies, Fourier coefficients (n, n_node)) by their definition."""
    n, seconds = len(signals), period / 1000.0
    centred, time = signals - signals.mean(axis=0), np.arange(n)
    frequencies = np.arange(1, (n - 1) // 2 + 1) / (n * seconds)
    frequencies = frequencies[(frequencies >= band[0]) & (frequencies <= band[1])]
    waves = np.exp(-2j * np.pi * np.outer(frequencies, time * seconds))
    return frequencies, waves @ centred * np.sqrt(seconds / n)


def by_hand(signals, period, band, of):
    """Sum over frequencies of the log density of a complex normal vector, as one of twice as many real numbers."""
    total = 0.0
    for frequency, d in zip(*coefficients(signals, period, band), strict=True):
        S = np.asarray(of(frequency), complex)
        real = 0.5 * np.block([[S.real, -S.imag], [S.imag, S.real]])
        total += multivariate_normal.logpdf(np.concatenate([d.real, d.imag]), cov=real)
    return total


def test_it_is_the_product_of_complex_normal_densities():
    signals, period = normal(0, 60, 3), 500.0
    factor = normal(1, 3, 3) + 1j * normal(2, 3, 3)

    def of(frequency):
        return (0.3 + frequency) * (factor @ factor.conj().T + np.eye(3))

    found = log_likelihood(Recordings(signals, period, (0.05, 0.7), max_frequencies=100), of)
    np.testing.assert_allclose(found, by_hand(signals, period, (0.05, 0.7), of), rtol=1e-12)
    # Negative control: the other order of the signals.
    assert abs(by_hand(signals, period, (0.05, 0.7), lambda f: of(f).conj()) / found - 1.0) > 1e-4


def test_of_white_signals_it_is_the_likelihood_of_the_samples():
    """An orthogonal transform of independent samples: all frequencies together leave out only two of them."""
    n, period, variance = 41, 1000.0, 2.5
    signals = np.sqrt(variance) * normal(4, n, 2)
    signals -= signals.mean(axis=0)
    recordings = Recordings(signals, period, (1e-6, 0.5), max_frequencies=100)
    found = log_likelihood(recordings, lambda f: variance * np.eye(2))
    # Without the mean; and the density of the coefficients is that of samples times 2 for each pair of frequencies.
    exact = -0.5 * np.sum(signals**2) / variance - 0.5 * (n - 1) * 2 * np.log(2.0 * np.pi * variance)
    np.testing.assert_allclose(found, exact + (n - 1) * np.log(2.0), rtol=1e-12)
    # Negative control: another variance.
    assert found - log_likelihood(recordings, lambda f: 2.0 * variance * np.eye(2)) > 5.0


def test_of_an_autoregressive_signal_it_has_its_maximum_at_the_coefficient():
    """The maximum over the coefficient is that of the exact likelihood within the error of the boundary, 1 / n."""
    n, truth = 4000, 0.6
    drive = normal(5, n, 1)
    signals = np.zeros_like(drive)
    for t in range(1, n):
        signals[t] = truth * signals[t - 1] + drive[t]
    recordings = Recordings(signals, 1000.0, (1e-6, 0.5), max_frequencies=10_000)

    def of(coefficient):
        return lambda f: np.eye(1) / np.abs(1.0 - coefficient * np.exp(-2j * np.pi * f)) ** 2

    exact = np.sum(signals[1:] * signals[:-1]) / np.sum(signals[:-1] ** 2)
    grid = exact + np.linspace(-0.01, 0.01, 11)
    values = [log_likelihood(recordings, of(each)) for each in grid]
    assert abs(grid[np.argmax(values)] - exact) < 0.0031
    # The curvature is the information of the samples: n / (1 - a^2).
    curvature = -np.polyfit(grid - exact, values, 2)[0] * 2.0
    np.testing.assert_allclose(curvature, np.sum(signals**2), rtol=0.05)


def test_a_gain_scales_the_signals_and_noise_adds_to_the_mean_density():
    signals, factor = normal(0, 80, 3), normal(1, 3, 3)

    def of(frequency):
        return (1.0 + frequency) * (factor @ factor.T + np.eye(3))

    options = {"period": 500.0, "band": (0.05, 0.7), "max_frequencies": 5}
    recordings, gain, noise = Recordings(signals, **options), np.array([0.5, 2.0, 3.0]), 0.3
    density = recordings.counts @ np.array([np.diag(of(f)) for f in recordings.frequencies]) / recordings.counts.sum()

    def with_both(frequency):
        return np.diag(gain) @ (of(frequency) + noise * np.diag(density)) @ np.diag(gain)

    found = log_likelihood(recordings, of, {GAIN: gain, NOISE: noise})
    np.testing.assert_allclose(found, log_likelihood(recordings, with_both), rtol=1e-12)
    # One gain of all signals.
    same = log_likelihood(recordings, of, {GAIN: 2.0})
    np.testing.assert_allclose(same, log_likelihood(recordings, lambda f: 4.0 * of(f)), rtol=1e-12)
    assert abs(found - same) > 1.0


def test_neighbouring_frequencies_are_averaged_and_equal_ones_stay_together():
    first, second = normal(0, 120, 2), normal(1, 240, 2)

    def of(frequency):
        return np.array([[2.0 + frequency, 0.3], [0.3, 1.0]])

    # The frequencies of the shorter recording are some of those of the longer one.
    many = Recordings([first, second], 500.0, (0.05, 0.7), max_frequencies=10_000)
    assert many.frequencies.size == 79 and set(many.counts) == {1, 2} and many.counts.sum() == 119
    apart = sum(by_hand(each, 500.0, (0.05, 0.7), of) for each in (first, second))
    np.testing.assert_allclose(log_likelihood(many, of), apart, rtol=1e-12)
    # Two recordings of one length, in a stack or in a list.
    stacked, listed = (
        Recordings(each, 500.0, max_frequencies=4) for each in (second.reshape(2, 120, 2), [*second.reshape(2, 120, 2)])
    )
    np.testing.assert_array_equal(stacked.spectra, listed.spectra)
    assert np.all(stacked.counts % 2 == 0) and stacked.frequencies.size == 4

    # Differences of the log likelihood are nearly kept, for spectra that are smooth.
    def difference(n):
        some = Recordings([first, second], 500.0, (0.05, 0.7), max_frequencies=n)
        assert some.frequencies.size == n and some.counts.sum() == 119
        return log_likelihood(some, of) - log_likelihood(some, lambda f: 1.3 * of(2.0 * f))

    exact = apart - sum(by_hand(each, 500.0, (0.05, 0.7), lambda f: 1.3 * of(2.0 * f)) for each in (first, second))
    assert abs(difference(12) - exact) < 0.02 * abs(exact)
    # Negative control: one frequency alone.
    assert abs(difference(1) - exact) > 5.0 * abs(difference(12) - exact)


@pytest.fixture(scope="module")
def marked(six):
    """Recordings, and the log likelihood of one as a function of coupling, input, gains and noise, with derivatives."""
    state = tj.prepare_linear(six.sim)[1]
    truth = np.array([0.2, 0.32, *np.zeros(six.n_node), np.log(0.05)])
    template = Recordings(normal(0, 200, six.n_node), six.period, BAND)

    def value(vector, spectra):
        recordings = object.__new__(Recordings)
        vars(recordings).update(vars(template) | {"spectra": spectra})
        response = six.linear(with_values(state, {"coupling.a": vector[0], "model.I_o": vector[1]}))
        nuisance = {GAIN: jnp.exp(vector[2:-1]), NOISE: jnp.exp(vector[-1:])}
        return ObservedRecordings(recordings, 0).log_likelihood(response, nuisance)

    return truth, template, value


def noisy(six, response, n_recordings, n_samples, noise, template, seed=0):
    """Recordings of the linear process with white noise of the mean density times ``noise``."""
    signals = six.record(response, n_recordings, n_samples, seed)
    spectra = np.asarray(response.cross_spectra(template.frequencies))
    density = template.counts @ np.real(np.diagonal(spectra, axis1=1, axis2=2)) / template.counts.sum()
    std = np.sqrt(noise * density * 1000.0 / six.period)
    return signals + std * np.random.default_rng(seed + 1).normal(size=signals.shape)


@pytest.mark.slow
def test_the_score_is_0_on_average_and_scatters_by_the_information(six, marked):
    """Over 100 recordings; of coupling, input, gains and noise."""
    truth, template, value = marked
    recorded = noisy(six, six.response, 100, 200, 0.05, template)
    each = [Recordings(one, six.period, BAND) for one in recorded]
    gradient = Program(jax.grad(value))
    scores = np.array([np.asarray(gradient(jnp.asarray(truth), jnp.asarray(one.spectra))) for one in each])
    # Information: minus the derivative of the score at the expected products, which are the spectra themselves.
    spectra = np.asarray(six.response.cross_spectra(template.frequencies))
    density = template.counts @ np.real(np.diagonal(spectra, axis1=1, axis2=2)) / template.counts.sum()
    expected = jnp.asarray(spectra + 0.05 * np.diag(density))
    np.testing.assert_allclose(gradient(jnp.asarray(truth), expected), 0.0, atol=1e-6)
    steps = 1e-5 * np.diag([0.2, 0.3, *np.ones(7)])
    rows = [
        (
            np.asarray(gradient(jnp.asarray(truth + h), expected))
            - np.asarray(gradient(jnp.asarray(truth - h), expected))
        )
        / (2.0 * h.sum())
        for h in steps
    ]
    information = -np.array(rows)
    information = 0.5 * (information + information.T)
    assert np.all(np.linalg.eigvalsh(information) > 0.0)
    root = np.linalg.inv(np.linalg.cholesky(information))
    whitened = scores @ root.T
    z = whitened.mean(axis=0) * 10.0
    assert np.max(np.abs(z)) < 3.5
    assert six.p_value(scores, information) > 0.01
    # Negative control: the information of another length.
    assert six.p_value(scores, 1.5 * information) < 1e-3


@pytest.mark.slow
def test_gradients_are_those_of_central_differences(six, marked):
    truth, template, value = marked
    (recorded,) = noisy(six, six.response, 1, 200, 0.05, template, seed=7)
    spectra = jnp.asarray(Recordings(recorded, six.period, BAND).spectra)
    vector = truth * 1.05 + 0.01
    gradient, plain = np.asarray(Program(jax.grad(value))(jnp.asarray(vector), spectra)), Program(value)
    for index, step in enumerate(1e-5 * np.diag([0.2, 0.3, *np.ones(7)])):
        up, down = (float(plain(jnp.asarray(vector + sign * step), spectra)) for sign in (1.0, -1.0))
        np.testing.assert_allclose(gradient[index], (up - down) / (2.0 * step.sum()), rtol=1e-5)
        assert abs(up - down) > 1e-6


@pytest.mark.slow
def test_amplitudes_change_the_gains_alone(six):
    (signals,) = six.record(six.response, 1, 200, seed=3)
    factors = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 10.0])
    found = {}
    for gain in ("regional", "global", "known"):
        for number, one in enumerate((signals, signals * factors)):
            data = ObservedRecordings(Recordings(one, six.period, BAND, gain=gain), 0, 2)
            nuisance = {name: start for name, (_, start) in data.nuisance(six.response).items()}
            assert list(nuisance) == ([GAIN, NOISE] if gain != "known" else [NOISE])
            arrays = {name: jnp.asarray(start) for name, start in nuisance.items()}
            found[gain, number] = float(data.log_likelihood(six.response, arrays)), nuisance.get(GAIN)
    assert found["regional", 0][1].shape == (6,) and found["global", 0][1].shape == (1,)
    np.testing.assert_allclose(found["regional", 1][1], factors * found["regional", 0][1], rtol=1e-12)
    # The density of the signals changes by the factors.
    recordings = Recordings(signals, six.period, BAND)
    log_factor = -2.0 * recordings.counts.sum() * np.sum(np.log(factors))
    np.testing.assert_allclose(found["regional", 1][0] - found["regional", 0][0], log_factor, rtol=1e-9)
    # Gains of signals in the model's own units are about 1.
    assert np.all(np.abs(np.log(found["regional", 0][1])) < 0.5)
    # Negative control: one gain, or none, does not fit.
    for gain in ("global", "known"):
        assert found[gain, 1][0] < found[gain, 0][0] + log_factor - 100.0
    data = ObservedRecordings(Recordings(signals, six.period, BAND, noise=False, gain="known"), 0)
    assert data.nuisance(six.response) == {} and data.n_data == 2 * 6 * data.recordings.counts.sum()


@pytest.mark.slow
def test_as_many_multiples_of_the_sampling_frequency_as_the_monitor_needs(six):
    (signals,) = six.record(six.response, 1, 200, seed=3)
    data = ObservedRecordings(Recordings(signals, six.period, BAND), 0)
    found = data.at(six.response)
    assert 1 <= found.n_alias < 16 and found.recordings is data.recordings
    power = [
        np.real(np.diagonal(six.response.cross_spectra(data.recordings.frequencies, n_alias=n), axis1=1, axis2=2))
        for n in (16, found.n_alias, found.n_alias - 1)
    ]
    left_out = [np.max(1.0 - each / power[0]) for each in power[1:]]
    assert left_out[0] < 1e-3 <= left_out[1]


def test_signals_and_options_that_are_refused():
    good = normal(0, 300, 4)
    broken, constant = good.copy(), good.copy()
    broken[3, 1] = broken[4, 2] = np.nan
    constant[:, 2] = 1.0
    messages = {
        r"signals\[0\]: 2 values are not finite": broken,
        r"signals\[0\]: 1 regions are constant": constant,
        r"signals\[1\]: 2 values are not finite; signals\[2\]: 1 regions are constant": [good, broken, constant],
        r"signals: different numbers of regions: \(300, 4\), \(300, 3\)": [good, good[:, :3]],
        r"signals\[0\]: shape \(300,\); give \(n_time, n_node\)": good[:, 0],
        r"signals\[0\]: shape \(1, 1, 300, 4\); give \(n_time, n_node\)": good[None, None],
        r"signals\[1\]: shape \(300,\); give \(n_time, n_node\)": [good, good[:, 0]],
        r"signals\[0\]: shape \(0, 4\)": good[:0],
        r"signals: complex numbers": good + 1j,
        r"signals\[0\]: 5 samples of 1000 ms have no frequency from 0.01 to 0.1 Hz. Give longer signals": good[:5],
        r"signals\[0\]: shape \(0,\)": [],
    }
    for message, signals in messages.items():
        with pytest.raises(ValueError, match=r"^Recordings: .*" + message):
            Recordings(signals, 1000.0)
    with pytest.raises(ValueError) as error:
        Recordings(good, -1.0, (0.1, 0.01), gain="each", noise=2, max_frequencies=0)
    for name in ("period", "band", "gain", "noise", "max_frequencies"):
        assert f"{name} = " in str(error.value)
