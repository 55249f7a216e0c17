"""Whole runs with all schemes, monitors and hemodynamic responses give TVB's numbers, and continue as TVB does."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations
from tvb.simulator import monitors

import tvb_jaxfit as tj

SCHEMES = ["HeunDeterministic", "HeunStochastic", "EulerDeterministic", "EulerStochastic"]
KERNELS = [
    equations.FirstOrderVolterra,
    equations.Gamma,
    equations.DoubleExponential,
    equations.MixtureOfGammas,
]


def all_monitors():
    return [
        monitors.Raw(),
        monitors.SubSample(period=20.0),
        monitors.TemporalAverage(period=40.0),
        *(monitors.Bold(period=500.0, hrf_kernel=kernel()) for kernel in KERNELS),
    ]


def without_coupling(state):
    return state.replace(coupling=state.coupling.replace(a=jnp.zeros_like(state.coupling.a)))


def scaled(run, scale):
    return [(time, np.asarray(data) / by) for (time, data), by in zip(run, scale, strict=True)]


def assert_moves(data):
    """Check that the run has moved far from its first sample."""
    data = np.asarray(data)
    assert np.max(np.abs(data[-1] - data[0])) > 0.01


@pytest.mark.parametrize(
    "scheme, steps",
    [
        ("HeunDeterministic", 525),
        ("EulerStochastic", 525),
        # The other two have shorter runs in test_start.py, and one of 30,000 steps below.
        *(pytest.param(scheme, 525, marks=pytest.mark.slow) for scheme in ("HeunStochastic", "EulerDeterministic")),
        *(pytest.param(scheme, 30_000, marks=pytest.mark.slow) for scheme in SCHEMES),
    ],
)
def test_two_runs_of_every_scheme_and_monitor_equal_tvb(
    build, float64_tvb, float32_tvb, equal_runs, difference, scheme, steps
):
    """To rounding with a double-precision history, and to single precision with TVB's own history."""
    sim = build(scheme=scheme, steps=steps, monitors=all_monitors())
    reference, as_it_is = float64_tvb(sim), float32_tvb(sim)
    simulate, state = tj.prepare(sim)
    first, theirs = simulate(state), reference.run()
    tolerance = 1e-13 if steps < 1000 else 1e-11
    equal_runs(first, theirs, tolerance, kinds=sim.monitors)
    assert_moves(theirs[0][1])

    scale = [1.0 if index < 3 else float(np.max(np.abs(data))) for index, (_, data) in enumerate(theirs)]
    of_stock = scaled(as_it_is.run(), scale)
    equal_runs(scaled(first, scale), of_stock, tolerance=1e-6)
    # The history is in single precision: the difference is larger than the rounding of doubles.
    assert difference(scaled(first, scale), of_stock)[0] > 1e-10

    uncoupled = simulate(without_coupling(state))
    assert min(difference(scaled(uncoupled, scale), scaled(theirs, scale))) > 1e-3

    second, theirs_again = simulate(first.final_state), reference.run()
    equal_runs(second, theirs_again, tolerance, kinds=sim.monitors)
    assert theirs_again[0][0][0] == (steps + 1) * 4.0
    equal_runs(scaled(second, scale), scaled(as_it_is.run(), scale), tolerance=1e-6)
    # Stocks and stream have advanced: BOLD of the second run is not that of the first.
    assert min(difference(scaled(first, scale)[3:], scaled(theirs_again, scale)[3:])) > 1e-3


@pytest.mark.slow
def test_thirty_thousand_steps_of_stochastic_heun_with_bold_equal_tvb(build, float64_tvb, equal_runs, difference):
    sim = build(steps=30_000, monitors=[monitors.SubSample(period=40.0), monitors.Bold(period=720.0)])
    reference = float64_tvb(sim)
    simulate, state = tj.prepare(sim)
    ours, theirs = simulate(state), reference.run()
    assert len(theirs[0][0]) == 3000 and len(theirs[1][0]) == 166
    equal_runs(ours, theirs, 1e-11, kinds=sim.monitors)
    assert min(difference(simulate(without_coupling(state)), theirs)) > 1e-2


@pytest.mark.parametrize("delayed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["no delays", "delays"])
def test_a_sparse_network_equals_tvb_and_one_that_gained_connections_is_looked_at_whole(
    build, connectivity_of, float64_tvb, equal_runs, difference, delayed
):
    """Pairs without a weight are skipped as long as the state gives them none."""
    random = np.random.RandomState(2)
    weights = random.uniform(0.5, 1.5, (80, 80)) * (random.uniform(size=(80, 80)) < 0.2)
    parts = {"tract_lengths": random.uniform(1.0, 90.0, weights.shape), "speed": 3.0} if delayed else {}
    sim = build(weights, connectivity=connectivity_of(weights, **parts), steps=200)
    simulate, state = tj.prepare(sim)
    assert (simulate.step.sparsity_mask is not None) == (simulate.step.delays is not None) == delayed
    # Without delays, skipping pairs is faster from a few hundred regions on.
    simulate = looking_at(simulate, weights != 0.0)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs)
    assert min(difference(simulate(without_coupling(state)), theirs)) > 1e-3

    gained = weights + np.eye(80)[::-1]
    more = state.replace(connectivity=state.connectivity.replace(weights=jnp.asarray(gained)))
    equal_runs(simulate(more), looking_at(simulate, None)(more), tolerance=1e-14)
    assert min(difference(simulate(more), theirs)) > 1e-3


def looking_at(simulate, connected):
    """The same simulator, with a sparsity mask or with all pairs."""
    return replace(simulate, step=replace(simulate.step, sparsity_mask=connected))
