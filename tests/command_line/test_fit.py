"""tvb-jaxfit fit gives the results of the same script, writes all of them, and loses no file of the user."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit
from tests.command_line.conftest import FIT, FREE, LABELS, N_NODE
from tests.uncertainty.conftest import errors_of
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command import main as program
from tvb_jaxfit.command.folder import read_summary
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.outcome import Refused
from tvb_jaxfit.errors import FitFailed
from tvb_jaxfit.fitting.checkpoint import NewCheckpointPath
from tvb_jaxfit.fitting.result import FitResult
from tvb_jaxfit.fitting.stopping import StopKind, StopReason
from tvb_jaxfit.parameters import with_values

FILES = {"values.json", "values.npz", "fc.npy", "history.csv", "fit.npz", "report.html", "checkpoint.npz"}
SCRIPT = """
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

white_matter = connectivity.Connectivity.from_file({connectome!r})
white_matter.weights = white_matter.weights / white_matter.weights.max()
white_matter.speed = np.array([5.0])
mine = simulator.Simulator(
    connectivity=white_matter,
    model=models.ReducedWongWang(w=np.array([0.6]), I_o=np.array([0.3, 0.31, 0.3, 0.3, 0.3])),
    coupling=coupling.Linear(a=np.array([0.05])),
    integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([1e-5]), noise_seed=3)),
    monitors=[monitors.Bold(period=500.0)],
    simulation_length=26_000.0,
)
number = 3
if __name__ == "__main__":
    raise SystemExit("the simulator alone is asked for")
