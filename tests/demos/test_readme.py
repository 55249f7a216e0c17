"""Code of README and of the documentation runs as it stands: README's example ends with a fit to believe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = {"_build", "gallery", "generated"}


def _blocks(page, languages="python"):
    """Python blocks of a Markdown page; those of the language "py" use data or a model that the page does not have."""
    return re.findall(rf"```(?:{languages})\n(.*?)```", page.read_text(), re.DOTALL)


README = _blocks(ROOT / "README.md")
PAGES = {
    str(page.relative_to(ROOT)): _blocks(page)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if not GENERATED & set(page.parts) and _blocks(page)
}
# Pages whose blocks are parts of modules: they only compile.
FRAGMENTS = {"docs/developers/adding_a_component.md", "docs/developers/translation.md"}
# Lengths that are reduced, in README and in the pages, and data that a reader has.
SHORTER = {
    'np.load("session_1.npy"), np.load("session_2.npy")': "*np.random.default_rng(0).normal(size=(2, 120, 76))",
    "lag=1, free=free": "lag=1, free=free, penalties=[0.01], max_evaluations=2",
    "simulation_length=120_000.0": "simulation_length=30_000.0",
    "tj.fit(sim, fc_target, free)\n": 'tj.fit(sim, fc_target, free, method="simulate", max_steps=2)\n',
    "max_steps=100": "max_steps=2",
    "max_steps=20": "max_steps=2",
    "n_seeds=4": "n_seeds=1",
    "n_seeds=3": "n_seeds=1",
    "max_evaluations=200": "max_evaluations=5",
    "max_evaluations=600": "max_evaluations=5",
}


def _shortened(blocks):
    code = "\n".join(blocks)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    return code


def _ran(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_blocks_compile():
    assert len(README) + sum(map(len, PAGES.values())) >= 6
    for page in ("README.md", *PAGES):
        for index, block in enumerate(_blocks(ROOT / page, "python|py")):
            compile(block, f"{page} block {index}", "exec")


def test_each_length_that_is_reduced_is_in_a_block():
    code = "\n".join([*README, *(block for blocks in PAGES.values() for block in blocks)])
    assert [long for long in SHORTER if long not in code] == []


@pytest.mark.slow
def test_the_first_example_ends_with_a_fit_to_believe(tmp_path):
    told = _ran(README[0], tmp_path)
    assert "PASSED" in told
    fresh, of_tvb = (re.search(rf"{head}.*\n +target +(\d\.\d+)", told) for head in ("\n  fresh noise", "TVB, fresh"))
    structural = re.search(r"structural weights, target +(\d\.\d+)", told)
    assert float(fresh[1]) > 0.45 < float(of_tvb[1]) and float(structural[1]) < 0.35
    ((started, ended),) = re.findall(r"r (-?\d\.\d+) -> (\d\.\d+)", told)
    (unseen,) = re.findall(r"(\d\.\d+) on noise that the fit never saw", told)
    assert float(started) < 0.4 and float(ended) > 0.7 and float(unseen) > 0.68


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(set(PAGES) - FRAGMENTS))
def test_blocks_of_a_page_run_at_a_reduced_length(page, tmp_path):
    # A page imports all that it needs, or continues README's example.
    is_complete = "import jax\n" in PAGES[page][0]
    _ran(_shortened(PAGES[page] if is_complete else README + PAGES[page]), tmp_path)
