"""What a configured simulator holds is changed, one attribute after the other: TVB's own run is equalled, or refused.

TVB reads some attributes when it is configured and others when it runs. The changes are generated from what each
component holds.
"""

import numpy as np
import pytest
from tvb.basic.neotraits.api import HasTraits
from tvb.datatypes import equations, patterns, projections, sensors
from tvb.datatypes.region_mapping import RegionMapping
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.translate import derived
from tvb_jaxfit.translate.clone import clone, configured_clone

WEIGHTS = np.array([[0.0, 1.0, 0.2, 0.0], [0.5, 0.0, 0.0, 0.3], [0.1, 0.4, 0.0, 0.6], [0.9, 0.0, 0.7, 0.0]])
# Names for people, and the position of a run.
_LEFT_OUT = {"gid", "title", "tags", "log", "history", "calls", "current_step", "current_state", "number_of_nodes"}
_LEFT_OUT |= {"_memory_requirement_guess", "_memory_requirement_census", "_runtime", "_storage_requirement", "_sim"}


def every_kind_of_monitor():
    return [
        monitors.TemporalAverage(period=4.0),
        monitors.Bold(period=20.0, hrf_length=40.0),
        monitors.SpatialAverage(period=4.0, spatial_mask=np.array([0, 0, 1, 1])),
        monitors.SpatialAverage(period=4.0),
        monitors.SubSample(period=4.0, variables_of_interest=np.array([1])),
        monitors.RawVoi(variables_of_interest=np.array([0])),
        monitors.GlobalAverage(period=4.0),
        monitors.AfferentCoupling(),
        monitors.Raw(),
    ]


def projection(monitor, of_sensors, matrix, **parts):
    """Monitor of three sensors over four regions."""
    oriented = {"orientations": np.full((3, 3), 0.5)} if of_sensors is sensors.SensorsMEG else {}
    return monitor(
        period=4.0,
        sensors=of_sensors(
            labels=np.array(["a", "b", "c"]),
            locations=np.random.RandomState(1).uniform(1.0, 80.0, (3, 3)),
            usable=np.array([True, True, True]),
            **oriented,
        ),
        projection=matrix(projection_data=np.random.RandomState(2).uniform(size=(3, 4))),
        region_mapping=RegionMapping(array_data=np.arange(4)),
        **parts,
    )


def every_kind_of_sensors():
    return [
        projection(
            monitors.EEG,
            sensors.SensorsEEG,
            projections.ProjectionSurfaceEEG,
            reference="b",
            obsnoise=noise.Additive(ntau=2.0),
        ),
        projection(monitors.MEG, sensors.SensorsMEG, projections.ProjectionSurfaceMEG, obsnoise=None),
        projection(monitors.iEEG, sensors.SensorsInternal, projections.ProjectionSurfaceSEEG),
    ]


@pytest.fixture
def connected(connectivity_of):
    """Function: a simulator of four regions with delays up to five steps of 1 ms."""

    def make(**parts):
        white_matter = connectivity_of(WEIGHTS, np.full((4, 4), 20.0), 4.0)
        white_matter.cortical = np.ones(4, dtype=bool)
        white_matter.orientations = np.full((4, 3), 0.5)
        white_matter.centres = np.random.RandomState(3).uniform(0.0, 50.0, (4, 3))
        return Simulator(connectivity=white_matter, simulation_length=60.0, **parts)

    return make


def oscillators(connected):
    sim = connected(
        model=models.Generic2dOscillator(variables_of_interest=("V", "W")),
        coupling=coupling.Sigmoidal(a=np.array([0.01])),
        integrator=integrators.HeunStochastic(
            dt=1.0, noise=noise.Additive(nsig=np.array([1e-4, 2e-4]), noise_seed=3, ntau=2.0)
        ),
        monitors=every_kind_of_monitor(),
    )
    sim.stimulus = patterns.StimuliRegion(
        temporal=equations.Sinusoid(parameters={"amp": 0.01, "frequency": 0.02}),
        connectivity=sim.connectivity,
        weight=np.array([0.1, 0.2, 0.3, 0.4]),
    )
    return sim


def on_sensors(connected):
    return connected(
        model=models.ReducedWongWangExcInh(),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.EulerStochastic(dt=1.0, noise=noise.Multiplicative(nsig=np.array([1e-5]))),
        monitors=every_kind_of_sensors(),
    )


