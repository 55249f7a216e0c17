"""Runs that stop being finite: variable, region and time are named as in TVB's run; the best state so far is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import coupling, models, monitors, noise

import tvb_jaxfit as tj
from tests.conftest import simulator, white_matter
from tvb_jaxfit.fitting.criterion import ScoredRuns
from tvb_jaxfit.fitting.linear.candidate import LinearFitCandidate
from tvb_jaxfit.translate.clone import configured_clone
from tvb_jaxfit.translate.divergence import DivergenceWatch, find_divergence

N_NODE = 5


def _weights():
    return np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)


def _sim(gamma=-0.1, a=0.05, steps=60, delayed=False, **parts):
    """Simulator of linear regions that decay, or diverge; the third region has a rate ``gamma`` of its own."""
    weights, gammas = _weights(), np.full(N_NODE, -0.1)
    gammas[2] = gamma
    lengths = np.full((N_NODE, N_NODE), 12.0)
    parts = {"monitors": [monitors.TemporalAverage(period=4.0)], "nsig": 1e-3} | parts
    sim = simulator(
        weights, dt=1.0, steps=steps, connectivity=white_matter(weights, lengths, 4.0 if delayed else np.inf), **parts
    )
    sim.model, sim.coupling = models.Linear(gamma=gammas), coupling.Linear(a=np.array([a]))
    sim.initial_conditions = np.full((4 if delayed else 1, 1, N_NODE, 1), 0.1)
    return sim


def _target():
    return np.corrcoef(np.random.default_rng(0).normal(size=(N_NODE, 40)))


FREE = {"coupling.a": tj.Parameter()}


def _divergence_of_tvb(sim):
    """Divergence of TVB's own run."""
    copy = configured_clone(sim, float64_history=True)
    watch = DivergenceWatch(copy)
    with np.errstate(all="ignore"):
        copy.run()
    return watch.divergence


@pytest.mark.parametrize("delayed", [False, True])
def test_the_divergence_equals_that_of_tvbs_own_run(delayed):
    sim = _sim(gamma=1e6, delayed=delayed, steps=90)
    simulate, state = tj.prepare(sim)
    found, theirs = find_divergence(sim, simulate, state), _divergence_of_tvb(sim)
    assert str(found) == str(theirs) and found.region == "region 2" and found.variable == "x"
    ((times, means),) = simulate(state)
    # The divergence lies in the first mean over 4 steps that is not finite; times are those of the middle.
    end = times[np.argmax(~np.isfinite(np.asarray(means)).all(axis=(1, 2, 3)))] + 2.0
    assert end - 4.0 < found.time <= end and found.time == found.step + state.current_step
    # Negative control: a run that stays finite.
    assert (
        find_divergence(sim, simulate, state.replace(model=state.model.replace(gamma=-0.1 * jnp.ones(N_NODE)))) is None
    )


