"""A fit is resumed with the same options only; changed options are named, with their values before and now."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tvb_jaxfit.command import main as program
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.options import parser
from tvb_jaxfit.command.resume import determining_options
from tvb_jaxfit.persistence.serialise import write

FC = np.array([[1.0, 0.25, 0.5], [0.25, 1.0, -0.125], [0.5, -0.125, 1.0]])
BEGUN = {
    "connectivity": "76",
    "fc": "fc.csv",
    "free": ["coupling.a", "model.w:regional:0:1"],
    "set": ["model.I_o=0.3", "model.J_N=@j.npy"],
    "map": ["model.tau_s=maps.csv:m"],
    "balance": ["model.gamma"],
    "dt": "4",
    "method": "simulate",
    "out": "out",
    "learning-rate": "0.02",
}
WITH_A_SCRIPT = {"simulator": "sim.py", "fc": "fc.csv", "free": ["coupling.a"], "out": "out"}


def _given(options):
    """Arguments of a command; an option that is None is left out."""
    arguments = ["fit"]
    for name, value in options.items():
        for text in [value] if isinstance(value, (str, bool)) else value or []:
            arguments += [f"--{name}"] if text is True else [f"--{name}", text]
    return arguments


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Working directory with all files."""
    monkeypatch.chdir(tmp_path)
    np.savetxt("fc.csv", FC, delimiter=",")
    np.savetxt("other.csv", FC * 0.5 + 0.5 * np.eye(3), delimiter=",")
    np.save("j.npy", np.array([0.2609]))
    Path("maps.csv").write_text("m,g\n1,2\n3,1\n2,2\n")
    Path("sim.py").write_text("sim = None")
    shutil.copy("fc.csv", "copy.csv")
    shutil.copy("sim.py", "moved.py")


def _begin(options):
    """Write a checkpoint as a fit with these options would write it, as far as it is read here."""
    write(
        "out/checkpoint.npz",
        {"notes": determining_options(parser().parse_args(_given(options)))},
        "checkpoint of a fit",
    )


def _resume(options, monkeypatch):
    """Exit code up to the fit itself, which is not run."""
    with monkeypatch.context() as patch:
        patch.setattr(program, "_set_precision", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        return main([*_given(options), "--resume"])


SAME = {
    "the same": {},
    "what does not decide": {
        "steps": "500",
        "evaluate": "4",
        "tvb": True,
        "group": "copy.csv",
        "certify": True,
        "quiet": True,
    },
    "other words": {"learning-rate": "2e-2", "dt": "4.0", "set": ["model.J_N=@j.npy", "model.I_o=0.30"]},
    "another order": {"free": ["model.w:regional:0:1", "coupling.a"]},
    "a default": {"seed": "42", "method": "simulate", "simulation-length": "120000"},
    "the file by another name": {"fc": "copy.csv"},
}
CHANGED = {
    "learning rate": ({"learning-rate": "0.5"}, ["--learning-rate: 0.02 before, 0.5 now"]),
    "no learning rate": ({"learning-rate": None}, ["--learning-rate: 0.02 before, 0.01 now"]),
    "step": ({"dt": None}, ["--dt: 4 before, 1 now"]),
    "precision": ({"float32": True}, ["--float32: not given before, given now"]),
    "free": (
        {"free": ["coupling.a:0:", "model.I_o"]},
        [
            "--free coupling.a: coupling.a before, coupling.a:0: now",
            "--free model.w: model.w:regional:0:1 before, not given now",
            "--free model.I_o: not given before, model.I_o now",
        ],
    ),
    "set": (
        {"set": ["model.I_o=0.31", "model.J_N=@j.npy"]},
        ["--set model.I_o: model.I_o=0.3 before, model.I_o=0.31 now"],
    ),
    "map": (
        {"map": ["model.tau_s=maps.csv:g"]},
        ["--map model.tau_s: model.tau_s=maps.csv:m before, model.tau_s=maps.csv:g now"],
    ),
    "balance": (
        {"balance": ["model.gamma=2"]},
        ["--balance model.gamma: model.gamma before, model.gamma=2 now"],
    ),
    "FC": ({"fc": "other.csv"}, ["--fc: fc.csv before, other.csv now"]),
    "several": (
        {"seed": "7", "patience": "3", "connectivity": "68"},
        [
            "--seed: 42 before, 7 now",
            "--patience: the default before, 3 now",
            "--connectivity: 76 before, 68 now",
        ],
    ),
    "method": (
        {"method": "linear+simulate"},
        ["--method: simulate before, linear+simulate now"],
    ),
    "a script": (
        {"connectivity": None, "set": None, "dt": None, "simulator": "sim.py"},
        ["--simulator: the default before, sim.py now", "--connectivity: 76 before, the default now"],
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_options_that_do_not_determine_the_fit_may_change(name, monkeypatch, capsys):
    _begin(BEGUN)
    assert _resume(BEGUN | SAME[name], monkeypatch) == 130
    assert capsys.readouterr().err == "tvb-jaxfit: interrupted\n"


@pytest.mark.parametrize("name", CHANGED)
def test_changed_options_are_refused_with_both_values(name, monkeypatch, capsys):
    changes, said = CHANGED[name]
    _begin(BEGUN)
    before = Path("out/checkpoint.npz").read_bytes()
    assert _resume(BEGUN | changes, monkeypatch) == 2
    told = capsys.readouterr().err
    for each in said:
        assert f"  - {each}\n" in told
    assert "checkpoint.npz is of a fit with other options. Give them as they were" in told
    assert told.count("\n  - ") >= len(said) + 1 and Path("out/checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize("file,option", [("fc.csv", "--fc"), ("j.npy", "--set model.J_N")])
def test_a_file_with_another_content_is_named(file, option, monkeypatch, capsys):
    _begin(BEGUN)
    if file == "fc.csv":
        shutil.copy("other.csv", "fc.csv")
    else:
        np.save("j.npy", np.array([0.3]))
    assert _resume(BEGUN, monkeypatch) == 2
    assert f"  - {option}: the file has another content now than before\n" in capsys.readouterr().err


def test_a_script_may_be_moved_or_changed(monkeypatch):
    _begin(WITH_A_SCRIPT)
    assert _resume(WITH_A_SCRIPT | {"simulator": "moved.py"}, monkeypatch) == 130
    Path("sim.py").write_text("# the same simulator\nsim = None")
    assert _resume(WITH_A_SCRIPT, monkeypatch) == 130


def test_a_checkpoint_of_a_former_version_is_compared_by_the_fit(monkeypatch):
    write("out/checkpoint.npz", {"form": 2}, "checkpoint of a fit")
    assert _resume(BEGUN | {"seed": "7"}, monkeypatch) == 130


def test_a_linear_stage_depends_on_more(monkeypatch, capsys):
    both = BEGUN | {"method": "linear+simulate", "learning-rate": None}
    _begin(both)
    assert _resume(both, monkeypatch) == 130
    capsys.readouterr()
    assert _resume(both | {"steps": "500", "max-evaluations": "7"}, monkeypatch) == 2
    told = capsys.readouterr().err
    assert "--steps: 100 before, 500 now" in told and "--max-evaluations: 600 before, 7 now" in told
