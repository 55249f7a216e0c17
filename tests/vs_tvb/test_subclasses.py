"""A subclass that overrides nothing that TVB uses behaves as its base; overrides are translated, or refused by name."""

import sys
import types
import uuid

import numpy as np
import pytest
from tvb.basic.neotraits.api import Float
from tvb.datatypes import equations, patterns
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.translate import prepare as prepare_module
from tvb_jaxfit.translate.components.monitors import SUPPORTED

N_NODE = 3
# Methods that a subclass may override: their code is translated, or the configured copy runs it. None: all methods.
MAY_OVERRIDE = {
    models.Generic2dOscillator: None,
    coupling.Linear: None,
    coupling.Sigmoidal: None,
    equations.PulseTrain: None,
    equations.DiscreteEquation: None,
    equations.Linear: None,
    noise.Additive: {"gfun", "configure", "validate"},
    noise.Multiplicative: {"gfun", "configure", "validate"},
}


def harmless(base, **members):
    """Subclass with new attributes and a constructor, which overrides only methods that no simulation calls."""

    def __init__(self, *args, **named):
        base.__init__(self, *args, **named)
        self.label_of_mine = "mine"

    added = {
        "__init__": __init__,
        "__doc__": "Mine.",
        "helper": lambda self: self.label_of_mine,
        "share": property(lambda self: 1.0),
        "summary_info": lambda self: {"mine": "yes"},
        "__str__": lambda self: "mine",
        "__repr__": lambda self: "mine",
        "of_mine": Float(default=1.0),
    }
    # TVB expects every trait of a model to be an array.
    if issubclass(base, models.Generic2dOscillator):
        del added["of_mine"]
    return type(base)("My" + base.__name__, (base,), added | members)


def everything(kind, scheme="HeunStochastic", function=None, of_noise=noise.Additive, temporal=equations.Cosine):
    """Simulator in which each component is of class ``kind(base)``, with all monitors that need no file of sensors."""
    random = np.random.RandomState(0)
    weights = random.uniform(0.1, 1.0, (N_NODE, N_NODE))
    white_matter = kind(Connectivity)(
        weights=weights,
        tract_lengths=np.full((N_NODE, N_NODE), 5.0),
        centres=np.zeros((N_NODE, 3)),
        region_labels=np.array(list("abc")),
        speed=np.array([3.0]),
        cortical=np.array([True, True, False]),
    )
    integrator = kind(getattr(integrators, scheme))(dt=0.5)
    if hasattr(integrator, "noise"):
        integrator.noise = kind(of_noise)(nsig=np.array([1e-3]), noise_seed=3)
    names = [name for name in SUPPORTED.split(", ") if name not in ("EEG", "MEG", "iEEG", "Raw", "ProgressLogger")]
    all_monitors = [kind(getattr(monitors, name))(period=5.0) for name in names if not name.endswith("Bold")]
    all_monitors.append(kind(monitors.Bold)(period=20.0, hrf_length=40.0, hrf_kernel=kind(equations.Gamma)()))
    return kind(Simulator)(
        connectivity=white_matter,
        model=kind(models.Generic2dOscillator)(),
        coupling=kind(function or coupling.Linear)(),
        integrator=integrator,
        monitors=all_monitors,
        stimulus=kind(patterns.StimuliRegion)(
            temporal=kind(temporal)(),
            spatial=kind(equations.DiscreteEquation)(),
            connectivity=white_matter,
            weight=np.arange(1.0, N_NODE + 1),
        ),
        simulation_length=41.0,
    )


