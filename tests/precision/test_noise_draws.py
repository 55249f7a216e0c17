"""Draws of fresh noise are standard normal."""

import jax
import numpy as np
import pytest
from scipy import stats

from tvb_jaxfit.dynamics.noise import _normal_of, standard_normal


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_draws_have_the_distribution_of_independent_normal_values(impl):
    draws = np.asarray(standard_normal(jax.random.key(3, impl=impl), (3001, 333), float))
    x, n = draws.ravel(), draws.size
    assert stats.kstest(x, "norm").pvalue > 1e-3
    # Standard errors of independent normal values.
    errors = [x.mean() * np.sqrt(n), (x.var() - 1.0) * np.sqrt(n / 2), stats.kurtosis(x) * np.sqrt(n / 24)]
    for lag in (1, 2, 333, n // 2):
        errors.append(np.mean(x[lag:] * x[:-lag]) * np.sqrt(n - lag))
    assert np.max(np.abs(errors)) < 4.0
    other = np.asarray(standard_normal(jax.random.key(4, impl=impl), (3001, 333), float))
    assert abs(np.mean(x * other.ravel())) * np.sqrt(n) < 4.0


def test_quantiles_are_those_of_the_normal_distribution_to_single_precision():
    k = np.array([0, 1, 1000, 2**21, 2**22 - 1, 2**22, 2**23 - 2, 2**23 - 1])
    found = np.asarray(_normal_of((k << 9).astype(np.uint32)))
    np.testing.assert_allclose(found, stats.norm.ppf((k + 0.5) / 2**23), rtol=2e-6)
    np.testing.assert_array_equal(found, -found[[7, 6, 2, 3, 5, 4, 1, 0]] * [1, 1, -1, -1, 1, 1, 1, 1])
    assert np.isfinite(found).all() and 5.2 < found[-1] < 5.4
    # The lowest bits, which are not used, change nothing.
    np.testing.assert_array_equal(_normal_of(((k << 9) + 511).astype(np.uint32)), found)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_precisions_draw_the_same_values(dtype):
    draws = standard_normal(jax.random.key(0), (5, 3), dtype)
    assert draws.dtype == dtype
    np.testing.assert_array_equal(draws, standard_normal(jax.random.key(0), (5, 3), np.float32).astype(dtype))
