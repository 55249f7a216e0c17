"""TVB-Optim's tutorial, ported with the table of idioms in the documentation, at a reduced length."""

import copy
import re
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from tvb.simulator.lab import connectivity, integrators, models, monitors, simulator
from tvb.simulator.lab import coupling as couplings
from tvb.simulator.lab import noise as noises

import tvb_jaxfit as tj

TABLE = (Path(__file__).parents[2] / "docs" / "guide" / "from_tvb_optim.md").read_text()
T1, DT, N_GRID, MAX_STEPS = 26_000.0, 4.0, 3, 2


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Variables of the tutorial at its end."""
    tj.set_cache_path(tmp_path_factory.mktemp("rww"))
    here = SimpleNamespace(**_network())
    _simulated(here)
    _explored(here)
    _fitted(here)
    _regional(here)
    return here


def _network():
    weights, lengths, region_labels = tj.load_structural_connectivity(name="dk_average")
    weights = weights / np.max(weights)
    n_nodes = weights.shape[0]
    graph = connectivity.Connectivity(
        weights=weights,
        tract_lengths=lengths,
        region_labels=np.array(region_labels),
        centres=np.zeros((n_nodes, 3)),
        speed=np.array([np.inf]),
    )
    sim = simulator.Simulator(
        connectivity=graph,
        model=models.ReducedWongWang(w=np.array([0.3]), I_o=np.array([0.32])),
        coupling=couplings.Linear(a=np.array([0.15])),
        integrator=integrators.HeunStochastic(dt=DT, noise=noises.Additive(nsig=np.array([0.00283**2 / 2]))),
        monitors=[monitors.Raw(), monitors.Bold(period=1000.0)],
        initial_conditions=np.full((1, 1, n_nodes, 1), 0.3),
        simulation_length=T1,
    )
    fc_target = tj.load_functional_connectivity(name="dk_average")
    return {"sim": sim, "weights": weights, "n_nodes": n_nodes, "fc_target": fc_target}


def _simulated(here):
    simulate, state = tj.prepare(here.sim)
    state = simulate(state).final_state
    here.result, here.bold_result = simulate(state)

    def observation(state):
        _, (_, bold) = simulate(state)
        return tj.compute_fc(bold, skip_t=20)

    def loss(state):
        return tj.rmse(observation(state), here.fc_target)

    here.state, here.observation, here.loss = state, observation, loss


def _explored(here):
    grid_state = copy.deepcopy(here.state)
    grid_state.model.w = tj.GridAxis(0.001, 0.7, N_GRID)
    grid_state.coupling.a = tj.GridAxis(0.01, 0.3, N_GRID)
    here.grid, loss = tj.Space(grid_state, mode="product"), here.loss
    grid = here.grid

    @tj.cache("explore", redo=False)
    def explore():
        exec = tj.ParallelExecution(loss, grid, n_pmap=8)
        return exec.run()

    here.exploration_results = explore()


def _fitted(here):
    state, loss = copy.deepcopy(here.state), here.loss
    state.coupling.a = tj.Parameter(state.coupling.a)
    state.model.w = tj.Parameter(state.model.w)
    kept = tj.SavingCallback(key="state", save_fun=lambda *args: args[1])
    cb = tj.MultiCallback([tj.DefaultPrintCallback(every=10), kept])

    @tj.cache("optimize", redo=False)
    def optimize():
        opt = tj.OptaxOptimizer(loss, optax.adam(0.01, b2=0.9999), callback=cb)
        fitted_state, fitting_data = opt.run(state, max_steps=MAX_STEPS)
        return fitted_state, fitting_data

    here.marked, here.cb = state, cb
    here.fitted_state, here.fitting_data = optimize()


def _regional(here):
    start, loss, cb = copy.deepcopy(here.fitted_state), here.loss, here.cb
    start.model.w.shape = (here.n_nodes,)
    start.model.I_o = tj.Parameter(start.model.I_o)
    start.model.I_o.shape = (here.n_nodes,)
    start.coupling.a = start.coupling.a.value

    @tj.cache("optimize_het", redo=False)
    def optimize_het():
        return tj.OptaxOptimizer(loss, optax.adam(0.004, b2=0.999), callback=cb).run(start, max_steps=MAX_STEPS)

    here.start_het = start
    here.fitted_state_het, here.fitting_data_het = optimize_het()


def test_the_exploration_is_in_the_order_of_the_tutorial(port):
    n = N_GRID
    assert list(port.exploration_results.axes) == ["coupling.a", "model.w"]
    assert len(port.exploration_results) == len(list(port.exploration_results)) == n * n
    landscape = np.asarray(jnp.stack(port.exploration_results).reshape(n, n))
    np.testing.assert_array_equal(landscape, port.exploration_results.values)
    # At [2, 0]: strong coupling, weak recurrence.
    state = copy.deepcopy(port.state)
    state.coupling.a, state.model.w = jnp.asarray(0.3), jnp.asarray(0.001)
    there = float(port.loss(state))
    assert landscape[2, 0] == pytest.approx(there, rel=1e-9)
    # Negative control: the transposed matrix differs.
    assert abs(landscape[0, 2] - there) > 1e-3


def test_the_values_of_the_grid_are_attributes_in_the_order_of_the_results(port):
    pc = port.grid.collect()
    G_vals, w_vals = pc.coupling.a.flatten(), pc.model.w.flatten()
    assert (min(G_vals), max(G_vals)) == (0.01, 0.3) and (min(w_vals), max(w_vals)) == (0.001, 0.7)
    np.testing.assert_array_equal(G_vals.reshape(N_GRID, N_GRID)[:, 0], np.linspace(0.01, 0.3, N_GRID))
    np.testing.assert_array_equal(pc.model.w, pc["model.w"])
    table = port.exploration_results.to_pandas()
    np.testing.assert_array_equal(table.to_numpy(), np.column_stack([G_vals, w_vals, list(port.exploration_results)]))


def test_single_values_are_formatted_compared_and_drawn_as_numbers(port):
    G_fit, w_fit = port.fitted_state.coupling.a.value, port.fitted_state.model.w.value
    I_o = port.fitted_state.model.I_o
    assert f"w = {w_fit:.3f}" == f"w = {float(w_fit):.3f}" == f"w = {port.fitted_state.model.w:.3f}"
    assert f"I_o = {I_o:.3f}" == "I_o = 0.320" and f"{port.fitting_data.best.coupling.a:.3f}" != "0.150"
    assert f"{port.marked.coupling.a.value:.2f}, {port.state.coupling.a:.2f}" == "0.15, 0.15"
    assert G_fit.shape == w_fit.shape == I_o.shape == ()
    corr_value = tj.fc_corr(np.array(port.observation(port.fitted_state)), port.fc_target, include_diagonal=True)
    assert re.fullmatch(r"r = -?\d\.\d{3}", f"r = {corr_value:.3f}")
    fig, ax = plt.subplots()
    ax.scatter(G_fit, w_fit)
    ax.annotate("Optimized", xy=(G_fit, w_fit), xytext=(G_fit, w_fit - 0.08 * (0.7 - 0.001)))
    ax.axhline(w_fit, label=f"Global w = {w_fit:.3f}")
    fig.canvas.draw()
    plt.close(fig)


def test_the_path_of_a_fit_is_two_lists_of_numbers(port):
    route = [np.array([ds.coupling.a.value for ds in port.fitting_data["state"].save])]
    route.append(np.array([ds.model.w.value for ds in port.fitting_data["state"].save]))
    assert [of.shape for of in route] == [(MAX_STEPS + 1,)] * 2
    assert route[0][0] == 0.15 and np.all(np.diff(route[0]) != 0.0)


def test_regional_values_have_one_entry_per_region_and_frozen_ones_are_no_parameters(port, capsys):
    tj.show_parameters(port.start_het)
    shown = capsys.readouterr().out
    assert "w = " in shown and "I_o = 0.32 (84 values)" in shown and "coupling" not in shown
    w, I_o = port.fitted_state_het.model.w.value.flatten(), port.fitted_state_het.model.I_o.value.flatten()
    assert w.shape == I_o.shape == (port.n_nodes,) and np.ptp(w) > 0.0 < np.ptp(I_o)
    assert port.fitted_state_het.coupling.a == port.fitted_state.coupling.a.value
    fc_regional = np.array(port.observation(port.fitted_state_het))
    assert fc_regional.shape == port.fc_target.shape


def test_time_series_are_those_of_the_two_monitors(port):
    (raw_time, raw), (bold_time, bold) = port.result, port.bold_result
    n_raw, n_bold = int(T1 / DT), int(T1 / 1000.0)
    assert raw_time.shape == (n_raw,) and raw[:, 0, :, 0].shape == (n_raw, port.n_nodes)
    assert bold_time.shape == (n_bold,) and bold[:, 0, :, 0].shape == (n_bold, port.n_nodes)


def test_bounds_of_the_tutorial_are_accepted(port):
    state = copy.deepcopy(port.fitted_state)
    state.model.w = tj.BoundedParameter(state.model.w, lower_bound=0.0, upper_bound=1.0)
    assert (state.model.w.lower_bound, state.model.w.upper_bound) == (0.0, 1.0)
    assert f"{state.model.w:.3f}" == f"{port.fitted_state.model.w:.3f}"


IMPORTED = """
Parameter BoundedParameter Space GridAxis show_parameters set_cache_path cache ParallelExecution SequentialExecution
OptaxOptimizer MultiCallback DefaultPrintCallback SavingCallback load_structural_connectivity
load_functional_connectivity compute_fc fc_corr rmse prepare
"""
ELSEWHERE = """
Network solve ReducedWongWang WongWangExcInh LinearCoupling FastLinearCoupling DenseDelayGraph DenseGraph Heun
AdditiveNoise Bold
"""


def test_every_name_that_the_tutorial_imports_is_in_the_table():
    for name in (IMPORTED + ELSEWHERE).split():
        assert re.search(rf"\b{name}\b", TABLE), name
    for name in IMPORTED.split():
        assert callable(getattr(tj, name)), name


USED = """
connectivity.Connectivity(weights=weights, tract_lengths=lengths, region_labels=np.array(region_labels),
centres=np.zeros((n_nodes, 3)), speed=np.array([np.inf]))
models.ReducedWongWang(w=np.array([0.3]))
Simulator(initial_conditions=np.full((1, 1, n_nodes, 1), 0.3))
coupling.Linear(a=np.array([g]))
noise.Additive(nsig=np.array([s**2 / 2]))
HeunStochastic(dt=dt, noise=noise)
simulation_length=t1
simulate, state = tj.prepare(sim)
monitors=[monitors.Raw(), monitors.Bold(period=1000.0)]
(raw_time, raw), (bold_time, bold) = simulate(state)
raw[:, 0, :, 0]
_, (_, bold) = simulate(state)
state = simulate(state).final_state
tj.fc_corr(fc, target, include_diagonal=True)
state.model.w
state.coupling.a
grid.collect().model.w
state.coupling.a = state.coupling.a.value
tj.show_parameters(state)
"""


@pytest.mark.parametrize("line", USED.strip().splitlines())
def test_every_edit_of_the_port_is_in_the_table(line):
    assert line in TABLE
