"""Laplace approximation: exact for normal densities, close for skewed ones; curvature; descents beside NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.posterior.laplace import Laplace, Point, curvature, laplace, maximum
from tvb_jaxfit.posterior.metric import scales, scales_at

N = 6
NOWHERE = np.zeros((1, 1, 1))


def evaluating(potential):
    """Function as `PosteriorDensity.evaluate`, of a JAX function of the variables."""
    both = jax.jit(jax.value_and_grad(potential))

    def evaluate(u, x):
        value, gradient = both(jnp.asarray(u))
        return float(value), np.asarray(gradient), x

    return evaluate


def at(evaluate, u):
    return Point(np.asarray(u, float), NOWHERE, evaluate(u, NOWHERE)[0])


@pytest.fixture
def linear():
    """Likelihood of data y = A u + noise with a standard normal prior: potential, posterior, evidence."""
    random = np.random.default_rng(0)
    A, y, noise = random.normal(size=(9, N)), 3.0 * random.normal(size=9), 0.05
    # One variable that the data do not depend on, and one that they determine far better than the others.
    A[:, 1], A[:, 4] = 0.0, 100.0 * A[:, 4]

    def potential(u):
        likelihood = jnp.sum((y - A @ u) ** 2) / (2.0 * noise) + 4.5 * np.log(2.0 * np.pi * noise)
        return likelihood + 0.5 * jnp.sum(u**2) + 0.5 * N * np.log(2.0 * np.pi)

    precision = A.T @ A / noise + np.eye(N)
    marginal = A @ A.T + noise * np.eye(9)
    log_evidence = -0.5 * (y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2.0 * np.pi * marginal)[1])
    return evaluating(potential), np.linalg.solve(precision, A.T @ y / noise), np.linalg.inv(precision), log_evidence


def test_a_normal_density_is_its_own_approximation(linear):
    evaluate, mean, covariance, log_evidence = linear
    found = laplace(evaluate, at(evaluate, np.full(N, 2.0)))
    std = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found.maximum.u - mean) / std, 0.0, atol=1e-3)
    np.testing.assert_allclose(found.covariance / np.outer(std, std), covariance / np.outer(std, std), atol=1e-6)
    np.testing.assert_allclose(found.log_evidence, log_evidence, atol=1e-5)
    assert found.n_flat == 0
    assert found.maximum.potential == evaluate(found.maximum.u, NOWHERE)[0]
    draws = found.draws(20_000, seed=1)
    np.testing.assert_allclose((draws.mean(axis=0) - mean) / std, 0.0, atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(std, std), covariance / np.outer(std, std), atol=0.04)
    np.testing.assert_array_equal(found.draws(3, seed=1), draws[:3])
    # Negative control: the values are correlated.
    assert np.max(np.abs(covariance / np.outer(std, std) - np.eye(N))) > 0.3


def test_the_evidence_of_a_skewed_density_is_near_the_integral_over_a_grid():
    """A value and the logarithm of a scale, of 40 normal data: the approximation's error is a few percent."""
    y = np.random.default_rng(3).normal(1.0, 2.0, 40)

    def potential(u):
        mean, log_scale = 3.0 * u[0], u[1]
        likelihood = 0.5 * jnp.sum(((y - mean) / jnp.exp(log_scale)) ** 2) + 40.0 * (
            log_scale + 0.5 * np.log(2.0 * np.pi)
        )
        return likelihood + 0.5 * jnp.sum(u**2) + np.log(2.0 * np.pi)

    evaluate = evaluating(potential)
    found = laplace(evaluate, at(evaluate, np.zeros(2)))
    first, second = np.linspace(-1.0, 1.5, 401), np.linspace(-0.5, 2.0, 401)
    grid = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1)
    values = np.asarray(jax.vmap(jax.vmap(potential))(jnp.asarray(grid)))
    cell = (first[1] - first[0]) * (second[1] - second[0])
    density = np.exp(values.min() - values)
    log_evidence = np.log(cell * density.sum()) - values.min()
    assert abs(found.log_evidence - log_evidence) < 0.05
    np.testing.assert_allclose(found.maximum.u, grid.reshape(-1, 2)[values.argmin()], atol=5e-3)
    weights = density / density.sum()
    mean = np.einsum("ij,ijk->k", weights, grid)
    covariance = np.einsum("ij,ijk,ijl->kl", weights, grid - mean, grid - mean)
    np.testing.assert_allclose(np.diag(found.covariance), np.diag(covariance), rtol=0.15)
    # Negative control: without the curvature.
    assert abs(-found.maximum.potential - log_evidence) > 1.0


