"""64-bit mode that was switched on or off after `prepare` is an error; results never have the other precision."""

import pickle

import jax
import numpy as np
import optax
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj

N_NODE = 6


@pytest.fixture
def sim(build_small):
    return build_small(steps=200, monitors=[monitors.TemporalAverage(period=16.0)])


def _target():
    return np.corrcoef(np.random.default_rng(0).normal(size=(N_NODE, 40)))


FIT = {"method": "simulate", "max_steps": 1, "optimizer": optax.adam(0.01), "progress": False}
SWITCHED = "prepared in {} precision, and 64-bit mode was switched {} since. Call prepare"


@pytest.fixture(params=[True, False], ids=["switched off", "switched on"])
def before(request):
    """True if 64-bit mode was on at `prepare`."""
    return request.param


def _message(before):
    return SWITCHED.format(*(("double", "off") if before else ("single", "on")))


def test_a_simulation(sim, before):
    with jax.enable_x64(before):
        simulate, state = tj.prepare(sim)
        expected = simulate(state).data[0]
        dtype = np.float64 if before else np.float32
        assert expected.dtype == dtype
    with jax.enable_x64(not before):
        prepared_again, state_again = tj.prepare(sim)
        for run in (simulate, jax.jit(lambda state: simulate(state).data[0])):
            for start in (state, state_again):
                with pytest.raises(RuntimeError, match=_message(before)):
                    run(start)
        # Also a state of the other precision.
        with pytest.raises(RuntimeError, match=f"State.initial_conditions is of {np.dtype(dtype)}"):
            prepared_again(state)
        assert prepared_again(state_again).data[0].dtype == (np.float32 if before else np.float64)
    with jax.enable_x64(before):
        np.testing.assert_array_equal(simulate(state).data[0], expected)


@pytest.mark.slow
def test_an_unpickled_simulate_runs_in_its_own_precision(sim, before):
    with jax.enable_x64(before):
        simulate, state = tj.prepare(sim)
        expected = np.asarray(simulate(state).data[0])
    with jax.enable_x64(not before):
        # Pickled in either mode.
        loaded, loaded_state = pickle.loads(pickle.dumps((simulate, state)))
        np.testing.assert_array_equal(loaded(loaded_state).data[0], expected)
        np.testing.assert_array_equal(loaded.with_monitor(0)(loaded_state).data[0], expected)


def test_a_linear_response(sim, before):
    with jax.enable_x64(before):
        linear, state = tj.prepare_linear(sim)
    with jax.enable_x64(not before), pytest.raises(RuntimeError, match=_message(before)):
        linear(state)


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["off", "on"])
def test_a_fit_and_its_result(sim, before, tmp_path):
    path = tmp_path / "fit.npz"
    with jax.enable_x64(before):
        result = tj.fit(sim, _target(), {"coupling.a": tj.Parameter()}, checkpoint=path, **FIT)
        simulate, state = tj.prepare(sim)
        state.coupling.a = tj.Parameter(state.coupling.a)
        loop = tj.OptaxOptimizer(
            lambda state: tj.rmse(tj.compute_fc(simulate(state).data[0]), _target()), optax.adam(0.01), progress=False
        )
    with jax.enable_x64(not before):
        for call in (
            result.fc,
            lambda: result.evaluate(n_seeds=1, progress=False),
            lambda: result.score(key=jax.random.key(0)),
            lambda: loop.run(state, 1),
        ):
            with pytest.raises(RuntimeError, match=_message(before)):
                call()
        with pytest.raises(ValueError, match="of another fit .differences: precision .64-bit mode"):
            tj.fit(sim, _target(), {"coupling.a": tj.Parameter()}, checkpoint=path, resume=True, **FIT)
    with jax.enable_x64(before):
        assert np.all(np.isfinite(result.evaluate(n_seeds=1, progress=False).r))
