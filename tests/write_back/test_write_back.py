"""Written values are the simulator's own: prepare gives the state back, and TVB gives simulate's numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tvb.datatypes import equations
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path
from tvb_jaxfit.translate.mapped_parameter import MappedParameter
from tvb_jaxfit.translate.parameter_map import parameter_map

pytestmark = pytest.mark.filterwarnings("ignore::tvb_jaxfit.DomainWarning")

MODEL = ["a", "b", "d", "gamma", "tau_s", "w", "J_N", "I_o", "sigma_noise"]
REGIONAL = [f"model.{name}" for name in MODEL] + ["coupling.a", "coupling.b", "integrator.noise.nsig"]
HRF = {
    "tau_s": st.floats(0.5, 1.0),
    "tau_f": st.floats(0.3, 0.8),
    "k_1": st.floats(1.0, 9.0),
    "V_0": st.floats(0.01, 0.1),
}
positive = st.floats(1e-9, 1e3)


def every_stock():
    return [
        monitors.Raw(),
        monitors.TemporalAverage(period=28.0),
        monitors.Bold(period=200.0, hrf_length=2000.0),
        monitors.Bold(period=240.0, hrf_length=2000.0, hrf_kernel=equations.Gamma()),
    ]


@st.composite
def changes(draw):
    """Values of some parameters by path, global or regional."""
    found = {}
    for path in draw(st.lists(st.sampled_from(REGIONAL), unique=True, max_size=6)):
        size = draw(st.sampled_from([1, 6]))
        # With d near 0 TVB's own vector field loses the digits that prepare compares.
        values = st.floats(1.0, 1e3) if path == "model.d" else positive
        found[path] = np.array(draw(st.lists(values, min_size=size, max_size=size)))
    if draw(st.booleans()):
        seed = draw(st.integers(0, 99))
        weights = np.random.RandomState(seed).uniform(-1.0, 1.0, (6, 6))
        weights[np.abs(weights) < draw(st.sampled_from([0.0, 0.3]))] = 0.0
        found["connectivity.weights"] = weights
    for name in draw(st.lists(st.sampled_from(sorted(HRF)), unique=True, max_size=2)):
        found[f"monitors[2].hrf_kernel.{name}"] = np.array(draw(HRF[name]))
    if draw(st.booleans()):
        found["monitors[3].hrf_kernel.tau"] = np.array(draw(st.floats(0.5, 2.0)))
    return found


def with_values(state, values):
    for path, value in values.items():
        state = with_path(state, path, jnp.asarray(value))
    return state


def stand(sim, standing):
    if standing != "unconfigured":
        sim.configure()
    if standing == "run":
        length, sim.simulation_length = sim.simulation_length, 43 * 4.0
        sim.run()
        sim.simulation_length = length
    return sim


def assert_same_state(one, two):
    for (path, a), (_, b) in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree_util.tree_leaves_with_path(two), strict=True
    ):
        assert a.shape == b.shape and a.dtype == b.dtype, path
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    "standing", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("unconfigured", "configured")), "run"]
)
@settings(
    max_examples=6, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=changes(), second=changes())
def test_prepare_gives_the_written_state_back_exactly(build_small, standing, first, second):
    """Values, shapes, draws, stocks and position; twice, so that a regional value becomes global again."""
    sim = stand(build_small(steps=60, monitors=every_stock()), standing)
    for values in (first, second):
        _, state = tj.prepare(sim)
        state = with_values(state, values)
        report = tj.write_back(state, sim)
        _, again = tj.prepare(sim)
        assert_same_state(again, state)
        assert set(report.changes) <= set(values)


@pytest.mark.parametrize("standing", ["unconfigured", pytest.param("configured", marks=pytest.mark.slow), "run"])
@settings(
    max_examples=4, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=changes())
def test_writing_back_what_was_there_before_restores_every_value_that_tvb_reads(build_small, standing, values):
    sim = stand(build_small(steps=60, monitors=every_stock()), standing)
    _, original = tj.prepare(sim)
    tj.write_back(with_values(original, values), sim)
    tj.write_back(original, sim)
    _, again = tj.prepare(sim)
    assert_same_state(again, original)
    assert tj.write_back(original, sim).changes == {}


FITTED = {
    "model.w": np.linspace(0.4, 0.8, 6),
    "model.I_o": np.array([0.31]),
    "coupling.a": np.linspace(0.05, 0.08, 6),
    "coupling.b": np.array([0.02]),
    "integrator.noise.nsig": np.linspace(1e-6, 1e-5, 6),
    "connectivity.weights": np.triu(np.random.RandomState(5).uniform(0.2, 1.0, (6, 6))),
    "monitors[2].hrf_kernel.tau_s": np.array(0.7),
    "monitors[3].hrf_kernel.tau": np.array(1.3),
}


@pytest.mark.parametrize(
    "standing, precision",
    [
        ("unconfigured", "float64"),
        ("configured", "float32"),
        ("run", "float64"),
        ("run", "float32"),
        pytest.param("unconfigured", "float32", marks=pytest.mark.slow),
        pytest.param("configured", "float64", marks=pytest.mark.slow),
    ],
)
def test_tvbs_own_run_afterwards_equals_simulate(
    build_small, equal_runs, difference, copy_of, float64_histories, standing, precision
):
    def all_of_it():
        sim = stand(build_small(monitors=every_stock()), standing)
        simulate, state = tj.prepare(sim)
        fitted = with_values(state, FITTED)
        ours = simulate(fitted)
        before = copy_of(sim).run()
        report = tj.write_back(fitted, sim)
        assert set(report.changes) == set(FITTED)
        if standing == "unconfigured":
            sim.configure()
        return ours, before, sim.run(), sim

    if precision == "float64":
        with float64_histories():
            ours, before, theirs, sim = all_of_it()
        equal_runs(ours, theirs, kinds=sim.monitors)
    else:
        ours, before, theirs, sim = all_of_it()
        equal_runs(ours, theirs, tolerance=1e-6, bold_tolerance=1e-5, kinds=sim.monitors)
    assert min(difference(before, theirs)) > 1e-3


@pytest.mark.parametrize(
    "scheme, precision",
    [
        ("HeunStochastic", "float64"),
        pytest.param("HeunStochastic", "float32", marks=pytest.mark.slow),
        pytest.param("HeunDeterministic", "float64", marks=pytest.mark.slow),
        pytest.param("HeunDeterministic", "float32", marks=pytest.mark.slow),
    ],
)
def test_position_moves_the_simulator_to_where_the_state_stands(
    build_small, equal_runs, difference, float64_histories, scheme, precision
):
    """Odd lengths: stocks and interim stock are partly filled; the next run equals simulate(final_state)."""

    def all_of_it():
        sim = build_small(scheme=scheme, dt=1.0, steps=313, monitors=every_stock())
        sim.configure()
        simulate, state = tj.prepare(sim)
        final = simulate(with_values(state, {"model.w": np.array([0.55])} | {})).final_state
        report = tj.write_back(final, sim, position=True)
        assert sim.current_step == 313
        assert set(report.changes) == {"model.w"}
        _, again = tj.prepare(sim)
        assert_same_state(again, final)
        return simulate(state), simulate(final), sim.run(), sim

    if precision == "float64":
        with float64_histories():
            before, ours, theirs, sim = all_of_it()
        equal_runs(ours, theirs, kinds=sim.monitors)
    else:
        before, ours, theirs, sim = all_of_it()
        equal_runs(ours, theirs, tolerance=1e-6, bold_tolerance=1e-5, kinds=sim.monitors)
    assert sim.current_step == 626
    assert min(np.max(np.abs(a - b[: len(a)])) for (_, a), (_, b) in zip(theirs, before, strict=True)) > 1e-6


def test_without_position_the_simulator_is_not_moved_and_the_report_says_so(build_small):
    sim = build_small(steps=20)
    sim.configure()
    simulate, state = tj.prepare(sim)
    current = sim.current_state.copy()
    report = tj.write_back(simulate(state).final_state, sim)
    assert sim.current_step == 0
    np.testing.assert_array_equal(sim.current_state, current)
    assert "the simulator is at step 0, the state at step 20" in repr(report)
    assert "the position was not" in repr(report) and "nothing to change" in repr(report)


def test_position_of_a_simulator_that_is_not_configured_is_refused(build_small, snapshot):
    sim = build_small(steps=20)
    simulate, state = tj.prepare(sim)
    final = simulate(with_values(state, {"model.w": np.array([0.7])})).final_state
    before = snapshot(sim)
    with pytest.raises(ValueError, match=r"not configured has no position. Call sim.configure\(\) first. Nothing was"):
        tj.write_back(final, sim, position=True)
    assert snapshot(sim) == before


def test_the_report_names_what_changed_and_from_what_to_what(build_small):
    sim = build_small()
    _, state = tj.prepare(sim)
    report = tj.write_back(
        with_values(state, {"model.w": np.linspace(0.4, 0.8, 6), "coupling.a": np.array([0.05])}), sim
    )
    assert list(report.changes) == ["model.w", "coupling.a"]
    old, new = report.changes["model.w"]
    np.testing.assert_array_equal(old, [0.5])
    np.testing.assert_array_equal(new, np.linspace(0.4, 0.8, 6))
    assert repr(report).splitlines() == ["model.w: 0.5 -> [0.4 .. 0.6 .. 0.8] (6,)", "coupling.a: 0.07 -> 0.05"]
    assert repr(
        tj.write_back(state.replace(model=tj.prepare(sim)[1].model, coupling=tj.prepare(sim)[1].coupling), sim)
    ) == ("nothing to change")


def test_values_are_written_in_tvbs_own_shapes_and_dtypes(build_small):
    sim = build_small(monitors=every_stock())
    sim.configure()
    _, state = tj.prepare(sim)
    tj.write_back(with_values(state, FITTED), sim)
    shapes = {
        (6,): sim.model.w,
        (6, 1): sim.coupling.a,
        (1, 6, 1): sim.integrator.noise.nsig,
        (6, 6): sim.connectivity.weights,
        (1,): sim.model.I_o,
    }
    for shape, value in shapes.items():
        assert type(value) is np.ndarray and value.dtype == np.float64 and value.shape == shape
    assert type(sim.monitors[2].hrf_kernel.parameters["tau_s"]) is float
    np.testing.assert_array_equal(sim.history.weights, sim.connectivity.weights.astype("float32"))


def test_marked_parameters_are_written_as_their_values(build_small):
    sim = build_small()
    _, state = tj.prepare(sim)
    state.model.w = tj.BoundedParameter(jnp.asarray([0.6]), 0.0, 1.0)
    state.coupling.a = tj.Parameter(jnp.asarray([0.05]))
    tj.write_back(state, sim)
    np.testing.assert_allclose(sim.model.w, [0.6], rtol=0, atol=1e-15)
    np.testing.assert_allclose(sim.coupling.a, [0.05], rtol=0, atol=1e-15)


@pytest.mark.parametrize("standing", ["unconfigured", pytest.param("configured", marks=pytest.mark.slow), "run"])
@pytest.mark.parametrize("fails_at", range(len(FITTED)))
def test_where_one_write_fails_nothing_is_changed(build_small, snapshot, monkeypatch, standing, fails_at):
    sim = stand(build_small(steps=60, monitors=every_stock()), standing)
    _, state = tj.prepare(sim)
    fitted = with_values(state, FITTED)
    before = snapshot(sim)
    write, written = MappedParameter.write, []

    def failing(self, on, native):
        if on is not sim:
            return write(self, on, native)
        if len(written) == fails_at:
            written.append("failed")
            raise OSError("no more")
        written.append(self.path)
        write(self, on, native)

    monkeypatch.setattr(MappedParameter, "write", failing)
    with pytest.raises(OSError, match="no more"):
        tj.write_back(fitted, sim)
    assert len(written) == fails_at + 1 and written[-1] == "failed"
    assert snapshot(sim) == before
    monkeypatch.undo()
    tj.write_back(fitted, sim)
    assert snapshot(sim) != before


@pytest.mark.parametrize("standing", ["configured", "run"])
def test_where_a_hemodynamic_response_cannot_be_worked_out_nothing_is_changed(build_small, snapshot, standing):
    sim = stand(build_small(steps=60, monitors=every_stock()), standing)
    _, state = tj.prepare(sim)
    fitted = with_values(state, {"model.w": np.array([0.6]), "monitors[2].hrf_kernel.tau_f": np.array(0.5)})
    before = snapshot(sim)
    compute, calls = monitors.Bold.compute_hrf, []

    def writing(fails_at):
        """write_back with an error at one of TVB's computations of the response, on copies and on the simulator."""

        def failing(self):
            calls.append(self)
            if len(calls) == fails_at:
                raise OSError("no more")
            compute(self)

        calls.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(monitors.Bold, "compute_hrf", failing)
            tj.write_back(fitted, sim)

    fails_at = 1
    while True:
        try:
            writing(fails_at)
        except (ValueError, OSError) as error:
            assert "no more" in str(error) and len(calls) >= fails_at
            assert snapshot(sim) == before
        else:
            break
        fails_at += 1
    assert fails_at > len(calls) > 3
    assert snapshot(sim) != before


