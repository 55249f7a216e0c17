"""`exact_derivatives`: derivatives of formulas with exponentials and powers wherever the value is finite.

Formulas as models write them, in both precisions, at ordinary, large and huge arguments. The reference is a form of the
derivative that neither overflows nor cancels, evaluated in extended precision.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from tvb.basic.neotraits.api import Final, List, NArray
from tvb.simulator import coupling
from tvb.simulator.models.base import Model

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit.jaxpr.exact_derivatives import exact_derivatives
from tvb_jaxfit.translate.tracing.method import trace

LN2 = np.log(np.longdouble(2.0))


def _decay(x):
    return np.exp(-np.abs(x))


def _sigmoid(x):
    return np.where(x > 0.0, 1.0, _decay(x)) / (1.0 + _decay(x))


def _bell(x):
    """Derivative of the sigmoid."""
    return _decay(x) / (1.0 + _decay(x)) ** 2


def _sech(x):
    return 2.0 * _decay(x) / (1.0 + _decay(x) ** 2)


def _rectified(x):
    """Derivative of x / (1 - exp(-x))."""
    less = -np.expm1(-np.abs(x))
    above = (less - np.abs(x) * _decay(x)) / less**2
    return np.where(x > 0.0, above, _decay(x) * (np.abs(x) - less) / less**2)


# Name, formula, its first derivative, and its second one if there is a simple form.
FORMULAS = [
    ("logistic", lambda x: 1.0 / (1.0 + np.exp(-x)), _bell, lambda x: -_bell(x) * np.tanh(x / 2.0)),
    (
        "logistic, mirrored",
        lambda x: 1.0 / (np.exp(x) + 1.0),
        lambda x: -_bell(x),
        lambda x: _bell(x) * np.tanh(x / 2.0),
    ),
    ("logistic, as a ratio", lambda x: np.exp(x) / (1.0 + np.exp(x)), _bell, None),
    ("logistic, as a complement", lambda x: 1.0 - 1.0 / (1.0 + np.exp(x)), _bell, None),
    ("logistic, of scipy", lambda x: special.expit(x), _bell, lambda x: -_bell(x) * np.tanh(x / 2.0)),
    (
        "logistic, squared",
        lambda x: 1.0 / (1.0 + np.exp(-x)) ** 2,
        lambda x: 2.0 * _sigmoid(x) ** 2 * _sigmoid(-x),
        None,
    ),
    (
        "logistic, a power",
        lambda x: (1.0 + np.exp(-x)) ** -2.5,
        lambda x: 2.5 * _sigmoid(x) ** 2.5 * _sigmoid(-x),
        None,
    ),
    ("Jansen-Rit", lambda x: 2.0 * 2.5 / (1.0 + np.exp(0.5 * (6.0 - x))), lambda x: 2.5 * _bell(x / 2.0 - 3.0), None),
    ("logistic, with factors", lambda x: 5.0 / (2.0 * np.exp(-x) + 1.0), lambda x: 5.0 * _bell(x - LN2), None),
    ("power of 2", lambda x: 1.0 / (1.0 + 2.0**-x), lambda x: LN2 * _bell(LN2 * x), None),
    ("power of 2, exp2", lambda x: 1.0 / (1.0 + np.exp2(-x)), lambda x: LN2 * _bell(LN2 * x), None),
    ("softplus", lambda x: np.log(1.0 + np.exp(x)), _sigmoid, _bell),
    ("softplus, steep", lambda x: np.log(np.exp(4.0 * x) + 1.0) / 4.0, lambda x: _sigmoid(4.0 * x), None),
    ("softplus, log1p", lambda x: np.log1p(np.exp(x)), _sigmoid, _bell),
    ("softplus, logaddexp", lambda x: np.logaddexp(x, 0.0), _sigmoid, None),
    ("softplus, two exponentials", lambda x: np.log(np.exp(x) + np.exp(-x)), np.tanh, None),
    ("rectifier", lambda x: x / (1.0 - np.exp(-x)), _rectified, None),
    ("rectifier, expm1", lambda x: -x / np.expm1(-x), _rectified, None),
    ("Gauss", lambda x: np.exp(-(x**2) / 2.0), lambda x: -x * np.exp(-(x**2) / 2.0), None),
    ("1 / cosh", lambda x: 1.0 / np.cosh(x), lambda x: -_sech(x) * np.tanh(x), None),
    ("log cosh", lambda x: np.log(np.cosh(x)), np.tanh, lambda x: _sech(x) ** 2),
    (
        "Hill",
        lambda x: 1.0 / (1.0 + (x / 2.0) ** 20),
        lambda x: -10.0 * (x / 2.0) ** 19 / (1.0 + (x / 2.0) ** 20) ** 2,
        None,
    ),
    ("tanh", np.tanh, lambda x: _sech(x) ** 2, lambda x: -2.0 * np.tanh(x) * _sech(x) ** 2),
    ("tanh, as a rate", lambda x: 0.5 * (1.0 + np.tanh(x)), lambda x: 0.5 * _sech(x) ** 2, None),
    (
        "Hill, with an inverse power",
        lambda x: 1.0 / (1.0 + x**-4),
        lambda x: 4.0 * x**3 / (1.0 + x**4) ** 2,
        None,
    ),
    ("root", lambda x: np.sqrt(1.0 + np.exp(x)), lambda x: _sigmoid(x) * np.sqrt(1.0 + np.exp(x)) / 2.0, None),
    ("exp", np.exp, np.exp, np.exp),
    ("log", lambda x: np.log(x**2), lambda x: 2.0 / x, None),
]


# Formulas whose derivatives are compared in single precision by default.
IN_SINGLE_PRECISION = ("logistic", "softplus", "rectifier", "tanh", "Gauss")


def _arguments(dtype):
    """Arguments of either sign, beyond the points where exp and where its square overflow."""
    last = float(np.floor(np.log(np.finfo(dtype).max)))
    sizes = [0.3, 1.0, 5.0, 20.0, 44.5, 50.0, last / 2.0 + 0.5, 0.7 * last, last - 3.0, last + 8.0, 2.0 * last, 1e4]
    return np.array([sign * size for size in sizes for sign in (1.0, -1.0)], dtype)


def _traced(f):
    return lambda *x: trace(None, lambda *x: f(*x), {}, *x)[0]


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize(
    "name, f, first, second, dtype",
    [
        pytest.param(*case, dtype, id=f"{case[0]}-{dtype.__name__}", marks=[pytest.mark.slow] * is_slow)
        for case in FORMULAS
        for dtype, is_slow in ((np.float64, False), (np.float32, case[0] not in IN_SINGLE_PRECISION))
    ],
)
def test_derivatives_are_those_of_exact_arithmetic_at_all_arguments(name, f, first, second, dtype):
    x, f = _arguments(dtype), _traced(f)
    second_derivatives = [] if second is None else [jax.grad(jax.grad(f)), jax.jacfwd(jax.grad(f))]
    functions = (f, jax.grad(f), jax.jacfwd(f), *second_derivatives)
    evaluate = jax.jit(jax.vmap(lambda x: [function(x) for function in functions]))
    value, *results = map(np.asarray, evaluate(jnp.asarray(x)))
    finite, limits = np.isfinite(value), np.finfo(dtype)
    assert np.count_nonzero(finite) >= 16
    # XLA's exp2 has an error of this size for large values.
    ulp = 300 if name == "power of 2, exp2" else 24
    for ours, derivative in zip(results, (first, first, second, second), strict=False):
        exact = derivative(x.astype(np.longdouble))[finite]
        # A second derivative is a difference of terms of the order of 1. Processors flush subnormal numbers to 0.
        atol = 4.0 * float(limits.eps if derivative is second else limits.tiny)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours[finite], exact.astype(float), rtol=ulp * float(limits.eps), atol=atol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_autodiff_of_the_same_formula_is_wrong(dtype):
    """Negative control: in the tail of a logistic function it is 0 or NaN."""
    tail = np.sort(_arguments(dtype)[_arguments(dtype) < 0.6 * np.log(np.finfo(dtype).tiny)])
    by_autodiff = jax.vmap(jax.grad(lambda x: 1.0 / (1.0 + jnp.exp(-x))))(jnp.asarray(tail))
    assert (
        np.isnan(by_autodiff[0])
        and by_autodiff[-1] == 0.0
        and _bell(tail.astype(np.longdouble))[-1] > np.finfo(dtype).tiny
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_the_formula_bit_for_bit(dtype):
    def formula(x, n):
        u, v = jnp.exp(x), jnp.where(x > 1.0, jnp.cosh(x), 1.0 + jnp.abs(x) ** n)
        return (
            u / (1.0 + u),
            jnp.log(1.0 + u) / (2.0 + v),
            jnp.sqrt(1.0 + jnp.square(v)),
            (1.0 - u) ** 3,
            (1.0 + u) ** n,
        )

    x, n = jnp.asarray(_arguments(dtype)), dtype(1.5)
    for ours, expected in zip(jax.jit(exact_derivatives(formula))(x, n), jax.jit(formula)(x, n), strict=True):
        assert ours.dtype == expected.dtype == dtype
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "name, f",
    [
        pytest.param(*case[:2], id=case[0], marks=[pytest.mark.slow] * (case[0] not in IN_SINGLE_PRECISION))
        for case in FORMULAS
    ],
)
def test_gradients_go_through_a_scan_under_vmap(name, f):
    """JAX refuses them where a value has fewer batch axes than its derivative."""
    f, ends = _traced(f), jnp.array([0.3, 0.6, 1.2])

    def relaxed(scale, end):
        return jax.lax.scan(lambda x, _: (0.5 * x + 0.1 * f(scale * x), None), end, length=3)[0]

    together = jax.jit(jax.grad(lambda scale: jnp.sum(jax.vmap(relaxed, (None, 0))(scale, ends))))(0.8)
    one = jax.jit(jax.grad(relaxed))
    np.testing.assert_allclose(together, sum(one(0.8, end) for end in ends), rtol=1e-13)


def test_derivatives_by_each_parameter_of_a_sigmoid_are_exact():
    x = np.array([-900.0, -400.0, -2.0, 3.0, 500.0], np.longdouble)
    f = _traced(lambda a, k, x0, x: a / (1.0 + np.exp(k * (x0 - x))))
    at = map(jnp.asarray, (2.5, 0.75, 1.0, x.astype(float)))
    results = jax.jit(jax.vmap(jax.grad(f, (0, 1, 2, 3)), (None, None, None, 0)))(*at)
    y = 0.75 * (x - 1.0)
    exact = _sigmoid(y), 2.5 * (x - 1.0) * _bell(y), -2.5 * 0.75 * _bell(y), 2.5 * 0.75 * _bell(y)
    for ours, expected in zip(results, exact, strict=True):
        np.testing.assert_allclose(ours, expected.astype(float), rtol=1e-13)


def test_derivatives_by_each_parameter_of_a_hill_function_are_exact():
    """In single precision its powers overflow at arguments where the function does not."""
    x = np.array([0.02, 1.0, 1.9, 2.1, 30.0, 300.0], np.longdouble)
    f = _traced(lambda n, x, half: 1.0 / (1.0 + (half / x) ** n))
    at = np.float32(40.5), x.astype(np.float32), np.float32(2.0)
    results = jax.jit(jax.vmap(jax.grad(f, (0, 1, 2)), (None, 0, None)))(*map(jnp.asarray, at))
    n, x, half = (np.asarray(value).astype(np.longdouble) for value in at)
    bell = _bell(n * np.log(x / half))
    for ours, expected in zip(results, (np.log(x / half) * bell, n / x * bell, -n / half * bell), strict=True):
        np.testing.assert_allclose(ours, expected.astype(float), rtol=3e-5, atol=1e-37)


class Softplus(Model):
    """Relaxation to a smooth rectifier of the input."""

    tau = NArray(default=np.array([10.0]))
    k = NArray(default=np.array([400.0]))
    level = NArray(default=np.array([1.0]))
    state_variables = ("x",)
    _nvar = 1
    cvar = np.array([0], dtype=np.int32)
    state_variable_range = Final(default={"x": np.array([0.0, 1.0])})
    variables_of_interest = List(of=str, default=("x",), choices=("x",))

    def dfun(self, x, coupling, local_coupling=0.0):
        return (-x + np.log(1.0 + np.exp(self.k * (self.level + coupling))) / self.k) / self.tau


@pytest.mark.parametrize("x64, k", [(True, 400.0), (False, 60.0)])
@pytest.mark.parametrize("regional", [False, True])
def test_gradient_through_a_whole_simulation_is_exact_where_an_exponential_is_huge(weights_6, x64, k, regional):
    """Forward mode for a single value, the structured reverse pass for regional values."""
    with jax.enable_x64(x64):
        sim = simulator(weights_6, dt=1.0, steps=40, scheme="HeunDeterministic")
        sim.model, sim.coupling = Softplus(k=np.array([k])), coupling.Linear(a=np.array([0.0]))
        sim.initial_conditions = np.full((1, 1, 6, 1), 0.5)
        simulate, state = tj.prepare(sim)
        level = jnp.ones(6) if regional else state.model.level

        def last(level):
            return jnp.sum(simulate(state.replace(model=state.model.replace(level=level))).data[0][-1])

        gradient = jax.grad(last)(level)
        exact = 1.0 - (1.0 - 0.1 + 0.1**2 / 2.0) ** 40
        np.testing.assert_allclose(gradient, exact if regional else 6.0 * exact, rtol=1e-12 if x64 else 2e-6)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_a_saturated_function_is_constant_where_an_inverse_power_overflows(dtype):
    x = np.array([1e-30, 1e-12, 0.0], dtype) if dtype == np.float32 else np.array([1e-100, 1e-90, 0.0], dtype)
    f = _traced(lambda x: 1.0 / (1.0 + x**-4))
    by_autodiff = jax.vmap(jax.grad(lambda x: 1.0 / (1.0 + x**-4)))(jnp.asarray(x))
    assert np.isnan(by_autodiff).all()
    for derivative in (jax.grad(f), jax.jacfwd(f)):
        np.testing.assert_array_equal(jax.vmap(derivative)(jnp.asarray(x)), np.zeros(3, dtype))


@pytest.mark.parametrize(
    "f",
    [lambda x: np.exp(x) / (1.0 + np.exp(x)) ** 2, lambda x: np.exp(x) / np.sqrt(1.0 + np.exp(2.0 * x)) ** 2],
    ids=["derivative of a logistic", "square of a root"],
)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_a_quotient_is_0_where_its_squared_divisor_overflows(f, dtype):
    last = float(np.floor(np.log(np.finfo(dtype).max)))
    x, f = jnp.asarray([0.6 * last, 0.8 * last, last - 1.0, last], dtype), _traced(f)
    for function in (f, jax.grad(f), jax.jacfwd(f)):
        np.testing.assert_array_equal(jax.vmap(function)(x), np.zeros(4, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_derivative_of_asinh_of_an_exponential_is_1(dtype):
    last = np.log(np.finfo(dtype).max)
    f = _traced(lambda x: np.arcsinh(np.exp(x)))
    derivative = jax.vmap(jax.grad(f))(jnp.asarray([0.55 * last, 0.9 * last], dtype))
    np.testing.assert_allclose(derivative, 1.0, rtol=100 * float(np.finfo(dtype).eps))
