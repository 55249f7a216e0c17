"""Posterior of two values: against a grid, of what it consists, what it says, and what it refuses."""

import builtins
from dataclasses import replace
from types import SimpleNamespace

import cloudpickle
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tests.linear_response.conftest import network as ornstein_uhlenbeck
from tvb_jaxfit.posterior.importance import corrected_draws
from tvb_jaxfit.posterior.laplace import Laplace, Point
from tvb_jaxfit.posterior.nuts import Sampler, starts
from tvb_jaxfit.posterior.sample import observed_fc, observed_recordings, posterior
from tvb_jaxfit.uncertainty.expected_fc import fisher_z

PATHS = {"model.I_o", "coupling.a"}
QUANTILES = (0.05, 0.5, 0.95)


def toy(u, covariance, log_evidence=0.0):
    """Laplace approximation of known mean and covariance."""
    return Laplace(Point(np.asarray(u, float), np.zeros(1), 0.0), np.linalg.cholesky(covariance), log_evidence, 0)


def test_nuts_draws_a_normal_distribution_in_units_that_are_not_its_own():
    """Means and covariances within Monte Carlo error, from a root that is only a rough guess of the scale."""
    random = np.random.default_rng(0)
    root = random.normal(size=(3, 3))
    mean, covariance = np.array([1.0, -2.0, 3.0]), root @ root.T + 0.1 * np.eye(3)
    precision = jnp.asarray(np.linalg.inv(covariance))

    def potential(u):
        return 0.5 * (u - mean) @ precision @ (u - mean)

    std = np.sqrt(np.diag(covariance))
    sampler, done = Sampler(potential, 3, 295), []
    units = np.diag(1.5 * std)
    first = starts(potential, mean + 0.2 * std, units, 2, seed=1)
    chains = sampler.chains(first, units, 800, 1, done.append)
    assert sampler.n_warmup == 300 and sum(done) == 1600
    chains = chains.between(300, 800)
    assert chains.u.shape == (2, 500, 3) and chains.potential.shape == chains.is_divergent.shape == (2, 500)
    assert not chains.is_divergent.any()
    u = chains.u.reshape(-1, 3)
    np.testing.assert_allclose((u.mean(axis=0) - mean) / std, 0.0, atol=0.15)
    np.testing.assert_allclose(np.cov(u.T) / np.outer(std, std), covariance / np.outer(std, std), atol=0.2)
    np.testing.assert_allclose(chains.potential[0, 7], potential(jnp.asarray(chains.u[0, 7])), rtol=1e-9)
    # Negative control: not the distribution that the root describes.
    assert np.max(np.abs(covariance / np.outer(std, std) - np.eye(3))) > 0.3


def test_an_interrupt_keeps_the_draws_that_all_chains_have():
    done = []

    def interrupt(n):
        done.append(n)
        if sum(done) >= 60:
            raise KeyboardInterrupt

    sampler = Sampler(lambda u: 0.5 * jnp.sum(u**2), 2, 20)
    chains = sampler.chains(np.zeros((1, 2)), np.eye(2), 500, 0, interrupt)
    assert 10 <= chains.u.shape[1] < 500
    assert np.all(np.isfinite(chains.u)) and chains.n_steps.shape == chains.u.shape[:2]


def test_draws_of_a_skewed_density_are_corrected():
    """Logarithm of a gamma variable: its mean is the digamma function, which the normal approximation misses."""
    shape = 1.5

    def potential(u):
        return float(np.exp(u[0]) - shape * u[0])

    approximation = toy([np.log(shape)], np.array([[1.0 / shape]]))
    found = corrected_draws(potential, approximation, 4000, seed=0)
    assert found.is_corrected and found.u.shape == (4000, 1) and found.n_proposals == 16_000
    from scipy.special import digamma, polygamma

    np.testing.assert_allclose(found.u.mean(), digamma(shape), atol=0.05)
    np.testing.assert_allclose(found.u.var(), polygamma(1, shape), rtol=0.1)
    # Negative control.
    alone = approximation.draws(4000, seed=0)
    assert abs(alone.mean() - digamma(shape)) > 0.2 and abs(alone.var() / polygamma(1, shape) - 1.0) > 0.2