def test_a_simulator_of_another_number_of_regions_is_refused(build_small, snapshot):
    _, state = tj.prepare(build_small())
    sim = build_small(np.ones((5, 5)))
    before = snapshot(sim)
    with pytest.raises(ValueError, match="the state has 6 regions, the simulator 5. Nothing was changed"):
        tj.write_back(state, sim)
    assert snapshot(sim) == before


def test_a_simulator_with_leaves_that_the_state_does_not_have_is_refused(build_small, snapshot):
    _, state = tj.prepare(build_small())
    sim = build_small(monitors=[monitors.Bold(period=400.0)])
    before = snapshot(sim)
    with pytest.raises(ValueError, match=r"the simulator has monitors\[0\].hrf_kernel.tau_s, which the state does not"):
        tj.write_back(state, sim)
    assert snapshot(sim) == before


def test_a_simulator_that_prepare_would_not_take_is_refused(build_small, snapshot):
    sim = build_small()
    _, state = tj.prepare(sim)
    sim.monitors = [monitors.BoldRegionROI()]
    before = snapshot(sim)
    with pytest.raises(ValueError, match=r"Simulator.monitors\[0\]: BoldRegionROI.*Nothing was changed"):
        tj.write_back(state, sim)
    assert snapshot(sim) == before


@pytest.mark.parametrize(
    "path, value, count",
    [
        ("model.w", np.array([0.1, np.nan, 0.2, np.inf, 0.3, 0.4]), 2),
        ("coupling.a", np.array([np.nan]), 1),
        ("connectivity.weights", np.full((6, 6), np.inf), 36),
        ("monitors[2].hrf_kernel.tau_s", np.array(np.nan), 1),
    ],
)
def test_values_that_are_not_finite_are_refused_all_named_and_nothing_is_written(
    build_small, snapshot, path, value, count
):
    sim = build_small(steps=60, monitors=every_stock())
    _, state = tj.prepare(sim)
    fitted = with_values(state, {"model.I_o": np.array([0.31]), "model.b": np.array([np.nan]), path: value})
    before = snapshot(sim)
    with pytest.raises(ValueError, match=re.escape(f"{path} holds {count} values that are not finite")) as caught:
        tj.write_back(fitted, sim)
    assert "model.b holds 1 values" in str(caught.value) and "Nothing was changed" in str(caught.value)
    assert snapshot(sim) == before


