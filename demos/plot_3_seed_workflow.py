# %% [markdown]
"""
Fit a network to FC, step by step
=================================

A complete study: global and regional parameters of a reduced Wong-Wang network are fitted to an empirical functional
connectivity (FC), and each fit is scored on fresh noise.

The steps are those of TVB-Optim's tutorial "Reduced Wong-Wang BOLD FC Optimization", with TVB's own objects: simulate,
plot, explore a grid, fit two global values, fit one or two values for each region, compare. The exercises of the
tutorial follow. ``plot_1_fit_resting_state.py`` is the short version.
"""

# %% [markdown]
# Options
# -------
# ``--quick`` checks that the script runs. Its simulation is too short for a fit; most of its time is compilation. In a
# notebook, the environment variable ``DEMO`` holds the options.

# %%
import argparse
import copy
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

arguments = argparse.ArgumentParser(description="Fit a network to FC, step by step")
arguments.add_argument("--out", type=Path, default=Path("seed_workflow"), help="folder of figures and cached results")
arguments.add_argument("--quick", action="store_true", help="a short simulation, to check that the script runs")
arguments.add_argument("--float32", action="store_true", help="everything in single precision, JAX's default")
options = arguments.parse_args(os.environ.get("DEMO", "").split() if "ipykernel" in sys.modules else None)

jax.config.update("jax_enable_x64", not options.float32)
options.out.mkdir(parents=True, exist_ok=True)
tj.set_cache_path(options.out / "cache")
seconds, n_grid = (30, 2) if options.quick else (120, 16)
durations, began = {}, time.perf_counter()


def steps(n):
    """Steps of a fit."""
    return 2 if options.quick else n


def save_figure(name, section):
    """Save the figure, and record the duration of the section."""
    global began
    plt.gcf().savefig(options.out / f"{name}.png", dpi=120)
    durations[section], began = time.perf_counter() - began, time.perf_counter()


# %% [markdown]
# Structure and target
# --------------------
# 84 regions (Desikan-Killiany), weights scaled to a maximum of 1, no delays. The target is the empirical FC.

# %%
white_matter = tj.load_connectivity("dk_average")
white_matter.weights = white_matter.scaled_weights(mode="tract")
white_matter.speed = np.array([np.inf])
n_nodes = len(white_matter.region_labels)
fc_target = tj.load_functional_connectivity("dk_average")

tj.plot.structural_connectivity(white_matter)
save_figure("1_structure", "data")

# %% [markdown]
# The simulator
# -------------
# In the reduced Wong-Wang model, the input to a region is x = w J_N S + I_o + J_N c. ``w`` is the local recurrence,
# ``I_o`` the external input, and c the input from other regions, scaled by the coupling's ``a`` (G in the literature).
# Noise with a standard deviation of 0.00283 per sqrt(ms) is nsig = 0.00283^2 / 2 in TVB.

# %%
sim = simulator.Simulator(
    connectivity=white_matter,
    model=models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.32])),
    coupling=coupling.Linear(a=np.array([0.5])),
    integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([0.00283**2 / 2]))),
    monitors=[monitors.Raw(), monitors.Bold(period=1000.0)],
    initial_conditions=np.full((1, 1, n_nodes, 1), 0.3),
    simulation_length=1000.0 * seconds,
)
if not options.float32:
    print(tj.certify(sim, simulation_length=5000.0))

# %% [markdown]
# The simulation as a function
# ----------------------------
# The first run is the transient. All later runs start from its final state, which includes the buffer of the BOLD
# monitor.

# %%
simulate, state = tj.prepare(sim)
state = simulate(state).final_state
(raw_time, activity), (bold_time, bold) = simulate(state)

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
tj.plot.time_series(raw_time - raw_time[0], activity, window=(0.0, 1000.0), ylabel="S", ax=axes[0])
tj.plot.time_series(bold_time - bold_time[0], bold, window=(0.0, 60_000.0), ylabel="BOLD", ax=axes[1])
save_figure("2_time_series", "certificate and first runs")

# %% [markdown]
# Observation and loss
# --------------------
# The observation is the FC of the BOLD signal without its first 20 samples. The loss is its root-mean-square difference
# from the target. The correlation r compares the patterns, independent of their strength. The tutorial's r includes the
# diagonal, where both matrices are zero.


