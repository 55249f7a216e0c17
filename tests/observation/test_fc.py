"""The functional connectivity is numpy's correlation, exactly differentiable, and never a silent NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvb_jaxfit.observation import compute_fc

seeds = st.integers(0, 2**32 - 1)
# Few shapes, since each one is compiled; one has more nodes than samples.
shapes = st.sampled_from([(3, 2), (20, 5), (7, 30)])


def _signals(seed, shape=(20, 5)):
    """Correlated Gaussian signals."""
    rng = np.random.default_rng(seed)
    n_time, n_node = shape
    return rng.normal(size=shape) @ rng.normal(size=(n_node, n_node)) + rng.normal(size=(n_time, 1))


def _numpy_fc(bold):
    fc = np.corrcoef(bold, rowvar=False)
    np.fill_diagonal(fc, 0.0)
    return fc


@jax.jit
def _weighted(bold, weights):
    return jnp.sum(compute_fc(bold, skip_t=2) * weights)


_gradient = jax.jit(jax.grad(_weighted))


@given(seeds, shapes)
def test_equals_numpy_with_a_zero_diagonal(seed, shape):
    bold = _signals(seed, shape)
    np.testing.assert_allclose(compute_fc(bold), _numpy_fc(bold), rtol=0, atol=1e-12)


@given(seeds, shapes)
def test_is_symmetric_with_an_exactly_zero_diagonal(seed, shape):
    fc = np.asarray(compute_fc(_signals(seed, shape)))
    np.testing.assert_allclose(fc, fc.T, rtol=0, atol=1e-15)
    assert (np.diag(fc) == 0).all()


@given(seeds, st.floats(-1e3, 1e3), st.floats(-200, 200), st.integers(0, 4))
def test_shift_and_scale_of_a_signal_change_at_most_its_sign(seed, shift, exponent, node):
    bold = _signals(seed)
    changed = bold.copy()
    changed[:, node] = -(10.0**exponent) * (bold[:, node] + shift)
    expected = np.array(compute_fc(bold))
    expected[node, :] *= -1
    expected[:, node] *= -1
    # Only the shift loses digits: 1e3 is added to signals of order 1.
    np.testing.assert_allclose(compute_fc(changed), expected, rtol=0, atol=1e-11)


def test_takes_what_a_tvb_monitor_returns():
    bold = _signals(0)
    np.testing.assert_array_equal(compute_fc(bold[:, None, :, None]), compute_fc(bold))


def test_takes_jax_arrays_as_it_takes_numpy_arrays():
    bold = _signals(0)
    np.testing.assert_array_equal(compute_fc(jnp.asarray(bold)), compute_fc(bold))


@pytest.mark.parametrize("shape", [(20, 5), (20, 1, 5, 1)])
def test_skip_t_drops_samples_from_the_beginning(shape):
    bold = _signals(0)
    bold[:6] = np.nan
    np.testing.assert_array_equal(compute_fc(bold.reshape(shape), skip_t=6), compute_fc(bold[6:]))


@given(seeds)
def test_gradient_equals_central_differences(seed):
    rng = np.random.default_rng(seed)
    bold, direction, weights = _signals(seed), rng.normal(size=(20, 5)), rng.normal(size=(5, 5))
    numeric = (_weighted(bold + 1e-5 * direction, weights) - _weighted(bold - 1e-5 * direction, weights)) / 2e-5
    analytic = np.sum(_gradient(bold, weights) * direction)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-7)


def test_second_derivative_equals_central_differences_of_the_first():
    # The gradient treats shift and scale as constants: correct at any order only if the result does not depend on them.
    bold, direction, weights = _signals(1), _signals(2), _signals(3, (5, 5))
    _, analytic = jax.jvp(lambda bold: _gradient(bold, weights), (bold,), (direction,))
    numeric = (_gradient(bold + 1e-5 * direction, weights) - _gradient(bold - 1e-5 * direction, weights)) / 2e-5
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-7)


def test_gradient_is_zero_for_identical_and_for_opposite_signals():
    """Correlations of 1 and -1 at the extremes, and of about 0 with a third signal."""
    one, other = _signals(0)[:, :1], _signals(0)[:, 1:2]
    np.testing.assert_allclose(_gradient(np.hstack([one, one, -one]), np.ones((3, 3))), 0.0, atol=1e-14)
    assert np.max(np.abs(_gradient(np.hstack([one, one, other]), np.ones((3, 3))))) > 1e-2


def test_float32_stays_float32_and_keeps_a_small_fluctuation_about_a_large_offset():
    bold = (1e3 + _signals(0)).astype(np.float32)
    fc = compute_fc(bold)
    assert fc.dtype == jnp.float32
    # The reference sees the same rounded samples, in float64.
    np.testing.assert_allclose(fc, _numpy_fc(bold.astype(np.float64)), rtol=0, atol=2e-6)


def test_float32_gradient_agrees_with_float64():
    bold, weights = _signals(0).astype(np.float32), _signals(1, (5, 5)).astype(np.float32)
    single, double = _gradient(bold, weights), _gradient(bold.astype(np.float64), weights.astype(np.float64))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())


# 0.1 is no binary number: the mean of its copies is not always 0.1, and the remainder must not be correlated.
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300])
def test_constant_signals_are_refused_by_their_index(constant):
    bold = _signals(0)
    bold[5:, [1, 3]] = constant
    with pytest.raises(ValueError, match=r"constant over all 15 samples at nodes 1, 3,"):
        compute_fc(bold, skip_t=5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300])
@pytest.mark.parametrize("transform", [jax.jit, lambda fc: lambda bold: jax.vmap(fc)(bold[None])[0]])
def test_constant_signals_are_nan_under_a_trace_and_the_others_are_not(constant, transform):
    bold = _signals(0)
    expected = _numpy_fc(bold)
    bold[:, 2] = constant
    expected[2, :] = expected[:, 2] = np.nan
    expected[2, 2] = 0.0
    np.testing.assert_allclose(transform(compute_fc)(jnp.asarray(bold)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_signals_that_are_not_finite_are_refused_by_their_index(value):
    bold = _signals(0)
    bold[7, 4] = value
    with pytest.raises(ValueError, match=r"not finite at node 4:"):
        compute_fc(bold)


def test_only_the_first_ten_of_many_nodes_are_named():
    with pytest.raises(ValueError, match=r"nodes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 74 more,"):
        compute_fc(np.ones((20, 84)))


@pytest.mark.parametrize("shape", [(20, 2, 5, 1), (20, 1, 5, 3)])
def test_several_variables_or_modes_are_refused_and_one_is_to_be_selected(shape):
    with pytest.raises(ValueError, match=rf"n_voi = {shape[1]} and n_mode = {shape[3]}.*bold\[:, :1, :, :1\]"):
        compute_fc(np.ones(shape))


@pytest.mark.parametrize("shape", [(20,), (20, 1, 5), (20, 1, 5, 1, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n_time, n_node\)"):
        compute_fc(np.ones(shape))


def test_three_samples_are_enough_and_two_are_not():
    bold = _signals(0)
    expected = np.corrcoef(bold[17:].T)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(compute_fc(bold, skip_t=17), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"20 samples and skip_t = 18 leaves 2; FC needs at least 3"):
        compute_fc(bold, skip_t=18)
    with pytest.raises(ValueError, match=r"20 samples and skip_t = 30 leaves 0;"):
        compute_fc(bold, skip_t=30)


def test_a_negative_skip_t_is_refused():
    with pytest.raises(ValueError, match=r"skip_t is -5"):
        compute_fc(_signals(0), skip_t=-5)


def test_integers_and_complex_numbers_are_refused():
    for dtype in (int, complex):
        with pytest.raises(TypeError, match=r"floating dtype"):
            compute_fc(_signals(0).astype(dtype))
