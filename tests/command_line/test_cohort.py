"""tvb-jaxfit cohort reads a table or folders, checks every input, and has the numbers of tvb-jaxfit fit."""

import json
import re

import numpy as np
import pytest

from tvb_jaxfit.cohort.subjects import Subject
from tvb_jaxfit.command.cohort_inputs import subjects_of
from tvb_jaxfit.command.cohort_options import parse_array, parse_column, parse_slurm
from tvb_jaxfit.command.main import main
from tvb_jaxfit.command.options import parser
from tvb_jaxfit.command.recordings import fc_of_recording, recording_problems
from tvb_jaxfit.fitting.result import FitResult


@pytest.fixture
def study(files, tmp_path):
    """Table of two subjects with the connectome and FC of the other tests; the second has a value of its own."""
    rows = [f"participant_id\tconnectivity\tfc\tmodel.I_o\tage\nsub-1\t{files.connectome}\t{files.fc}\t0.30\t31"]
    rows.append(f"sub-2\t{files.connectome}\t{files.fc}\t0.32\t32")
    path = tmp_path / "subjects.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


OPTIONS = (
    *("--speed", "5", "--dt", "4", "--nsig", "1e-5", "--seed", "3", "--bold-period", "500"),
    *("--set", "model.w=0.6", "--set", "coupling.a=0.05", "--simulation-length", "26000"),
    *("--free", "coupling.a", "--method", "simulate", "--steps", "1", "--evaluate", "1", "--quiet"),
)


