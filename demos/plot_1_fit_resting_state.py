# %% [markdown]
"""
Fit a TVB simulator to resting-state FC
=======================================

Two fits of a reduced Wong-Wang network to an empirical functional connectivity (FC): first with three global values,
then with a recurrence strength and an input for each region. At the end TVB itself runs with the fitted values, on
noise that no fit has seen.

The script begins as any TVB script. Calls of tvb_jaxfit begin with ``tj.``.
"""

# %% [markdown]
# A TVB simulator
# ---------------
# 84 regions (Desikan-Killiany), no delays, BOLD with a repetition time of 1 s. This is plain TVB code; tvb_jaxfit only
# loads the connectome.

# %%
import argparse
import os
import sys
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="Fit a TVB simulator to resting-state FC")
arguments.add_argument("--evaluations", type=int, default=600, help="evaluations from each start (default 600)")
arguments.add_argument("--minutes", type=float, default=8.0, help="length of a simulation in minutes (default 8)")
arguments.add_argument("--figure", type=Path, default=Path("fit_resting_state.png"), help="where the figure goes")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
jax.config.update("jax_enable_x64", True)

began = time.perf_counter()
white_matter = tj.load_connectivity("dk_average")
white_matter.weights = white_matter.scaled_weights(mode="tract")
white_matter.speed = np.array([np.inf])
n_nodes = len(white_matter.region_labels)

sim = simulator.Simulator(
    connectivity=white_matter,
    model=models.ReducedWongWang(w=np.array([0.3]), I_o=np.array([0.32])),
    coupling=coupling.Linear(a=np.array([0.15])),
    integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([0.00283**2 / 2]))),
    monitors=[monitors.Bold(period=1000.0)],
    initial_conditions=np.full((1, 1, n_nodes, 1), 0.3),
    simulation_length=30_000.0,
)
sim.configure()
_ = sim.run()  # transient: afterwards the network is at rest, and the buffer of the BOLD monitor is full

# %% [markdown]
# The same numbers, differentiable
# --------------------------------
# The certificate runs TVB and its translation on the same random draws, from the present state of the simulator.

# %%
print(tj.certify(sim, simulation_length=5_000.0))

# %% [markdown]
# Two fits
# --------
# The target is the empirical FC. ``fit`` chooses the way: here the linear response, confirmed by simulations. It says
# which way it took, why, what it cost, and the correlation with the target on noise that it never saw.

# %%
fc_target = tj.load_functional_connectivity("dk_average")
search = tj.SearchOptions(max_evaluations=options.evaluations)


def free(regional):
    """Coupling strength, recurrence and input, each within bounds; the last two for each region or for all."""
    return {
        "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0),
        "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=regional),
        "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.5, regional=regional),
    }


global_fit = tj.fit(sim, fc_target, free(regional=False), search=search)
print(global_fit)

regional_fit = tj.fit(sim, fc_target, free(regional=True), search=search)
print(regional_fit)

# %% [markdown]
# Judged on fresh noise, at last by TVB
# -------------------------------------
# The states before and after the fits run on the same noise, which no fit has seen. Then the fitted values are written
# into the TVB simulator, and TVB itself runs with them, on a seed of its own.

# %%
skip_t = 20  # samples in which the BOLD settles after a change of parameters
sim.simulation_length = 60_000.0 * options.minutes + 1000.0 * skip_t
simulate, start = tj.prepare(sim, sim.simulation_length)
start = tj.resample(start, jax.random.key(1))
states = {"initial": global_fit.initial, "global": global_fit.best, "regional": regional_fit.best}
fc = {}
for name, state in states.items():
    ((_, bold),) = simulate(start.replace(model=state.model, coupling=state.coupling))
    fc[name] = np.asarray(tj.compute_fc(bold, skip_t))

print(regional_fit.write_back(sim))
sim.integrator.noise.random_stream.seed(1)
((_, bold),) = sim.run()
fc["regional, by TVB"] = np.asarray(tj.compute_fc(bold, skip_t))

for name, matrix in fc.items():
    print(f"{name:16} r {tj.fc_corr(matrix, fc_target):.3f}, RMSE {tj.rmse(matrix, fc_target):.3f} (fresh noise)")

# %% [markdown]
# Figure
# ------
# Top: empirical FC, and simulated FC on fresh noise, with their correlation over all pairs of regions. Bottom: values
# of TVB's own run against empirical ones, that correlation at each stage, and the fitted values of each region.

# %%
upper = np.triu_indices(n_nodes, 1)
hidden = np.where(np.eye(n_nodes, dtype=bool), np.nan, 0.0)
figure, axes = plt.subplots(2, 3, figsize=(12.0, 7.6), layout="constrained")
shown = {"Empirical": fc_target, "Global fit": fc["global"], "Regional fit, run by TVB": fc["regional, by TVB"]}
for axis, (title, matrix) in zip(axes[0], shown.items(), strict=True):
    image = axis.imshow(matrix + hidden, cmap="magma", vmin=0.0, vmax=1.0)
    r = "" if title == "Empirical" else f"\nr = {float(tj.fc_corr(matrix, fc_target)):.2f}"
    axis.set(title=f"{title}{r}", xticks=[], yticks=[], xlabel="region", ylabel="region")
figure.colorbar(image, ax=axes[0], label="FC", shrink=0.9)

scatter, bars, parameters = axes[1]
lowest = min(fc_target[upper].min(), fc["regional, by TVB"][upper].min()) - 0.05
scatter.plot([lowest, 1], [lowest, 1], color="0.4", linewidth=1, linestyle="--")
scatter.scatter(fc_target[upper], fc["regional, by TVB"][upper], s=5, alpha=0.25, color="tab:purple", edgecolors="none")
scatter.set(xlabel="empirical FC", ylabel="simulated FC", title="Pairs of regions", aspect="equal")
scatter.set(xlim=(lowest, 1), ylim=(lowest, 1))

r = {name: float(tj.fc_corr(matrix, fc_target)) for name, matrix in fc.items()}
labels = ["initial", "global", "regional", "regional,\nby TVB"]
drawn = bars.bar(labels, r.values(), color=["0.75", "tab:orange", "tab:purple", "indigo"])
bars.bar_label(drawn, fmt="%.2f")
bars.set(ylim=(0.0, 1.0), ylabel="r with empirical FC", title="On noise that no fit has seen")

strength, values = white_matter.weights.sum(axis=1), regional_fit.best.model
w, I_o = np.asarray(values.w.value), np.asarray(values.I_o.value)
points = parameters.scatter(strength, w, c=I_o, s=28, cmap="viridis")
figure.colorbar(points, ax=parameters, label="input I_o [nA]")
parameters.set(xlabel="strength of incoming connections", ylabel="recurrence w", title="Fitted values of 84 regions")
for axis in (bars, parameters):
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(options.figure, dpi=150)
print(f"\nfigure: {options.figure}; total {time.perf_counter() - began:.0f} s")
