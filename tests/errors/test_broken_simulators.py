"""prepare translates a simulator with any wrong value, or names the value in its refusal."""

import numpy as np
import pytest
from tvb.datatypes import equations, patterns, projections, sensors
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.translate.clone import clone
from tvb_jaxfit.translate.complete import component_objects
from tvb_jaxfit.translate.components import coupling, integrator, stimulus

WRONG = {
    "none": None,
    "text": "abc",
    "an object": object(),
    "a list": [0.5],
    "complex": np.array([1.0j]),
    "masked": np.ma.masked_array([1.0, 2.0], mask=[0, 1]),
    "text in an array": np.array(["a", "b"]),
    "objects in an array": np.array([None, 1], dtype=object),
}
OF_MODELS = ("cvar", "stvar", "state_variables", "_nvar", "non_integrated_variables")
FOR_PEOPLE = ("gid", "title", "tags", "log")


@pytest.fixture
def complete(build_small):
    """Simulator with every kind of component."""
    sim = build_small(
        dt=1.0,
        steps=20,
        monitors=[monitors.TemporalAverage(period=4.0), monitors.Bold(period=20.0, hrf_length=40.0)],
    )
    sim.integrator.noise = noise.Multiplicative(nsig=np.array([1e-5]))
    sim.stimulus = patterns.StimuliRegion(
        temporal=equations.Sinusoid(), connectivity=sim.connectivity, weight=np.full(6, 0.1)
    )
    # Equations of its own: TVB's defaults are shared by all simulators.
    return clone(sim)


def is_clean(error):
    """True if each reason names an attribute and a remedy."""
    remedies = ("ive ", "Remove", "Use ", "Set ", "fill it", "is not translated: ")
    return all(
        reason.startswith("Simulator") and any(remedy in reason for remedy in remedies) for reason in error.reasons
    )


def paths(sim):
    return [path for path, _ in component_objects(sim)]


def test_the_simulator_that_is_spoilt_is_itself_accepted(complete):
    tj.prepare(complete)
    assert len(paths(complete)) == 13


@pytest.mark.parametrize("index", [*range(3), pytest.param(3, marks=pytest.mark.slow), *range(4, 13)])
def test_an_attribute_of_another_kind_is_translated_or_refused_by_name(complete, index):
    path, component = list(component_objects(complete))[index]
    names = [name for name in type(component).declarative_attrs if name not in FOR_PEOPLE]
    names += OF_MODELS if path == "Simulator.model" else ()
    refused = []
    for name in names:
        for what, value in WRONG.items():
            sim = clone(complete)
            vars(list(component_objects(sim))[index][1])[name] = value
            try:
                tj.prepare(sim)
            except tj.UnsupportedComponent as error:
                assert is_clean(error), f"{path}.{name}, {what}: {error}"
                refused.append((name, what))
                if what in ("complex", "masked") and name not in ("conduction_speed", "equation", "parameters"):
                    assert path in str(error), f"{path}.{name}, {what}: {error}"
    assert len(refused) >= len(names)


@pytest.mark.parametrize("name", ["model", "coupling", "connectivity", "integrator", "monitors"])
def test_a_component_that_is_missing_is_named(complete, snapshot, name):
    vars(complete)[name] = None
    before = snapshot(complete)
    for function in (tj.prepare, tj.prepare_linear):
        with pytest.raises(tj.UnsupportedComponent, match=f"Simulator.{name}: none; give"):
            function(complete)
    assert snapshot(complete) == before


def test_an_unforeseen_error_in_a_component_names_the_component(complete, monkeypatch):
    """All such components are named, and the first error is the cause."""

    def failing(sim):
        raise ZeroDivisionError("of its own")

    with monkeypatch.context() as patch:
        patch.setattr(coupling, "translate", failing)
        patch.setattr(stimulus, "translate", failing)
        with pytest.raises(tj.UnsupportedComponent) as caught:
            tj.prepare(complete)
    assert is_clean(caught.value) and isinstance(caught.value.__cause__, ZeroDivisionError)
    for name, reason in zip(["coupling", "stimulus"], caught.value.reasons, strict=True):
        assert reason.startswith(f"Simulator.{name}: its translation fails: ZeroDivisionError: of its own. Give values")
    monkeypatch.setattr(integrator, "refusals_configured", failing)
    with pytest.raises(tj.UnsupportedComponent, match="Simulator.integrator: its values cannot be read: ZeroDivision"):
        tj.prepare(complete)


