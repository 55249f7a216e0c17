"""Missing and unreadable files are reported all at once, before TVB and JAX are loaded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvb_jaxfit
from tvb_jaxfit.command import main as program
from tvb_jaxfit.command.main import main

ROOT = Path(tvb_jaxfit.__file__).parents[1]
FC = np.array([[1.0, 0.25, 0.5], [0.25, 1.0, -0.125], [0.5, -0.125, 1.0]])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Working directory with an FC, and files of other kinds."""
    monkeypatch.chdir(tmp_path)
    np.savetxt("fc.csv", FC, delimiter=",")
    np.savetxt("percent.csv", 100.0 * FC, delimiter=",")
    np.savetxt("signals.csv", np.random.default_rng(0).normal(size=(200, 3)), delimiter=",")
    Path("text.zip").write_text("no zip file")
    Path("text.h5").write_text("no HDF5 file")
    Path("broken.py").write_text("sim = (")
    Path("sim.py").write_text("sim = None")
    Path("done").mkdir()
    Path("done", "values.npz").write_bytes(b"of a fit")
    return tmp_path


def _fit(**options):
    given = {"fc": "fc.csv", "free": "coupling.a", "out": "out"} | options
    return ["fit", *(text for name, value in given.items() for text in (f"--{name}", value))]


REFUSED = {
    "no connectivity": (_fit(connectivity="76_.zip"), "--connectivity 76_.zip: no such file, and there is no data set"),
    "a folder": (_fit(connectivity="done"), "--connectivity done: Is a directory"),
    "no zip": (_fit(connectivity="text.zip"), "--connectivity text.zip: no zip file"),
    "no h5": (_fit(connectivity="text.h5"), "--connectivity text.h5: no HDF5 file"),
    "no script": (_fit(simulator="sin.py"), "--simulator sin.py: no such file. Did you mean 'sim.py'?"),
    "a broken script": (_fit(simulator="broken.py"), "--simulator broken.py: SyntaxError: '(' was never closed"),
    "no FC": (_fit(connectivity="76", fc="fcc.csv"), "--fc fcc.csv: No such file. Did you mean 'fc.csv'?"),
    "no data set": (_fit(connectivity="76", fc="dk_averag"), "Did you mean 'dk_average'?"),
    "no correlations": (_fit(connectivity="76", fc="percent.csv"), "--fc percent.csv: values up to 100"),
    "no matrix": (_fit(connectivity="76", fc="signals.csv"), "--fc signals.csv: shape (200, 3); it looks like a time"),
    "no values": (_fit(connectivity="76", set="model.w=@w.npy"), "--set model.w: w.npy: No such file"),
    "results": (_fit(connectivity="76", out="done"), "--out done: values.npz exists"),
    "no checkpoint": (
        [*_fit(connectivity="76", out="done"), "--resume"],
        "--resume: there is no checkpoint.npz in done to continue from; give --force in its place",
    ),
    "certify": (["certify", "--connectivity", "77"], "--connectivity 77: no such file, and there is no data set '77'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unreadable_files_are_refused_before_any_work(name, monkeypatch, capsys):
    monkeypatch.setattr(program, "_set_precision", lambda _: pytest.fail("refused before any work"))
    arguments, said = REFUSED[name]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err and not Path("out").exists()


def test_all_problems_come_at_once_without_loading_jax_or_tvb(folder):
    arguments = _fit(connectivity="none.zip", fc="none.csv", out="done", set="model.w=@none.npy")
    probe = (
        "import sys; from tvb_jaxfit.command.main import main; code = main(sys.argv[1:]); "
        "print(code, {'jax', 'tvb', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {probe}", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "2 set()"
    for option in ("--fc none.csv: ", "--connectivity none.zip: ", "--set model.w: none.npy: ", "--out done: "):
        assert f"  - {option}" in done.stderr
