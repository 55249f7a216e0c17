"""Forward mode, Hessian-vector products, and batches of both agree with reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj

N_STEPS = 12


class Pairwise(coupling.Difference):
    """A coupling that is no weighted sum of source outputs."""

    def pre(self, x_i, x_j):
        """Nonlinear function of target and source."""
        return np.tanh(x_j - x_i)


COUPLINGS = {"channels": coupling.Difference, "pairwise": Pairwise}


# Programs of pairwise couplings take twice as long to compile.
PAIRWISE_SLOW = pytest.mark.parametrize(
    "loss", ["channels", pytest.param("pairwise", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def loss(request, build_small, weights_6, connectivity_of):
    """Mean square of a delayed simulation as a function of (w, weights), its arguments, and a direction."""
    lengths = np.random.default_rng(0).uniform(0.0, 20.0, (6, 6))
    sim = build_small(
        connectivity=connectivity_of(weights_6, lengths, speed=1.0),
        coupling=COUPLINGS[request.param](a=np.array([0.07])),
        steps=N_STEPS,
    )
    simulate, state = tj.prepare(sim)
    assert simulate.step.horizon > 3 and simulate.step.is_local == (request.param == "channels")

    def function(w, weights):
        changed = state.replace(
            model=state.model.replace(w=w), connectivity=state.connectivity.replace(weights=weights)
        )
        return jnp.mean(simulate(changed).data[0] ** 2)

    arguments = state.model.w, state.connectivity.weights
    random = np.random.default_rng(1)
    return function, arguments, tuple(jnp.asarray(random.normal(size=a.shape)) for a in arguments)


def _dot(first, second):
    return sum(jnp.sum(a * b) for a, b in zip(first, second, strict=True))


@PAIRWISE_SLOW
def test_the_directional_derivative_is_that_of_the_gradient(loss):
    function, arguments, direction = loss
    value, slope = jax.jit(lambda a, d: jax.jvp(function, a, d))(arguments, direction)
    gradient = jax.jit(jax.grad(function, (0, 1)))(*arguments)
    np.testing.assert_allclose(value, function(*arguments), rtol=1e-14)
    assert abs(slope) > 1e-4
    np.testing.assert_allclose(slope, _dot(gradient, direction), rtol=1e-11)


@PAIRWISE_SLOW
@pytest.mark.slow
def test_the_hessian_times_a_vector_is_the_gradient_of_the_slope(loss):
    function, arguments, direction = loss
    forward_over_reverse = jax.jit(lambda a: jax.jvp(jax.grad(function, (0, 1)), a, direction)[1])(arguments)
    reverse_over_forward = jax.jit(jax.grad(lambda *a: jax.jvp(function, a, direction)[1], (0, 1)))(*arguments)
    for first, second in zip(forward_over_reverse, reverse_over_forward, strict=True):
        assert np.max(np.abs(second)) > 1e-4
        np.testing.assert_allclose(first, second, rtol=0.0, atol=1e-10 * np.max(np.abs(second)))


@PAIRWISE_SLOW
@pytest.mark.slow
def test_in_a_batch_each_derivative_equals_the_unbatched_one(loss):
    function, (w, weights), direction = loss
    batch = jnp.stack([weights, 0.5 * weights])

    def slope(weights):
        return jax.jvp(function, (w, weights), direction)[1]

    slopes = jax.jit(jax.vmap(slope))(batch)
    np.testing.assert_allclose(slopes, [jax.jit(slope)(weights) for weights in batch], rtol=1e-12)
    # The gradient of a batched function.
    total = jax.jit(jax.grad(lambda w: jnp.sum(jax.vmap(lambda weights: function(w, weights))(batch)), 0))(w)
    gradients = [jax.jit(jax.grad(function))(w, weights) for weights in batch]
    np.testing.assert_allclose(total, sum(gradients), rtol=1e-12)
