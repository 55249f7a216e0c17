"""Results of prepare and fit pickle and give the same numbers in other processes; forked processes raise errors."""

import copy
import os
import pickle
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import coupling, models, monitors

import tvb_jaxfit as tj
from tvb_jaxfit.command.outcome import Refused
from tvb_jaxfit.parameters import strip_parameters


def delayed(build_small, weights_6, connectivity_of, **more):
    lengths = np.where(weights_6 > 0.0, 15.0, 0.0)
    parts = {"dt": 1.0, "steps": 60, "monitors": [monitors.Raw(), monitors.Bold(period=20.0, hrf_length=200.0)]}
    return build_small(connectivity=connectivity_of(weights_6, lengths, speed=1.5), **(parts | more))


@pytest.fixture
def sims(build_small, weights_6, connectivity_of):
    """Simulators of several kinds by name."""
    simple = delayed(build_small, weights_6, connectivity_of)
    other = delayed(build_small, weights_6, connectivity_of, monitors=[monitors.TemporalAverage(period=7.0)])
    other.model, other.coupling = models.MontbrioPazoRoxin(), coupling.Difference()
    other.stimulus = patterns.StimuliRegion(
        temporal=equations.Sinusoid(), connectivity=other.connectivity, weight=np.full(6, 0.1)
    )
    run_before = delayed(build_small, weights_6, connectivity_of)
    run_before.configure()
    run_before.run()
    return {"simple": simple, "stimulus and other classes": other, "run before": run_before}


@pytest.mark.parametrize(
    "kind, dumps",
    [
        pytest.param("simple", cloudpickle.dumps, marks=pytest.mark.slow),
        pytest.param("stimulus and other classes", pickle.dumps, marks=pytest.mark.slow),
        ("run before", pickle.dumps),
    ],
    ids=["simple", "other classes", "run before"],
)
def test_unpickled_simulate_state_and_result_give_the_same_bits(sims, kind, dumps):
    simulate, state = tj.prepare(sims[kind])
    result = simulate(state)
    again, its_state, its_result = pickle.loads(dumps((simulate, state, result)))
    assert repr(again) == repr(simulate) and repr(its_result) == repr(result)
    assert jax.tree.structure(its_state) == jax.tree.structure(state)
    for (time, data), *others in zip(result, its_result, again(state), simulate(its_state), strict=True):
        for its_time, its_data in others:
            np.testing.assert_array_equal(its_time, time)
            np.testing.assert_array_equal(its_data, data)
    # The final state, the next draws included.
    jax.tree.map(np.testing.assert_array_equal, result.final_state, its_result.final_state)
    np.testing.assert_array_equal(again(its_result.final_state).data[0], simulate(result.final_state).data[0])


def test_a_single_monitor_and_a_copy_are_picklable(sims):
    simulate, state = tj.prepare(sims["simple"])
    alone = simulate.with_monitor(1)
    of_one = state.replace(monitors=state.monitors[1:])
    again = pickle.loads(pickle.dumps(alone))
    np.testing.assert_array_equal(again(of_one).data[0], simulate(state).data[1])
    assert copy.deepcopy(simulate) is simulate and copy.copy(simulate) is simulate


def test_a_simulate_that_was_changed_by_hand_is_not_picklable(sims):
    from dataclasses import replace

    simulate, _ = tj.prepare(sims["simple"])
    with pytest.raises(TypeError, match="by hand"):
        pickle.dumps(replace(simulate, monitors=simulate.monitors[:1]))


def test_an_unpickled_fit_keeps_its_methods(build_small):
    sim = build_small(steps=60)
    target = np.corrcoef(np.random.RandomState(0).randn(6, 40))
    result = tj.fit(
        sim, target, {"coupling.a": tj.Parameter()}, method="simulate", max_steps=1, run=tj.RunOptions(progress=False)
    )
    copies = pickle.loads(pickle.dumps(result)), copy.deepcopy(result)
    scores = result.evaluate(n_seeds=1, progress=False).rows
    for again in copies:
        np.testing.assert_array_equal(again.fc(), result.fc())
        np.testing.assert_array_equal(again.history.loss, result.history.loss)
        assert again.evaluate(n_seeds=1, progress=False).rows == scores
        assert repr(again) == repr(result)


SCRIPT = """
import pickle, sys
import numpy as np
simulate, state, expected = pickle.load(open(sys.argv[1], "rb"))
import jax
assert not jax.config.jax_enable_x64
data = np.asarray(simulate(state).data[0])
assert data.dtype == expected.dtype and np.array_equal(data, expected), abs(data - expected).max()
"""


