"""TVB's own tests (tvb/tests/library/simulator) in our words, with the numbers that stand there, and against TVB.

What they expect was worked out by others: hard-coded delayed values, fixed points, bounds, clamps, steps and times.
"""

import itertools

import numpy as np
import pytest
from tvb.basic.neotraits.api import Final, List
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.coupling import SparseCoupling
from tvb.simulator.models import ModelsEnum
from tvb.simulator.models.base import Model
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj


class DelayedSum(SparseCoupling):
    """Coupling that is the delayed sum itself."""

    def pre(self, x_i, x_j):
        return x_j

    def post(self, gx):
        return gx


class Adder(Model):
    """Map: the state plus the coupling input."""

    nvar = 1
    _nvar = 1
    state_variable_range = {"x": [0, 100]}
    variables_of_interest = List(of=str, default=("x",), choices=("x",))
    state_variables = ("x",)
    cvar = np.array([0])

    def dfun(self, x, coupling, local_coupling=0):
        return x + coupling + local_coupling


class FiveStill(Model):
    """Five constant variables, of which four are bounded on one side, on both or on none."""

    names = ("x1", "x2", "x3", "x4", "x5")
    variables_of_interest = List(of=str, choices=names, default=names)
    state_variables = list(names)
    state_variable_range = Final(default={name: np.array([-1.0, 2.0]) for name in names})
    state_variable_boundaries = Final(
        default={
            "x1": np.array([0.0, 1.0]),
            "x2": np.array([None, 1.0]),
            "x3": np.array([0.0, None]),
            "x4": np.array([-np.inf, np.inf]),
        }
    )
    _nvar = 5
    cvar = np.array([0], dtype=np.int32)

    def dfun(self, x, coupling, local_coupling=0.0):
        return 0.0 * x


class FiveGrowing(FiveStill):
    """Five variables that grow exponentially."""

    def dfun(self, x, coupling, local_coupling=0.0):
        return x


def alone(n_node, connectivity_of):
    """Connectivity of regions without connections."""
    return connectivity_of(np.zeros((n_node, n_node)))


# history_test.TestsExactPropagation.test_propagation: a chain of four, each with its own delays.
PROPAGATED = [
    [2, 2, 2, 1],
    [3, 3, 3, 1],
    [5, 4, 4, 1],
    [8, 5, 5, 1],
    [12, 6, 6, 1],
    [17, 7, 7, 1],
    [23, 8, 8, 1],
    [30, 10, 9, 1],
    [38, 13, 10, 1],
    [48, 17, 11, 1],
]


def test_a_chain_of_delays_gives_the_numbers_in_tvbs_tests(float64_tvb, equal_runs):
    sim = Simulator(
        coupling=DelayedSum(),
        integrator=integrators.Identity(dt=1.0),
        initial_conditions=np.ones((16, 1, 4, 1)),
        simulation_length=10.0,
        connectivity=Connectivity(
            region_labels=np.array([""]),
            weights=np.eye(4, k=1),
            tract_lengths=np.arange(16.0).reshape(4, 4),
            speed=np.array([1.0]),
            centres=np.array([0.0]),
        ),
        model=Adder(),
        monitors=(monitors.Raw(),),
    )
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    np.testing.assert_array_equal(np.asarray(ours.data[0])[:, 0, :, 0], PROPAGATED)
    equal_runs(ours, float64_tvb(sim).run(), tolerance=0.0)


# models_test: where each goes from the middle of its range, in 2000 steps of 0.01 ms.
FIXED_POINTS = {
    "WilsonCowan": [0.461, 0.243],
    "Generic2dOscillator": [1.048535, -4.507975],
    "JansenRit": [1.105518e-02, 4.790847, 8.826628e-01, 1.308187e-03, 2.367387e-01, 6.615113e-02],
    "ReducedSetFitzHughNagumo": [
        [-1.228146, 0.677939, 1.541479],
        [-0.953419, 0.384293, 0.907564],
        [-1.346946, -0.351683, 1.762915],
        [-1.03536, -0.293471, 0.536003],
    ],
    "ReducedSetHindmarshRose": [
        [-2.154452, -1.387575, -2.018075],
        [-24.581927, -18.522624, -21.449834],
        [5.094243, 5.094284, 5.161934],
        [-2.145466, -1.405172, -2.000391],
        [-24.353387, -19.002245, -21.028078],
        [5.119597, 5.096642, 5.199867],
    ],
    "ReducedWongWang": [0.452846],
    "DecoBalancedExcInh": [0.416673, 0.078865],
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "ReducedSet" in n else ()) for n in FIXED_POINTS]
)
def test_a_model_reaches_the_states_in_tvbs_tests(name, connectivity_of):
    """TVB compares every tenth state, the last one after step 1991, with the tolerance 1e-3 + 1e-6 |x|."""
    expected = np.array(FIXED_POINTS[name]).reshape(len(FIXED_POINTS[name]), -1)
    model = getattr(models, name)()
    model.variables_of_interest = tuple(model.state_variables)
    ranges = np.array([model.state_variable_range[variable] for variable in model.state_variables])
    start = np.broadcast_to(ranges.mean(axis=1)[:, None, None], (model.nvar, 2, model.number_of_modes))
    sim = Simulator(
        connectivity=alone(2, connectivity_of),
        model=model,
        coupling=coupling.Linear(a=np.array([0.0])),
        integrator=integrators.EulerDeterministic(dt=0.01),
        initial_conditions=np.array(start)[None],
        monitors=(monitors.Raw(),),
        simulation_length=19.91,
    )
    simulate, state = tj.prepare(sim)
    ((_, data),) = simulate(state)
    data = np.asarray(data)
    assert data.shape == (1991, model.nvar, 2, model.number_of_modes)
    np.testing.assert_allclose(data[-1], np.repeat(expected[:, None], 2, axis=1), rtol=1e-6, atol=1e-3)
    # The error is smaller with a tenth of the step.
    tenths = data[::10]
    away = np.sqrt(np.sum((tenths[-1] - tenths) ** 2, axis=(1, 2, 3)))
    assert np.all(away[-20:] / (away[-21:-1] + 1e-9) < 1.0)