# %%
def observation(state):
    """FC of the simulated BOLD."""
    _, (_, bold) = simulate(state)
    return tj.compute_fc(bold, skip_t=20)


def loss(state):
    """Root-mean-square difference from the target."""
    return tj.rmse(observation(state), fc_target)


def r(fc):
    """Correlation over the whole matrix, as in the tutorial."""
    return float(tj.fc_corr(fc, fc_target, include_diagonal=True))


tj.plot.functional_connectivity({"Target": fc_target, "Initial": observation(state)})
save_figure("3_initial_fc", "initial FC")

# %% [markdown]
# Exploration
# -----------
# Axes in place of values span a grid, and the loss is evaluated at all its points. ``cache`` stores the result of a
# function by the content of everything that it uses. A second run of this script reads the result; a run with another
# loss computes it again.

# %%
grid_state = copy.deepcopy(state)
grid_state.model.w = tj.GridAxis(0.001, 0.7, n_grid)
grid_state.coupling.a = tj.GridAxis(0.001, 0.7, n_grid)
grid = tj.Space(grid_state, mode="product")


@tj.cache("explore")
def explore():
    """Loss at each point of the grid."""
    return tj.ParallelExecution(loss, grid).run()


exploration = explore()
print(exploration)
tj.plot.exploration(exploration)
save_figure("4_exploration", f"grid of {len(grid)} points")

# %% [markdown]
# A global fit
# ------------
# ``Parameter`` marks a value that the optimiser may change. The callback saves the state of each step, for the path in
# the figure.

# %%
state.coupling.a = tj.Parameter(state.coupling.a)
state.model.w = tj.Parameter(state.model.w)
callback = tj.MultiCallback([tj.DefaultPrintCallback(every=50), tj.SavingCallback("state")])


@tj.cache("optimize")
def optimize():
    """One w and one coupling strength for all regions."""
    optimizer = tj.OptaxOptimizer(loss, optax.adam(0.01, b2=0.9999), callback=callback)
    return optimizer.run(state, max_steps=steps(300))


fitted, history = optimize()
print(history)
tj.plot.exploration(exploration, path=history["state"].save)
save_figure("5_trajectory", "global fit")

# %% [markdown]
# Regional fits
# -------------
# Two fits start from the global one: with a w for each region, and with a w and an I_o for each region. Without bounds,
# some w would become negative, which is no excitation; ``BoundedParameter`` keeps every step within its bounds. The
# coupling strength stays fixed: ``.value`` removes the mark. The first steps of Adam are as large as its rate, for all
# regions at once, and could leave the narrow valley of the loss. Therefore the rate rises from zero, and falls again.

# %%
start_w = copy.deepcopy(history.best)
start_w.coupling.a = start_w.coupling.a.value
start_w.model.w = tj.BoundedParameter(start_w.model.w, lower_bound=0.0, upper_bound=1.0)
start_w.model.w.shape = (n_nodes,)

start_w_and_I_o = copy.deepcopy(start_w)
start_w_and_I_o.model.I_o = tj.BoundedParameter(start_w_and_I_o.model.I_o, lower_bound=0.2, upper_bound=0.4)
start_w_and_I_o.model.I_o.shape = (n_nodes,)
tj.show_parameters(start_w_and_I_o, sim)


