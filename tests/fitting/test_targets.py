"""Targets besides FC: the value of each by samples and by the linear response, and fits to several of them at once."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit import BoundedParameter
from tvb_jaxfit.fitting import linear_stage
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.linear import candidate
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.targets.read import split_targets

N_NODE, PERIOD = 6, 1000.0
FREQUENCIES = 0.04 * np.arange(1, 11)


def _sim(weights, seconds=60, **values):
    parts = {"monitors": [monitors.Bold(period=PERIOD)], "nsig": 1e-5, "steps": 250 * seconds}
    return simulator(weights, model=values, **parts)


def _with(state, w=(0.4, 0.6, 0.5, 0.55, 0.45, 0.5), a=0.12):
    """State with the values of the network whose observables are the targets, or with others."""
    model, coupling = state.model.replace(w=jnp.array(w)), state.coupling.replace(a=jnp.array([a]))
    return state.replace(model=model, coupling=coupling)


@pytest.fixture(scope="module")
def truth(weights_6):
    """Linear response of the network whose observables are the targets."""
    linear, state = tj.prepare_linear(_sim(weights_6))
    return linear(_with(state))


@pytest.fixture(scope="module")
def recording(truth):
    """Signals of a long recording of that network."""
    return np.asarray(truth.sample(jax.random.key(7), 2_000))[:, 0, :, 0]


@pytest.fixture(scope="module")
def targets(truth, recording):
    """Targets of all kinds by name; those that the linear response has exactly, by it."""
    fcd = tj.compute_fcd(recording[:120], 20, 8)
    return {
        "fc": np.asarray(truth.fc()),
        "power": tj.PowerTarget(truth.power(FREQUENCIES), frequencies=FREQUENCIES),
        "lagged_covariance": tj.LaggedCovarianceTarget(truth.lagged_covariance(2), lag=2, normalised=False),
        "variance": np.asarray(jnp.diagonal(truth.covariance())),
        "fcd": tj.FCDTarget(fcd, window=20, step=8, n_samples_of_recording=120, weight=0.5),
        "mean_rate": tj.MeanRateTarget(0.3, rate="S", weight=0.1),
        "gbc": tj.SignalTarget(
            np.zeros(N_NODE), lambda signals, period: tj.global_brain_connectivity(tj.compute_fc(signals)), weight=0.2
        ),
    }


FREE = {
    "coupling.a": BoundedParameter(lower_bound=0.0, upper_bound=0.3),
    "model.w": BoundedParameter(lower_bound=0.2, upper_bound=0.8, regional=True),
}


def _criterion(targets, sim, **options):
    fc, others = split_targets(targets)
    others = {name: each.bound(sim) for name, each in others.items()}
    return Criterion(tj.rmse_corr, fc * ~np.eye(N_NODE, dtype=bool), others, period=PERIOD, **options)


def test_the_linear_response_of_the_truth_has_no_distance_from_its_stationary_observables(weights_6, targets, truth):
    criterion = _criterion(targets, _sim(weights_6), n_time=120)
    linear, state = tj.prepare_linear(_sim(weights_6))
    distances = jax.jit(lambda state: criterion.of_response(linear(state), jax.random.key(1)))
    found = distances(_with(state))
    for name in ("power", "lagged_covariance", "variance"):
        assert float(found[name]) < 1e-9, name
    # Four recordings of 120 samples, against another one.
    assert 0.0 < float(found["fcd"]) < 0.15
    # Negative control: the network before the fit differs in each.
    other = distances(_with(state, w=N_NODE * (0.5,), a=0.07))
    assert all(float(other[name]) > 100.0 * float(found[name]) for name in ("power", "lagged_covariance", "variance"))


@pytest.mark.parametrize("name", ["power", "lagged_covariance", "variance"])
def test_samples_and_linear_response_give_the_same_observable(weights_6, targets, truth, recording, name):
    _, others = split_targets(targets)
    target = others[name]
    exact = np.asarray(target.of_response(truth, 0))
    sampled = np.asarray(target.of_signal(jnp.asarray(recording), PERIOD))
    assert sampled.shape == exact.shape
    # Sampling error of 2,000 samples, relative to the typical size.
    error = np.median(np.abs(sampled - exact)) / np.median(np.abs(exact))
    assert error < {"power": 0.2, "lagged_covariance": 1.0, "variance": 0.1}[name]
    # Negative control: the values of other regions.
    assert np.median(np.abs(sampled - np.roll(exact, 1, axis=-1))) / np.median(np.abs(exact)) > 1.5 * error


@pytest.mark.slow
def test_the_gradient_of_all_terms_by_the_linear_response_is_that_of_finite_differences(weights_6, targets):
    sim = _sim(weights_6)
    criterion, (linear, state) = _criterion(targets, sim, n_time=120), tj.prepare_linear(sim)

    def total(a):
        at = state.replace(coupling=state.coupling.replace(a=jnp.reshape(a, (1,))))
        return criterion.total(0.0, criterion.of_response(linear(at), jax.random.key(1)))

    value = jax.jit(total)
    slope, step = float(jax.jit(jax.grad(total))(jnp.asarray(0.08))), 1e-5
    expected = (float(value(jnp.asarray(0.08 + step))) - float(value(jnp.asarray(0.08 - step)))) / (2 * step)
    assert slope == pytest.approx(expected, rel=1e-6) and abs(slope) > 0.01


@pytest.mark.slow
def test_a_linear_fit_to_all_of_them_lowers_every_term(weights_6, targets, short_linear_fits):
    result = tj.fit(_sim(weights_6), targets, FREE, method="linear", max_evaluations=80, progress=False)
    history, best = result.history, result.history.best_step
    names = ["fc", *result.targets]
    assert set(history.aux) == {"r", "nonlinearity", *names} and set(result.fresh.terms) == set(names)
    weights = {"fc": 1.0} | {name: each.weight for name, each in result.targets.items()}
    total = sum(weights[name] * history.aux[name] for name in names)
    np.testing.assert_allclose(history.loss, total, rtol=1e-12)
    of_truth = ("fc", "power", "lagged_covariance", "variance")
    for name in of_truth:
        assert history.aux[name][best] < history.aux[name][0], name
    # The others contradict these: no values give their rate and their connectivity of 0.
    before, after = (sum(history.aux[name][step] for name in of_truth) for step in (0, best))
    assert history.loss[best] < history.loss[0] and after < 0.7 * before
    assert all(f"  {name}: " in repr(result) for name in result.targets)
    assert f"fcd {np.mean(result.fresh.terms['fcd']):.4f}" in repr(result)


@pytest.mark.slow
def test_a_fit_through_the_simulation_sums_the_weighted_terms(weights_6, targets):
    sim = _sim(weights_6, seconds=60)
    result = tj.fit(sim, targets, FREE, method="simulate", max_steps=2, resample=False, progress=False)
    names = ["fc", *result.targets]
    weights = {"fc": 1.0} | {name: each.weight for name, each in result.targets.items()}
    total = sum(weights[name] * result.history.aux[name] for name in names)
    np.testing.assert_allclose(result.loss, total, rtol=1e-12)
    # The terms of the first step, from the samples themselves.
    signals = np.asarray(result.simulate(strip_parameters(result.initial)).data[0])[result.skip_t :, 0, :, 0]
    fcd = tj.compute_fcd(signals, 20, 8).distribution
    expected = tj.wasserstein_distance(fcd, result.targets["fcd"].value)
    np.testing.assert_allclose(result.history.aux["fcd"][0], expected, rtol=1e-12)
    rates = tj.mean_rates(sim, result.initial, rate="S", length=60_000.0, skip=1_000.0)
    assert np.all(np.isfinite(rates.rate))


def test_mean_rates_of_a_run_are_those_of_its_states(weights_6):
    sim = _sim(weights_6, seconds=20)
    sim.monitors = [monitors.Bold(period=PERIOD), monitors.Raw()]
    simulate, state = tj.prepare(sim)
    criterion = _criterion({"fc": np.eye(N_NODE), "rate": tj.MeanRateTarget(0.3, rate="2 * S", skip=2_000.0)}, sim)
    data = criterion.recording(simulate)(criterion.recording_state(state)).data
    recorded = criterion.recorded(data)
    (target,) = criterion.others.values()
    # Every 8 ms, without the first 2 s.
    states = np.asarray(data[1])[501::2, 0, :, 0]
    np.testing.assert_allclose(target.of_record(recorded[1]), 2.0 * states.mean(axis=0), rtol=1e-12)


def test_a_long_simulation_is_cut_into_recordings(recording):
    signals = jnp.asarray(recording[:650])
    target = tj.FCDTarget([0.1, 0.2], window=20, step=4, n_samples_of_recording=300)
    pieces = [tj.compute_fcd(signals[start : start + 300], 20, 4).distribution for start in (0, 300)]
    np.testing.assert_array_equal(target.of_signal(signals, PERIOD), np.concatenate(pieces))


def test_pfic_is_the_published_sum(truth, recording):
    fc, fcd = np.asarray(truth.fc()), tj.compute_fcd(recording, 40, 10).distribution
    others = tj.compute_fcd(recording[::-1, ::-1] ** 3, 40, 10).distribution
    target = 0.5 * fc + 0.1 * (fc > np.median(fc))
    pairs = ~np.eye(N_NODE, dtype=bool)
    bins = np.linspace(-1.0, 1.0, 10_001)
    distributions = [
        np.searchsorted(np.sort(x), bins, side="right") / x.size for x in (np.array(fcd), np.array(others))
    ]
    expected = 1.0 - np.corrcoef(fc[pairs], target[pairs])[0, 1] + abs(fc[pairs].mean() - target[pairs].mean())
    expected += np.max(np.abs(distributions[0] - distributions[1]))
    np.testing.assert_allclose(tj.pfic_cost(fc, target, fcd, others), expected, rtol=1e-3)


@pytest.mark.slow
def test_pfic_as_a_loss_has_a_smooth_distance_of_fcd(weights_6, targets, short_linear_fits):
    both = {name: targets[name] for name in ("fc", "fcd")}
    result = tj.fit(
        _sim(weights_6), both, FREE, method="linear", loss="pfic", max_evaluations=10, n_starts=1, progress=False
    )
    fc = np.asarray(result.linear_stage is None and result.target)
    assert result.history.aux["fc"][-1] < result.history.aux["fc"][0] and fc.shape == (N_NODE, N_NODE)
    with pytest.raises(ValueError, match="loss: 'pfic' compares FC and FCD, and there is no FCD"):
        tj.fit(_sim(weights_6), targets["fc"], FREE, loss="pfic")


@pytest.mark.slow
def test_auto_refines_where_simulations_do_not_reach_a_term(weights_6, targets, short_linear_fits, monkeypatch):
    both = {name: targets[name] for name in ("fc", "variance")}
    monkeypatch.setattr(linear_stage, "_LOSS_GAP", -10.0)
    monkeypatch.setattr(candidate, "_FC_TOLERANCE", 10.0)
    result = tj.fit(_sim(weights_6), both, FREE, max_evaluations=20, n_starts=1, max_steps=1, progress=False)
    assert "simulations do not reach the terms of the linear response (fc " in result.why
    assert "variance" in result.why and "simulation" in result.costs


def test_problems_stand_in_one_message_before_anything_runs(weights_6, targets):
    sim, fc = _sim(weights_6), targets["fc"]
    wrong = {
        "fc": fc,
        "variance": np.ones(3),
        "power": tj.PowerTarget([1.0, 2.0], frequencies=[0.1, 3.0]),
        "rate": tj.MeanRateTarget(3.0, rate="H_x"),
        "fcd": tj.FCDTarget([0.1], window=200, step=4),
    }
    with pytest.raises(ValueError) as caught:
        tj.fit(sim, wrong, FREE)
    told = str(caught.value)
    for part in (
        "'variance': value: 3 values for 6 regions",
        "'power': frequencies: up to 3 Hz; samples have up to 0.5 Hz",
        "'rate': ReducedWongWang has no variable 'H_x'",
        "'fcd': bold has",
    ):
        assert part in told
    with pytest.raises(ValueError, match="\"fc\" is missing.*'fcd': FCDTarget: its windows are not given"):
        tj.fit(sim, {"fcd": [0.1]}, FREE)
    with pytest.raises(ValueError, match="'powr': a list; give a target.*Did you mean 'power'"):
        tj.fit(sim, {"fc": fc, "powr": [1.0]}, FREE)


@pytest.mark.slow
def test_results_with_targets_travel_and_are_reported(weights_6, targets, tmp_path):
    names = ("fc", "power", "fcd", "gbc")
    sim = _sim(weights_6)
    result = tj.fit(sim, {name: targets[name] for name in names}, FREE, method="simulate", max_steps=1, progress=False)
    evaluation = result.evaluate(n_seeds=1, n_tvb=1, progress=False)
    for simulator_name in ("JAX", "TVB"):
        fcd, ks = (evaluation.values(measure, simulator=simulator_name) for measure in ("fcd", "fcd KS"))
        assert 0.0 < fcd[0] < 1.0 and 0.0 < ks[0] < 1.0
    assert "fcd, fresh noise: distance" in repr(evaluation) and "mean_difference" in evaluation.rows[0]
    page = result.report(tmp_path / "fit.html").read_text()
    assert "Terms of the loss" in page and "FCDTarget" in page and "targets[&quot;fcd&quot;]" in page
    again = pickle.loads(pickle.dumps(result))
    assert list(again.targets) == ["power", "fcd", "gbc"]
    # The function of the test travels by value, also in a plain pickle.
    assert again.targets["gbc"].observable is not targets["gbc"].observable
    np.testing.assert_array_equal(again.spread(2, progress=False).loss, result.spread(2, progress=False).loss)


def test_an_evaluation_of_a_simulator_takes_observables(weights_6, targets):
    both = {name: targets[name] for name in ("fc", "fcd")}
    found = tj.evaluate(_sim(weights_6), both, n_seeds=2, progress=False)
    assert found.values("fcd KS").shape == (2,)
    rate = {"fc": targets["fc"], "rate": tj.MeanRateTarget(0.3, rate="S")}
    assert "rate: not evaluated" in repr(tj.evaluate(_sim(weights_6), rate, n_seeds=1, progress=False))
