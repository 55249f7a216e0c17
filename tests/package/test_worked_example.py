"""The worked example of the developer pages, one component in one file and one line in the registry, works as it is."""

import re
import sys
import types
from pathlib import Path

import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.translate import components
from tvb_jaxfit.translate.components import registry

PAGE = Path(tj.__file__).parents[1] / "docs" / "developers" / "adding_a_component.md"
BLOCKS = re.findall(r"```\{code-block\} python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
MODULE = next(block for block in BLOCKS if block.startswith('"""Coupling `SoftRectifier`'))
TESTS = next(block for block in BLOCKS if block.startswith('"""The coupling `SoftRectifier`'))
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


@pytest.fixture
def sim(module, build_small):
    """The simulator of the page's tests."""
    return _tests()["sim"](build_small)


def _tests():
    """Names of the page's tests, with the fixture as a plain function."""
    namespace = {}
    exec(compile(TESTS.replace("@pytest.fixture\n", ""), str(PAGE), "exec"), namespace)
    return namespace


def test_the_page_has_a_module_and_tests():
    assert len(NAMES) == 3


def test_without_the_line_in_the_registry_the_coupling_is_refused(sim):
    with pytest.raises(tj.UnsupportedComponent, match="SoftRectifier is not translated"):
        tj.prepare(sim)


@pytest.mark.parametrize("name", NAMES)
def test_with_the_line_in_the_registry_the_tests_of_the_page_pass(module, sim, monkeypatch, name):
    index = registry.REGISTRY.index(registry.coupling)
    monkeypatch.setattr(registry, "REGISTRY", (*registry.REGISTRY[:index], module, *registry.REGISTRY[index:]))
    test = _tests()[name]
    arguments = {"sim": sim, "monkeypatch": monkeypatch}
    test(*(arguments[argument] for argument in test.__code__.co_varnames[: test.__code__.co_argcount]))
