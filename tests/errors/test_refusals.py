"""A simulator that would lose something is refused: attribute and remedy are named, the simulator is unchanged."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from tvb.datatypes import equations, patterns
from tvb.datatypes.connectivity import Connectivity
from tvb.datatypes.cortex import Cortex
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj


@pytest.fixture
def refused(snapshot):
    """Function: check that prepare refuses with these words and number of reasons, and changes nothing."""

    def check(sim, *words, count=1):
        before = snapshot(sim)
        with pytest.raises(tj.UnsupportedComponent) as caught:
            tj.prepare(sim)
        for word in words:
            assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
        assert len(caught.value.reasons) == count, str(caught.value)
        assert snapshot(sim) == before
        return caught.value

    return check


def test_the_simulator_that_these_tests_spoil_is_itself_accepted(build_small):
    simulate, state = tj.prepare(build_small())
    assert np.isfinite(simulate(state).data[0]).all()


class OtherRaw(monitors.Raw):
    def sample(self, step, state):
        return super().sample(step, 2.0 * state)


class OtherHeun(integrators.HeunStochastic):
    def scheme(self, X, dfun, coupling, local_coupling, stimulus):
        return X


class OtherGamma(equations.Gamma):
    def evaluate(self, var):
        return var ** int(self.parameters["n"])


class OtherAdditive(noise.Additive):
    def white(self, shape):
        return np.zeros(shape)


class OtherSimulator(Simulator):
    def run(self, **named):
        return super().run(**named)[:1]


class OtherConnectivity(Connectivity):
    def configure(self):
        super().configure()
        self.speed = np.array([1.0])


class Branching(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        if self.gamma[0] < 0.0:
            return self.gamma * state + coupling
        return state


class Drawing(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        return np.random.normal(size=state.shape)


class InPlace(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        coupling[0] = 0.5 * coupling[0]
        return self.gamma * state + coupling


class Remembering(models.Linear):
    """A model whose result depends on earlier calls."""

    calls = 0

    def dfun(self, state, coupling, local_coupling=0.0):
        Remembering.calls += 1
        return self.gamma * state * Remembering.calls


class Foreign(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        return scipy.linalg.expm(np.eye(2)).sum() * state


@pytest.mark.parametrize(
    "model, words",
    [
        (Branching, ["a branch on a value that is differentiated", "numpy.where", "if self.gamma[0] < 0.0:"]),
        (Drawing, ["numpy.random is not translated to JAX", "return np.random.normal(size=state.shape)"]),
        (InPlace, ["dfun writes in place into the coupling that it is given", "give it a copy"]),
        (Foreign, ["scipy is not translated to JAX", "scipy.linalg.expm"]),
    ],
)
def test_models_that_cannot_be_followed_are_refused_and_the_line_is_named(build_small, refused, model, words):
    sim = build_small()
    sim.model = model()
    refused(sim, "Simulator.model: ", model.__name__, *words)


def test_a_model_that_depends_on_how_often_it_was_asked_is_refused(build_small, refused):
    sim = build_small()
    sim.model = Remembering()
    refused(sim, "with the same arguments gives another value", "Make that a state variable")


def test_regional_values_of_which_tvb_uses_the_first_are_refused(build_small, refused):
    sim = build_small()
    sim.model = models.EpileptorCodim3(mu1_start=np.linspace(-0.02, -0.03, 6))
    refused(sim, "Simulator.model.mu1_start: 6 values, of which TVB's EpileptorCodim3 uses the first")


class OwnCall(coupling.Linear):
    def __call__(self, step, history):
        return history.query_sparse(step)[0]


def test_couplings_that_cannot_be_followed_are_refused_and_the_line_is_named(build_small, refused):
    words = "OwnCall is not translated", "return history.query_sparse(step)[0]"
    refused(build_small(coupling=OwnCall()), "Simulator.coupling", *words)


@pytest.mark.parametrize("function", [coupling.SigmoidalJansenRit, coupling.PreSigmoidal])
def test_couplings_that_fail_in_tvb_are_refused_in_its_words(build_small, refused, function):
    sim = build_small(coupling=function())
    refused(sim, f"TVB's own {function.__name__} fails with ReducedWongWang, which has 1 coupling variables")


@pytest.mark.parametrize("integrator", [integrators.Dopri5, integrators.VODEStochastic, OtherHeun])
def test_other_integrators_are_refused(build_small, refused, integrator):
    sim = build_small()
    sim.integrator = integrator(dt=4.0)
    refused(sim, f"Simulator.integrator: {integrator.__name__} is not supported", "HeunStochastic")


def test_noise_that_draws_in_its_own_way_is_refused(build_small, refused):
    sim = build_small()
    sim.integrator.noise = OtherAdditive()
    refused(
        sim,
        "integrator.noise: OtherAdditive is not supported: it replaces white of TVB's Additive",
        "Use Additive or Multiplicative",
    )


def test_one_dispersion_a_region_is_refused_where_tvbs_heun_fails_with_it(build_small, refused):
    sim = build_small(nsig=np.full(6, 1e-3))
    sim.model = models.Generic2dOscillator()
    refused(sim, "Simulator.integrator.noise.nsig: one value for each region", "Give shape (2, 6)")


def test_other_monitors_are_refused(build_small, refused):
    sim = build_small()
    sim.monitors = [monitors.Raw(), OtherRaw()]
    refused(sim, "Simulator.monitors[1]: OtherRaw is not supported", "Remove it before prepare()")


def test_monitors_that_fail_in_tvb_are_refused(build_small, refused):
    sim = build_small(monitors=[monitors.BoldRegionROI(), monitors.AfferentCouplingTemporalAverage()])
    refused(sim, "monitors[0]: BoldRegionROI averages over a surface", "monitors[1].period: 0.0 ms", count=2)


def test_hemodynamic_responses_that_cannot_be_followed_are_refused(build_small, refused):
    sim = build_small(monitors=[monitors.Bold(hrf_kernel=OtherGamma())])
    refused(sim, "Simulator.monitors[0].hrf_kernel: OtherGamma is not translated", "used as a Python number")


def test_surfaces_are_refused(build_small, refused):
    refused(build_small(surface=Cortex()), "Simulator.surface: surfaces are not supported", "Set sim.surface = None")


class OtherStimulus(patterns.StimuliRegion):
    def configure_space(self, region_mapping=None):
        super().configure_space(region_mapping)
        self._spatial_pattern = -self._spatial_pattern


def test_other_stimuli_and_weights_of_a_wrong_shape_are_refused(build_small, refused):
    sim = build_small()
    facts = {"temporal": equations.PulseTrain(), "connectivity": sim.connectivity}
    sim.stimulus = OtherStimulus(weight=np.ones(6), **facts)
    refused(sim, "Simulator.stimulus: OtherStimulus is not supported", "set sim.stimulus = None")
    sim.stimulus = patterns.StimuliRegion(weight=np.ones(5), **facts)
    refused(sim, "Simulator.stimulus.weight: shape (5,)", "(6,)")


def test_clamps_without_values_or_without_indices_are_refused(build_small, refused):
    sim = build_small()
    sim.integrator.clamped_state_variable_values = np.zeros((1, 6, 1))
    refused(sim, "clamping takes both clamped_state_variable_indices and clamped_state_variable_values")


def test_subclasses_of_simulator_and_connectivity_that_act_otherwise_are_refused(
    build_small, refused, connectivity_of, weights_6
):
    sim = build_small()
    other = OtherSimulator(
        connectivity=sim.connectivity,
        model=sim.model,
        coupling=sim.coupling,
        integrator=sim.integrator,
        monitors=sim.monitors,
    )
    refused(other, "Simulator: OtherSimulator is not supported: it replaces run of TVB's Simulator")
    plain = connectivity_of(weights_6)
    sim.connectivity = OtherConnectivity(
        weights=plain.weights,
        tract_lengths=plain.tract_lengths,
        centres=plain.centres,
        region_labels=plain.region_labels,
        speed=plain.speed,
    )
    refused(sim, "Simulator.connectivity: OtherConnectivity is not supported: it replaces configure of TVB's")


@pytest.mark.parametrize(
    "path, owner, method",
    [
        ("Simulator.model.dfun", lambda sim: sim.model, "dfun"),
        ("Simulator.coupling.post", lambda sim: sim.coupling, "post"),
        ("Simulator.integrator.scheme", lambda sim: sim.integrator, "scheme"),
        ("Simulator.integrator.noise.gfun", lambda sim: sim.integrator.noise, "gfun"),
        ("Simulator.monitors[0].sample", lambda sim: sim.monitors[0], "sample"),
        ("Simulator._loop_update_history", lambda sim: sim, "_loop_update_history"),
    ],
)
def test_methods_replaced_on_an_instance_are_refused(build_small, refused, path, owner, method):
    sim = build_small()
    vars(owner(sim))[method] = lambda *arguments: None
    refused(sim, f"{path}: replaced on the instance", "Remove it")


def test_the_replaced_evaluate_of_a_hemodynamic_response_is_refused(build_small, refused):
    sim = build_small(monitors=[monitors.Bold(period=400.0, hrf_kernel=equations.Gamma())])
    vars(sim.monitors[0].hrf_kernel)["evaluate"] = lambda time: np.ones_like(time)
    refused(sim, "Simulator.monitors[0].hrf_kernel.evaluate: replaced on the instance", "Remove it")


def test_all_reasons_come_in_one_error(build_small, refused):
    sim = build_small(surface=Cortex(), model={"w": np.array([np.nan])})
    sim.coupling = coupling.Sigmoidal(a=np.ones(6))
    sim.integrator.noise = OtherAdditive()
    sim.monitors = [OtherRaw(), monitors.Raw(), monitors.BoldRegionROI()]
    sim.connectivity.weights[0, 1] = np.nan
    words = ["surface", "model", "coupling", "integrator.noise", "monitors[0]", "monitors[2]", "connectivity.weights"]
    error = refused(sim, "for 7 reasons", *(f"Simulator.{word}" for word in words), count=7)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(build_small, refused, value):
    sim = build_small()
    sim.connectivity.weights[2, 3] = value
    refused(sim, "Simulator.connectivity.weights: 1 are not finite", "Give finite ones")


@pytest.mark.parametrize("name", ["w", "sigma_noise"])
def test_parameters_that_are_not_finite_are_refused(build_small, refused, name):
    sim = build_small(model={name: np.array([0.1, 0.2, np.nan, 0.3, np.inf, 0.4])})
    refused(sim, f"Simulator.model.{name}: 2 values are not finite", "Give finite ones")


def test_coupling_parameters_that_are_not_finite_are_refused(build_small, refused):
    sim = build_small(coupling=coupling.Linear(a=np.array([np.nan])))
    refused(sim, "Simulator.coupling.a: 1 values are not finite", "Give finite ones")


def test_initial_conditions_that_are_not_finite_are_refused(build_small, refused):
    given = np.full((1, 1, 6, 1), 0.5)
    given[0, 0, 3] = np.nan
    refused(build_small(initial_conditions=given), "Simulator.initial_conditions", "not finite")


def test_initial_conditions_of_a_wrong_shape_are_refused(build_small, refused):
    refused(build_small(initial_conditions=np.full((1, 1, 5, 1), 0.5)), "configure() fails", "Incorrect history sample")


def test_a_current_state_that_is_not_finite_is_refused(build_small, refused):
    sim = build_small()
    sim.configure()
    sim.current_state[0, 2] = np.nan
    sim.history.buffer[0, 0, 2] = np.nan
    refused(sim, "Simulator.current_state: holds values that are not finite")


@pytest.mark.parametrize("nsig", [-1e-6, np.nan])
def test_noise_amplitudes_that_are_negative_or_not_finite_are_refused(build_small, refused, nsig):
    refused(build_small(nsig=nsig), "Simulator.integrator.noise.nsig", "negative or not finite", "at least 0")


@pytest.mark.parametrize("shape", [(2,), (6, 1), (5,), (2, 6)])
def test_noise_amplitudes_of_a_wrong_shape_are_refused(build_small, refused, shape):
    refused(
        build_small(nsig=np.full(shape, 1e-6)),
        f"Simulator.integrator.noise.nsig: shape {shape}",
        "TVB takes (1,), (6,)",
    )


def test_a_noise_amplitude_that_was_made_regional_after_configure_is_refused(build_small, refused):
    """TVB would broadcast (6,) against (1, 6, 1) and run a state of 6 x 6."""
    sim = build_small()
    sim.configure()
    sim.integrator.noise.nsig = np.full(6, 1e-6)
    refused(sim, "Simulator.integrator.noise.nsig", "configure()")


@pytest.mark.parametrize("size", [2, 5, 7])
def test_parameters_of_a_wrong_size_are_refused(build_small, refused, size):
    sim = build_small(model={"w": np.full(size, 0.5)})
    refused(sim, f"Simulator.model.w: {size} values for 6 regions", "one for each region")


@pytest.mark.parametrize("shape", [(6,), (1, 6), (3,)])
def test_coupling_parameters_of_a_shape_that_tvb_would_broadcast_wrongly_are_refused(build_small, refused, shape):
    sim = build_small(coupling=coupling.Linear(a=np.full(shape, 0.1)))
    refused(sim, f"Simulator.coupling.a: shape {shape}", "(6, 1)", "Reshape it")


@pytest.mark.parametrize("dt", [8.0, 10.0])
def test_bold_at_steps_that_are_too_long_for_its_interim_average_is_refused(build_small, refused, dt):
    sim = build_small(dt=dt, monitors=[monitors.Bold(period=1000.0)])
    refused(sim, "Simulator.monitors[0]: Bold averages over 4 ms", "dt below 8 ms")


def test_a_simulation_that_is_shorter_than_a_period_is_refused_naming_the_monitor(build_small, snapshot):
    sim = build_small(steps=100, monitors=[monitors.Raw(), monitors.Bold(period=2000.0)])
    before = snapshot(sim)
    with pytest.raises(
        ValueError, match=r"simulation_length: 400 ms is too short for monitors\[1\] \(Bold.*one period"
    ):
        tj.prepare(sim)
    with pytest.raises(ValueError, match="simulation_length: 40 ms is too short"):
        tj.prepare(sim, simulation_length=40.0)
    tj.prepare(sim, simulation_length=2000.0)
    assert snapshot(sim) == before


@pytest.mark.parametrize("length", [0.0, -4.0, np.nan, np.inf])
def test_a_length_that_is_no_length_is_refused(build_small, length):
    with pytest.raises(ValueError, match="simulation_length: .* give a positive length"):
        tj.prepare(build_small(), simulation_length=length)


def lengths_that_tvb_fails_with():
    """hrf_lengths for which numpy.arange gives TVB's kernel one sample too many, by rounding."""
    found = []
    for length in np.arange(4.0, 30000.0, 4.0):
        n_lag = int(np.ceil(length / 4.0))
        if np.arange(0.0, length / 1000.0, length / 1000.0 / n_lag).size != n_lag:
            found.append(length)
    return found


