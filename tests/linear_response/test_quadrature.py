"""Quadrature over frequencies: few nodes, exact derivatives, and errors that are noticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.linear_response import quadrature, spectral
from tvb_jaxfit.linear_response.linearise import Linearised

N_GROUP, HORIZON = 3, 4096


@pytest.fixture(autouse=True)
def standard_promotion():
    """Promotion that a `LinearizedSimulator` sets for this code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def levels_of(dt=1.0, delays=None):
    grids = quadrature.frequency_grids(dt, delays)
    weights = [quadrature.filter_weights(grid, jnp.ones(1), 1) for grid in grids]
    return [
        spectral.weighted_points(grid, jnp.ones(grid.theta.size), [each], each)
        for grid, each in zip(grids, weights, strict=True)
    ]


def network(rate=0.02, frequency=0.05):
    """(linearised, delays, observed): three damped oscillators with different frequencies and delayed coupling."""
    random = np.random.RandomState(0)
    angle = frequency * np.array([0.9, 1.0, 1.2])
    A = np.exp(-rate) * np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angle])
    D, Y = random.normal(size=(N_GROUP, 2, 1)), random.normal(size=(N_GROUP, 1, 2))
    B, N = random.uniform(0.5, 1.0, (N_GROUP, 2, 2)), rate * random.uniform(0.05, 0.2, (N_GROUP, N_GROUP))
    delays = random.randint(0, 12, N.shape)
    return Linearised(*map(jnp.asarray, (A, D, Y, B, N))), delays, jnp.asarray(random.normal(size=(N_GROUP, 1, 2)))


def by_many_frequencies(linearised, delays, observed):
    """Covariance of the observed variables and of each group's states, from the trapezoidal rule on the full circle."""
    A, D, Y, B, N = linearised
    theta = 2.0 * np.pi * np.arange(HORIZON) / HORIZON

    def whole(blocks):
        return jax.scipy.linalg.block_diag(*blocks)

    def density(theta):
        coupled = whole(A) + whole(D) @ (N * jnp.exp(-1j * theta * delays)) @ whole(Y)
        H = jnp.linalg.solve(jnp.exp(1j * theta) * jnp.eye(2 * N_GROUP) - coupled, whole(B).astype(complex))
        return jnp.real(H @ H.conj().T)

    S = jnp.mean(jax.lax.map(density, theta), axis=0)
    return whole(observed) @ S @ whole(observed).T, jnp.stack(
        [S[2 * g : 2 * g + 2, 2 * g : 2 * g + 2] for g in range(3)]
    )


def closed_form_error(grid, rate, frequency, weight):
    """Relative error of the variance of a mode."""
    pole = np.exp(-rate + 1j * frequency)
    density = 0.5 * (
        1.0 / np.abs(np.exp(1j * grid.theta) - pole) ** 2 + 1.0 / np.abs(np.exp(1j * grid.theta) - pole.conj()) ** 2
    )
    return abs(weight @ density / np.pi * (1.0 - np.exp(-2.0 * rate)) - 1.0)


@pytest.mark.parametrize("dt", [0.1, 1.0, 4.0])
def test_rules_are_exact_for_relaxations_and_rhythms(dt):
    coarse, fine = quadrature.frequency_grids(dt, np.array([[int(40 / dt)]]))
    for rate in (2e-4, 1e-3, 1e-2, 0.1):
        errors = [closed_form_error(grid, rate * dt, 0.0, grid.weight) for grid in (coarse, fine)]
        assert max(errors) < 1e-10
        # Half of the nodes give about half of the digits: the error estimate.
        half = closed_form_error(coarse, rate * dt, 0.0, coarse.half_weight)
        assert errors[0] <= half < 1e-5
    # 10 Hz with a decay time of 300 ms.
    rhythm = dt / 300.0, 2.0 * np.pi * 0.01 * dt
    assert closed_form_error(fine, *rhythm, fine.weight) < 1e-8
    # Negative control: the coarse rule is not made for it, and its estimate says so.
    assert closed_form_error(coarse, *rhythm, coarse.weight) > 1e-8
    assert closed_form_error(coarse, *rhythm, coarse.half_weight) > 1e-4


def test_number_of_frequencies_depends_little_on_the_step():
    counts = [
        [grid.theta.size for grid in quadrature.frequency_grids(dt, np.array([[int(60 / dt)]]))] for dt in (1.0, 0.1)
    ]
    assert counts[0][0] < 140 and counts[0][1] < 460
    assert counts[1][0] < 480 and counts[1][1] < 1000


def test_interpolation_is_exact_for_the_modes_of_the_rule():
    grid, _ = quadrature.frequency_grids(1.0)
    theta = np.concatenate([np.geomspace(1e-5, 3.0, 200), grid.theta[3:5]])

    def spectrum(theta):
        return 1.0 / (1.02 - np.cos(theta))

    np.testing.assert_allclose(grid.interpolation(theta) @ spectrum(grid.theta), spectrum(theta), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_values_and_derivatives_are_those_of_plain_autodiff_at_many_frequencies(rate):
    linearised, delays, observed = network(rate)
    levels = levels_of(delays=delays)
    random = np.random.RandomState(1)
    of_observed, of_local = random.normal(size=(N_GROUP, N_GROUP)), random.normal(size=(N_GROUP, 2, 2))

    def ours(linearised, observed):
        (covariance,), local, n_unstable = spectral.integrate_spectra(linearised, delays, observed, levels)
        return jnp.sum(of_observed * covariance) + jnp.sum(of_local * local[:, :2, :2]), n_unstable

    def plain(linearised, observed):
        covariance, local = by_many_frequencies(linearised, delays, observed)
        return jnp.sum(of_observed * covariance) + jnp.sum(of_local * local)

    (value, n_unstable), gradient = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(linearised, observed)
    expected, slow = jax.jit(jax.value_and_grad(plain, (0, 1)))(linearised, observed)
    assert n_unstable == 0.0
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(slow), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8 * np.max(np.abs(b)))
    # Negative control: an additional delay has an effect.
    (covariance,), _, _ = spectral.integrate_spectra(linearised, delays + 1, observed, levels)
    assert np.max(np.abs(covariance - by_many_frequencies(linearised, delays, observed)[0])) > 1e-6 * np.max(covariance)


@pytest.mark.parametrize(("rate", "count"), [pytest.param(1.0 / 300.0, 0, marks=pytest.mark.slow), (1e-5, 1)])
def test_a_mode_that_the_frequencies_do_not_resolve_counts_as_unstable(rate, count):
    linearised, delays, observed = network(rate)
    linearised = linearised._replace(N=0.0 * linearised.N)
    (covariance,), local, n_unstable = spectral.integrate_spectra(
        linearised, delays, observed, levels_of(delays=delays)
    )
    assert (n_unstable >= 1) == count
    if not count:
        exact = jnp.einsum("gab,gcb->gac", linearised.B, linearised.B)
        for g in range(N_GROUP):
            from_lyapunov = np.linalg.solve(
                np.eye(4) - np.kron(linearised.A[g], linearised.A[g]), np.asarray(exact[g]).ravel()
            )
            np.testing.assert_allclose(local[g, :2, :2].ravel(), from_lyapunov, rtol=1e-7)
