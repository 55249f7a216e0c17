"""README's code runs as it stands: its first example ends with a fit to believe, and its blocks follow one another."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# What takes long, at a reduced length.
SHORTER = {
    "simulation_length=120_000.0": "simulation_length=30_000.0",
    "max_steps=100": "max_steps=2",
    "max_steps=20": "max_steps=2",
    "n_seeds=4": "n_seeds=1",
    "n_seeds=3": "n_seeds=1",
    "max_evaluations=200": "max_evaluations=5",
    "window=20_000.0": "window=5_000.0",
    "0.8, 4)": "0.8, 2)",
    "0.2, 4)": "0.2, 2)",
}


def _ran(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_blocks_compile():
    assert len(BLOCKS) >= 6
    for index, block in enumerate(BLOCKS):
        compile(block, f"README block {index}", "exec")


@pytest.mark.slow
def test_the_first_example_ends_with_a_fit_to_believe(tmp_path):
    told = _ran(BLOCKS[0], tmp_path)
    assert "PASSED" in told
    fresh, of_tvb = (re.search(rf"{head}.*\n +target +(\d\.\d+)", told) for head in ("\n  fresh noise", "TVB, fresh"))
    structural = re.search(r"structural weights, target +(\d\.\d+)", told)
    assert float(fresh[1]) > 0.45 < float(of_tvb[1]) and float(structural[1]) < 0.35
    (started,) = re.findall(r"r (-?\d\.\d+) -> ", told)
    assert float(started) < 0.15


@pytest.mark.slow
def test_blocks_run_one_after_another_at_a_reduced_length(tmp_path):
    code = "\n".join(BLOCKS)
    for long, short in SHORTER.items():
        assert long in code, long
        code = code.replace(long, short)
    told = _ran(code, tmp_path)
    assert "Exploration: all 4 points done" in told and (tmp_path / "report.html").stat().st_size > 10_000
