"""What ran is gone once nothing refers to it, and runs that begin alike are compiled once."""

import gc
import weakref

import jax
import numpy as np
import optax
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit


def ran(sim):
    simulate, state = tj.prepare(sim)
    np.asarray(simulate(state).data[0])
    return simulate


def descended(sim):
    simulate, state = tj.prepare(sim)
    jax.jit(jax.grad(lambda s: simulate(s).data[0].mean(), allow_int=True))(state)
    jax.grad(lambda w: simulate(state.replace(model=state.model.replace(w=w))).data[0].mean())(state.model.w)
    return simulate


def responded(sim):
    linear, state = tj.prepare_linear(sim)
    np.asarray(linear(state).fc())
    return linear


def swept(sim):
    simulate, state = tj.prepare(sim)
    state.coupling.a = tj.GridAxis(0.05, 0.08, 3)
    sweep = tj.ParallelExecution(lambda s: simulate(s).data[0].mean(), tj.Space(state), progress=False)
    sweep.run()
    return simulate, sweep


def optimised(sim):
    simulate, state = tj.prepare(sim)
    state.coupling.a = tj.Parameter(state.coupling.a)
    optimizer = tj.OptaxOptimizer(lambda s: simulate(s).data[0].mean(), optax.sgd(1e-3), progress=False)
    optimizer.run(state, 1)
    return simulate, optimizer


def fitted(sim):
    target = np.corrcoef(np.random.RandomState(0).randn(6, 40))
    result = tj.fit(sim, target, {"coupling.a": tj.Parameter()}, max_steps=1, progress=False)
    result.evaluate(n_seeds=1, progress=False)
    return result, result.simulate


def fitted_linearly(sim):
    target = np.corrcoef(np.random.RandomState(0).randn(6, 40))
    options = {"method": "linear", "max_evaluations": 2, "progress": False}
    result = tj.fit(sim, target, {"coupling.a": tj.Parameter()}, **options)
    return result, result.simulate


@pytest.mark.parametrize(
    "use",
    [
        ran,
        descended,
        swept,
        fitted,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (responded, optimised, fitted_linearly)),
    ],
)
def test_what_was_used_is_gone_once_nothing_refers_to_it(build_small, monkeypatch, use):
    # A smaller sweep, and confirmations of seconds instead of 20 minutes.
    monkeypatch.setattr(linear_fit, "_POINTS", 4)
    monkeypatch.setattr(linear_fit, "_STARTS", 1)
    monkeypatch.setattr(confirmation, "STEPS", 500)
    used = use(build_small(steps=60, monitors=[monitors.TemporalAverage(period=8.0)]))
    left = [weakref.ref(one) for one in (used if isinstance(used, tuple) else (used,))]
    assert all(ref() is not None for ref in left)
    del used
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)


def count(simulate):
    return len(simulate._run)


def test_runs_that_go_on_are_compiled_once_where_their_windows_begin_alike(build_small, float64_tvb, equal_runs):
    """Windows of 10, 20 and 4 steps: runs of 20 steps begin all alike, runs of 25 in four ways."""
    of = [monitors.TemporalAverage(period=10.0), monitors.Bold(period=20.0, hrf_length=400.0), monitors.Raw()]
    sim = build_small(dt=1.0, steps=20, monitors=of)
    simulate, state = tj.prepare(sim)
    reference = float64_tvb(sim)
    for _ in range(5):
        result = simulate(state)
        equal_runs(result, reference.run(), kinds=of)
        state = result.final_state
    assert state.current_step == 100 and count(simulate) == 1
    simulate, state = tj.prepare(sim, simulation_length=25.0)
    for index in range(1, 7):
        state = simulate(state).final_state
        assert count(simulate) == min(index, 4)
    assert state.current_step == 6 * 25
