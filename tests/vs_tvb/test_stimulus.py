"""A stimulus is TVB's at every step of a run: pulses at any period, recorded values, a user's own equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import interp1d
from tvb.basic.neotraits.api import Attr
from tvb.datatypes import equations
from tvb.datatypes.patterns import StimuliRegion
from tvb.simulator import integrators, models, monitors
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.state import with_path

WEIGHT = np.array([1.0, -2.0])


def stimulated(connectivity_of, temporal, *, dt=0.5, length=40.0, **parts):
    """Simulator of two regions with a stimulus."""
    weights = np.array([[0.0, 1.0], [0.5, 0.0]])
    white_matter = connectivity_of(weights)
    stimulus = StimuliRegion(temporal=temporal, connectivity=white_matter, weight=WEIGHT.copy())
    return Simulator(
        connectivity=white_matter,
        model=models.Linear(gamma=np.array([-0.5])),
        integrator=integrators.HeunDeterministic(dt=dt),
        monitors=[monitors.Raw()],
        stimulus=stimulus,
        initial_conditions=np.zeros((1, 1, 2, 1)),
        simulation_length=length,
        **parts,
    )


def of_tvb(temporal, dt, n_steps):
    """TVB's own pattern, (n_steps, n_node)."""
    time = np.r_[0.0 : n_steps * dt : dt][:n_steps].reshape(1, -1)
    return np.reshape(temporal.evaluate(time), -1)[:n_steps, None] * WEIGHT


def enters(simulate, state):
    """Stimulus of the compiled simulation at each step, (n_steps, n_node)."""
    return np.asarray(jax.jit(simulate.inputs)(strip_parameters(state))[0]["stimulus"])[:, 0, :, 0]


def pulses(T, onset=5.0, tau=None, amp=0.7):
    return equations.PulseTrain(parameters={"onset": onset, "T": T, "tau": tau or round(0.3 * T, 2), "amp": amp})


PULSES = [(0.1, 7.7), (0.05, 1000 / 130), (0.5, 1000 / 60), (0.1, 5.1), (1 / 3, 1.1), (0.05, 0.7), (1.0, 42)]


@pytest.mark.parametrize("dt, T", PULSES)
@pytest.mark.parametrize("x64", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["double", "single"])
def test_pulses_begin_and_end_at_tvbs_steps_over_all_that_is_run(connectivity_of, dt, T, x64):
    """Also for another length than the simulator was configured for, and in single precision."""
    sim = stimulated(connectivity_of, pulses(T), dt=dt, length=10 * dt)
    with jax.enable_x64(x64):
        simulate, state = tj.prepare(sim, simulation_length=3000.0)
        ours = enters(simulate, state)
    theirs = of_tvb(sim.stimulus.temporal, dt, simulate.n_steps)
    np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))
    assert 0.2 < np.mean(theirs[:, 0] > 0.0) < 0.4


def test_numpys_own_remainder_gives_other_pulses():
    """Negative control of the tests above and below."""
    wrong = 0
    for dt, T in PULSES:
        after = np.arange(30_000) * dt - 5.0
        by_numpy = (after > 0.0) & (np.mod(after, T) < round(0.3 * T, 2))
        wrong += np.sum(by_numpy != (of_tvb(pulses(T), dt, 30_000)[:, 0] > 0.0))
    assert wrong > 100


@pytest.mark.parametrize(
    "dt, T", [*PULSES[:3], *(pytest.param(*pulse, marks=pytest.mark.slow) for pulse in PULSES[3:])]
)
def test_pulses_of_other_parameters_begin_and_end_at_tvbs_steps(connectivity_of, dt, T):
    sim = stimulated(connectivity_of, pulses(33.3, onset=1.0), dt=dt)
    simulate, state = tj.prepare(sim, simulation_length=1000.0)
    temporal = state.stimulus.temporal.replace(
        T=jnp.asarray([float(T)]), onset=jnp.asarray([5.0]), tau=jnp.asarray([round(0.3 * T, 2)])
    )
    ours = enters(simulate, state.replace(stimulus=state.stimulus.replace(temporal=temporal)))
    np.testing.assert_array_equal(ours, of_tvb(pulses(T), dt, simulate.n_steps))


def test_a_stimulus_begins_anew_at_each_run_as_in_tvb(connectivity_of, float64_tvb, equal_runs):
    sim = stimulated(connectivity_of, pulses(7.7), dt=0.1)
    reference = float64_tvb(sim).sim
    simulate, state = tj.prepare(sim, simulation_length=101.3)
    for _ in range(2):
        ours = simulate(state)
        equal_runs(ours, reference.run(simulation_length=101.3))
        state = ours.final_state


