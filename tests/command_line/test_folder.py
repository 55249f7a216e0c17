"""Outputs replace files of a former fit only: no input, and no other file of the user."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from tests.command_line.conftest import FIT, FREE
from tvb_jaxfit.command import main as program
from tvb_jaxfit.command.folder import check_writable, foreign_files, read_summary, write_results
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.outcome import ExitCode, Refused
from tvb_jaxfit.persistence import serialise as store

NAMES = ["values.json", "values.npz", "fc.npy", "history.csv", "fit.npz", "report.html", "checkpoint.npz"]


@pytest.fixture(scope="module")
def written(files):
    """A folder of a fit."""
    assert files.fit(files.folder / "written") == ExitCode.DONE
    return files.folder / "written"


@pytest.fixture
def former(written, tmp_path):
    """A writable copy of the folder of a fit."""
    shutil.copytree(written, tmp_path / "former")
    return tmp_path / "former"


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _refused(capsys, folder, *arguments):
    """Standard error of a command that is refused before the fit, and leaves the folder unchanged."""
    before = _contents(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "_set_precision", lambda _: pytest.fail("refused before any work"))
        assert main([*arguments, "--out", str(folder)]) == 2
    assert _contents(folder) == before
    return capsys.readouterr().err


def _fit(files, **options):
    given = {"--connectivity": files.connectome, "--fc": files.fc} | options
    return ["fit", *(text for pair in given.items() for text in pair), *FREE, *FIT]


def test_files_of_a_fit_are_recognised(former):
    assert foreign_files(former) == []
    check_writable(former, force=True, resume=False)
    check_writable(former, force=False, resume=True)
    assert sorted(_contents(former)) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["--force", "--resume"])
def test_a_users_file_with_the_name_of_a_result_is_not_replaced(files, former, capsys, name, how):
    if how == "--resume" and name == "checkpoint.npz":
        pytest.skip("there is nothing to go on from then")
    (former / name).write_bytes(b"mine")
    told = _refused(capsys, former, *_fit(files), how)
    assert name in told and "not as a fit has written it" in told


@pytest.mark.parametrize("name", NAMES)
def test_a_users_file_alone_in_a_folder_is_not_replaced(files, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"mine")
    assert f"{name} is not as a fit has written it" in _refused(capsys, tmp_path, *_fit(files), "--force")


def test_a_result_that_was_changed_is_not_replaced(former):
    with open(former / "history.csv", "a") as file:
        file.write("a note\n")
    assert foreign_files(former) == ["history.csv"]


def test_a_folder_with_the_name_of_a_result_is_not_replaced(tmp_path):
    (tmp_path / "fc.npy").mkdir()
    assert foreign_files(tmp_path) == ["fc.npy"]


@pytest.mark.parametrize("how", ["--force", "--resume", None])
def test_no_output_replaces_an_input(files, former, capsys, how):
    """A file of a former fit is an input like any other."""
    options = _fit(files, **{"--fc": str(former / "fc.npy")})
    told = _refused(capsys, former, *options, *[how] * (how is not None))
    assert "fc.npy is the input of --fc, and no output replaces an input" in told


def test_no_output_replaces_an_input_given_by_a_link_or_with_a_key(files, former, tmp_path, capsys):
    (tmp_path / "link.npz").symlink_to(former / "values.npz")
    setting = ["--set", f"model.w=@{tmp_path / 'link.npz'}:model.w"]
    told = _refused(capsys, former, *_fit(files), *setting, "--force")
    assert "values.npz is the input of --set model.w" in told
    shutil.copy(files.fc, former / "fc.csv")
    check_writable(former, force=True, resume=False, inputs={"--fc": former / "fc.csv"})


def test_a_users_page_is_not_replaced_by_a_report(former, capsys):
    (former / "report.html").write_text("mine")
    assert main(["report", str(former), "--force"]) == 2
    assert "was not written as a report" in capsys.readouterr().err
    assert (former / "report.html").read_text() == "mine"


@pytest.mark.parametrize("n", range(6))
def test_a_crash_leaves_all_of_a_former_fit_or_none(former, monkeypatch, n):
    """A crash after n files were renamed; the next reader completes the renaming."""
    account, before, replace, done = read_summary(former), _contents(former), os.replace, []

    class Crash(BaseException):
        pass

    def crashing(*paths):
        if len(done) == n:
            raise Crash
        done.append(paths)
        replace(*paths)

    changed = dataclasses.replace(account, created="another day")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crashing)
        try:
            write_results(former, changed)
        except Crash:
            assert n < 5
    assert read_summary(former).created == "another day"
    assert sorted(_contents(former)) == sorted(set(NAMES) - {"report.html"}) and foreign_files(former) == []
    assert _contents(former)["fit.npz"] != before["fit.npz"]


def test_a_summary_of_a_former_version_is_read_and_its_files_are_not_replaced(former):
    account = read_summary(former)
    store.write(former / "fit.npz", account, "summary of a fit")
    assert read_summary(former).created == account.created
    assert set(foreign_files(former)) == {"values.json", "values.npz", "fc.npy", "history.csv"}
    with pytest.raises(Refused, match="not as a fit has written it"):
        check_writable(former, force=True, resume=False)


def test_the_trial_of_a_folder_leaves_no_file(tmp_path):
    check_writable(tmp_path / "new" / "out", force=False, resume=False)
    check_writable(tmp_path, force=False, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_another_learning_rate_is_not_resumed(files, former, capsys):
    before = _contents(former)
    assert files.fit(former, "--resume", "--learning-rate", "0.5") == 2
    told = capsys.readouterr().err
    assert "--learning-rate: 0.02 before, 0.5 now" in told and "checkpoint.npz is of a fit with other options" in told
    assert _contents(former) == before
    np.testing.assert_array_equal(np.load(former / "fc.npy"), read_summary(former).matrices["Fitted"])
