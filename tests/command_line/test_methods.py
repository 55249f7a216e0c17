"""The method of `tvb-jaxfit fit`: auto is the default, and options that it excludes are refused together."""

import json
import re

import pytest

from tests.command_line.conftest import FREE
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.main import main
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit


def _arguments(files, out, *more):
    return ["fit", *files.simulator(), "--fc", files.fc, "--quiet", "--out", str(out), *more]


@pytest.mark.slow
def test_the_default_reports_its_way_and_r_on_noise_that_the_fit_never_saw(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(linear_fit, "_POINTS", 8)
    monkeypatch.setattr(confirmation, "LONGEST", 26_000.0)
    out = tmp_path / "out"
    assert main(_arguments(files, out, "--free", "coupling.a:0:0.2", "--max-evaluations", "20", "--steps", "2")) == 0
    told = capsys.readouterr().out
    # Two runs by the linear response, three where the refinement was better.
    assert re.search(r"in training, \S+ on noise that the fit never saw \([23] runs of 26 s\)", told)
    assert "  way: " in told
    page = (out / "report.html").read_text()
    assert "end of the fit, fresh noise" in page and "from the best state on noise that the fit never saw" in page
    assert not (out / "checkpoint.npz").exists()
    assert json.loads((out / "values.json").read_text())["parameters"]["coupling.a"]["fitted"] != 0.05
    # The report of the stored summary is the same.
    assert main(["report", str(out), "--force"]) == 0
    assert "end of the fit, fresh noise" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("given", "has_checkpoint"),
    [
        ((), False),
        (("--patience", "3"), False),
        (("--patience", "3", "--starts", "1"), True),
        (("--method", "simulate"), True),
        (("--method", "simulate", "--starts", "2"), False),
        (("--method", "linear"), False),
        (("--method", "linear+simulate", "--starts", "3"), True),
    ],
)
def test_options_reach_the_fit(files, tmp_path, monkeypatch, given, has_checkpoint):
    seen = {}

    def fit(*_, **options):
        seen.update(options)
        raise ValueError

    monkeypatch.setattr(command, "fit", fit)
    main(_arguments(files, tmp_path / "out", *FREE, "--fit-seed", "7", *given))
    assert seen["search"].seed == 7 and (seen["run"].checkpoint is not None) == has_checkpoint
    assert seen["search"].n_starts == (int(given[-1]) if "--starts" in given else None)
    assert seen["method"] == (given[1] if "--method" in given else "auto")


def test_options_that_exclude_each_other_are_refused_together(files, tmp_path, capsys):
    both = ("--steps", "3", "--patience", "2", "--max-evaluations", "5")
    cases = {
        ("--method", "linear", *both): "--steps, --patience: only a fit through the simulation has this",
        ("--method", "simulate", *both): "--max-evaluations: only a linear fit has this",
        both: "--max-evaluations: only a linear fit has this, and --patience asks for the simulation",
        ("--resume", "--starts", "2"): "--resume: a fit from several --starts has no checkpoint",
        ("--starts", "0", "--fit-seed", "-1"): "--starts 0: give at least 1\n  - --fit-seed -1: give at least 0",
    }
    for given, said in cases.items():
        assert main(_arguments(files, tmp_path / "out", *FREE, *given)) == 2
        assert said in capsys.readouterr().err
