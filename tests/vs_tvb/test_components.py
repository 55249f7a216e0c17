"""Couplings, parameters, noise and weights in all the shapes that TVB takes give TVB's numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path

RANDOM = np.random.RandomState(3)
REGIONAL_W = RANDOM.uniform(0.3, 0.9, 76)
REGIONAL_A = RANDOM.uniform(0.02, 0.1, 76)
REGIONAL_NSIG = RANDOM.uniform(1e-6, 1e-4, 76)


def assert_equal_and_sensitive(sim, path, wrong, float64_tvb, equal_runs, difference):
    """Check that the runs equal TVB's, and differ with another value at a path of the state."""
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs)
    value = get_path(state, path)
    assert difference(simulate(with_path(state, path, wrong(value))), theirs)[0] > 1e-5
    return state


@pytest.mark.parametrize(
    "function, wrong",
    [
        (coupling.Linear(a=np.array([0.05]), b=np.array([0.1])), "b"),
        (coupling.Linear(a=np.array([-0.05]), b=np.array([0.3])), "a"),
        (coupling.Scaling(a=np.array([0.06])), "a"),
        (coupling.Scaling(a=REGIONAL_A.reshape(-1, 1)), "a"),
        (coupling.Linear(a=REGIONAL_A.reshape(-1, 1), b=REGIONAL_W.reshape(-1, 1) / 10), "b"),
        (coupling.Linear(a=REGIONAL_A.reshape(1, -1, 1)), "a"),
    ],
    ids=["Linear b", "Linear negative", "Scaling", "Scaling regional", "Linear regional", "Linear 3D"],
)
def test_coupling_equals_tvb(build, float64_tvb, equal_runs, difference, function, wrong):
    sim = build(coupling=function)
    state = assert_equal_and_sensitive(sim, f"coupling.{wrong}", lambda v: 0.9 * v, float64_tvb, equal_runs, difference)
    size = getattr(function, wrong).size
    assert getattr(state.coupling, wrong).shape == (() if size == 1 else (size,))


@pytest.mark.parametrize("shape, configured", [((76,), False), ((76, 1), True), ((1, 76), False)])
def test_regional_parameter_equals_tvb_in_every_shape(build, float64_tvb, equal_runs, difference, shape, configured):
    sim = build(model={"w": REGIONAL_W.reshape(shape)})
    if configured:
        sim.configure()
    state = assert_equal_and_sensitive(sim, "model.w", lambda v: v[::-1], float64_tvb, equal_runs, difference)
    np.testing.assert_array_equal(state.model.w, REGIONAL_W)


def test_every_parameter_of_the_model_equals_tvb_away_from_its_default(build, float64_tvb, equal_runs, difference):
    values = {"a": 0.25, "b": 0.1, "d": 140.0, "gamma": 0.5, "tau_s": 90.0, "w": 0.7, "J_N": 0.24, "I_o": 0.31}
    sim = build(model={name: np.array([value]) for name, value in values.items()})
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs)
    for name in values:
        wrong = with_path(state, f"model.{name}", 1.02 * get_path(state, f"model.{name}"))
        assert difference(simulate(wrong), theirs)[0] > 1e-5, name


@pytest.mark.parametrize(
    "scheme, shape",
    [
        ("HeunStochastic", (76,)),
        ("EulerStochastic", (76,)),
        ("HeunStochastic", (1, 76)),
        ("EulerStochastic", (1, 76, 1)),
        ("HeunStochastic", (1, 1, 1)),
    ],
)
def test_noise_amplitude_equals_tvb_in_every_shape(build, float64_tvb, equal_runs, difference, scheme, shape):
    nsig = REGIONAL_NSIG[: np.prod(shape)].reshape(shape)
    sim = build(scheme=scheme, nsig=nsig, steps=150)
    state = assert_equal_and_sensitive(
        sim, "integrator.noise.nsig", lambda v: 1.1 * v, float64_tvb, equal_runs, difference
    )
    np.testing.assert_array_equal(state.integrator.noise.nsig, nsig.ravel())


def test_no_noise_amplitude_at_all_equals_tvb(build, float64_tvb, equal_runs, difference):
    sim = build(nsig=0.0, steps=150)
    assert_equal_and_sensitive(sim, "integrator.noise.nsig", lambda v: v + 1e-6, float64_tvb, equal_runs, difference)


@pytest.mark.parametrize(
    "kind", ["empty rows", "negative", "self-connections", "no connections", "sparse", "asymmetric"]
)
def test_weights_of_every_kind_equal_tvb(build, float64_tvb, equal_runs, difference, weights_76, kind):
    weights = np.array(weights_76)
    if kind == "empty rows":
        weights[[0, 10, 75]] = 0.0
    elif kind == "negative":
        weights[:, ::3] *= -1.0
    elif kind == "self-connections":
        np.fill_diagonal(weights, 0.8)
    elif kind == "no connections":
        weights[:] = 0.0
    elif kind == "sparse":
        weights[weights < 0.6] = 0.0
    elif kind == "asymmetric":
        weights = np.triu(weights)
    sim = build(weights)
    assert_equal_and_sensitive(sim, "connectivity.weights", lambda v: v.T + 0.1, float64_tvb, equal_runs, difference)


def test_zero_tract_lengths_equal_tvb_at_a_finite_speed(
    build, float64_tvb, equal_runs, difference, connectivity_of, weights_76
):
    sim = build(connectivity=connectivity_of(weights_76, np.zeros((76, 76)), speed=3.0))
    assert_equal_and_sensitive(sim, "connectivity.weights", lambda v: v.T, float64_tvb, equal_runs, difference)


def test_delays_that_round_to_no_step_equal_tvb(
    build, float64_tvb, equal_runs, difference, connectivity_of, weights_76
):
    """10 mm at 6 mm/ms are 1.7 ms, which rounds to no step of 4 ms."""
    sim = build(connectivity=connectivity_of(weights_76, speed=6.0))
    assert_equal_and_sensitive(sim, "connectivity.weights", lambda v: v.T, float64_tvb, equal_runs, difference)


def test_strong_noise_that_reaches_both_bounds_equals_tvb(build, float64_tvb, equal_runs):
    sim = build(nsig=0.05)
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    data = theirs[0][1]
    assert np.sum(data == 0.0) > 100 and np.sum(data == 1.0) > 100
    equal_runs(simulate(state), theirs)


def test_values_of_the_state_act_as_the_simulators_own(build, float64_tvb, equal_runs):
    """Values in the state give TVB's run with the same values in the simulator."""
    simulate, state = tj.prepare(build())
    state.model.w = jnp.asarray(REGIONAL_W)
    state.coupling.a = jnp.asarray([0.05])
    state.integrator.noise.nsig = jnp.asarray(REGIONAL_NSIG)
    sim = build(model={"w": REGIONAL_W}, coupling=coupling.Linear(a=np.array([0.05])), nsig=REGIONAL_NSIG)
    equal_runs(simulate(state), float64_tvb(sim).run())
