"""Demos are notebooks, too: prose and code become cells, and each runs at a reduced length and shows its figures."""

import ast
import itertools
import sys
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
# Demo: options of a reduced run, number of figures, and a part of its last output.
REDUCED = {
    "plot_1_fit_resting_state": ("--evaluations 4 --minutes 0.5", 1, "regional, by TVB r"),
    "plot_2_linear_response": ("--evaluations 15 --minutes 0.2", 1, "of fresh noise: r"),
    "plot_3_seed_workflow": ("--quick", 11, "linear response"),
    "plot_4_inhibition_and_maps": ("--evaluations 2 --runs 1 --frames 120", 1, "TVB, against the second group"),
    "plot_5_effective_connectivity": ("--minutes 2 --evaluations 4", 1, "nobody has used: r"),
    "plot_6_cohort": ("--subjects 2 --evaluations 4 --workers 1", 1, "second call:"),
    "plot_7_what_fc_determines": ("--evaluations 30 --draws 5", 5, "r with the data, TVB"),
}


def test_each_demo_has_its_reduced_run():
    assert sorted(REDUCED) == sorted(path.stem for path in (ROOT / "demos").glob("*.py"))


@pytest.mark.parametrize("demo", REDUCED)
def test_prose_and_code_become_cells(demo):
    cells = jupytext.read(ROOT / "demos" / f"{demo}.py").cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert len(prose) > 4 and prose[0].splitlines()[1].startswith("===")
    assert all(source.splitlines()[1].startswith("---") for source in prose[1:])
    for before, cell in itertools.pairwise(cells):
        # Each section of code has its prose before it.
        assert {before.cell_type, cell.cell_type} == {"markdown", "code"} or before is cells[0]
        if cell.cell_type == "code":
            compile(cell.source, demo, "exec")


@pytest.mark.parametrize("demo", REDUCED)
def test_no_cell_ends_with_a_run_whose_samples_a_notebook_would_print(demo):
    for cell in jupytext.read(ROOT / "demos" / f"{demo}.py").cells:
        body = ast.parse(cell.source).body if cell.cell_type == "code" else []
        if body and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, ast.Call):
            called = ast.unparse(body[-1].value.func)
            is_silent = called in ("print", "save_figure", "tj.write_back", "tj.show_parameters")
            assert is_silent or called.endswith(".update")


@pytest.mark.slow
@pytest.mark.parametrize("demo", REDUCED)
def test_each_notebook_runs_and_shows_its_figures(demo, tmp_path, monkeypatch):
    options, n_figures, last_output = REDUCED[demo]
    monkeypatch.setenv("DEMO", options)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = jupytext.read(ROOT / "demos" / f"{demo}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": sys.executable, "language": "python"}
    # An error in a cell is raised here.
    try:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    except CellExecutionError as error:
        if "'pip', 'download'" in error.evalue:
            pytest.skip(f"{demo}: its data cannot be downloaded here")
        raise
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == n_figures
    shown = [str(output.get("data", {}).get("text/plain", "")) for output in outputs]
    assert all("array(" not in text and len(text) < 500 for text in shown)
    assert last_output in "".join(output.get("text", "") for output in outputs)
    # Figures are files as well, in the folder in which the demo ran.
    assert len(list(tmp_path.rglob("*.png"))) == n_figures
