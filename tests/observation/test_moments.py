"""Moments, spectra and filters of signals equal NumPy's and SciPy's, and have their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from tvb_jaxfit import (
    band_pass,
    compute_fc,
    cross_spectrum,
    global_brain_connectivity,
    lagged_covariance,
    power_spectrum,
    signal_mean,
    signal_variance,
)

TR = 720.0
OBSERVABLES = {
    "mean": signal_mean,
    "variance": signal_variance,
    "lagged covariance": lambda bold: lagged_covariance(bold, 3),
    "power": lambda bold: power_spectrum(bold, TR, 16).density,
    "cross": lambda bold: jnp.angle(cross_spectrum(bold, TR, 16).density)[1:-1],
    "band-pass": lambda bold: band_pass(bold, 0.05, 0.3, TR),
    "GBC": lambda bold: global_brain_connectivity(compute_fc(bold)),
}


def _signals(seed=0, shape=(60, 4)):
    """Correlated signals with a trend."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + 0.05 * np.arange(shape[0])[:, None]


@given(st.integers(0, 2**32 - 1))
def test_mean_and_covariance_are_numpys(seed):
    bold = 10.0 + _signals(seed)
    np.testing.assert_allclose(signal_mean(bold), bold.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(signal_variance(bold), bold.var(axis=0, ddof=1), rtol=1e-13)
    np.testing.assert_allclose(lagged_covariance(bold, 0), np.cov(bold, rowvar=False), rtol=0, atol=1e-12)


@pytest.mark.parametrize("lag", [1, 3])
def test_lagged_covariance_is_the_sum_over_pairs_of_samples(lag):
    bold = _signals()
    centred = bold - bold.mean(axis=0)
    expected = sum(np.outer(centred[t + lag], centred[t]) for t in range(60 - lag)) / (60 - lag - 1)
    np.testing.assert_allclose(lagged_covariance(bold, lag), expected, rtol=0, atol=1e-13)
    # The earlier signal is the second index.
    assert np.max(np.abs(lagged_covariance(bold, lag) - expected.T)) > 1e-2


def test_lagged_covariance_of_a_linear_network_is_its_propagator_times_the_covariance():
    """Closed form of x(t + 1) = A x(t) + noise: C(1) = A C(0)."""
    rng = np.random.default_rng(0)
    a = np.array([[0.6, 0.3, 0.0], [0.0, 0.5, 0.2], [0.0, 0.0, 0.7]])
    x = np.zeros((200_000, 3))
    noise = rng.normal(size=x.shape)
    for t in range(1, len(x)):
        x[t] = a @ x[t - 1] + noise[t]
    estimate = lagged_covariance(x, 1) @ np.linalg.inv(lagged_covariance(x, 0))
    np.testing.assert_allclose(estimate, a, rtol=0, atol=0.01)


def test_global_brain_connectivity_is_the_mean_over_all_nodes_with_a_zero_diagonal():
    """WholeBrain's formula, whatever the diagonal."""
    fc = np.corrcoef(_signals().T)
    expected = (fc - fc * np.eye(4)).mean(axis=1)
    for diagonal in (0.0, 1.0, 7.0):
        np.fill_diagonal(fc, diagonal)
        np.testing.assert_allclose(global_brain_connectivity(fc), expected, rtol=1e-14)


@pytest.mark.parametrize("segment", [None, 16, 15])
def test_spectra_are_scipys(segment):
    bold = _signals()
    length = 60 if segment is None else segment
    frequencies, density = signal.welch(bold, fs=1000.0 / TR, nperseg=length, axis=0)
    spectrum = power_spectrum(bold, TR, segment)
    np.testing.assert_allclose(spectrum.frequencies, frequencies, rtol=1e-14)
    np.testing.assert_allclose(spectrum.density, density, rtol=1e-11, atol=1e-14)
    cross = cross_spectrum(bold, TR, segment).density
    for i in range(4):
        for j in range(4):
            _, expected = signal.csd(bold[:, j], bold[:, i], fs=1000.0 / TR, nperseg=length)
            np.testing.assert_allclose(cross[:, i, j], expected, rtol=0, atol=1e-12)


def test_segments_are_256_samples_unless_given():
    assert power_spectrum(_signals(shape=(600, 2)), TR).frequencies.shape == (129,)


def test_integral_of_the_density_of_noise_is_its_variance():
    bold = np.random.default_rng(0).normal(size=(4096, 3))
    spectrum = power_spectrum(bold, TR, 64)
    width = float(spectrum.frequencies[1])
    np.testing.assert_allclose(spectrum.density.sum(axis=0) * width, signal_variance(bold), rtol=0.03)


def _wholebrain_filter(bold, low, high, period, clip=True):
    nyquist = 1.0 / (2.0 * period / 1000.0)
    b, a = signal.butter(2, [low / nyquist, high / nyquist], btype="band")
    columns = []
    for column in bold.T:
        x = signal.detrend(column)
        x = x - x.mean()
        if clip:
            x[x > 3.0 * np.std(x)] = 3.0 * np.std(x)
            x[x < -3.0 * np.std(x)] = -3.0 * np.std(x)
        columns.append(signal.filtfilt(b, a, x, padlen=3 * (max(len(b), len(a)) - 1)))
    return np.transpose(columns)


@pytest.mark.parametrize("low, high, period", [(0.01, 0.09, 720.0), (0.02, 0.1, 2000.0)])
def test_band_pass_gives_the_numbers_of_wholebrain(low, high, period):
    bold = 100.0 + _signals(shape=(200, 4))
    bold[50, 1] += 40.0
    bold[70, 2] -= 40.0
    expected = _wholebrain_filter(bold, low, high, period)
    np.testing.assert_allclose(band_pass(bold, low, high, period), expected, rtol=0, atol=1e-9)
    unclipped = _wholebrain_filter(bold, low, high, period, clip=False)
    np.testing.assert_allclose(band_pass(bold, low, high, period, clip=None), unclipped, rtol=0, atol=1e-9)
    assert np.max(np.abs(unclipped - expected)) > 0.1


def test_band_pass_in_float32_is_close_to_float64():
    """A low band at a short period, where the polynomial of the whole filter has lost all digits in float32."""
    bold = _signals(shape=(300, 4)).astype(np.float32)
    single, double = band_pass(bold, 0.008, 0.08, TR), band_pass(bold.astype(float), 0.008, 0.08, TR)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-4 * np.abs(double).max())