@pytest.mark.parametrize(
    "path, shape",
    [("model.w", (5,)), ("coupling.a", (2,)), ("integrator.noise.nsig", (3,)), ("connectivity.weights", (6, 5))],
)
@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
def test_values_of_a_wrong_shape_are_refused_and_nothing_is_written(build_small, snapshot, path, shape, standing):
    sim = stand(build_small(), standing)
    _, state = tj.prepare(sim)
    before = snapshot(sim)
    with pytest.raises(ValueError, match=re.escape(path) + ".*Nothing was changed"):
        tj.write_back(with_values(state, {"model.I_o": np.array([0.3]), path: np.full(shape, 0.5)}), sim)
    assert snapshot(sim) == before


@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
@pytest.mark.parametrize(
    "path, value, reason",
    [
        ("integrator.noise.nsig", np.array([-1e-6]), "negative"),
        ("monitors[2].hrf_kernel.tau_f", np.array(10.0), "not finite"),
    ],
)
def test_values_that_prepare_would_refuse_are_refused(build_small, snapshot, standing, path, value, reason):
    sim = stand(build_small(steps=60, monitors=every_stock()), standing)
    _, state = tj.prepare(sim)
    before = snapshot(sim)
    with pytest.raises(ValueError, match=f"{reason}.*Nothing was changed"):
        tj.write_back(with_values(state, {path: value}), sim)
    assert snapshot(sim) == before


