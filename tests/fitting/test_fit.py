"""fit(): a simulator and a target in one call, its options, and its result."""

import copy
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter, History, OptaxOptimizer, Parameter, fit, resample
from tvb_jaxfit.fitting.keys import Purpose, noise_key
from tvb_jaxfit.fitting.stopping import StopKind, StopReason
from tvb_jaxfit.parameters import parameters_of, strip_parameters
from tvb_jaxfit.translate.clone import clone

N_NODE = 6
LABELS = np.array([f"r{i}" for i in range(N_NODE)])
HRF_LENGTH, PERIOD = 1000.0, 100.0


def _simulator(stochastic=True, recorders=None, length=6000.0, **model):
    random = np.random.default_rng(5)
    weights = random.uniform(size=(N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    white = noise.Additive(nsig=np.array([1e-6]))
    white.noise_seed = 3
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=weights,
            tract_lengths=np.zeros((N_NODE, N_NODE)),
            centres=np.zeros((N_NODE, 3)),
            region_labels=LABELS,
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(**({"w": np.array([0.6]), "I_o": np.array([0.3])} | model)),
        coupling=coupling.Linear(a=np.array([0.02])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=white)
        if stochastic
        else integrators.HeunDeterministic(dt=4.0),
        monitors=[monitors.Bold(period=PERIOD, hrf_length=HRF_LENGTH)] if recorders is None else recorders,
        initial_conditions=np.full((1, 1, N_NODE, 1), 0.05),
        simulation_length=length,
    )


def _target():
    random = np.random.default_rng(7)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))


