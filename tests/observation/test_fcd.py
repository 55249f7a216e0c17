"""FCD has the numbers of the published codes, exact derivatives, and never a silent NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import hilbert

from tvb_jaxfit import FCD, compute_fcd, compute_phase_fcd

TR = 720.0


def _signals(seed=0, n_time=220, n_node=6):
    """Correlated signals whose correlations drift."""
    rng = np.random.default_rng(seed)
    drift = np.sin(np.arange(n_time) / 30.0)[:, None]
    shared = rng.normal(size=(n_time, 1)) * (1.0 + drift * rng.normal(size=n_node))
    return shared + rng.normal(size=(n_time, n_node))


def _triangle(fc):
    return fc[np.tril_indices(len(fc), -1)]


def _shape(observable, bold):
    """Shape of the matrix, without computing it."""
    return jax.eval_shape(observable, bold).matrix.shape


def _cubnm(bold, tr):
    """Windows of an even number of TRs plus their centre; those beyond the edges are dropped."""
    half, step = int(np.round(30.0 / (2.0 * tr))), int(np.round(5.0 / tr))
    centres = [c for c in range(half, len(bold), step) if c + half <= len(bold) - 1]
    return np.corrcoef([_triangle(np.corrcoef(bold[c - half : c + half + 1].T)) for c in centres])


def _cbig(bold):
    """83 frames, one after the other; correlations from means of products."""
    rows = []
    for start in range(len(bold) - 83 + 1):
        x = bold[start : start + 83] - bold[start : start + 83].mean(axis=0)
        covariance = x.T @ x / 83
        variance = np.diag(covariance)
        rows.append(_triangle(covariance / np.sqrt(np.outer(variance, variance))))
    return np.corrcoef(rows)


def _deco(bold, window=30, step=3):
    """From t to t + window, both included."""
    starts = np.arange(0, len(bold) - window, step)
    return np.corrcoef([_triangle(np.corrcoef(bold[t : t + window + 1].T)) for t in starts])


def _neurolib(bold):
    """Whole matrices; no window ends with the last sample."""
    return np.corrcoef([np.corrcoef(bold[t : t + 30].T).ravel() for t in range(0, len(bold) - 30, 5)])


def _tvb(bold, period):
    """Window and step in fractions of samples, rounded down."""
    window, step = 120_000.0 / period, 2_000.0 / period
    start, rows = -step, []
    for _ in range(int((len(bold) - window) / step)):
        start += step
        rows.append(_triangle(np.corrcoef(bold[int(start) : int(start + window) + 1].T)))
    return np.corrcoef(rows)


PUBLISHED = {
    "cubnm": lambda bold: _cubnm(bold, TR / 1000.0),
    "cbig": _cbig,
    "deco": _deco,
    "neurolib": _neurolib,
    "tvb": lambda bold: _tvb(bold, TR),
}


@pytest.mark.parametrize("definition", PUBLISHED)
def test_definitions_give_the_numbers_of_the_published_codes(definition):
    bold = _signals()
    expected = PUBLISHED[definition](bold)
    fcd = compute_fcd(bold, definition=definition, period=TR)
    np.testing.assert_allclose(fcd.matrix, expected, rtol=0, atol=2e-14)
    np.testing.assert_array_equal(fcd.distribution, np.asarray(fcd.matrix)[np.triu_indices(len(expected), 1)])
    # The others do not.
    n_window, first = expected.shape[0], expected[0, :5]
    for name, other in PUBLISHED.items():
        if name != definition:
            other = other(bold)
            assert len(other) != n_window or np.max(np.abs(other[0, :5] - first)) > 1e-3


def test_windows_of_tvb_are_exact_where_they_are_whole_numbers_of_samples():
    bold = _signals(n_time=140)
    np.testing.assert_allclose(
        compute_fcd(bold, definition="tvb", period=1000.0).matrix, _tvb(bold, 1000.0), rtol=0, atol=2e-14
    )


def test_window_and_step_replace_those_of_a_definition():
    bold = _signals(n_time=100)
    np.testing.assert_allclose(
        compute_fcd(bold, 40, 10, definition="deco").matrix, _deco(bold, 40, 10), rtol=0, atol=2e-14
    )


@pytest.mark.parametrize(
    "definition, n_time, period, n_window",
    [
        ("cbig", 1200, None, 1118),  # Kong et al. (2021)
        ("deco", 220, None, 64),  # 220 samples: starts 0, 3 ... 189
        ("cubnm", 1200, TR, 166),  # windows of 43 frames, steps of 7
    ],
)
def test_numbers_of_windows_are_the_published_ones(definition, n_time, period, n_window):
    bold = np.ones((n_time, 3))
    shape = _shape(lambda bold: compute_fcd(bold, definition=definition, period=period), bold)
    assert shape == (n_window, n_window)


def test_without_a_definition_all_windows_that_fit_are_taken():
    bold = _signals(n_time=50)
    expected = np.corrcoef([_triangle(np.corrcoef(bold[t : t + 20].T)) for t in (0, 15, 30)])
    np.testing.assert_allclose(compute_fcd(bold, 20, 15).matrix, expected, rtol=0, atol=1e-14)


def test_takes_tvbs_shape_and_skips_samples():
    bold = _signals(n_time=60)
    expected = compute_fcd(bold[10:], 20, 10).matrix
    bold[:10] = np.nan
    np.testing.assert_array_equal(compute_fcd(bold[:, None, :, None], 20, 10, skip_t=10).matrix, expected)


def test_pairs_of_windows_with_common_samples_can_be_left_out():
    fcd = compute_fcd(_signals(n_time=60), 20, 10, overlapping=False)
    pairs = [(i, j) for i in range(5) for j in range(5) if 10 * j >= 10 * i + 20]
    np.testing.assert_array_equal(fcd.distribution, [fcd.matrix[pair] for pair in pairs])
    with pytest.raises(ValueError, match="overlapping = False: all 5 windows have common samples"):
        compute_fcd(_signals(n_time=24), 20, 1, overlapping=False)


def _wholebrain_phase_fcd(bold, offset=10):
    """Phases, and cosines of their differences, sample by sample; sums of three."""
    phases = np.angle(hilbert(bold - bold.mean(axis=0), axis=0))
    patterns = []
    for t in range(offset, len(bold) - offset + 1):
        difference = np.abs(phases[t - 1][:, None] - phases[t - 1][None, :])
        patterns.append(_triangle(np.cos(np.where(difference > np.pi, 2 * np.pi - difference, difference))))
    summed = [sum(patterns[t : t + 3]) for t in range(len(patterns) - 2)]
    unit = np.array([each / np.linalg.norm(each) for each in summed])
    return unit @ unit.T


@pytest.mark.parametrize("n_time", [60, 61])
def test_phase_fcd_gives_the_numbers_of_wholebrain(n_time):
    bold = 100.0 + np.cumsum(_signals(n_time=n_time), axis=0)
    expected = _wholebrain_phase_fcd(bold)
    assert len(expected) == n_time - 21
    fcd = compute_phase_fcd(bold)
    np.testing.assert_allclose(fcd.matrix, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(fcd.distribution, np.asarray(fcd.matrix)[np.triu_indices(n_time - 21, 1)])
    # Without the sums, the numbers are others.
    assert np.max(np.abs(compute_phase_fcd(bold, n_average=1).matrix[1:-1, 1:-1] - expected)) > 1e-3


def test_phase_fcd_without_edges_and_sums_compares_all_samples():
    bold = _signals(n_time=30)
    assert _shape(lambda bold: compute_phase_fcd(bold, edge=0, n_average=1), bold) == (30, 30)
    assert compute_phase_fcd(bold, edge=0, overlapping=False).distribution.shape == (25 * 26 // 2,)


OBSERVABLES = {
    "windows of one length": lambda bold: compute_fcd(bold, 20, 7),
    "phases": lambda bold: compute_phase_fcd(bold, edge=3),
}


@pytest.mark.parametrize("observable", OBSERVABLES.values(), ids=OBSERVABLES)
def test_gradient_equals_central_differences(observable):
    bold, direction = _signals(0, 50, 4), _signals(1, 50, 4)
    n_window = observable(bold).matrix.shape[0]
    weights = np.random.default_rng(2).normal(size=(n_window, n_window))

    @jax.jit
    def weighted(bold):
        fcd = observable(bold)
        return jnp.sum(fcd.matrix * weights) + jnp.sum(jnp.sin(5.0 * fcd.distribution))

    numeric = (weighted(bold + 1e-5 * direction) - weighted(bold - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(np.sum(jax.grad(weighted)(bold) * direction), numeric, rtol=1e-6)


def test_works_inside_vmap_as_a_pytree():
    bold = np.stack([_signals(0, 50, 4), _signals(1, 50, 4)])
    fcd = jax.vmap(lambda each: compute_fcd(each, 20, 7))(bold)
    assert isinstance(fcd, FCD)
    for index in range(2):
        np.testing.assert_allclose(fcd.matrix[index], compute_fcd(bold[index], 20, 7).matrix, rtol=0, atol=1e-14)


def test_float32_stays_float32_and_keeps_a_small_fluctuation_about_a_large_offset():
    bold = (1e3 + _signals(n_time=60)).astype(np.float32)
    fcd, phase = compute_fcd(bold, 20, 10), compute_phase_fcd(bold)
    assert fcd.matrix.dtype == fcd.distribution.dtype == phase.matrix.dtype == jnp.float32
    wide = bold.astype(np.float64)
    np.testing.assert_allclose(fcd.matrix, compute_fcd(wide, 20, 10).matrix, rtol=0, atol=1e-5)
    np.testing.assert_allclose(phase.matrix, compute_phase_fcd(wide).matrix, rtol=0, atol=1e-4)


def test_a_long_recording_needs_no_gigabytes():
    """1200 samples of 100 regions at every step: intermediate results of the value, and of the gradient."""

    def power(bold):
        return jnp.sum(jnp.square(compute_fcd(bold, definition="cbig").distribution))

    bold = jax.ShapeDtypeStruct((1200, 100), jnp.float64)
    for function, limit in ((power, 0.2e9), (jax.grad(power), 0.4e9)):
        assert jax.jit(function).lower(bold).compile().memory_analysis().temp_size_in_bytes < limit


def test_a_signal_that_is_constant_in_a_window_is_named_with_the_window():
    bold = _signals(n_time=60)
    bold[20:40, [1, 3]] = 0.1
    # Almost the whole of a window is not the whole.
    bold[41:60, 2] = 0.1
    with pytest.raises(ValueError, match=r"constant in 1 of 5 windows, the first of samples 20 to 39 .* nodes 1, 3,"):
        compute_fcd(bold, 20, 10)
    with pytest.raises(ValueError, match=r"samples 10 to 29 "):
        compute_fcd(bold, 20, 10, skip_t=10)


def test_a_signal_that_is_constant_in_a_window_makes_its_row_nan_under_a_trace():
    bold = _signals(n_time=60)
    expected = np.array(compute_fcd(bold, 20, 10).matrix)
    bold[:20, 1] = 0.1
    expected[0] = expected[:, 0] = np.nan
    found = jax.jit(lambda bold: compute_fcd(bold, 20, 10).matrix)(bold)
    assert np.isnan(found[0]).all() and np.isnan(found[:, 0]).all()
    # Window 1 has 10 of the constant samples.
    np.testing.assert_allclose(found[2:, 2:], expected[2:, 2:], rtol=0, atol=1e-14)


@pytest.mark.parametrize("observable", [lambda bold: compute_fcd(bold, 20, 10), compute_phase_fcd])
def test_gaps_few_nodes_and_constant_signals_are_refused(observable):
    bold = _signals(n_time=60)
    bold[30, 4] = np.nan
    with pytest.raises(ValueError, match="not finite at node 4:"):
        observable(bold)
    with pytest.raises(ValueError, match="bold has 2 nodes; .* needs 3 nodes or more"):
        observable(bold[:, :2])
    with pytest.raises(ValueError, match="bold is constant "):
        observable(np.ones((60, 4)))
    with pytest.raises(TypeError, match="bold has dtype int64; (phase )?FCD needs a floating dtype"):
        observable(np.ones((60, 4), int))


@pytest.mark.parametrize("definition, needed", [("cubnm", 50), ("cbig", 84), ("deco", 34), ("neurolib", 36)])
def test_too_short_series_are_refused_with_the_length_that_is_needed(definition, needed):
    bold = _signals(n_time=needed)
    assert _shape(lambda bold: compute_fcd(bold, definition=definition, period=TR), bold) == (2, 2)
    with pytest.raises(ValueError, match=f"bold has {needed - 1} samples after skip_t; .* need at least {needed}"):
        compute_fcd(bold[1:], definition=definition, period=TR)


def test_a_series_without_two_sums_of_phases_is_refused():
    assert _shape(compute_phase_fcd, _signals(n_time=23)) == (2, 2)
    with pytest.raises(ValueError, match="phase FCD needs at least 23"):
        compute_phase_fcd(_signals(n_time=22))


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "give window and step in samples, or the name of a definition: 'cubnm'"),
        ({"window": 20}, "give window and step in samples"),
        ({"definition": "cbgi"}, "did you mean 'cbig'"),
        ({"definition": "cubnm"}, "windows of 30000 ms and steps of 5000 ms; give the sampling period in ms"),
        ({"definition": "tvb", "window": 20}, "give the sampling period in ms"),
        ({"definition": "cubnm", "window": 21, "step": 2}, "window = 21; give an even number"),
        ({"definition": "cubnm", "period": 20_000.0}, "period = 20000 ms gives windows of 2 samples and steps of 0"),
        ({"window": 20.5, "step": 0}, "window = 20.5; .* step = 0; give a whole number"),
        ({"window": 20, "step": 5, "period": -1.0}, "period = -1.0; give a finite number above 0"),
    ],
)
def test_options_that_do_not_suit_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        compute_fcd(_signals(), **options)
