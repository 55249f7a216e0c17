"""The losses equal their textbook formulas, have a usable gradient, and refuse matrices that do not match."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from tvb_jaxfit.loss import fc_corr, rmse, rmse_corr

seeds = st.integers(0, 2**32 - 1)
gradients = {loss: jax.jit(jax.grad(loss)) for loss in (rmse, fc_corr)}
off_diagonal = ~np.eye(6, dtype=bool)


def _fc(seed, n_node=6):
    """Symmetric matrix with a zero diagonal."""
    upper = np.triu(np.random.default_rng(seed).uniform(-1, 1, (n_node, n_node)), k=1)
    return upper + upper.T


@given(seeds)
def test_rmse_is_the_root_of_the_mean_square_over_the_whole_matrix(seed):
    fc, target = _fc(seed), _fc(seed + 1)
    np.testing.assert_allclose(rmse(fc, target), np.sqrt(((fc - target) ** 2).sum() / 36), rtol=1e-14)


@given(seeds)
def test_fc_corr_is_pearsons_r_over_the_off_diagonal_entries(seed):
    fc, target = _fc(seed), _fc(seed + 1)
    expected = pearsonr(fc[off_diagonal], target[off_diagonal]).statistic
    np.testing.assert_allclose(fc_corr(fc, target), expected, rtol=0, atol=1e-14)


@given(seeds)
def test_fc_corr_ignores_the_diagonal_unless_told_to_include_it(seed):
    fc, target = _fc(seed), _fc(seed + 1)
    with_ones = fc + np.eye(6)
    assert fc_corr(with_ones, target) == fc_corr(fc, target)
    expected = np.corrcoef(with_ones.ravel(), target.ravel())[0, 1]
    np.testing.assert_allclose(fc_corr(with_ones, target, include_diagonal=True), expected, rtol=0, atol=1e-14)


def test_the_diagonal_flatters_matrices_of_positive_entries_that_have_nothing_in_common():
    fc, target = ((0.5 + 0.1 * _fc(seed, 40)) * ~np.eye(40, dtype=bool) for seed in (0, 1))
    assert abs(fc_corr(fc, target)) < 0.05 < 0.5 < fc_corr(fc, target, include_diagonal=True)


@pytest.mark.parametrize("loss", [rmse, fc_corr])
@given(seed=seeds)
def test_gradient_equals_central_differences(loss, seed):
    fc, target, direction = _fc(seed), _fc(seed + 1), _fc(seed + 2)
    numeric = (loss(fc + 1e-5 * direction, target) - loss(fc - 1e-5 * direction, target)) / 2e-5
    np.testing.assert_allclose(np.sum(gradients[loss](fc, target) * direction), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_gradient_of_rmse_is_zero_at_its_minimum(transform):
    fc = _fc(0)
    value, gradient = transform(jax.value_and_grad(rmse))(jnp.asarray(fc), fc)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((6, 6)))


@pytest.mark.parametrize("loss", [rmse, fc_corr])
def test_a_nan_in_the_simulated_fc_reaches_the_loss(loss):
    fc = _fc(0)
    fc[1, 2] = np.nan
    assert jnp.isnan(loss(fc, _fc(1)))
    assert jnp.isnan(jax.jit(loss)(fc, _fc(1)))


@pytest.mark.parametrize("loss", [rmse, fc_corr])
def test_the_result_has_the_dtype_of_fc_whatever_that_of_the_target(loss):
    fc, target = _fc(0), np.round(_fc(1))
    expected = loss(fc, target)
    for other in (target.astype(np.float32), target.astype(int), jnp.asarray(target)):
        result = loss(fc, other)
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result, expected, rtol=1e-14)
    result = loss(fc.astype(np.float32), target)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", [rmse, fc_corr])
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1), (6,), (5, 5), (1, 6, 6)])
def test_unequal_shapes_are_refused_and_never_broadcast(loss, shape):
    with pytest.raises(ValueError, match=r"fc has shape \(6, 6\) and target \(.*\); they must be equal"):
        loss(_fc(0), np.full(shape, 0.5))


@pytest.mark.parametrize("loss", [rmse, fc_corr])
@pytest.mark.parametrize("shape", [(6, 5), (36,), (1, 6, 6)])
def test_matrices_that_are_not_square_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"expected square matrices"):
        loss(np.ones(shape), np.ones(shape))


@pytest.mark.parametrize("fc, target", [(_fc(0), np.full((6, 6), 0.1)), (np.full((6, 6), 0.1), _fc(0))])
def test_equal_entries_have_no_correlation(fc, target):
    with pytest.raises(ValueError, match=r"(fc|target): all entries are 0\.1,"):
        fc_corr(fc, target)


def test_equal_entries_off_the_diagonal_have_no_correlation_unless_the_diagonal_counts():
    fc, target = np.full((6, 6), 0.5) * off_diagonal, _fc(0)
    with pytest.raises(ValueError, match=r"fc: all entries are 0\.5,"):
        fc_corr(fc, target)
    expected = np.corrcoef(fc.ravel(), np.ravel(target))[0, 1]
    np.testing.assert_allclose(fc_corr(fc, target, include_diagonal=True), expected, rtol=1e-12)


def test_equal_entries_of_fc_are_nan_under_a_trace():
    assert jnp.isnan(jax.jit(fc_corr)(jnp.full((6, 6), 0.1), _fc(0)))


@pytest.mark.parametrize("loss", [rmse, fc_corr])
@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray])
def test_a_target_that_is_not_finite_is_refused_even_where_fc_is_traced(loss, as_array):
    target = _fc(0)
    target[1, 2] = target[2, 1] = np.nan
    target = as_array(target)
    with pytest.raises(ValueError, match=r"target has 2 entries that are not finite"):
        jax.jit(lambda fc: loss(fc, target))(_fc(1))


def test_two_nodes_are_too_few_for_a_correlation():
    with pytest.raises(ValueError, match=r"\(2, 2\).* 3 nodes or more"):
        fc_corr(_fc(0, 2), _fc(1, 2))


@pytest.mark.parametrize("loss", [rmse, fc_corr])
def test_dtypes_that_would_be_cut_off_are_refused(loss):
    with pytest.raises(TypeError, match=r"fc has dtype int64"):
        loss(_fc(0).astype(int), _fc(1))
    with pytest.raises(TypeError, match=r"target has dtype complex128"):
        loss(_fc(0), _fc(1).astype(complex))


@pytest.mark.parametrize("loss", [rmse, fc_corr, rmse_corr])
def test_columns_of_pandas_own_types_have_gaps_too(loss):
    pandas = pytest.importorskip("pandas")
    fc, target = _pair_of(5)
    target[0, 1] = target[1, 0] = np.nan
    frame = pandas.DataFrame(target).convert_dtypes()
    assert any(str(dtype) == "Float64" for dtype in frame.dtypes)
    assert float(loss(fc, frame, missing="ignore")) == float(loss(fc, target, missing="ignore"))
    with pytest.raises(ValueError, match="2 entries that are not finite"):
        loss(fc, frame)


@pytest.mark.parametrize("target,said", [(None, "no real numbers"), ("fc", "values of type")])
def test_what_is_no_matrix_is_named(target, said):
    with pytest.raises(ValueError, match=f"target: .*{said}"):
        rmse(_pair_of(5)[0], target)


def _pair_of(n_node):
    random = np.random.default_rng(0)
    return tuple(np.corrcoef(random.normal(size=(n_node, 40))) for _ in range(2))
