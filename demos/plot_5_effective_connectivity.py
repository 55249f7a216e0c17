# %% [markdown]
"""
Effective connectivity
======================

FC and structural connectivity are the same in both directions. Effective connectivity has a weight for each direction.
This demo estimates it from two sessions of a network whose weights are known, which shows what an estimate recovers,
and how it is judged where nobody knows the weights.
"""

# %% [markdown]
# A network with known weights
# ----------------------------
# Ten regions of the connectome that TVB ships. Tractography does not tell directions apart: the structural weights are
# symmetric. The true network has the same connections, and each direction of each connection its own weight.
# A region's activity decays within a second, and is sampled each second.

# %%
import argparse
import os
import sys
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="Effective connectivity")
arguments.add_argument("--minutes", type=int, default=15, help="length of a session in minutes (default 15)")
arguments.add_argument("--evaluations", type=int, default=60, help="evaluations with each penalty (default 60)")
arguments.add_argument("--lag", type=int, default=1, help="lag in samples (default 1)")
arguments.add_argument("--figure", type=Path, default=Path("effective_connectivity.png"), help="where the figure goes")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
jax.config.update("jax_enable_x64", True)

began = time.perf_counter()
white_matter = connectivity.Connectivity.from_file()
chosen = np.argsort(-white_matter.weights.sum(axis=1))[:10]
structural = white_matter.weights[np.ix_(chosen, chosen)]
structural = structural + structural.T
np.fill_diagonal(structural, 0.0)
true_weights = structural * np.exp(np.random.default_rng(0).normal(0.0, 0.7, structural.shape))
# The slowest mode decays five times more slowly than a region by itself.
scale = 0.8 / np.max(np.abs(np.linalg.eigvals(true_weights)))
structural, true_weights = scale * structural, scale * true_weights


def network(weights):
    """Simulator of linear regions with the time constant of a second."""
    regions = connectivity.Connectivity(
        weights=weights,
        tract_lengths=np.zeros(weights.shape),
        centres=white_matter.centres[chosen],
        region_labels=white_matter.region_labels[chosen],
        speed=np.array([np.inf]),
    )
    return simulator.Simulator(
        connectivity=regions,
        model=models.Linear(gamma=np.array([-1e-3])),
        coupling=coupling.Linear(a=np.array([1e-3])),
        integrator=integrators.HeunStochastic(dt=50.0, noise=noise.Additive(nsig=np.array([1e-3]))),
        monitors=[monitors.SubSample(period=1000.0)],
        simulation_length=10_000.0,
    )


# %% [markdown]
# Three sessions
# --------------
# They stand for recordings. The third is for the last judgement alone.

# %%
simulate, state = tj.prepare(network(true_weights), 1000.0 * (3 * 60 * options.minutes + 30), noise=jax.random.key(0))
((_, signals),) = simulate(state)
sessions = np.split(np.asarray(signals)[30:, 0, :, 0], 3)
print(f"{len(sessions)} sessions of {len(sessions[0])} samples of {sessions[0].shape[1]} regions")

# %% [markdown]
# The estimate
# ------------
# The linear response gives FC and lagged correlations of any weights, and their gradients, in milliseconds. A penalty
# draws the weights towards the structural ones. Each session is fitted with a series of penalties, and the other
# session decides at which of them to stop. The final weights are fitted to both sessions. The rows of the table: what
# was fitted, what was held out and, for the same held-out data, what is trivial.

# %%
sim = network(structural)
free = {"model.gamma": tj.BoundedParameter(upper_bound=0.0)}
estimate = tj.effective_connectivity(
    sim, sessions[:2], lag=options.lag, free=free, max_evaluations=options.evaluations, progress=False
)
print(estimate)
score = estimate.score(sessions[2])
print(f"\na session that nobody has used: r {score.fc:.3f} of FC, {score.lagged:.3f} of lagged correlations")

# %% [markdown]
# Truth
# -----
# Correlation of the weights with the true ones, over the connections; below it, the most that any symmetric weights
# reach. The difference between the two directions of a connection is what only directed weights have.

# %%
connected = structural > 0.0


def correlation(first, second):
    """Pearson's r over the connections."""
    return np.corrcoef(first[connected], second[connected])[0, 1]


r_weights = correlation(estimate.weights, true_weights)
r_directions = correlation(estimate.weights - estimate.weights.T, true_weights - true_weights.T)
print(f"effective connectivity       r {r_weights:.3f}; differences of directions r {r_directions:.3f}")
print(f"best symmetric weights       r {correlation(true_weights + true_weights.T, true_weights):.3f}")
print(f"structural weights           r {correlation(structural, true_weights):.3f}")

# %% [markdown]
# Back in TVB
# -----------
# The weights are written into the simulator, and TVB runs with them, with its own noise.

# %%
print(estimate.write_back(sim))
sim.simulation_length = 1000.0 * (60 * options.minutes + 30)
sim.configure()
((_, signals_tvb),) = sim.run()
fc_tvb = np.asarray(tj.compute_fc(signals_tvb, 30))
r_tvb = float(tj.fc_corr(fc_tvb, np.asarray(tj.compute_fc(sessions[2]))))
print(f"FC in TVB and in the session that nobody has used: r {r_tvb:.3f}")

# %% [markdown]
# Figure
# ------
# Top: estimated and true weights, over the connections, with the standard error from the two sessions; the weights; the
# agreement of both sessions. Bottom: the choice of the penalty, and the scores. A penalty makes differences from the
# structural weights too small, in both sessions: the standard error does not contain that.
#
# Things to try: ``--minutes 20``, where the data determine the weights, and no penalty is needed; ``--minutes 5``,
# where they do not; ``--lag 3``, after which little is left of the activity, and of the directions.

# %%
figure, axes = plt.subplot_mosaic("abc;dee", figsize=(12.5, 7.6), layout="constrained")
error = estimate.spread[connected]
axes["a"].errorbar(true_weights[connected], estimate.weights[connected], error, fmt="o", markersize=3, linewidth=0.7)
axes["a"].scatter(true_weights[connected], structural[connected], s=8, color="0.6", label="structural")
top = 1.05 * max(np.max(true_weights), np.max(estimate.weights))
axes["a"].plot([0.0, top], [0.0, top], "k--", linewidth=0.8)
axes["a"].set(xlabel="true weight", ylabel="estimate", title=f"Truth, r = {r_weights:.2f}")
axes["a"].legend(fontsize="x-small")
_ = tj.plot.effective_connectivity(estimate, [axes[name] for name in "bcde"])
figure.savefig(options.figure, dpi=150)
print(f"\nfigure: {options.figure}; total {time.perf_counter() - began:.0f} s")
