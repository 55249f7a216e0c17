"""fit() by the linear response: its result, its confirmation by simulations, and what follows; noise of the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import models, monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter
from tvb_jaxfit.fitting import linear_stage, ways
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.keys import Purpose, noise_key
from tvb_jaxfit.fitting.linear import candidate, confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.fitting.linear.objective import Objective
from tvb_jaxfit.fitting.options import SearchOptions
from tvb_jaxfit.fitting.stopping import StopKind, StopReason
from tvb_jaxfit.linear_response.response import LinearResponse
from tvb_jaxfit.parameters import parameters_of, strip_parameters

N_NODE = 6


def _symmetric(weights_6):
    return simulator(
        (weights_6 + weights_6.T) / 2.0,
        steps=2000,
        model={"w": np.array([0.3]), "I_o": np.array([0.3])},
        monitors=[monitors.TemporalAverage(period=200.0)],
    )


@pytest.fixture
def sim(weights_6):
    """Six symmetric regions; FC of a temporal average."""
    return _symmetric(weights_6)


def _free():
    bounded = {"lower_bound": 0.0, "upper_bound": 1.0, "regional": True}
    return {"model.w": BoundedParameter(**bounded), "coupling.a": BoundedParameter(lower_bound=0.0, upper_bound=0.5)}


@pytest.fixture(scope="module")
def target(weights_6):
    """FC of the network with other values, by the linear response, which can be fitted exactly."""
    linear, state = tj.prepare_linear(_symmetric(weights_6))
    state.model.w, state.coupling.a = jnp.linspace(0.2, 0.6, N_NODE), jnp.array([0.12])
    fc = np.asarray(linear(state).fc())
    fc.setflags(write=False)
    return fc


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A smaller sweep, and simulations of seconds instead of 20 minutes."""
    monkeypatch.setattr(linear_fit, "_POINTS", 16)
    monkeypatch.setattr(linear_fit, "_STARTS", 2)
    monkeypatch.setattr(confirmation, "LONGEST", 20_000.0)


@pytest.mark.slow
def test_a_linear_fit_recovers_an_fc_of_the_network(sim, target, monkeypatch):
    # No sampling error, and no cost of differences between regions: only the target counts.
    monkeypatch.setattr(LinearResponse, "z_standard_error", lambda response, length, monitor: 0.0)
    monkeypatch.setattr(linear_fit, "HOMOGENEITY_WEIGHTS", (1e-8,))
    result = tj.fit(
        sim,
        target,
        _free(),
        method="linear",
        search=tj.SearchOptions(max_evaluations=300),
        run=tj.RunOptions(progress=False),
    )
    assert result.loss[-1] < 0.05 * result.loss[0] and result.r[-1] > 0.999
    values = parameters_of(result.best)
    for path, parameter in values.items():
        assert np.all((parameter.value > parameter.lower_bound) & (parameter.value < parameter.upper_bound)), path
    # The state is at its fixed point, and the result of the confirming simulations is reported.
    assert "simulations on fresh noise: r" in str(result.history.stop_reason)
    linear, _ = tj.prepare_linear(sim)
    response = linear(result.best)
    np.testing.assert_allclose(result.best.initial_conditions[-1], response.fixed_point.x, rtol=1e-9)
    assert float(tj.rmse_corr(response.fc(), target)) == pytest.approx(result.loss[-1], rel=1e-6)
    # Negative control: the start differs from the target.
    assert result.loss[0] > 0.005 and result.r[0] < 0.999
    assert result.settings.resolved["loss"] == "rmse_corr"
    assert result.settings.resolved["optimizer"] == "none: L-BFGS on the linear response"


@pytest.mark.slow
def test_the_simulation_continues_from_the_linear_fit(sim, target):
    options = {"max_evaluations": 100, "max_steps": 3, "optimizer": optax.adam(1e-4), "progress": False}
    result = tj.fit(sim, target, _free(), method="linear+simulate", **options)
    assert result.linear_stage is not None and result.linear_stage.linear_stage is None
    began = parameters_of(result.initial)["model.w"].value
    np.testing.assert_array_equal(began, parameters_of(result.linear_stage.best)["model.w"].value)
    assert result.history.loss.size == 4 and result.history.validation.steps.tolist() == [0, 3]