"""


@pytest.fixture
def script(files, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT.format(connectome=files.connectome))
    return path


def _values(folder):
    with np.load(folder / "values.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def instead(monkeypatch, done):
    """Function that makes fit() return the finished result, with changes, at once."""

    def give(**changes):
        result = replace(done.result, evaluation=None, **changes)
        monkeypatch.setattr(command, "fit", lambda *_, **__: result)
        return result

    return give


def test_everything_is_written_and_the_exit_code_says_done(done):
    assert done.code == 0
    assert {path.name for path in done.folder.iterdir()} == FILES


def test_values_are_those_of_the_fit_in_every_file(done):
    best, told = done.result.best, json.loads((done.folder / "values.json").read_text(encoding="utf-8"))
    values = _values(done.folder)
    assert set(values) == set(told["parameters"]) == {"coupling.a", "model.w"}
    assert told["regions"] == LABELS
    for path, array in {"coupling.a": best.coupling.a.value, "model.w": best.model.w.value}.items():
        np.testing.assert_array_equal(values[path], array)
        np.testing.assert_array_equal(told["parameters"][path]["fitted"], array)
    np.testing.assert_array_equal(told["parameters"]["model.w"]["initial"], np.full(N_NODE, 0.6))
    assert np.ptp(values["model.w"]) > 0.0 and values["coupling.a"] != 0.05
    np.testing.assert_array_equal(np.load(done.folder / "fc.npy"), done.result.fc())


def test_the_history_is_that_of_the_fit(done):
    rows = list(csv.DictReader((done.folder / "history.csv").open()))
    np.testing.assert_array_equal([float(row["loss"]) for row in rows], done.result.loss)
    np.testing.assert_array_equal([float(row["r"]) for row in rows], done.result.r)
    steps, values = done.result.history.validation
    looked = {int(row["step"]): float(row["validation"]) for row in rows if row["validation"]}
    assert looked == dict(zip(steps.tolist(), values.tolist(), strict=True)) and len(looked) == 2
    unseen = [float(row["validation r"]) for row in rows if row["validation r"]]
    np.testing.assert_array_equal(unseen, done.result.history.validation.aux["r"])


def test_the_simulator_is_the_one_that_the_options_say(done):
    sim = done.sim
    assert sim.connectivity.weights.max() == 1.0 and sim.connectivity.speed == [5.0]
    np.testing.assert_array_equal(sim.model.I_o, [0.3, 0.31, 0.3, 0.3, 0.3])
    assert sim.coupling.a == [0.05] and sim.integrator.dt == 4.0 and sim.integrator.noise.nsig == [1e-5]
    assert sim.monitors[0].period == 500.0 and sim.simulation_length == 26_000.0


@pytest.mark.slow
def test_a_script_with_the_same_simulator_gives_the_same_fit(files, done, script, tmp_path, capsys):
    assert files.fit(tmp_path / "out", simulator=["--simulator", f"{script}:mine"]) == 0
    for path, values in _values(tmp_path / "out").items():
        np.testing.assert_array_equal(values, _values(done.folder)[path])
    assert "FitResult: ReducedWongWang, 5 regions" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fit_that_is_interrupted_is_written_and_goes_on_to_the_same_end(files, done, tmp_path, monkeypatch):
    def interrupt(step, state, loss, gradients):
        if step == 1:
            raise KeyboardInterrupt

    real, out = command.fit, tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(
            command, "fit", lambda *a, run, **options: real(*a, run=replace(run, callback=interrupt), **options)
        )
        assert files.fit(out, "--evaluate", "2") == 130
    # It was interrupted at its second step; the first one is the best.
    assert {path.name for path in out.iterdir()} == FILES
    np.testing.assert_array_equal(_values(out)["model.w"], np.full(N_NODE, 0.6))
    assert "interrupted after" in (out / "report.html").read_text()
    assert files.fit(out, "--resume") == 0
    for path, values in _values(done.folder).items():
        np.testing.assert_array_equal(_values(out)[path], values)


def test_the_report_has_the_command_the_evaluation_and_the_certificate(done):
    text = (done.folder / "report.html").read_text()
    assert f"--simulation-length 26000 --fc {done.folder.parent / 'fc.csv'} --free coupling.a" in text
    assert "Certificate: PASSED" in text and "TVB, fresh noise, 1 run" in text
    assert f"{done.result.evaluation.mean():.4f}" in text and "optax.adam(0.02)" in text


def test_a_report_names_the_options_for_its_missing_parts(files, tmp_path, instead):
    instead()
    assert files.fit(tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<code>--evaluate 8 --tvb</code>" in text and "<code>--certify</code>" in text


@pytest.mark.slow
def test_a_report_made_anew_is_the_same_page(done, tmp_path, capsys):
    page = (done.folder / "report.html").read_bytes()
    assert main(["report", str(done.folder), "--to", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == page
    assert main(["report", str(done.folder)]) == 2
    assert "exists; give --force" in capsys.readouterr().err
    (tmp_path / "other.html").write_text("mine")
    assert main(["report", str(done.folder), "--to", str(tmp_path / "other.html"), "--force"]) == 0
    assert (tmp_path / "other.html").read_bytes() == page == (done.folder / "report.html").read_bytes()


def test_a_folder_without_a_fit_has_no_report(tmp_path, capsys):
    (tmp_path / "fit.npz").write_bytes(b"something else")
    assert main(["report", str(tmp_path)]) == main(["report", str(tmp_path / "nowhere")]) == 2
    told = capsys.readouterr().err
    assert told.count("there is no fit of tvb-jaxfit fit to report on") == 2 and "Traceback" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"fit.npz"}


def test_existing_files_are_refused_before_any_work(files, done, tmp_path, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in done.folder.iterdir()}
    monkeypatch.setattr(program, "_set_precision", lambda _: pytest.fail("refused before any work"))
    assert files.fit(done.folder) == 2
    assert "exist; name another folder, or give --force" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in done.folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    assert files.fit(tmp_path / "file" / "out") == 2
    assert files.fit(tmp_path / "new", "--resume") == 2
    assert "there is no checkpoint.npz" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_force_replaces_what_a_fit_has_written_and_a_refused_fit_does_not(files, done, tmp_path, monkeypatch, instead):
    shutil.copytree(done.folder, tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refused(*_, run, **__):
        assert isinstance(run.checkpoint, NewCheckpointPath) and not run.resume
        raise Refused("free: no such thing")

    monkeypatch.setattr(command, "fit", refused)
    assert files.fit(tmp_path, "--force") == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    instead()
    assert files.fit(tmp_path, "--force") == 0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    # A checkpoint of another fit could be resumed by mistake.
    assert not (tmp_path / "checkpoint.npz").exists() and (tmp_path / "values.npz").exists()
    assert (tmp_path / "fit.npz").read_bytes() != before["fit.npz"]


def _full(monkeypatch, is_full):
    """Make the disk full at each writing, counted from 1, for which ``is_full`` is true."""
    real, done = os.fsync, []

    def fsync(file):
        done.append(file)
        if is_full(len(done)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("room", [0, 2, 4])
@pytest.mark.parametrize("former", ["", "of another fit"])
def test_on_a_full_disk_all_results_are_written_or_none(
    files, tmp_path, instead, monkeypatch, capsys, former, room, done
):
    """The folder never has results of two fits."""
    instead()
    for name in FILES - {"checkpoint.npz"} if former else ():
        shutil.copy(done.folder / name, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # The first writing is the trial before the fit.
    _full(monkeypatch, lambda n: n > 1 + room)
    assert files.fit(tmp_path, *["--force"] * bool(former)) == 2
    told = capsys.readouterr().err
    assert f"--out {tmp_path}: results could not be written (" in told and "No space left on device" in told
    assert "Traceback" not in told and "--resume" not in told
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(before) == (len(FILES) - 1 if former else 0)


@pytest.mark.slow
def test_on_a_full_disk_the_report_of_a_former_fit_is_removed(files, tmp_path, instead, monkeypatch, capsys, done):
    result = instead()
    monkeypatch.setattr(command, "fit", lambda *_, run, **__: run.checkpoint.write_text("of this fit") and result)
    shutil.copy(done.folder / "report.html", tmp_path)
    _full(monkeypatch, lambda n: (tmp_path / "fit.npz").exists())
    assert files.fit(tmp_path, "--force") == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and "with room, --resume continues from its checkpoint.npz" in told
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"report.html"}
    np.testing.assert_array_equal(_values(tmp_path)["model.w"], result.best.model.w.value)
    monkeypatch.undo()
    assert main(["report", str(tmp_path)]) == 0 and (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_no_result_of_a_former_fit_is_left_beside_those_of_another(files, tmp_path, instead, done):
    shutil.copytree(done.folder, tmp_path, dirs_exist_ok=True)
    instead(best=with_values(done.result.best, {"coupling.a": np.full(1, np.nan)}))
    assert files.fit(tmp_path, "--force") == 0
    assert not (tmp_path / "fc.npy").exists() and (tmp_path / "values.npz").exists()


def test_the_group_is_a_baseline_of_the_evaluation(files, tmp_path, instead, done, capsys):
    random, paths, found = np.random.default_rng(1), [], instead()
    for i in range(2):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], np.corrcoef(random.normal(size=(N_NODE, 30))))
    # The target itself is left out of the group.
    with pytest.warns(UserWarning, match="^group: left out"):
        assert files.fit(tmp_path / "out", "--evaluate", "1", "--group", *paths, files.fc) == 0
    off = ~np.eye(N_NODE, dtype=bool)
    mean = np.mean([np.load(path) for path in paths], axis=0)
    expected = np.corrcoef(mean[off], done.result.target[off])[0, 1]
    assert found.evaluation.group_baseline == {"target": pytest.approx(expected, rel=1e-12)}
    shown = f"{expected:.4f}"
    assert shown in capsys.readouterr().out and shown in (tmp_path / "out" / "report.html").read_text()
    assert read_summary(tmp_path / "out").evaluation.group_baseline == found.evaluation.group_baseline


def test_another_group_is_refused_before_the_fit(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "fit", lambda *_, **__: pytest.fail("refused before the fit"))
    np.save(tmp_path / "other.npy", np.corrcoef(np.random.default_rng(1).normal(size=(4, 30))))
    for group, message in ((str(tmp_path / "other.npy"), "group: shape (4, 4)"), (files.fc, "FC of 'target' itself")):
        assert files.fit(tmp_path / "out", "--evaluate", "1", "--group", group) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert files.fit(tmp_path / "out", "--evaluate", "1", "--group", "nowhere.npy") == 2
    assert "--group nowhere.npy: No such file" in capsys.readouterr().err


def test_an_evaluation_that_is_refused_leaves_the_results_of_the_fit(files, tmp_path, instead, monkeypatch, capsys):
    instead()

    def refused(self, **_):
        raise Refused("evaluate: the simulator is deterministic")

    monkeypatch.setattr(FitResult, "evaluate", refused)
    assert files.fit(tmp_path / "out", "--evaluate", "2") == 2
    assert "the simulator is deterministic" in capsys.readouterr().err
    assert {"values.npz", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_standard_errors_are_in_the_report_and_in_the_values(files, tmp_path, instead, monkeypatch, capsys):
    result, asked = instead(), []
    values = {"coupling.a": 0.05, "model.w": np.asarray(result.best.model.w.value)}
    errors = {"coupling.a": 0.01, "model.w": np.array([0.02, 0.28, 0.03, 0.28, 0.05])}
    record = errors_of(values, errors, {"coupling.a": 0.1, "model.w": np.full(5, 0.29)}, n_regions=5)

    def identifiability(self, length):
        asked.append(length)
        self.standard_errors = record
        return record

    monkeypatch.setattr(FitResult, "identifiability", identifiability)
    out = tmp_path / "out"
    assert files.fit(out, "--standard-errors", "300000") == 0
    assert asked == [300_000.0] and repr(record) in capsys.readouterr().out
    assert "Determined by FC" in (out / "report.html").read_text()
    stored = json.loads((out / "values.json").read_text(encoding="utf-8"))["parameters"]["model.w"]
    assert stored["determined"] == [True, False, True, False, True]
    # The report is made again from the files.
    assert read_summary(out).standard_errors.summary() == record.summary()

    def refused(self, length):
        asked.append(length)
        raise Refused("identifiability: no stable fixed point")

    monkeypatch.setattr(FitResult, "identifiability", refused)
    instead()
    assert files.fit(tmp_path / "refused", "--standard-errors") == 2 and asked[1:] == [None]
    assert "no stable fixed point" in capsys.readouterr().err and (tmp_path / "refused" / "report.html").exists()


def test_a_certificate_that_does_not_pass_is_the_exit_code(files, done, tmp_path, instead, monkeypatch):
    instead()
    real = command.certify_fit
    monkeypatch.setattr(command, "certify_fit", lambda result: replace(real(result), tolerance=0.0))
    assert files.fit(tmp_path / "out", "--certify") == 1
    assert "Certificate: FAILED" in (tmp_path / "out" / "report.html").read_text()


def test_a_fit_without_a_finite_loss_fails_and_is_written(files, done, tmp_path, instead):
    history = replace(
        done.result.history,
        loss=np.array([]),
        aux={},
        best_step=0,
        stop_reason=StopReason(StopKind.DIVERGED, detail="the loss was nan"),
    )
    instead(history=history, best=done.result.initial)
    assert files.fit(tmp_path / "out", "--evaluate", "2") == 1
    assert "the loss was nan" in (tmp_path / "out" / "report.html").read_text()


def test_a_diverged_fit_fails_and_its_best_state_is_written_with_the_reason(files, done, tmp_path, instead, capsys):
    instead(history=replace(done.result.history, diverged="the loss was nan after 3 updates. x becomes inf"))
    assert files.fit(tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "the fit diverged; its best step before is kept: the loss was nan after 3 updates" in told.err
    assert "DIVERGED: the loss was nan after 3 updates. x becomes inf" in told.out
    assert "x becomes inf" in json.loads((tmp_path / "out" / "values.json").read_text())["diverged"]
    assert "the fit diverged" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((done.folder / "values.json").read_text())["diverged"] == ""


def test_a_failed_fit_keeps_the_linear_fit_before_it(files, done, tmp_path, monkeypatch, capsys):
    failed = FitFailed("fit: the loss was nan after 0 updates")

    def fails(*_, **__):
        raise failed

    monkeypatch.setattr(command, "fit", fails)
    assert files.fit(tmp_path / "alone") == 1 and not (tmp_path / "alone").exists()
    assert "the loss was nan after 0 updates" in capsys.readouterr().err
    failed.linear_stage = done.result
    assert files.fit(tmp_path / "after") == 1 and (tmp_path / "after" / "values.npz").exists()
    assert "the loss was nan after 0 updates" in capsys.readouterr().err


def test_an_interrupted_evaluation_costs_nothing_of_the_fit(files, tmp_path, instead, monkeypatch):
    instead()

    def interrupted(self, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FitResult, "evaluate", interrupted)
    assert files.fit(tmp_path / "out", "--evaluate", "2") == 130
    assert {"values.npz", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_an_interrupt_before_the_fit_is_no_traceback(files, tmp_path, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_fc", interrupted)
    assert files.fit(tmp_path / "out") == 130
    assert capsys.readouterr().err == "tvb-jaxfit: interrupted\n" and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_in_a_process_of_its_own_and_in_single_precision(files, done, tmp_path):
    """The whole command in a process of its own, with a short simulation."""
    arguments = ["fit", *files.simulator(), "--fc", files.fc, *FREE, *FIT, "--float32", "--out", str(tmp_path / "out")]
    root = Path(tvb_jaxfit.__file__).parents[1]
    command = [sys.executable, "-m", "tvb_jaxfit", *arguments]
    done_there = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=500)
    assert done_there.returncode == 0, done_there.stderr
    assert (
        "Traceback" not in done_there.stderr
        and " - WARNING - " not in done_there.stdout
        and " - INFO - " not in done_there.stdout
    )
    single, double = _values(tmp_path / "out"), _values(done.folder)
    assert single["model.w"].dtype == np.float32 and double["model.w"].dtype == np.float64
    told = json.loads((tmp_path / "out" / "values.json").read_text())
    assert told["versions"]["precision"] == "float32"
    assert np.all((single["model.w"] > 0.0) & (single["model.w"] < 1.0)) and np.ptp(single["model.w"]) > 0.0
    # New noise differs in single precision; TVB's own draws are the same.
    ours, theirs = (read_summary(folder).matrices["Initial"] for folder in (tmp_path / "out", done.folder))
    assert ours.dtype == theirs.dtype and 0.0 < np.max(np.abs(ours - theirs)) < 1e-3