def test_an_hrf_length_for_which_tvb_makes_one_sample_too_many_is_refused(build_small, refused, float32_tvb):
    length = lengths_that_tvb_fails_with()[0]
    sim = build_small(monitors=[monitors.Bold(period=400.0, hrf_length=length)])
    refused(sim, f"Simulator.monitors[0].hrf_length: {length} ms", "a multiple of 4 ms near it")
    with pytest.raises(ValueError, match="could not be broadcast|shapes .* not aligned"):
        float32_tvb(sim).run()


def test_hemodynamic_parameters_that_give_nan_are_refused(build_small, refused):
    kernel = equations.FirstOrderVolterra()
    kernel.parameters["tau_f"] = 10.0
    sim = build_small(monitors=[monitors.Bold(period=400.0, hrf_kernel=kernel)])
    refused(sim, "Simulator.monitors[0].hrf_kernel.parameters: the kernel is not finite", "Give others")


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_hemodynamic_parameters_that_are_missing_or_unknown_are_refused(build_small, refused, change):
    kernel = equations.Gamma()
    if change == "missing":
        del kernel.parameters["tau"]
    else:
        kernel.parameters["delay"] = 1.0
    sim = build_small(monitors=[monitors.Bold(period=400.0, hrf_kernel=kernel)])
    refused(sim, "Simulator.monitors[0].hrf_kernel.parameters: found", "Gamma takes ['a', 'n', 'tau']")


