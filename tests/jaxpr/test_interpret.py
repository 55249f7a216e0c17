"""Evaluation of jaxprs by NumPy: the results of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

from tvb_jaxfit.jaxpr import interpret as module
from tvb_jaxfit.jaxpr.interpret import interpret

RANDOM = np.random.RandomState(3)
X = RANDOM.uniform(0.1, 0.9, (3, 4))
Y = RANDOM.uniform(-0.9, 0.9, (3, 4))
N = RANDOM.randint(1, 9, (3, 4))
NAN = np.full((3, 4), np.nan)
M = RANDOM.randint(-9, 9, (3, 4))


@jax.custom_jvp
def with_custom_jvp(x):
    return jnp.sin(x)


with_custom_jvp.defjvp(lambda primals, tangents: (jnp.sin(*primals), tangents[0]))


@jax.custom_vjp
def with_custom_vjp(x):
    return jnp.sin(x)


with_custom_vjp.defvjp(lambda x: (jnp.sin(x), None), lambda _, g: (g,))

CASES = {
    "sums": (lambda x, y: (x + y, x - y, -x, x * y, x / y, lax.square(x), lax.rem(y, x)), X, Y),
    "integers": (lambda n, m: (lax.div(m, n), lax.rem(m, n), n & m, n | m, n ^ m, ~n, lax.abs(m)), N, M),
    "comparisons": (lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y, lax.max(x, y), lax.min(x, y)), X, Y),
    "comparisons with NaN": (
        lambda x, y: (lax.max(x, y), lax.min(x, y), jnp.isfinite(x), lax.sign(x)),
        np.full_like(Y, np.nan),
        Y,
    ),
    "powers": (lambda x, y: (x**y, y**3, y**-2, lax.rsqrt(x), jnp.sqrt(x), lax.cbrt(y)), X, Y),
    "exponentials": (
        lambda x: (jnp.exp(x), lax.exp2(x), jnp.expm1(x), jnp.log(x), jnp.log1p(x), lax.logistic(x)),
        X,
    ),
    "trigonometric": (
        lambda x, y: (jnp.sin(x), jnp.cos(x), lax.tan(x), lax.asin(y), lax.acos(y), lax.atan(y), lax.atan2(y, x)),
        X,
        Y,
    ),
    "hyperbolic": (
        lambda x, y: (lax.sinh(y), lax.cosh(y), jnp.tanh(y), lax.asinh(y), lax.acosh(1.0 + x), lax.atanh(y)),
        X,
        Y,
    ),
    "special": (lambda x, y: (special.erf(y), special.erfc(y), special.erfinv(y), special.gammaln(x)), X, Y),
    "rounding": (lambda y: (jnp.floor(9.0 * y), jnp.ceil(9.0 * y), lax.sign(y), jnp.round(9.0 * y)), Y),
    "reductions": (lambda y: (y.sum(), y.sum(1), y.max(0), y.min(1), jnp.prod(y), (y > 0).any(0), (y > 0).all()), Y),
    "shapes": (
        lambda x: (x.T, x.reshape(2, 6), x[None], x[1:, ::2], jnp.tile(x, (2, 1)), jnp.broadcast_to(x[:1], (5, 4))),
        X,
    ),
    "concatenations": (lambda x, y: (jnp.concatenate([x, y], 1), jnp.stack([x, y], 1), lax.squeeze(x[:1], (0,))), X, Y),
    "selections": (lambda x, y: (jnp.where(y > 0, x, y), lax.select_n(M % 3, x, y, x * y), lax.clamp(0.2, y, x)), X, Y),
    "types": (lambda y: (y.astype(int), (y > 0).astype(float), lax.iota(int, 4), lax.stop_gradient(y)), Y),
    "iota": (lambda y: y + lax.broadcasted_iota(float, (3, 4), 1), Y),
    "products": (lambda x, y: (x @ y.T, jnp.einsum("ij,ij->i", x, y), jnp.einsum("ij,kj->ik", x, y)), X, Y),
    "calls": (lambda y: (jax.jit(jnp.sin)(y), with_custom_jvp(y), with_custom_vjp(y), jax.checkpoint(jnp.sin)(y)), Y),
    "scans": (lambda y: lax.scan(lambda c, v: (c + v, c * v), jnp.zeros(4), y), Y),
    "reversed scans": (lambda y: lax.scan(lambda c, v: (c + v, c * v), jnp.zeros(4), y, reverse=True), Y),
    "operations left to JAX": (
        lambda y: (y[jnp.asarray([2, 0])], y.at[0].set(1.0), jnp.sort(y), jnp.linalg.inv(y[:, :3])),
        Y,
    ),
}


@pytest.mark.parametrize("function, arguments", [(f, a) for f, *a in CASES.values()], ids=list(CASES))
def test_results_are_those_of_jax(function, arguments):
    traced = jax.make_jaxpr(function)(*arguments)
    by_jax = jax.tree.leaves(function(*map(jnp.asarray, arguments)))
    for ours, expected in zip(interpret(traced, arguments), by_jax, strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=1e-14, atol=1e-14)


def test_the_cases_contain_every_operation():
    tested = set()

    def collect(jaxpr):
        for equation in jaxpr.eqns:
            tested.add(equation.primitive.name)
            for value in equation.params.values():
                if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                    collect(getattr(value, "jaxpr", value))

    for function, *arguments in CASES.values():
        collect(jax.make_jaxpr(function)(*arguments).jaxpr)
    known = {*module._ELEMENTWISE, *module._REDUCTIONS, *module.CALLS, *module._STRUCTURAL}
    # Only differentiation and compiled code produce these.
    assert known - tested <= {"add_any", "closed_call", "copy"}
