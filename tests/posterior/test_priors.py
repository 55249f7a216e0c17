"""Priors as densities of unconstrained variables: integrals, derivatives by autodiff, inverses, and what is refused."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.posterior.priors import (
    DistributionPrior,
    JointPrior,
    LogNormalPrior,
    NormalPrior,
    UniformPrior,
    joint_prior,
)
from tvb_jaxfit.uncertainty.free_values import FreeValues

LABELS = ["a", "b", "c"]


def beta_from_to(low, high):
    """Beta distribution between two values."""
    affine = dist.transforms.AffineTransform(low, high - low, domain=dist.constraints.unit_interval)
    return dist.TransformedDistribution(dist.Beta(2.0, 3.0), affine)


def of(distribution):
    return DistributionPrior.of(distribution.expand((1,)))


# Priors of one value, with the distribution of it.
ONE = {
    "uniform": (lambda: UniformPrior(-1.0, 4.0), dist.Uniform(-1.0, 4.0)),
    "normal": (lambda: NormalPrior(np.asarray(2.0), np.asarray(0.3)), dist.Normal(2.0, 0.3)),
    "log-normal": (
        lambda: LogNormalPrior(np.asarray(2.0), np.asarray(0.8)),
        dist.LogNormal(float(np.log(2.0)), 0.8),
    ),
    "above a bound": (
        lambda: LogNormalPrior(np.asarray(2.0), np.asarray(0.8), 3.0),
        dist.TransformedDistribution(
            dist.LogNormal(float(np.log(2.0)), 0.8),
            dist.transforms.AffineTransform(3.0, 1.0, domain=dist.constraints.positive),
        ),
    ),
    "below a bound": (
        lambda: LogNormalPrior(np.asarray(-2.0), np.asarray(0.8), 3.0),
        dist.TransformedDistribution(
            dist.LogNormal(float(np.log(2.0)), 0.8),
            dist.transforms.AffineTransform(3.0, -1.0, domain=dist.constraints.positive),
        ),
    ),
}
NUMPYRO = {
    "Normal": dist.Normal(5000.0, 20.0),
    "a narrow Normal": dist.Normal(1e-6, 1e-8),
    "scaled Beta": beta_from_to(2.0, 2.5),
    "LogNormal": dist.LogNormal(-13.0, 0.5),
    "HalfNormal": dist.HalfNormal(1e-3),
    "Uniform": dist.Uniform(0.1, 0.4),
    "StudentT": dist.StudentT(3.0, 1.0, 2.0),
}
ONE |= {name: (lambda each=each: of(each), each) for name, each in NUMPYRO.items()}
BY_DEFAULT = ("uniform", "below a bound")
NAMES = [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in ONE]


@pytest.fixture(autouse=True)
def standard_promotion():
    """NumPyro mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_the_density_of_the_variable_is_that_of_the_value_times_the_derivative(name):
    make, distribution = ONE[name]
    prior = make()
    u = np.linspace(-60.0, 60.0, 60_001) if name == "StudentT" else np.linspace(-14.0, 14.0, 7001)
    log_densities = jax.jit(jax.vmap(lambda u: prior.log_density(u[None])))
    log_density = np.asarray(log_densities(jnp.asarray(u)))
    assert abs(np.trapezoid(np.exp(log_density), u) - 1.0) < (1e-3 if name == "StudentT" else 1e-6)
    some = jnp.linspace(-2.5, 2.5, 11)

    def value(u):
        return jnp.reshape(prior.values(u[None]), ())

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(some)
    expected = distribution.log_prob(values) + jnp.log(jnp.abs(slopes))
    found = log_densities(some)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    # Negative control: without the derivative, which differs from 1.
    assert np.max(np.abs(found - distribution.log_prob(values))) > 0.1
    # The scale of the variable is that of a standard normal one.
    assert 0.8 < np.exp(found[5]) * np.sqrt(2.0 * np.pi) < 1.2 and abs(u[np.argmax(log_density)]) < 0.5
    np.testing.assert_allclose(
        np.ravel([prior.variables(np.array([each])) for each in np.asarray(values)]), some, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_values_on_and_outside_bounds_have_variables_of_values_inside(name):
    prior = ONE[name][0]()
    lowest, highest = (float(prior.values(jnp.array([side]))[0]) for side in (-3.0, 3.0))
    for value in (-1e9, -1.0, 0.0, 0.1, 0.4, 3.0, 4.0, 1e9):
        u = np.asarray(prior.variables(np.array([value])))
        inside = np.clip(value, min(lowest, highest), max(lowest, highest))
        assert u.shape == (1,)
        np.testing.assert_allclose(prior.values(jnp.asarray(u)), [inside], rtol=1e-9)
        assert np.isfinite(prior.log_density(jnp.asarray(u)))


@pytest.mark.slow
def test_correlated_values():
    covariance = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, -0.005], [0.0, -0.005, 1e-4]])
    distribution = dist.MultivariateNormal(jnp.array([1.0, -2.0, 100.0]), jnp.asarray(covariance))
    prior = DistributionPrior.of(distribution)
    u = jnp.array([0.5, -1.0, 2.0])
    values = prior.values(u)
    log_derivative = np.linalg.slogdet(jax.jacobian(prior.values)(u))[1]
    np.testing.assert_allclose(prior.log_density(u), distribution.log_prob(values) + log_derivative, rtol=1e-12)
    np.testing.assert_allclose(prior.variables(np.asarray(values)), u, rtol=1e-9)
    assert abs(log_derivative) > 1.0