@pytest.mark.parametrize("kind", [monitors.SubSample, monitors.TemporalAverage, monitors.Bold])
def test_variables_of_interest_out_of_range_are_refused(build_small, refused, kind):
    sim = build_small(monitors=[kind(period=400.0, variables_of_interest=np.array([0, 1]))])
    refused(sim, "Simulator.monitors[0].variables_of_interest: [1]", "Give indices from 0 to 0")


def test_the_same_monitor_twice_is_refused(build_small, refused):
    monitor = monitors.TemporalAverage(period=40.0)
    refused(build_small(monitors=[monitor, monitor]), "monitors[1]: the same object as monitors[0]", "two instances")


def test_no_monitors_are_refused(build_small, refused):
    refused(build_small(monitors=[]), "Simulator.monitors: none", "give at least one")


@pytest.mark.parametrize("period", [0.0, 1.9, -4.0])
def test_periods_of_no_step_are_refused(build_small, refused, period):
    sim = build_small(monitors=[monitors.SubSample(period=period)])
    refused(sim, "Simulator.monitors[0].period", "no step of dt = 4.0 ms", "at least one step")


@pytest.mark.parametrize("dt", [0.0, -1.0])
def test_steps_that_are_no_steps_are_refused(build_small, refused, dt):
    sim = build_small()
    sim.integrator.dt = dt
    refused(sim, "Simulator.integrator.dt", "give a positive step")