@pytest.mark.slow
def test_each_step_has_its_own_noise_unless_resampling_is_off(sim, target):
    options = {"method": "simulate", "optimizer": optax.sgd(0.0), "max_steps": 3, "progress": False}
    fresh = tj.fit(sim, target, {"model.w": Parameter()}, **options).loss
    fixed = tj.fit(sim, target, {"model.w": Parameter()}, resample=False, **options).loss
    assert len(set(fresh)) == 4 and len(set(fixed)) == 1
    again = tj.fit(sim, target, {"model.w": Parameter()}, **options).loss
    np.testing.assert_array_equal(fresh, again)


@pytest.mark.slow
def test_gradients_are_averaged_over_realisations(sim, target):
    options = {"method": "simulate", "optimizer": optax.sgd(0.01), "max_steps": 1, "progress": False}
    result = tj.fit(sim, target, {"model.w": Parameter()}, n_realisations=2, **options)
    w = [float(parameters_of(state)["model.w"]) for state in (result.initial, result.fitted)]
    simulate, state = tj.prepare(sim)

    def loss(w, step):
        at = state.replace(model=state.model.replace(w=w))
        at = tj.resample(at, jax.random.fold_in(noise_key(0, Purpose.TRAINING), step))
        return tj.rmse(tj.compute_fc(simulate(at).data[0]), target)

    slopes = [float(jax.grad(loss)(jnp.array([0.3]), step)[0]) for step in (0, 1)]
    # Optax keeps the learning rate in single precision.
    assert w[0] - w[1] == pytest.approx(0.01 * np.mean(slopes), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("n_starts", [1, 2])
def test_a_callback_receives_each_improvement_and_can_end_the_linear_fit(sim, target, n_starts):
    seen = []

    def callback(step, state, loss, gradients):
        seen.append((step, loss, set(gradients), state, gradients["coupling.a"]))
        return step == 3

    result = tj.fit(
        sim,
        target,
        _free(),
        method="linear",
        run=tj.RunOptions(callback=callback, progress=False),
        search=tj.SearchOptions(max_evaluations=60, n_starts=n_starts),
    )
    # The start is step 0. With two starts, the improvements of the best one at that time are seen.
    assert [step for step, *_ in seen] == [1, 2, 3]
    assert str(result.history.stop_reason).startswith(("1 start followed;", "2 starts followed;")[n_starts - 1])
    assert all(paths == {"model.w", "coupling.a"} for _, _, paths, _, _ in seen)
    assert n_starts > 1 or list(result.loss[1:]) == [loss for _, loss, *_ in seen]


@pytest.mark.slow
def test_differences_between_regions_add_to_the_objective(sim, target):
    """The gradient of that cost is in unconstrained values; callbacks receive that of the loss, in physical units."""
    linear, _ = tj.prepare_linear(sim)
    _, state = tj.prepare(sim)
    state.model.w = BoundedParameter(jnp.linspace(0.2, 0.4, N_NODE), 0.0, 1.0)
    objective = Objective(linear, state, Criterion(tj.rmse, target), 1e5)
    point = objective.start_point + np.linspace(0.0, 0.1, N_NODE)
    (dear, gradients, steep), (cheap, same, flat) = (objective(point, cost, objective.x) for cost in (2.0, 0.0))
    apart = np.linspace(0.0, 0.1, N_NODE) - 0.05
    assert dear.value - cheap.value == pytest.approx(2.0 * np.mean(apart**2), rel=1e-9)
    np.testing.assert_allclose(steep - flat, 4.0 * apart / N_NODE, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(gradients["model.w"], same["model.w"])
    w = parameters_of(objective.state_of(dear))["model.w"]
    slope = jax.vmap(jax.grad(w.from_unconstrained))(w.to_unconstrained())
    np.testing.assert_allclose(gradients["model.w"] * slope, flat, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("simulated", "said"), [(1, "simulations on fresh noise: r"), (0, "not simulated")])
def test_an_interrupt_keeps_the_best_so_far(sim, target, monkeypatch, simulated, said):
    confirm = linear_stage.confirmation

    def until(*arguments):
        scores, calls = confirm(*arguments), []

        def confirmed(state):
            calls.append(state)
            if len(calls) > simulated:
                raise KeyboardInterrupt
            return scores(state)

        return confirmed

    monkeypatch.setattr(linear_stage, "confirmation", until)
    # The second end is simulated if the first is not confirmed.
    monkeypatch.setattr(candidate, "_FC_TOLERANCE", -1.0)
    result = tj.fit(
        sim,
        target,
        _free(),
        method="linear",
        search=tj.SearchOptions(max_evaluations=60),
        run=tj.RunOptions(progress=False),
    )
    stop_reason = result.history.stop_reason
    assert str(stop_reason).startswith("interrupted; 2 starts followed; ") and stop_reason.interrupted
    assert said in str(stop_reason) and result.loss.size > 10 and np.isfinite(result.loss).all()
    assert parameters_of(result.best)["model.w"].value.shape == (N_NODE,)


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 5])
def test_an_interrupt_of_the_minimisations_keeps_their_improvements(sim, target, monkeypatch, before):
    """With unstable start values, minimisations that are interrupted at once leave no result."""
    monkeypatch.setattr(Objective, "start_point", property(lambda objective: np.full(objective.start.shape, np.nan)))
    evaluate, calls = linear_fit._Descents._evaluate, []

    def interrupted(descents, asked):
        calls.append(len(asked))
        if len(calls) > before:
            raise KeyboardInterrupt
        return evaluate(descents, asked)

    monkeypatch.setattr(linear_fit._Descents, "_evaluate", interrupted)
    options = {"method": "linear", "max_evaluations": 20, "progress": False}
    if not before:
        with pytest.raises(KeyboardInterrupt):
            tj.fit(sim, target, _free(), **options)
        return
    result = tj.fit(sim, target, _free(), **options)
    reason = str(result.history.stop_reason)
    assert calls == [2] * (before + 1) and reason.startswith("interrupted; 2 starts followed; linear response: r")
    assert result.loss.size > 1 and np.isfinite(result.loss).all() and np.all(np.diff(result.loss) != 0.0)