def test_fits_of_a_table(study, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["cohort", str(study), *OPTIONS, "--workers", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "tvb-jaxfit cohort: 2 done, 0 failed, 0 missing of 2"
    assert (out / "cohort.html").exists()
    # The numbers of a single fit with the same options.
    single = [*OPTIONS, "--connectivity", files.connectome, "--set", "model.I_o=0.32", "--fc", files.fc]
    assert main(["fit", *single, "--out", str(tmp_path / "single")]) == 0
    one = np.load(tmp_path / "single" / "values.npz")["coupling.a"]
    two = np.load(out / "sub-2" / "values.npz")["coupling.a"]
    assert one.tobytes() == two.tobytes()
    assert not np.array_equal(np.load(out / "sub-1" / "values.npz")["coupling.a"], two)
    # The folder of a fit is one of tvb-jaxfit fit, too.
    capsys.readouterr()
    assert main(["report", str(out / "sub-2")]) == 0
    # What is there is not made again, whatever the number of workers.
    before = json.loads((out / "sub-1" / "status.json").read_text())
    assert main(["cohort", str(study), *OPTIONS, "--workers", "2", "--out", str(out)]) == 0
    assert json.loads((out / "sub-1" / "status.json").read_text()) == before


def test_a_subject_without_fc_fails_and_the_exit_code_says_so(study, tmp_path, capsys):
    with study.open("a") as file:
        file.write("sub-3\tno_such_file.zip\tno_such_file.csv\t0.3\t33\n")
    out = tmp_path / "out"
    assert main(["cohort", str(study), *OPTIONS, "--workers", "0", "--array", "2/3", "--out", str(out)]) == 2
    assert main(["cohort", str(study), *OPTIONS, "--workers", "0", "--out", str(out), "--dry-run"]) == 2
    said = capsys.readouterr().out
    assert re.search(r"sub-3: fc no_such_file.csv: .*; connectivity no_such_file.zip: ", said)
    assert "3 fits of 3 subjects" in said
    assert "1 with problems" in said
    assert not out.exists()


def test_standard_errors_are_of_each_recordings_length(study, tmp_path, monkeypatch):
    asked = []

    def identifiability(self, length):
        asked.append(length)
        raise ValueError("no stable fixed point")

    monkeypatch.setattr(FitResult, "identifiability", identifiability)
    table = study.read_text().splitlines()
    table = [line + cell for line, cell in zip(table, ("\tduration", "\t300000", "\tn/a"), strict=True)]
    study.write_text("\n".join(table) + "\n")
    more = ["--workers", "0", "--standard-errors", "--column", "recording_length=duration"]
    assert main(["cohort", str(study), *OPTIONS, *more, "--out", str(tmp_path / "out")]) == 0
    assert asked == [300_000, None]
    assert "no standard errors: no stable fixed point" in (tmp_path / "out" / "sub-2" / "log.txt").read_text()


def test_a_dry_run_says_what_would_be_done(study, tmp_path, capsys):
    assert main(["cohort", str(study), *OPTIONS, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("sub-1: connectivity ")
    assert said[-1].endswith("0 with problems")
    assert not (tmp_path / "out").exists()


def test_a_script_makes_the_simulator_of_a_subject(study, files, tmp_path, capsys):
    script = tmp_path / "study.py"
    script.write_text(
        "import numpy as np\n"
        "from tvb.datatypes.connectivity import Connectivity\n"
        "from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator\n"
        "def make_simulator(subject):\n"
        "    if subject['age'] == 31:\n"
        "        raise RuntimeError('no simulator for this age')\n"
        "    connectome = Connectivity.from_file(subject['connectivity'])\n"
        "    connectome.speed = np.array([np.inf])\n"
        "    return simulator.Simulator(\n"
        "        connectivity=connectome, model=models.ReducedWongWang(),\n"
        "        coupling=coupling.Linear(a=np.array([0.05])),\n"
        "        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([1e-5]))),\n"
        "        monitors=[monitors.Bold(period=500.0)], simulation_length=26000.0)\n"
    )
    options = ["--free", "coupling.a", "--method", "simulate", "--steps", "0", "--evaluate", "1", "--quiet"]
    command = [
        "cohort",
        str(study),
        "--simulator",
        str(script),
        *options,
        "--workers",
        "0",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "failed: sub-1: RuntimeError: no simulator for this age" in said
    assert said.splitlines()[-1] == "tvb-jaxfit cohort: 1 done, 1 failed, 0 missing of 2"


def test_fc_of_time_series(tmp_path, capsys):
    signals = np.random.default_rng(0).normal(size=(30, 5))
    np.save(tmp_path / "good.npy", signals)
    np.save(tmp_path / "constant.npy", np.where(np.arange(5) == 3, 1.0, signals))
    np.save(tmp_path / "vector.npy", signals[:, 0])
    subject = Subject("1", "", {"timeseries": str(tmp_path / "good.npy")})
    np.testing.assert_array_equal(fc_of_recording(subject), np.corrcoef(signals.T))
    problems = {
        name: recording_problems(Subject("1", "", {"timeseries": str(tmp_path / f"{name}.npy")}), None)
        for name in ("good", "constant", "vector", "none")
    }
    assert problems["good"] == []
    assert "constant in the columns [3]" in problems["constant"][0]
    assert "shape (30,); give (n_time, n_node)" in problems["vector"][0]
    assert "none.npy" in problems["none"][0]


def test_fc_of_images(tmp_path):
    subject = Subject("1", "", {"bold": str(tmp_path / "bold.nii.gz")})
    assert recording_problems(subject, None) == [
        f"bold {tmp_path / 'bold.nii.gz'}: no such file",
        "--atlas: none; an image needs the image of the regions",
    ]
    pytest.importorskip("nilearn")
    nibabel = pytest.importorskip("nibabel")
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (4, 4, 4))
    image = random.normal(size=(4, 4, 4, 25))
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), np.eye(4)), tmp_path / "atlas.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "bold.nii.gz")
    expected = np.corrcoef([image[labels == label].mean(axis=0) for label in (1, 2, 3)])
    found = fc_of_recording(subject, str(tmp_path / "atlas.nii.gz"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def options_of(*arguments):
    return parser().parse_args(["cohort", *arguments, "--free", "coupling.a", "--out", "out"])


def test_files_of_folders_are_found_by_patterns(tmp_path):
    for subject, session in (("01", "a"), ("01", "b"), ("02", "a")):
        folder = tmp_path / f"sub-{subject}" / f"ses-{session}"
        folder.mkdir(parents=True)
        (folder / f"sub-{subject}_ses-{session}_fc.csv").write_text("")
        (folder.parent / "weights.zip").write_text("")
    found = subjects_of(
        options_of(
            str(tmp_path),
            "--column",
            "fc=sub-{subject}/ses-{session}/sub-{subject}_ses-{session}_*.csv",
            "--column",
            "connectivity=sub-{subject}/weights.zip",
        )
    )
    assert [each.label for each in found] == ["sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a"]
    assert found[1]["fc"].endswith("sub-01/ses-b/sub-01_ses-b_fc.csv")
    assert found[2]["connectivity"].endswith("sub-02/weights.zip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}"], "is a folder: name its files"),
        (["{folder}", "--column", "fc=*/fc.csv"], "put {subject} where the id"),
        (["{folder}", "--column", "fc=sub-{subject}/none.csv"], "no file in .* matches"),
        (["{folder}", "--column", "fc=sub-{subject}/*.csv"], "are of the same subject and session"),
        (["{folder}/none.tsv"], "no such file or folder"),
        (["{folder}/subjects.tsv", "--column", "fc=rest"], "--column fc=rest: the table has no column rest"),
    ],
)
def test_tables_and_folders_that_cannot_be_used_are_refused(tmp_path, capsys, arguments, message):
    (tmp_path / "sub-1").mkdir()
    for name in ("one.csv", "two.csv"):
        (tmp_path / "sub-1" / name).write_text("")
    (tmp_path / "subjects.tsv").write_text("participant_id\tfc\n1\tx\n")
    arguments = [text.replace("{folder}", str(tmp_path)) for text in arguments]
    assert main(["cohort", *arguments, "--free", "coupling.a", "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--array", "4/4"], "--array 4/4: give I/N"),
        (["--column", "fc"], "--column fc: give NAME=VALUE"),
        (["--workers", "-1"], "--workers -1: give at least 0"),
        (["--scheduler", "tcp://x:1", "--slurm", "cores=1,memory=1GB"], "leave --slurm and --workers"),
        (["--slurm", "cores=many"], "--slurm cores=many: give some of queue=..."),
        (["--slurm", "queue=cpu"], "cores and memory missing"),
        (["--free", "coupling.a"], "nothing is free"),
    ],
)
def test_options_are_refused_before_anything_is_read(tmp_path, capsys, options, message):
    free = [] if message == "nothing is free" else ["--free", "coupling.a"]
    options = [] if message == "nothing is free" else options
    assert main(["cohort", "none.tsv", *free, "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_texts_of_options():
    assert parse_column("fc=sub-{subject}/a=b.csv") == (("fc", "sub-{subject}/a=b.csv"), "")
    assert [parse_array(text) for text in ("0/3", "2/3", "3/3", "-1/3", "x")] == [(0, 3), (2, 3), None, None, None]
    assert parse_slurm("queue=cpu, cores=8, memory=16GB") == ({"queue": "cpu", "cores": 8, "memory": "16GB"}, [])
