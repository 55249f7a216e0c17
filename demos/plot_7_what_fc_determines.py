# %% [markdown]
"""
What FC determines: coupling against recurrence against input
=============================================================

A fit gives a number for every free value, also for those that FC says nothing about. This demo asks which of the
fitted values of a reduced Wong-Wang network mean something: the coupling strength G (``coupling.a``), the recurrence w
and the input I_o. First from one recording of 10 minutes, then from ten of them; first for 169 values, then for three.
"""

# %% [markdown]
# The fit
# -------
# The network and the values of the first demo: one G, and w and I_o for each of 84 regions, from one empirical FC.

# %%
import argparse
import os
import sys
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tvb.simulator.lab import coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj

arguments = argparse.ArgumentParser(description="What FC determines: coupling against recurrence against input")
arguments.add_argument("--evaluations", type=int, default=600, help="evaluations from each start (default 600)")
arguments.add_argument("--draws", type=int, default=100, help="draws of the posterior (default 100)")
arguments.add_argument("--minutes", type=float, default=10.0, help="length of a recording in minutes (default 10)")
arguments.add_argument("--out", type=Path, default=Path("what_fc_determines"), help="folder of the figures")
# In a notebook, the environment variable DEMO holds the options.
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)
options.out.mkdir(parents=True, exist_ok=True)
jax.config.update("jax_enable_x64", True)

began = time.perf_counter()
length = 60_000.0 * options.minutes
white_matter = tj.load_connectivity("dk_average")
white_matter.weights = white_matter.scaled_weights(mode="tract")
white_matter.speed = np.array([np.inf])


def make_simulator(G, w, I_o):
    """Simulator with the same values in all regions."""
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([w]), I_o=np.array([I_o])),
        coupling=coupling.Linear(a=np.array([G])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([0.00283**2 / 2]))),
        monitors=[monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, 84, 1), 0.3),
        simulation_length=length,
    )


def free(regional):
    """G, w and I_o, each within bounds; the last two for each region or for all."""
    return {
        "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0),
        "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=regional),
        "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.5, regional=regional),
    }


fc_target = tj.load_functional_connectivity("dk_average")
search = {"method": "linear", "max_evaluations": options.evaluations, "progress": False}
fit = tj.fit(make_simulator(G=0.15, w=0.3, I_o=0.32), fc_target, free(regional=True), **search)
print(fit)

# %% [markdown]
# One recording of 10 minutes
# ---------------------------
# The printed text says how many combinations of the values FC determines better than the prior, which is uniform
# between the bounds; how many single values; and which of them trade off. G is determined. So is nearly every regional
# input. Most regional recurrences are not: a larger w with a smaller I_o of the same region gives nearly the same FC.
# In the first figure, values that are not determined are faint. The second one has the correlations between all values:
# the blue diagonals are the pairs of w and I_o of one region.

# %%
one = fit.identifiability(length=length)
axes = tj.plot.identifiability(one)
axes[0].figure.savefig(options.out / "identifiability.png", dpi=150)
ax = tj.plot.value_correlation(one)
ax.figure.savefig(options.out / "correlation.png", dpi=150)
print(one)

# %% [markdown]
# Ten recordings of 10 minutes
# ----------------------------
# Ten times the data divide the error of G by less than two, and not by the square root of ten: what G trades off
# against remains known from the prior alone. In the figure, the w of regions at the dashed line are determined by
# neither length.


# %%
def summary(found):
    """Numbers of an `Identifiability` for a table."""
    errors, determined = found.standard_error, found.is_determined
    rows = {"determined directions, of 169": f"{found.n_determined}"}
    for path in ("model.w", "model.I_o"):
        rows[f"determined values of {path}, of 84"] = f"{determined[path].sum()}"
        rows[f"median standard error of {path}"] = f"{np.median(errors[path]):.2g}"
    return rows | {"standard error of coupling.a": f"{errors['coupling.a'][0]:.2g}"}


ten = fit.identifiability(length=10.0 * length)
lengths = {f"{options.minutes:g} minutes": one, f"{10.0 * options.minutes:g} minutes": ten}

order = np.argsort(one.standard_error["model.w"])
figure, ax = plt.subplots(figsize=(8.0, 4.2), layout="constrained")
for (name, found), colour in zip(lengths.items(), ("tab:blue", "tab:orange"), strict=True):
    ax.plot(found.standard_error["model.w"][order], "o", markersize=4, color=colour, label=name)
