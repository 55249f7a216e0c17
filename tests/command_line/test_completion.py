"""A shell completes commands, options and choices, without waiting for JAX or TVB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tvb_jaxfit

pytest.importorskip("argcomplete")
ROOT = Path(tvb_jaxfit.__file__).parents[1]


def _completions(line, folder):
    """(completions of a line, modules that were loaded)."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "found"), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-X", "importtime", "-m", "tvb_jaxfit"]
    done = subprocess.run(command, cwd=folder, env=os.environ | asked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    return {each.strip() for each in (folder / "found").read_text().splitlines()}, loaded


@pytest.mark.parametrize(
    "line,found",
    [
        ("tvb-jaxfit ", {"fit", "certify", "parameters", "report"}),
        ("tvb-jaxfit par", {"parameters"}),
        ("tvb-jaxfit fit --lear", {"--learning-rate"}),
        ("tvb-jaxfit fit --method ", {"simulate", "linear", "linear+simulate"}),
        ("tvb-jaxfit fit --fc f", {"fc.csv"}),
    ],
)
def test_commands_options_choices_and_files_are_completed_at_once(tmp_path, line, found):
    (tmp_path / "fc.csv").write_text("")
    completions, loaded = _completions(line, tmp_path)
    assert found <= completions and "argcomplete" in loaded
    assert not {"numpy", "jax", "tvb"} & loaded


def test_argcomplete_is_loaded_only_for_completion():
    probe = (
        "import sys; from tvb_jaxfit.command.main import main; main(['--version']); print('argcomplete' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
