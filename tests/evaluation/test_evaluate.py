"""Scores of evaluate() equal an independent computation, on fresh noise, beside baselines and noise ceilings."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pandas as pd
import pytest
from tvb.simulator.lab import coupling, models, monitors

import tvb_jaxfit as tj
from tvb_jaxfit.evaluation import baselines, scoring
from tvb_jaxfit.evaluation.runs import Runs, prepare_runs_of_fit
from tvb_jaxfit.evaluation.sessions import named_targets
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.persistence.serialise import read, write

N_NODE = 6
LABELS = np.array(["lA", "lB", "lC", "rA", "rB", "rC"])
LEFT = np.arange(N_NODE) < 3
PERIOD, SKIP, WINDOW = 100.0, 10, 1000.0
FC = tj.FCOptions(skip_t=SKIP)
OFF = ~np.eye(N_NODE, dtype=bool)


@pytest.fixture
def make(build_small):
    """Simulator of six regions in two hemispheres, 50 BOLD samples after the first 10."""

    def make(recorders=None, **parts):
        parts = {"steps": 1500, "coupling": coupling.Linear(a=np.array([0.02])), "nsig": 1e-6} | parts
        recorders = [monitors.Bold(period=PERIOD, hrf_length=1000.0)] if recorders is None else recorders
        sim = build_small(monitors=recorders, **parts)
        sim.connectivity.region_labels = LABELS
        return sim

    return make


def _session(seed, n_time=40):
    random = np.random.default_rng(seed)
    return np.corrcoef(random.normal(size=(N_NODE, n_time)) + np.random.default_rng(7).normal(size=n_time))


def _no_diagonal(matrix):
    return np.where(OFF, matrix, 0.0)


SESSIONS = {"one": _session(1), "two": _session(2), "three": _session(3)}
HELD_OUT = _no_diagonal((SESSIONS["two"] + SESSIONS["three"]) / 2)
GROUP = [_session(4), _session(5)]


@pytest.fixture(scope="module")
def shared():
    """Objects that tests share, by name: simulators, evaluations and fits."""
    return {}


@pytest.fixture
def sim(make, shared):
    """Configured simulator with a full BOLD buffer."""
    if "sim" not in shared:
        sim = shared["sim"] = make()
        sim.configure()
        sim.run(simulation_length=2000.0)
        sim.simulation_length = 6000.0  # which run() changed
    return shared["sim"]


@pytest.fixture
def evaluation(sim, shared, snapshot):
    """Evaluation with every option; also checks that the simulator is unchanged."""
    if "evaluation" not in shared:
        before = snapshot(sim)
        shared["evaluation"] = tj.evaluate(
            sim,
            SESSIONS,
            training_sessions="one",
            n_seeds=4,
            n_tvb=2,
            fc=FC,
            window=WINDOW,
            group=GROUP,
            progress=False,
        )
        shared["unchanged"] = snapshot(sim) == before
    return shared["evaluation"]


def _by_hand(bold, target):
    """Scores of a BOLD signal (n_time, 1, n_node, 1), computed without tvb_jaxfit."""
    signal = np.asarray(bold)[SKIP:, 0, :, 0]

    def r(signal, among=OFF):
        return np.corrcoef(np.corrcoef(signal.T)[among & OFF], target[among & OFF])[0, 1]

    def rmse(signal):
        return np.sqrt(np.mean((_no_diagonal(np.corrcoef(signal.T)) - target) ** 2))

    n = round(WINDOW / PERIOD)
    windows = [signal[i * n : (i + 1) * n] for i in range(len(signal) // n)]
    return {
        "r": r(signal),
        "rmse": rmse(signal),
        "mean_difference": np.mean((np.corrcoef(signal.T) - target)[OFF]),
        "window_r": np.mean([r(window) for window in windows]),
        "window_rmse": np.mean([rmse(window) for window in windows]),
        "r left-left": r(signal, np.outer(LEFT, LEFT)),
        "r left-right": r(signal, np.outer(LEFT, ~LEFT) | np.outer(~LEFT, LEFT)),
        "r right-right": r(signal, np.outer(~LEFT, ~LEFT)),
    }


def _assert_scores(row, bold, target, tolerance=1e-9):
    expected = _by_hand(bold, target)
    assert list(row) == ["simulator", "seed", "target", *expected]
    for measure, value in expected.items():
        assert row[measure] == pytest.approx(value, abs=tolerance), measure


def test_scores_of_tvb_are_those_of_its_own_run_on_the_same_seed(evaluation, sim, float32_tvb):
    rows = [row for row in evaluation.rows if row["simulator"] == "TVB" and row["target"] == "held out"]
    assert len(rows) == 2
    for row in rows:
        tvb = float32_tvb(sim)
        tvb.integrator.noise.random_stream.seed(row["seed"])
        ((_, bold),) = tvb.run()
        assert bold.shape == (60, 1, N_NODE, 1)
        _assert_scores(row, bold, HELD_OUT)


def test_scores_in_jax_are_those_of_runs_on_the_same_keys(evaluation, sim):
    simulate, state = tj.prepare(sim)
    rows = [row for row in evaluation.rows if row["simulator"] == "JAX" and row["target"] == "held out"]
    assert len(rows) == 4
    for row in rows:
        fresh = tj.resample(state, jax.random.key(row["seed"]))
        _assert_scores(row, simulate(fresh).data[0], HELD_OUT)


def _apart(some, others):
    """Mean squared Welch statistic of the Fisher z of all pairs; about 1 for two samples of one distribution."""
    some, others = (np.arctanh(fc[:, *np.triu_indices(N_NODE, 1)]) for fc in (some, others))
    error = some.var(0, ddof=1) / len(some) + others.var(0, ddof=1) / len(others)
    return np.mean((some.mean(0) - others.mean(0)) ** 2 / error)


@pytest.mark.slow
def test_runs_in_jax_and_in_tvb_are_from_one_distribution(make):
    """All runs differ, and their means differ by no more than chance."""
    evaluation = tj.evaluate(make(), SESSIONS["one"], n_seeds=48, n_tvb=24, fc=FC, progress=False)
    ours, theirs = evaluation.fc["JAX"], evaluation.fc["TVB"]
    assert len({*evaluation.values("r"), *evaluation.values("r", simulator="TVB")}) == 72
    assert _apart(ours, theirs) < 2.0
    ratio = np.arctanh(ours).std(0, ddof=1)[OFF] / np.arctanh(theirs).std(0, ddof=1)[OFF]
    assert 0.75 < np.sqrt(np.mean(ratio**2)) < 1.33
    # Negative control: a network with stronger coupling.
    stronger = make(coupling=coupling.Linear(a=np.array([0.06])))
    other = tj.evaluate(stronger, SESSIONS["one"], n_seeds=48, fc=FC, progress=False)
    assert _apart(other.fc["JAX"], theirs) > 3.0


def test_the_simulator_is_not_modified(evaluation, shared):
    assert shared["unchanged"]


def test_mean_and_standard_deviation_are_over_runs(evaluation):
    r = [row["r"] for row in evaluation.rows if row["simulator"] == "JAX" and row["target"] == "held out"]
    np.testing.assert_array_equal(evaluation.r, r)
    assert evaluation.mean() == pytest.approx(sum(r) / 4)
    assert evaluation.std() == pytest.approx(np.sqrt(sum((x - sum(r) / 4) ** 2 for x in r) / 3))
    assert f"{evaluation.mean():.4f} ± {evaluation.std():.4f}" in repr(evaluation)
    assert evaluation.mean("rmse", "two", "TVB") == pytest.approx(evaluation.values("rmse", "two", "TVB").mean())


def test_every_session_and_the_means_are_scored(evaluation):
    assert list(evaluation.targets.matrices) == ["one", "two", "three", "mean", "trained on", "held out"]
    assert evaluation.targets.primary == "held out"
    np.testing.assert_allclose(evaluation.targets.matrices["held out"], HELD_OUT, atol=1e-15)
    np.testing.assert_array_equal(evaluation.targets.matrices["trained on"], evaluation.targets.matrices["one"])
    mean = sum(SESSIONS.values()) / 3
    np.testing.assert_allclose(evaluation.targets.matrices["mean"], _no_diagonal(mean), atol=1e-15)
    for name, fc in SESSIONS.items():
        expected = [np.corrcoef(run[OFF], fc[OFF])[0, 1] for run in evaluation.fc["JAX"]]
        np.testing.assert_allclose(evaluation.values("r", name), expected, rtol=1e-12)


def test_the_text_has_all_scores_and_baselines(evaluation):
    text = repr(evaluation)
    for message in (
        "Evaluation: ReducedWongWang, 6 regions",
        "50 samples of runs of 6 s, after 10 left out",
        "fresh noise, 4 runs",
        "TVB, fresh noise, 2 runs",
        "windows of 1 s",
        "left-right",
        "each session (mean of 3)",
        "each held out (mean of 2)",
        "structural weights, held out",
        "group's FC, held out",
        "a session, mean of the others",
    ):
        assert message in text, text
    assert f" {evaluation.group_baseline['held out']:.4f}\n  sessions trained on, held out" in text
    assert "training" not in text and "interrupted" not in text


def test_as_a_table_of_pandas(evaluation):
    frame = evaluation.to_pandas()
    assert frame.shape == (6 * 6, 13)
    means = frame.groupby(["simulator", "target"])[["r", "structural_baseline", "group_baseline"]].mean()
    of_one = evaluation.structural_baseline["one"], evaluation.group_baseline["one"]
    assert means.loc["JAX", "held out"]["r"] == pytest.approx(evaluation.mean())
    assert tuple(means.loc["TVB", "one"])[1:] == pytest.approx(of_one)
    alone = replace(evaluation, group_baseline=None)
    assert "group_baseline" not in alone.to_pandas() and "group" not in repr(alone)


def test_a_baseline_that_r_does_not_reach_is_named(evaluation):
    def at(structural, group):
        baselines = {"structural_baseline": {"held out": structural}, "group_baseline": {"held out": group}}
        return replace(evaluation, **baselines)

    r = evaluation.mean()
    low, high = r - 1e-9, r + 1e-9
    both = f"r is below that of the structural weights ({r:.4f}) and that of the group's FC ({r:.4f})"
    assert at(high, high).shortfall() == both
    assert at(low, high).shortfall() == f"r is below that of the group's FC ({r:.4f})"
    assert at(high, low).shortfall() == f"r is below that of the structural weights ({r:.4f})"
    for none in (at(low, low), at(np.nan, np.nan)):
        assert none.shortfall() == "" and "below" not in repr(none) + none.summary() + none._repr_html_()
    found = at(high, high)
    assert repr(found).endswith(f"\n  {both}") and found.summary().endswith(f"; {both}")
    assert "r is below that of the structural weights" in found._repr_html_()


def test_the_group_of_a_fit_is_a_baseline_and_not_the_target_of_the_fit(fitted):
    group = {"me": SESSIONS["one"], "another": SESSIONS["two"]}
    with pytest.warns(UserWarning, match="^group: left out.*'me' "):
        evaluation = fitted.evaluate(n_seeds=1, group=group, progress=False)
    expected = np.corrcoef(SESSIONS["two"][OFF], SESSIONS["one"][OFF])[0, 1]
    assert evaluation.group_baseline == {"target": pytest.approx(expected, rel=1e-12)}
    with pytest.raises(ValueError, match="the FC of 'target' itself"):
        fitted.evaluate(n_seeds=1, group=SESSIONS["one"], progress=False)


def test_an_evaluation_with_a_group_is_stored(evaluation, tmp_path):
    write(tmp_path / "evaluation.npz", evaluation, "evaluation")
    stored = read(tmp_path / "evaluation.npz", "evaluation")
    assert stored.group_baseline == evaluation.group_baseline and repr(stored) == repr(evaluation)


def test_an_unknown_measure_or_target_is_an_error(evaluation):
    with pytest.raises(KeyError, match="no measure 'rsme'; there is: r, rmse, mean_difference, window_r"):
        evaluation.values("rsme")
    with pytest.raises(KeyError, match="no target 'four'; there is: one, two"):
        evaluation.values("r", "four")


def test_structural_baseline_is_of_the_symmetrised_weights(evaluation, weights_6):
    symmetric = (weights_6 + weights_6.T) / 2
    expected = np.corrcoef(symmetric[OFF], HELD_OUT[OFF])[0, 1]
    assert evaluation.structural_baseline["held out"] == pytest.approx(expected, rel=1e-12)
    # Directed weights give another value, so that the comparison can fail.
    assert abs(expected - np.corrcoef(weights_6[OFF], HELD_OUT[OFF])[0, 1]) > 1e-3


def test_the_fc_of_a_run_is_matched_by_that_run_only_and_in_region_order(evaluation, sim):
    """Negative controls: other runs, and regions in another order, which labels correct."""
    own = evaluation.fc["JAX"][2]
    order = [4, 2, 5, 0, 3, 1]
    shuffled = own[np.ix_(order, order)]
    targets = {"own": own, "shuffled": shuffled, "labelled": pd.DataFrame(shuffled, LABELS[order], LABELS[order])}
    with pytest.warns(UserWarning, match="put into the order"):
        again = tj.evaluate(sim, targets, n_seeds=4, fc=FC, progress=False)
    assert again.targets.primary == "mean" and again.targets.held_out == () and again.window is None
    np.testing.assert_array_equal(again.fc["JAX"], evaluation.fc["JAX"])
    r, rmse = again.values("r", "own"), again.values("rmse", "own")
    assert r[2] == pytest.approx(1.0) and rmse[2] == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.delete(r, 2) < 0.999) and np.all(np.delete(rmse, 2) > 1e-3)
    np.testing.assert_array_equal(again.values("r", "labelled"), r)
    assert again.values("r", "shuffled")[2] < 0.9


def test_more_runs_begin_with_the_same_ones_and_another_seed_has_others(fitted):
    one, two, other = (fitted.evaluate(n_seeds=n, seed=seed, progress=False) for n, seed in ((1, 0), (2, 0), (2, 1)))
    assert one.r[0] == two.r[0] and len({*two.r, *other.r}) == 4
    assert np.isnan(one.std()) and "±" not in one.summary()


@pytest.mark.slow
def test_evaluation_in_single_precision(sim):
    with jax.enable_x64(False):
        evaluation = tj.evaluate(sim, SESSIONS["one"], n_seeds=1, progress=False)
    assert np.isfinite(evaluation.r).all()


def test_progress_is_shown_unless_switched_off(fitted, capsys):
    fitted.evaluate(n_seeds=1, progress=False)
    assert capsys.readouterr().err == ""
    fitted.evaluate(n_seeds=1, n_tvb=1)
    shown = capsys.readouterr().err
    assert "JAX: 100%" in shown and "TVB: 100%" in shown


# ---- monitors, lengths


def test_the_only_bold_is_scored_whatever_else_records(make, fitted):
    both = [monitors.TemporalAverage(period=40.0), monitors.Bold(period=PERIOD, hrf_length=1000.0)]
    options = {"n_seeds": 2, "n_tvb": 1, "fc": FC, "progress": False}
    alone = fitted.evaluate(state=fitted.initial, **options)
    beside = tj.evaluate(make(both), SESSIONS["one"], **options)
    np.testing.assert_allclose(beside.r, alone.r, rtol=1e-12)
    np.testing.assert_allclose(beside.values(simulator="TVB"), alone.values(simulator="TVB"), rtol=1e-12)
    first = options | {"fc": tj.FCOptions(monitor=0, skip_t=SKIP)}
    average = tj.evaluate(make(both), SESSIONS["one"], **first)
    assert average.n_samples == 150 - SKIP and np.all(average.r != alone.r)


def test_by_default_no_sample_is_left_out_with_a_full_buffer(sim):
    longer = tj.evaluate(sim, SESSIONS["one"], n_seeds=1, fc=tj.FCOptions(simulation_length=9000.0), progress=False)
    assert (longer.skip_t, longer.n_samples, longer.length) == (0, 90, 9000.0)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"fc": {"monitor": 3}}, "monitor: 3; the simulator has monitors 0 to 0"),
        ({"n_seeds": 0}, "n_seeds = 0"),
        ({"fc": {"skip_t": 58}}, "60 samples in 6000 ms, and skip_t = 58, leave 2; FC needs at least 3"),
        ({"fc": {"skip_t": -1}}, "skip_t = -1"),
        ({"window": 200.0}, r"window: 200 ms are 2 samples; give at least 3 \(300 ms\) and at most the 60"),
        ({"window": 7000.0}, "window: 7000 ms are 70 samples"),
        ({"fc": {"simulation_length": 50.0}}, "too short for monitors"),
        ({"target": None}, "has no target of its own. Give the empirical FC"),
        ({"target": np.eye(5)}, r"target: shape \(5, 5\) for 6 regions"),
        ({"target": [_session(1), np.eye(5)]}, r"session 1: target: shape \(5, 5\)"),
        ({"target": [_session(1)]}, "1 session; give at least two"),
        ({"target": {"mean": _session(1), "b": _session(2)}}, "cannot be called 'mean'"),
        ({"training_sessions": 0}, "one target alone, so that nothing is held out"),
        ({"target": SESSIONS, "training_sessions": "four"}, "'four'; give some of 'one', 'two', 'three', and not all"),
        ({"target": list(SESSIONS.values()), "training_sessions": [0, 1, 2]}, "give some of 0, 1, 2, and not all"),
        ({"region_groups": ["a", "b"]}, "groups: 2 for 6 regions"),
    ],
)
def test_impossible_options_are_refused(sim, options, message):
    options = {"target": SESSIONS["one"], "progress": False} | options
    with pytest.raises(ValueError, match=message):
        tj.evaluate(sim, **options | {"fc": tj.FCOptions(**options.get("fc", {}))})


@pytest.mark.parametrize("parts", [{"scheme": "HeunDeterministic"}, {"nsig": 0.0}])
def test_a_deterministic_simulator_is_refused(make, parts):
    with pytest.raises(ValueError, match="evaluate: the simulator is deterministic"):
        tj.evaluate(make(**parts), SESSIONS["one"])


def test_several_variables_are_refused_before_anything_runs(make):
    recorder = monitors.TemporalAverage(period=PERIOD)
    sim = make([recorder])
    sim.model = models.Generic2dOscillator(variables_of_interest=["V", "W"])
    with pytest.raises(ValueError, match=r"\(n_voi, n_node, n_mode\) = \(2, 6, 1\); FC is of one variable"):
        tj.evaluate(sim, SESSIONS["one"])


# ---- fits


@pytest.fixture
def fitted(make, shared):
    """A short fit of an unconfigured simulator."""
    if "fit" not in shared:
        free = {"coupling.a": tj.Parameter(), "model.w": tj.Parameter(regional=True)}
        shared["fit_of"] = make()
        shared["fit"] = tj.fit(
            shared["fit_of"],
            SESSIONS["one"],
            free,
            method="simulate",
            max_steps=3,
            noise=tj.NoiseOptions(resample=False),
            run=tj.RunOptions(progress=False),
        )
    return shared["fit"]


def test_a_fit_is_scored_on_fresh_noise_beside_its_training(fitted):
    fitted.evaluation = None
    assert "fresh noise: r" not in repr(fitted)
    other = fitted.evaluate(state=fitted.initial, n_seeds=1, progress=False)
    assert fitted.evaluation is None, "of another state than the best"
    evaluation = fitted.evaluate(n_seeds=3, progress=False)
    assert fitted.evaluation is evaluation and evaluation.summary() in repr(fitted)
    best = fitted.history.best_step
    assert (
        evaluation.training_scores == {"r": fitted.r[best], "loss": fitted.loss[best]} and other.training_scores is None
    )
    # The training loss selected the best step, so that there is no validation to report.
    assert evaluation.validation_scores is None and "validation" not in repr(evaluation)
    assert f"{'training':<34} {fitted.r[best]:.4f}" in repr(evaluation) and "training" not in repr(other)
    expected = [fitted.score(key=jax.random.key(row["seed"])) for row in evaluation.rows]
    np.testing.assert_allclose(evaluation.r, expected, rtol=1e-12)
    assert evaluation.r[0] != other.r[0]


def test_a_fit_that_chose_its_best_step_by_validation_reports_that(make):
    free = {"coupling.a": tj.Parameter()}
    result = tj.fit(
        make(),
        SESSIONS["one"],
        free,
        method="simulate",
        optimizer=optax.adam(0.02),
        max_steps=2,
        run=tj.RunOptions(progress=False),
    )
    evaluation = result.evaluate(n_seeds=1, progress=False)
    steps, values = result.history.validation
    best = result.history.best_step
    assert values[steps == best] == np.min(values) and evaluation.validation_scores["loss"] == np.min(values)
    assert evaluation.validation_scores["r"] == result.history.validation.aux["r"][steps == best]
    # Negative control: the scores on the training noise differ.
    assert evaluation.training_scores["loss"] == result.loss[best] != evaluation.validation_scores["loss"]
    assert f"{'validation':<34} {evaluation.validation_scores['r']:.4f}" in repr(evaluation)
    assert result.evaluate(state=result.initial, n_seeds=1, progress=False).validation_scores is None


def test_a_fit_is_scored_by_tvb_from_its_best_state(fitted, shared, float32_tvb):
    evaluation = fitted.evaluate(n_tvb=1, n_seeds=1, progress=False)
    tvb = float32_tvb(shared["fit_of"])
    tj.write_back(fitted.best, tvb, position=True)
    tvb.integrator.noise.random_stream.seed(evaluation.rows[-1]["seed"])
    ((_, bold),) = tvb.run()
    fc = np.corrcoef(bold[fitted.skip_t :, 0, :, 0].T)
    assert evaluation.values(simulator="TVB")[0] == pytest.approx(
        np.corrcoef(fc[OFF], SESSIONS["one"][OFF])[0, 1], abs=1e-9
    )
    np.testing.assert_array_equal(fitted.simulator.model.w, shared["fit_of"].model.w)
    assert shared["fit_of"].history is None


def test_tvb_runs_from_another_state(fitted, shared, float32_tvb):
    later = fitted.simulate(fitted.best).final_state
    jax_signal = prepare_runs_of_fit(fitted, later).run_tvb(5, lambda n_steps: None)
    tvb = float32_tvb(shared["fit_of"])
    tj.write_back(fitted.best, tvb)
    tvb.run()
    tvb.integrator.noise.random_stream.seed(5)
    ((_, bold),) = tvb.run()
    np.testing.assert_allclose(jax_signal, bold[:, 0, :, 0], rtol=1e-6)


def test_a_fit_can_be_scored_on_longer_runs(fitted, float32_tvb):
    longer = fitted.evaluate(fc=tj.FCOptions(simulation_length=9000.0), n_seeds=1, progress=False)
    assert (longer.length, longer.n_samples) == (9000.0, 90 - fitted.skip_t)
    moved = float32_tvb(fitted.simulator)
    tj.write_back(fitted.best, moved, position=True)
    simulate, state = tj.prepare(moved, 9000.0)
    bold = simulate(tj.resample(state, jax.random.key(longer.rows[0]["seed"]))).data[0]
    expected = tj.fc_corr(tj.compute_fc(bold, fitted.skip_t), SESSIONS["one"])
    assert longer.r[0] == pytest.approx(float(expected), rel=1e-12)


def test_a_fit_is_scored_against_held_out_sessions(fitted):
    evaluation = fitted.evaluate(list(SESSIONS.values()), training_sessions=0, n_seeds=1, progress=False)
    assert evaluation.targets.held_out == ("session 1", "session 2")
    assert fitted.evaluation is evaluation and "against held out" in repr(fitted)
    assert evaluation.noise_ceiling["trained on"] == pytest.approx(
        np.corrcoef(SESSIONS["one"][OFF], HELD_OUT[OFF])[0, 1]
    )


def test_scores_against_another_single_target_are_not_those_of_the_fit(fitted):
    fitted.evaluation = None
    evaluation = fitted.evaluate(SESSIONS["two"], n_seeds=1, progress=False)
    assert evaluation.targets.primary == "target" and fitted.evaluation is None


def test_the_structural_baseline_uses_the_weights_before_the_fit(fitted):
    own = fitted.simulator.connectivity.weights
    best = strip_parameters(fitted.best)
    best = best.replace(connectivity=best.connectivity.replace(weights=best.connectivity.weights.at[0, 1].add(0.5)))
    evaluation = replace(fitted, best=best).evaluate(n_seeds=1, progress=False)
    assert evaluation.structural_baseline["target"] == baselines.structural_baseline(own, SESSIONS["one"])
    assert evaluation.structural_baseline["target"] != baselines.structural_baseline(
        best.connectivity.weights, SESSIONS["one"]
    )
    assert evaluation.r[0] != fitted.evaluate(n_seeds=1, progress=False).r[0]


def test_a_fit_without_its_simulator_is_refused(fitted):
    with pytest.raises(ValueError, match="holds no simulator. Give the simulator itself, and state="):
        replace(fitted, simulator=None).evaluate()


# ---- runs that fail, and interrupts


def test_an_interrupt_keeps_the_runs_that_were_done(fitted, monkeypatch):
    done, run_jax = [], Runs.run_jax

    def interrupted(self, seed, tick):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(seed)
        return run_jax(self, seed, tick)

    monkeypatch.setattr(Runs, "run_jax", interrupted)
    evaluation = fitted.evaluate(n_seeds=4, n_tvb=4, progress=False)
    assert evaluation.interrupted and evaluation.r.shape == (2,) and list(evaluation.fc) == ["JAX"]
    assert [row["seed"] for row in evaluation.rows] == done
    assert "interrupted: these are the runs that were done" in repr(evaluation)
    # Without a completed run the interrupt is raised.
    with pytest.raises(KeyboardInterrupt):
        fitted.evaluate(progress=False)


def test_many_runs_need_no_more_memory_than_one(fitted, monkeypatch):
    n_bytes, run_jax = [], Runs.run_jax

    def measured(self, seed, tick):
        n_bytes.append(sum(array.nbytes for array in jax.live_arrays()))
        return run_jax(self, seed, tick)

    monkeypatch.setattr(Runs, "run_jax", measured)
    fitted.evaluate(n_seeds=6, progress=False)
    draws = fitted.best.integrator.noise.draws.nbytes
    assert n_bytes[-1] - n_bytes[1] < draws / 2


def test_a_run_without_fc_is_named_and_the_others_keep_their_scores(fitted, monkeypatch):
    evaluation, run_jax = fitted.evaluate(n_seeds=3, window=WINDOW, progress=False), Runs.run_jax
    lost = evaluation.rows[1]["seed"]

    def diverged(self, seed, tick):
        return run_jax(self, seed, tick) * (np.nan if seed == lost else 1.0)

    monkeypatch.setattr(Runs, "run_jax", diverged)
    broken = fitted.evaluate(n_seeds=3, window=WINDOW, progress=False)
    np.testing.assert_array_equal(broken.r, [evaluation.r[0], np.nan, evaluation.r[2]])
    assert broken.mean() == pytest.approx((evaluation.r[0] + evaluation.r[2]) / 2)
    assert "not finite" in broken.failed["JAX", lost]
    assert f"JAX, seed {lost}: no FC: bold is not finite" in repr(broken)


# ---- baselines


def _noisy_sessions(n, rho, n_node=100):
    """Sessions whose pairwise correlation is rho."""
    random = np.random.default_rng(4)

    def symmetric():
        upper = np.triu(random.normal(size=(n_node, n_node)), 1)
        return upper + upper.T

    truth = symmetric()
    return [0.1 * (np.sqrt(rho) * truth + np.sqrt(1 - rho) * symmetric()) for _ in range(n)]


@pytest.mark.parametrize("n,rho", [(2, 0.5), (6, 0.3), (12, 0.6)])
def test_ceiling_of_sessions_of_known_reliability(n, rho):
    def reliability(n):
        return n * rho / (1 + (n - 1) * rho)

    evaluation = baselines.noise_ceiling(named_targets(_noisy_sessions(n, rho), range(100)))
    assert evaluation["split_half"] == pytest.approx(reliability(n), abs=0.02)
    assert evaluation["leave_one_out"] == pytest.approx(np.sqrt(rho * reliability(n - 1)), abs=0.02)
    assert "trained on" not in evaluation


def test_the_ceiling_of_held_out_sessions():
    targets = named_targets(np.array(_noisy_sessions(6, 0.4)), range(100), training_sessions=[0, 1, 2])
    # Each mean of three sessions has the reliability 3 rho / (1 + 2 rho).
    assert baselines.noise_ceiling(targets)["trained on"] == pytest.approx(1.2 / 1.8, abs=0.02)


def test_sessions_without_anything_in_common_have_no_reliability():
    evaluation = baselines.noise_ceiling(named_targets(_noisy_sessions(5, 0.0), range(100)))
    assert abs(evaluation["leave_one_out"]) < 0.03
    assert np.isnan(evaluation["split_half"]) or evaluation["split_half"] < 0.05


def test_blocks_cover_every_pair_once():
    groups = ["visual", "motor", "visual", "default", "motor", "visual"]
    evaluation = baselines.region_blocks(groups, N_NODE)
    assert list(evaluation)[:3] == ["default-default", "default-motor", "default-visual"] and len(evaluation) == 6
    np.testing.assert_array_equal(sum(pairs.astype(int) for pairs in evaluation.values()), 1)
    for pairs in evaluation.values():
        np.testing.assert_array_equal(pairs, pairs.T)
    assert (
        evaluation["motor-visual"][0, 1] and evaluation["motor-visual"][1, 2] and not evaluation["motor-visual"][0, 2]
    )
    assert baselines.region_blocks(["r"] * 3, 3) == {}


def test_an_undefined_correlation_is_nan():
    some, constant = _session(0), np.ones((N_NODE, N_NODE))
    assert np.isnan(baselines.correlation(some, constant)) and np.isnan(baselines.correlation(constant, some))
    assert np.isnan(baselines.correlation(some * np.nan, some))
    two = np.zeros((N_NODE, N_NODE), bool)
    two[0, 1] = two[1, 0] = True
    assert np.isnan(baselines.correlation(some, some, two))


def test_frames_in_a_list_are_sessions_and_one_frame_or_nested_list_is_not():
    frame = pd.DataFrame(_session(1), index=LABELS, columns=LABELS)
    assert named_targets([frame, frame], LABELS).sessions == ("session 0", "session 1")
    for single in (frame, _session(1), _session(1).tolist()):
        assert named_targets(single, LABELS).sessions == ()


def test_scores_do_not_depend_on_the_diagonal_of_the_target(sim):
    """The diagonal is set to zero, as in fit()."""
    target = SESSIONS["one"]
    scores = [
        scoring.score(target * OFF, [], named_targets(one, LABELS).matrices["target"], {})
        for one in (target, _no_diagonal(target))
    ]
    assert scores[0] == scores[1] == {"r": pytest.approx(1.0), "rmse": 0.0, "mean_difference": 0.0}
