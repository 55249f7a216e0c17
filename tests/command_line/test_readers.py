"""A file without an FC is refused with its name, the problem and the remedy, for any exception of a reader."""

import os
import pickle
import sys

import h5py
import numpy as np
import pytest
import scipy.io
from tvb.datatypes.connectivity import Connectivity

from tests.command_line.conftest import FIT, LABELS, N_NODE
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.matrices import LabelledMatrix, load_array, load_fc
from tvb_jaxfit.command.outcome import Refused, is_refusal
from tvb_jaxfit.evaluation.target import match_target

FC = np.array([[0.0, 0.25, 0.5], [0.25, 0.0, -0.125], [0.5, -0.125, 0.0]])


def _zip_of(folder):
    np.savez(folder / "whole.npz", fc=FC)
    return (folder / "whole.npz").read_bytes()


def _npy_of(folder, array, **options):
    np.save(folder / "whole.npy", array, **options)
    return (folder / "whole.npy").read_bytes()


# Name, content (or a function of a folder that gives it), and expected message.
DAMAGED = {
    "empty.npy": (b"", "give a file that numpy.save has written"),
    "cut.npy": (lambda folder: _npy_of(folder, FC)[:-20], "give a file that numpy.save has written"),
    "text.npy": (b"0 1\n1 0\n", "give a file that numpy.save has written"),
    "objects.npy": (lambda folder: _npy_of(folder, np.array([None]), allow_pickle=True), "allow_pickle=False"),
    "complex.npy": (lambda folder: _npy_of(folder, FC + 0.5j), "an array of complex128; give one of real numbers"),
    "record.npy": (lambda folder: _npy_of(folder, np.zeros(3, [("a", float)])), "give one of real numbers"),
    "empty.npz": (b"", "BadZipFile.*give a file that numpy.savez has written"),
    "cut.npz": (lambda folder: _zip_of(folder)[:100], "BadZipFile"),
    "text.npz": (b"PK\x03\x04 and no more", "BadZipFile"),
    "empty.mat": (b"", "give a file that scipy.io.savemat or MATLAB's save -v7"),
    "pickle.mat": (pickle.dumps({"a": 1}), "give a file that scipy.io.savemat or MATLAB's save -v7"),
    "text.mat": (b"some text " * 40, "give a file that scipy.io.savemat or MATLAB's save -v7"),
    "hdf.mat": (
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM\x89HDF" + bytes(200),
        "give a file that scipy.io.savemat or MATLAB's save -v7",
    ),
    "long.csv": (b"1" * 200_000 + b",2\n3,4\n", "field larger than field limit.*give plain numbers as text"),
    "latin.csv": (
        "\u00e9,\u00fc\n1,2\n3,4\n".encode("latin-1"),
        "UnicodeDecodeError.*give plain numbers as text in UTF-8",
    ),
    "wide.csv": ("1,2\n3,4\n".encode("utf-16"), "give plain numbers as text in UTF-8"),
    "words.csv": (b"0,one\n1,0\n0,x\n", "give plain numbers as text"),
    "empty.csv": (b"", "the file is empty"),
    "comments.txt": (b"# no more\n", "the file is empty"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    content, said = DAMAGED[name]
    content = content if isinstance(content, bytes) else content(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=f"(?s){name}: .*{said}"):
        load_array(str(tmp_path / name), "fc")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".mat", ".csv"])
def test_folders_and_files_without_permission_are_refused(tmp_path, ending):
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(Refused, match=f"folder{ending}: .*Is a directory"):
        load_array(str(tmp_path / f"folder{ending}"), "fc")
    locked = tmp_path / f"locked{ending}"
    locked.write_bytes(b"x" * (ending != ".csv") or b"\xff")
    locked.chmod(0)
    # Root can read any file.
    said = f"locked{ending}: not read as" if os.access(locked, os.R_OK) else "Permission denied"
    with pytest.raises(Refused, match=said):
        load_array(str(locked), "fc")