def test_the_noise_correction_recovers_r_and_distance_of_infinite_recordings():
    """Two thirds of the variance between pairs is sampling error in each recording; the true FC has none."""
    random = np.random.default_rng(4)

    def draw(scale):
        upper = np.triu(random.normal(size=(90, 90)), 1) * scale
        return upper + upper.T

    target = draw(0.1) + np.eye(90)
    truth = target + draw(0.05)
    r, apart = linear_fit.noise_corrected([truth + draw(0.15) for _ in range(3)], target, target)
    recorded = float(tj.fc_corr(truth + draw(0.15), target))
    assert float(tj.fc_corr(truth, target)) == pytest.approx(0.1 / np.hypot(0.1, 0.05), abs=0.01)
    assert r == pytest.approx(float(tj.fc_corr(truth, target)), abs=0.02) and recorded < 0.6
    assert apart == pytest.approx(0.05, abs=0.005)


def test_a_linear_fit_is_confirmed_by_noise_corrected_scores():
    end = {"fitted": None, "trace": np.array([[0.1, 0.9, 0.0]]), "loss": 0.2, "fc_distance": 0.02}
    assert linear_fit.LinearFitCandidate(r=0.6, noise_corrected_r=0.88, **end).is_confirmed
    assert not linear_fit.LinearFitCandidate(r=0.84, noise_corrected_r=0.84, **end).is_confirmed
    assert not linear_fit.LinearFitCandidate(r=0.9, noise_corrected_r=0.9, **end | {"fc_distance": 0.2}).is_confirmed


@pytest.mark.slow
def test_the_confirmation_uses_the_precision_of_the_calling_thread(sim, target):
    free = {"model.w": Parameter()}
    options = {"method": "linear", "max_evaluations": 4, "progress": False}
    double = tj.fit(sim, target, free, **options)
    jax.config.update("jax_enable_x64", False)
    try:
        with jax.enable_x64(True):
            alone = tj.fit(sim, target, free, **options)
    finally:
        jax.config.update("jax_enable_x64", True)
    assert alone.history.stop_reason == double.history.stop_reason
    np.testing.assert_array_equal(alone.loss, double.loss)


