"""Command-line options of the demos while the gallery is made."""

import os
from pathlib import Path

_OUTPUTS = Path(__file__).parents[1] / "_build" / "demos"
_FILES = {
    "plot_1_fit_resting_state": ("--figure", "fit_resting_state.png"),
    "plot_2_linear_response": ("--figure", "linear_response.png"),
    "plot_3_seed_workflow": ("--out", "seed_workflow"),
}


def demo_options(gallery_conf, script_vars):
    """Options of one demo: its files go below docs/_build; the environment variable DEMO adds others."""
    _OUTPUTS.mkdir(parents=True, exist_ok=True)
    option, name = _FILES[Path(script_vars["src_file"]).stem]
    return [option, str(_OUTPUTS / name), *os.environ.get("DEMO", "").split()]