@pytest.mark.parametrize(
    "scheme, function, of_noise",
    [
        ("HeunStochastic", coupling.Linear, noise.Additive),
        pytest.param("EulerStochastic", coupling.Difference, noise.Multiplicative, marks=pytest.mark.slow),
        ("HeunDeterministic", coupling.Kuramoto, None),
        pytest.param("EulerDeterministic", coupling.Sigmoidal, None, marks=pytest.mark.slow),
        pytest.param("RungeKutta4thOrderDeterministic", coupling.HyperbolicTangent, None, marks=pytest.mark.slow),
        pytest.param("Identity", coupling.Scaling, None, marks=pytest.mark.slow),
    ],
)
def test_a_subclass_that_changes_nothing_gives_tvbs_numbers(float64_tvb, equal_runs, scheme, function, of_noise):
    sim, original = (
        everything(harmless, scheme, function, of_noise),
        everything(lambda base: base, scheme, function, of_noise),
    )
    if scheme != "HeunStochastic":
        sim.monitors, original.monitors = ([*s.monitors[:1], s.monitors[-1]] for s in (sim, original))
    simulate, state = tj.prepare(sim)
    assert "MyGeneric2dOscillator" in repr(simulate) and f"My{scheme}" in repr(simulate)
    assert [monitor.name for monitor in simulate.monitors] == [type(monitor).__name__ for monitor in sim.monitors]
    ours, theirs = simulate(state), float64_tvb(sim).run()
    equal_runs(ours, theirs, tolerance=1e-11)
    equal_runs(ours, float64_tvb(original).run(), tolerance=1e-11)


def test_values_are_written_back_into_subclasses(float64_tvb, equal_runs):
    sim, other = everything(harmless), everything(harmless)
    sim.monitors, other.monitors = [sim.monitors[-1]], [other.monitors[-1]]
    simulate, state = tj.prepare(sim)
    state = state.replace(model=state.model.replace(a=state.model.a - 0.5))
    state = state.replace(stimulus=state.stimulus.replace(weight=2.0 * state.stimulus.weight))
    tj.write_back(state, other)
    assert other.model.a == sim.model.a - 0.5 and np.array_equal(other.stimulus.weight, 2.0 * sim.stimulus.weight)
    equal_runs(simulate(state), float64_tvb(other).run(), tolerance=1e-11)


def test_another_default_of_a_trait_only_changes_its_value(float64_tvb, equal_runs):
    average = harmless(monitors.TemporalAverage, period=Float(default=5.0))
    sim = everything(lambda base: base)
    sim.monitors = [average()]
    simulate, state = tj.prepare(sim)
    assert simulate(state).data[0].shape[0] == 8
    equal_runs(simulate(state), float64_tvb(sim).run(), tolerance=1e-11)


def parts_of(sim):
    """Components of a simulator by class, the simulator itself included."""
    return {type(part): part for _, part in prepare_module.component_objects(sim)}


def called_by_tvb(sim):
    """Pairs (class, name) of the methods that TVB calls on a simulator's components in configure() and run()."""
    found, watched = set(), {id(part): type(part) for part in parts_of(sim).values()}

    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_argcount:
            first = frame.f_locals.get(frame.f_code.co_varnames[0])
            if id(first) in watched:
                found.add((watched[id(first)], frame.f_code.co_name))

    sys.setprofile(watch)
    try:
        sim.configure()
        sim.run()
    finally:
        sys.setprofile(None)
    return {(cls, name) for cls, name in found if hasattr(cls, name)}


def overriding(base, name):
    """Subclass that overrides one method with an equivalent one."""
    original = getattr(base, name)
    if isinstance(original, types.FunctionType):
        return type(base)("Mine", (base,), {name: lambda self, *args, **named: original(self, *args, **named)})
    return type(base)("Mine", (base,), {name: property(lambda self: original.fget(self))})