def clamped_modes(connected):
    """A model that derives attributes from its parameters, in three modes."""
    return connected(
        model=models.ReducedSetFitzHughNagumo(),
        coupling=coupling.HyperbolicTangent(),
        integrator=integrators.EulerDeterministic(
            dt=0.05,
            clamped_state_variable_indices=np.array([0]),
            clamped_state_variable_values=np.full((1, 4, 3), 0.2),
        ),
        monitors=[monitors.TemporalAverage(period=4.0)],
        initial_conditions=np.full((101, 4, 4, 3), 0.1),
    )


SIMULATORS = {"oscillators": (oscillators, 60), "sensors": (on_sensors, 60), "clamped modes": (clamped_modes, 30)}


def objects(value, path="sim", met=None):
    """(path, object) of a simulator's components and their parts."""
    met = {} if met is None else met
    if id(value) in met:
        return
    met[id(value)] = value
    if isinstance(value, HasTraits):
        yield path, value
        for name, item in list(vars(value).items()):
            if name not in _LEFT_OUT:
                yield from objects(item, f"{path}.{name}", met)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from objects(item, f"{path}[{index}]", met)


def others(value):
    """Other values of the same kind."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, np.integer)):
        yield value + 1
    elif isinstance(value, (float, np.floating)):
        yield value * 1.5 + 0.5
    elif isinstance(value, str):
        yield "" if value == "average" else "average"
    elif isinstance(value, np.ndarray) and value.size:
        yield from _other_arrays(value)
    elif isinstance(value, tuple) and len(value) > 1 and all(isinstance(item, str) for item in value):
        yield value[::-1]
        yield value[:1]
    elif isinstance(value, dict) and value:
        name, first = next(iter(value.items()))
        if isinstance(first, (int, float, np.ndarray)):
            yield value | {name: first * 0.9 + 0.01}


def _other_arrays(value):
    if value.dtype.kind == "f":
        yield value * 1.1 + 0.01
    elif value.dtype.kind in "iu":
        turned = value[::-1].copy()
        yield value + 1 if np.array_equal(turned, value) else turned
    elif value.dtype.kind == "b":
        turned = value.copy()
        turned.flat[0] = not turned.flat[0]
        yield turned
    elif value.dtype.kind == "U":
        yield value[::-1].copy()


BY_KIND = [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "oscillators")) for kind in SIMULATORS]


def put(owner, name, value):
    """Set an attribute, if necessary past TVB's checks."""
    try:
        setattr(owner, name, value)
    except Exception:
        vars(owner)[name] = value


def largest_difference(sim, float64_tvb):
    """Difference from TVB's own run, relative to each monitor's largest value, and TVB's samples."""
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    worst = 0.0
    for (our_time, ours), (time, data) in zip(simulate(state), theirs, strict=True):
        np.testing.assert_array_equal(our_time, time)
        assert ours.shape == data.shape and np.isfinite(data).all()
        worst = max(worst, np.max(np.abs(np.asarray(ours) - data)) / np.max(np.abs(data)))
    return worst, theirs


@pytest.mark.parametrize("kind", BY_KIND)
def test_every_attribute_that_is_changed_after_configure_acts_as_in_tvb_or_is_refused(connected, float64_tvb, kind):
    """Refused changes are tried one by one; all others together in one simulator, which is compared with TVB's run."""
    make, least = SIMULATORS[kind]
    sim = make(connected).configure()
    assert list(derived.refusals(clone(sim))) == []
    live, refused = clone(sim), []
    for index, (path, component) in enumerate(list(objects(sim))):
        for name in [name for name in vars(component) if name not in _LEFT_OUT]:
            for value in others(vars(component)[name]):
                changed = clone(sim)
                put(list(objects(changed))[index][1], name, value)
                reasons = list(derived.refusals(changed))
                if reasons:
                    assert all("sim.configure() again" in reason for reason in reasons)
                    refused.append(f"{path}.{name}")
                elif not name.startswith(("_", "is_default")) and name != "stvar":
                    put(list(objects(live))[index][1], name, value)
    assert len(refused) >= least
    worst, theirs = largest_difference(live, float64_tvb)
    assert worst < 1e-11
    before = float64_tvb(sim).run()
    assert np.max(np.abs(theirs[0][1][:5] - before[0][1][:5])) > 1e-6


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_simulator_that_only_ran_is_not_refused(connected, float64_tvb, kind):
    sim = SIMULATORS[kind][0](connected).configure()
    sim.run(simulation_length=37.0)
    assert list(derived.refusals(clone(sim))) == []
    assert largest_difference(sim, float64_tvb)[0] < 1e-11
    sim.configure()
    assert list(derived.refusals(clone(sim))) == []


def _elsewhere(connected, **parts):
    """Another configured simulator, whose components are used."""
    return connected(**({"monitors": [monitors.Raw()]} | parts)).configure()