def test_a_backend_runs_more_steps_than_a_simulator_was_configured_for(connectivity_of, float64_tvb, equal_runs):
    sim = stimulated(connectivity_of, pulses(7.7), dt=0.1, length=5.0)
    equal_runs(tj.JaxBackend().run_sim(sim, nstep=913), float64_tvb(sim).sim.run(simulation_length=91.3))


@pytest.mark.parametrize(
    "temporal, names",
    [
        (equations.Gaussian(parameters={"amp": 1.5, "sigma": 4.0, "midpoint": 9.0, "offset": 0}), ["sigma", "offset"]),
        # Its exponentials overflow before the onset.
        (equations.Alpha(parameters={"onset": 30.2, "alpha": 0.9, "beta": 42.0}), ["onset", "alpha", "beta"]),
    ],
    ids=["Gaussian", "Alpha"],
)
def test_derivatives_are_those_of_the_equation(connectivity_of, temporal, names):
    simulate, state = tj.prepare(stimulated(connectivity_of, temporal))

    def total(values):
        (data,) = simulate(changed(state, values)).data
        return jnp.sum(data**2)

    values, small = {name: getattr(state.stimulus.temporal, name) for name in names}, 1e-5
    slopes = jax.jit(jax.grad(total))(values)
    forward = jax.jit(jax.jacfwd(lambda values: jnp.sum(simulate.inputs(changed(state, values))[0]["stimulus"])))(
        values
    )
    for name, value in values.items():
        low, high = (total(values | {name: value + step}) for step in (-small, small))
        np.testing.assert_allclose(slopes[name].item(), (high - low) / (2.0 * small), rtol=1e-6)
        assert abs(slopes[name].item()) > 1e-4 and np.isfinite(forward[name]).all()


def changed(state, values):
    return state.replace(stimulus=state.stimulus.replace(temporal=state.stimulus.temporal.replace(**values)))


class OfTime(equations.TemporalApplicableEquation):
    equation = Attr(field_type=str, default="of time")
    parameters = Attr(field_type=dict, default=lambda: {"amp": 0.5, "onset": 6.0})
    values = np.random.RandomState(0).rand(200)


class ByIndex(OfTime):
    def evaluate(self, var):
        index = np.clip((np.asarray(var, float) / 2.0).astype(int), 0, len(self.values) - 1)
        return self.parameters["amp"] * self.values[index]


class Interpolated(OfTime):
    def evaluate(self, var):
        return self.parameters["amp"] * np.interp(var, np.arange(200) * 0.7, self.values)


class ByScipy(OfTime):
    def evaluate(self, var):
        return self.parameters["amp"] * interp1d(np.arange(200) * 0.7, self.values, kind="cubic")(var)


class AllRecorded(OfTime):
    def evaluate(self, var):
        return self.parameters["amp"] * self.values[: var.size]


class BranchingOnTime(OfTime):
    def evaluate(self, var):
        out = np.zeros_like(var)
        for index, t in enumerate(var[0]):
            if 5.0 < t < 15.0:
                out[0, index] = self.parameters["amp"]
        return out


class ByMask(OfTime):
    def evaluate(self, var):
        out = np.zeros_like(var)
        late = var > self.parameters["onset"]
        out[late] = self.parameters["amp"] * np.exp(-(var[late] - self.parameters["onset"]) / 5.0)
        return out


class ShiftedIndex(OfTime):
    def evaluate(self, var):
        index = np.clip(((var - self.parameters["onset"]) / 2.0).astype(int), 0, 199)
        return self.parameters["amp"] * self.values[index]


@pytest.mark.parametrize(
    "equation",
    [
        *(ByIndex, ByScipy, BranchingOnTime, ByMask),
        *(pytest.param(equation, marks=pytest.mark.slow) for equation in (Interpolated, AllRecorded, ShiftedIndex)),
    ],
)
def test_equations_that_look_values_up_by_time_are_translated(
    connectivity_of, float64_tvb, equal_runs, recwarn, equation
):
    sim = stimulated(connectivity_of, equation())
    simulate, state = tj.prepare(sim)
    assert not [warning for warning in recwarn if issubclass(warning.category, tj.FrozenWarning)]
    equal_runs(simulate(state), float64_tvb(sim).run())
    # The amplitude is still a parameter: half of it gives half the stimulus.
    temporal = state.stimulus.temporal.replace(amp=jnp.asarray([0.25]))
    halved = enters(simulate, state.replace(stimulus=state.stimulus.replace(temporal=temporal)))
    whole = enters(simulate, state)
    assert np.max(np.abs(whole)) > 0.1
    np.testing.assert_allclose(halved, 0.5 * whole, rtol=1e-14)