@pytest.mark.parametrize(
    "scheme, of_noise",
    [
        ("HeunStochastic", noise.Additive),
        ("EulerStochastic", noise.Multiplicative),
        ("EulerDeterministic", None),
        pytest.param("HeunDeterministic", None, marks=pytest.mark.slow),
        pytest.param("RungeKutta4thOrderDeterministic", None, marks=pytest.mark.slow),
        ("Identity", None),
    ],
)
def test_an_override_of_a_method_that_tvb_calls_is_translated_or_refused_by_name(scheme, of_noise):
    calls = called_by_tvb(everything(lambda base: base, scheme, None, of_noise))
    calls = {(cls, name) for cls, name in calls if not name.startswith("__") or name == "__call__"}
    assert {("Simulator", "run"), ("Bold", "sample"), (scheme, "scheme")} <= {(cls.__name__, n) for cls, n in calls}
    for cls, name in sorted(calls, key=str):
        if cls is equations.Gamma or cls is equations.Cosine or MAY_OVERRIDE.get(cls, ()) is None:
            continue
        kind = {cls: overriding(cls, name)}
        sim = everything(lambda base, kind=kind: kind.get(base, base), scheme, None, of_noise)
        reasons = list(prepare_module.refusals(sim))
        if name in MAY_OVERRIDE.get(cls, ()):
            assert not reasons
        else:
            assert len(reasons) == 1 and f"it replaces {name} of TVB's {cls.__name__}" in reasons[0], (cls, name)


@pytest.mark.parametrize("name", ["__getattribute__", "__getattr__", "__setattr__", "__bool__", "__len__"])
def test_overrides_of_special_methods_are_refused(name):
    methods = {
        "__getattribute__": lambda self, name: object.__getattribute__(self, name),
        "__getattr__": lambda self, name: object.__getattribute__(self, name),
        "__setattr__": lambda self, name, value: object.__setattr__(self, name, value),
        "__bool__": lambda self: True,
        "__len__": lambda self: 3,
    }
    for base in (patterns.StimuliRegion, monitors.Bold, Connectivity, Simulator, integrators.HeunStochastic):
        mine = type(base)("Mine", (base,), {name: methods[name]})
        kind = {base: mine}
        reasons = list(prepare_module.refusals(everything(lambda cls, kind=kind: kind.get(cls, cls))))
        assert any(f"it replaces {name} of TVB's {base.__name__}" in reason for reason in reasons)


def test_a_property_over_a_trait_and_a_mixin_are_refused():
    class Mixin:
        def sample(self, step, state):
            return None

    with_property = type(monitors.SubSample)("Mine", (monitors.SubSample,), {})
    with_property.period = property(lambda self: 2.0)
    for mine in (with_property, type(monitors.SubSample)("Mine", (Mixin, monitors.SubSample), {})):
        sim = everything(lambda base: base)
        monitor = object.__new__(mine)
        monitor.gid = uuid.uuid4()
        sim.monitors = [monitor]
        (reason,) = prepare_module.refusals(sim)
        assert "it replaces" in reason and "of TVB's SubSample" in reason


def test_an_attribute_set_to_the_same_value_is_no_override(float64_tvb, equal_runs):
    mine = type(monitors.Bold)("Mine", (monitors.Bold,), {"_stock_sample_rate": 0.25, "sample": monitors.Bold.sample})
    other = type(monitors.Bold)("Mine", (monitors.Bold,), {"_stock_sample_rate": 0.125})
    sim = everything(lambda base: base)
    sim.monitors = [mine(period=20.0, hrf_length=40.0)]
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), float64_tvb(sim).run(), tolerance=1e-11)
    sim.monitors = [other(period=20.0, hrf_length=40.0)]
    (reason,) = prepare_module.refusals(sim)
    assert "it replaces _stock_sample_rate of TVB's Bold" in reason


def test_the_values_that_a_model_shows_to_monitors_are_compared_with_tvb():
    class Doubled(models.Generic2dOscillator):
        def _build_observer(self):
            self.observe = lambda state: 2.0 * state[:2]

    sim = everything(lambda base: Doubled if base is models.Generic2dOscillator else base)
    with pytest.raises(tj.UnsupportedComponent, match="variables_of_interest"):
        tj.prepare(sim)
