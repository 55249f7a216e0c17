"""Release of memory once nothing refers to a simulation, and one compilation for runs that start alike."""

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


def simulated(sim):
    simulate, state = tj.prepare(sim)
    np.asarray(simulate(state).data[0])
    return simulate


def differentiated(sim):
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
    result = tj.fit(
        sim, target, {"coupling.a": tj.Parameter()}, method="simulate", max_steps=1, run=tj.RunOptions(progress=False)
    )
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
        simulated,
        differentiated,
        *(pytest.param(use, marks=pytest.mark.slow) for use in (swept, fitted, responded, optimised, fitted_linearly)),
    ],
)
def test_memory_is_released_once_nothing_refers_to_it(build_small, monkeypatch, use):
    # A smaller sweep, and confirmations of seconds instead of 20 minutes of simulated time.
    monkeypatch.setattr(linear_fit, "_POINTS", 4)
    monkeypatch.setattr(linear_fit, "_STARTS", 1)
    monkeypatch.setattr(confirmation, "LONGEST", 2_000.0)
    used = use(build_small(steps=60, monitors=[monitors.TemporalAverage(period=8.0)]))
    references = [weakref.ref(each) for each in (used if isinstance(used, tuple) else (used,))]
    assert all(ref() is not None for ref in references)
    del used
    gc.collect()
    assert [ref() for ref in references] == [None] * len(references)


def n_compiled(simulate):
    return len(simulate._run)


@pytest.mark.slow
def test_continued_runs_are_compiled_once_for_each_phase_of_their_windows(build_small, float64_tvb, equal_runs):
    """Windows of 10, 20 and 4 steps: runs of 20 steps all start at the same phase, runs of 25 at four phases."""
    kinds = [monitors.TemporalAverage(period=10.0), monitors.Bold(period=20.0, hrf_length=400.0), monitors.Raw()]
    sim = build_small(dt=1.0, steps=20, monitors=kinds)
    simulate, state = tj.prepare(sim)
    reference = float64_tvb(sim)
    for _ in range(5):
        result = simulate(state)
        equal_runs(result, reference.run(), kinds=kinds)
        state = result.final_state
    assert state.current_step == 100 and n_compiled(simulate) == 1
    simulate, state = tj.prepare(sim, simulation_length=25.0)
    for index in range(1, 7):
        state = simulate(state).final_state
        assert n_compiled(simulate) == min(index, 4)
    assert state.current_step == 6 * 25