def test_a_fit_whose_first_loss_is_not_finite_raises_an_error_that_names_the_place():
    sim = _sim(gamma=1e6, steps=120)
    theirs = _divergence_of_tvb(sim)
    with np.errstate(all="ignore"), pytest.raises(tj.FitFailed) as failed:
        tj.fit(
            sim,
            _target(),
            FREE,
            method="simulate",
            noise=tj.NoiseOptions(resample=False),
            run=tj.RunOptions(progress=False),
        )
    message = str(failed.value)
    first = -(-theirs.step // 4)
    for part in (
        "the loss was nan after 0 updates, at the start values",
        f"monitors[0] (TemporalAverage, every 4 ms): sample {first} of 30, at {4 * first - 2} ms, is not finite at "
        "region 'region 0' (and 4 others)",
        f"State variable 'x' of region 'region 2' becomes {theirs.value} at {theirs.time:g} ms (step {theirs.step})",
        "Try a smaller integrator.dt than 1 ms, a weaker coupling, less noise, or bounds",
    ):
        assert part in message, message


@pytest.fixture(scope="module")
def stopped():
    """Fit whose second update makes the coupling far too strong."""
    seen = []
    result = tj.fit(
        _sim(steps=800),
        _target(),
        FREE,
        method="simulate",
        optimizer=optax.chain(optax.scale_by_sign(), optax.scale_by_schedule(lambda n: jnp.where(n == 0, 1e-3, 1e3))),
        max_steps=5,
        run=tj.RunOptions(progress=False, callback=lambda step, state, *_: seen.append(state)),
    )
    return result, seen


def test_a_fit_that_diverges_later_keeps_the_best_state_and_names_the_place(stopped, tmp_path):
    result, seen = stopped
    assert result.loss.size == 2 == len(seen) and np.all(np.isfinite(result.loss))
    assert result.best.coupling.a.value == seen[result.history.best_step].coupling.a.value
    assert result.diverged == result.history.diverged
    for part in (
        "the loss was nan after 2 updates, at coupling.a ",
        "learning rate",
        "State variable 'x'",
        "(step ",
        "smaller integrator.dt",
    ):
        assert part in result.diverged, result.diverged
    assert f"DIVERGED: {result.diverged}" in repr(result) and repr(result.history).endswith("DIVERGED")
    page = result.report(tmp_path / "report.html").read_text()
    assert "the fit diverged" in page and "becomes" in page


def test_the_error_of_an_fc_of_a_diverging_state_names_the_place(stopped):
    result, _ = stopped
    state = tj.State.replace(result.best, coupling=result.best.coupling.replace(a=jnp.array([1e3])))
    with pytest.raises(ValueError, match="bold is not finite .*: sample .*State variable 'x' of region 'region"):
        result.fc(state)


@pytest.mark.slow
def test_a_linear_fit_whose_simulations_diverge_is_marked(monkeypatch):
    none = np.full(3, np.nan)
    runs = ScoredRuns(none, {"r": none}, np.full((3, N_NODE, N_NODE), np.nan), [], 1.0)
    monkeypatch.setattr("tvb_jaxfit.fitting.linear_stage.confirmation", lambda *_: lambda *_: runs)
    result = tj.fit(
        _sim(),
        _target(),
        FREE,
        method="linear",
        search=tj.SearchOptions(max_evaluations=10),
        run=tj.RunOptions(progress=False),
    )
    assert "simulations from the fitted values have no finite FC" in result.diverged
    assert "simulations on fresh noise are not finite" in repr(result) and "DIVERGED" in repr(result)
    # Then "auto" goes through the simulation.
    result = tj.fit(_sim(), _target(), FREE, max_evaluations=10, max_steps=1, n_starts=1, progress=False)
    assert result.way == "simulate" and not result.diverged
    assert result.why.startswith("the linear response does not apply: simulations from the fitted values have no")


def test_finite_fits_are_not_marked(stopped):
    result, _ = stopped
    history = result.history
    assert tj.History(history.loss, {}, history.best, 0, "all 0 steps done", 0.0).diverged == ""


def test_the_error_of_a_users_loss_names_the_signal_that_is_not_finite():
    simulate, state = tj.prepare(_sim(gamma=1e6, steps=120))
    state.coupling.a = tj.Parameter(state.coupling.a)
    loop = tj.OptaxOptimizer(
        lambda state: tj.rmse(tj.compute_fc(simulate(state).data[0]), _target()), optax.adam(0.01), progress=False
    )
    with pytest.raises(tj.FitFailed, match="the loss was nan after 0 updates.*bold is not finite at node"):
        loop.run(state, 3)


def test_without_noise_a_run_without_fc_is_refused_before_its_gradient_is_compiled(monkeypatch):
    monkeypatch.setattr(tj.OptaxOptimizer, "run", None)
    sim = _sim(nsig=0.0, steps=400)
    sim.initial_conditions = np.zeros((1, 1, N_NODE, 1))
    with pytest.raises(tj.FitFailed, match=r"the signal of region 'region 0' \(and 4 others\) is constant \(0, to rou"):
        tj.fit(sim, _target(), FREE, method="simulate", run=tj.RunOptions(progress=False))


def test_a_region_that_no_noise_reaches_is_named_before_the_gradient_is_compiled(monkeypatch):
    monkeypatch.setattr(tj.OptaxOptimizer, "run", None)
    sim = _sim(steps=400)
    sim.connectivity.weights[1] = 0.0
    sim.integrator.noise = noise.Additive(nsig=np.where(np.arange(N_NODE) == 1, 0.0, 1e-3)[None, :, None])
    sim.initial_conditions = np.zeros((1, 1, N_NODE, 1))
    with pytest.raises(
        tj.FitFailed, match=r"the signal of region 'region 1' is constant \(0, to rounding\) over the 100"
    ):
        tj.fit(sim, _target(), FREE, method="simulate", run=tj.RunOptions(progress=False))


def test_an_evaluation_names_the_place_for_each_run_in_jax_and_in_tvb():
    sim = _sim(gamma=1e6, steps=120)
    with np.errstate(all="ignore"):
        found = tj.evaluate(sim, _target(), n_seeds=1, n_tvb=1, progress=False)
    assert set(found.failed) == {(simulator, found.rows[0]["seed"]) for simulator in ("JAX", "TVB")}
    for why in found.failed.values():
        assert "monitors[0] (TemporalAverage, every 4 ms): sample" in why
        # TVB's history in single precision overflows earlier, and in all regions.
        assert "State variable 'x' of region 'region " in why and "(step " in why


def test_a_linear_fit_with_diverging_simulations_differs_from_one_without_simulations():
    fields = {"fitted": None, "trace": np.array([[0.1, 0.9, 0.2]]), "noise_corrected_r": np.nan, "fc_distance": np.nan}
    diverged, alone = (
        LinearFitCandidate(loss=np.nan, r=np.nan, **fields),
        LinearFitCandidate(loss=np.inf, r=np.nan, **fields),
    )
    assert diverged.is_diverged and "simulations on fresh noise are not finite" in str(diverged)
    assert not alone.is_diverged and "not simulated" in str(alone)


def test_a_validation_that_is_never_finite_leaves_no_best_state():
    state = tj.State(x=tj.Parameter(3.0))
    loop = tj.OptaxOptimizer(
        lambda state: state.x**2, optax.sgd(0.1), validate=lambda state: jnp.nan * state.x, progress=False
    )
    _, history = loop.run(state, 3)
    assert "no value of the validation is finite" in history.diverged


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_beside_a_finite_loss_is_named():
    with pytest.raises(tj.FitFailed, match="the gradient in coupling.a was not finite .*The run, its FC and the loss"):
        tj.fit(
            _sim(steps=120),
            _target(),
            FREE,
            method="simulate",
            loss=lambda fc, target: jnp.sqrt(jnp.sum(jax.lax.stop_gradient(fc) * 0.0 + fc * 0.0)) + tj.rmse(fc, target),
            run=tj.RunOptions(progress=False),
        )
