"""64-bit mode switched on or off since `prepare` is an error, never numbers of the other precision."""

import pickle

import jax
import numpy as np
import optax
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tests.fit_options import grouped

N_NODE = 6


@pytest.fixture
def sim(build_small):
    return build_small(steps=200, monitors=[monitors.TemporalAverage(period=16.0)])


def _target():
    return np.corrcoef(np.random.default_rng(0).normal(size=(N_NODE, 40)))


FIT = {"max_steps": 1, "optimizer": optax.adam(0.01), "progress": False}
SWITCHED = "prepared in {} precision, and 64-bit mode was switched {} since. Call prepare"


@pytest.fixture(params=[True, False], ids=["switched off", "switched on"])
def before(request):
    """Whether 64-bit mode was on when things were prepared."""
    return request.param


def _said(before):
    return SWITCHED.format(*(("double", "off") if before else ("single", "on")))


def test_a_simulation(sim, before):
    with jax.enable_x64(before):
        simulate, state = tj.prepare(sim)
        ours = simulate(state).data[0]
        wide = np.float64 if before else np.float32
        assert ours.dtype == wide
    with jax.enable_x64(not before):
        again, other = tj.prepare(sim)
        for run in (simulate, jax.jit(lambda state: simulate(state).data[0])):
            for start in (state, other):
                with pytest.raises(RuntimeError, match=_said(before)):
                    run(start)
        # A state of the other precision, too.
        with pytest.raises(RuntimeError, match=f"State.initial_conditions is of {np.dtype(wide)}"):
            again(state)
        assert again(other).data[0].dtype == (np.float32 if before else np.float64)
    with jax.enable_x64(before):
        np.testing.assert_array_equal(simulate(state).data[0], ours)


@pytest.mark.slow
def test_what_was_pickled_runs_in_its_own_precision(sim, before):
    with jax.enable_x64(before):
        simulate, state = tj.prepare(sim)
        ours = np.asarray(simulate(state).data[0])
    with jax.enable_x64(not before):
        # Pickled in whichever mode.
        loaded, held = pickle.loads(pickle.dumps((simulate, state)))
        np.testing.assert_array_equal(loaded(held).data[0], ours)
        np.testing.assert_array_equal(loaded.with_monitor(0)(held).data[0], ours)


def test_a_linear_response(sim, before):
    with jax.enable_x64(before):
        linear, state = tj.prepare_linear(sim)
    with jax.enable_x64(not before), pytest.raises(RuntimeError, match=_said(before)):
        linear(state)


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["off", "on"])
def test_a_fit_and_what_is_asked_of_it(sim, before, tmp_path):
    path = tmp_path / "fit.npz"
    with jax.enable_x64(before):
        result = tj.fit(sim, _target(), {"coupling.a": tj.Parameter()}, **grouped(checkpoint=path, **FIT))
        simulate, state = tj.prepare(sim)
        state.coupling.a = tj.Parameter(state.coupling.a)
        loop = tj.OptaxOptimizer(
            lambda state: tj.rmse(tj.compute_fc(simulate(state).data[0]), _target()), optax.adam(0.01), progress=False
        )
    with jax.enable_x64(not before):
        for asked in (
            result.fc,
            lambda: result.evaluate(n_seeds=1, progress=False),
            lambda: result.score(key=jax.random.key(0)),
            lambda: loop.run(state, 1),
        ):
            with pytest.raises(RuntimeError, match=_said(before)):
                asked()
        with pytest.raises(ValueError, match="of another fit .differences: precision .64-bit mode"):
            tj.fit(sim, _target(), {"coupling.a": tj.Parameter()}, **grouped(checkpoint=path, resume=True, **FIT))
    with jax.enable_x64(before):
        assert np.all(np.isfinite(result.evaluate(n_seeds=1, progress=False).r))
