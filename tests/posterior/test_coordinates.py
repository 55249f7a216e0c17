"""Coordinates of a posterior of regional values: a change of variables, with its determinant and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.dependents import free_parameters_of
from tvb_jaxfit.posterior.coordinates import Coordinates
from tvb_jaxfit.posterior.density import PosteriorDensity
from tvb_jaxfit.posterior.laplace import Point
from tvb_jaxfit.posterior.priors import joint_prior
from tvb_jaxfit.runtime.promotion import with_standard_promotion
from tvb_jaxfit.uncertainty.expected_response import ExpectedResponse
from tvb_jaxfit.uncertainty.free_values import FreeValues


def _density(ten, parameters):
    """Density of the values, by an FC, and a point: the true values."""
    state, free = ten.state(parameters), FreeValues(free_parameters_of(ten.state(parameters)), ten.labels)
    expected = ExpectedResponse(ten.linear, state, free)
    density = PosteriorDensity(
        expected, ten.data(ten.fc_of(ten.signals(1))).at(expected.response), joint_prior(free, {})
    )
    return density, Point(density.prior.variables(free.vector), density.start, np.nan)


@pytest.fixture(scope="module")
def coordinates(ten):
    """Coordinates of one coupling strength, and of w and I_o of each region."""
    parameters = ten.bounded(("coupling.a",)) | {
        "model.w": tj.BoundedParameter(np.linspace(0.4, 0.6, ten.n_node), 0.2, 0.8),
        "model.I_o": tj.BoundedParameter(np.full(ten.n_node, 0.305), 0.295, 0.315),
    }
    return Coordinates.at(*_density(ten, parameters))


@pytest.fixture(scope="module")
def variables(coordinates):
    """`Coordinates.variables`, compiled once."""
    return jax.jit(with_standard_promotion(coordinates.variables))


def _near(coordinates, seed=0, size=0.05):
    u = coordinates.features.point.u
    return jnp.asarray(u + size * np.random.default_rng(seed).standard_normal(u.size))


def _run(function, *arguments):
    return jax.jit(with_standard_promotion(function))(*arguments)


def test_they_are_the_variables_and_the_features(coordinates, variables):
    point = coordinates.features.point
    u, x, is_found = variables(jnp.asarray(point.u))
    assert is_found
    np.testing.assert_allclose(u, point.u, atol=1e-12)
    np.testing.assert_allclose(x, point.x.ravel(), rtol=1e-12)
    y = _near(coordinates)
    u, x, is_found = variables(y)
    assert is_found and np.max(np.abs(_run(coordinates.features.residual, u, x))) < 1e-12
    features = coordinates.features

    def forward(u, x):
        psi = jnp.append(features.of_state(x), features.slowest(u, x))
        return u + coordinates.directions @ (psi - coordinates._reference())

    np.testing.assert_allclose(_run(forward, u, x), y, atol=1e-10)
    # Negative control: the variables differ from the coordinates.
    assert np.max(np.abs(u - y)) > 1e-3


@pytest.mark.slow
def test_the_determinant_is_that_of_autodiff(coordinates, variables):
    y = _near(coordinates)
    u, x, _ = variables(y)
    jacobian = _run(jax.jacrev(lambda y: coordinates.variables(y)[0]), y)
    found = float(_run(coordinates.log_determinant, u, x))
    np.testing.assert_allclose(found, -np.linalg.slogdet(np.asarray(jacobian))[1], rtol=1e-9)
    assert abs(found) > 1.0


@pytest.mark.slow
def test_the_potential_is_that_of_the_variables_and_the_determinant(coordinates):
    y = np.asarray(_near(coordinates))
    value, gradient, x = coordinates.evaluate(y, None)
    u = coordinates.all_variables(y[None])[0]
    determinant = float(_run(coordinates.log_determinant, jnp.asarray(u), jnp.asarray(x).ravel()))
    np.testing.assert_allclose(value, coordinates.features.density.potential(u, x) + determinant, rtol=1e-10)
    direction, step = np.random.default_rng(2).standard_normal(y.size), 1e-5
    moved = [coordinates.evaluate(y + sign * step * direction, None)[0] for sign in (1.0, -1.0)]
    np.testing.assert_allclose(gradient @ direction, (moved[0] - moved[1]) / (2.0 * step), rtol=1e-6)


def test_without_a_value_for_each_region_there_are_none(ten):
    assert Coordinates.at(*_density(ten, ten.bounded())) is None


@pytest.mark.slow
def test_draws_in_coordinates_are_those_of_the_laplace_approximation_where_that_is_good(ten):
    parameters = {"model.I_o": tj.BoundedParameter(np.full(ten.n_node, 0.305), 0.295, 0.315)}
    data = ten.data(ten.fc_of(ten.signals(1, 20_000)), 20_000)
    by_nuts = ten.posterior(data, parameters, method="nuts", n_draws=300)
    by_laplace = ten.posterior(data, parameters, n_draws=600)
    assert by_nuts.n_divergent < 30
    difference = by_nuts.median["model.I_o"] - by_laplace.median["model.I_o"]
    assert np.max(np.abs(difference / by_laplace.std["model.I_o"])) < 0.5
