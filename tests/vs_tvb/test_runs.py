"""Whole runs: all schemes, all monitors and all hemodynamic responses give TVB's numbers, and go on as TVB does."""

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
        *(monitors.Bold(period=1000.0, hrf_kernel=kernel()) for kernel in KERNELS),
    ]


def without_coupling(state):
    return state.replace(coupling=state.coupling.replace(a=jnp.zeros_like(state.coupling.a)))


def assert_moves(data):
    """The last tenth of the run still moves, or has moved far from the first sample."""
    data = np.asarray(data)
    assert np.max(np.abs(data[-1] - data[0])) > 0.01


lengths = pytest.mark.parametrize("steps", [1250, pytest.param(30_000, marks=pytest.mark.slow)])


@lengths
@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_runs_of_every_scheme_and_monitor_equal_tvb_to_rounding(
    build, lifted, equal_runs, difference, scheme, steps
):
    sim = build(scheme=scheme, steps=steps, monitors=all_monitors())
    reference = lifted(sim)
    simulate, state = tj.prepare(reference.sim)
    first = simulate(state)
    theirs = reference.run()
    equal_runs(first, theirs, kinds=sim.monitors)
    assert_moves(theirs[0][1])
    assert min(difference(simulate(without_coupling(state)), theirs)) > 1e-3

    second, theirs_again = simulate(first.final_state), reference.run()
    equal_runs(second, theirs_again, kinds=sim.monitors)
    assert theirs_again[0][0][0] == (steps + 1) * 4.0
    # Stocks and stream went on: a second run from the first state differs.
    assert min(difference(first, theirs_again)) > 1e-5


@lengths
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_and_monitor_equals_stock_tvb_to_the_single_precision_of_its_history(
    build, stock, equal_runs, difference, scheme, steps
):
    sim = build(scheme=scheme, steps=steps, monitors=all_monitors())
    reference = stock(sim)
    simulate, state = tj.prepare(reference)
    theirs = reference.run()
    ours = simulate(state)
    scaled = [1.0 if index < 3 else float(np.max(np.abs(data))) for index, (_, data) in enumerate(theirs)]

    def scale(run):
        return [(time, np.asarray(data) / by) for (time, data), by in zip(run, scaled, strict=True)]

    equal_runs(scale(ours), scale(theirs), tolerance=1e-6)
    assert min(difference(scale(simulate(without_coupling(state))), scale(theirs))) > 1e-4
    # It is the history that is single: the difference is not rounding of doubles.
    assert difference(ours, theirs)[0] > 1e-12


def test_thirty_thousand_steps_of_stochastic_heun_with_bold_equal_tvb(build, lifted, equal_runs, difference):
    sim = build(steps=30_000, monitors=[monitors.SubSample(period=40.0), monitors.Bold(period=720.0)])
    reference = lifted(sim)
    simulate, state = tj.prepare(sim)
    ours, theirs = simulate(state), reference.run()
    assert len(theirs[0][0]) == 3000 and len(theirs[1][0]) == 166
    equal_runs(ours, theirs, kinds=sim.monitors)
    assert min(difference(simulate(without_coupling(state)), theirs)) > 1e-2
