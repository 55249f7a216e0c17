"""Covariance at a lag, through every kind of monitor, against powers of the matrix of the whole system."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response.covariance import Way
from tvb_jaxfit.state import get_path, with_path
from tvb_jaxfit.translate.clone import configured_clone

WATCHED = {
    "every step": lambda ou: monitors.Raw(),
    "samples": lambda ou: monitors.SubSample(period=8.0),
    "means": lambda ou: monitors.TemporalAverage(period=10.0),
    "long means": lambda ou: monitors.TemporalAverage(period=40.0),
    "groups": lambda ou: monitors.SpatialAverage(period=4.0, spatial_mask=np.array([0, 0, 1, 1, 1])),
    "sensors": lambda ou: ou.eeg(obsnoise=noise.Additive(nsig=np.array([1.0]), noise_seed=1)),
    "BOLD": lambda ou: monitors.Bold(period=200.0, hrf_length=2000.0),
    # 50.5 interim periods: every second sample uses interim means that end two steps before it.
    "BOLD between interim periods": lambda ou: monitors.Bold(period=202.0, hrf_length=2000.0),
}


def impulse_response(monitor):
    """Response to one step."""
    if isinstance(monitor, monitors.Bold):
        taps = np.roll(monitor.hemodynamic_response_function[0, ::-1], 1)
        parameters = monitor.hrf_kernel.parameters
        return np.repeat(taps * parameters["k_1"] * parameters["V_0"], 4) / 4.0
    n_mean = int(monitor.period) if isinstance(monitor, (monitors.TemporalAverage, monitors.Projection)) else 1
    return np.full(n_mean, 1.0 / n_mean)


def by_powers(exact, response, steps):
    """Covariance of filtered states that are so many steps apart: a sum over all pairs of steps."""
    of_pairs, lags = np.correlate(response, response, "full"), np.arange(1 - len(response), len(response))
    lagged, matrix = [], exact.P
    for _ in range(steps + len(response)):
        lagged.append(matrix[: exact.n, : exact.n])
        matrix = exact.M @ matrix
    at = steps + lags
    return sum(w * (lagged[k] if k >= 0 else lagged[-k].T) for w, k in zip(of_pairs, at, strict=True))


def of_monitor(exact, monitor, gain, lag):
    """Lagged covariance of a monitor's signals by brute force."""
    response, steps = impulse_response(monitor), lag * int(monitor.period or 1)
    if isinstance(monitor, monitors.Bold) and steps % 4:
        return 0.5 * (by_powers(exact, response, steps - 2) + by_powers(exact, response, steps + 2))
    covariance = by_powers(exact, response, steps)
    return covariance if gain is None else gain @ covariance @ gain.T


@pytest.fixture(scope="module")
def build(ou):
    """Simulator with the named monitors."""

    def simulator(names=tuple(WATCHED), **options):
        return ou.network(watched=[WATCHED[name](ou) for name in names], **options)

    return simulator


@pytest.mark.parametrize(
    ("way", "ntau", "delayed", "lag"),
    [
        (Way.MODES, 0.0, False, 1),
        (Way.FREQUENCIES, 0.0, False, 3),
        pytest.param(Way.MODES, 5.0, False, 3, marks=pytest.mark.slow),
        pytest.param(Way.FREQUENCIES, 5.0, False, 1, marks=pytest.mark.slow),
        pytest.param(Way.FREQUENCIES, 5.0, True, 3, marks=pytest.mark.slow),
    ],
)
def test_covariance_at_a_lag_is_that_of_powers_of_the_step(ou, build, way, ntau, delayed, lag):
    # By default only the ways to filter that differ.
    names = tuple(WATCHED) if delayed or ntau else ("means", "BOLD between interim periods")
    sim = build(names, ntau=ntau, delayed=delayed)
    linear, state = tj.prepare_linear(sim)
    exact, response = ou.brute_force(sim), replace(linear, way=way)(state)
    tolerance = 1e-12 if way is Way.MODES else 1e-8
    for index, monitor in enumerate(configured_clone(sim).monitors):
        gain = getattr(linear.simulate.monitors[index], "gain", getattr(linear.simulate.monitors[index], "mean", None))
        expected = of_monitor(exact, monitor, gain, lag)
        assert ou.off_by(response.lagged_covariance(lag, index), expected) < tolerance, names[index]
        # Negative controls: the order of the signals, and the lag.
        assert ou.off_by(response.lagged_covariance(lag, index).T, expected) > 1e-3, names[index]
        assert ou.off_by(response.covariance(index), expected) > 1e-3, names[index]


