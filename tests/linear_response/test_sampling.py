"""Samples of the linear response: a Gaussian process with its covariances, smooth in the state on the same draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.linear_response import sampling
from tvb_jaxfit.linear_response.covariance import Way
from tvb_jaxfit.linear_response.linearise import block_diagonal
from tvb_jaxfit.runtime.programs import Program
from tvb_jaxfit.state import get_path, with_path

KEY, N_SAMPLES = jax.random.key(0), 6


def watched(ou):
    """Monitors, and the errors of their variances that the bands of frequencies leave, relative to white activity."""
    return (
        (monitors.SubSample(period=8.0), 1e-12),
        (monitors.TemporalAverage(period=20.0), 1e-12),
        (ou.eeg(obsnoise=None, reference="average"), 1e-12),
        (monitors.SpatialAverage(period=4.0, spatial_mask=np.array([0, 0, 1, 1, 1])), 1e-12),
        (monitors.TemporalAverage(period=1000.0), 1e-5),
        (monitors.Bold(period=720.0), 3e-5),
        (tj.BalloonBold(period=720.0), 3e-5),
    )


def covariances_over_draws(linear, response, index, n_samples=N_SAMPLES):
    """Covariances (n_samples, n_samples, n, n) of samples, exactly: they are linear in the draws."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state, linearised, x = response.state, response.linearised, response.fixed_point.x
        monitor, step, dt = linear.simulate.monitors[index], linear.simulate.step, linear.simulate.dt
        gain, length = linear._complex_gain(monitor, state.monitors[index], x)
        plan = sampling.plan(n_samples, monitor.istep, dt, length, monitor.is_bold)
        rows = block_diagonal(linear._observed(x))[linear._order(monitor, x)]
        (way, *_) = linear._ways_of_step(state)

        def samples(draws):
            noise, weights = state.integrator.noise, state.connectivity.weights
            found, _ = sampling.sampled_signals(step, weights, linearised, rows, noise, gain, draws, plan, dt, way)
            signals = monitor.spatial(found[:n_samples].reshape(n_samples, -1, *x.shape[1:]))
            return signals.reshape(n_samples, -1)

        zero = jnp.zeros(plan.draws(KEY, linearised.B.shape[0] * linearised.B.shape[2]).shape)
        J = np.asarray(Program(jax.jacrev(samples))(zero)).reshape(n_samples, -1, zero.size)
        return np.einsum("tiz,sjz->tsij", J, J)


def agrees(linear, response, index, tolerance):
    """Assert that the covariances of samples over draws are those of the response, at all lags."""
    found = covariances_over_draws(linear, response, index)
    expected = [np.asarray(response.lagged_covariance(lag, index)) for lag in (0, 1, 3)]
    size = np.max(np.abs(expected[0]))
    for lag, covariance in zip((0, 1, 3), expected, strict=True):
        for start in (0, 2):
            assert np.max(np.abs(found[start + lag, start] - covariance)) < max(tolerance, 1e-9) * size, lag
    assert np.max(np.abs(found[0, 0] - expected[0])) < tolerance * size
    # Negative control: of another lag.
    assert np.max(np.abs(found[1, 0] - expected[0])) > 1e-2 * size


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"ntau": 5.0}], ids=str)
def test_the_covariance_over_draws_is_that_of_the_response(ou, options):
    """Exactly, without sampling errors: through each monitor, by symmetric and general modes, with coloured noise."""
    each = watched(ou)
    linear, state = tj.prepare_linear(ou.network(watched=[monitor for monitor, _ in each], **options))
    response = linear(state)
    for index, (_, tolerance) in enumerate(each):
        agrees(linear, response, index, tolerance)


def test_the_covariance_over_draws_is_that_of_the_lyapunov_equation(ou):
    sim = ou.network(watched=[monitors.SubSample(period=8.0)])
    response, linear, _ = ou.prepared(sim)
    exact, found = ou.brute_force(sim), covariances_over_draws(linear, response, 0)
    assert ou.off_by(found[0, 0], exact.covariance) < 1e-12
    assert ou.off_by(found[1, 0], np.linalg.matrix_power(exact.M, 8) @ exact.P) < 1e-12
    assert ou.off_by(found[0, 1], (np.linalg.matrix_power(exact.M, 8) @ exact.P).T) < 1e-12
    # Negative control: one step more.
    assert ou.off_by(found[1, 0], np.linalg.matrix_power(exact.M, 9) @ exact.P) > 1e-2


