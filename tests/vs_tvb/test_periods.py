"""Monitors have TVB's sampling times and samples for any period, start, length and size of blocks."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tvb.datatypes import equations, projections, sensors
from tvb.datatypes.region_mapping import RegionMapping
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics import blocks

pytestmark = pytest.mark.filterwarnings("ignore::tvb_jaxfit.PeriodWarning")
N_NODE = 6


def eeg(period):
    return monitors.EEG(
        period=period,
        sensors=sensors.SensorsEEG(labels=np.array(["a", "b"]), locations=np.eye(3)[:2]),
        projection=projections.ProjectionSurfaceEEG(projection_data=np.random.RandomState(3).normal(size=(2, N_NODE))),
        region_mapping=RegionMapping(array_data=np.arange(N_NODE)),
        obsnoise=None,
    )


def all_that_average(period, hrf_length):
    kernels = equations.FirstOrderVolterra(), equations.MixtureOfGammas()
    return [
        *(monitors.Bold(period=period, hrf_length=hrf_length, hrf_kernel=kernel) for kernel in kernels),
        monitors.TemporalAverage(period=period),
        monitors.SubSample(period=period),
        monitors.GlobalAverage(period=period),
        monitors.SpatialAverage(period=period, spatial_mask=np.arange(N_NODE) % 2),
        monitors.AfferentCouplingTemporalAverage(period=period),
        eeg(period),
    ]


def run_of_tvb(sim, n_steps):
    """Samples of each monitor over a number of steps, from the simulator's position."""
    samples = [[] for _ in sim.monitors]
    for output in sim(n_steps=n_steps):
        for kept, sample in zip(samples, output or [None] * len(samples), strict=True):
            kept += [] if sample is None else [sample]
    return [(np.array([t for t, _ in kept]), np.array([x for _, x in kept])) for kept in samples]


@pytest.fixture
def check(build_small, float64_tvb, equal_runs, monkeypatch):
    """Function: two runs, one after the other, after TVB has run ``before`` steps, in blocks of about ``block``."""

    def check(dt, istep, hrf_length, before, lengths, block):
        monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", block * N_NODE)
        sim = build_small(dt=dt, monitors=all_that_average(istep * dt, hrf_length))
        sim.connectivity.cortical, sim.connectivity.orientations = np.ones(N_NODE, bool), np.zeros((N_NODE, 3))
        reference = float64_tvb(sim).sim
        run_of_tvb(reference, before)
        state = None
        for n_steps in lengths:
            simulate, start = tj.prepare(reference, n_steps * dt)
            state = start if state is None else state.replace(integrator=start.integrator)
            ours, theirs = simulate(state), run_of_tvb(reference, n_steps)
            assert simulate.n_steps == n_steps
            equal_runs(ours, theirs, kinds=sim.monitors)
            state = ours.final_state

    return check


cases = given(
    dt=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    istep=st.integers(1, 30),
    hrf_length=st.integers(1, 60).map(lambda n: 4.0 * n),
    before=st.integers(0, 50),
    lengths=st.lists(st.integers(31, 90), min_size=2, max_size=2),
    block=st.sampled_from([10, 24, 1000]),
)
one_fixture = HealthCheck.function_scoped_fixture


@pytest.mark.slow
@settings(max_examples=2, suppress_health_check=[one_fixture])
@cases
@example(dt=1.0, istep=15, hrf_length=200.0, before=0, lengths=[120, 60], block=24)  # aligned, period no multiple
@example(dt=1.0, istep=6, hrf_length=200.0, before=8, lengths=[48, 61], block=24)
@example(dt=1.0, istep=12, hrf_length=100.0, before=24, lengths=[96, 48], block=24)  # kernel applied block by block
def test_monitors_that_average_equal_tvb(check, **case):
    check(**case)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[one_fixture])
@cases
def test_monitors_that_average_equal_tvb_in_any_case(check, **case):
    check(**case)


@pytest.mark.parametrize(
    "period, dt, n_samples",
    [
        (735.0, 1.0, 4),
        pytest.param(645.0, 1.0, 8, marks=pytest.mark.slow),
        pytest.param(2250.0, 2.0, 4, marks=pytest.mark.slow),
        (15.0, 1.0, 40),
    ],
)
def test_bold_at_the_repetition_times_of_scanners_equals_tvb(build_small, float64_tvb, period, dt, n_samples):
    sim = build_small(dt=dt, monitors=[monitors.Bold(period=period)], simulation_length=period * n_samples)
    simulate, state = tj.prepare(sim)
    ((time, ours),) = simulate(state)
    ((their_time, theirs),) = float64_tvb(sim).run()
    np.testing.assert_array_equal(time, their_time)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    # Negative control: the period rounded down to a multiple of the interim average.
    (bold,) = simulate.monitors
    rounded = replace(bold, istep=bold.istep - bold.istep % bold.interim_istep)
    (wrong,) = replace(simulate, monitors=(rounded,))(state).data
    assert rounded.istep != bold.istep and np.max(np.abs(wrong[1:n_samples] - theirs[1:])) > 1e-6


@pytest.mark.parametrize("istep, n_steps", [(15, 61), (6, 48), (3, 50)])
def test_tvb_goes_on_from_where_a_run_ended_within_a_period(build_small, float64_tvb, equal_runs, istep, n_steps):
    sim = build_small(dt=1.0, monitors=all_that_average(1.0 * istep, 100.0))
    sim.connectivity.cortical, sim.connectivity.orientations = np.ones(N_NODE, bool), np.zeros((N_NODE, 3))
    reference, moved = float64_tvb(sim).sim, float64_tvb(sim).sim
    simulate, state = tj.prepare(sim, 1.0 * n_steps)
    run_of_tvb(reference, n_steps)
    tj.write_back(simulate(state).final_state, moved, position=True)
    equal_runs(run_of_tvb(moved, 77), run_of_tvb(reference, 77), kinds=sim.monitors)


@pytest.mark.parametrize("n_steps", [120, 121], ids=["interim averages", "every step"])
def test_gradients_through_bold_of_any_period_are_central_differences(build_small, monkeypatch, n_steps):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 24 * N_NODE)
    sim = build_small(dt=1.0, nsig=1e-3, monitors=[monitors.Bold(period=15.0, hrf_length=100.0)])
    simulate, state = tj.prepare(sim, 1.0 * n_steps)
    (own,) = state.monitors

    def total(w, tau_s):
        bold = own.replace(hrf_kernel=own.hrf_kernel.replace(tau_s=tau_s))
        (data,) = simulate(state.replace(model=state.model.replace(w=w), monitors=[bold])).data
        return jnp.sum(data**2)

    w, tau_s, small = state.model.w, own.hrf_kernel.tau_s, 1e-5
    slopes = jax.grad(total, (0, 1))(w, tau_s)
    by_w = (total(w + small, tau_s) - total(w - small, tau_s)) / (2.0 * small)
    by_tau_s = (total(w, tau_s + small) - total(w, tau_s - small)) / (2.0 * small)
    np.testing.assert_allclose([slope.item() for slope in slopes], [by_w, by_tau_s], rtol=1e-6)
    assert all(abs(slope.item()) > 1e-3 for slope in slopes)
