"""Distances of distributions are SciPy's and CBIG's; smooth ones have their gradients, and the exact one as a limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from scipy.stats import wasserstein_distance as scipy_wasserstein

from tvb_jaxfit import ks_distance, soft_ks_distance, wasserstein_distance

seeds = st.integers(0, 2**32 - 1)
# Few shapes, since each one is compiled.
sizes = st.sampled_from([(20, 20), (12, 18), (1, 7)])
DISTANCES = {
    "exact": ks_distance,
    "histogram": lambda x, y: ks_distance(x, y, "cbig"),
    "soft": lambda x, y: soft_ks_distance(x, y, 0.1),
    "wasserstein": wasserstein_distance,
    "wasserstein 2": lambda x, y: wasserstein_distance(x, y, order=2),
}
SOFT = jax.jit(soft_ks_distance, static_argnums=2)
SMOOTH = [name for name in DISTANCES if name not in ("exact", "histogram")]


def _pair(seed, size=(20, 20), digits=12):
    """Samples of correlations; few digits make ties."""
    rng = np.random.default_rng(seed)
    return tuple(np.round(rng.uniform(-1, 1, n) * rng.uniform(0.2, 1.0), digits) for n in size)


@given(seeds, sizes, st.sampled_from([1, 12]))
def test_ks_distance_is_scipys_with_and_without_ties(seed, size, digits):
    x, y = _pair(seed, size, digits)
    expected = ks_2samp(x, y).statistic
    for known in (True, False):
        distance = ks_distance if known else jax.jit(ks_distance)
        np.testing.assert_allclose(distance(x, y), expected, rtol=0, atol=1e-15)


@given(seeds, sizes)
def test_ks_distance_of_cbig_is_that_of_cumulated_histograms(seed, size):
    x, y = _pair(seed, size, 3)
    x[0] = 1.0
    cumulated = [np.cumsum(np.histogram(each, bins=10_000, range=(-1.0, 1.0))[0]) / each.size for each in (x, y)]
    expected = np.max(np.abs(cumulated[0] - cumulated[1]))
    np.testing.assert_allclose(ks_distance(x, y, "cbig"), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(jax.jit(ks_distance, static_argnums=2)(x, y, "cbig"), expected, rtol=0, atol=1e-15)


def test_bins_do_not_see_differences_within_them_and_the_exact_distance_does():
    x = 0.30002 + np.linspace(0.0, 1e-5, 10)
    assert ks_distance(x, x + 2e-5, "cbig") == 0.0
    assert ks_distance(x, x + 2e-5, "cubnm") == ks_distance(x, x + 2e-5) == 1.0


@given(seeds, sizes)
def test_soft_ks_distance_is_the_largest_difference_of_smoothed_functions(seed, size):
    x, y = _pair(seed, size)
    places = np.linspace(-1.2, 1.4, 20_001)
    smooth = [np.mean(np.clip((places[:, None] - each) / 0.1, 0.0, 1.0), axis=1) for each in (x, y)]
    # The slope is at most 1 / width: between places 1.3e-4 apart, at most 1.3e-3 is missed.
    difference = float(SOFT(x, y, 0.1)) - np.max(np.abs(smooth[0] - smooth[1]))
    assert -1e-12 < difference < 7e-4


@given(seeds, sizes)
def test_soft_ks_distance_is_at_most_the_exact_one_and_tends_to_it(seed, size):
    x, y = _pair(seed, size)
    exact = float(ks_distance(x, y))
    distances = [float(SOFT(x, y, width)) for width in (1.0, 0.1, 1e-9)]
    assert max(distances) <= exact + 1e-12
    np.testing.assert_allclose(distances[-1], exact, rtol=0, atol=1e-6)
    assert distances[0] < exact


@given(seeds, sizes)
def test_wasserstein_distance_is_scipys(seed, size):
    x, y = _pair(seed, size)
    np.testing.assert_allclose(wasserstein_distance(x, y), scipy_wasserstein(x, y), rtol=1e-12, atol=1e-15)


@given(seeds, sizes)
def test_wasserstein_distance_of_order_2_is_that_of_repeated_values(seed, size):
    """Repeated to a common length, samples have the same distribution and are paired one to one."""
    x, y = _pair(seed, size)
    n_common = np.lcm(*size)
    repeated = [np.sort(np.repeat(each, n_common // each.size)) for each in (x, y)]
    expected = np.sqrt(np.mean((repeated[0] - repeated[1]) ** 2))
    np.testing.assert_allclose(wasserstein_distance(x, y, order=2), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("size", [(20, 20), (12, 18)])
def test_gradient_equals_central_differences(name, size):
    distance = jax.jit(DISTANCES[name])
    x, y = _pair(3, size)
    directions = _pair(4, size)

    def along(step):
        return distance(x + step * directions[0], y + step * directions[1])

    gradients = jax.grad(distance, argnums=(0, 1))(x, y)
    analytic = sum(np.sum(gradient * direction) for gradient, direction in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(analytic, (along(1e-7) - along(-1e-7)) / 2e-7, rtol=1e-6)
    assert abs(analytic) > 1e-3


def test_gradient_of_the_exact_distance_is_zero_and_smooth_ones_move_samples_together():
    x, y = _pair(0)
    np.testing.assert_array_equal(jax.grad(ks_distance)(x, y), np.zeros(20))
    for name in SMOOTH:
        distance = DISTANCES[name]
        assert distance(x - 1e-3 * jax.grad(distance)(x, y), y) < distance(x, y)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_samples_have_no_distance_and_a_finite_gradient(name):
    x, _ = _pair(0)
    value, gradient = jax.jit(jax.value_and_grad(DISTANCES[name]))(x, x[::-1])
    # To the rounding of a mean.
    assert abs(value) < 1e-15
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_the_result_has_the_dtype_of_x_and_float32_is_close_to_float64(name):
    x, y = _pair(0)
    value = DISTANCES[name](x.astype(np.float32), y)
    assert value.dtype == jnp.float32 and value.shape == ()
    np.testing.assert_allclose(value, DISTANCES[name](x, y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_nan_is_refused_or_reaches_the_result_under_a_trace(name):
    x, y = _pair(0)
    broken = x.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="x: 1 of 20 values are not finite"):
        DISTANCES[name](broken, y)
    with pytest.raises(ValueError, match="y: 1 of 20 values are not finite"):
        jax.jit(lambda x: DISTANCES[name](x, broken))(x)
    assert np.isnan(jax.jit(DISTANCES[name])(broken, y))
    assert np.isnan(jax.jit(lambda x: DISTANCES[name](x, y))(broken))


@pytest.mark.parametrize("name", DISTANCES)
def test_a_target_that_is_a_constant_of_a_program_is_not_sorted_by_it(name):
    """XLA would sort a constant while it compiles, which takes minutes for the FCD of a long recording."""
    x, target = _pair(0)
    for constant in (target, jnp.asarray(target)):
        assert _sorts(jax.make_jaxpr(lambda x: DISTANCES[name](x, constant))(x)) == 1  # noqa: B023
    assert _sorts(jax.make_jaxpr(DISTANCES[name])(x, target)) == (1 if name == "exact" else 2)


def _sorts(program):
    """Number of sorts in a program, nested ones included."""
    inner = [value for equation in program.eqns for value in equation.params.values() if hasattr(value, "eqns")]
    return sum(equation.primitive.name == "sort" for equation in program.eqns) + sum(map(_sorts, inner))


def test_works_inside_vmap():
    x = np.stack([_pair(seed)[0] for seed in range(3)])
    y = _pair(0)[1]
    for distance in DISTANCES.values():
        expected = [jax.jit(distance)(each, y) for each in x]
        np.testing.assert_allclose(jax.jit(jax.vmap(distance, in_axes=(0, None)))(x, y), expected, rtol=0, atol=1e-13)


def test_arguments_that_do_not_suit_are_named():
    x, y = _pair(0)
    with pytest.raises(ValueError, match=r"y has shape \(4, 5\); give values in one dimension, such as compute_fcd"):
        ks_distance(x, y.reshape(4, 5))
    with pytest.raises(ValueError, match=r"x has shape \(0,\)"):
        wasserstein_distance(x[:0], y)
    with pytest.raises(TypeError, match="y has dtype int64; give a floating dtype"):
        soft_ks_distance(x, np.arange(4), 0.1)
    with pytest.raises(ValueError, match="width = 0.0; give a finite number above 0"):
        soft_ks_distance(x, y, 0.0)
    with pytest.raises(ValueError, match="definition = 'cbgi'; .*did you mean 'cbig'"):
        ks_distance(x, y, "cbgi")
    with pytest.raises(ValueError, match="order = 3; give 1 or 2"):
        wasserstein_distance(x, y, order=3)
