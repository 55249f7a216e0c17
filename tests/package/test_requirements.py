"""Lower bounds of the dependencies are versions that were tried, and .gitignore names the folder of the cache."""

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def _requirements():
    """Requirements of setup.cfg, without those of the documentation, which no test imports."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = [config["options"]["install_requires"]]
    groups += [group for extra, group in config["options.extras_require"].items() if extra != "docs"]
    lines = [line for group in groups for line in group.splitlines() if line and not line.startswith("#")]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "tvb-jaxfit"]


def test_each_lower_bound_is_the_oldest_version_that_was_tried():
    lines = (ROOT / "tests" / "oldest-versions.txt").read_text().splitlines()
    oldest = {pin.name: pin for pin in map(Requirement, (line for line in lines if not line.startswith("#")))}
    requirements = _requirements()
    assert {requirement.name for requirement in requirements} | {"numba"} == set(oldest)
    for requirement in requirements:
        (bound,) = (each for each in requirement.specifier if each.operator != "<")
        assert bound.operator == ">=", requirement
        assert oldest[requirement.name].specifier.contains(bound.version), requirement


def test_git_ignores_the_folder_of_the_cache():
    source = (ROOT / "tvb_jaxfit" / "persistence" / "cache.py").read_text()
    (folder,) = re.findall(r'^_folder = Path\("(.+)"\)$', source, re.MULTILINE)
    assert f"{folder}/" in (ROOT / ".gitignore").read_text().splitlines()