class ByCount(OfTime):
    def evaluate(self, var):
        return sum(np.exp(-((var - 5.0 * k) ** 2)) for k in range(int(self.parameters["onset"])))


def foreign(x):
    return np.frompyfunc(lambda value: value**2, 1, 1)(x).astype(float)


class Foreign(OfTime):
    def evaluate(self, var):
        return foreign(self.parameters["amp"] * var)


@pytest.mark.parametrize("equation", [ByCount, Foreign])
def test_equations_that_cannot_be_followed_are_constants_and_a_warning_says_so(
    connectivity_of, float64_tvb, equal_runs, equation
):
    sim = stimulated(connectivity_of, equation())
    with pytest.warns(tj.FrozenWarning, match=f"Simulator.stimulus.temporal: {equation.__name__} is evaluated by TVB"):
        simulate, state = tj.prepare(sim)
    assert not list(state.stimulus.temporal.items()) and "weight" in state.stimulus
    equal_runs(simulate(state), float64_tvb(sim).run())
    assert tj.certify(sim)
    assert not tj.write_back(state, sim).changes


def sinusoid(**more):
    return equations.Sinusoid(parameters={"amp": 1.0, "frequency": 0.1} | more)


@pytest.mark.parametrize("name", ["items", "my par", "_x", "static", "replace"])
def test_numbers_under_names_that_a_state_cannot_have_are_constants(connectivity_of, float64_tvb, equal_runs, name):
    sim = stimulated(connectivity_of, sinusoid(**{name: 2.0}))
    with pytest.warns(tj.FrozenWarning, match=f"{name}"):
        simulate, state = tj.prepare(sim)
    assert [name for name, _ in state.stimulus.temporal.items()] == ["amp", "frequency"]
    equal_runs(simulate(state), float64_tvb(sim).run())


def test_an_array_of_one_value_is_a_parameter_and_stays_an_array_in_tvb(connectivity_of, float64_tvb, equal_runs):
    sim = stimulated(connectivity_of, sinusoid(amp=np.array([0.5])))
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), float64_tvb(sim).run())
    temporal = state.stimulus.temporal.replace(amp=jnp.asarray([0.75]))
    other = state.replace(stimulus=state.stimulus.replace(temporal=temporal))
    assert list(tj.write_back(other, sim).changes) == ["stimulus.temporal.amp"]
    np.testing.assert_array_equal(sim.stimulus.temporal.parameters["amp"], np.array([0.75]), strict=True)
    equal_runs(simulate(other), float64_tvb(sim).run())


@pytest.mark.parametrize(
    "expression",
    [
        "where(var > onset, 1, 0)",
        pytest.param("var > onset", marks=pytest.mark.slow),
        pytest.param("(var // T) % 2", marks=pytest.mark.slow),
        "where(fmod(var, T) < onset, 0.5, -1)",
        pytest.param("sin(2 * 3.14159 * var / T) ** 2 + 7 // 2", marks=pytest.mark.slow),
        "arctan2(var - onset, T)",
    ],
)
def test_expressions_of_a_users_own_are_translated(connectivity_of, float64_tvb, equal_runs, expression):
    temporal = equations.TemporalApplicableEquation(equation=expression, parameters={"onset": 5.0, "T": 7})
    sim = stimulated(connectivity_of, temporal)
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), float64_tvb(sim).run())

    def total(T):
        return jnp.sum(simulate(changed(state, {"T": T})).data[0])

    # Not 7: steps of the equation would fall onto samples.
    at, h = jnp.asarray([7.0317]), 1e-4
    numeric = (total(at + h) - total(at - h)) / (2.0 * h)
    np.testing.assert_allclose(jax.grad(total)(at), [numeric], rtol=1e-6, atol=1e-8)


class Drawing(OfTime):
    def evaluate(self, var):
        return np.random.normal(size=var.shape)


class TooFew(OfTime):
    def evaluate(self, var):
        return self.parameters["amp"] * self.values[:20]


@pytest.mark.parametrize(
    "temporal, reason",
    [
        (
            lambda: equations.Sinusoid(parameters={"amp": 1.0}),
            r"Simulator.stimulus.temporal: .* no parameter 'frequency'",
        ),
        (lambda: sinusoid(amp=np.ones(2)), r"Simulator.stimulus.temporal: Sinusoid cannot be evaluated by TVB itself"),
        (Drawing, r"Simulator.stimulus.temporal: Drawing has other values at each call"),
        (TooFew, r"Simulator.stimulus.temporal: TooFew gives 20 values for 80 times"),
    ],
)
def test_equations_with_which_tvb_fails_are_refused(connectivity_of, temporal, reason):
    with pytest.raises(tj.UnsupportedComponent, match=reason):
        tj.prepare(stimulated(connectivity_of, temporal()))