def own_bold():
    """Bold with a response of its own: TVB's default is one object for all."""
    return monitors.Bold(period=400.0, hrf_kernel=equations.FirstOrderVolterra())


def changed(sim, what):
    if what == "period":
        sim.monitors[0].period = 80.0
    elif what == "weights":
        sim.connectivity.weights = 2.0 * sim.connectivity.weights
    elif what == "weights in place":
        sim.connectivity.weights[0, 1] += 0.5
    elif what == "hrf parameter":
        sim.monitors[1].hrf_kernel.parameters["tau_s"] = 0.9
    elif what == "hrf_length":
        sim.monitors[1].hrf_length = 10_000.0
    elif what == "hrf kernel":
        sim.monitors[1].hrf_kernel = equations.Gamma()
    elif what == "dt":
        sim.integrator.dt = 2.0
    elif what == "speed":
        sim.connectivity.speed = np.array([1.0])


@pytest.mark.parametrize("scheme", ["HeunStochastic", pytest.param("HeunDeterministic", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "what, path",
    [
        ("period", "Simulator.monitors[0].period"),
        ("weights", "Simulator.connectivity.weights"),
        ("weights in place", "Simulator.connectivity.weights"),
        ("hrf parameter", "Simulator.monitors[1].hrf_kernel"),
        ("hrf_length", "Simulator.monitors[1].hrf_"),
        ("hrf kernel", "Simulator.monitors[1].hrf_kernel"),
        ("dt", "Simulator."),
        ("speed", "Simulator.connectivity"),
    ],
)
def test_what_changed_since_configure_is_refused_until_configured_again(
    build_small, snapshot, connectivity_of, what, path, scheme
):
    def make():
        sim = build_small(scheme=scheme, monitors=[monitors.TemporalAverage(period=40.0), own_bold()])
        sim.connectivity.tract_lengths[:] = 10.0
        return sim

    sim = make()
    sim.configure()
    tj.prepare(sim)
    changed(sim, what)
    before = snapshot(sim)
    with pytest.raises(tj.UnsupportedComponent) as caught:
        tj.prepare(sim)
    assert path in str(caught.value) and "Call sim.configure() again" in str(caught.value)
    assert snapshot(sim) == before
    if what == "speed":
        sim.connectivity.speed = np.array([np.inf])
    sim.configure()
    tj.prepare(sim)
    # The same change before configure() is accepted.
    fresh = make()
    changed(fresh, what if what != "speed" else None)
    tj.prepare(fresh)


def test_a_run_that_was_broken_off_is_refused_or_goes_on_as_tvb_does(build_small, float64_tvb, equal_runs):
    sim = build_small(monitors=[monitors.TemporalAverage(period=40.0)])
    reference = float64_tvb(sim)
    run = reference.sim()
    for _ in range(3):
        next(run)
    run.close()
    try:
        simulate, state = tj.prepare(reference.sim)
    except tj.UnsupportedComponent as error:
        assert "broken off" in str(error) and "Call sim.configure() again" in str(error)
    else:
        equal_runs(simulate(state), reference.run())


@pytest.mark.parametrize("which", ["rows", "pattern"])
@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
def test_a_coupling_that_has_run_with_another_connectivity_is_refused(
    build_small, refused, connectivity_of, weights_6, which, standing
):
    """TVB's coupling keeps the row indices of its first connectivity, and fails or errs with another one."""
    function = coupling.Linear(a=np.array([0.05]))
    build_small(coupling=function, steps=3).configure().run()
    tj.prepare(build_small(coupling=function))
    other = np.array(weights_6)
    if which == "rows":
        other[2] = 0.0
    else:
        # The same rows have inputs, but a different number of them.
        source = np.flatnonzero(other[0])[0]
        other[0, source] = 0.0
        assert other[0].any()
    sim = build_small(other, coupling=function)
    if standing == "configured":
        sim.configure()
    refused(sim, "Simulator.coupling: this instance has run with another connectivity", "Make a new instance")


def test_weights_that_are_not_square_are_refused(build_small, refused):
    sim = build_small()
    vars(sim.connectivity)["weights"] = np.ones((6, 5))
    refused(sim, "Simulator.connectivity.weights: shape (6, 5)", "square matrix [target, source]")


def test_refusing_gives_no_warnings(build_small):
    sim = build_small(monitors=[monitors.BoldRegionROI()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(tj.UnsupportedComponent, match="BoldRegionROI"):
            tj.prepare(sim)