FREE = {"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True)}


def _fit(sim=None, target=None, free=FREE, **options):
    defaults = {"method": "simulate", "max_steps": 8, "optimizer": optax.adam(0.02), "resample": False}
    options = defaults | {"progress": False} | options
    target = _target() if target is None else target
    return fit(_simulator() if sim is None else sim, target, free, **options)


@pytest.fixture
def prepared_alone(monkeypatch):
    """Replace the loop of fit(), which takes seconds to compile: the problem is only prepared."""
    nothing = {
        "loss": np.array([]),
        "aux": {},
        "best_step": 0,
        "stop_reason": StopReason(StopKind.MAX_STEPS),
        "wall_time": 0.0,
    }
    monkeypatch.setattr(
        OptaxOptimizer, "run", lambda self, state, max_steps, resume=False: (state, History(best=state, **nothing))
    )


@pytest.fixture(scope="module")
def fitted():
    """(result, states that the callback received, simulator, copy of it from before the fit)."""
    sim, seen = _simulator(), []
    before = clone(sim)
    result = _fit(sim, callback=lambda step, state, loss, gradients: seen.append(state))
    return result, seen, sim, before


def test_a_real_fit_reduces_its_loss_and_raises_r(fitted):
    result, *_ = fitted
    assert result.loss.shape == result.r.shape == (9,)
    assert result.loss.min() < 0.95 * result.loss[0]
    assert result.r[result.history.best_step] > result.r[0]


def test_r_and_loss_match_the_state_of_each_step(fitted):
    result, seen, *_ = fitted
    for step in (0, 8):
        fc = result.fc(seen[step])
        np.testing.assert_allclose(tj.rmse(fc, _target() * ~np.eye(N_NODE, dtype=bool)), result.loss[step], rtol=1e-9)
        np.testing.assert_allclose(tj.fc_corr(fc, _target()), result.r[step], rtol=1e-9)
        np.testing.assert_allclose(result.score(seen[step]), result.r[step], rtol=1e-9)


def test_values_left_out_start_from_the_simulators_own(fitted):
    result, seen, *_ = fitted
    np.testing.assert_array_equal(result.initial.coupling.a.value, [0.02])
    np.testing.assert_array_equal(result.initial.model.w.value, np.full(N_NODE, 0.6))
    np.testing.assert_allclose(seen[0].model.w.value, np.full(N_NODE, 0.6), rtol=1e-14)


def test_regional_values_differ_and_stay_within_their_bounds(fitted):
    result, seen, *_ = fitted
    assert np.ptp(result.fitted.model.w.value) > 0.0
    assert result.fitted.coupling.a.shape == ()
    for state in seen:
        assert np.all((state.model.w.value >= 0.0) & (state.model.w.value <= 1.0))


def test_the_simulator_is_not_modified(fitted):
    *_, sim, before = fitted

    def parts(sim):
        return sim, sim.model, sim.coupling, sim.connectivity, sim.integrator, sim.integrator.noise, sim.monitors[0]

    for part, was in zip(parts(sim), parts(before), strict=True):
        # Reading an unset trait adds its default to the attributes; nothing else may be new.
        assert all(hasattr(type(part), name) for name in set(vars(part)) - set(vars(was)))
        for name, value in vars(was).items():
            if isinstance(value, (np.ndarray, float, int, str, type(None))):
                np.testing.assert_array_equal(getattr(part, name), value, err_msg=f"{type(part).__name__}.{name}")
    for now, then in zip(*(s.integrator.noise.random_stream.get_state() for s in (sim, before)), strict=True):
        np.testing.assert_array_equal(now, then)


def test_later_changes_of_the_simulator_do_not_change_the_result(prepared_alone):
    sim = _simulator()
    result = _fit(sim)
    sim.model.w, sim.coupling.a[:] = np.array([0.1]), 9.0
    assert result.simulator.model.w == [0.6] and result.simulator.coupling.a == [0.02]


def test_the_best_state_is_the_one_of_the_smallest_loss(fitted):
    result, seen, *_ = fitted
    best = seen[int(np.argmin(result.loss))]
    for path, parameter in parameters_of(result.best).items():
        np.testing.assert_array_equal(parameter.value, parameters_of(best)[path].value)
    np.testing.assert_array_equal(result.fc(), result.fc(best))


def test_the_best_state_is_the_default_of_fc_and_write_back(fitted):
    result, seen, sim, _ = fitted
    apart = replace(result, fitted=seen[1])
    np.testing.assert_array_equal(apart.fc(), result.fc(result.best))
    for state, given in ((result.best, ()), (seen[2], (seen[2],))):
        written = clone(sim)
        assert "model.w" in repr(apart.write_back(written, *given))
        np.testing.assert_array_equal(written.model.w, state.model.w.value)


def test_repr_has_loss_r_steps_and_every_fitted_value(fitted):
    text = repr(fitted[0])
    assert text.startswith("FitResult: ReducedWongWang, 6 regions")
    for said in ("loss ", " r ", "8 steps", "all 8 steps done", "coupling.a: Parameter(0.02)", "model.w: Bounded"):
        assert said in text


def test_repr_is_of_the_best_step(fitted):
    result = fitted[0]
    history = replace(result.history, best_step=3, wall_time=12.34)
    lines = repr(replace(result, history=history, fitted=result.initial)).splitlines()
    (loss, *_, best), r = result.loss[[0, 3]], result.r
    assert lines[1] == f"  loss {loss:.5f} -> {best:.5f}, r {r[0]:.4f} -> {r[3]:.4f}"
    fresh = result.fresh
    assert lines[2] == (
        f"  r {r[3]:.4f} in training, {np.mean(fresh.r):.4f} on noise that the fit never saw (3 runs of 6 s)"
    )
    assert lines[3] == "  8 steps, best at 3, 12.3 s; all 8 steps done"
    assert lines[4] == '  way: simulate; method="simulate" asks for it'
    assert re.match(r"  cost: [0-9.]+ s \(translation [0-9.]+, simulation [0-9.]+, fresh noise [0-9.]+\)", lines[5])
    began, ended = (parameters_of(state)["coupling.a"] for state in (result.initial, result.best))
    assert f"  coupling.a: {began} -> {ended}" in lines[6:] and str(began) != str(ended)
    nothing = replace(history, loss=np.array([]), aux={}, best_step=0)
    assert "\n  0 steps, best at 0" in repr(replace(result, history=nothing))


def test_fresh_noise_gives_another_fc_of_the_same_parameters(fitted):
    result, *_ = fitted
    key = jax.random.key(1)
    fresh = resample(result.best, key)
    assert np.all(fresh.integrator.noise.draws != result.best.integrator.noise.draws)
    assert parameters_of(fresh) == {}
    for ours, theirs in zip(
        jax.tree.leaves(_without_draws(fresh)), jax.tree.leaves(_without_draws(result.best)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(result.fc(key=key), result.fc(fresh))
    assert not np.allclose(result.fc(key=key), result.fc())
    assert result.score(key=key) == pytest.approx(float(tj.fc_corr(result.fc(fresh), _target())), rel=1e-12)
    assert result.score(key=key) != result.score(key=jax.random.key(2))
    assert parameters_of(result.best), "resample() does not modify"


def _without_draws(state):
    state = strip_parameters(copy.deepcopy(state))
    state.integrator.noise.draws = jnp.zeros(())
    return state


def test_noise_of_a_deterministic_simulator_cannot_be_resampled():
    _, state = tj.prepare(_simulator(stochastic=False))
    with pytest.raises(ValueError, match="deterministic; there is no noise to draw"):
        resample(state, jax.random.key(0))


def test_samples_of_an_empty_bold_buffer_are_left_out_by_default(fitted):
    assert fitted[0].skip_t == HRF_LENGTH / PERIOD


@pytest.mark.parametrize("ran,left", [(1000.0, 0), (2000.0, 0), (600.0, 4), (596.0, 5)])
def test_only_samples_of_the_empty_part_of_a_bold_buffer_are_left_out(ran, left, prepared_alone):
    sim = _simulator()
    sim.configure()
    sim.run(simulation_length=ran)
    # TVB remembers the length of its run, which has too few samples.
    assert _fit(sim, simulation_length=2000.0).skip_t == left


def test_skip_t_can_be_chosen(prepared_alone):
    assert _fit(skip_t=3).skip_t == 3


def test_a_labelled_target_in_another_order_gives_the_same_fit(fitted, prepared_alone):
    order = [3, 1, 5, 0, 2, 4]
    frame = pd.DataFrame(_target(), index=LABELS, columns=LABELS).iloc[order, order]
    with pytest.warns(UserWarning, match="put into the order"):
        result = _fit(target=frame)
    # The loop uses the target that is in the result.
    np.testing.assert_array_equal(result.target, fitted[0].target)


def test_the_only_bold_is_chosen_and_others_by_index(prepared_alone):
    recorders = [monitors.TemporalAverage(period=PERIOD), monitors.Bold(period=PERIOD, hrf_length=HRF_LENGTH)]
    sim = _simulator(recorders=recorders)
    by_itself, chosen = _fit(sim), _fit(sim, monitor=0)
    assert (by_itself.monitor, by_itself.skip_t) == (1, 10)
    assert (chosen.monitor, chosen.skip_t) == (0, 0)
    expected = tj.compute_fc(chosen.simulate(chosen.initial).data[0], 0)
    np.testing.assert_array_equal(chosen.fc(), expected)


def test_the_loss_is_of_the_monitor_and_the_samples_that_were_chosen():
    recorders = [monitors.TemporalAverage(period=PERIOD), monitors.Bold(period=PERIOD, hrf_length=HRF_LENGTH)]
    result = _fit(_simulator(recorders=recorders), max_steps=0, skip_t=25, free={"coupling.a": Parameter()})
    fc = tj.compute_fc(result.simulate(result.initial).data[1], 25)
    np.testing.assert_array_equal(result.fc(), fc)
    np.testing.assert_allclose(result.loss, [tj.rmse(fc, result.target)], rtol=1e-9)


def test_an_unclear_choice_of_monitor_is_refused():
    recorders = [monitors.Raw(), monitors.TemporalAverage(period=PERIOD)]
    with pytest.raises(ValueError, match=r"monitor: several monitors could .*0: Raw, 1: TemporalAverage"):
        _fit(_simulator(recorders=recorders))
    with pytest.raises(ValueError, match="monitor: 2; the simulator has monitors 0 to 1"):
        _fit(_simulator(recorders=recorders), monitor=2)


def test_all_problems_of_free_are_in_one_message():
    free = {
        "model.q": Parameter(),
        "model.w": 0.3,
        "model.I_o": BoundedParameter(lower_bound=0.5, upper_bound=1.0),
        "model.J_N": Parameter(np.ones(N_NODE + 1), regional=True),
        "model.a": Parameter(np.ones(N_NODE - 1)),
        "monitors[0].hrf_kernel.tau_s": Parameter(regional=True),
        "connectivity.weights": Parameter(1.0),
    }
    with pytest.raises(ValueError) as caught:
        _fit(free=free)
    message = str(caught.value)
    for path in free:
        assert f"{path!r}: " in message
    for said in ("no such parameter (there is: model.a,", "0.3 is no Parameter", "outside [0.5, 1]", "(7,)", "(5,)"):
        assert said in message


def test_nothing_free_is_refused():
    with pytest.raises(ValueError, match="free: empty; name the parameters to fit"):
        _fit(free={})


def test_a_target_of_another_parcellation_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"target: shape \(5, 5\) for 6 regions"):
        _fit(target=np.eye(5))


def test_an_unsupported_simulator_is_refused_as_by_prepare():
    with pytest.raises(tj.UnsupportedComponent, match="BoldRegionROI"):
        sim = _simulator()
        sim.monitors = [monitors.BoldRegionROI()]
        _fit(sim)


def test_start_values_and_a_single_value_for_all_regions_can_be_given(prepared_alone):
    sim = _simulator(w=np.linspace(0.5, 0.6, N_NODE))
    free = {"model.w": Parameter(0.55), "model.I_o": Parameter(np.linspace(0.29, 0.3, N_NODE))}
    start = _fit(sim, free=free).initial
    np.testing.assert_array_equal(start.model.w.value, [0.55])
    np.testing.assert_array_equal(start.model.I_o.value, np.linspace(0.29, 0.3, N_NODE))
    own = _fit(sim, free={"model.w": Parameter()}).initial
    np.testing.assert_array_equal(own.model.w.value, np.linspace(0.5, 0.6, N_NODE))


def test_parameters_of_the_hemodynamic_response_which_are_numbers_can_be_fitted(prepared_alone):
    path = "monitors[0].hrf_kernel.{}".format
    result = _fit(free={path("tau_s"): Parameter(), path("k_1"): Parameter(5.5), path("tau_f"): Parameter([0.4])})
    start = {path.rpartition(".")[2]: parameter.value for path, parameter in parameters_of(result.initial).items()}
    assert start == {"tau_s": 0.8, "k_1": 5.5, "tau_f": 0.4} and {value.shape for value in start.values()} == {()}


def test_small_values_near_their_bound_are_fitted_from_where_they_are(prepared_alone):
    """Noise dispersion of 1e-6 with a lower bound of 0."""
    result = _fit(free={"integrator.noise.nsig": BoundedParameter(lower_bound=0.0)})
    start = result.initial.integrator.noise.nsig
    np.testing.assert_allclose(start.from_unconstrained(start.to_unconstrained()), [1e-6], rtol=1e-12)


def test_a_fit_that_fails_at_its_start_says_so():
    with pytest.raises(tj.FitFailed, match="the loss was nan after 0 updates, .* and the loss gives nan"):
        _fit(loss=lambda fc, target: jnp.sum(fc) * jnp.nan, free={"coupling.a": Parameter()})


def test_the_default_optimizer_is_adam_at_0_01_and_progress_is_shown(capsys):
    result = _fit(max_steps=1, optimizer=None, free={"coupling.a": Parameter()}, progress=True)
    # The first step of Adam is the learning rate, for any gradient.
    assert abs(float(result.fitted.coupling.a) - 0.02) == pytest.approx(0.01, rel=1e-4)
    assert "fit: 100%" in capsys.readouterr().err


def test_progress_can_be_switched_off(capsys):
    _fit(max_steps=0, free={"coupling.a": Parameter()})
    assert capsys.readouterr().err == ""


def test_noise_from_a_key_and_another_length_can_be_asked_for(prepared_alone):
    one, two = (_fit(source=jax.random.key(seed), simulation_length=4000.0) for seed in (0, 1))
    assert one.simulate.n_steps == 1000
    ours, others = (result.initial.integrator.noise.draws for result in (one, two))
    assert ours.shape == others.shape == (1000, 1, N_NODE, 1)
    assert np.all(ours != others)


def test_realisations_and_patience_need_resampled_noise():
    still = {"sim": _simulator(stochastic=False), "resample": None}
    with pytest.raises(ValueError, match="n_realisations = 0; give a whole number of at least 1"):
        _fit(n_realisations=0)
    with pytest.raises(
        ValueError, match="n_realisations: 2; give at least 1, and more than 1 only if noise is resampled"
    ):
        _fit(**still, n_realisations=2)
    with pytest.raises(ValueError, match="patience: 2; it counts validations on other noise"):
        _fit(**still, patience=2)


def test_the_best_state_can_be_the_start():
    result = _fit(max_steps=2, optimizer=optax.adam(-0.02), free={"coupling.a": Parameter()})
    assert result.history.best_step == 0 and result.best.coupling.a.value == 0.02 != result.fitted.coupling.a.value


def test_patience_of_the_validation_ends_the_fit():
    still = {"resample": None, "optimizer": optax.sgd(0.0), "free": {"coupling.a": Parameter()}}
    result = _fit(max_steps=30, patience=1, **still)
    assert result.loss.size == 11 and len(set(result.loss)) == 11
    unseen = tj.rmse(result.fc(key=noise_key(0, Purpose.VALIDATION)), result.target)
    np.testing.assert_allclose(result.history.validation.values, [unseen] * 2, rtol=1e-9)
    r = result.score(key=noise_key(0, Purpose.VALIDATION))
    np.testing.assert_allclose(result.history.validation.aux["r"], [r] * 2, rtol=1e-9)


def test_a_fit_is_resumed_from_its_checkpoint(tmp_path):
    options = {"checkpoint": tmp_path / "fit.npz", "free": {"coupling.a": Parameter()}}
    first = _fit(max_steps=2, **options)
    with pytest.raises(FileExistsError, match="exists. run"):
        _fit(**options)
    again = _fit(max_steps=3, resume=True, **options)
    assert again.loss.size == 4
    np.testing.assert_array_equal(again.loss[:3], first.loss)


@pytest.mark.slow
def test_a_fit_in_single_precision_ends_where_one_in_double_precision_does():
    double = _fit()
    with jax.enable_x64(False):
        single = _fit()
    assert single.loss.dtype == double.loss.dtype and single.best.model.w.value.dtype == jnp.float32
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-4)
    np.testing.assert_allclose(single.r, double.r, atol=1e-4)
    for path, parameter in parameters_of(double.best).items():
        np.testing.assert_allclose(parameters_of(single.best)[path].value, parameter.value, rtol=1e-3)
    # Negative control: the fit has changed the loss.
    assert not np.allclose(double.loss[0], double.loss[-1], rtol=1e-2)