@pytest.mark.filterwarnings("default::tvb_jaxfit.DomainWarning")
def test_values_outside_tvbs_domain_are_written_with_a_warning_that_names_it(build_small):
    sim = build_small()
    _, state = tj.prepare(sim)
    values = {"model.w": np.array([0.5, 1.5, 2.0, 0.1, 0.2, 0.3]), "model.I_o": np.array([0.3])}
    with pytest.warns(tj.DomainWarning) as caught:
        tj.write_back(with_values(state, values), sim)
    assert len(caught) == 1
    assert "model.w: 2 of 6 values lie outside the domain [0, 1] that TVB declares (from 0.1 to 2)" in str(
        caught[0].message
    )
    np.testing.assert_array_equal(sim.model.w, values["model.w"])


@pytest.mark.filterwarnings("error::tvb_jaxfit.DomainWarning")
def test_values_inside_the_domain_give_no_warning(build_small):
    sim = build_small()
    _, state = tj.prepare(sim)
    assert set(tj.write_back(with_values(state, {"model.w": np.array([0.9])}), sim).changes) == {"model.w"}


def test_every_leaf_of_the_state_that_is_a_parameter_is_in_the_table(build_small):
    """All other arrays of the state are the position of a run."""
    sim = build_small(steps=60, monitors=every_stock())
    _, state = tj.prepare(sim)
    paths = [leaf.path for leaf in parameter_map(sim)]
    assert len(set(paths)) == len(paths) == 9 + 2 + 1 + 1 + 4 + 3
    assert all(get_path(state, path).dtype == np.float64 for path in paths)
    others = len(jax.tree.leaves(state)) - len(paths)
    # Draws, initial conditions; stock of TemporalAverage; two stocks of each Bold.
    assert others == 2 + 1 + 2 * 2