@pytest.mark.parametrize("name", ["empty.npy", "pickle.mat", "long.csv"])
def test_the_exit_code_is_2_and_there_is_no_traceback(files, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(DAMAGED[name][0])
    arguments = ["fit", *files.simulator(), "--fc", str(tmp_path / name), "--free", "coupling.a"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert name in told and "Traceback" not in told and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text,labelled",
    [
        ("0,0.25,NA\n0.25,0,-0.125\nNA,-0.125,0\n", False),
        (",0.25,\n0.25,,-0.125\n,-0.125,\n", False),
        (",a,b,c\na,,0.25,\nb,0.25,,-0.125\nc,,-0.125,\n", True),
        (",0,1,2\n0,,0.25,\n1,0.25,,-0.125\n2,,-0.125,\n", False),
        ("a,b,c\n0,0.25,nan\n0.25,0,-0.125\nnan,-0.125,0\n", True),
        ("0;0.25;n/a\n0.25;0;-0.125\nn/a;-0.125;0\n", False),
    ],
)
def test_cells_without_a_number_are_missing(tmp_path, text, labelled):
    (tmp_path / "fc.csv").write_text(text)
    found = load_fc(str(tmp_path / "fc.csv"))
    assert isinstance(found, LabelledMatrix) == labelled
    expected = FC.copy()
    expected[0, 2] = expected[2, 0] = np.nan
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(np.asarray(found)[off], expected[off])


def test_a_fit_ignores_missing_pairs_on_request(files, tmp_path, capsys, monkeypatch):
    fc = np.corrcoef(np.random.default_rng(5).normal(size=(N_NODE, 40)))
    fc[0, 1] = fc[1, 0] = np.nan
    np.save(tmp_path / "fc.npy", fc)
    seen = {}

    def stand_in(sim, target, free, fc, **options):
        seen["missing"] = fc.missing
        match_target(target, LABELS, fc.missing)
        raise Refused("enough")

    monkeypatch.setattr(command, "fit", stand_in)
    arguments = ["fit", *files.simulator(), "--fc", str(tmp_path / "fc.npy"), "--free", "coupling.a", *FIT]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert 'missing="ignore") leaves out pairs' in capsys.readouterr().err and seen["missing"] == "refuse"
    assert main([*arguments, "--out", str(tmp_path / "out"), "--missing", "ignore"]) == 2
    assert "enough" in capsys.readouterr().err and seen["missing"] == "ignore"


def test_a_connectivity_in_hdf5_is_read_as_tvb_reads_it(tmp_path, capsys):
    weights = np.random.default_rng(0).uniform(size=(3, 3)) * ~np.eye(3, dtype=bool)
    with h5py.File(tmp_path / "connectivity.h5", "w") as file:
        file["weights"], file["tract_lengths"] = weights, np.full((3, 3), 20.0)
        file["centres"], file["region_labels"] = np.zeros((3, 3)), np.array([b"a", b"b", b"c"])
        file["hemispheres"] = np.array([False, True, True])
    arguments = ["certify", "--connectivity", str(tmp_path / "connectivity.h5"), "--simulation-length", "2000"]
    np.testing.assert_array_equal(Connectivity.from_file(arguments[2]).weights, weights)
    assert main(arguments) == 0 and "3 regions" in capsys.readouterr().out
    (tmp_path / "cut.h5").write_bytes((tmp_path / "connectivity.h5").read_bytes()[:100])
    assert main(["certify", "--connectivity", str(tmp_path / "cut.h5")]) == 2
    assert "--connectivity" in capsys.readouterr().err


OWN = """
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

sim = simulator.Simulator(
    connectivity=connectivity.Connectivity.from_file({connectome!r}),
    model=models.ReducedWongWang(),
    integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-5]))),
    monitors=[monitors.TemporalAverage(period=10.0)],
    simulation_length=500.0,
)
"""


def test_an_unexpected_error_shows_its_traceback_and_has_its_own_code(files, tmp_path, capsys, monkeypatch):
    def unforeseen(*_, **__):
        return np.zeros(3).reshape(2, 2)

    monkeypatch.setattr(command, "fit", unforeseen)
    arguments = ["fit", *files.simulator(), "--fc", files.fc, "--free", "coupling.a", "--out", str(tmp_path / "out")]
    assert main(arguments) == 3
    told = capsys.readouterr().err
    assert "Traceback" in told and "unforeseen" in told and "cannot reshape array" in told


@pytest.mark.parametrize(
    "options,told",
    [
        (["--seed", "-1"], "--seed -1: give a whole number from 0 to 4294967295"),
        (["--nsig", "nan"], "--nsig nan: give a number of at least 0"),
        (["--nsig=-1e-5"], "--nsig -1e-05: give a number of at least 0"),
        (["--dt", "inf"], "--dt inf: give a positive number"),
        (["--simulation-length", "nan"], "--simulation-length nan: give a positive number"),
        (["--bold-period", "inf"], "--bold-period inf: give a positive number"),
    ],
)
def test_impossible_numbers_are_refused(files, capsys, options, told):
    assert main(["certify", "--connectivity", files.connectome, *options]) == 2
    assert told in capsys.readouterr().err


def test_refusals_are_errors_of_this_package_and_of_the_system():
    def caught(function, kind):
        with pytest.raises(Exception) as error:
            function()
        assert type(error.value) is kind
        return error.value

    ours = [
        lambda: match_target(np.zeros(3), LABELS),
        lambda: load_array("nowhere.npy", "fc"),
        lambda: open("nowhere.npy"),
        lambda: __import__("nowhere"),
    ]
    others = [lambda: np.zeros(3).reshape(2, 2), lambda: float("x"), lambda: match_target(FC, 3), lambda: {}["a"]]
    kinds = [ValueError, Refused, FileNotFoundError, ModuleNotFoundError]
    assert [is_refusal(caught(*each)) for each in zip(ours, kinds, strict=True)] == [True] * len(ours)
    kinds = [ValueError, ValueError, TypeError, KeyError]
    assert [is_refusal(caught(*each)) for each in zip(others, kinds, strict=True)] == [False] * len(others)


def test_a_module_with_a_simulator_does_not_change_the_import_path(files, tmp_path, capsys, monkeypatch):
    (tmp_path / "module_of_a_user.py").write_text(OWN.format(connectome=files.connectome))
    monkeypatch.chdir(tmp_path)
    before = sys.path[:]
    assert main(["certify", "--simulator", "module_of_a_user:nothing"]) == 2
    assert "simulators are: sim" in capsys.readouterr().err and sys.path == before
    assert main(["certify", "--simulator", "no_such_module"]) == 2 and sys.path == before


def test_an_error_in_an_import_of_a_script_is_reported_with_both_lines(tmp_path, capsys):
    (tmp_path / "helper_of_a_user.py").write_text("def go():\n    return 1 / 0\n")
    (tmp_path / "script.py").write_text("import helper_of_a_user\n\nhelper_of_a_user.go()\n")
    assert main(["certify", "--simulator", str(tmp_path / "script.py")]) == 2
    told = capsys.readouterr().err
    assert "division by zero (line 3; raised in " in told and "helper_of_a_user.py, line 2)" in told


@pytest.mark.parametrize("name", ["one.npz", "one.mat", "one.npy", "one.csv"])
def test_a_named_array_is_read_or_refused(tmp_path, name):
    file = tmp_path / name
    np.savez(tmp_path / "one.npz", x=FC)
    scipy.io.savemat(tmp_path / "one.mat", {"x": FC})
    np.save(tmp_path / "one.npy", FC)
    np.savetxt(tmp_path / "one.csv", FC, delimiter=",")
    np.testing.assert_array_equal(load_array(str(file), "fc"), FC)
    with pytest.raises(Refused, match="no array 'fc'|leave out :fc"):
        load_array(f"{file}:fc", "fc")
    if name.endswith((".npz", ".mat")):
        np.testing.assert_array_equal(load_array(f"{file}:x", "fc"), FC)


@pytest.mark.parametrize("name", [".", "folder/", "my script"])
def test_neither_a_script_nor_a_module_is_refused(capsys, name):
    assert main(["certify", "--simulator", name]) == 2
    assert f"--simulator {name}: neither a Python file nor a module; give FILE.py" in capsys.readouterr().err
