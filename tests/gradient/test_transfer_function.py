"""The transfer function y / (1 - exp(-y)) and its derivatives are accurate to rounding for every argument."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tvb_jaxfit.dynamics.transfer_function import rectifier

value = jax.jit(rectifier)
slope = jax.jit(jax.grad(rectifier))
slopes = jax.jit(jax.vmap(jax.grad(rectifier)))
curvature = jax.jit(jax.grad(jax.grad(rectifier)))
curvatures = jax.jit(jax.vmap(jax.grad(jax.grad(rectifier))))

# Tolerances in units in the last place. The largest errors (3 and 8 measured) are those of the slope just outside the
# radius of its series, at -1/2, where it is a difference of numbers three times its size. The series has 3.
VALUE_ULP, SLOPE_ULP, SERIES_SLOPE_ULP = 3, 9, 4

any_argument = st.one_of(st.floats(-700.0, 700.0), st.floats(-1.0, 1.0), st.floats(-1e-6, 1e-6))
# Arguments for which exp(-|y|) is a normal number in single precision.
single = st.one_of(st.floats(-80.0, 80.0, width=32), st.floats(-1.0, 1.0, width=32))


def _exact(y):
    """Value, first and second derivative at y, computed with 80 digits and rounded to double."""
    with localcontext(prec=80, Emin=-(10**15), Emax=10**15):
        y = Decimal(float(y))
        s, y2 = abs(y), y * y
        if s < Decimal("1e-12"):
            return tuple(map(float, (1 + y / 2 + y2 / 12, Decimal("0.5") + y / 6, Decimal(1) / 6 - y2 / 60)))
        q = (-s).exp()
        r = 1 / (1 - q)
        second = q * r * r * (s - 2 + 2 * s * q * r)
        if y > 0:
            return float(s * r), float(r - s * q * r * r), float(second)
        return float(s * q * r), float(q * r * (s * r - 1)), float(second)


def _ulps(got, expected):
    """Error in units in the last place of the expected values, in the precision of ``got``."""
    got = np.asarray(got)
    unit = np.spacing(np.abs(np.asarray(expected, dtype=got.dtype))).astype(float)
    return np.abs(got.astype(float) - np.asarray(expected)) / unit


@given(any_argument)
@example(0.0)
@example(-0.0)
@example(0.5)
@example(-0.5)
@example(float(np.nextafter(0.5, 0.0)))
@example(float(np.nextafter(-0.5, 0.0)))
@example(5e-324)
def test_value_and_derivatives_equal_those_of_exact_arithmetic(y):
    exact = _exact(y)
    assert _ulps(value(y), exact[0]) <= VALUE_ULP
    assert _ulps(slope(y), exact[1]) <= SLOPE_ULP
    np.testing.assert_allclose(curvature(y), exact[2], rtol=1e-10, atol=1e-16)


@given(single)
@example(0.0)
@example(0.5)
@example(-0.5)
def test_single_precision_is_accurate_to_rounding(y):
    exact, y = _exact(y), jnp.float32(y)
    assert value(y).dtype == slope(y).dtype == jnp.float32
    assert _ulps(value(y), exact[0]) <= VALUE_ULP
    assert _ulps(slope(y), exact[1]) <= SLOPE_ULP


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_on_a_fine_grid_across_zero_and_the_series_radius_are_accurate_to_rounding(dtype):
    y = np.concatenate([np.linspace(-2.0, 2.0, 2001), np.linspace(-80.0, 80.0, 1001)]).astype(dtype)
    exact = np.array([_exact(each) for each in y])
    value_error, slope_error = _ulps(value(y), exact[:, 0]), _ulps(slopes(y), exact[:, 1])
    series = np.abs(y) < 0.5
    assert value_error.max() <= VALUE_ULP
    assert slope_error.max() <= SLOPE_ULP and slope_error[series].max() <= SERIES_SLOPE_ULP
    if dtype is np.float64:
        np.testing.assert_allclose(curvatures(y), exact[:, 2], rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_zero_value_slope_and_curvature_are_exact(dtype):
    zero = jnp.zeros((), dtype)
    assert float(value(zero)) == 1.0
    assert float(slope(zero)) == 0.5
    assert curvature(zero) == np.asarray(1 / 6, dtype)


@pytest.mark.parametrize("dtype,largest", [(np.float32, 1e37), (np.float64, 1e300)])
def test_huge_arguments_give_the_asymptotes_and_never_nan(dtype, largest):
    y = np.concatenate([sign * np.geomspace(1e3, largest, 50) for sign in (-1, 1)]).astype(dtype)
    np.testing.assert_array_equal(value(y), np.maximum(y, 0))
    np.testing.assert_array_equal(slopes(y), (y > 0).astype(dtype))
    np.testing.assert_array_equal(curvatures(y), np.zeros_like(y))


@given(any_argument)
def test_forward_and_reverse_mode_agree(y):
    _, tangent = jax.jvp(value, (jnp.asarray(y),), (jnp.ones(()),))
    assert float(tangent) == float(slope(y))


def test_the_formula_as_written_would_fail_these_tests():
    """Negative control: NaN at zero, and an overflow of the derivative for large negative arguments."""

    def naive(y):
        return y / (1.0 - jnp.exp(-y))

    assert np.isnan(naive(0.0))
    assert np.isnan(jax.grad(naive)(-710.0))
    assert _ulps(jax.grad(naive)(1e-7), _exact(1e-7)[1]) > 1e6
