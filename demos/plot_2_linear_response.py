# %% [markdown]
"""
FC without noise: the linear response
=====================================

Near a stable fixed point, resting FC is the correlation of the network's linear response to its noise. This demo
compares that FC with simulations, fits it to an empirical FC, and confirms the fit in TVB on fresh noise.
"""

# %% [markdown]
# A TVB simulator
# ---------------
# 84 regions (Desikan-Killiany), no delays, BOLD with a repetition time of 1 s, as in the first demo.

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

arguments = argparse.ArgumentParser(description="FC without noise: the linear response")
arguments.add_argument("--evaluations", type=int, default=600, help="evaluations of each descent (default 600)")
arguments.add_argument("--minutes", type=float, default=3.0, help="minutes that TVB simulates at the end (default 3)")
arguments.add_argument("--figure", type=Path, default=Path("linear_response.png"), help="where the figure goes")
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
    coupling=coupling.Linear(a=np.array([0.38])),
    integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([0.00283**2 / 2]))),
    monitors=[monitors.Bold(period=1000.0)],
    initial_conditions=np.full((1, 1, n_nodes, 1), 0.1),
    simulation_length=120_000.0,
)

# %% [markdown]
# The limit of long simulations
# -----------------------------
# The linear response contains no random draws. The FC of a simulation approaches it as one over the square root of the
# simulated time, up to the contribution of the nonlinearity.

# %%
linear, state = tj.prepare_linear(sim)
response = linear(state)
print(response)
fc_linear = np.asarray(response.fc())
longest = 60 * 20
simulate, start = tj.prepare(sim, 1000.0 * (longest + 60), noise=jax.random.key(0))
((_, bold),) = simulate(start)
upper = np.triu_indices(n_nodes, 1)
lengths = np.array([60, 120, 300, 600, longest])
differences = [np.std((np.asarray(tj.compute_fc(bold, len(bold) - length)) - fc_linear)[upper]) for length in lengths]
for length, difference in zip(lengths, differences, strict=True):
    print(f"{length:5d} s: FC differs by {difference:.3f} from the linear response (standard deviation over pairs)")

# %% [markdown]
# A fit without noise
# -------------------
# The free parameters are the recurrence and the input of each region, and the coupling strength. The fit explores the
# bounds, descends from the best starts, and confirms the result by simulations on fresh noise.

# %%
fc_target = tj.load_functional_connectivity("dk_average")
free = {
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.4, regional=True),
    "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0),
}
result = tj.fit(sim, fc_target, free, method="linear", search=tj.SearchOptions(max_evaluations=options.evaluations))
print(result)

# %% [markdown]
# Confirmation by TVB
# -------------------
# The fitted values and their fixed point are written into the simulator. TVB runs with its own seed.

# %%
result.write_back(sim)
sim.initial_conditions = np.array(result.best.initial_conditions)
sim.simulation_length = 1000.0 * (60.0 * options.minutes + 30.0)
sim.integrator.noise.noise_seed = 7
sim.configure()
((_, bold_tvb),) = sim.run()
fc_tvb = np.asarray(tj.compute_fc(bold_tvb, 30))
fc_fitted = np.asarray(linear(result.best).fc())
r_tvb = float(tj.fc_corr(fc_tvb, fc_target))
print(f"TVB, {options.minutes:g} minutes of fresh noise: r {r_tvb:.3f}; linear response: r {result.r[-1]:.3f}")

# %% [markdown]
# Figure
# ------
# Top: the difference from simulations of several lengths, the fitted FC in TVB, and the course of the fit. Bottom: the
# target, and the fitted FC by the linear response and in TVB.

# %%
figure, axes = plt.subplots(2, 3, figsize=(11.5, 7.4), layout="constrained")
axes[0, 0].loglog(lengths, differences, "o-", label="simulation")
axes[0, 0].loglog(lengths, differences[0] * np.sqrt(lengths[0] / lengths), "k--", label="1 / sqrt(length)")
axes[0, 0].set(xlabel="Simulated time [s]", ylabel="Difference from linear FC", title="Length of the simulation")
axes[0, 0].set_xticks(lengths, map(str, lengths))
axes[0, 0].minorticks_off()
axes[0, 0].legend()
tj.plot.fc_scatter(fc_tvb, fc_fitted, "The fitted FC in TVB", ax=axes[0, 1])
axes[0, 1].set(xlabel="Linear response", ylabel="TVB, fresh noise")
axes[0, 2].plot(result.r)
axes[0, 2].set(xlabel="Improvements", ylabel="r", title=f"The fit, {result.history.wall_time:.0f} s")
hidden = np.where(np.eye(n_nodes, dtype=bool), np.nan, 0.0)
named = {"Target": fc_target, f"Linear response, r = {result.r[-1]:.3f}": fc_fitted, f"TVB, r = {r_tvb:.3f}": fc_tvb}
for axis, (title, matrix) in zip(axes[1], named.items(), strict=True):
    image = axis.imshow(matrix + hidden, cmap="cividis", vmin=0.0, vmax=1.0)
    axis.set(title=title, xticks=[], yticks=[])
figure.colorbar(image, ax=axes[1], label="FC", shrink=0.85)
figure.savefig(options.figure, dpi=150)
print(f"\nfigure: {options.figure}; total {time.perf_counter() - began:.0f} s")
