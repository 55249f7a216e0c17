# %% [markdown]
"""
Fit a TVB simulator to resting-state FC
=======================================

Two fits of a reduced Wong-Wang network to an empirical functional connectivity (FC): first with two global parameters,
then with one recurrence strength for each region. At the end TVB runs with the fitted values.

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
import optax
from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="Fit a TVB simulator to resting-state FC")
arguments.add_argument("--steps", type=int, default=100, help="optimiser steps of each fit (default 100)")
arguments.add_argument("--seconds", type=float, default=90.0, help="simulated seconds (default 90)")
arguments.add_argument("--figure", type=Path, default=Path("fit_resting_state.png"), help="where the figure goes")
arguments.add_argument("--float32", action="store_true", help="fit in single precision, as JAX does by default")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
jax.config.update("jax_enable_x64", not options.float32)

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
    simulation_length=1000.0 * options.seconds,
)
sim.configure()
_ = sim.run()  # transient: afterwards the network is at rest, and the buffer of the BOLD monitor is full

# %% [markdown]
# The same numbers, differentiable
# --------------------------------
# The certificate runs TVB and its translation on the same random draws, from the present state of the simulator.
# Equality to rounding needs double precision; a fit does not.

# %%
if not options.float32:
    print(tj.certify(sim, simulation_length=10_000.0))

# %% [markdown]
# Two fits
# --------
# The target is the empirical FC. The first fit has two parameters: the coupling strength, and one recurrence w for all
# regions. The second fit starts from the result, and has one w for each region. A fit starts from the values of the
# simulator, so the first fit is written back before the second. All steps use the same noise, TVB's own draws
# (``resample=False``), so that TVB can be compared on the noise of the training.

# %%
fc_target = tj.load_functional_connectivity("dk_average")
skip_t = min(20, int(options.seconds) // 3)

global_fit = tj.fit(
    sim,
    fc_target,
    {"coupling.a": tj.Parameter(), "model.w": tj.Parameter()},
    method="simulate",
    optimizer=optax.adam(0.01),
    max_steps=options.steps,
    fc=tj.FCOptions(skip_t=skip_t),
    noise=tj.NoiseOptions(resample=False),
)
print(global_fit)
print(global_fit.write_back(sim))

regional_fit = tj.fit(
    sim,
    fc_target,
    {"model.w": tj.Parameter(regional=True)},
    method="simulate",
    optimizer=optax.adam(0.005),
    max_steps=options.steps,
    fc=tj.FCOptions(skip_t=skip_t),
    noise=tj.NoiseOptions(resample=False),
)
print(regional_fit)
print(regional_fit.write_back(sim))

# %% [markdown]
# Confirmation by TVB
# -------------------
# The fitted values are in the simulator. TVB runs on the random draws of the training, and must give the same BOLD.
# Then it runs on fresh noise. ``position=True`` puts the simulator back to the state in which the fit began.

# %%
states = {"initial": global_fit.initial, "global": global_fit.best, "regional": regional_fit.best}


def bold_of_tvb(state, seed=None):
    """BOLD of TVB's own run from a state, on the training draws or from another seed."""
    tj.write_back(state, sim, position=True)
    if seed is not None:
        sim.integrator.noise.random_stream.seed(seed)
    ((_, bold),) = sim.run()
    return bold


((_, bold_jax),) = regional_fit.simulate(regional_fit.best)
bold_tvb = bold_of_tvb(regional_fit.best)
difference = np.max(np.abs(bold_tvb - np.asarray(bold_jax))) / np.max(np.abs(bold_tvb))
print(f"TVB on the training draws: largest difference {difference:.1e} of the BOLD signal's maximum")


def scores(fc):
    """Loss, r over the whole matrix (with its zero diagonal, as in the tutorial), and r off the diagonal."""
    whole = tj.fc_corr(fc, fc_target, include_diagonal=True)
    return f"{float(tj.rmse(fc, fc_target)):8.4f}{float(whole):8.3f}{float(tj.fc_corr(fc, fc_target)):8.3f}"


columns = "    loss   r(all)  r(off)"
print(f"\n{'':10}|{'training noise':^26}|{'fresh noise':^26}|{'TVB, fresh noise':^26}")
print(f"{'':10}|{columns:26}|{columns:26}|{columns:26}")
fc = {}
for name, state in states.items():
    fc[name] = np.asarray(global_fit.fc(state))
    fresh = global_fit.fc(state, key=jax.random.key(1))
    of_tvb = tj.compute_fc(bold_of_tvb(state, seed=1), skip_t)
    print(f"{name:10}|{scores(fc[name]):26}|{scores(fresh):26}|{scores(of_tvb):26}")
tj.write_back(regional_fit.best, sim, position=True)

# %% [markdown]
# Figure
# ------
# Top: target, global and regional FC. Bottom: fitted against empirical values, and the fitted recurrence of each region
# against the strength of its incoming connections.

# %%
upper = np.triu_indices(n_nodes, 1)
lowest = min(matrix[upper].min() for matrix in (fc_target, fc["global"], fc["regional"])) - 0.05
hidden = np.where(np.eye(n_nodes, dtype=bool), np.nan, 0.0)
figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.4), layout="constrained")
for axis, (title, matrix) in zip(
    axes[0], {"Target": fc_target, "Global": fc["global"], "Regional": fc["regional"]}.items(), strict=True
):
    image = axis.imshow(matrix + hidden, cmap="cividis", vmin=0.0, vmax=1.0)
    r = "" if title == "Target" else f", r = {float(tj.fc_corr(matrix, fc_target)):.3f}"
    axis.set(title=f"{title} FC{r}", xticks=[], yticks=[])
figure.colorbar(image, ax=axes[0], label="FC", shrink=0.85)
for axis, name in zip(axes[1], ("global", "regional"), strict=False):
    axis.plot([lowest, 1], [lowest, 1], "k--", linewidth=1)
    axis.scatter(fc_target[upper], fc[name][upper], s=4, alpha=0.3, color="tab:blue", edgecolors="none")
    axis.set(xlabel="Empirical FC", ylabel=f"Simulated FC, {name}", xlim=(lowest, 1), ylim=(lowest, 1), aspect="equal")
w = np.asarray(regional_fit.best.model.w.value)
axes[1, 2].axhline(float(global_fit.best.model.w), color="tab:red", linestyle="--", label="global w")
axes[1, 2].scatter(white_matter.weights.sum(axis=1), w, s=18, color="tab:blue", label="regional w")
axes[1, 2].set(xlabel="Strength of incoming connections", ylabel="Recurrence w", title="Fitted w")
axes[1, 2].legend()
figure.savefig(options.figure, dpi=150)
print(f"\nfigure: {options.figure}; total {time.perf_counter() - began:.0f} s")
