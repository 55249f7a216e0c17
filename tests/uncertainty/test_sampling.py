"""Covariances of the sampling errors of FC: closed forms, brute force, and the scatter of recordings."""

from itertools import product

import jax
import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response.autocovariance import Autocovariance
from tvb_jaxfit.uncertainty.sampling import fisher_z_covariance, with_second_order

N = 4
PAIRS = np.triu_indices(N, 1)


def of_lags(lagged):
    """`Autocovariance` of matrices at the lags 0, 1, ..."""
    lagged = np.asarray(lagged)
    weights, transposed = np.eye(len(lagged)), np.swapaxes(lagged, 1, 2)
    return Autocovariance(weights, (lagged + transposed) / 2.0, weights, (lagged - transposed) / 2.0)


def random_covariance(seed=1):
    factor = np.random.default_rng(seed).normal(size=(N, N + 2))
    return factor @ factor.T


def test_of_independent_samples_it_is_that_of_olkin_and_siotani():
    covariance, n_samples = random_covariance(), 50
    r = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    ours = fisher_z_covariance(of_lags([covariance]), n_samples, PAIRS) * n_samples
    pairs = list(enumerate(zip(*PAIRS, strict=True)))
    for (p, (i, j)), (q, (k, m)) in product(pairs, pairs):
        of_r = (
            0.5 * r[i, j] * r[k, m] * (r[i, k] ** 2 + r[i, m] ** 2 + r[j, k] ** 2 + r[j, m] ** 2)
            + r[i, k] * r[j, m]
            + r[i, m] * r[j, k]
            - r[i, j] * (r[i, k] * r[i, m] + r[j, k] * r[j, m])
            - r[k, m] * (r[i, k] * r[j, k] + r[i, m] * r[j, m])
        )
        np.testing.assert_allclose(ours[p, q], of_r / ((1 - r[i, j] ** 2) * (1 - r[k, m] ** 2)), atol=1e-12)
    # Fisher's transformation: the variance is that of no correlation.
    np.testing.assert_allclose(np.diag(ours), 1.0, rtol=1e-12)


def test_of_autocorrelated_samples_it_is_the_sum_over_all_pairs_of_samples():
    n_samples, P = 12, random_covariance()
    A = 0.9 * np.linalg.qr(np.random.default_rng(2).normal(size=(N, N)))[0]
    lagged = [P]
    for _ in range(n_samples - 1):
        lagged.append(A @ lagged[-1])
    ours = fisher_z_covariance(of_lags(lagged), n_samples, PAIRS)
    gamma = np.array(
        [[lagged[t - s] if t >= s else lagged[s - t].T for s in range(n_samples)] for t in range(n_samples)]
    )
    of_covariances = np.einsum("tsik,tsjl->ijkl", gamma, gamma) + np.einsum("tsil,tsjk->ijkl", gamma, gamma)
    of_covariances = of_covariances.reshape(N * N, N * N) / n_samples**2

    def z_of(covariance):
        covariance = covariance.reshape(N, N)
        std = np.sqrt(np.diag(covariance))
        return np.arctanh((covariance / np.outer(std, std))[PAIRS])

    step = 1e-6 * np.eye(N * N)
    jacobian = np.stack([(z_of(P.ravel() + h) - z_of(P.ravel() - h)) / 2e-6 for h in step], axis=1)
    np.testing.assert_allclose(ours, jacobian @ of_covariances @ jacobian.T, rtol=1e-6, atol=1e-9)
    # Negative control: with the lags of the wrong sign in one of both factors.
    symmetric = fisher_z_covariance(of_lags([(each + each.T) / 2.0 for each in lagged]), n_samples, PAIRS)
    assert np.max(np.abs(symmetric / ours - 1.0)) > 0.1


def test_recordings_scatter_by_it_and_not_by_its_diagonal_alone(six):
    n_samples = 400
    z = six.fisher_z(six.record(six.response, 300, n_samples))
    covariance = fisher_z_covariance(six.linear.autocovariance(six.response, 0), n_samples, six.pairs)
    assert six.p_value(z, with_second_order(covariance)) > 0.01
    # Negative controls: independent errors, and the correlation time of another recording.
    assert six.p_value(z, np.diag(np.diag(covariance))) < 1e-6
    assert six.p_value(z, 1.5 * covariance) < 1e-6


@pytest.mark.slow
def test_simulated_recordings_scatter_by_it(six):
    """The translated simulator itself, with its noise and its nonlinearity."""
    n_samples, skip_t = 400, 20
    sim = six.network(nsig=1e-8)
    sim.simulation_length = (n_samples + skip_t) * six.period
    simulate, state = tj.prepare(sim)
    linear, plain = tj.prepare_linear(sim)
    response = linear(plain)
    keys = jax.random.split(jax.random.key(0), 200)
    z = six.fisher_z([np.asarray(simulate(tj.resample(state, key)).data[0])[skip_t:, 0, :, 0] for key in keys])
    covariance = fisher_z_covariance(linear.autocovariance(response, 0), n_samples, six.pairs)
    assert six.p_value(z, with_second_order(covariance)) > 0.01
    assert six.p_value(z, np.diag(np.diag(covariance))) < 1e-4


def test_missing_pairs_leave_the_others_as_they_are(six):
    autocovariance, kept = six.linear.autocovariance(six.response, 0), np.array([0, 3, 4, 11])
    whole = fisher_z_covariance(autocovariance, 100, six.pairs)
    part = fisher_z_covariance(autocovariance, 100, tuple(each[kept] for each in six.pairs))
    np.testing.assert_allclose(part, whole[np.ix_(kept, kept)], rtol=1e-12, atol=1e-15)