def _attribute(path, value):
    def change(sim, connected):
        *owners, name = path.split(".")
        owner = sim
        for step in owners:
            owner = getattr(owner, step)
        put(owner, name, value(sim, connected))

    return change


# Whole components, exchanged after configure(): the attribute that the message names; None if TVB uses the new one.
EXCHANGED = {
    "model, not configured": (
        "Simulator.model",
        _attribute("model", lambda *_: models.Generic2dOscillator(variables_of_interest=("V", "W"))),
    ),
    "model of another class, configured": (
        "Simulator.model.state_variable_boundaries",
        _attribute("model", lambda sim, make: _elsewhere(make, model=models.ReducedWongWangExcInh()).model),
    ),
    "connectivity without delays": (
        "Simulator.connectivity",
        _attribute("connectivity.tract_lengths", lambda sim, make: np.zeros((4, 4))),
    ),
    "another connectivity": (
        "Simulator.connectivity",
        _attribute("connectivity", lambda sim, make: connected_otherwise(make)),
    ),
    "another integrator": (
        "Simulator.integrator",
        _attribute("integrator", lambda *_: integrators.HeunDeterministic(dt=1.0)),
    ),
    "another step": ("Simulator.integrator.noise.dt", _attribute("integrator.dt", lambda *_: 0.5)),
    "other noise": (
        "Simulator.integrator.noise",
        _attribute("integrator.noise", lambda *_: noise.Additive(nsig=np.array([1e-4]))),
    ),
    "noise without memory": ("Simulator.integrator.noise", _attribute("integrator.noise.ntau", lambda *_: 1.0)),
    "another coupling": (None, _attribute("coupling", lambda *_: coupling.Linear(a=np.array([0.02])))),
    "no stimulus": (None, _attribute("stimulus", lambda *_: None)),
    "another stimulus": (
        "Simulator.stimulus",
        _attribute(
            "stimulus",
            lambda sim, make: patterns.StimuliRegion(
                temporal=equations.Sinusoid(), connectivity=sim.connectivity, weight=np.ones(4)
            ),
        ),
    ),
    "one more monitor": (
        "Simulator.monitors[9]",
        _attribute("monitors", lambda sim, make: [*sim.monitors, monitors.SubSample(period=3.0)]),
    ),
    "fewer monitors": (None, _attribute("monitors", lambda sim, make: sim.monitors[:3])),
    "bounds": (
        "Simulator.model.state_variable_boundaries",
        _attribute("model.state_variable_boundaries", lambda *_: {"V": np.array([-0.1, 0.1])}),
    ),
    "coupling variables": ("Simulator.model.cvar", _attribute("model.cvar", lambda *_: np.array([1]))),
    "clamps": (
        "Simulator.integrator",
        lambda sim, make: (
            put(sim.integrator, "clamped_state_variable_indices", np.array([0])),
            put(sim.integrator, "clamped_state_variable_values", np.full((1, 4, 1), 0.3)),
        ),
    ),
}


def connected_otherwise(make):
    other = make(monitors=[monitors.Raw()]).connectivity
    other.weights = other.weights.T.copy()
    return other


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] * (what == "another coupling")) for what in EXCHANGED]
)
def test_components_that_are_exchanged_after_configure(connected, float64_tvb, snapshot, what):
    path, exchange = EXCHANGED[what]
    sim = oscillators(connected).configure()
    exchange(sim, connected)
    if path is None:
        assert largest_difference(sim, float64_tvb)[0] < 1e-11
        return
    before = snapshot(sim)
    with pytest.raises(tj.UnsupportedComponent) as caught:
        tj.prepare(sim)
    assert path in str(caught.value) and "sim.configure() again" in str(caught.value)
    assert snapshot(sim) == before
    assert tuple(reason for reason in caught.value.reasons if reason.startswith(path))


def test_sensors_that_were_configured_for_another_simulator_are_taken_as_tvb_takes_them_or_refused(
    connected, float64_tvb
):
    """TVB configures an EEG once, for the first simulator."""
    first = on_sensors(connected).configure()
    same = on_sensors(connected)
    same.monitors = first.monitors
    assert largest_difference(same, float64_tvb)[0] < 1e-11
    other = on_sensors(connected)
    other.monitors, other.integrator.dt = first.monitors, 0.5
    with pytest.raises(tj.UnsupportedComponent, match=r"monitors\[0\].*once only: make a new one"):
        tj.prepare(other)


def test_a_configured_copy_is_not_taken_for_changed(connected):
    sim = oscillators(connected).configure()
    assert list(derived.refusals(configured_clone(sim))) == []
