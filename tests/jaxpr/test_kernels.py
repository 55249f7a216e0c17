"""What is worked out once and kept changes no number, and is what several kernels would work out again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.jaxpr.flatten import flatten_jaxpr
from tvb_jaxfit.jaxpr.fusion import materialise_shared

RANDOM = np.random.default_rng(5)
X = jnp.asarray(RANDOM.uniform(0.5, 1.5, 200))


def _shared(x):
    """Fifty products that two results share, and one that is one result's own."""
    y = x
    for _ in range(50):
        y = y * x + 0.5
    return y + 1.0, jnp.sum(y - 2.0), x * 3.0


def _divisions(function, *arguments):
    """Shapes of what is divided, loops included."""

    def of(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "div":
                yield equation.outvars[0].aval.shape
            if equation.primitive.name == "scan":
                yield from of(equation.params["jaxpr"].jaxpr)

    return list(of(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_several_results_share_is_kept_once(dtype):
    x = X.astype(dtype)
    assert _divisions(_shared, x) == [] and _divisions(materialise_shared(_shared), x) == [(200,)]
    for one, other in zip(materialise_shared(_shared)(x), _shared(x), strict=True):
        assert one.dtype == dtype
        np.testing.assert_array_equal(one, other)


def test_what_is_small_or_cheap_or_has_one_user_is_not_kept():
    assert _divisions(materialise_shared(_shared), X[:8]) == []
    assert _divisions(materialise_shared(lambda x: (x * 2.0 + 1.0, x * 2.0 - 1.0)), X) == []
    assert _divisions(materialise_shared(lambda x: _shared(x)[0]), X) == []


def test_in_a_loop_it_is_kept_at_each_step():
    def loop(x):
        return jax.lax.scan(lambda c, _: (_shared(c)[0] * 1e-3, _shared(c)[1]), x, None, length=3)

    assert _divisions(materialise_shared(loop), X) == [(200,)]
    for one, other in zip(materialise_shared(loop)(X), loop(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15)


def test_the_compiled_program_holds_the_division():
    """No compiler may see that it is by 1."""
    compiled = jax.jit(materialise_shared(_shared)).lower(X).compile().as_text()
    assert "divide(" in compiled and "divide(" not in jax.jit(_shared).lower(X).compile().as_text()


def test_operations_without_a_result_are_kept():
    seen = []

    def shown(x):
        jax.debug.callback(lambda value: seen.append(float(value)), x[0])
        return x + 1.0

    jax.block_until_ready(materialise_shared(flatten_jaxpr(shown))(X))
    jax.effects_barrier()
    assert seen == [float(X[0])]


def test_rows_that_were_stacked_stay_apart_and_their_zeros_are_known():
    """The derivative of one row by itself: nothing of the other row's exponential is left."""

    def derivative(x):
        def both(x):
            return jnp.stack([x[0] * x[1], jnp.exp(x[0])])

        (row,) = jax.vjp(both, x)[1](jnp.stack([jnp.ones_like(x[0]), jnp.zeros_like(x[0])]))
        return row

    x = X.reshape(2, 100, 1)
    operations = [e.primitive.name for e in jax.make_jaxpr(materialise_shared(flatten_jaxpr(derivative)))(x).jaxpr.eqns]
    values = [e.primitive.name for e in jax.make_jaxpr(derivative)(x).jaxpr.eqns]
    assert values.count("mul") == 4 and operations.count("mul") == 3
    np.testing.assert_array_equal(flatten_jaxpr(derivative)(x), derivative(x))


def test_what_a_loop_hands_on_and_gives_out_is_worked_out_once():
    def loop(x):
        def body(c, _):
            new = jnp.minimum(c * 0.5 + 0.4, 1.0)
            return new, new

        return jax.lax.scan(body, x, None, length=3)

    assert _divisions(loop, X) == [] and _divisions(materialise_shared(loop), X) == [(200,)]
    jax.tree.map(np.testing.assert_array_equal, materialise_shared(loop)(X), loop(X))


def test_what_is_read_at_several_places_is_kept_unless_it_is_stored_already():
    def read(y):
        y = jnp.transpose(y.reshape(1, 200), (1, 0))[:, 0]
        return y[:150] + y[50:], jnp.sum(y[:100] * y[100:])

    assert _divisions(materialise_shared(read), X) == []
    assert _divisions(materialise_shared(lambda x: read(x * 2.0)), X) != []
    assert _divisions(materialise_shared(lambda x: jnp.transpose(x.reshape(2, 100)) * 3.0), X) != []