def test_symmetric_weights_give_symmetric_covariances_by_the_modes_of_a_symmetric_matrix(ou, build):
    sim = build(("means",), symmetric=True)
    sim.integrator.noise.nsig = np.full(ou.n_node, 1e-3)
    linear, state = tj.prepare_linear(sim)
    assert linear.ways(state)[0] is Way.SYMMETRIC
    lagged = linear(state).lagged_covariance(2)
    expected = of_monitor(ou.brute_force(sim), configured_clone(sim).monitors[0], None, 2)
    assert ou.off_by(lagged, expected) < 1e-12 and ou.off_by(lagged, lagged.T) < 1e-13


def test_lag_0_is_the_covariance_with_the_sensors_own_noise(build):
    linear, state = tj.prepare_linear(build(("sensors", "BOLD")))
    response = linear(state)
    for index in range(2):
        np.testing.assert_array_equal(response.lagged_covariance(0, index), response.covariance(index))
    # The noise of two samples is independent.
    assert float(jnp.trace(response.covariance(0) - response.lagged_covariance(1, 0))) > 2.9


def test_lags_that_are_none_are_refused(build):
    linear, state = tj.prepare_linear(build(("every step",)))
    response = linear(state)
    for lag in (-1, 0.5, "1"):
        with pytest.raises(ValueError, match="lag = .*; give a whole number of at least 0"):
            response.lagged_covariance(lag)


@pytest.mark.parametrize(
    ("watched", "paths", "options"),
    [
        pytest.param("means", ("connectivity.weights", "model.gamma"), {}, marks=pytest.mark.slow),
        pytest.param("BOLD", ("connectivity.weights", "integrator.noise.ntau"), {"ntau": 5.0}, marks=pytest.mark.slow),
        pytest.param("BOLD", ("connectivity.weights", "coupling.a"), {"delayed": True}, marks=pytest.mark.slow),
        pytest.param("BOLD", ("model.gamma",), {"symmetric": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_gradients_are_those_of_central_differences(build, watched, paths, options):
    linear, state = tj.prepare_linear(build((watched,), **options))
    cotangent = np.random.RandomState(2).normal(size=(5, 5))

    @jax.jit
    def loss(values):
        changed = state
        for path, value in values.items():
            changed = with_path(changed, path, value)
        response = linear(changed)
        covariance = response.lagged_covariance(1)
        return jnp.sum(cotangent * covariance) / jnp.trace(response.covariance())

    values = {path: get_path(state, path) for path in paths}
    gradient = jax.jit(jax.grad(loss))(values)
    for path in paths:
        direction = np.asarray(values[path]) * np.random.RandomState(3).uniform(0.5, 1.0, values[path].shape)
        up, down = (float(loss(values | {path: values[path] + h * direction})) for h in (1e-4, -1e-4))
        expected = (up - down) / 2e-4
        np.testing.assert_allclose(np.sum(gradient[path] * direction), expected, rtol=1e-5)
        assert abs(expected) > 1e-6


def test_recordings_estimate_it(build):
    """A simulation's lagged covariance is within its sampling error, by 50 pieces; the transposed one is not."""
    sim = build(("means",))
    linear, state = tj.prepare_linear(sim)
    expected = linear(state).lagged_covariance(2)
    simulate, state = tj.prepare(sim, 500_000.0, jax.random.key(2))
    pieces = np.asarray(simulate(state).data[0])[:, 0, :, 0].reshape(50, -1, 5)
    found = np.array([tj.lagged_covariance(piece - piece.mean(axis=0), 2) for piece in pieces])
    error = found.std(axis=0, ddof=1) / np.sqrt(50)
    z, transposed = (found.mean(axis=0) - expected) / error, (found.mean(axis=0) - expected.T) / error
    assert np.max(np.abs(z)) < 3.5 and 0.5 < np.sqrt(np.mean(z**2)) < 1.5
    assert np.sqrt(np.mean(transposed**2)) > 6.0
