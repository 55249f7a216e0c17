"""`flatten_jaxpr`: the same results, flat arrays, and loop-invariant values computed before the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.jaxpr.flatten import flatten_jaxpr
from tvb_jaxfit.jaxpr.fusion import materialise_shared

RANDOM = np.random.default_rng(4)
X, Y = jnp.asarray(RANDOM.uniform(0.5, 1.5, (2, 5, 1))), jnp.asarray(RANDOM.uniform(0.5, 1.5, (5, 1)))
SERIES = jnp.asarray(RANDOM.normal(size=(6, 2, 5, 1)))


def _loop(x, y, series):
    """Divisions by constant and changing values, a global and a regional constant, a nested and a reversed loop."""

    def step(x, u):
        inner, _ = jax.lax.scan(lambda c, v: (c + v * y, None), jnp.zeros((5, 1)), jnp.ones((3, 5, 1)))
        x = jnp.stack([x[0] / y - x[1], jnp.exp(-x[1]) / (1.0 + x[0] ** 2)]) + u / jnp.sum(y) + inner[None]
        return x, (x[:1], jnp.sum(x))

    last, (rows, sums) = jax.lax.scan(step, x, series, reverse=True)
    return {"last": last, "rows": rows}, sums


CASES = {
    "loop": (_loop, (X, Y, SERIES)),
    "broadcasts": (lambda x, y: x * y[None] + y[None, :, :1] + jnp.ones((2, 1, 5)), (X, Y)),
    "shapes": (lambda x: (x.reshape(5, 2).T, x[1:], jnp.concatenate([x, x], 1), x.sum(1, keepdims=True)), (X,)),
    "one element": (lambda x: (x[:1, :1] + 1.0, jnp.max(x), x[0, 0, 0] / 2.0), (X,)),
    "broadcasts in a loop": (
        lambda x, y: (jax.lax.scan(lambda c, u: (c + u / y[None], None), x, SERIES)[0], x / y[None]),
        (X, Y),
    ),
    "selections": (lambda x, y: jnp.where(x > y[None], x, -1.0) @ jnp.ones((1, 3)), (X, Y)),
    "calls": (lambda x: (jax.jit(jnp.tanh)(x), jax.nn.relu(x), jax.checkpoint(jnp.sin)(x)), (X,)),
    "derivatives": (lambda x, y: jax.grad(lambda x: jnp.sum(jnp.sin(_loop(x, y, SERIES)[1])))(x), (X, Y)),
    "integers": (lambda n: (n // 3, n % 3, n[::-1]), (jnp.arange(12).reshape(3, 4),)),
}


@pytest.mark.parametrize(
    "rewritten",
    [lambda function: materialise_shared(flatten_jaxpr(function)), pytest.param(flatten_jaxpr, marks=pytest.mark.slow)],
    ids=["materialise_shared", "flatten_jaxpr"],
)
@pytest.mark.parametrize("function, arguments", CASES.values(), ids=list(CASES))
def test_results_are_the_same(function, arguments, rewritten):
    results, references = jax.jit(rewritten(function))(*arguments), function(*arguments)
    assert jax.tree.structure(results) == jax.tree.structure(references)
    for ours, expected in zip(jax.tree.leaves(results), jax.tree.leaves(references), strict=True):
        assert ours.shape == expected.shape and ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=1e-14, atol=1e-14)


def test_batched_results_are_the_same():
    batch = jnp.stack([X, 2.0 * X, 0.5 * X])
    results, references = (jax.vmap(run, (0, None, None))(batch, Y, SERIES) for run in (flatten_jaxpr(_loop), _loop))
    for ours, expected in zip(jax.tree.leaves(results), jax.tree.leaves(references), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-14)


def _loop_body(function):
    """Operations in the body of the outer loop, and the shapes of its exponentials."""
    traced = jax.make_jaxpr(function)(X, Y, SERIES)
    (loop,) = [equation for equation in traced.jaxpr.eqns if equation.primitive.name == "scan"]
    body = loop.params["jaxpr"].jaxpr.eqns
    return [e.primitive.name for e in body], [
        v.aval.shape for e in body if e.primitive.name == "exp" for v in e.outvars
    ]


def test_a_loop_divides_only_by_changing_values_and_its_arrays_are_flat():
    (before, shapes), (after, flat) = _loop_body(_loop), _loop_body(flatten_jaxpr(_loop))
    assert before.count("div") == 3 and after.count("div") == 1
    assert shapes == [(5, 1)] and flat == [(5,)]