def test_curvature_is_the_second_derivative():
    def potential(u):
        return jnp.sum(jnp.cosh(u) * jnp.roll(u, 1) ** 2) + jnp.sin(3.0 * u[0] * u[2])

    evaluate, u = evaluating(potential), np.linspace(-1.0, 0.7, N)
    exact, seen = np.asarray(jax.hessian(potential)(jnp.asarray(u))), []
    found = curvature(evaluate, at(evaluate, u), lambda of: (seen.append(i) or i for i in of))
    np.testing.assert_allclose(found, exact, atol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    assert seen == list(range(N))


def bounded(potential, highest):
    """Potential that is NaN where the sum of the variables is larger."""
    return evaluating(lambda u: jnp.where(jnp.sum(u) <= highest, potential(u), jnp.nan))


def test_beside_nan_the_curvature_is_that_of_the_other_side():
    def potential(u):
        return 0.5 * jnp.sum(jnp.arange(1.0, N + 1.0) * u**2)

    evaluate = bounded(potential, 0.0)
    found = curvature(evaluate, at(evaluate, np.zeros(N)))
    np.testing.assert_allclose(found, np.diag(np.arange(1.0, N + 1.0)), atol=1e-6)


def test_the_descent_turns_back_where_there_is_no_potential():
    """The minimum, at 3 in all variables, is beyond the region: descents end on its boundary, with a finite value."""

    def potential(u):
        return 0.5 * jnp.sum((u - 3.0) ** 2)

    for highest in (100.0, 12.0):
        evaluate, values = bounded(potential, highest), []

        def watched(u, x, evaluate=evaluate, values=values):
            values.append(evaluate(u, x)[0])
            return evaluate(u, x)

        best = maximum(watched, at(evaluate, np.zeros(N)), np.eye(N), 300)
        assert np.isfinite(best.potential) and best.potential == np.nanmin(values)
        # The smallest value within the region.
        expected = 0.5 * max(3.0 * N - highest, 0.0) ** 2 / N
        assert expected <= best.potential + 1e-12 and best.potential < expected + 0.2
        assert np.any(np.isnan(values)) == (highest < 3.0 * N)


def test_directions_without_curvature_are_counted_and_get_that_of_the_prior():
    def potential(u):
        return 0.5 * (u[0] + 2.0 * u[1]) ** 2

    evaluate = evaluating(potential)
    found = laplace(evaluate, at(evaluate, np.array([1.0, 1.0])))
    assert isinstance(found, Laplace) and found.n_flat == 1
    flat = np.array([2.0, -1.0]) / np.sqrt(5.0)
    np.testing.assert_allclose(flat @ found.covariance @ flat, 1.0, rtol=1e-6)
    steep = np.array([1.0, 2.0]) / np.sqrt(5.0)
    np.testing.assert_allclose(steep @ found.covariance @ steep, 0.2, rtol=1e-6)


def test_a_start_on_a_saddle_is_left():
    """The start is a point without slope between two minima."""

    def potential(u):
        return 0.25 * (u[0] ** 2 - 4.0) ** 2 + 0.5 * u[1] ** 2

    evaluate = evaluating(potential)
    found = laplace(evaluate, at(evaluate, np.array([1e-6, 1.0])))
    np.testing.assert_allclose(np.abs(found.maximum.u), [2.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(np.diag(found.covariance), [1.0 / 8.0, 1.0], rtol=1e-2)


def test_scales_at_several_points_are_those_of_the_mean_size_of_the_curvature():
    """A potential that is flat at its maximum, steep beside it, and curved the other way in between."""

    def potential(u):
        return 50.0 * jnp.sum((u**2 - 0.1) ** 2) + 0.5 * jnp.sum(u**2)

    evaluate = evaluating(potential)
    points = [Point(np.full(N, size), np.zeros(1), np.nan) for size in (0.0, 0.5)]
    root = scales_at(evaluate, points)
    of_size = [abs(50.0 * (12.0 * size**2 - 0.4) + 1.0) for size in (0.0, 0.5)]
    np.testing.assert_allclose(root @ root.T, np.eye(N) / np.mean(of_size), atol=1e-7)
    # Negative control: the curvature with its sign.
    assert 50.0 * (12.0 * 0.0 - 0.4) + 1.0 < 0.0


def test_scales_are_shorter_where_the_density_is_steep_beside_its_maximum():
    def potential(u):
        return 0.5 * jnp.sum(u**2) + 200.0 * u[0] ** 4

    evaluate = evaluating(potential)
    found = laplace(evaluate, at(evaluate, np.full(N, 0.1)))
    shorter = scales(evaluate, found)
    lengths, former = (np.sort(np.linalg.norm(each, axis=0)) for each in (shorter, found.root))
    np.testing.assert_allclose(lengths[1:], former[1:], rtol=1e-6)
    # At its end, the potential has risen by at most 1.
    assert 0.5 * lengths[0] ** 2 + 200.0 * lengths[0] ** 4 <= 1.0 < 200.0 * former[0] ** 4