def _ended(state, reason):
    """Result of a linear fit without any improvement."""
    nothing = {"loss": np.array([1.0]), "aux": {"r": np.zeros(1)}, "best_step": 0, "wall_time": 0.0}
    return state, tj.History(best=state, stop_reason=reason, **nothing), []


def test_an_interrupted_linear_fit_is_not_refined(sim, target, monkeypatch):
    def interrupted(linear, state, *_, **__):
        return _ended(state, StopReason(StopKind.LINEAR_INTERRUPTED, 1))

    monkeypatch.setattr(linear_stage, "fit_linear", interrupted)
    monkeypatch.setattr(tj.OptaxOptimizer, "run", lambda *_: pytest.fail("went on"))
    result = tj.fit(sim, target, _free(), method="linear+simulate", run=tj.RunOptions(progress=False))
    assert result.history.stop_reason.interrupted and result.linear_stage is None


@pytest.mark.parametrize("steps,length", [(2000, 100 * 400.0), (60_000, (600 - 7) * 100 * 4.0)])
def test_options_of_fit_reach_the_linear_fit(sim, target, monkeypatch, steps, length):
    """The length is that of the samples that FC is computed from, with a minimum."""
    given = {}

    def fitted(linear, state, criterion, length, confirm, **limits):
        given["fit"] = (criterion.loss, criterion.monitor, length)
        given["limits"] = limits
        return _ended(state, StopReason(StopKind.LINEAR_DONE, 1))

    def confirmed(sim, simulate, criterion, key, state):
        given["confirmation"] = (criterion.loss, criterion.monitor)
        return lambda state, key=None: pytest.fail("simulated")

    monkeypatch.setattr(linear_stage, "fit_linear", fitted)
    monkeypatch.setattr(linear_stage, "confirmation", confirmed)
    monkeypatch.setattr(ways, "_on_fresh_noise", lambda *_: None)
    sim.monitors = [monitors.Raw(), monitors.TemporalAverage(period=400.0)]
    search = SearchOptions(max_evaluations=7)
    limits = {"search": search, "penalty": lambda _: 1.0, "callback": lambda *_: None, "progress": steps == 2000}
    options = {"simulation_length": steps * 4.0, "skip_t": 7, "monitor": 1, "loss": tj.rmse}
    result = tj.fit(sim, target, _free(), method="linear", **options, **limits)
    assert given == {"fit": (tj.rmse, 1, length), "limits": limits, "confirmation": (tj.rmse, 1)}
    assert (result.monitor, result.skip_t, result.settings.codes["loss"]) == (1, 7, "tj.rmse")


@pytest.mark.slow
def test_a_linear_fit_can_start_from_unstable_values(sim, monkeypatch):
    """Linear network that is unstable at the start; the target is of a weaker coupling."""
    monkeypatch.setattr(LinearResponse, "z_standard_error", lambda response, length, monitor: 0.0)
    monkeypatch.setattr(linear_fit, "HOMOGENEITY_WEIGHTS", (1e-8,))
    sim.model = models.Linear(gamma=np.array([-0.02]))
    grows_from = 0.02 / np.max(np.linalg.eigvalsh(sim.connectivity.weights))
    linear, state = tj.prepare_linear(sim)
    state.coupling.a = jnp.array([0.6 * grows_from])
    target = np.asarray(linear(state).fc())
    free = {"coupling.a": BoundedParameter(1.5 * grows_from, 0.0, 2.0 * grows_from)}
    result = tj.fit(
        sim,
        target,
        free,
        method="linear",
        search=tj.SearchOptions(max_evaluations=60),
        run=tj.RunOptions(progress=False),
    )
    start, best = linear(result.initial), linear(result.best)
    assert not start.is_stable and start.n_unstable > 0
    assert best.is_stable
    assert float(parameters_of(result.best)["coupling.a"]) == pytest.approx(0.6 * grows_from, rel=0.01)


def _went_on(monkeypatch, sim, target, **options):
    """(loss, length) of the linear fit; optimizer and state of the simulation that continues from it."""
    seen = []

    def found(linear, state, criterion, length, *_, **__):
        seen.append((criterion.loss, length))
        return _ended(state, StopReason(StopKind.LINEAR_DONE, 2))

    class Seen(Exception):
        pass

    def run(loop, state, *_):
        seen.extend((loop, state))
        raise Seen

    monkeypatch.setattr(linear_stage, "fit_linear", found)
    monkeypatch.setattr(tj.OptaxOptimizer, "run", run)
    with pytest.raises(Seen):
        tj.fit(sim, target, _free(), method="linear+simulate", progress=False, **{"max_steps": 11} | options)
    return seen