def test_a_constant_signal_is_exactly_zero_after_the_filter_and_refused_by_fc():
    bold = _signals()
    bold[:, 2] = 0.1
    filtered = band_pass(bold, 0.05, 0.3, TR)
    np.testing.assert_array_equal(filtered[:, 2], np.zeros(60))
    with pytest.raises(ValueError, match="constant over all 60 samples at node 2"):
        compute_fc(filtered)


@pytest.mark.parametrize("name", OBSERVABLES)
def test_gradient_equals_central_differences(name):
    observable = OBSERVABLES[name]
    bold, direction = _signals(), _signals(1)
    weights = np.random.default_rng(2).normal(size=jax.eval_shape(observable, bold).shape)

    @jax.jit
    def weighted(bold):
        return jnp.sum(observable(bold) * weights)

    numeric = (weighted(bold + 1e-6 * direction) - weighted(bold - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.sum(jax.grad(weighted)(bold) * direction), numeric, rtol=1e-6)


@pytest.mark.parametrize("name", OBSERVABLES)
def test_takes_tvbs_shape_and_float32_and_works_inside_vmap(name):
    bold = _signals().astype(np.float32)
    result = OBSERVABLES[name](bold)
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(OBSERVABLES[name](bold[:, None, :, None]), result)
    mapped = jax.jit(jax.vmap(OBSERVABLES[name]))(np.stack([bold, 2.0 * bold]))
    np.testing.assert_allclose(mapped[0], result, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in OBSERVABLES if name != "GBC"])
def test_gaps_are_refused_by_the_index_of_the_node(name):
    bold = _signals()
    bold[7, 3] = np.nan
    with pytest.raises(ValueError, match="not finite at node 3:"):
        OBSERVABLES[name](bold)


def test_too_short_series_and_options_that_do_not_suit_are_named():
    bold = _signals()
    for message, call in {
        "a covariance at lag 59 needs at least 61": lambda: lagged_covariance(bold, 59),
        "lag = -1; give a whole number": lambda: lagged_covariance(bold, -1),
        "skip_t = 40 leaves 20; a segment of 32 needs at least 32": lambda: power_spectrum(bold, TR, 32, skip_t=40),
        "period = 0; give a finite number above 0": lambda: cross_spectrum(bold, 0),
        "band_pass needs at least 13": lambda: band_pass(bold[:12], 0.05, 0.3, TR),
        "give low < high < 0.694444 Hz": lambda: band_pass(bold, 0.05, 0.7, TR),
        "low = 0.0; give": lambda: band_pass(bold, 0.0, 0.3, TR),
        r"fc: shape \(4, 3\); give a square": lambda: global_brain_connectivity(np.ones((4, 3))),
        "1 of 4 values are not finite": lambda: global_brain_connectivity(np.array([[1.0, np.nan], [0.0, 1.0]])),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_skipped_samples_do_not_count():
    bold = _signals()
    later = bold[10:].copy()
    bold[:10] = np.nan
    np.testing.assert_array_equal(signal_mean(bold, skip_t=10), signal_mean(later))
    np.testing.assert_array_equal(lagged_covariance(bold, 2, skip_t=10), lagged_covariance(later, 2))
    np.testing.assert_array_equal(band_pass(bold, 0.05, 0.3, TR, skip_t=10), band_pass(later, 0.05, 0.3, TR))