def test_draws_of_many_skewed_variables_are_left_uncorrected():
    n = 60
    approximation = toy(np.full(n, np.log(1.5)), np.eye(n) / 1.5)
    found = corrected_draws(lambda u: float(np.sum(np.exp(u) - 1.5 * u)), approximation, 50, seed=0)
    assert not found.is_corrected and found.n_effective < 0.05 * found.n_proposals
    np.testing.assert_array_equal(found.u, approximation.draws(50, seed=0))


def test_points_without_a_density_are_never_drawn():
    found = corrected_draws(lambda u: np.nan if u[0] < 0.0 else 0.5 * u[0] ** 2, toy([0.0], np.eye(1)), 200, seed=0)
    assert found.is_corrected and found.u.min() >= 0.0


@pytest.fixture(scope="module")
def fc(ten):
    return ten.fc_of(ten.signals(1))


@pytest.fixture(scope="module")
def by_laplace(ten, fc):
    """Posterior by importance-corrected draws."""
    return ten.posterior(ten.data(fc), n_draws=600)


@pytest.fixture(scope="module")
def by_nuts(ten, fc):
    return ten.posterior(ten.data(fc), method="nuts", n_draws=600)


@pytest.fixture(scope="module")
def grid(by_laplace):
    """Draws of the posterior's density on a grid of both variables, and its integral."""
    branch, n = by_laplace.branch, 60
    low, high = by_laplace.u[0].min(axis=0) - 0.7, by_laplace.u[0].max(axis=0) + 0.7
    axes = [np.linspace(*ends, n) for ends in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    values = np.array([branch.value(u) for u in points])
    density = np.where(np.isfinite(values), np.exp(np.nanmin(values) - values), 0.0)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    log_evidence = np.log(cell * density.sum()) - np.nanmin(values)
    chosen = np.random.default_rng(0).choice(len(points), 20_000, p=density / density.sum())
    within = np.random.default_rng(1).uniform(-0.5, 0.5, (20_000, 2)) * [axis[1] - axis[0] for axis in axes]
    return SimpleNamespace(u=points[chosen] + within, log_evidence=log_evidence)


def distance(u, others):
    """Largest difference of the share of draws below a quantile of the others, which is q for the same distribution."""
    return max(np.max(np.abs((u.reshape(-1, 2) < np.quantile(others, q, axis=0)).mean(axis=0) - q)) for q in QUANTILES)


@pytest.mark.slow
def test_draws_and_evidence_are_those_of_a_grid(ten, by_laplace, grid):
    assert by_laplace.method == "Laplace" and "corrected by importance weights" in " ".join(by_laplace.remarks)
    assert distance(by_laplace.u, grid.u) < 0.08
    assert abs(by_laplace.log_evidence - grid.log_evidence) < 0.5
    # Negative controls: draws of the prior, and a shift by a third of the prior's standard deviation.
    assert distance(np.random.default_rng(0).standard_normal((600, 2)), grid.u) > 0.12
    assert distance(by_laplace.u + 0.33, grid.u) > 0.12


@pytest.mark.slow
def test_draws_of_nuts_are_those_of_a_grid(by_nuts, grid):
    assert by_nuts.method == "NUTS"
    size = min(each.min() for each in by_nuts.effective_size.values())
    assert size > 50.0
    # The error of a share of independent draws is at most 0.5 / sqrt(n).
    assert distance(by_nuts.u, grid.u) < 3.0 * 0.5 / np.sqrt(size)


def test_the_result_describes_its_draws(by_laplace):
    assert set(by_laplace.draws) == PATHS and by_laplace.n_free == 2
    assert all(each.shape == (1, 600, 1) for each in by_laplace.draws.values())
    assert by_laplace.names == {path: [""] for path in by_laplace.draws}
    assert by_laplace.correlation.shape == (2, 2) and by_laplace.n_divergent == 0
    assert by_laplace.r_hat == by_laplace.effective_size == {}
    for path, each in by_laplace.draws.items():
        assert by_laplace.quantile(0.05)[path] < by_laplace.median[path] < by_laplace.quantile(0.95)[path]
        np.testing.assert_allclose(by_laplace.std[path], each.std())
    frame = by_laplace.to_frame()
    assert list(frame.columns) == ["median", "5 %", "95 %", "std"] and frame.index.names == ["path", "entry"]
    np.testing.assert_array_equal(frame.loc[("coupling.a", ""), "median"], by_laplace.median["coupling.a"][0])
    text, html = repr(by_laplace), by_laplace._repr_html_()
    for said in (
        "Posterior of 2 values by FC of 600 samples, 45 pairs (Laplace, 600 draws)",
        "uniform from 0.1 to 0.4",
    ):
        assert said in text and said in html
    assert f"log evidence (Laplace) {by_laplace.log_evidence:.1f}" in text
    # At some values a second fixed point is near, which the text says.
    n_doubtful = np.sum(~by_laplace.is_trusted)
    assert by_laplace.is_trusted.shape == (50,) and 0 < n_doubtful < 25
    assert by_laplace.problems == [each for each in by_laplace.problems if f"at {n_doubtful} of 50 draws" in each] != []
    with pytest.raises(ValueError, match="quantile: q = 2"):
        by_laplace.quantile(2)


@pytest.mark.slow
def test_a_result_of_nuts_has_diagnostics(by_nuts):
    assert all(each.shape == (2, 600, 1) for each in by_nuts.draws.values())
    assert {"R-hat", "effective size"} <= set(by_nuts.to_frame().columns)
    data = by_nuts.inference_data
    assert {"diverging", "acceptance_rate", "n_steps", "lp"} <= set(data.sample_stats)
    assert "NUTS, 2 chains of 600 draws" in repr(by_nuts) and "largest R-hat" in repr(by_nuts)


def test_it_is_saved_as_arviz_reads_it(by_laplace, tmp_path):
    arviz = pytest.importorskip("arviz")
    path = by_laplace.save(tmp_path / "new" / "posterior.nc")
    loaded = arviz.from_netcdf(path)
    for name, each in by_laplace.draws.items():
        assert loaded.posterior[name].dims == ("chain", "draw")
        np.testing.assert_array_equal(loaded.posterior[name].values, each[..., 0])
    attrs = loaded.posterior.attrs
    assert attrs["method"] == "Laplace" and attrs["data"] == "FC of 600 samples, 45 pairs"
    np.testing.assert_allclose(attrs["log_evidence"], by_laplace.log_evidence)


def test_a_copy_by_cloudpickle_has_the_same_numbers_and_goes_on(by_laplace):
    copy = cloudpickle.loads(cloudpickle.dumps(by_laplace))
    np.testing.assert_array_equal(copy.u, by_laplace.u)
    assert repr(copy) == repr(by_laplace)
    np.testing.assert_allclose(copy.log_likelihood, by_laplace.log_likelihood)


def test_states_have_the_values_of_draws(ten, by_laplace):
    states = by_laplace.states(3)
    assert len(states) == 3
    for state, index in zip(states, (0, 300, 599), strict=True):
        np.testing.assert_allclose(float(state.coupling.a), by_laplace.draws["coupling.a"][0, index, 0], rtol=1e-12)
    sim = ten.network()
    tj.write_back(states[0], sim)
    np.testing.assert_allclose(sim.coupling.a, by_laplace.draws["coupling.a"][0, 0], rtol=1e-12)
    np.testing.assert_allclose(sim.model.I_o, by_laplace.draws["model.I_o"][0, 0], rtol=1e-12)


@pytest.mark.slow
def test_a_value_that_the_data_do_not_depend_on_keeps_its_prior(ten, fc):
    """The correlation does not depend on the strength of noise that is the same everywhere."""
    nsig = "integrator.noise.nsig"
    state = ten.state(ten.bounded(("coupling.a",)))
    state.integrator.noise.nsig = tj.BoundedParameter(1e-7, 0.5e-7, 1.5e-7)
    from tvb_jaxfit.posterior.sample import posterior

    found = posterior(ten.linear, state, state, ten.data(fc), ten.labels, {}, ten.sampling(n_draws=600))
    assert set(found.draws) == {"coupling.a", nsig}
    np.testing.assert_allclose(found.median[nsig], 1e-7, rtol=0.1)
    np.testing.assert_allclose(found.std[nsig], 1e-7 / np.sqrt(12.0), rtol=0.15)
    # Negative control: the other value is determined.
    assert found.std["coupling.a"][0] < 0.4 * 0.3 / np.sqrt(12.0)


@pytest.mark.slow
def test_a_value_on_its_bound_has_a_posterior(ten, fc):
    found = ten.posterior(ten.data(fc), ten.bounded(("coupling.a",), coupling__a=0.4), n_draws=50)
    assert np.all(np.isfinite(found.u)) and np.isfinite(found.log_evidence)
    assert np.all((found.draws["coupling.a"] > 0.1) & (found.draws["coupling.a"] < 0.4))


@pytest.mark.slow
def test_recordings_are_data(ten):
    signals = ten.signals(1)
    given = tj.Recordings(signals, ten.period, band=(0.05, 1.5), gain="known", noise=False)
    data = observed_recordings(ten.linear, given, 0)
    found = ten.posterior(data, ten.bounded(("coupling.a",)), n_draws=200)
    truth = ten.truth[0]
    assert abs(found.median["coupling.a"][0] - truth) < 4.0 * found.std["coupling.a"][0]
    assert "recordings:" in repr(found)


def test_the_expected_fc_of_draws_is_near_the_data(ten, fc, by_laplace):
    """The residuals of the Fisher z at the median are of the size of sampling errors."""
    density = by_laplace.branch.density
    response = density.response(by_laplace.laplace.maximum.u, by_laplace.laplace.maximum.x)
    residual = np.arctanh(fc[ten.pairs]) - np.asarray(fisher_z(response.fc(0), ten.pairs))
    ratio = np.mean(residual**2) / np.mean(by_laplace.data.variances)
    assert 0.3 < ratio < 2.0


def test_what_is_said_of_a_target_and_what_is_refused(ten, fc):
    def data(target, n_samples=600):
        return observed_fc(ten.linear, target, 0, n_samples * ten.period, True)

    _, remarks = data(fc)
    assert remarks == []
    with pytest.raises(ValueError, match="posterior: .*samples"):
        data(fc, 5)
    equal = fc.copy()
    equal[0, 1] = equal[1, 0] = 1.0
    with pytest.raises(ValueError, match="1 pairs have a correlation of 1 or more, such as regions 0 and 1"):
        data(equal)
    indefinite = fc.copy()
    for (first, second), value in {(0, 1): 0.95, (1, 2): 0.95, (0, 2): -0.9}.items():
        indefinite[first, second] = indefinite[second, first] = value
    _, remarks = data(indefinite)
    assert any("no correlation matrix: its smallest eigenvalue is -" in each for each in remarks)
    missing = fc.copy()
    missing[0, 1] = missing[1, 0] = np.nan
    found, _ = data(missing)
    assert found.n_data == 44


def test_recordings_of_another_period_or_size_are_refused(ten):
    signals = ten.signals(1)
    other = tj.Recordings(signals, 2.0 * ten.period, band=(0.05, 1.0))
    with pytest.raises(ValueError, match=r"period: 400 ms, but monitors\[0\] samples every 200 ms"):
        observed_recordings(ten.linear, other, 0)
    fewer = observed_recordings(ten.linear, tj.Recordings(signals[:, :9], ten.period, band=(0.05, 1.0)), 0)
    with pytest.raises(ValueError, match=r"the data have 9 regions, but monitors\[0\] has 10 signals"):
        ten.posterior(fewer)


def test_a_prior_of_an_unknown_path_is_refused(ten, fc):
    normal = pytest.importorskip("numpyro.distributions").Normal(0.3, 0.1)
    with pytest.raises(ValueError, match="model.w"):
        ten.posterior(ten.data(fc), prior={"model.w": normal})


def test_missing_libraries_are_named_with_the_extra(ten, fc, monkeypatch):
    given = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "numpyro":
            raise ImportError(name)
        return given(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"numpyro not found. Install tvb-jaxfit\[posterior\]"):
        ten.posterior(ten.data(fc), method="nuts")


def test_fitted_values_without_a_stable_fixed_point_are_refused(ten):
    sim = ornstein_uhlenbeck(gamma=0.1, watched=[monitors.TemporalAverage(period=10.0)])
    linear, state = tj.prepare_linear(sim)
    state.coupling.a = tj.Parameter(state.coupling.a)
    n_node = len(sim.connectivity.weights)
    data, _ = observed_fc(linear, np.zeros((n_node, n_node)), 0, 6000.0, False)
    with pytest.raises(tj.NoStableFixedPoint, match="posterior: the fitted values have no stable fixed point"):
        posterior(linear, state, state, data, list(map(str, range(n_node))), {}, ten.sampling())


@pytest.mark.slow
def test_models_are_compared_by_evidence_and_by_other_data(ten, fc, by_laplace):
    """I_o is at its true value where it is not free: the smaller model has the larger evidence."""
    smaller = ten.posterior(ten.data(fc), ten.bounded(("coupling.a",)), n_draws=200)
    models = {"both": by_laplace, "coupling": smaller}
    held_out = ten.fc_of(ten.signals(3))
    found = tj.compare_models(models, held_out)
    assert found.names == ["coupling", "both"] and list(found.n_free) == [1, 2]
    assert found.log_evidence[0] > found.log_evidence[1] and np.all(np.isfinite(found.held_out))
    # Held-out FC is less probable than the data themselves, that of another network far less.
    shuffled = np.random.default_rng(0).permutation(10)
    worse = tj.compare_models(models, held_out[np.ix_(shuffled, shuffled)])
    assert np.all(worse.held_out < found.held_out - 10.0)
    frame = found.to_frame()
    assert list(frame.index) == found.names and frame["difference"].iloc[0] == 0.0
    assert "held out" in repr(found) and "coupling" in found._repr_html_()
    assert "held out" not in tj.compare_models(models).columns


def test_models_of_different_data_and_held_out_data_of_another_kind_are_refused(ten, by_laplace):
    other = replace(by_laplace, branch=replace(by_laplace.branch, density=_with_data(by_laplace, ten)))
    with pytest.raises(ValueError, match="'other' has other data"):
        tj.compare_models({"first": by_laplace, "other": other})
    pair = {"first": by_laplace, "second": by_laplace}
    with pytest.raises(ValueError, match=r"held_out: shape \(3, 3\)"):
        tj.compare_models(pair, np.eye(3))
    with pytest.raises(ValueError, match="held_out: recordings"):
        tj.compare_models(pair, tj.Recordings(ten.signals(1), ten.period))
    with pytest.raises(ValueError, match="correlations are missing"):
        tj.compare_models(pair, np.full((10, 10), np.nan))


def _with_data(posterior, ten):
    fc = ten.fc_of(ten.signals(9))
    return replace(posterior.branch.density, data=replace(posterior.data, fc=fc))
