"""A connectome and an FC in files, and a fit of them from the command line."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.main import main

LABELS = ["lA", "lB", "l<C>", "rA", "rB"]
N_NODE = len(LABELS)
SIMULATOR = (
    *("--speed", "5", "--dt", "4", "--nsig", "1e-5", "--seed", "3", "--bold-period", "500"),
    *("--set", "model.w=0.6", "--set", "model.I_o=0.3,0.31,0.3,0.3,0.3", "--set", "coupling.a=0.05"),
    *("--simulation-length", "26000"),
)
FREE = ("--free", "coupling.a", "--free", "model.w:regional:0:1")
FIT = ("--method", "simulate", "--steps", "3", "--learning-rate", "0.02", "--quiet")


@dataclass
class Files:
    """Paths of the files, and commands that use them."""

    folder: Path
    connectome: str
    fc: str

    def simulator(self):
        """Arguments that make a simulator."""
        return ["--connectivity", self.connectome, *SIMULATOR]

    def fit(self, out, *more, simulator=None):
        """Exit code of a fit."""
        made = self.simulator() if simulator is None else simulator
        return main(["fit", *made, "--fc", self.fc, *FREE, *FIT, "--out", str(out), *more])


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A connectome in TVB's format, and a labelled FC in another order."""
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(5)
    weights = random.uniform(1.0, 9.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    lengths = np.full((N_NODE, N_NODE), 40.0)
    with zipfile.ZipFile(folder / "connectome.zip", "w") as archive:
        for name, matrix in {"weights.txt": weights, "tract_lengths.txt": lengths}.items():
            archive.writestr(name, "\n".join(" ".join(map(str, row)) for row in matrix.tolist()))
        archive.writestr("centres.txt", "\n".join(f"{label} {i} {i} 0" for i, label in enumerate(LABELS)))
    fc = np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))
    lines = [",".join(["", *LABELS])] + [
        ",".join([label, *map(str, row)]) for label, row in zip(LABELS, fc.tolist(), strict=True)
    ]
    (folder / "fc.csv").write_text("\n".join(lines))
    return Files(folder, str(folder / "connectome.zip"), str(folder / "fc.csv"))


@dataclass
class Done:
    """A finished fit: its folder, exit code, and arguments and result of fit()."""

    folder: Path
    code: int
    sim: object
    target: object
    result: object


@pytest.fixture(scope="session")
def done(files):
    """The fit, evaluated in JAX and TVB, and certified."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        real = command.fit

        def fit(sim, target, free, **options):
            seen.update(sim=sim, target=target, result=real(sim, target, free, **options))
            return seen["result"]

        patch.setattr(command, "fit", fit)
        code = files.fit(files.folder / "done", "--evaluate", "2", "--tvb", "--certify")
    return Done(files.folder / "done", code, **seen)