SCHEMES = [
    "HeunDeterministic",
    "HeunStochastic",
    "EulerDeterministic",
    "EulerStochastic",
    "RungeKutta4thOrderDeterministic",
]
BY_DEFAULT = ("HeunDeterministic", "EulerStochastic")
EACH_SCHEME = [pytest.param(name, marks=[pytest.mark.slow] * (name not in BY_DEFAULT)) for name in SCHEMES]


def of_five(scheme, connectivity_of, model, **clamps):
    """Simulator of five variables at four regions, which start at -1, 2, 1 and 1."""
    start = np.ones((1, 5, 4, 1))
    start[:, :, 0], start[:, :, 1] = -1.0, 2.0
    integrator = getattr(integrators, scheme)(dt=0.1, **clamps)
    if scheme.endswith("Stochastic"):
        integrator.noise = noise.Additive(nsig=np.array([0.0]))
    return Simulator(
        connectivity=alone(4, connectivity_of),
        model=model,
        coupling=coupling.Linear(a=np.array([0.0])),
        integrator=integrator,
        initial_conditions=start,
        monitors=(monitors.Raw(),),
        simulation_length=1.0,
    )


@pytest.mark.parametrize("scheme", EACH_SCHEME)
def test_bounds_hold_on_the_side_where_they_are_given(scheme, float64_tvb, equal_runs, connectivity_of):
    """integrators_test.test_boundaries, on the whole run."""
    sim = of_five(scheme, connectivity_of, FiveStill())
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    x = np.asarray(ours.data[0])[..., 0]
    np.testing.assert_array_equal(x[:, 0], np.broadcast_to([0.0, 1.0, 1.0, 1.0], (10, 4)))
    np.testing.assert_array_equal(x[:, 1], np.broadcast_to([-1.0, 1.0, 1.0, 1.0], (10, 4)))
    np.testing.assert_array_equal(x[:, 2], np.broadcast_to([0.0, 2.0, 1.0, 1.0], (10, 4)))
    for free in (3, 4):
        np.testing.assert_array_equal(x[:, free], np.broadcast_to([-1.0, 2.0, 1.0, 1.0], (10, 4)))
    equal_runs(ours, float64_tvb(sim).run(), tolerance=0.0)


@pytest.mark.parametrize("scheme", EACH_SCHEME)
def test_bounds_and_clamps_of_variables_that_grow_equal_tvb(scheme, float64_tvb, equal_runs, connectivity_of):
    """integrators_test.test_clamp: 42 and 24, for each scheme in place of TVB's VODE; x2 and x3 reach a bound."""
    clamps = {
        "clamped_state_variable_indices": np.r_[0, 3],
        "clamped_state_variable_values": np.array([42.0, 24.0]).reshape(2, 1, 1),
    }
    sim = of_five(scheme, connectivity_of, FiveGrowing(), **clamps)
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    x = np.asarray(ours.data[0])[..., 0]
    np.testing.assert_array_equal(x[:, 0], 42.0)
    np.testing.assert_array_equal(x[:, 3], 24.0)
    assert x[:, 1].max() == 1.0 and x[:, 1].min() < -2.0
    assert x[:, 2].min() == 0.0 and x[:, 2].max() > 4.0
    assert np.all(np.diff(np.abs(x[:, 4]), axis=0) > 0.0)
    equal_runs(ours, float64_tvb(sim).run(), tolerance=1e-14)


def of_step_test(weights, connectivity_of, length):
    """Simulator of simulator_step_test with given weights."""
    return Simulator(
        connectivity=connectivity_of(weights),
        model=models.ReducedWongWang(),
        coupling=coupling.Linear(),
        integrator=integrators.HeunDeterministic(dt=0.1),
        monitors=(monitors.Raw(),),
        simulation_length=length,
    )


