"""The transfer function y / (1 - exp(-y)) and its derivatives are right to rounding, everywhere."""

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

# In units in the last place. The largest errors (3 and 8 measured) are those of a slope just outside the seam at -1/2,
# which is a difference of numbers three times its size. Within, the series has 3.
VALUE_ULP, SLOPE_ULP, SERIES_SLOPE_ULP = 3, 9, 4

near_and_far = st.one_of(st.floats(-700.0, 700.0), st.floats(-1.0, 1.0), st.floats(-1e-6, 1e-6))
# Where exp(-|y|) is a normal number in single precision.
single = st.one_of(st.floats(-80.0, 80.0, width=32), st.floats(-1.0, 1.0, width=32))


def _exact(y):
    """Value, first and second derivative at y, each to some 40 digits and then rounded to double."""
    with localcontext(prec=80, Emin=-(10**15), Emax=10**15):
        y = Decimal(float(y))
        s, y2 = abs(y), y * y
        if s < Decimal("1e-12"):
            return tuple(map(float, (1 + y / 2 + y2 / 12, Decimal("0.5") + y / 6, Decimal(1) / 6 - y2 / 60)))
        q = (-s).exp()
        r = 1 / (1 - q)
        bent = q * r * r * (s - 2 + 2 * s * q * r)
        if y > 0:
            return float(s * r), float(r - s * q * r * r), float(bent)
        return float(s * q * r), float(q * r * (s * r - 1)), float(bent)


def _ulps(got, expected):
    """Error in units in the last place of the expected values, as held in the precision of ``got``."""
    got = np.asarray(got)
    unit = np.spacing(np.abs(np.asarray(expected, dtype=got.dtype))).astype(float)
    return np.abs(got.astype(float) - np.asarray(expected)) / unit


@given(near_and_far)
@example(0.0)
@example(-0.0)
@example(0.5)
@example(-0.5)
@example(float(np.nextafter(0.5, 0.0)))
@example(float(np.nextafter(-0.5, 0.0)))
@example(5e-324)
def test_value_and_derivatives_are_those_of_exact_arithmetic(y):
    exact = _exact(y)
    assert _ulps(value(y), exact[0]) <= VALUE_ULP
    assert _ulps(slope(y), exact[1]) <= SLOPE_ULP
    np.testing.assert_allclose(curvature(y), exact[2], rtol=1e-10, atol=1e-16)


@given(single)
@example(0.0)
@example(0.5)
@example(-0.5)
def test_single_precision_has_all_its_digits(y):
    exact, y = _exact(y), jnp.float32(y)
    assert value(y).dtype == slope(y).dtype == jnp.float32
    assert _ulps(value(y), exact[0]) <= VALUE_ULP
    assert _ulps(slope(y), exact[1]) <= SLOPE_ULP


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fine_grid_across_zero_and_the_seams_has_all_its_digits(dtype):
    y = np.concatenate([np.linspace(-2.0, 2.0, 2001), np.linspace(-80.0, 80.0, 1001)]).astype(dtype)
    exact = np.array([_exact(each) for each in y])
    of_value, of_slope = _ulps(value(y), exact[:, 0]), _ulps(slopes(y), exact[:, 1])
    series = np.abs(y) < 0.5
    assert of_value.max() <= VALUE_ULP
    assert of_slope.max() <= SLOPE_ULP and of_slope[series].max() <= SERIES_SLOPE_ULP
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


@given(near_and_far)
def test_forward_and_reverse_mode_agree(y):
    _, tangent = jax.jvp(value, (jnp.asarray(y),), (jnp.ones(()),))
    assert float(tangent) == float(slope(y))


def test_the_formula_as_written_would_fail_these_tests():
    """The negative control: NaN at zero, and an overflowed derivative far below it."""

    def naive(y):
        return y / (1.0 - jnp.exp(-y))

    assert np.isnan(naive(0.0))
    assert np.isnan(jax.grad(naive)(-710.0))
    assert _ulps(jax.grad(naive)(1e-7), _exact(1e-7)[1]) > 1e6
