"""Pairs of regions without data have a weight of 0 in losses, gradients, scores, baselines, ceilings and figures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tvb_jaxfit import plot
from tvb_jaxfit.evaluation import baselines
from tvb_jaxfit.evaluation.sessions import named_targets
from tvb_jaxfit.evaluation.target import match_target
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.keys import Purpose, noise_key
from tvb_jaxfit.fitting.linear.fit import noise_corrected
from tvb_jaxfit.fitting.linear.objective import Objective
from tvb_jaxfit.fitting.losses import checked_loss

N_NODE = 6
LABELS = np.array([f"region {i}" for i in range(N_NODE)])
OFF = ~np.eye(N_NODE, dtype=bool)
LOSSES = {"rmse": tj.rmse, "fc_corr": tj.fc_corr, "rmse_corr": tj.rmse_corr}


def _fc(seed=0, n_node=N_NODE):
    random = np.random.default_rng(seed)
    fc = np.corrcoef(random.normal(size=(n_node, 40)) + random.normal(size=40))
    np.fill_diagonal(fc, 0.0)
    return fc


def _without(fc, pairs):
    fc = fc.copy()
    for i, j in pairs:
        fc[i, j] = fc[j, i] = np.nan
    return fc


# One region without any data, and one further pair.
PAIRS = [(2, i) for i in range(N_NODE) if i != 2] + [(0, 4)]
GAPPY = _without(_fc(), PAIRS)
KNOWN = ~np.isnan(GAPPY)


def _by_hand(name, fc, target=GAPPY):
    known = ~np.isnan(target)
    difference = np.sqrt(np.mean((fc - target)[known] ** 2))
    r = np.corrcoef(fc[known & OFF], target[known & OFF])[0, 1]
    return {"rmse": difference, "fc_corr": r, "rmse_corr": (difference + 1.0 - r) / 2.0}[name]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("traced", [False, True], ids=["target seen", "target traced"])
def test_losses_are_those_of_the_pairs_with_data_and_so_are_their_gradients(name, traced):
    loss, fc = LOSSES[name], _fc(1)

    def of(fc, target):
        return loss(fc, target, missing="ignore")

    run = jax.jit(jax.value_and_grad(of)) if traced else jax.jit(lambda fc, _: jax.value_and_grad(of)(fc, GAPPY))
    value, gradient = run(jnp.asarray(fc), jnp.asarray(GAPPY))
    np.testing.assert_allclose(value, _by_hand(name, fc), rtol=1e-13)
    assert np.all(np.asarray(gradient)[~KNOWN] == 0.0) and np.all(np.isfinite(gradient))
    direction = _fc(2)
    numeric = (_by_hand(name, fc + 1e-6 * direction) - _by_hand(name, fc - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * direction), numeric, rtol=1e-6)
    # The values of a run for pairs without data have no effect, NaN included.
    for other in (7.0, np.nan):
        np.testing.assert_array_equal(run(jnp.where(KNOWN, fc, other), jnp.asarray(GAPPY))[0], value)
    # Negative controls: the complete target has another loss, and NaN among the data has an effect.
    assert abs(float(loss(fc, _fc())) - float(value)) > 1e-3
    assert np.isnan(run(jnp.asarray(fc).at[0, 1].set(np.nan), jnp.asarray(GAPPY))[0])


@pytest.mark.parametrize("name", LOSSES)
def test_a_complete_target_has_the_same_loss_bit_for_bit(name):
    loss, fc = LOSSES[name], _fc(1)
    assert loss(fc, _fc(), missing="ignore") == loss(fc, _fc())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "target",
    [GAPPY, np.ma.masked_invalid(GAPPY), np.ma.masked_array(_fc(), mask=~KNOWN)],
    ids=["NaN", "masked NaN", "masked"],
)
def test_without_the_option_losses_refuse_gaps_and_name_it(name, target):
    with pytest.raises(ValueError, match='missing="ignore" leaves'):
        LOSSES[name](_fc(1), target)
    np.testing.assert_allclose(LOSSES[name](_fc(1), target, missing="ignore"), _by_hand(name, _fc(1)), rtol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_no_data_and_other_options_are_refused(name):
    with pytest.raises(ValueError, match="target: .*data"):
        LOSSES[name](_fc(1), np.full((N_NODE, N_NODE), np.nan), missing="ignore")
    with pytest.raises(ValueError, match="missing = 'drop'; give 'refuse' or 'ignore'"):
        LOSSES[name](_fc(1), _fc(), missing="drop")
    infinite = _fc()
    infinite[0, 1] = np.inf
    with pytest.raises(ValueError, match="1 entries that are not finite"):
        LOSSES[name](_fc(1), infinite, missing="ignore")


FORMS = {
    "NaN": GAPPY,
    "masked": np.ma.masked_array(np.where(KNOWN, _fc(), 999.0), mask=~KNOWN),
    "frame": pd.DataFrame(GAPPY, LABELS, LABELS),
    "frame of pandas' types": pd.DataFrame(GAPPY, LABELS, LABELS).astype("Float64"),
    "NaN diagonal": np.where(OFF, GAPPY, np.nan),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_target_with_gaps_is_kept_with_nan_or_refused_by_name(form):
    np.testing.assert_array_equal(match_target(FORMS[form], LABELS, "ignore"), GAPPY)
    with pytest.raises(
        ValueError, match=r'12 values are not finite, the first at \(0, 2\); fc=FCOptions\(missing="ignore"\)'
    ):
        match_target(FORMS[form], LABELS)


def test_a_mask_of_the_diagonal_alone_does_not_matter():
    np.testing.assert_array_equal(match_target(np.ma.masked_array(_fc(), mask=~OFF), LABELS), _fc())


def _changed(at, value, fc=GAPPY):
    fc = fc.copy()
    fc[at] = value
    return fc


@pytest.mark.parametrize(
    "target,said",
    [
        (_changed((1, 3), np.nan), r"missing at \(1, 3\) but not at \(3, 1\).*np.where\(np.isnan\(fc\), fc.T, fc\)"),
        (_changed((1, 3), 0.9), "not symmetric"),
        (_changed((1, 3), np.inf), r"1 values are not finite, the first at \(1, 3\)"),
        (np.full((N_NODE, N_NODE), np.nan), "0 of 15 pairs of regions have data; give at least 3"),
        (np.where(KNOWN, 0.3, np.nan), "all its off-diagonal values are the same"),
        (_fc() + 0.5j, "complex"),
        (pd.DataFrame(_fc() + 0.5j, LABELS, LABELS), "complex"),
        (_fc().astype(str), "real numbers"),
    ],
)
def test_other_problems_are_refused_beside_gaps(target, said):
    with pytest.raises(ValueError, match=f"target: .*{said}"):
        match_target(target, LABELS, "ignore")


def test_values_outside_the_range_of_correlations_are_refused_beside_gaps():
    with pytest.raises(ValueError, match=r"values up to 2\.5"):
        match_target(_changed(([0, 1], [1, 0]), 2.5), LABELS, "ignore")


def _mean(sessions):
    return np.array(pd.DataFrame([session.ravel() for session in sessions]).mean()).reshape(N_NODE, N_NODE)


def test_means_and_ceilings_are_of_the_sessions_that_have_data():
    sessions = [_without(_fc(seed), [(0, seed), (3, 5)]) for seed in (1, 2, 4)]
    targets = named_targets(sessions, LABELS, training_sessions=0, missing="ignore")
    np.testing.assert_allclose(targets.matrices["mean"], _mean(sessions), rtol=1e-14)
    assert np.isnan(targets.matrices["mean"]).sum() == 2 and np.isnan(targets.matrices["trained on"]).sum() == 4
    found = baselines.noise_ceiling(targets)
    others = [_mean([other for other in sessions if other is not one]) for one in sessions]
    expected = []
    for one, other in zip(sessions, others, strict=True):
        both = OFF & ~np.isnan(one) & ~np.isnan(other)
        expected.append(np.corrcoef(one[both], other[both])[0, 1])
    np.testing.assert_allclose(found["leave_one_out"], np.mean(expected), rtol=1e-12)
    assert all(np.isfinite(value) for value in found.values())
    with pytest.raises(ValueError, match='session 0: target: .*missing="ignore"'):
        named_targets(sessions, LABELS)


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.fixture
def sim(build_small):
    return build_small(steps=800, monitors=[monitors.TemporalAverage(period=40.0)], nsig=1e-5)


FREE = {"coupling.a": tj.Parameter(), "model.w": tj.BoundedParameter(None, 0.0, 1.0, regional=True)}
FIT = {"method": "simulate", "max_steps": 2, "optimizer": optax.adam(0.02), "progress": False}


@pytest.fixture
def fitted(sim, shared):
    """Fit of a masked target."""
    if "fit" not in shared:
        shared["fit"] = tj.fit(sim, FORMS["masked"], FREE, missing="ignore", **FIT)
    return shared["fit"]


def test_a_fit_descends_the_loss_of_the_pairs_with_data(sim, fitted):
    np.testing.assert_array_equal(fitted.target, GAPPY)
    seen = fitted.fc(fitted.initial, jax.random.fold_in(noise_key(0, Purpose.TRAINING), 0))
    np.testing.assert_allclose(fitted.loss[0], _by_hand("rmse", np.asarray(seen)), rtol=1e-9)
    np.testing.assert_allclose(fitted.r[0], _by_hand("fc_corr", np.asarray(seen)), rtol=1e-9)
    unseen = fitted.fc(fitted.initial, noise_key(0, Purpose.VALIDATION))
    np.testing.assert_allclose(fitted.history.validation.values[0], _by_hand("rmse", np.asarray(unseen)), rtol=1e-9)
    assert fitted.loss.size == 3 and np.all(np.isfinite(fitted.r))
    # Negative control: the values in the gaps of a complete target have an effect.
    whole = tj.fit(sim, _fc(), FREE, **FIT)
    assert not np.allclose(whole.loss, fitted.loss, rtol=1e-3)
    fc = np.asarray(fitted.fc())
    np.testing.assert_allclose(fitted.score(), _by_hand("fc_corr", fc), rtol=1e-12)


def test_a_users_loss_with_an_argument_missing_gives_the_same_fit(sim, fitted):
    def mine(fc, target, missing):
        return tj.rmse(fc, target, missing)

    again = tj.fit(sim, GAPPY, FREE, loss=mine, missing="ignore", **FIT)
    np.testing.assert_array_equal(again.loss, fitted.loss)


def test_a_users_loss_receives_nan_and_must_leave_it_out():
    def careful(fc, target):
        return jnp.mean(jnp.where(jnp.isnan(target), 0.0, fc - jnp.nan_to_num(target)) ** 2)

    def careless(fc, target):
        return jnp.mean((fc - target) ** 2)

    def trapped(fc, target):
        return jnp.nansum((fc - target) ** 2)

    assert checked_loss(careful, GAPPY) is careful
    for loss, said in ((careless, "value and its gradient are NaN"), (trapped, "gradient are NaN")):
        with pytest.raises(ValueError, match=f"loss: its {said}, as the target has NaN for 6 pairs"):
            checked_loss(loss, GAPPY)
        assert checked_loss(loss, _fc()) is loss


def test_an_evaluation_scores_the_pairs_with_data(sim, fitted):
    ignoring = tj.FCOptions(missing="ignore")
    found = tj.evaluate(sim, GAPPY, fc=ignoring, n_seeds=2, window=1600.0, region_groups=list("aaabbb"), progress=False)
    for measure, name in (("r", "fc_corr"), ("rmse", "rmse")):
        expected = [_by_hand(name, fc) for fc in found.fc["JAX"]]
        np.testing.assert_allclose(found.values(measure), expected, rtol=1e-12)
    between = KNOWN & (np.arange(N_NODE)[:, None] // 3 != np.arange(N_NODE) // 3)
    expected = [np.corrcoef(fc[between], GAPPY[between])[0, 1] for fc in found.fc["JAX"]]
    np.testing.assert_allclose(found.values("r a-b"), expected, rtol=1e-12)
    assert np.isfinite([found.values(measure) for measure in ("window_r", "window_rmse")]).all()
    # Only one pair has data, which gives no correlation.
    assert np.isnan(found.values("r a-a")).all()
    weights = sim.connectivity.weights
    np.testing.assert_allclose(
        found.structural_baseline["target"], _by_hand("fc_corr", (weights + weights.T) / 2.0), rtol=1e-12
    )
    with pytest.raises(ValueError, match='missing="ignore"'):
        tj.evaluate(sim, GAPPY, n_seeds=2, progress=False)
    # The target of the fit itself needs no option.
    assert np.all(np.isfinite(fitted.evaluate(n_seeds=2, progress=False).r))


@pytest.mark.slow
def test_the_linear_responses_objective_is_of_the_pairs_with_data(sim):
    linear, state = tj.prepare_linear(sim)
    state.model.w = tj.BoundedParameter(state.model.w, 0.0, 1.0, regional=True)

    objective = Objective(linear, state, Criterion(checked_loss(tj.rmse_corr, GAPPY), GAPPY), 1e6)
    seen, gradients, slope = objective(objective.start_point, 0.1, objective.x)
    assert seen.is_stable and np.all(gradients["model.w"] != 0.0)
    direction = np.linspace(-1.0, 1.5, slope.size)
    ahead, behind = (
        objective(objective.start_point + way * direction, 0.1, objective.x)[0].value for way in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(np.sum(slope * direction), (ahead - behind) / 2e-5, rtol=1e-6)
    np.testing.assert_allclose(seen.loss, _by_hand("rmse_corr", np.asarray(seen.fc)), rtol=1e-12)
    np.testing.assert_allclose(seen.r, _by_hand("fc_corr", np.asarray(seen.fc)), rtol=1e-12)
    # Negative control.
    assert abs(float(tj.rmse_corr(seen.fc, _fc())) - seen.loss) > 1e-3
    r, apart = noise_corrected([_fc(1), _fc(2)], _fc(3), GAPPY)
    # The values of simulations for pairs without data have no effect.
    others = [np.where(KNOWN, fc, 0.5) for fc in (_fc(1), _fc(2), _fc(3))]
    assert np.isfinite([r, apart]).all() and noise_corrected(others[:2], others[2], GAPPY) == (r, apart)


def test_plots_show_gaps_as_blank(fitted):
    axes = plot.functional_connectivity({"Empirical": FORMS["masked"], "Fitted": _fc(1)})
    shown = axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.masked_invalid(shown)), ~KNOWN | ~OFF)
    assert axes[1].get_title().endswith(f"r = {_by_hand('fc_corr', _fc(1)):.3f}")
    drawn = plot.fc_scatter(_fc(1), GAPPY)
    assert len(drawn.collections[0].get_offsets()) == 15 - 6
    assert f"RMSE = {_by_hand('rmse', _fc(1)):.3f}" in drawn.get_title()


def test_the_report_says_how_many_pairs_have_no_data(fitted, tmp_path):
    page = fitted.report(tmp_path / "report.html").read_text()
    assert "6 of 15 pairs of regions have no empirical FC" in page and "Pairs without data are blank" in page
    assert "missing=&#x27;ignore&#x27;" in page or "missing='ignore'" in page
    assert f"{_by_hand('fc_corr', np.asarray(fitted.fc())):.6f}" in page


def test_a_loss_that_requires_missing_always_receives_it():
    def loss(fc, target, missing):
        return tj.rmse(fc, target, missing)

    fc = jnp.asarray(_fc(5))
    for target in (_fc(), GAPPY):
        assert float(checked_loss(loss, target)(fc, target)) == float(tj.rmse(fc, target, missing="ignore"))


def test_infinite_values_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="2 infinite: replace these, or set them to NaN"):
        match_target(_changed(([0, 1], [1, 0]), np.inf, _fc()), LABELS, "ignore")
