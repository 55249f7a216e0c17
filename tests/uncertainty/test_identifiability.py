"""Identifiability of fitted values: derivatives, standard errors against scatter, priors, and what is refused."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tests.balance.conftest import exc_inh
from tests.linear_response.conftest import network as ornstein_uhlenbeck
from tvb_jaxfit.dependents import free_parameters_of
from tvb_jaxfit.persistence.serialise import read, write
from tvb_jaxfit.uncertainty.expected_fc import ExpectedFC
from tvb_jaxfit.uncertainty.free_values import FreeValues
from tvb_jaxfit.uncertainty.identifiability import identifiability


@pytest.fixture(scope="module")
def two(six):
    """Identifiability of two global values by 600 samples."""
    return six.identify(six.linear, six.state())


@pytest.fixture(scope="module")
def many(six):
    """Identifiability of values of every kind: global, of maps, regional in part; by FC with missing pairs."""
    gradient = np.linspace(-1.0, 1.0, six.n_node)
    target = np.zeros((six.n_node, six.n_node))
    target[0, 1] = target[1, 0] = target[2, 5] = target[5, 2] = np.nan
    state = six.state(
        **{
            "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.5),
            "model.I_o": tj.MapParameter({"gradient": gradient / gradient.std()}, coefficients=[np.log(0.32), 0.02]),
            "model.w": tj.MaskedParameter(np.linspace(0.4, 0.6, six.n_node), gradient > 0.0, 0.0, 1.0),
            "model.J_N": tj.PositiveParameter(),
            # FC does not depend on it.
            "model.sigma_noise": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.01),
        }
    )
    return six.identify(six.linear, state, target=target)


def finite_differences(expected):
    vector, steps = expected.free.vector, 1e-5 * np.diag(expected.free.prior_std)
    sides = [(expected.z(vector + h) - expected.z(vector - h)) / (2.0 * np.sum(h)) for h in steps]
    return np.stack(sides, axis=1)


def off_by(ours, theirs):
    return np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))


def test_the_information_is_that_of_finite_differences_for_values_of_every_kind(many):
    expected, free = many.likelihood.expected, many.free
    assert free.names == {
        "model.w": ["region 3", "region 4", "region 5"],
        "model.J_N": [""],
        "model.I_o": ["intercept", "gradient"],
        "model.sigma_noise": [""],
        "coupling.a": [""],
    }
    assert expected.pairs[0].size == 13
    by_differences = finite_differences(expected)
    assert off_by(expected.jacobian(free.vector)[1], by_differences) < 1e-6
    covariance = many.likelihood.cholesky @ many.likelihood.cholesky.T
    scaled = by_differences * free.prior_std
    information = scaled.T @ np.linalg.solve(covariance, scaled)
    ours = (many.directions * many.eigenvalues) @ many.directions.T
    assert off_by(ours, information) < 1e-5
    # Negative control: independent errors of the pairs.
    independent = scaled.T @ (scaled / np.diag(covariance)[:, None])
    assert off_by(independent, information) > 0.1


@pytest.mark.slow
def test_dependent_values_and_delays_are_part_of_the_derivative(six):
    sim = exc_inh(G=0.3, length=4000.0)
    linear, state = tj.prepare_linear(sim)
    state.model.G = tj.BoundedParameter(0.3, 0.0, 1.2)
    state.model.J_i = tj.Balanced(simulate=linear.simulate)
    for of_simulator, marked in ((linear, state), _delayed(six)):
        free = FreeValues(free_parameters_of(marked), six.labels)
        n_node = marked.connectivity.weights.shape[0]
        expected = ExpectedFC(of_simulator, marked, free, 0, np.triu_indices(n_node, 1))
        assert off_by(expected.jacobian(free.vector)[1], finite_differences(expected)) < 1e-5


def _delayed(six):
    sim = six.network()
    sim.connectivity.speed, sim.connectivity.tract_lengths = np.array([2.0]), np.full((six.n_node,) * 2, 80.0)
    linear, state = tj.prepare_linear(sim)
    return linear, six.marked(state)


@pytest.mark.slow
def test_estimates_from_recordings_scatter_by_the_standard_errors(six):
    """Two Gauss-Newton steps from the true values, for each of 200 recordings."""
    n_samples, free = 2000, np.arange(six.n_node) >= 4
    values = {
        "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.5),
        "model.w": tj.MaskedParameter(np.linspace(0.4, 0.6, six.n_node), free, 0.0, 1.0),
    }
    found = six.identify(six.linear, six.state(**values), n_samples * six.period)
    expected, cholesky, truth = found.likelihood.expected, found.likelihood.cholesky, found.free.vector
    estimates = []
    for recorded in six.fisher_z(six.record(six.response, 200, n_samples, seed=5)):
        vector = truth
        for _ in range(2):
            of_model, jacobian = expected.jacobian(vector)
            whitened = np.linalg.solve(cholesky, np.column_stack([recorded - of_model, jacobian]))
            vector = vector + np.linalg.lstsq(whitened[:, 1:], whitened[:, 0], rcond=None)[0]
        estimates.append(vector)
    scatter = np.cov(np.transpose(estimates))
    predicted = np.concatenate(list(found.standard_error_without_prior.values()))
    np.testing.assert_allclose(np.sqrt(np.diag(scatter)), predicted, rtol=0.15)
    # Correlations between the values, too.
    information = (found.directions * found.eigenvalues) @ found.directions.T
    covariance = np.linalg.inv(information) * np.outer(found.free.prior_std, found.free.prior_std)
    relative = (scatter - covariance) / np.outer(predicted, predicted)
    assert np.max(np.abs(relative)) < 0.25
    # Negative control: the information of independent pairs.
    jacobian = expected.jacobian(truth)[1] / np.linalg.norm(cholesky, axis=1)[:, None]
    independent = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    assert np.max(np.abs(independent / np.sqrt(np.diag(scatter)) - 1.0)) > 0.15


def test_ten_times_the_recording_has_ten_times_the_information(many):
    longer = replace(many.likelihood, n_samples=10 * many.likelihood.n_samples).jacobian
    # Not exactly: the terms of second order fade.
    determined = many.eigenvalues > 1.0
    eigenvalues = np.linalg.eigvalsh(longer.T @ longer)[::-1]
    np.testing.assert_allclose(eigenvalues[determined], 10.0 * many.eigenvalues[determined], rtol=0.1)


def test_the_prior_limits_the_standard_errors(many):
    for path, errors in many.standard_error.items():
        without = many.standard_error_without_prior[path]
        assert np.all(np.isfinite(without)) and np.all(errors > 0.0)
        assert np.all(errors <= many.prior_std[path]) and np.all(errors <= without)
        assert np.array_equal(many.is_determined[path], errors < many.prior_std[path] / np.sqrt(2.0))
    np.testing.assert_allclose(many.prior_std["coupling.a"], 0.5 / np.sqrt(12.0))
    # A quarter of the size to four times as much; the intercept of exp over the logarithm of that.
    np.testing.assert_allclose(many.prior_std["model.J_N"], 3.75 * 0.2609 / np.sqrt(12.0))
    np.testing.assert_allclose(many.prior_std["model.I_o"], np.array([np.log(16.0), 1.0]) / np.sqrt(12.0))
    # FC says nothing of one of the values.
    np.testing.assert_allclose(many.standard_error["model.sigma_noise"], 0.01 / np.sqrt(12.0), rtol=1e-9)
    assert many.standard_error_without_prior["model.sigma_noise"] > 1e3 * 0.01
    assert many.eigenvalues[-1] == 0.0 and 2 <= many.n_determined < many.eigenvalues.size


@pytest.mark.slow
def test_values_that_act_alike_are_one_flat_direction(six):
    """Without recurrent excitation, the strengths of coupling and of synapses enter as a product."""
    sim = copy.deepcopy(six.sim)
    sim.model.w = np.array([0.0])
    linear, state = tj.prepare_linear(sim)
    found = six.identify(linear, six.marked(state, **{"coupling.a": tj.Parameter(), "model.J_N": tj.Parameter()}))
    assert found.n_determined == 1 and found.eigenvalues[1] < 1e-8 * found.eigenvalues[0]
    relative = found.directions[:, 1] * found.free.prior_std / found.free.vector
    np.testing.assert_allclose(relative[0], -relative[1], rtol=1e-6)
    least, correlated = found.trade_offs()
    assert least.startswith("least determined: ") and "coupling.a" in least and "model.J_N" in least
    # The prior limits both.
    assert correlated == "model.J_N and coupling.a: correlation -0.99"
    assert all(np.all(np.isfinite(errors)) for errors in found.standard_error_without_prior.values())


@pytest.mark.slow
def test_a_value_on_its_bound_is_stated(six):
    state = six.state(
        **{"coupling.a": tj.BoundedParameter(0.2, 0.0, 0.2), "model.I_o": tj.BoundedParameter(0.32, 0.0, 1.0)}
    )
    found = six.identify(six.linear, state)
    assert np.isfinite(found.standard_error["coupling.a"]).all()
    assert "1 of 2 values lies on a bound (coupling.a)" in repr(found)
    profile = found.profile("coupling.a", n=5)
    assert profile.values.max() <= 0.2


def test_near_the_optimum_the_profile_is_the_quadratic_approximation(many):
    near = many.profile("model.w", 1, n=5, width=0.2)
    assert near.name == "model.w[region 4]" and near.values[2] == near.fitted and near.deviance[2] == 0.0
    np.testing.assert_allclose(near.quadratic, [0.04, 0.01, 0.0, 0.01, 0.04], atol=1e-9)
    np.testing.assert_allclose(near.deviance, near.quadratic, rtol=0.1)


@pytest.mark.slow
def test_a_profile_is_the_minimum_over_the_other_values(two):
    profile = two.profile("coupling.a", n=5, width=2.0)
    # Far from the fitted value it is not quadratic: weak coupling is excluded, and strong coupling is not.
    assert profile.deviance[0] > 2.0 * profile.quadratic[0] and profile.deviance[-1] < 0.9 * profile.quadratic[-1]
    value, fitted, std = profile.values[3], two.free.vector, two.free.prior_std

    def deviance(other):
        vector = np.array([other, value])
        changes = (vector - fitted) / std
        return np.sum(two.likelihood.residual(vector) ** 2) + changes @ changes

    others = fitted[0] + np.linspace(-0.05, 0.0, 501)
    assert abs(profile.deviance[3] - min(map(deviance, others))) < 0.01
    # Negative control: without a fit of the other value.
    assert deviance(fitted[0]) > 10.0 * profile.deviance[3]


def test_it_prints_saves_and_tabulates(many):
    text = repr(many)
    assert text.startswith("Identifiability of 8 values by FC: 13 pairs, a recording of 120 s (600 samples)")
    assert f"{many.n_determined} of 8 directions are determined" in text
    assert "model.w" in many._repr_html_()
    assert repr(pickle.loads(pickle.dumps(many))) == text
    frame = many.to_frame()
    assert frame.loc[("model.I_o", "gradient"), "value"] == 0.02 and len(frame) == 8
    np.testing.assert_allclose(np.diag(many.correlation), 1.0)
    assert all(isinstance(sentence, str) for sentence in many.trade_offs())


def test_its_record_is_light_and_has_the_same_numbers(many, tmp_path):
    record = many.record
    write(tmp_path / "record.npz", record, "record")
    for each in (record, pickle.loads(pickle.dumps(record)), read(tmp_path / "record.npz", "record")):
        assert repr(each) == repr(many).replace("Identifiability of", "StandardErrors of")
        for name in ("values", "standard_error", "standard_error_without_prior", "prior_std", "is_determined"):
            theirs = getattr(many, name)
            assert list(getattr(each, name)) == list(theirs) == list(each.names)
            for path, values in getattr(each, name).items():
                np.testing.assert_array_equal(values, theirs[path])
        np.testing.assert_array_equal(each.eigenvalues, many.eigenvalues)
        np.testing.assert_allclose(each.correlation, many.correlation, atol=1e-7)
        assert (each.n_samples, each.n_pairs, each.n_regions, each.length) == (600, 13, 6, 120_000.0)
        assert each.to_frame().equals(many.to_frame())
    assert record.summary() == f"{many.n_determined} of 8 directions determined by FC of 120 s"
    assert record.count("model.sigma_noise") == "no" and record.count("model.w").endswith(" of 3")
    # The linear response, which it does not hold, takes far more.
    assert len(pickle.dumps(record)) < 5000 < 0.1 * len(pickle.dumps(many))


@pytest.mark.slow
def test_a_saved_result_profiles_as_before(many):
    again = pickle.loads(pickle.dumps(many)).profile("model.w", "region 4", n=3)
    np.testing.assert_allclose(again.deviance, many.profile("model.w", 1, n=3).deviance, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("model.W",),
            "path: 'model.W' is no fitted value (model.w, model.J_N, model.I_o, model.sigma_noise, coupling.a)",
        ),
        (("model.w",), "entry: None; model.w has 3 values"),
        (("model.w", 3), "entry: 3; model.w has 3 values. Give an index below 3"),
        (("model.w", "region 0"), "region 3, region 4, region 5"),
    ],
)
def test_a_profile_of_no_value_is_refused(many, arguments, message):
    with pytest.raises(ValueError) as error:
        many.profile(*arguments)
    assert message in str(error.value)


def test_what_has_no_linear_response_is_refused(six):
    with pytest.raises(ValueError, match="length: 600 ms are 3 samples of a period of 200 ms; give at least 2000"):
        six.identify(six.linear, six.state(), 600.0)
    sim = copy.deepcopy(six.sim)
    sim.integrator.noise.nsig = np.array([0.0])
    linear, state = tj.prepare_linear(sim)
    with pytest.raises(ValueError, match=r"6 of 6 signals do not fluctuate.*nsig values above 0"):
        six.identify(linear, six.marked(state))


def test_values_without_a_stable_fixed_point_are_refused(six):
    sim = ornstein_uhlenbeck(gamma=0.1, watched=[monitors.TemporalAverage(period=10.0)])
    linear, state = tj.prepare_linear(sim)
    state.coupling.a = tj.Parameter(state.coupling.a)
    with pytest.raises(tj.NoStableFixedPoint, match="identifiability: the fitted values have no stable fixed point"):
        identifiability(linear, state, np.zeros((5, 5)), 0, 1e5, six.labels[:5])


@pytest.mark.slow
@pytest.mark.usefixtures("short_linear_fits")
def test_a_fit_says_what_its_target_determines(six):
    target = np.asarray(six.response.fc())
    free = {
        "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.5),
        "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    }
    sim, run = copy.deepcopy(six.sim), tj.RunOptions(progress=False)
    sim.simulation_length = 120_000.0
    fit = tj.fit(sim, target, free, method="linear", run=run, search=tj.SearchOptions(max_evaluations=20))
    assert fit.standard_errors is None and "identifiability" not in repr(fit)
    found = fit.identifiability()
    assert fit.standard_errors is found.record and f"  identifiability: {found.record.summary()}" in repr(fit)
    assert found.likelihood.n_samples == 600 and found.length == 120_000.0
    assert "length: that of the simulator" in repr(found)
    np.testing.assert_array_equal(found.values["model.w"], fit.best.model.w.value)
    assert found.free.names["model.w"] == [f"region {i}" for i in range(six.n_node)]
    longer = fit.identifiability(length=1_200_000.0)
    assert longer.n_determined >= found.n_determined and "length: that" not in repr(longer)
    np.testing.assert_array_less(longer.standard_error["coupling.a"], found.standard_error["coupling.a"])
    again = pickle.loads(pickle.dumps(fit)).identifiability()
    np.testing.assert_allclose(again.eigenvalues, found.eigenvalues, rtol=1e-6, atol=1e-9)
    for wrong in (0.0, "long", np.nan):
        with pytest.raises(ValueError, match="identifiability: length = "):
            fit.identifiability(wrong)
    with pytest.raises(ValueError, match="does not hold the arguments of its fit"):
        replace(fit, request=None).identifiability()