def test_recorded_values_that_end_before_the_run_does_are_refused(connectivity_of):
    sim = stimulated(connectivity_of, AllRecorded())
    with pytest.raises(tj.UnsupportedComponent, match="AllRecorded gives 200 values for 240 times"):
        tj.prepare(sim, simulation_length=120.0)


@pytest.mark.parametrize("name, remedy", [("temporal", "Equation"), ("weight", "an array of real numbers")])
def test_a_stimulus_without_a_part_is_refused(connectivity_of, name, remedy):
    sim = stimulated(connectivity_of, sinusoid())
    parts = {"temporal": sinusoid(), "weight": WEIGHT, "connectivity": sim.connectivity}
    sim.stimulus = StimuliRegion(**{other: part for other, part in parts.items() if other != name})
    with pytest.raises(tj.UnsupportedComponent, match=f"Simulator.stimulus.{name}: none; give .*{remedy}"):
        tj.prepare(sim)


class Summed(StimuliRegion):
    """Several stimuli in a list, as in users' scripts; the attributes that TVB's class requires are not used."""

    def __init__(self, *stimuli):
        unused = stimuli[0]
        super().__init__(temporal=unused.temporal, connectivity=unused.connectivity, weight=unused.weight)
        self.stimuli = stimuli

    def configure_space(self, *args, **named):
        for one in self.stimuli:
            one.configure_space(*args, **named)

    def configure_time(self, *args, **named):
        for one in self.stimuli:
            one.configure_time(*args, **named)

    def __call__(self, *args, **named):
        return np.array([one(*args, **named) for one in self.stimuli]).sum(axis=0)


class Added(Summed):
    """Two stimuli, each an attribute."""

    def __init__(self, first, second):
        super().__init__(first)
        self.stimuli, self.first, self.second = (), first, second

    def configure_space(self, *args, **named):
        self.first.configure_space(*args, **named)
        self.second.configure_space(*args, **named)

    def configure_time(self, time):
        self.first.configure_time(time)
        self.second.configure_time(time)

    def __call__(self, temporal_indices=None, spatial_indices=None):
        return self.first(temporal_indices) + self.second(temporal_indices)


class Multiplied(Summed):
    def __call__(self, *args, **named):
        return np.array([one(*args, **named) for one in self.stimuli]).prod(axis=0)


def two_stimuli(connectivity_of, kind):
    sim = stimulated(connectivity_of, sinusoid())
    first, second = (
        sim.stimulus,
        StimuliRegion(temporal=pulses(7.7, onset=9.0), connectivity=sim.connectivity, weight=np.array([0.5, 0.0])),
    )
    sim.stimulus = kind(first, second)
    return sim


@pytest.mark.parametrize("kind, path", [(Summed, "stimulus.stimuli[1]"), (Added, "stimulus.second")])
def test_stimuli_that_are_added_up_are_in_the_state_one_by_one(
    connectivity_of, float64_tvb, equal_runs, recwarn, kind, path
):
    sim = two_stimuli(connectivity_of, kind)
    simulate, state = tj.prepare(sim)
    assert not [warning for warning in recwarn if issubclass(warning.category, tj.FrozenWarning)]
    equal_runs(simulate(state), float64_tvb(sim).run())
    other = with_path(state, f"{path}.temporal.T", jnp.asarray([5.1]))
    other = with_path(other, f"{path}.weight", jnp.asarray([0.25, 2.0]))
    assert list(tj.write_back(other, sim).changes) == [f"{path}.weight", f"{path}.temporal.T"]
    equal_runs(simulate(other), float64_tvb(sim).run())
    assert np.max(np.abs(simulate(other).data[0] - simulate(state).data[0])) > 0.1
    assert tj.certify(sim)


def test_stimuli_put_together_otherwise_are_constants_and_a_warning_says_so(connectivity_of, float64_tvb, equal_runs):
    sim = two_stimuli(connectivity_of, Multiplied)
    with pytest.warns(tj.FrozenWarning, match="Simulator.stimulus: Multiplied is no sum of the stimuli that its"):
        simulate, state = tj.prepare(sim, simulation_length=77.0)
    assert not list(state.stimulus.items())
    equal_runs(simulate(state), float64_tvb(sim).sim.run(simulation_length=77.0))
    assert tj.certify(sim)


def test_a_sum_whose_part_is_no_stimulus_of_these_regions_is_refused(connectivity_of):
    sim = two_stimuli(connectivity_of, Summed)
    sim.stimulus.stimuli[1].weight = np.ones(3)
    with pytest.raises(tj.UnsupportedComponent, match=r"Simulator.stimulus.stimuli\[1\].weight: shape \(3,\); give"):
        tj.prepare(sim)
