"""Eigenmodes give the covariances and gradients of the integral over frequencies, or leave them to it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response import filters, modal, validity
from tvb_jaxfit.linear_response.covariance import Way
from tvb_jaxfit.runtime import programs
from tvb_jaxfit.runtime.promotion import with_standard_promotion
from tvb_jaxfit.state import get_path, with_path

N_NODE = 5
BOLD, AVERAGE = monitors.Bold(period=2000.0), monitors.TemporalAverage(period=20.0)


def _weights():
    weights = np.random.RandomState(1).uniform(0.1, 1.0, (N_NODE, N_NODE))
    np.fill_diagonal(weights, 0.0)
    return weights


def _simulator(connectivity_of, model, a, *, ntau=0.0, weights=None, dt=1.0, watched=(BOLD, AVERAGE)):
    weights = _weights() if weights is None else weights
    return Simulator(
        model=model,
        connectivity=connectivity_of(weights, 0.0 * weights, np.inf),
        coupling=coupling.Linear(a=np.array([a])),
        integrator=integrators.HeunStochastic(dt=dt, noise=noise.Additive(nsig=np.array([1e-9]), ntau=ntau)),
        monitors=list(watched),
        simulation_length=2000.0,
    )


CASES = {
    "directed weights": (lambda: models.ReducedWongWang(I_o=np.array([0.31])), 0.1, 0.0, "model.w"),
    "coloured noise": (lambda: models.ReducedWongWang(I_o=np.array([0.31])), 0.1, 30.0, "integrator.noise.ntau"),
    "two populations": (
        lambda: models.ReducedWongWangExcInh(variables_of_interest=("S_e",)),
        0.1,
        0.0,
        "model.J_i",
    ),
    "rhythm": (lambda: models.Generic2dOscillator(variables_of_interest=("V",)), 0.01, 0.0, "model.a"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_modes_and_frequencies_agree(connectivity_of, case):
    model, a, ntau, path = CASES[case]
    linear, state = tj.prepare_linear(_simulator(connectivity_of, model(), a, ntau=ntau))
    assert linear.ways(state) == (Way.MODES, Way.FREQUENCIES)
    of_modes, of_frequencies = (replace(linear, way=way) for way in (Way.MODES, Way.FREQUENCIES))
    first, second = of_modes(state), of_frequencies(state)
    assert bool(first.is_stable) and bool(first.is_accurate) and float(second.error) == 0.0

    def off_by(ours, theirs):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))

    for index in range(2):
        assert off_by(first.covariance(index), second.covariance(index)) < 1e-8
    assert off_by(first.std, second.std) < 1e-8 and off_by(first.mean_shift, second.mean_shift) < 1e-6

    target = jnp.asarray(np.corrcoef(np.random.RandomState(8).normal(size=(N_NODE, 12))))

    def slope(linear):
        def loss(value):
            response = linear(with_path(state, path, value))
            return sum(jnp.mean((response.fc(index) - target) ** 2) for index in range(2)) + jnp.mean(response.std)

        return jax.grad(loss)(get_path(state, path))

    gradient = slope(of_modes)
    assert off_by(gradient, slope(of_frequencies)) < 1e-7 and np.any(np.asarray(gradient) != 0.0)


@pytest.mark.slow
def test_a_chain_that_feeds_forward_has_no_eigenvectors_and_is_integrated_over_frequencies(connectivity_of):
    """All regions of the chain have the same decay rate: the step matrix is one Jordan block."""
    weights = np.diag(np.ones(N_NODE - 1), -1)
    model = models.Linear(gamma=np.array([-0.1]))
    sim = _simulator(connectivity_of, model, 0.05, weights=weights, watched=[monitors.Raw()])
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    assert float(response.error) == 0.0 and bool(response.is_stable)
    # Heun's step of x' = (gamma + a W) x with the coupling of the start of the step.
    gain = 1.0 - 0.1 / 2.0
    M = np.eye(N_NODE) * (1.0 - 0.1 * gain) + 0.05 * gain * weights
    expected = scipy.linalg.solve_discrete_lyapunov(M, np.eye(N_NODE) * 2e-9 * gain**2)
    np.testing.assert_allclose(response.covariance(), expected, rtol=1e-8)
    by_modes = replace(linear, way=Way.MODES)(state)
    assert not bool(by_modes.is_accurate) and np.all(np.isnan(by_modes.covariance()))


@pytest.mark.parametrize("gap", [None, 0.3, 0.1, 0.01, 1e-4, 0.0])
def test_the_error_of_variances_is_bounded(gap):
    """Against a Lyapunov equation that is solved without eigenvectors, which a smaller gap makes worse."""
    random = np.random.RandomState(2)
    M, B = 0.9 * scipy.linalg.orth(random.normal(size=(6, 6))), random.normal(size=(6, 4))
    if gap is not None:
        M = np.triu(M, 1) + np.diag(0.5 + gap / 6.0 * np.arange(6))
    modes = modal.general_modes(jnp.asarray(M))
    states = modal.covariance_coordinates(jnp.asarray(M), jnp.asarray(B), [], modes).states
    exact = np.diag(scipy.linalg.solve_discrete_lyapunov(M, B @ B.T))
    error = np.max(np.abs(np.sum((modes.R @ states) * modes.R, axis=1) / exact - 1.0))
    bound = float(modal.relative_error(jnp.asarray(M), jnp.asarray(B), modes, states))
    # Beyond a bound of 1 % there are no digits left to compare.
    assert error < bound or not bound < 0.01
    assert (bound < 1e-12) == (gap is None)


def test_derivatives_of_filtered_covariances_are_those_of_sums_over_lags():
    random = np.random.RandomState(0)
    M, B, taps = random.normal(size=(7, 7)), random.normal(size=(7, 3)), random.normal(size=4)
    M *= 0.7 / np.max(np.abs(np.linalg.eigvals(M)))
    assert np.sum(np.imag(np.linalg.eigvals(M)) != 0.0) >= 4
    cotangents = random.normal(size=(2, 7, 7))

    def by_modes(M, B, taps):
        modes = modal.general_modes(M)
        found = modal.covariance_coordinates(M, B, [(3, taps)], modes)
        covariances = (modes.R @ each @ modes.R.T for each in (found.states, *found.filtered))
        return sum(jnp.sum(c * each) for c, each in zip(cotangents, covariances, strict=True))

    def by_lags(M, B, taps):
        P = lagged = scipy.linalg.solve_discrete_lyapunov(M, B @ B.T)
        response = np.repeat(taps, 3) / 3.0
        autocorrelation = np.correlate(response, response, "full")[response.size - 1 :]
        total = autocorrelation[0] * P
        for value in autocorrelation[1:]:
            lagged = M @ lagged
            total = total + value * (lagged + lagged.T)
        return np.sum(cotangents[0] * P) + np.sum(cotangents[1] * total)

    at = M, B, taps
    value, gradients = jax.jit(jax.value_and_grad(by_modes, (0, 1, 2)))(*map(jnp.asarray, at))
    np.testing.assert_allclose(value, by_lags(*at), rtol=1e-11)
    for index, gradient in enumerate(gradients):
        direction = random.normal(size=at[index].shape)
        ends = ([*at[:index], at[index] + sign * 1e-5 * direction, *at[index + 1 :]] for sign in (1.0, -1.0))
        up, down = (by_lags(*end) for end in ends)
        np.testing.assert_allclose(np.sum(gradient * direction), (up - down) / 2e-5, rtol=1e-7)


@pytest.mark.parametrize("n_taps", [2, 3, 5, 16, 170, 1000])
def test_sums_over_taps_are_those_over_lags(n_taps):
    random = np.random.RandomState(n_taps)
    taps, values = random.normal(size=n_taps), np.array([0.99, -0.5, 0.9 * np.exp(0.3j), 0.0])
    lags = np.correlate(taps, taps, "full")[n_taps:]
    found = jax.jit(filters._positive_lags)(jnp.asarray(values), jnp.asarray(taps, complex))
    exact = np.polynomial.polynomial.polyval(values, lags)
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12 * np.sum(taps**2))
    found = jax.jit(filters.sum_of_squared_autocorrelation)(jnp.asarray(taps))
    np.testing.assert_allclose(found, np.sum(np.correlate(taps, taps, "full") ** 2), rtol=1e-13)


def test_factors_of_small_matrices_are_those_of_lapack():
    random = np.random.RandomState(0)
    roots = random.normal(size=(20, 4, 4))
    matrices = jnp.asarray(roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(4))
    np.testing.assert_allclose(validity._cholesky_by_columns(matrices), np.linalg.cholesky(matrices), atol=1e-13)
    assert np.all(np.isnan(validity._cholesky_by_columns(-matrices)[:, -1, -1]))


def test_fits_in_several_threads_do_not_wait_for_each_other(connectivity_of):
    model, weights = models.ReducedWongWang(I_o=np.array([0.31])), _weights() + _weights().T
    linear, state = tj.prepare_linear(_simulator(connectivity_of, model, 0.1, weights=weights))

    def waits(way):
        def value(w):
            response = replace(linear, way=way)(with_path(state, "model.w", w))
            of_recording = sum(jnp.sum(response.z_standard_error(1e6, index)) for index in range(2))
            return (
                sum(jnp.sum(response.fc(index)) for index in range(2)) + jnp.sum(response.nonlinearity) + of_recording
            )

        text = jax.jit(with_standard_promotion(jax.grad(value))).lower(jnp.full(N_NODE, 0.5)).as_text()
        return bool(programs._BLOCKING.search(text))

    assert not waits(Way.MODES)
    # Negative control: the integral over frequencies solves batches of equations.
    assert waits(Way.FREQUENCIES)
