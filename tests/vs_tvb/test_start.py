"""Start of a run: initial conditions, random streams, and simulators that were configured or run before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj


def every_stock():
    return [
        monitors.Raw(),
        monitors.TemporalAverage(period=7.0),
        monitors.Bold(period=300.0, hrf_length=2000.0),
        monitors.SubSample(period=5.0),
    ]


@pytest.mark.parametrize(
    "scheme, length",
    [
        ("HeunStochastic", 5),
        ("EulerDeterministic", 1),
        pytest.param("HeunStochastic", 1, marks=pytest.mark.slow),
        pytest.param("EulerDeterministic", 2, marks=pytest.mark.slow),
    ],
)
def test_initial_conditions_that_are_given_equal_tvb(build, float64_tvb, equal_runs, difference, length, scheme):
    given = np.random.RandomState(1).uniform(size=(length, 1, 76, 1))
    sim = build(scheme=scheme, initial_conditions=given, monitors=every_stock(), dt=1.0, steps=310)
    simulate, state = tj.prepare(sim)
    np.testing.assert_array_equal(state.initial_conditions, given[-1:])
    theirs = float64_tvb(sim).run()
    assert theirs[0][0][0] == float(length)
    equal_runs(simulate(state), theirs, kinds=sim.monitors)
    other = state.replace(initial_conditions=state.initial_conditions[:, :, ::-1])
    assert difference(simulate(other), theirs)[0] > 1e-3


def test_initial_conditions_beyond_the_bounds_are_moved_onto_them_as_in_tvb(build, float64_tvb, equal_runs):
    given = np.random.RandomState(1).uniform(-1.0, 2.0, size=(1, 1, 76, 1))
    sim = build(initial_conditions=given)
    simulate, state = tj.prepare(sim)
    np.testing.assert_array_equal(state.initial_conditions, np.clip(given, 0.0, 1.0))
    equal_runs(simulate(state), float64_tvb(sim).run())


@pytest.mark.parametrize("seed", [0, 1])
def test_initial_conditions_are_those_that_a_deterministic_integrator_draws_from_numpys_global_stream(
    build, float64_tvb, equal_runs, seed
):
    np.random.seed(seed)
    sim = build(scheme="HeunDeterministic")
    before = np.random.get_state()
    simulate, state = tj.prepare(sim)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    expected = np.random.RandomState(seed).uniform(size=(1, 1, 76, 1))
    np.testing.assert_allclose(state.initial_conditions, expected, rtol=0, atol=1e-15)
    equal_runs(simulate(state), float64_tvb(sim).run())


@pytest.mark.parametrize(
    "scheme, dt",
    [
        ("HeunStochastic", 1.0),
        pytest.param("HeunDeterministic", 0.3, marks=pytest.mark.slow),
        pytest.param("HeunStochastic", 0.3, marks=pytest.mark.slow),
        pytest.param("HeunDeterministic", 1.0, marks=pytest.mark.slow),
        pytest.param("HeunStochastic", 4.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::tvb_jaxfit.PeriodWarning")
def test_a_simulator_that_has_run_before_goes_on_as_tvb_does_with_all_windows_open(
    build, float64_tvb, equal_runs, difference, dt, scheme
):
    """Odd lengths: average, BOLD stock and interim stock are all partly filled."""
    sim = build(scheme=scheme, dt=dt, steps=1, monitors=every_stock())
    reference = float64_tvb(sim)
    for length in (301.0 * dt, 46.0 * dt):
        reference.sim.simulation_length = length
        reference.run()
    steps = 347
    assert reference.sim.current_step == steps
    simulate, state = tj.prepare(reference.sim, simulation_length=1013 * dt)
    if dt < 4.0:
        assert state.monitors[2].interim_stock.shape[0] > 0
        assert state.monitors[1].stock.shape[0] > 0
    assert state.current_step == steps
    reference.sim.simulation_length = 1013 * dt
    theirs = reference.run()
    equal_runs(simulate(state), theirs, kinds=sim.monitors)
    # Negative control: the stocks of the first runs have an effect.
    empty = state.replace(monitors=jax.tree.map(lambda a: jnp.zeros_like(a) if a.ndim == 4 else a, state.monitors))
    changed = difference(simulate(empty), theirs)
    assert changed[2] > 1e-6
    assert changed[1] > 1e-3 or dt >= 4.0


def test_three_runs_from_final_state_to_final_state_equal_three_of_tvb(build_small, float64_tvb, equal_runs):
    sim = build_small(dt=1.0, steps=333, monitors=every_stock())
    reference = float64_tvb(sim)
    simulate, state = tj.prepare(sim)
    for _ in range(3):
        result = simulate(state)
        equal_runs(result, reference.run(), kinds=sim.monitors)
        state = result.final_state
    np.testing.assert_allclose(state.initial_conditions[0], reference.sim.current_state, rtol=0, atol=1e-13)
    assert state.current_step == reference.sim.current_step == 999


def test_a_configured_simulator_is_translated_as_it_stands_without_new_draws(build, float64_tvb, equal_runs):
    sim = build()
    sim.configure()
    sim.configure()
    simulate, state = tj.prepare(sim)
    np.testing.assert_array_equal(state.initial_conditions[0], sim.current_state)
    _, fresh = tj.prepare(build())
    assert np.max(np.abs(state.initial_conditions - fresh.initial_conditions)) > 0.1
    equal_runs(simulate(state), float64_tvb(sim).run())


def test_another_seed_and_an_advanced_stream_are_replayed(build, float64_tvb, equal_runs, difference):
    sim = build(seed=7)
    sim.integrator.noise.random_stream.normal(size=11)
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs)
    assert difference(theirs, float64_tvb(build(seed=7)).run())[0] > 1e-3


@pytest.mark.parametrize("length, steps", [(41.0, 11), (39.9999, 10), (4.0, 1)])
def test_a_length_takes_as_many_steps_as_tvb_takes(build, float64_tvb, equal_runs, length, steps):
    sim = build(simulation_length=length)
    simulate, state = tj.prepare(sim)
    assert simulate.n_steps == steps
    equal_runs(simulate(state), float64_tvb(sim).run())


@pytest.mark.parametrize(
    "standing, scheme",
    [
        ("unconfigured", "HeunStochastic"),
        ("unconfigured", "HeunDeterministic"),
        ("configured", "HeunStochastic"),
        ("run", "HeunDeterministic"),
        pytest.param("run", "HeunStochastic", marks=pytest.mark.slow),
    ],
)
def test_prepare_and_simulate_leave_the_simulator_and_all_random_streams_as_they_are(
    build_small, snapshot, standing, scheme
):
    sim = build_small(scheme=scheme, monitors=every_stock(), steps=333, dt=1.0, model={"w": np.full((6, 1), 0.5)})
    if standing != "unconfigured":
        sim.configure()
    if standing == "run":
        sim.run()
    before = snapshot(sim)
    simulate, state = tj.prepare(sim)
    result = simulate(state)
    assert result.final_state.current_step == state.current_step + 333
    assert snapshot(sim) == before
    # Negative control: a run of TVB itself changes the snapshot.
    sim.configure() if standing == "unconfigured" else sim.run()
    assert snapshot(sim) != before


def test_the_state_shares_no_memory_with_the_simulator(build):
    sim = build()
    sim.configure()
    simulate, state = tj.prepare(sim)
    before = np.array(simulate(state).data[0])
    sim.connectivity.weights[:] = 0.0
    sim.current_state[:] = 0.5
    sim.model.w[:] = 0.0
    sim.run()
    np.testing.assert_array_equal(simulate(state).data[0], before)
