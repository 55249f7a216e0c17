"""`materialise_shared`: no number changes, and it stores what several kernels would compute again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.jaxpr.flatten import flatten_jaxpr
from tvb_jaxfit.jaxpr.fusion import materialise_shared

RANDOM = np.random.default_rng(5)
X = jnp.asarray(RANDOM.uniform(0.5, 1.5, 200))


def _shared(x):
    """Fifty products that two results share, and one that belongs to a third result."""
    y = x
    for _ in range(50):
        y = y * x + 0.5
    return y + 1.0, jnp.sum(y - 2.0), x * 3.0


def _divisions(function, *arguments):
    """Shapes of the numerators of all divisions, also in loops."""

    def of(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "div":
                yield equation.outvars[0].aval.shape
            if equation.primitive.name == "scan":
                yield from of(equation.params["jaxpr"].jaxpr)

    return list(of(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_several_results_share_is_stored_once(dtype):
    x = X.astype(dtype)
    assert _divisions(_shared, x) == [] and _divisions(materialise_shared(_shared), x) == [(200,)]
    for ours, expected in zip(materialise_shared(_shared)(x), _shared(x), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, expected)


def test_small_or_cheap_values_and_those_with_one_user_are_not_stored():
    assert _divisions(materialise_shared(_shared), X[:8]) == []
    assert _divisions(materialise_shared(lambda x: (x * 2.0 + 1.0, x * 2.0 - 1.0)), X) == []
    assert _divisions(materialise_shared(lambda x: _shared(x)[0]), X) == []


def test_a_shared_value_in_a_loop_is_stored_at_each_step():
    def loop(x):
        return jax.lax.scan(lambda c, _: (_shared(c)[0] * 1e-3, _shared(c)[1]), x, None, length=3)

    assert _divisions(materialise_shared(loop), X) == [(200,)]
    for ours, expected in zip(materialise_shared(loop)(X), loop(X), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-15)


def test_the_compiled_program_contains_the_division():
    """The compiler must not detect that the divisor is 1."""
    compiled = jax.jit(materialise_shared(_shared)).lower(X).compile().as_text()
    assert "divide(" in compiled and "divide(" not in jax.jit(_shared).lower(X).compile().as_text()


def test_operations_without_a_result_are_preserved():
    printed = []

    def prints(x):
        jax.debug.callback(lambda value: printed.append(float(value)), x[0])
        return x + 1.0

    jax.block_until_ready(materialise_shared(flatten_jaxpr(prints))(X))
    jax.effects_barrier()
    assert printed == [float(X[0])]


def test_stacked_rows_are_separate_and_their_zeros_symbolic():
    """The derivative of one row contains nothing of the exponential of the other row."""

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


def test_a_value_that_is_carry_and_output_of_a_loop_is_computed_once():
    def loop(x):
        def body(c, _):
            new = jnp.minimum(c * 0.5 + 0.4, 1.0)
            return new, new

        return jax.lax.scan(body, x, None, length=3)

    assert _divisions(loop, X) == [] and _divisions(materialise_shared(loop), X) == [(200,)]
    jax.tree.map(np.testing.assert_array_equal, materialise_shared(loop)(X), loop(X))


def test_a_value_that_is_read_at_several_places_is_stored_unless_it_is_in_memory():
    def read(y):
        y = jnp.transpose(y.reshape(1, 200), (1, 0))[:, 0]
        return y[:150] + y[50:], jnp.sum(y[:100] * y[100:])

    assert _divisions(materialise_shared(read), X) == []
    assert _divisions(materialise_shared(lambda x: read(x * 2.0)), X) != []
    assert _divisions(materialise_shared(lambda x: jnp.transpose(x.reshape(2, 100)) * 3.0), X) != []
