"""Forward mode, products of the Hessian with vectors, and batches of both agree with the reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj

N_STEPS = 12


class OfPairs(coupling.Difference):
    """A coupling that does not split into channels."""

    def pre(self, x_i, x_j):
        """What a target makes of a source."""
        return np.tanh(x_j - x_i)


COUPLINGS = {"channels": coupling.Difference, "pairs": OfPairs}


BOTH = pytest.mark.parametrize("loss", COUPLINGS, indirect=True)
# Programs of pairs take as long again to compile.
PAIRS_SLOW = pytest.mark.parametrize("loss", ["channels", pytest.param("pairs", marks=pytest.mark.slow)], indirect=True)


@pytest.fixture
def loss(request, build_small, weights_6, connectivity_of):
    """Mean square of a delayed simulation in (a global parameter, the weights), where it is taken, and a direction."""
    lengths = np.random.default_rng(0).uniform(0.0, 20.0, (6, 6))
    sim = build_small(
        connectivity=connectivity_of(weights_6, lengths, speed=1.0),
        coupling=COUPLINGS[request.param](a=np.array([0.07])),
        steps=N_STEPS,
    )
    simulate, state = tj.prepare(sim)
    assert simulate.step.horizon > 3 and simulate.step.is_local == (request.param == "channels")

    def of(w, weights):
        changed = state.replace(
            model=state.model.replace(w=w), connectivity=state.connectivity.replace(weights=weights)
        )
        return jnp.mean(simulate(changed).data[0] ** 2)

    at = state.model.w, state.connectivity.weights
    random = np.random.default_rng(1)
    return of, at, tuple(jnp.asarray(random.normal(size=one.shape)) for one in at)


def _product(some, others):
    return sum(jnp.sum(a * b) for a, b in zip(some, others, strict=True))


@BOTH
def test_the_slope_along_a_direction_is_that_of_the_gradient(loss):
    of, at, direction = loss
    value, slope = jax.jit(lambda at, direction: jax.jvp(of, at, direction))(at, direction)
    gradient = jax.jit(jax.grad(of, (0, 1)))(*at)
    np.testing.assert_allclose(value, of(*at), rtol=1e-14)
    assert abs(slope) > 1e-4
    np.testing.assert_allclose(slope, _product(gradient, direction), rtol=1e-11)


@PAIRS_SLOW
@pytest.mark.slow
def test_the_hessian_times_a_vector_is_the_gradient_of_the_slope(loss):
    of, at, direction = loss
    forward_over_reverse = jax.jit(lambda at: jax.jvp(jax.grad(of, (0, 1)), at, direction)[1])(at)
    reverse_over_forward = jax.jit(jax.grad(lambda *at: jax.jvp(of, at, direction)[1], (0, 1)))(*at)
    for one, other in zip(forward_over_reverse, reverse_over_forward, strict=True):
        assert np.max(np.abs(other)) > 1e-4
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-10 * np.max(np.abs(other)))


@PAIRS_SLOW
@pytest.mark.slow
def test_in_a_batch_each_slope_and_each_gradient_is_the_one_by_itself(loss):
    of, (w, weights), direction = loss
    several = jnp.stack([weights, 0.5 * weights])

    def slope(weights):
        return jax.jvp(of, (w, weights), direction)[1]

    together = jax.jit(jax.vmap(slope))(several)
    np.testing.assert_allclose(together, [jax.jit(slope)(one) for one in several], rtol=1e-12)
    # Batched first, differentiated then.
    of_sum = jax.jit(jax.grad(lambda w: jnp.sum(jax.vmap(lambda one: of(w, one))(several)), 0))(w)
    each = [jax.jit(jax.grad(of))(w, one) for one in several]
    np.testing.assert_allclose(of_sum, sum(each), rtol=1e-12)