@tj.cache("optimize_regional")
def optimize_regional(start, max_steps):
    """Values for each region."""
    n = steps(max_steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, 0.01, n // 6, n)
    return tj.OptaxOptimizer(loss, optax.adam(rate), callback=callback).run(start, max_steps=n)


_, history_w = optimize_regional(start_w, 100)
_, history_both = optimize_regional(start_w_and_I_o, 200)
print(history_w, history_both, sep="\n")
fits = {
    "initial": state,
    "global": history.best,
    "regional w": history_w.best,
    "regional w and I_o": history_both.best,
}

# %% [markdown]
# Comparison
# ----------
# FC of the global and regional fits, beside the target.

# %%
fcs = {name: np.asarray(observation(fit)) for name, fit in fits.items()}
fitted_fcs = {name: fc for name, fc in fcs.items() if name != "initial"}
tj.plot.functional_connectivity({"target": fc_target} | fitted_fcs)
save_figure("6_fc", "regional fits")
figure, axes = plt.subplots(1, len(fitted_fcs), figsize=(11, 4.2), layout="constrained")
for axis, (name, fc) in zip(axes, fitted_fcs.items(), strict=True):
    tj.plot.fc_scatter(fc, fc_target, name, ax=axis)
save_figure("7_scatter", "FC figures")

# %% [markdown]
# Fitted values
# -------------
# The values of the regions against the strength of their incoming connections.

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for axis, name, path in zip(axes, list(fits)[2:] + list(fits)[-1:], ("w", "w", "I_o"), strict=True):
    values, global_value = getattr(fits[name].model, path), getattr(history.best.model, path)
    tj.plot.regional(values, white_matter, reference=global_value, name=f"{path} ({name})", ax=axis)
save_figure("8_regional_values", "values figure")

# %% [markdown]
# Evaluation on fresh noise, and in TVB
# -------------------------------------
# ``evaluate`` simulates 20 minutes on fresh noise from the state of a fit, with four seeds. It also scores windows of
# 100 s. Then the values are written into the simulator, and TVB runs, too.


# %%
def score_line(sim, fit, fc):
    """Line of the table: r on the training noise, and on fresh noise in windows of 100 s and over the whole run."""
    length, n_seeds = 1000.0 * (60 if options.quick else 1220), 1 if options.quick else 4
    long_run = tj.FCOptions(simulation_length=length, skip_t=20)
    evaluation = tj.evaluate(sim, fc_target, state=fit, n_seeds=n_seeds, fc=long_run, window=length / 12.2)
    whole = np.mean([r(fc_jax) for fc_jax in evaluation.fc["JAX"]])
    return f"{r(fc):8.3f}{evaluation.mean('window_r'):8.3f}{whole:8.3f}{evaluation.mean('r'):8.3f}"


table = {name: score_line(sim, fit, fcs[name]) for name, fit in fits.items()}
print(tj.write_back(history_both.best, sim))
print(tj.evaluate(sim, fc_target, fc=tj.FCOptions(skip_t=20), n_seeds=1, n_tvb=1))
durations["evaluation"], began = time.perf_counter() - began, time.perf_counter()

# %% [markdown]
# Exercises
# ---------
# ``fit`` does all of this in one call. ``write_back`` puts the global fit into the simulator, and the exercises start
# from it: a third parameter, the amplitude of the noise; a longer simulation; and single precision, JAX's default. The
# amplitude is a ``PositiveParameter``, which changes by factors. It hardly changes, because the FC of small
# fluctuations does not depend on their size.

# %%
tj.write_back(history.best, sim)
regional_w = {"model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True)}
on_training_noise = {
    "method": "simulate",
    "optimizer": optax.adam(0.01),
    "noise": tj.NoiseOptions(resample=False),
    "fc": tj.FCOptions(skip_t=20),
}

free = {path: tj.PositiveParameter() for path in ("coupling.a", "model.w", "integrator.noise.nsig")}
exercises = {"global, and nsig": tj.fit(sim, fc_target, free, max_steps=steps(30), **on_training_noise)}
longer_run = {"fc": tj.FCOptions(skip_t=20, simulation_length=2500.0 * seconds), "max_steps": steps(20)}
exercises["2.5 times as long"] = tj.fit(sim, fc_target, regional_w, **(on_training_noise | longer_run))
with jax.enable_x64(False):
    single = tj.fit(sim, fc_target, regional_w, max_steps=steps(20), **on_training_noise)
    fc_single = np.asarray(single.fc(), float)
for result in (*exercises.values(), single):
    print(result)
durations["exercises: nsig, length, precision"], began = time.perf_counter() - began, time.perf_counter()

# %% [markdown]
# Other optimisers
# ----------------
# Any optimiser of optax can be used. Each needs a suitable rate: plain gradients are small, and L-BFGS finds its own.

# %%
optimizers = {
    "adam": optax.adam(0.01),
    "adamaxw": optax.adamaxw(0.01),
    "sgd": optax.sgd(0.3, momentum=0.9),
    "lbfgs": optax.lbfgs(),
}
figure, axis = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
for name, optimizer in optimizers.items():
    _, optimizer_history = tj.OptaxOptimizer(loss, optimizer).run(start_w, max_steps=steps(10))
    axis.plot(optimizer_history.loss, label=f"{name}, {optimizer_history.wall_time:.0f} s")
axis.set(xlabel="step", ylabel="loss", title="regional w")
axis.legend()
save_figure("9_optimizers", "exercise: optimisers")

# %% [markdown]
# Two populations
# ---------------
# ``ReducedWongWangExcInh`` has an excitatory and an inhibitory population. ``w_p`` is the excitatory recurrence,
# ``J_i`` the strength of inhibition, and ``lamda`` the part of the long-range input that reaches the inhibitory
# population.
# The same steps follow with simulations of half the length: a grid, a fit of four global values, and a fit of three
# values for each region.

# %%
two = simulator.Simulator(
    connectivity=white_matter,
    model=models.ReducedWongWangExcInh(lamda=np.array([0.1]), variables_of_interest=["S_e"]),
    coupling=coupling.Linear(a=np.array([0.2])),
    integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([0.00283**2 / 2]))),
    monitors=[monitors.Bold(period=1000.0)],
    initial_conditions=np.full((1, 2, n_nodes, 1), 0.1),
    simulation_length=1000.0 * max(30, seconds / 2),
)
simulate_two, grid_two = tj.prepare(two)
grid_two.model.w_p, grid_two.coupling.a = tj.GridAxis(0.4, 1.4, n_grid // 2), tj.GridAxis(0.05, 0.4, n_grid // 2)


def loss_two(state):
    """Loss of the model with two populations."""
    ((_, bold),) = simulate_two(state)
    return tj.rmse(tj.compute_fc(bold, skip_t=20), fc_target)


best = tj.ParallelExecution(loss_two, tj.Space(grid_two)).run().best
bounds = {"coupling.a": (0.0, 1.0), "model.w_p": (0.0, 2.0), "model.J_i": (0.001, 2.0), "model.lamda": (0.0, 1.0)}
values = {"coupling.a": best.coupling.a, "model.w_p": best.model.w_p}
free = {path: tj.BoundedParameter(values.get(path), *bounds[path]) for path in bounds}
global_two = tj.fit(two, fc_target, free, max_steps=steps(30), **on_training_noise)
global_two.write_back(two)
free = {path: tj.BoundedParameter(None, *bounds[path], regional=True) for path in list(bounds)[1:]}
regional_two = tj.fit(two, fc_target, free, max_steps=steps(50), **on_training_noise)
print(regional_two)

table["two populations, regional"] = score_line(two, regional_two.best, regional_two.fc())
fitted_fcs = {"one population": fcs["regional w and I_o"], "two populations": np.asarray(regional_two.fc())}
tj.plot.functional_connectivity({"target": fc_target} | fitted_fcs)
save_figure("10_two_populations", "exercise: two populations")

# %% [markdown]
# A fit without noise
# -------------------
# A fit on one realisation of the noise also adapts to that realisation. A fit of the linear response uses no noise, and
# simulations on fresh noise confirm it: see ``plot_2_linear_response.py``. Its r in the column "training" comes from a
# simulation as long as the others, on noise that the fit did not use.

# %%
free = {
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
    "model.I_o": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.4, regional=True),
    "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0),
}
linear_fit = tj.fit(sim, fc_target, free, method="linear", search=tj.SearchOptions(max_evaluations=steps(300)))
print(linear_fit)
table["linear response"] = score_line(sim, linear_fit.best, linear_fit.fc())
tj.plot.fc_scatter(linear_fit.fc(key=jax.random.key(0)), fc_target, "linear response")
save_figure("11_linear", "linear response")

# %% [markdown]
# Summary
# -------
# Scores of all fits, and the time of each section.

# %%
print(f"\n{'r with the target':27}{'training':>9}{'fresh noise':>24}")
print(f"{'':28}{'':8}{'100 s *':>8}{'20 min':>8}{'20 min *':>9}    * off the diagonal")
for name, line in table.items():
    print(f"{name:28}{line}")
for name, result in exercises.items():
    print(f"{name:28}{r(result.fc()):8.3f}    after {result.history.loss.size - 1} steps")
print(f"{'single precision':28}{r(fc_single):8.3f}    after {single.history.loss.size - 1} steps")
for section, duration in durations.items():
    print(f"{section:36}{duration:6.0f} s")
print(f"{'total':36}{sum(durations.values()):6.0f} s; figures in {options.out}")
