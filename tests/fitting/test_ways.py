"""method="auto": the way that a fit takes, the reason, the costs, and r on noise that it never saw; interrupts."""

import pickle
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator.lab import models, monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit import BoundedParameter, Parameter
from tvb_jaxfit.fitting import linear_stage, simulation_stage, ways
from tvb_jaxfit.fitting.keys import Purpose, key_as_code, noise_key
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.fitting.method import Method
from tvb_jaxfit.fitting.stopping import StopKind, StopReason
from tvb_jaxfit.parameters import parameters_of

N_NODE = 6


def _sim(weights_6, **parts):
    parts = {"model": {"w": np.array([0.3]), "I_o": np.array([0.3])}} | parts
    weights = (weights_6 + weights_6.T) / 2.0
    return simulator(weights, steps=2000, monitors=[monitors.TemporalAverage(period=200.0)], **parts)


@pytest.fixture
def sim(weights_6):
    return _sim(weights_6)


@pytest.fixture(scope="module")
def target(weights_6):
    """FC of the network with other values, by the linear response."""
    linear, state = tj.prepare_linear(_sim(weights_6))
    state.model.w, state.coupling.a = jnp.array(0.5), jnp.array([0.12])
    fc = np.asarray(linear(state).fc())
    fc.setflags(write=False)
    return fc


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Smaller sweeps, and simulations of seconds."""
    monkeypatch.setattr(linear_fit, "_POINTS", 8)
    monkeypatch.setattr(simulation_stage, "_POINTS", 4)
    monkeypatch.setattr(simulation_stage, "MAX_STEPS", 2)
    monkeypatch.setattr(confirmation, "LONGEST", 20_000.0)


FREE = {"coupling.a": BoundedParameter(lower_bound=0.0, upper_bound=0.5)}
QUIET = {"progress": False}


def _candidate(monkeypatch, **scores):
    """Replace the scores of the confirmation."""
    real = linear_fit.LinearFitCandidate

    def made(fitted, trace, **found):
        r = trace[-1, 1]
        return real(fitted, trace, **found | {name: r + value for name, value in scores.items()} | {"fc_distance": 0.0})

    monkeypatch.setattr(linear_fit, "LinearFitCandidate", made)


def test_the_default_is_a_linear_fit_that_simulations_confirm(sim, target, monkeypatch):
    _candidate(monkeypatch, noise_corrected_r=0.0)
    result = tj.fit(sim, target, FREE, max_evaluations=20, **QUIET)
    assert result.way is Method.LINEAR and result.is_linear and result.linear_stage is None
    assert result.why == "the linear response applies, and simulations confirm it"
    assert list(result.costs) == ["translation", "linear response", "confirmation", "fresh noise"]
    assert all(seconds >= 0.0 for seconds in result.costs.values())
    assert result.settings.method is Method.AUTO and len(result.candidates) <= 2
    # r on noise of a key of its own, by the program of the confirmation: it is neither that of the confirmation ...
    assert result.fresh.length == 20_000.0 and result.fresh.key == key_as_code(0, Purpose.FRESH)
    said = str(result.history.stop_reason)
    assert f"r {result.fresh.mean:.3f}" not in said
    # ... nor that of the training, and all of them are printed.
    text = f"r {result.r[-1]:.4f} in training, {result.fresh.mean:.4f} on noise that the fit never saw (2 runs of 20 s)"
    assert text in repr(result) and "way: linear; the linear response applies" in repr(result)
    assert f"{result.fresh.mean:.4f}" in result._repr_html_()
    again = pickle.loads(pickle.dumps(result))
    assert (again.way, again.why, again.costs) == (result.way, result.why, result.costs)
    np.testing.assert_array_equal(again.fresh.r, result.fresh.r)


@pytest.mark.parametrize(
    ("scores", "better"),
    [
        pytest.param({"noise_corrected_r": -0.04}, True, marks=pytest.mark.slow),
        ({"noise_corrected_r": -0.04}, False),
        pytest.param({"noise_corrected_r": -0.2}, True, marks=pytest.mark.slow),
    ],
)
def test_a_refinement_is_kept_if_it_is_better_on_noise_that_neither_stage_used(
    sim, target, monkeypatch, scores, better
):
    _candidate(monkeypatch, **scores)
    keys, real = [], linear_stage.confirmation

    def confirmed(*arguments):
        confirm = real(*arguments)

        def scored(state, key=arguments[3], *n_samples):
            keys.append(key)
            runs = confirm(state, key, *n_samples)
            if key == noise_key(0, Purpose.COMPARISON):
                # The first of both is the linear fit. Regions in another order have another FC.
                is_first = keys.count(key) == 1
                if is_first is better:
                    return runs._replace(recorded=[(signals[:, :, ::-1],) for (signals,) in runs.recorded])
            return runs

        return scored

    monkeypatch.setattr(linear_stage, "confirmation", confirmed)
    # The last of the steps is the best one.
    monkeypatch.setattr(ways, "fit_by_simulation", _with_best_step(ways.fit_by_simulation))
    result = tj.fit(sim, target, FREE, max_evaluations=20, max_steps=1, **QUIET)
    reason = "do not confirm" if scores["noise_corrected_r"] < -0.05 else "do not reach the r of"
    assert reason in result.why and f"a refinement {'improves' if better else 'does not improve'} it" in result.why
    assert result.way is (Method.LINEAR_THEN_SIMULATE if better else Method.LINEAR)
    assert (result.linear_stage is not None) == better and result.is_linear != better
    assert {"simulation", "comparison", "fresh noise"} <= set(result.costs)
    assert keys.count(noise_key(0, Purpose.COMPARISON)) == 2 and keys[-1] == noise_key(0, Purpose.FRESH)


def _with_best_step(fit_by_simulation):
    def fitted(problem, *stage):
        result = fit_by_simulation(problem, *stage)
        return replace(result, history=replace(result.history, best_step=1), best=result.fitted)

    return fitted


@pytest.mark.slow
def test_a_refinement_without_a_better_step_is_dropped(sim, target, monkeypatch):
    _candidate(monkeypatch, noise_corrected_r=-0.2)
    result = tj.fit(sim, target, FREE, max_evaluations=20, max_steps=0, **QUIET)
    assert result.way is Method.LINEAR and result.why.endswith("no step of the refinement was better")


def _with_stimulus(weights_6):
    sim = _sim(weights_6)
    space = patterns.StimuliRegion(
        temporal=equations.PulseTrain(parameters={"onset": 10.0, "T": 1000.0, "tau": 100.0, "amp": 1.0}),
        connectivity=sim.connectivity,
        weight=np.full(N_NODE, 1e-3),
    )
    sim.stimulus = space
    return sim


def _oscillating(weights_6):
    """Hopf bifurcation is passed in all regions, whatever the coupling."""
    sim = _sim(weights_6)
    sim.model = models.SupHopf(a=np.array([0.5]), variables_of_interest=("x",))
    sim.integrator.dt = 0.05
    sim.integrator.noise.nsig = np.array([1e-3])
    sim.monitors = [monitors.TemporalAverage(period=2.0)]
    sim.simulation_length = 100.0
    return sim


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_with_stimulus, "Simulator.stimulus"),
        pytest.param(_oscillating, "no stable fixed point at the start values", marks=pytest.mark.slow),
    ],
)
def test_without_a_linear_response_the_fit_goes_through_the_simulation_from_several_starts(
    weights_6, target, make, said
):
    result = tj.fit(make(weights_6), target, FREE, max_steps=1, **QUIET)
    assert result.way is Method.SIMULATE and said in result.why and "Use method" not in result.why
    assert len(result.candidates) == 3 and not result.is_linear
    values = [float(each.values["coupling.a"]) for each in result.candidates]
    assert len(set(values)) == 3
    best = min(result.candidates, key=lambda each: each.loss)
    assert float(parameters_of(result.best)["coupling.a"]) == float(best.values["coupling.a"])
    assert result.fresh.r.shape == (3,) and "sweep of starts" in result.costs
    with pytest.raises(ValueError, match=said):
        tj.fit(make(weights_6), target, FREE, method="linear", **QUIET)


@pytest.mark.slow
def test_an_fc_without_effect_of_the_values_is_fitted_through_the_simulation(sim, target):
    """The linear response does not depend on the amplitude of the noise."""
    free = {"integrator.noise.nsig": tj.PositiveParameter()}
    result = tj.fit(sim, target, free, max_steps=1, n_starts=1, **QUIET)
    assert result.way is Method.SIMULATE and "the same whatever integrator.noise.nsig is" in result.why


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": optax.adam(0.01)}, "optimizer is an option of a fit through the simulation"),
        ({"patience": 2, "n_realisations": 2}, "n_realisations, patience are options of a fit through the simulation"),
        ({"resample": False}, "resample is an option"),
    ],
)
def test_options_of_the_simulation_choose_it(sim, target, monkeypatch, options, said):
    monkeypatch.setattr(ways, "fit_by_linear_response", lambda *_: pytest.fail("linear"))
    result = tj.fit(sim, target, FREE, max_steps=1, n_starts=1, **options, **QUIET)
    assert result.way is Method.SIMULATE and said in result.why


def test_a_checkpoint_chooses_the_simulation_from_one_start(sim, target, tmp_path):
    result = tj.fit(sim, target, FREE, max_steps=1, checkpoint=tmp_path / "fit.npz", **QUIET)
    assert result.why.startswith("checkpoint is an option") and len(result.candidates) == 1
    again = tj.fit(sim, target, FREE, max_steps=1, checkpoint=tmp_path / "fit.npz", resume=True, **QUIET)
    np.testing.assert_array_equal(again.loss, result.loss)


def test_options_that_exclude_each_other_are_refused_in_one_message(sim, target, tmp_path):
    path = tmp_path / "fit.npz"
    cases = {
        "max_steps, patience: only a fit through the simulation": {"method": "linear", "max_steps": 3, "patience": 2},
        "max_evaluations: only a linear fit": {"method": "simulate", "max_evaluations": 5},
        "patience asks for the simulation": {"patience": 2, "max_evaluations": 5},
        "resume: there is nothing to go on from": {"resume": True},
        "n_starts = 2": {"method": "simulate", "checkpoint": path, "n_starts": 2},
    }
    for said, options in cases.items():
        with pytest.raises(ValueError, match=said):
            tj.fit(sim, target, FREE, **options)
    with pytest.raises(ValueError) as caught:
        tj.fit(sim, target, FREE, method="simulate", checkpoint=path, n_starts=2, max_evaluations=5)
    assert "n_starts = 2" in str(caught.value) and "max_evaluations: only" in str(caught.value)


def test_without_noise_there_is_no_fresh_noise(weights_6, target):
    sim = _sim(weights_6, scheme="HeunDeterministic")
    sim.initial_conditions = np.random.RandomState(1).uniform(0.1, 0.9, (1, 1, N_NODE, 1))
    result = tj.fit(sim, target, FREE, max_steps=1, n_starts=1, **QUIET)
    assert result.way is Method.SIMULATE and result.fresh is None and "has no noise to respond to" in result.why
    assert "never saw" not in repr(result)


def test_r_on_fresh_noise_is_that_of_the_best_state(sim, target):
    result = tj.fit(sim, target, FREE, method="simulate", max_steps=1, **QUIET)
    keys = jax.random.split(noise_key(0, Purpose.FRESH), 3)
    np.testing.assert_allclose(result.fresh.r, [result.score(key=key) for key in keys], rtol=1e-12)
    assert result.fresh.length == 8000.0 and result.why == 'method="simulate" asks for it'


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupt_in_the_sweep_of_the_simulation_keeps_its_best_point(sim, target, monkeypatch):
    seen, real = [], simulation_stage._score

    def score(*arguments):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(simulation_stage, "_score", score)
    result = tj.fit(sim, target, FREE, method="simulate", n_starts=2, **QUIET)
    assert result.history.stop_reason.kind is StopKind.SWEEP_INTERRUPTED and result.fresh is None
    best = min(seen, key=lambda each: each.loss)
    assert result.loss == [best.loss] and result.r == [best.r]
    assert parameters_of(result.best)["coupling.a"].value == parameters_of(best.state)["coupling.a"].value
    assert result.history.stop_reason.interrupted and "the best of 3 simulated points" in repr(result)


@pytest.mark.parametrize("step", [0, 1])
def test_an_interrupt_in_the_second_start_keeps_the_best_so_far(sim, target, step):
    starts = []

    def callback(at, *_):
        starts.append(at)
        if starts.count(0) == 2 and at == step:
            raise KeyboardInterrupt

    result = tj.fit(sim, target, FREE, method="simulate", n_starts=3, max_steps=2, callback=callback, **QUIET)
    assert result.history.stop_reason.interrupted and len(result.candidates) == 2 and result.fresh is None
    assert min(each.loss for each in result.candidates) == min(result.history.validation.values)


@pytest.mark.slow
def test_an_interrupt_before_the_refinement_keeps_the_linear_fit(sim, target, monkeypatch):
    _candidate(monkeypatch, noise_corrected_r=-0.2)
    monkeypatch.setattr(ways, "fit_by_simulation", _interrupt)
    for method in ("auto", "linear+simulate"):
        result = tj.fit(sim, target, FREE, method=method, max_evaluations=10, **QUIET)
        assert result.is_linear and result.way is Method.LINEAR and result.fresh is None
        assert result.history.stop_reason.interrupted and "starts followed" in str(result.history.stop_reason)


@pytest.mark.parametrize("place", ["_on_fresh_noise", "status_line"])
def test_an_interrupt_after_the_fit_keeps_it(sim, target, monkeypatch, place):
    monkeypatch.setattr(ways, place, _interrupt)
    result = tj.fit(sim, target, FREE, method="simulate", max_steps=1, **QUIET)
    assert result.fresh is None and result.loss.size == 2 and result.history.stop_reason.interrupted
    assert str(result.history.stop_reason) == "all 1 step done; interrupted before a stage after it"


def test_an_interrupted_linear_fit_ends_auto(sim, target, monkeypatch):
    def interrupted(linear, state, *_, **__):
        nothing = {"loss": np.array([1.0]), "aux": {"r": np.zeros(1), "nonlinearity": np.zeros(1)}, "best_step": 0}
        reason = StopReason(StopKind.LINEAR_INTERRUPTED, 1)
        return state, tj.History(best=state, stop_reason=reason, wall_time=0.0, **nothing), []

    monkeypatch.setattr(linear_stage, "fit_linear", interrupted)
    monkeypatch.setattr(ways, "fit_by_simulation", lambda *_: pytest.fail("went on"))
    result = tj.fit(sim, target, FREE, **QUIET)
    assert result.way is Method.LINEAR and result.why == "interrupted in the linear response"


def test_starts_that_are_not_finite_are_left_out(weights_6, target, monkeypatch):
    """Linear network that grows at the start, beyond all numbers; a weaker coupling does not."""
    sim = _sim(weights_6)
    sim.model = models.Linear(gamma=np.array([-0.02]))
    grows_from = 0.02 / np.max(np.linalg.eigvalsh(sim.connectivity.weights))
    free = {"coupling.a": BoundedParameter(40.0 * grows_from, 0.0, 50.0 * grows_from)}
    monkeypatch.setattr(simulation_stage, "_POINTS", 100)
    result = tj.fit(sim, target, free, method="simulate", n_starts=2, max_steps=1, **QUIET)
    assert np.isfinite(result.loss).all() and float(parameters_of(result.initial)["coupling.a"]) < 40.0 * grows_from
    with pytest.raises(tj.FitFailed, match="at the start values"):
        tj.fit(sim, target, free, method="simulate", max_steps=1, **QUIET)


@pytest.mark.slow
def test_a_start_on_a_bound_is_fitted(sim, target):
    free = {"coupling.a": BoundedParameter(0.0, lower_bound=0.0, upper_bound=0.5)}
    for options in ({"max_evaluations": 10}, {"method": "simulate", "max_steps": 1}):
        result = tj.fit(sim, target, free, **options, **QUIET)
        assert np.isfinite(result.loss).all() and 0.0 < float(parameters_of(result.best)["coupling.a"]) < 0.5
    with pytest.raises(ValueError, match="'coupling.a'.*found 0.07"):
        tj.fit(sim, target, {"coupling.a": BoundedParameter(lower_bound=0.5, upper_bound=0.6)}, **QUIET)


def test_a_fit_says_its_way_before_it_takes_it(sim, target, capsys):
    tj.fit(sim, target, FREE, method="simulate", max_steps=1)
    lines = re.split("[\r\n]", capsys.readouterr().err)
    assert 'fit: through the simulation (method="simulate" asks for it)' in lines
    said = next(line for line in lines if "per step" in line)
    assert re.fullmatch(r"fit: [0-9.e-]+ s per step, at most 1 steps", said.strip())
    tj.fit(sim, target, FREE, method="simulate", max_steps=1, **QUIET)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_users_loss_selects_the_refinement(sim, target, monkeypatch):
    """Values are compared by the loss of the fit."""
    _candidate(monkeypatch, noise_corrected_r=-0.2)
    monkeypatch.setattr(ways, "fit_by_simulation", _with_best_step(ways.fit_by_simulation))
    seen = []

    def loss(fc, target):
        seen.append(fc)
        return tj.rmse(fc, target)

    result = tj.fit(sim, target, {"model.w": Parameter()}, loss=loss, max_evaluations=10, max_steps=1, **QUIET)
    assert "a refinement" in result.why and seen
