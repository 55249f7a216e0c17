"""Importing the package is quick and changes nothing; every public name exists and has a docstring."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tvb_jaxfit

ROOT = Path(tvb_jaxfit.__file__).parents[1]
PROBE = """
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import tvb_jaxfit
took = time.perf_counter() - start
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
import jax
before = dict(jax.config.values)
for name in tvb_jaxfit.__all__:
    getattr(tvb_jaxfit, name)
after = dict(jax.config.values)
# Old versions of JAX define some settings only when a part of JAX is imported.
changed = sorted(name for name in before if before[name] != after[name])
print(json.dumps({"new": new, "took": took, "changed": changed}))
"""


@pytest.fixture(scope="module")
def fresh():
    """Observations of a new interpreter that imports the package."""
    out = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def test_import_loads_nothing_beside_the_standard_library(fresh):
    assert fresh["new"] == ["tvb_jaxfit"]


def test_import_is_immediate(fresh):
    assert fresh["took"] < 0.5


def test_neither_import_nor_use_of_any_name_changes_jaxs_configuration(fresh):
    assert fresh["changed"] == []


@pytest.mark.parametrize("name", tvb_jaxfit.__all__)
def test_every_public_name_resolves_and_has_a_docstring(name):
    public = getattr(tvb_jaxfit, name)
    assert public.__name__ == name
    assert inspect.getdoc(public).partition("\n")[0].endswith((".", ":", "it."))
    assert name in dir(tvb_jaxfit)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tvb_jaxfit' has no attribute 'prepair'"):
        tvb_jaxfit.prepair  # noqa: B018


def test_its_docstring_shows_the_way_through():
    assert "prepare" in tvb_jaxfit.__doc__ and "write_back" in tvb_jaxfit.__doc__