def test_another_process_gives_the_same_bits_whatever_its_precision(sims, tmp_path):
    simulate, state = tj.prepare(sims["simple"])
    path = tmp_path / "simulate.pkl"
    path.write_bytes(pickle.dumps((simulate, state, np.asarray(simulate(state).data[0]))))
    done = subprocess.run([sys.executable, "-c", SCRIPT, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "make",
    [
        lambda: tj.Parameter(jnp.arange(3.0)),
        lambda: tj.BoundedParameter(0.3, 0, 1),
        lambda: tj.MaskedParameter(jnp.eye(2)),
        lambda: strip_parameters(tj.State(x=tj.Parameter(0.1), y=[tj.State(z=jnp.arange(3))])),
        lambda: tj.Space(tj.State(x=tj.GridAxis(0, 1, 3))),
        lambda: tj.SequentialExecution(_square, tj.Space(tj.State(x=tj.GridAxis(0, 1, 3))), progress=False).run(),
    ],
    ids=["Parameter", "BoundedParameter", "MaskedParameter", "State", "Space", "Exploration"],
)
def test_small_objects_are_picklable(make):
    value = make()
    again = pickle.loads(pickle.dumps(value))
    assert type(again) is type(value) and repr(again) == repr(value)
    assert repr(copy.copy(value)) == repr(copy.deepcopy(value)) == repr(value)


def _square(state):
    return state.x**2


def test_a_state_whose_noise_has_a_key_is_unpickled_with_the_key(build_small):
    simulate, state = tj.prepare(build_small(steps=20), noise=jax.random.key(3))
    again = pickle.loads(pickle.dumps(state))
    assert again.integrator.noise.stream == state.integrator.noise.stream
    np.testing.assert_array_equal(
        simulate(again).final_state.integrator.noise.draws, simulate(state).final_state.integrator.noise.draws
    )


def test_an_optimizer_and_a_sweep_are_picklable_by_cloudpickle():
    optimizer = tj.OptaxOptimizer(lambda s: s.x**2, optax.sgd(0.1), progress=False)
    again = pickle.loads(cloudpickle.dumps(optimizer))
    state = tj.State(x=tj.Parameter(3.0))
    assert again.run(state, 3)[1].loss.tolist() == optimizer.run(state, 3)[1].loss.tolist()
    sweep = tj.ParallelExecution(lambda s: s.x**2, tj.Space(tj.State(x=tj.GridAxis(0, 1, 3))), progress=False)
    values = sweep.run().values
    np.testing.assert_array_equal(pickle.loads(cloudpickle.dumps(sweep)).run().values, values)


@pytest.mark.parametrize("error", [tj.UnsupportedComponent(["a: one", "b: two"]), Refused("one", "two")])
def test_errors_are_picklable_with_their_reasons(error):
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error) and str(again) == str(error)
        assert again.reasons == error.reasons and again.__notes__ == ["a note"]


FORKED = """
import os, pickle, sys
import numpy as np
import jax, optax
import tvb_jaxfit as tj
from tvb.simulator.lab import *
white_matter = connectivity.Connectivity(
    weights=np.array([[0.0, 1.0], [2.0, 0.0]]), tract_lengths=np.zeros((2, 2)), centres=np.zeros((2, 3)),
    region_labels=np.array(["l", "r"]), speed=np.array([np.inf]))
sim = simulator.Simulator(
    connectivity=white_matter, model=models.ReducedWongWang(), coupling=coupling.Linear(a=np.array([0.05])),
    integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]))),
    monitors=[monitors.TemporalAverage(period=10.0)], simulation_length=100.0)
for use in (False, True):
    if use:
        simulate, state = tj.prepare(sim)
        linear, _ = tj.prepare_linear(sim)
        sent = pickle.dumps((simulate, state))
        space = tj.Space(tj.State(x=tj.GridAxis(0, 1, 3)))
    sys.stdout.flush()
    child = os.fork()
    if child != 0:
        os.waitpid(child, 0)
        continue
    if not use:
        jax.numpy.ones(3).sum()
        simulate, state = tj.prepare(sim)
        print("ran", np.asarray(simulate(state).data[0]).shape)
    else:
        s, x = pickle.loads(sent)
        print("state", np.asarray(x.model.w))
        target = np.array([[1.0, 0.5], [0.5, 1.0]])
        for call in (
            lambda: tj.prepare(sim), lambda: tj.prepare_linear(sim), lambda: tj.certify(sim), lambda: simulate(state),
            lambda: s(x), lambda: s.n_steps, lambda: linear(state), lambda: tj.JaxBackend().run_sim(sim),
            lambda: tj.fit(sim, target, {"coupling.a": tj.Parameter()}), lambda: tj.evaluate(sim, target),
            lambda: tj.ParallelExecution(lambda s: s.x, space).run(),
            lambda: tj.OptaxOptimizer(lambda s: s.x, optax.sgd(0.1)).run(x), lambda: tj.Parameter(0.3),
            lambda: tj.Space(tj.State(x=tj.GridAxis(0, 1, 3))), lambda: tj.compute_fc(np.ones((5, 1, 2, 1))),
            lambda: tj.rmse(target, target), lambda: tj.fc_corr(target, target), lambda: tj.rmse_corr(target, target),
        ):
            try:
                call()
                print("no error")
            except RuntimeError as error:
                print("forked" in str(error) and "spawn" in str(error))
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_works_before_jax_is_used_and_raises_an_error_with_the_remedy_after():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("WARNING")]
    assert lines == ["ran (10, 1, 2, 1)", "state 0.6", *["True"] * 18]


@pytest.mark.parametrize("transform", [jax.jit, pytest.param(jax.grad, marks=pytest.mark.slow)])
def test_an_unpickled_simulate_can_be_traced_at_once(sims, transform):
    simulate, state = tj.prepare(sims["simple"])
    again = pickle.loads(pickle.dumps(simulate))
    got, expected = (transform(lambda state, of=of: of(state).data[0].sum())(state) for of in (again, simulate))
    jax.tree.map(np.testing.assert_array_equal, got, expected)
