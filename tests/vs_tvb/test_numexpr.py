"""numexpr's expressions on JAX arrays give numexpr's values, for each operator and function."""

import jax
import numexpr
import numpy as np
import pytest

from tvb_jaxfit.translate.tracing.method import trace

EXACT = """x + y; x - y; x * y; -x; +x; x % y; x // y; fmod(x, y); abs(x); floor(x); ceil(x); trunc(x); round(x)
sign(x); copysign(x, y); maximum(x, y); minimum(x, y); nextafter(x, y); x > y; x >= y; x < y; x <= y; x == y; x != y
x / y; (x > 0) & (y > 0); (x > 0) | (y > 0); (x > 0) ^ (y > 0); ~(x > 0); isnan(x); isinf(x); isfinite(x); signbit(x)
x % 7.7; 5 % y; x % 3; -x % y; (x - 0.3) % y; (x > 0) * x; (x > 0) * (y > 0); (x > 0) + (y > 0); x ** 2; x ** 0
x ** 1; ones_like(x); 1 / 2 + x; 7 // 2 + x; -7 // 2 + x; 7 % 3 + x; -7 % 3 + x; x.real; x.imag; sqrt(abs(x))
where(x > y, x, 0); where((x > 3) & (((x - 3) % y) < 0.3), 1, 0); where(x % y == 0, 1.5, y); min(x); max(x); x * 2 + 1
i + x; i * x; x % i; i % x; i // x; x // i; i / x; where(x > 0, i, x); i % 7 + x; i // 7 + x; -i % 7 + x; i ** 2 + x
(i & 3) + x; (i | 4) + x; (i ^ 5) + x; ~i + x; (i > 3) * x; i / 2 + x"""
ROUNDED = """sin(x); cos(x); tan(x); tanh(x); exp(x / 9); expm1(x / 9); log(abs(x)); log2(abs(x)); log10(abs(x))
log1p(abs(x)); arctan(x); arctan2(x, y); hypot(x, y); sinh(x / 9); cosh(x / 9); arcsin(sin(x)); arccos(cos(x))
arcsinh(x); arccosh(1 + abs(x)); arctanh(sin(x) / 2); abs(x) ** y; x ** 3; x ** -2; abs(x) ** 2.5; abs(x) ** -0.5
x ** 7; 2 ** y; sum(x); prod(1 + x / 1e5); complex(x, y) * complex(y, x); real(exp(complex(0, x)))
imag(conj(complex(x, y))); abs(x) ** y % 1.5"""


def split(expressions):
    return [expression for line in expressions.splitlines() for expression in line.split("; ")]


def values():
    """Operands whose quotients are integers to rounding, exact integers, negative, and others."""
    random = np.random.RandomState(0)
    y = random.choice([7.7, -7.7, 1000 / 130, 0.1, 3.0, 0.25], 4000)
    x = np.where(random.rand(4000) < 0.7, np.round(random.randint(-60, 400, 4000) * y, 10), random.normal(0, 9, 4000))
    return {"x": x, "y": y, "i": random.randint(-20, 20, 4000)}


def both(expression, given, traced="xy"):
    """Values of numexpr, and of its compiled translation with the ``traced`` names as JAX arrays."""

    def code(values):
        return numexpr.evaluate(expression, local_dict=values)

    def translated(chosen):
        return trace(None, code, {}, given | chosen)[0]

    with np.errstate(all="ignore"):
        theirs = numexpr.evaluate(expression, local_dict=given)
    return theirs, np.asarray(jax.jit(translated)({name: given[name] for name in traced}))


@pytest.mark.parametrize("expression", split(EXACT))
def test_exact_operations_give_the_same_bits(expression):
    theirs, ours = both(expression, values())
    assert ours.dtype.kind == theirs.dtype.kind
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("expression", split(ROUNDED))
def test_other_functions_give_the_same_values_to_rounding(expression):
    theirs, ours = both(expression, values())
    assert ours.dtype.kind == theirs.dtype.kind
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("expression", ["x % y", "x // y", "(x - y) % y", "y % x"])
@pytest.mark.parametrize("traced", ["x", "y", "xy"])
@pytest.mark.parametrize("y", [7.7, 1000 / 130, 0.1, -3.3])
def test_numbers_divide_as_arrays_do(expression, traced, y):
    """XLA must neither multiply by a reciprocal in place of a division, nor fuse a product and a difference."""
    given = {"x": np.round(np.arange(-50, 3000) * y, 10), "y": y}
    theirs, ours = both(expression, given, traced)
    np.testing.assert_array_equal(ours, theirs)
    # Negative control: numpy's own remainder differs at multiples.
    assert expression != "x % y" or np.any(np.mod(given["x"], y) != theirs)


def test_the_remainder_has_the_derivatives_of_its_formula():
    def code(values):
        return numexpr.evaluate("x % y", local_dict=values)

    def remainder(x, y):
        return trace(None, code, {}, {"x": x, "y": y})[0]

    assert jax.grad(remainder, (0, 1))(31.0, 7.7) == (1.0, -4.0)
