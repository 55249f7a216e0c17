"""The worked example of the developer pages, one component in one file and an entry in the registry, works as it is."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.translate import components
from tvb_jaxfit.translate.components import registry

PAGE = Path(tj.__file__).parents[1] / "docs" / "developers" / "adding_a_component.md"
BLOCKS = re.findall(r"```\{code-block\} python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
MODULE = next(block for block in BLOCKS if block.startswith('"""Coupling `SoftRectifier`'))
TESTS = next(block for block in BLOCKS if block.startswith('"""The coupling `SoftRectifier`'))
REFUSAL = next(block for block in BLOCKS if block.startswith("def test_a_soft_rectifier"))
ENTRY = next(block for block in BLOCKS if block.startswith("COUPLINGS"))
NAMES = re.findall(r"def (test_\w+)", TESTS)


@pytest.fixture
def module(monkeypatch):
    """The page's component module, not in the registry."""
    name = f"{components.__name__}.soft_rectifier"
    module = types.ModuleType(name)
    module.__package__ = components.__name__
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(components, "soft_rectifier", module, raising=False)
    exec(compile(MODULE, str(PAGE), "exec"), vars(module))
    return module


@pytest.fixture(params=["GLOBAL", "REGIONAL"])
def sim(module, build_small, request):
    """The simulator of the page's tests, for each parameter of its fixture."""
    tests = _tests()
    return tests["sim"](build_small, types.SimpleNamespace(param=tests[request.param]))


@pytest.fixture
def registered(module, monkeypatch):
    """The page's component module, in the registry."""
    index = registry.REGISTRY.index(registry.coupling)
    monkeypatch.setattr(registry, "REGISTRY", (*registry.REGISTRY[:index], module, *registry.REGISTRY[index:]))
    return module


def _tests():
    """Names of the page's tests, with the fixture as a plain function."""
    namespace = {}
    exec(compile(re.sub(r"@pytest\.fixture.*\n", "", TESTS), str(PAGE), "exec"), namespace)
    return namespace


def test_the_page_has_a_module_and_tests():
    assert len(NAMES) == 4


def test_without_the_entry_in_the_registry_the_coupling_is_refused(sim):
    with pytest.raises(tj.UnsupportedComponent, match="SoftRectifier is not translated"):
        tj.prepare(sim)


@pytest.mark.parametrize("name", NAMES)
def test_with_the_entry_in_the_registry_the_tests_of_the_page_pass(registered, sim, request, name):
    test = _tests()[name]
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    test(*(sim if each == "sim" else request.getfixturevalue(each) for each in names))


def test_the_refusal_of_the_page_is_raised(registered, build_small):
    def refused(sim, *words):
        with pytest.raises(tj.UnsupportedComponent) as caught:
            tj.prepare(sim)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    namespace = {"np": np, "soft_rectifier": registered}
    exec(compile(REFUSAL, str(PAGE), "exec"), namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    test(build_small, refused)


def test_the_entry_of_the_page_for_the_gradient_test_has_all_parameters(registered, build_small):
    namespace = {"np": np, "soft_rectifier": registered, "COUPLINGS": {}}
    exec(compile(ENTRY, str(PAGE), "exec"), namespace)
    ((coupling, names),) = namespace["COUPLINGS"].values()
    assert [parameter.name for parameter in registered.parameters(build_small(coupling=coupling))] == [*names]
