"""tvb-jaxfit parameters lists the parameters that can be fitted, with TVB's units and domains."""

import numpy as np
import pytest

from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.options import parser
from tvb_jaxfit.command.simulator import make_simulator
from tvb_jaxfit.translate.parameter_map import parameter_map

SCRIPT = """
from tvb.simulator.lab import connectivity, models, monitors, simulator

sim = simulator.Simulator(
    connectivity=connectivity.Connectivity.from_file({connectome!r}),
    model=models.Generic2dOscillator(),
    monitors=[monitors.Raw()],
)
"""


def _rows(text):
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["path", "shape", "value", "unit"] and set(lines[1]) == {"-", " "}
    return {line.split()[0]: line.split()[1:] for line in lines[2:]}


def test_everything_that_can_be_fitted_is_listed(files, capsys):
    made = ["--connectivity", files.connectome, "--set", "model.w=0.1,0.2,0.3,0.4,0.9", "--set", "coupling.a=0.05"]
    assert main(["parameters", *made]) == 0
    rows = _rows(capsys.readouterr().out)
    sim = make_simulator(parser().parse_args(["certify", *made]))
    assert set(rows) == {leaf.path for leaf in parameter_map(sim)} >= {"integrator.noise.nsig", "connectivity.weights"}
    assert rows["model.w"] == ["5", "0.1", "..", "0.3", "..", "0.9", "[0,", "1]"]
    assert rows["model.I_o"] == ["1", "0.33", "[nA]", "[0,", "1]"]
    assert rows["coupling.a"][:2] == ["1", "0.05"] and rows["connectivity.weights"][0] == "5x5"
    low, high = (float(each) for each in (rows["model.w"][1], rows["model.w"][5]))
    np.testing.assert_array_equal(sim.model.w[[0, -1]], [low, high])


@pytest.mark.parametrize("name", ["--simulator", "--connectivity"])
def test_the_simulator_can_come_from_a_script_or_from_options(files, tmp_path, capsys, name):
    (tmp_path / "mine.py").write_text(SCRIPT.format(connectome=files.connectome))
    of_options = [files.connectome, "--model", "Generic2dOscillator", "--variable", "V", "--nsig", "1e-4"]
    made = [str(tmp_path / "mine.py")] if name == "--simulator" else of_options
    assert main(["parameters", name, *made]) == 0
    rows = _rows(capsys.readouterr().out)
    assert {"model.tau", "model.gamma", "coupling.a"} <= set(rows)
    assert ("integrator.noise.nsig" in rows) == (name == "--connectivity")


def test_an_unsupported_simulator_is_refused(files, capsys):
    assert main(["parameters", "--connectivity", files.connectome, "--integrator", "VODEStochastic"]) == 2
    assert "VODEStochastic" in capsys.readouterr().err
