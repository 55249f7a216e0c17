"""Command-line options of the demos while the gallery is made, and pages without progress bars."""

import os
from pathlib import Path

import tqdm

_OUTPUTS = Path(__file__).parents[1] / "_build" / "demos"
# Demo: option for its outputs, their name, and options that reduce it to a check (environment variable GALLERY=quick).
_DEMOS = {
    "plot_1_fit_resting_state": ("--figure", "fit_resting_state.png", "--steps 2 --seconds 30"),
    "plot_2_linear_response": ("--figure", "linear_response.png", "--evaluations 15 --minutes 0.5"),
    "plot_3_seed_workflow": ("--out", "seed_workflow", "--quick"),
    "plot_4_inhibition_and_maps": ("--figure", "inhibition_and_maps.png", "--evaluations 2 --runs 1 --frames 120"),
    "plot_5_effective_connectivity": ("--figure", "effective_connectivity.png", "--minutes 2 --evaluations 4"),
    "plot_6_cohort": ("--out", "cohort", "--subjects 2 --evaluations 4 --workers 1"),
    "plot_7_what_fc_determines": ("--out", "what_fc_determines", "--evaluations 30 --draws 5"),
}

# A page would show every update of a bar, one after the other.
tqdm.tqdm.status_printer = staticmethod(lambda file: lambda text: None)


def demo_options(gallery_conf, script_vars):
    """Options of one demo: its files go below docs/_build."""
    _OUTPUTS.mkdir(parents=True, exist_ok=True)
    option, name, quick = _DEMOS[Path(script_vars["src_file"]).stem]
    reduced = quick.split() if os.environ.get("GALLERY") == "quick" else []
    return [option, str(_OUTPUTS / name), *reduced]
