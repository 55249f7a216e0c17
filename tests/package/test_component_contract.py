"""Every component module follows the contract, and is in the registry."""

import importlib
import inspect
import pkgutil
import re
import sys

import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.translate import components
from tvb_jaxfit.translate.components.contract import Component, RunSpan, TranslatedComponent
from tvb_jaxfit.translate.components.registry import REGISTRY, components_of
from tvb_jaxfit.translate.parameter_map import parameter_map
from tvb_jaxfit.translate.prepare import translate_simulator

FUNCTIONS = {name: value for name, value in vars(Component).items() if inspect.isfunction(value) and name[0] != "_"}
ATTRIBUTES = tuple(Component.__annotations__)
# Names by which a module of components/ is told from its helpers.
MARKS = ("NAME", "handles")


@pytest.fixture
def sim(build_small):
    """Simulator with a component of every name."""
    sim = build_small(dt=1.0, steps=20, monitors=[monitors.TemporalAverage(period=4.0), monitors.Bold(period=20.0)])
    sim.integrator.noise = noise.Multiplicative(nsig=np.array([1e-5]), ntau=2.0)
    sim.stimulus = patterns.StimuliRegion(
        temporal=equations.Sinusoid(), connectivity=sim.connectivity, weight=np.full(6, 0.1)
    )
    return sim


def short_name(module):
    return module.__name__.rpartition(".")[2]


def test_the_contract_has_names():
    assert ATTRIBUTES == ("NAME", "POSITION") and {"refusals", "translate", "node", "restore"} <= set(FUNCTIONS)


@pytest.mark.parametrize("module", REGISTRY, ids=short_name)
def test_every_module_of_the_registry_follows_the_contract(module):
    for name in ATTRIBUTES:
        assert isinstance(getattr(module, name), str), name
    re.compile(module.POSITION)
    for name, declared in FUNCTIONS.items():
        function = getattr(module, name)
        expected = list(inspect.signature(declared).parameters.values())[1:]
        found = list(inspect.signature(function).parameters.values())
        assert [p.name for p in found[: len(expected)]] == [p.name for p in expected], name
        # A further argument, such as a seed, is no part of the contract.
        assert all(p.default is not p.empty for p in found[len(expected) :]), name
        assert inspect.getdoc(function), name


def test_no_component_is_missing_in_the_registry():
    modules = [
        importlib.import_module(f"{components.__name__}.{found.name}")
        for found in pkgutil.iter_modules(components.__path__)
    ]
    marked = {short_name(module) for module in modules if any(hasattr(module, mark) for mark in MARKS)}
    assert marked == {short_name(module) for module in REGISTRY}
    assert len(set(REGISTRY)) == len(REGISTRY)


@pytest.mark.parametrize("module", REGISTRY, ids=short_name)
def test_no_component_imports_another(module):
    imported = [value for value in vars(module).values() if inspect.ismodule(value)]
    homes = [sys.modules.get(getattr(value, "__module__", None)) for value in vars(module).values()]
    others = [other for other in REGISTRY if other is not module]
    assert not [found for found in imported + homes if found in others]


def test_a_simulator_has_one_component_of_each_name(sim, build_small):
    names = [component.NAME for component in components_of(sim)]
    assert names == list(dict.fromkeys(component.NAME for component in REGISTRY))
    assert "stimulus" not in [component.NAME for component in components_of(build_small())]


def test_names_are_attributes_of_the_simulator_and_children_of_the_state(sim):
    _, state = tj.prepare(sim)
    names = [component.NAME for component in components_of(sim)]
    assert names == [name for name, _ in state.items()] and all(hasattr(sim, name) for name in names)


def test_every_translated_component_carries_its_part_of_a_simulation(sim):
    translated = translate_simulator(sim)
    assert list(translated.components) == [component.NAME for component in components_of(sim)]
    assert all(isinstance(part, TranslatedComponent) for part in translated.components.values())
    assert {name for name, part in translated.components.items() if part.inputs(20) is not None} == {
        "integrator",
        "stimulus",
    }


def test_node_and_parameters_of_a_component_lie_under_its_name(sim):
    reference = translate_simulator(sim).reference
    for component in components_of(reference):
        own = [parameter.path for parameter in component.parameters(reference)]
        assert all(re.match(rf"{component.NAME}(\.|\[)", path) for path in own)
        assert component.node(reference, RunSpan(0, 20)) is not None
    assert len(parameter_map(reference)) == sum(len(c.parameters(reference)) for c in components_of(reference))