@pytest.mark.slow
def test_delays_by_frequencies(ou):
    each = watched(ou)[1:2]
    linear, state = tj.prepare_linear(ou.network(delayed=True, ntau=5.0, watched=[monitor for monitor, _ in each]))
    agrees(linear, linear(state), 0, 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"ntau": 5.0}], ids=str)
def test_modes_and_frequencies_give_the_same_samples(ou, options):
    """On the same draws, also through the hemodynamics of each region, which the eigenmodes need not know."""
    linear, state = tj.prepare_linear(ou.network(watched=[tj.BalloonBold(period=720.0)], **options))
    response, of_frequencies = linear(state), replace(linear, way=Way.FREQUENCIES)
    samples = response.sample(KEY, 100)
    assert samples.shape == (100, 1, ou.n_node, 1)
    assert ou.off_by(of_frequencies.sample(response, KEY, 100, 0), samples) < 1e-12
    np.testing.assert_array_equal(response.sample(KEY, 100), samples)
    assert ou.off_by(response.sample(jax.random.key(1), 100), samples) > 0.1


@pytest.mark.slow
def test_defective_modes_are_left_to_frequencies(ou):
    """A chain has one eigenvalue and one eigenvector: samples are right, and NaN inside transforms."""
    linear, state = tj.prepare_linear(ou.network(watched=[monitors.SubSample(period=8.0)]))
    state = with_path(state, "connectivity.weights", jnp.eye(ou.n_node, k=-1))
    response, by_frequencies = linear(state), replace(linear, way=Way.FREQUENCIES)
    samples = response.sample(KEY, 20)
    np.testing.assert_array_equal(samples, by_frequencies(state).sample(KEY, 20))
    assert np.all(np.isnan(jax.jit(lambda state: linear(state).sample(KEY, 20))(state)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "period"),
    [({"symmetric": True}, 720.0), ({}, 720.0), ({"ntau": 5.0}, 720.0), ({"delayed": True, "ntau": 5.0}, 1000.0)],
    ids=str,
)
@pytest.mark.parametrize("repeated", [False, True])
def test_gradients_are_those_of_central_differences(ou, options, period, repeated):
    """Also where eigenvalues coincide: all regions are connected equally."""
    linear, state = tj.prepare_linear(ou.network(watched=[tj.BalloonBold(period=period)], **options))
    if repeated:
        weights = jnp.asarray(0.5 * (1.0 - np.eye(ou.n_node)))
        state = with_path(state, "connectivity.weights", weights)
    functional = np.random.RandomState(0).normal(size=(40, 1, ou.n_node, 1))

    def loss(values, state):
        for path, value in values.items():
            state = with_path(state, path, value)
        samples = linear(state).sample(KEY, 40)
        return jnp.sum(functional * samples) / jnp.sqrt(jnp.mean(samples**2))

    paths = ["model.gamma", "coupling.a", "integrator.noise.nsig", "connectivity.weights", "monitors[0].tau_s"]
    paths += ["integrator.noise.ntau"] if "ntau" in options else []
    values, random = {path: get_path(state, path) for path in paths}, np.random.RandomState(1)
    gradient, value_of = Program(jax.grad(loss))(values, state), Program(loss)
    for path, value in values.items():
        step = 1e-4 * value * random.uniform(0.5, 1.0, np.shape(value))
        up, down = (value_of(values | {path: value + sign * step}, state) for sign in (1.0, -1.0))
        slope = np.sum(np.asarray(gradient[path]) * step)
        assert abs(slope) > 1e-7
        np.testing.assert_allclose((up - down) / 2.0, slope, rtol=1e-5, atol=1e-9, err_msg=path)


