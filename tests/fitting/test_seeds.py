"""The seed of a fit decides all that is drawn; the spread over seeds and starts says what the data determine."""

import pickle
import threading

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit import BoundedParameter
from tvb_jaxfit.fitting import simulation_stage
from tvb_jaxfit.fitting.keys import Purpose, generator, noise_key
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.fitting.spread import Spread
from tvb_jaxfit.fitting.starts import apart, latin_hypercube, point_of_state
from tvb_jaxfit.parameters import parameters_of, strip_parameters

N_NODE = 6
FREE = {
    "model.w": BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    "coupling.a": BoundedParameter(lower_bound=0.0, upper_bound=0.5),
}


@pytest.fixture
def sim(weights_6):
    parts = {"model": {"w": np.array([0.3]), "I_o": np.array([0.3])}}
    return simulator(
        (weights_6 + weights_6.T) / 2.0, steps=1000, monitors=[monitors.TemporalAverage(period=200.0)], **parts
    )


@pytest.fixture(scope="module")
def target():
    random = np.random.default_rng(7)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Smaller sweeps, and simulations of seconds."""
    monkeypatch.setattr(linear_fit, "_POINTS", 8)
    monkeypatch.setattr(simulation_stage, "_POINTS", 4)
    monkeypatch.setattr(confirmation, "LONGEST", 20_000.0)


def _same(one, other):
    np.testing.assert_array_equal(one.loss, other.loss)
    np.testing.assert_array_equal(one.fresh.r, other.fresh.r)
    jax.tree.map(np.testing.assert_array_equal, strip_parameters(one.best), strip_parameters(other.best))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"method": "simulate", "n_starts": 2, "max_steps": 2}, {"method": "linear", "max_evaluations": 20}],
    ids=["simulate", "linear"],
)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(sim, target, options):
    first, again, other = (tj.fit(sim, target, FREE, seed=seed, progress=False, **options) for seed in (3, 3, 4))
    _same(first, again)
    assert first.fresh.key == "jax.random.fold_in(jax.random.key(3), 5)" != other.fresh.key
    assert not np.array_equal(first.loss, other.loss) and not np.array_equal(first.fresh.r, other.fresh.r)
    assert first.settings.seed == 3 and ("search", "tj.SearchOptions(seed=3") == tuple(
        text.partition(", ")[0].rstrip(")") for text in first.settings.call()[-1]
    )


def test_an_evaluation_is_decided_by_its_seed(sim, target):
    r = [tj.evaluate(sim, target, n_seeds=2, seed=seed, progress=False).r for seed in (0, 0, 1)]
    np.testing.assert_array_equal(r[0], r[1])
    assert not np.any(np.isin(r[0], r[2]))


def test_each_purpose_has_noise_of_its_own():
    keys = {tuple(jax.random.key_data(noise_key(seed, purpose)).tolist()) for seed in range(5) for purpose in Purpose}
    assert len(keys) == 5 * len(Purpose)
    draws = {generator(seed, purpose).normal() for seed in range(5) for purpose in Purpose}
    assert len(draws) == 5 * len(Purpose)


def test_a_hypercube_is_over_the_values_that_are_equal_in_all_regions():
    parameters = {
        "global": BoundedParameter(0.1, 0.0, 0.5),
        "equal": BoundedParameter(jnp.full(3, 0.3), 0.0, 1.0),
        "regional": BoundedParameter(jnp.array([0.1, 0.2, 0.3]), 0.0, 1.0),
        "free": tj.Parameter(2.0),
    }
    points = list(latin_hypercube(parameters, 10, seed=1))
    values = {path: np.array([np.ravel(point[path].value) for point in points]) for path in parameters}
    # One point in each tenth of each range.
    assert sorted(np.floor((values["global"][:, 0] / 0.5 - 0.02) / 0.096).astype(int)) == list(range(10))
    assert np.all(np.ptp(values["equal"], axis=1) == 0.0) and np.all(np.ptp(values["regional"], axis=0) == 0.0)
    assert values["free"].min() > 0.5 and values["free"].max() < 8.0
    again, other = (np.array([point["global"].value for point in latin_hypercube(parameters, 10, k)]) for k in (1, 2))
    np.testing.assert_array_equal(again, values["global"][:, 0])
    assert not np.any(np.isin(again, other))


def test_starts_are_apart():
    states = [tj.State(a=BoundedParameter(value, 0.0, 1.0)) for value in (0.5, 0.51, 0.7, 0.9)]
    assert [float(state.a) for state in apart(states, point_of_state, 3)] == [0.5, 0.7, 0.9]
    assert len(apart(states, point_of_state, 2)) == 2


def test_the_spread_is_over_seeds_and_starts(sim, target):
    options = {"method": "simulate", "n_starts": 2, "max_steps": 1, "progress": False}
    result = tj.fit(sim, target, FREE, seed=5, **options)
    spread = result.spread(n_seeds=2, progress=False)
    other = tj.fit(sim, target, FREE, seed=6, **options)
    assert spread.seeds == [5, 6] and not spread.interrupted
    for index, each in enumerate((result, other)):
        for path, parameter in parameters_of(each.best).items():
            np.testing.assert_array_equal(spread.values[path][index], parameter.value)
        assert spread.r[index] == each.fresh.mean and spread.loss[index] == each.loss[each.history.best_step]
    np.testing.assert_allclose(spread.std("coupling.a"), np.std(spread.values["coupling.a"], ddof=1) / 0.5)
    assert spread.std("model.w").shape == (N_NODE,) and len(spread.start_loss) == 2
    assert spread.correlation("model.w") == pytest.approx(np.corrcoef(spread.values["model.w"])[0, 1])
    assert np.isnan(spread.correlation("coupling.a"))
    frame = spread.to_frame()
    assert frame.shape == (N_NODE + 1, 3) and frame.loc[("model.w", "region 2"), 6] == spread.values["model.w"][1, 2]
    text = repr(spread)
    assert text.startswith("Spread over 2 seeds (5, 6)") and "model.w" in text and "r between seeds" in text


def test_values_that_the_data_determine_have_no_spread():
    def of(w):
        return {
            "values": {"w": w},
            "start_values": {"w": w},
            "ranges": {"w": 2.0},
            "labels": ["a", "b", "c"],
            "start_loss": np.ones(2),
        }

    rest = {"seeds": [0, 1], "loss": np.ones(2), "r": np.ones(2)}
    determined = Spread(**of(np.array([[1.0, 2.0, 3.0]] * 2)), **rest)
    assert np.all(determined.std("w") == 0.0) and determined.correlation("w") == pytest.approx(1.0)
    free = Spread(**of(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])), **rest)
    np.testing.assert_allclose(free.std("w"), [np.sqrt(2.0) / 2.0, 0.0, np.sqrt(2.0) / 2.0])
    assert free.correlation("w") == pytest.approx(-1.0)
    assert np.all(free.std_over_starts("w") == free.std("w"))


def test_functions_of_a_script_are_in_a_pickle_of_any_kind(sim, target):
    weight = 2.0
    saving = tj.SavingCallback("a", lambda step, state, loss, gradients: state.coupling.a)
    options = {
        "loss": lambda fc, target: weight * tj.rmse(fc, target),
        "penalty": lambda state: 0.01 * jnp.sum(state.model.w**2),
        "optimizer": optax.adam(0.01),
    }
    options |= {"max_steps": 1, "method": "simulate", "run": tj.RunOptions(callback=saving, progress=False)}
    result = tj.fit(sim, target, FREE, **options)
    expected = result.spread(2, progress=False)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        again = pickle.loads(dumps(result))
        assert again.request.loss(result.fc(), target) == result.request.loss(result.fc(), target)
        found = again.spread(2, progress=False)
        np.testing.assert_array_equal(found.loss, expected.loss)
        np.testing.assert_array_equal(found.values["model.w"], expected.values["model.w"])


def test_functions_that_cloudpickle_does_not_pickle_are_given_again(sim, target):
    lock, optimizer, seen = threading.Lock(), optax.adam(0.01), []

    def loss(fc, target):
        with lock:
            return tj.rmse(fc, target)

    options = {"loss": loss, "optimizer": optimizer}
    result = tj.fit(sim, target, FREE, method="simulate", max_steps=0, progress=False, **options)
    again = pickle.loads(pickle.dumps(result))
    with pytest.raises(ValueError, match="loss: lost when") as caught:
        again.spread()
    assert "optimizer" not in str(caught.value)
    with pytest.raises(ValueError, match="los: no function of a fit"):
        result.spread(los=tj.rmse)
    again.refit = lambda request: seen.append(request) or result
    assert again.spread(n_seeds=2, progress=False, **options).seeds == [0, 1]
    assert seen[0].optimizer is optimizer and seen[0].sim is again.simulator and seen[0].search.seed == 1


def test_a_function_may_refer_to_its_own_fit(sim, target):
    """As a function of a notebook does to the names of the notebook."""
    names = {}

    def loss(fc, target):
        return tj.rmse(fc, target) + 0.0 * len(names)

    names["result"] = result = tj.fit(
        sim, target, FREE, method="simulate", max_steps=0, progress=False, loss=loss, penalty=lambda state: 0.0
    )
    for dumps in (pickle.dumps, cloudpickle.dumps):
        again = pickle.loads(dumps(result))
        assert again.request.loss(result.fc(), target) == loss(result.fc(), target)


def test_an_interrupt_keeps_the_fits_that_were_completed(sim, target):
    result = tj.fit(sim, target, FREE, method="simulate", max_steps=0, progress=False)

    def refit(request):
        if request.search.seed == 2:
            raise KeyboardInterrupt
        return result

    result.refit = refit
    spread = result.spread(n_seeds=4, progress=False)
    assert spread.seeds == [0, 1] and spread.interrupted and "interrupted" in repr(spread)