@pytest.fixture
def free():
    weights = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    myelin = {"myelin": np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.5)}
    parameters = {
        "connectivity.weights": tj.MaskedParameter(weights, lower_bound=0.0),
        "model.w": tj.BoundedParameter([0.2, 0.3, 1.0], 0.0, 1.0),
        "model.I_o": tj.MapParameter(myelin, coefficients=[-1.0, 0.1]),
        "model.J_N": tj.MapParameter(
            myelin, transform="sigmoid", lower_bound=0.0, upper_bound=1.0, coefficients=[0.3, 0.1]
        ),
        "coupling.a": tj.Parameter(-0.5),
        "coupling.b": tj.BoundedParameter(0.0, upper_bound=0.0),
        "integrator.noise.nsig": tj.PositiveParameter([1e-6, 3e-6]),
        "model.tau_s": tj.ScaledParameter(100.0),
    }
    return FreeValues(parameters, LABELS)


def test_default_priors(free):
    prior = joint_prior(free, {})
    assert {path: str(part) for path, (part, _) in prior.parts.items()} == {
        "connectivity.weights": "log-normal, 2.33 times or over 2.23",
        "model.w": "uniform from 0 to 1",
        "model.I_o": "normal, -1 .. 0 ± 0.289 .. 0.8",
        "model.J_N": "normal, 0 .. 0.3 ± 0.289",
        "coupling.a": "normal, -0.5 ± 0.541",
        "coupling.b": "log-normal, from 0 down, 1.08 times or over 2.23",
        "integrator.noise.nsig": "log-normal, 2e-06 times or over 2.23",
        "model.tau_s": "normal, 100 ± 108",
    }
    assert prior.size == free.vector.size == 15
    assert prior.slices == free.slices
    # The start of the fit has variables, and they lead back to it: but for the values on a bound.
    u = prior.variables(free.vector)
    assert u.shape == (15,) and np.all(np.abs(u) < 3.0 + 1e-12)
    on_bound = (free.vector == 1.0) & (np.arange(15) == 5) | (np.arange(15) == 11)
    np.testing.assert_allclose(np.asarray(prior.values(jnp.asarray(u)))[~on_bound], free.vector[~on_bound], rtol=1e-9)
    np.testing.assert_allclose(u[on_bound], [3.0, -3.0])
    # Values of any variables are within the bounds.
    low, high = free.bounds
    for u in np.random.default_rng(0).normal(0.0, 10.0, (20, 15)):
        values = np.asarray(prior.values(jnp.asarray(u)))
        assert np.all((values >= low) & (values <= high))
    assert abs(float(prior.log_density(jnp.zeros(15))) + 7.5 * np.log(2.0 * np.pi)) < 1e-12


def test_given_priors(free):
    given = {
        "model.w": dist.Uniform(0.0, 1.0),
        "coupling.a": dist.Normal(-0.5, 1e-3),
        "integrator.noise.nsig": dist.LogNormal(jnp.log(jnp.array([1e-6, 3e-6])), 0.5),
    }
    prior = joint_prior(free, given)
    assert [str(prior.parts[path][0]) for path in given] == [
        "Uniform",
        "Normal",
        "LogNormal",
    ]
    for each in (prior, pickle.loads(pickle.dumps(prior))):
        u = each.variables(free.vector)
        assert np.isfinite(each.log_density(jnp.asarray(u)))
        inside = np.array([3, 4, 10, 12, 13])
        np.testing.assert_allclose(each.values(jnp.asarray(u))[inside], free.vector[inside], rtol=1e-6)
    assert np.all(np.isfinite(jax.jit(jax.grad(prior.log_density))(jnp.asarray(u))))


def test_all_that_is_wrong_stands_in_one_message(free):
    given = {
        "model.W": dist.Normal(),
        "model.w": dist.Normal(jnp.zeros(4), 1.0),
        "model.I_o": dist.Dirichlet(jnp.ones(2)),
        "model.J_N": dist.MultivariateNormal(jnp.zeros(1), jnp.eye(1)),
        "coupling.a": dist.Poisson(3.0),
        "coupling.b": 0.5,
        "model.tau_s": dist.Delta(1.0),
    }
    with pytest.raises(ValueError) as error:
        joint_prior(free, given)
    message = str(error.value)
    assert message.startswith("posterior: prior: model.W: is no free value (connectivity.weights, model.w, ")
    for part in (
        "model.w: a distribution of shape (4,), but there are 3 values",
        "model.I_o: the values of Dirichlet are not independent variables",
        "model.J_N: a distribution of shape (1,), but there are 2 values",
        "coupling.a: Poisson is discrete",
        "coupling.b: float is no distribution of NumPyro",
        "model.tau_s: Delta has no density in a part of its support",
    ):
        assert part in message
    assert message.endswith("Give numpyro.distributions by path.")


@pytest.mark.slow
def test_a_support_that_is_not_that_of_the_distribution_is_refused(free):
    """NumPyro's affine transform has all real numbers as its range, unless it is told that of its argument."""
    scaled = dist.TransformedDistribution(dist.Beta(2.0, 3.0), dist.transforms.AffineTransform(0.0, 0.5))
    with pytest.raises(ValueError, match=r"model.w: .*domain"):
        joint_prior(free, {"model.w": scaled})


def test_a_joint_prior_of_nothing():
    prior = JointPrior({})
    assert prior.size == 0 and prior.values(jnp.zeros(0)).shape == (0,)