@pytest.mark.slow
def test_samples_of_many_draws_have_the_covariance_of_the_response(ou):
    """Within the sampling error of the FC; that of other weights is outside of it."""
    linear, state = tj.prepare_linear(ou.network(watched=[monitors.TemporalAverage(period=100.0)]))
    response, n = linear(state), 20_000
    upper = np.triu_indices(ou.n_node, 1)
    z = np.arctanh(np.asarray(tj.compute_fc(response.sample(KEY, n)))[upper])

    def deviation(response):
        return (z - np.arctanh(np.asarray(response.fc())[upper])) / response.z_standard_error(100.0 * n)[upper]

    assert np.max(np.abs(deviation(response))) < 4.0
    weights = get_path(state, "connectivity.weights")
    assert np.max(np.abs(deviation(linear(with_path(state, "connectivity.weights", 0.8 * weights))))) > 8.0


@pytest.mark.slow
def test_an_unstable_response_raises_nothing(ou):
    linear, state = tj.prepare_linear(ou.network(watched=[monitors.TemporalAverage(period=100.0)]))
    response = linear(with_path(state, "coupling.a", jnp.array([0.2])))
    assert not response.is_stable and response.sample(KEY, 10).shape == (10, 1, ou.n_node, 1)


def test_arguments_that_are_refused(ou):
    response, _, _ = ou.prepared(ou.network(watched=[monitors.ProgressLogger(period=100.0), monitors.Raw()]))
    with pytest.raises(ValueError, match=r"monitors\[0\]: records nothing"):
        response.sample(KEY, 10)
    with pytest.raises((TypeError, ValueError), match="n_samples"):
        response.sample(KEY, 0, 1)
    with pytest.raises((TypeError, ValueError), match=r"jax\.random\.key"):
        response.sample(0, 10, 1)


@pytest.mark.slow
def test_fcd_of_samples_is_that_of_simulations(build_small):
    """KS distances between simulations and samples are those between samples on different draws."""
    dt, n_samples = 4.0, 600
    bold = monitors.Bold(period=720.0)
    model = {"w": np.array([0.5]), "I_o": np.array([0.31])}
    sim = build_small(nsig=1e-7, dt=dt, steps=int((n_samples + 60) * 720.0 / dt), monitors=[bold], model=model)
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    assert response.is_stable and np.max(response.nonlinearity) < 0.05

    def distribution(signals):
        return np.asarray(tj.compute_fcd(signals[-n_samples:], 83, 10).distribution)

    simulate, _ = tj.prepare(sim)
    runs = [simulate(tj.prepare(sim, noise=jax.random.key(seed))[1]).data[0] for seed in range(4)]
    simulated = np.concatenate([distribution(run) for run in runs])
    drawn = [distribution(response.sample(jax.random.key(seed), n_samples)) for seed in range(24)]
    drawn = [np.concatenate(drawn[start : start + 4]) for start in range(0, 24, 4)]
    among = [float(tj.ks_distance(a, b)) for k, a in enumerate(drawn) for b in drawn[:k]]
    between = np.mean([float(tj.ks_distance(simulated, each)) for each in drawn])
    assert between < np.mean(among) + 3.0 * np.std(among)
    # Negative control: samples without correlation in time.
    white = np.random.RandomState(0).multivariate_normal(np.zeros(6), response.covariance(), n_samples)
    assert np.mean([float(tj.ks_distance(distribution(white), each)) for each in drawn]) > 2.0 * between


def test_bands_stand_for_all_bands():
    """Their weights are positive, and sum smooth functions as all bands do."""
    for last in (0, 1, 16, 17, 22, 27, 44, 78, 500, 5000):
        bands, weights = sampling._bands(last)
        every = np.arange(1, last + 1)
        assert np.all(weights > 0.0) and np.all(np.isin(bands, every))
        for power in (0.0, -1.0, -2.0):
            error = weights @ bands**power - np.sum(every**power)
            assert abs(error) < 5e-3 * np.sum(every[16:] ** power) + 1e-12
    # Negative control: without the weights.
    assert abs(np.sum(bands**-1.0) - np.sum(every**-1.0)) > 0.1