def test_the_default_response_that_tvb_shares_between_all_monitors_is_not_written_into(build_small):
    """Each monitor gets its own; TVB's default, and with it every other simulator, keeps its values."""
    default = monitors.Bold.hrf_kernel.default
    before = dict(default.parameters)
    sim = build_small(steps=120, monitors=[monitors.Bold(period=400.0), monitors.Bold(period=480.0)])
    other = build_small(steps=120, monitors=[monitors.Bold(period=400.0)])
    assert sim.monitors[0].hrf_kernel is sim.monitors[1].hrf_kernel is other.monitors[0].hrf_kernel is default
    _, state = tj.prepare(sim)
    values = {"monitors[0].hrf_kernel.tau_s": np.array(0.7), "monitors[1].hrf_kernel.tau_s": np.array(0.9)}
    state = with_values(state, values)
    tj.write_back(state, sim)
    assert [monitor.hrf_kernel.parameters["tau_s"] for monitor in sim.monitors] == [0.7, 0.9]
    assert_same_state(tj.prepare(sim)[1], state)
    assert default.parameters == before and other.monitors[0].hrf_kernel is default


def test_a_response_of_the_users_own_stays_the_same_object(build_small):
    kernel = equations.Gamma()
    sim = build_small(steps=120, monitors=[monitors.Bold(period=400.0, hrf_kernel=kernel)])
    _, state = tj.prepare(sim)
    tj.write_back(with_values(state, {"monitors[0].hrf_kernel.tau": np.array(1.3)}), sim)
    assert sim.monitors[0].hrf_kernel is kernel and kernel.parameters["tau"] == 1.3