@pytest.mark.parametrize("name", ["temporal", "weight"])
def test_a_stimulus_without_its_parts_is_refused_by_name(complete, name):
    vars(complete.stimulus)[name] = None
    with pytest.raises(tj.UnsupportedComponent, match=f"Simulator.stimulus.{name}: none; give"):
        tj.prepare(complete)


@pytest.mark.parametrize("cvar", [[5], [-2], [], [[0]], [0.0], [True]])
def test_coupling_variables_that_are_no_state_variables_are_refused(build_small, cvar):
    sim = build_small()
    sim.model.cvar = np.array(cvar)
    with pytest.raises(tj.UnsupportedComponent, match=r"Simulator.model.cvar: .* Give an array of indices from 0 to 0"):
        tj.prepare(sim)


STAGES = {
    "connectivity": (Connectivity, "configure"),
    "model": (models.ReducedWongWang, "configure"),
    "integrator": (integrators.HeunStochastic, "configure"),
    "delays": (Connectivity, "set_idelays"),
    "noise": (noise.Noise, "configure_white"),
    "history": (Simulator, "_configure_history"),
    "first monitor": (monitors.TemporalAverage, "config_for_sim"),
    "second monitor": (monitors.Bold, "compute_hrf"),
}


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_simulator_whose_configure_failed_half_way_is_translated_as_tvb_would_run_it_or_refused(
    complete, monkeypatch, stage, again
):
    """At each stage of the first configure(), and of a second one with another dt."""
    owner, name = STAGES[stage]
    if again:
        complete.configure()
        complete.integrator.dt = 0.5

    def failing(*args, **named):
        raise OSError("half-way")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(OSError, match="half-way"):
            complete.configure()
    if complete.history is None:
        # TVB has to configure it before it runs, and so does prepare.
        tj.prepare(complete)
        return
    with pytest.raises(tj.UnsupportedComponent, match=r"sim.configure\(\) again") as caught:
        tj.prepare(complete)
    assert is_clean(caught.value) or "Call sim.configure() again" in str(caught.value)
    complete.configure()
    tj.prepare(complete)


def test_monitors_that_tvb_cannot_configure_are_refused(build_small):
    spatial = monitors.SpatialAverage(period=4.0, spatial_mask=np.array([0, 2, 2, 2, 2, 2]))
    on_sensors = monitors.EEG(
        period=4.0,
        sensors=sensors.SensorsEEG(labels=np.array(["a"]), locations=np.ones((1, 3))),
        projection=projections.ProjectionSurfaceEEG(projection_data=np.ones((1, 6))),
    )
    for monitor in (spatial, on_sensors):
        sim = build_small(monitors=[monitor])
        for _ in range(2):
            with pytest.raises(tj.UnsupportedComponent, match="configure"):
                tj.prepare(sim)
            with pytest.raises(Exception, match="contiguous|size"):
                sim.configure()


@pytest.mark.parametrize("wrong", ["abc", [1.0, 2.0], object(), float("nan"), float("inf"), 0, -1.0])
def test_a_length_that_is_none_is_an_error_that_says_so(build_small, wrong):
    with pytest.raises(ValueError, match="simulation_length( =|:) .*give a (number|positive length)"):
        tj.prepare(build_small(), simulation_length=wrong)


@pytest.mark.parametrize("wrong", [None, 3, "sim", Simulator])
def test_what_is_no_simulator_is_refused(wrong):
    for function in (tj.prepare, tj.prepare_linear):
        with pytest.raises(tj.UnsupportedComponent, match="TVB Simulator"):
            function(wrong)
