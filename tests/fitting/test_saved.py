"""A saved fit is the fit: the same values, report and, with its simulator, the same numbers; or it is refused."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tvb_jaxfit as tj
from tests.balance.conftest import exc_inh
from tests.conftest import simulator
from tests.uncertainty.conftest import errors_of
from tvb_jaxfit.fitting.saved import _KIND
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.persistence.fingerprint.hasher import digest
from tvb_jaxfit.persistence.serialise import NotSerialisable, write
from tvb_jaxfit.state import with_path

STATES = ("fitted", "best", "initial")
# Titles of a report's parts that depend on the time.
DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")


def make():
    """Six regions."""
    weights = np.random.RandomState(0).uniform(0.1, 1.0, (6, 6))
    np.fill_diagonal(weights, 0.0)
    return simulator(weights, steps=60)


def target(n_node=6):
    """FC of noise."""
    return np.corrcoef(np.random.RandomState(0).randn(n_node, 40))


def evaluated(result):
    """The fit with an evaluation and standard errors."""
    result.evaluate(n_seeds=1, progress=False)
    result.standard_errors = errors_of({"coupling.a": 0.1}, {"coupling.a": 0.05}, {"coupling.a": 0.29})
    return result


@pytest.fixture(scope="module")
def result():
    """Fit to FC, variance, and a function of the signals; with a penalty and saved values."""
    targets = {
        "fc": target(),
        "variance": tj.VarianceTarget(np.ones(6), distance=tj.wasserstein_distance),
        "spread": tj.SignalTarget(0.2, lambda signals, period: jnp.std(signals)),
    }
    return evaluated(
        tj.fit(
            make(),
            targets,
            {"coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0)},
            method="simulate",
            loss=tj.rmse,
            penalty=lambda state: 0.01 * jnp.sum(state.coupling.a**2),
            max_steps=1,
            callback=tj.SavingCallback("a", lambda step, state, loss, gradients: state.coupling.a),
            progress=False,
        )
    )


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    """File of the fit."""
    return result.save(tmp_path_factory.mktemp("saved") / "folder" / "fit.npz")


def shown(value):
    """Text of a value, as of its copy that has lost its functions."""
    return re.sub(r"<function (\S+<lambda>) at 0x\w+>", r"<lost: \1>", repr(value))


def assert_same(again, result):
    """All that needs no simulator is equal, bit for bit."""
    assert repr(again) == shown(result) and again._repr_html_() == result._repr_html_()
    for name in STATES:
        ours, theirs = getattr(again, name), getattr(result, name)
        assert repr(ours) == repr(theirs)
        # A balanced parameter knows its simulation, which no other equals.
        assert jax.tree.structure(strip_parameters(ours)) == jax.tree.structure(strip_parameters(theirs))
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert (again.history.best is again.best) == (result.history.best is result.best)
    assert digest(replace(again.history, best=None)) == digest(replace(result.history, best=None))
    for name in ("target", "skip_t", "monitor", "settings", "data", "way", "why", "costs", "evaluation", "fresh"):
        assert digest(getattr(again, name)) == digest(getattr(result, name)), name
    assert digest(again.standard_errors) == digest(result.standard_errors)
    assert digest([again.mean_rates, again.candidates]) == digest([result.mean_rates, result.candidates])
    assert repr(again.targets) == shown(result.targets)
    assert (again.linear_stage is None) == (result.linear_stage is None)


def report_of(result, folder):
    """Report without its date."""
    return DATE.sub("", result.report(folder / "report.html", force=True).read_text())


def test_without_a_simulator_a_saved_fit_has_its_values_scores_and_report(result, path, tmp_path):
    again = tj.FitResult.load(path)
    assert_same(again, result)
    assert again.simulator is None
    assert report_of(again, tmp_path) == report_of(result, tmp_path)
    sims = make(), make()
    assert repr(again.write_back(sims[0])) == repr(result.write_back(sims[1]))
    assert sims[0].coupling.a == sims[1].coupling.a != make().coupling.a
    # Saved once more, it is the same again.
    assert_same(tj.FitResult.load(again.save(tmp_path / "again.npz"), make()), result)


def test_with_its_simulator_a_saved_fit_gives_the_same_numbers(result, path):
    sim = make()
    # One that has been configured counts as the same.
    sim.configure()
    again = tj.FitResult.load(path, sim)
    assert_same(again, result)
    np.testing.assert_array_equal(again.fc(), result.fc())
    # Negative control.
    other = with_path(again.best, "coupling.a", jnp.asarray(0.5))
    assert np.any(again.fc(other) != again.fc())
    np.testing.assert_array_equal(again.fc(other), result.fc(with_path(result.best, "coupling.a", jnp.asarray(0.5))))
    new = tj.SignalTarget(0.2, lambda signals, period: jnp.std(signals))
    rows = again.evaluate(result.targets | {"fc": target(), "spread": new}, n_seeds=1, progress=False).rows
    assert rows == result.evaluation.rows
    # The final state continues the random stream.
    ours, theirs = (each.simulate(tj.State.replace(each.initial)).final_state for each in (again, result))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_each_function_that_needs_the_simulator_says_so(path):
    again = tj.FitResult.load(path)
    for name in ("fc", "score", "evaluate", "spread", "identifiability"):
        with pytest.raises(ValueError, match=r"simulator.*FitResult.load\(path, sim\)"):
            getattr(again, name)()
    with pytest.raises(ValueError, match=r"FitResult.load\(path, sim\)"):
        getattr(again.simulate, "monitors")  # noqa: B009


def test_functions_are_named_and_those_of_the_package_are_kept(result, path):
    again = tj.FitResult.load(path, make())
    assert again.request.loss is tj.rmse and again.refit is result.refit
    with pytest.raises(ValueError, match="penalty: lost .* callback: lost .* spread: lost") as caught:
        again.spread(2)
    assert "loss:" not in str(caught.value) and "variance" not in str(caught.value)
    with pytest.raises(ValueError, match="lost when its fit was pickled or saved"):
        again.evaluate(n_seeds=1, progress=False)


def test_another_simulator_is_refused_by_the_names_of_what_differs(path, copy_of, snapshot):
    other = make()
    other.coupling.a = np.array([0.08])
    other.connectivity.weights[0, 1] *= 2.0
    other.integrator.noise.noise_seed = 3
    before = snapshot(other)
    with pytest.raises(ValueError, match="another simulator") as caught:
        tj.FitResult.load(path, other)
    assert snapshot(other) == before
    for name in ("coupling.a", "connectivity.weights", "integrator.noise.noise_seed"):
        assert name in str(caught.value)
    assert "model" not in str(caught.value) and "other versions" not in str(caught.value)


def test_no_version_of_a_library_makes_it_another_simulator(path, monkeypatch):
    import tvb

    monkeypatch.setattr(tvb, "__version__", "99", raising=False)
    monkeypatch.setattr("tvb_jaxfit.fitting.saved.__version__", "99")
    tj.FitResult.load(path, make())
    other = make()
    other.coupling.a = np.array([0.08])
    with pytest.raises(ValueError, match="other versions.*tvb_jaxfit 0.*, now 99"):
        tj.FitResult.load(path, other)


def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        tj.FitResult.load(tmp_path / "none.npz")
    damaged = tmp_path / "damaged.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    foreign, newer, other = (tmp_path / name for name in ("foreign.npz", "newer.npz", "other.npz"))
    np.savez(foreign, x=np.arange(3))
    write(newer, {}, f"{_KIND}, format 2")
    write(other, {}, "checkpoint of a fit")
    for each in (damaged, foreign, other):
        with pytest.raises(ValueError, match="damaged, or no result of a fit"):
            tj.FitResult.load(each)
    with pytest.raises(ValueError, match="format 2; .* reads format 1. Update tvb_jaxfit"):
        tj.FitResult.load(newer)


def test_a_file_is_replaced_on_demand_alone(result, path, tmp_path):
    existing = tmp_path / "fit.npz"
    existing.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="save: .*force=True"):
        result.save(existing)
    assert existing.read_bytes() == b"mine"
    assert_same(tj.FitResult.load(result.save(existing, simulate_fc=False, force=True)), result)


class OwnParameter(tj.Parameter):
    """A user's."""


