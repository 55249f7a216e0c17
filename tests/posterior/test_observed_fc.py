"""Likelihood of an empirical FC: a multivariate normal density, its derivative, and its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import tvb_jaxfit as tj
from tvb_jaxfit.parameters import with_values
from tvb_jaxfit.posterior.observed_fc import DISCREPANCY, ObservedFC
from tvb_jaxfit.runtime.programs import Program
from tvb_jaxfit.uncertainty.sampling import fisher_z_covariance, with_second_order

N_SAMPLES = 600
# Two pairs are missing.
KEPT = np.array([0, 1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14])


@pytest.fixture(scope="module")
def pairs(six):
    return tuple(each[KEPT] for each in six.pairs)


@pytest.fixture(scope="module")
def data(six, pairs):
    """FC of a recording as data, with the covariance of its sampling errors."""
    fc = np.corrcoef(six.record(six.response, 1, N_SAMPLES, seed=2)[0].T)
    return ObservedFC(fc, 0, N_SAMPLES, pairs).at(six.response)


def test_it_is_a_normal_density_of_the_fisher_z(six, pairs, data):
    autocovariance = six.linear.autocovariance(six.response, 0)
    S = with_second_order(fisher_z_covariance(autocovariance, N_SAMPLES, pairs))
    expected, discrepancy = np.arctanh(np.asarray(six.response.fc())[pairs]), 0.07
    exact = multivariate_normal.logpdf(data.z, expected, S + discrepancy**2 * np.eye(KEPT.size))
    found = data.log_likelihood(six.response, {DISCREPANCY: jnp.array([discrepancy])})
    np.testing.assert_allclose(found, exact, rtol=1e-10)
    without = ObservedFC(data.fc, 0, N_SAMPLES, pairs, has_discrepancy=False).at(six.response)
    exact_without = multivariate_normal.logpdf(data.z, expected, S)
    np.testing.assert_allclose(without.log_likelihood(six.response, {}), exact_without, rtol=1e-10)
    assert data.n_data == without.n_data == 13 and without.nuisance(six.response) == {}
    # Negative controls: independent errors, and no discrepancy.
    assert abs(multivariate_normal.logpdf(data.z, expected, np.diag(np.diag(S))) - exact_without) > 0.5
    assert abs(exact - exact_without) > 0.5


def test_the_discrepancy_starts_at_what_the_sampling_errors_leave_unexplained(six, pairs, data):
    prior, start = data.nuisance(six.response)[DISCREPANCY]
    assert np.isfinite(prior.log_density(jnp.asarray(prior.variables(start))))
    # The recording is one of the response itself: the start is small.
    sampling = np.sqrt(np.mean(data.variances))
    assert 0.3 * sampling < start[0] < sampling
    distorted = np.tanh(data.z + 0.3 * np.resize([1.0, -1.0], KEPT.size))
    fc = np.zeros((six.n_node, six.n_node))
    fc[pairs] = distorted
    _, larger = ObservedFC(fc, 0, N_SAMPLES, pairs).at(six.response).nuisance(six.response)[DISCREPANCY]
    np.testing.assert_allclose(larger, 0.3, rtol=0.2)


@pytest.mark.slow
def test_gradients_are_those_of_central_differences(six, data):
    state = tj.prepare_linear(six.sim)[1]

    def value(vector):
        response = six.linear(with_values(state, {"coupling.a": vector[0], "model.I_o": vector[1]}))
        return data.log_likelihood(response, {DISCREPANCY: jnp.exp(vector[2:])})

    vector = np.array([0.21, 0.325, np.log(0.05)])
    gradient, plain = np.asarray(Program(jax.grad(value))(jnp.asarray(vector))), Program(value)
    for index, step in enumerate(1e-5 * np.diag([0.2, 0.3, 1.0])):
        up, down = (float(plain(jnp.asarray(vector + sign * step))) for sign in (1.0, -1.0))
        np.testing.assert_allclose(gradient[index], (up - down) / (2.0 * step.sum()), rtol=1e-5)
        assert abs(up - down) > 1e-6