def test_the_default_loss_after_a_linear_fit_is_one_minus_fc_corr(sim, target, monkeypatch):
    (of_linear, _), loop, state = _went_on(monkeypatch, sim, target)
    loss, aux = loop.loss(strip_parameters(state))
    assert of_linear is tj.rmse_corr and float(loss) == 1.0 - float(aux["r"]) and abs(aux["r"]) > 0.01
    (of_linear, _), loop, state = _went_on(monkeypatch, sim, target, loss=tj.rmse)
    loss, aux = loop.loss(strip_parameters(state))
    assert of_linear is tj.rmse and float(loss) != 1.0 - float(aux["r"]) and float(loss) > 0.0


def test_the_linear_stage_uses_the_length_of_the_simulator(sim, target, monkeypatch):
    sim.simulation_length = 160_000.0
    (_, length), loop, state = _went_on(monkeypatch, sim, target, simulation_length=8000.0)
    assert length == 160_000.0 and state.integrator.noise.draws.shape[0] == 2000


def test_steps_after_a_linear_fit_are_relative_to_the_ranges(sim, target, monkeypatch):
    _, loop, state = _went_on(monkeypatch, sim, target)
    images = {path: parameter.to_unconstrained() for path, parameter in parameters_of(state).items()}
    ones, first = {path: jnp.ones_like(image) for path, image in images.items()}, loop.optimizer.init(images)
    steps = []
    # Optax mixes dtypes.
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(12):
            step, first = loop.optimizer.update(ones, first, images)
            steps.append([float(-step[path].ravel()[0]) for path in ("model.w", "coupling.a")])
    # Ranges of 1 and 0.5. For a constant gradient, Adam's step is its learning rate: short at first and at the end.
    np.testing.assert_allclose(steps[0], [0.00025, 0.000125], rtol=1e-4)
    np.testing.assert_allclose(steps[2], [0.005, 0.0025], rtol=1e-4)
    np.testing.assert_allclose(steps[11], [0.0005, 0.00025], rtol=1e-4)
    mine = optax.sgd(0.5)
    assert _went_on(monkeypatch, sim, target, optimizer=mine)[1].optimizer.init == mine.init


def test_unknown_methods_and_conflicting_options_are_refused(sim, target):
    with pytest.raises(ValueError, match="'linear', 'linear\\+simulate'"):
        tj.fit(sim, target, _free(), method="lineer")
    with pytest.raises(ValueError, match="n_realisations"):
        tj.fit(sim, target, _free(), method="simulate", noise=tj.NoiseOptions(n_realisations=2, resample=False))
    with pytest.raises(ValueError, match="patience"):
        tj.fit(sim, target, _free(), method="simulate", noise=tj.NoiseOptions(patience=2, resample=False))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simulate", "linear"])
def test_a_penalty_keeps_connectome_weights_near_the_measured_ones(sim, target, method):
    """Existing connections stay above 0; a larger penalty keeps them nearer to the measured weights."""
    weights = np.array(sim.connectivity.weights)
    weights[0, 1] = weights[1, 0] = 0.0
    sim.connectivity.weights = weights
    gone = {}
    for dear in (0.0, 1e3):
        by_method = {"simulate": {"max_steps": 5, "optimizer": optax.adam(0.02)}, "linear": {"max_evaluations": 30}}
        options = by_method[method] | {"progress": False}
        result = tj.fit(
            sim,
            target,
            {"connectivity.weights": MaskedParameter(lower_bound=0.0)},
            method=method,
            penalty=lambda state, dear=dear: dear * jnp.mean((state.connectivity.weights - weights) ** 2),
            **options,
        )
        fitted = np.asarray(parameters_of(result.fitted)["connectivity.weights"].value)
        assert np.all(fitted[weights == 0.0] == 0.0) and fitted.min() >= 0.0
        gone[dear] = np.sqrt(np.mean((fitted - weights) ** 2))
    assert gone[0.0] > 0.005 and gone[1e3] < 0.5 * gone[0.0]
