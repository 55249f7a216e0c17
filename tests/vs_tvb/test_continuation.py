"""A run continues the last one, with all delays: in JAX after TVB, in JAX after JAX, in TVB after JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations, patterns, projections, region_mapping
from tvb.datatypes.sensors import SensorsEEG
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj


@pytest.fixture
def delayed(weights_6, connectivity_of):
    """Simulator with delays of up to 20 steps, coloured noise, a stimulus, and monitors with every kind of buffer."""
    white_matter = connectivity_of(weights_6, np.random.RandomState(1).uniform(0.0, 8.0, weights_6.shape), 4.0)
    white_matter.cortical, white_matter.orientations = np.ones(6, dtype=bool), np.zeros((6, 3))
    eeg = monitors.EEG(
        period=0.7,
        sensors=SensorsEEG(labels=np.array(["a", "b", "c"]), locations=np.eye(3)),
        projection=projections.ProjectionSurfaceEEG(projection_data=np.random.RandomState(3).normal(size=(3, 12))),
        region_mapping=region_mapping.RegionMapping(array_data=np.repeat(np.arange(6), 2)),
        reference="average",
        obsnoise=noise.Additive(ntau=2.0),
    )
    return Simulator(
        connectivity=white_matter,
        model=models.Generic2dOscillator(variables_of_interest=["V + W", "V"]),
        coupling=coupling.Difference(a=np.array([0.01])),
        integrator=integrators.HeunStochastic(dt=0.1, noise=noise.Additive(nsig=np.array([1e-3]), ntau=1.5)),
        stimulus=patterns.StimuliRegion(
            connectivity=white_matter, weight=np.linspace(0.0, 0.1, 6), temporal=equations.Sinusoid()
        ),
        monitors=[monitors.Raw(), eeg, monitors.TemporalAverage(period=0.9), monitors.AfferentCoupling()],
        simulation_length=5.3,
    )


def assert_equal(ours, theirs):
    for (our_time, our_data), (time, data) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our_time, time)
        np.testing.assert_allclose(our_data, data, rtol=0.0, atol=1e-13 * np.max(np.abs(data)))


def test_two_runs_in_jax_are_two_runs_in_tvb(delayed, float64_tvb):
    reference = float64_tvb(delayed)
    simulate, state = tj.prepare(delayed)
    first = simulate(state)
    assert_equal(first, reference.run())
    second = reference.run()
    assert_equal(simulate(first.final_state), second)
    # Negative control: the second run depends on the delayed samples of the first.
    forgot = first.final_state
    past = forgot.initial_conditions
    forgot.initial_conditions = past.at[:-1].set(past[-1])
    (_, data), *_ = simulate(forgot)
    assert np.max(np.abs(data - second[0][1])) > 1e-6


def test_a_simulator_that_ran_in_tvb_goes_on_in_jax_and_back_in_tvb(delayed, float64_tvb):
    reference = float64_tvb(delayed).sim
    reference.run()
    simulate, state = tj.prepare(reference)
    second = reference.run()
    result = simulate(state)
    assert_equal(result, second)
    third = reference.run()
    other = float64_tvb(delayed).sim
    tj.write_back(result.final_state, other, position=True)
    assert_equal([(t, d) for t, d in other.run()], third)


def test_the_backend_returns_what_the_simulator_would_and_leaves_it_alone(delayed, float64_tvb, snapshot):
    reference = float64_tvb(delayed).sim
    before = snapshot(reference)
    ours = tj.JaxBackend().run_sim(reference, nstep=53)
    assert snapshot(reference) == before
    assert all(isinstance(data, np.ndarray) for _, data in ours)
    assert_equal(ours, reference.run())
    assert len(tj.JaxBackend().run_sim(delayed, simulation_length=2.0)[0][0]) == 20
    with pytest.raises(ValueError, match="nstep = 0; give a whole number of at least 1"):
        tj.JaxBackend().run_sim(delayed, nstep=0)


@pytest.mark.parametrize("length", [1, 5, 21, 42, 50])
def test_initial_conditions_of_any_length_start_as_in_tvb(delayed, float64_tvb, length):
    """If they are longer than the history and no multiple of it, TVB does not start from the last sample."""
    delayed.initial_conditions = np.random.RandomState(5).uniform(-0.5, 0.5, size=(length, 2, 6, 1))
    delayed.monitors = [monitors.Raw()]
    reference = float64_tvb(delayed)
    horizon = reference.sim.connectivity.horizon
    if length > horizon and length % horizon:
        with pytest.warns(tj.HistoryWarning, match=f"{length} samples for a history of {horizon}"):
            simulate, state = tj.prepare(delayed)
    else:
        simulate, state = tj.prepare(delayed)
    assert_equal(simulate(state), reference.run())


@pytest.mark.slow
def test_regional_values_are_written_back_in_the_shape_that_tvb_derives_from(weights_6, connectivity_of):
    """ReducedSetHindmarshRose takes a regional r as (n,), a regional a as (n, 1)."""
    sim = Simulator(
        connectivity=connectivity_of(weights_6),
        model=models.ReducedSetHindmarshRose(),
        coupling=coupling.Linear(a=np.array([1e-4])),
        integrator=integrators.HeunDeterministic(dt=0.01),
        monitors=[monitors.Raw()],
        simulation_length=0.2,
    )
    for standing in ("unconfigured", "configured"):
        simulate, state = tj.prepare(sim)
        scale = 1.0 if standing == "unconfigured" else 1.1
        state.model.r = np.linspace(0.005, 0.007, 6) * scale
        state.model.a = np.linspace(0.9, 1.1, 6) * scale
        state = jax.tree.map(jnp.asarray, state)
        ((_, expected),) = simulate(state)
        tj.write_back(state, sim)
        ((_, again),) = tj.JaxBackend().run_sim(sim)
        np.testing.assert_allclose(again, expected, rtol=1e-12)
        if standing == "unconfigured":
            sim.configure()
    # TVB's own run, with the attributes that it derived from the written values.
    ((_, data),) = sim.run()
    np.testing.assert_allclose(data, expected, rtol=1e-6)