def test_an_object_of_a_class_of_the_users_is_refused_by_its_path(result, tmp_path):
    state = with_path(result.best, "coupling.a", OwnParameter(0.1))
    with pytest.raises(NotSerialisable, match=r"^result\.best\.coupling\.a: .*OwnParameter.*pickle the result"):
        replace(result, best=state).save(tmp_path / "fit.npz")
    assert not list(tmp_path.iterdir())


def test_draws_are_in_the_file_only_if_their_stream_does_not_give_them_again(result, path, tmp_path):
    size = np.asarray(result.best.integrator.noise.draws).nbytes
    noise = result.initial.integrator.noise
    drawn = tj.resample(result.initial, jax.random.key(1)).integrator.noise.draws
    fresh = with_path(result.initial, "integrator.noise", noise.replace(draws=drawn))
    other = replace(result, initial=fresh)
    grown = other.save(tmp_path / "fit.npz").stat().st_size - path.stat().st_size
    # Compressed.
    assert 0.4 * size < grown < 2.0 * size
    again = tj.FitResult.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.initial.integrator.noise.draws, fresh.integrator.noise.draws)


@pytest.mark.slow
def test_a_fit_with_balance_and_maps_is_the_same_after_loading(tmp_path):
    values = np.array([-1.0, 0.0, 1.0, -1.0, 1.0]) * np.sqrt(1.25)
    free = {
        "model.G": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.2),
        "model.w_p": tj.MapParameter({"map": values}, "sigmoid", lower_bound=0.8, upper_bound=2.0),
        "model.J_i": tj.Balanced(),
    }
    sim = exc_inh(G=0.3, length=4000.0)
    result = evaluated(tj.fit(sim, target(5), free, method="simulate", max_steps=1, progress=False))
    path = result.save(tmp_path / "fit.npz")
    assert_same(tj.FitResult.load(path), result)
    again = tj.FitResult.load(path, sim)
    assert_same(again, result)
    assert again.coefficients == result.coefficients
    # The balance follows other values, as before: it knows the simulation.
    ours, theirs = (each.fc(with_path(each.best, "coupling.a", jnp.asarray(0.9))) for each in (again, result))
    np.testing.assert_array_equal(ours, theirs)
    assert again.evaluate(n_seeds=1, progress=False).rows == result.evaluation.rows


@pytest.mark.slow
@pytest.mark.usefixtures("short_linear_fits")
def test_a_linear_fit_that_a_simulation_refines_is_the_same_after_loading(tmp_path):
    options = {"method": "linear+simulate", "max_steps": 1, "progress": False}
    result = evaluated(tj.fit(make(), target(), {"coupling.a": tj.Parameter()}, **options))
    path = result.save(tmp_path / "fit.npz")
    alone, again = tj.FitResult.load(path), tj.FitResult.load(path, make())
    for each in (alone, again):
        assert_same(each, result)
        assert_same(each.linear_stage, result.linear_stage)
    assert report_of(alone, tmp_path) == report_of(result, tmp_path)
    assert repr(again.identifiability()) == repr(result.identifiability())
    assert repr(again.spread(2, progress=False)) == repr(result.spread(2, progress=False))