@pytest.mark.parametrize(
    "length",
    [
        # np.arange as TVB has it: lengths a rounding error above or below a multiple of 0.1 among them.
        pytest.param(float(length), marks=() if index % 40 == 2 else pytest.mark.slow)
        for index, length in enumerate(np.arange(0.1, 10.0, 0.1))
    ],
)
def test_any_simulation_length_takes_tvbs_steps_and_times(length, weights_6, float64_tvb, equal_runs, connectivity_of):
    """simulator_step_test.test_simulation_length."""
    sim = of_step_test(weights_6, connectivity_of, length)
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    equal_runs(ours, float64_tvb(sim).run())
    last = ours.time[0][-1]
    assert last > length or np.isclose(last, length)


@pytest.mark.parametrize("n_steps", [1, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 9))])
def test_a_number_of_steps_ends_where_tvb_ends(n_steps, weights_6, copy_of, connectivity_of):
    """simulator_step_test.test_n_steps: tvb_jaxfit is given a length, TVB a number of steps."""
    sim = of_step_test(weights_6, connectivity_of, 1.0)
    theirs = np.array([time for ((time, _),) in copy_of(sim)(n_steps=n_steps)])
    simulate, state = tj.prepare(sim, simulation_length=(n_steps - 0.5) * 0.1)
    times = simulate(state).time[0]
    np.testing.assert_array_equal(times, theirs)
    np.testing.assert_allclose(times, 0.1 * np.arange(1, n_steps + 1))


def factory(model, scheme, weights):
    """simulator_test.Simulator.configure, on the 76 regions of tvb-data with their delays at 4 mm/ms."""
    white_matter = Connectivity.from_file()
    white_matter.weights = np.array(weights)
    white_matter.speed = np.array([4.0])
    integrator = getattr(integrators, scheme)(dt=2.0**-3)
    if scheme.endswith("Stochastic"):
        integrator.noise = noise.Additive(nsig=np.array([2.0**-11]))
    period = 2.0**-2
    eeg, referenced, meg = monitors.EEG.from_file(), monitors.EEG.from_file(), monitors.MEG.from_file()
    referenced.reference = "Fp2"
    for monitor in (eeg, referenced, meg):
        monitor.period = period
    return Simulator(
        model=MODELS[model](),
        integrator=integrator,
        connectivity=white_matter,
        coupling=coupling.Linear(a=np.array([0.00042])),
        monitors=(
            monitors.Raw(),
            monitors.RawVoi(),
            monitors.GlobalAverage(period=period),
            monitors.SubSample(period=period),
            monitors.TemporalAverage(period=period),
            monitors.AfferentCoupling(),
            monitors.AfferentCouplingTemporalAverage(period=period),
            eeg,
            referenced,
            meg,
        ),
        simulation_length=4.0,
    )


MODELS = {cls.__name__: cls for cls in ModelsEnum.get_base_model_subclasses()}
IN_DEFAULT = [
    ("Generic2dOscillator", "HeunDeterministic"),
]


@pytest.mark.parametrize(
    "model, scheme",
    [
        pytest.param(*both, marks=() if both in IN_DEFAULT else pytest.mark.slow)
        for both in itertools.product(MODELS, SCHEMES)
    ],
)
def test_tvbs_factory_of_models_schemes_and_monitors_gives_tvbs_numbers(model, scheme, weights_76, float64_tvb):
    """simulator_test.test_simulator_region, which asks for any numbers: with steps of 0.125 ms some models run away.

    These are compared as long as they stay below 1e6. The tolerance is 1e-12 of the largest value of a monitor's
    variable; or, where that is more, ten times what rounding of the first state alone makes of TVB's own run.
    """
    sim = factory(model, scheme, weights_76)
    with np.errstate(all="ignore"):
        theirs = float64_tvb(sim).run()
        nudged = float64_tvb(sim)
        nudged.sim.history.buffer *= 1.0 + 2.0 * np.finfo(float).eps
        nudged.sim.current_state = nudged.sim.current_state * (1.0 + 2.0 * np.finfo(float).eps)
        of_rounding = nudged.run()
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    assert len(ours) == len(theirs) == 10
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        our_data = np.asarray(our_data)
        np.testing.assert_array_equal(our_time, time)
        assert our_data.shape == data.shape and data.size
        tame = np.all(np.abs(np.nan_to_num(data, nan=np.inf)) < 1e6, axis=(1, 2, 3))
        until = len(tame) if tame.all() else int(np.argmin(tame))
        for variable in range(data.shape[1]):
            a, b = our_data[:until, variable], data[:until, variable]
            if b.size:
                difference, largest = np.max(np.abs(a - b)), np.max(np.abs(b))
                own = np.max(np.abs(of_rounding[index][1][:until, variable] - b))
                assert difference <= max(1e-12 * largest, 10.0 * own), (index, variable, difference / largest, own)