ax.axhline(one.prior_std["model.w"][0], color="0.5", linestyle="--", label="prior: nothing is known")
ax.set(xlabel="region, in the order of its error", ylabel="standard error of recurrence w", ylim=(0.0, None))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(fontsize="small", loc="lower right")
figure.savefig(options.out / "recording_length.png", dpi=150)
print(pd.DataFrame({name: summary(found) for name, found in lengths.items()}).to_string())

# %% [markdown]
# How far the approximation holds
# -------------------------------
# Standard errors are quadratic around the fitted values. A profile is not: G is fixed at some values, and the other 168
# are fitted again at each. Where both columns differ, quote the values at which the deviance is 4 in place of two
# standard errors.

# %%
profile = one.profile("coupling.a", n=5)
figure, ax = plt.subplots(figsize=(5.0, 3.8), layout="constrained")
ax.plot(profile.values, profile.deviance, "o", color="tab:blue", label="profile")
G = np.linspace(profile.values.min(), profile.values.max(), 101)
ax.plot(G, ((G - profile.fitted) / profile.standard_error) ** 2, "--", color="0.5", label="quadratic")
ax.set(xlabel="coupling strength G", ylabel="deviance")
ax.spines[["top", "right"]].set_visible(False)
ax.legend()
figure.savefig(options.out / "profile.png", dpi=150)
print(profile)

# %% [markdown]
# Three values in place of 169
# ----------------------------
# One w and one I_o for all regions. The data are now a recording that the model itself makes, so that the true values
# are known and nothing is left unexplained. The posterior gives draws, with the trade-offs between the three values:
# each is known less well by itself than their combinations. This is one recording at one set of true values, and shows
# the form of a posterior; whether intervals cover true values as often as they say is tested elsewhere, on many
# recordings. The fit is only where the search for the posterior's maximum starts, and may lie far from it.

# %%
truth = {"coupling.a": 0.28, "model.w": 0.3, "model.I_o": 0.32}
linear, state = tj.prepare_linear(make_simulator(*truth.values()))
recorded = np.asarray(linear(state).sample(jax.random.key(0), round(length / 1000.0)))[:, 0, :, 0]
fc_recorded = np.asarray(tj.compute_fc(recorded))
few = tj.fit(make_simulator(G=0.15, w=0.5, I_o=0.30), fc_recorded, free(regional=False), **search)
posterior = few.posterior(length=length, method="laplace", discrepancy=False, n_draws=options.draws, progress=False)

names = {"coupling.a": "coupling strength G", "model.w": "recurrence w", "model.I_o": "input I_o [nA]"}
draws = {path: posterior.draws[path].ravel() for path in names}
pairs = [("coupling.a", "model.w"), ("coupling.a", "model.I_o"), ("model.w", "model.I_o")]
figure, axes = plt.subplots(1, 3, figsize=(13.0, 4.2), layout="constrained")
for ax, (first, second) in zip(axes, pairs, strict=True):
    ax.scatter(draws[first], draws[second], s=14, alpha=0.5, color="tab:blue", edgecolors="none", label="draws")
    ax.plot(truth[first], truth[second], "k+", markersize=14, markeredgewidth=2, label="true values")
    r = np.corrcoef(draws[first], draws[second])[0, 1]
    ax.set(xlabel=names[first], ylabel=names[second], title=f"correlation {r:+.2f}")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].legend(fontsize="small")
figure.savefig(options.out / "posterior.png", dpi=150)
print(posterior)

# %% [markdown]
# Checked by simulation
# ---------------------
# The posterior comes from the linear response. Simulations at some of its draws, one of them by TVB itself, have to
# look like the recording. This matters here: at part of the draws a second fixed point is near, and the linear response
# is not trusted there, as the printed text says.

# %%
print(few)
print(few.predictive_check(posterior, n_draws=4, n_tvb=1, progress=False))

# %% [markdown]
# What to report
# --------------
# Report the length of the recording, the bounds or other priors, and how many directions and single values FC
# determines. Give each value with its standard error or interval, and interpret no value whose error is that of the
# prior, such as most regional recurrences here. Name the trade-offs, and quote the combination that is determined in
# place of its parts.

# %%
print(f"figures: {options.out}; total {time.perf_counter() - began:.0f} s")
