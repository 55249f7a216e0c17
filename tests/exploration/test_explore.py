"""An exploration gives the values of a plain loop over the points, and names the points that failed."""

import copy
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tqdm.auto
from hypothesis import given, settings
from hypothesis import strategies as st
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import (
    DataAxis,
    GridAxis,
    LatinHypercubeAxis,
    ParallelExecution,
    Parameter,
    SequentialExecution,
    Space,
    State,
    UniformAxis,
)
from tvb_jaxfit.exploration import batches
from tvb_jaxfit.state import with_path

N_NODE = 5


def _state(**replaced):
    model = {"w": jnp.asarray([0.6]), "I_o": jnp.full(3, 0.3), "J_N": jnp.asarray(0.26)}
    state = State(model=State(**model), integrator=State(a=jnp.asarray([0.02])))
    for path, value in replaced.items():
        state = with_path(state, path.replace("__", "."), value)
    return state


def _grid(n_w=4, n_a=3, mode="product"):
    return Space(_state(model__w=GridAxis(-1.0, 2.0, n_w), integrator__a=GridAxis(0.0, 1.0, n_a)), mode)


def _loss(state):
    return jnp.sum(jnp.exp(state.model.w) * state.model.I_o) + jnp.sin(3.0 * state.integrator.a[0]) + state.model.J_N


def _run(loss, space, execution=ParallelExecution, **options):
    return execution(loss, space, progress=False, **options).run()


def _looped(loss, space):
    return np.array([loss(state) for state in space]).reshape(space.shape)


# Axes and spaces


def test_a_product_runs_through_the_axes_in_the_order_of_paths_the_last_one_fastest():
    space = _grid()
    assert list(space.axes) == ["model.w", "integrator.a"] and space.shape == (4, 3) and len(space) == 12
    expected = list(itertools.product([-1.0, 0.0, 1.0, 2.0], [0.0, 0.5, 1.0]))
    assert [(float(s.model.w[0]), float(s.integrator.a[0])) for s in space] == expected
    np.testing.assert_array_equal(np.stack(list(space.collect().values()), axis=1), expected)
    for index, place in enumerate(np.ndindex(4, 3)):
        for state in (space[index], space[place], space[index - 12]):
            assert (float(state.model.w[0]), float(state.integrator.a[0])) == expected[index]
    assert space.point((1, 2)) == {"model.w": 0.0, "integrator.a": 1.0} == space.point(5)


def test_zipped_axes_go_side_by_side():
    space = _grid(3, 3, "zip")
    assert space.shape == (3,) and len(space) == 3
    assert [(float(s.model.w[0]), float(s.integrator.a[0])) for s in space] == [(-1.0, 0.0), (0.5, 0.5), (2.0, 1.0)]


def test_points_are_plain_states_in_the_shapes_of_what_the_axes_stand_for():
    state = _state()
    state.model.w, state.model.J_N = GridAxis(0.0, 1.0, 2), UniformAxis(0.0, 1.0, 2)
    state.model.I_o, state.integrator.a = GridAxis(0.0, 1.0, 2), Parameter([0.02])
    (point, *_) = Space(state)
    assert jax.tree.structure(point) == jax.tree.structure(_state())
    assert point.model.w.shape == (1,) and point.model.J_N.shape == () == point.model.I_o.shape
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(point))


def test_an_axis_may_be_put_in_place_twice_and_over_another():
    axis, state = GridAxis(0.0, 1.0, 2), _state()
    state.model.w = state.model.J_N = axis
    state.model.w = DataAxis([0.5, 0.7, 0.9])
    assert axis.shape == () == state.model.J_N.shape and state.model.w.shape == (1,)
    assert Space(state).shape == (2, 3)


def test_neither_the_state_nor_its_axes_are_modified():
    state = _state(model__w=GridAxis(0.0, 1.0, 2), integrator__a=Parameter([0.02]))
    axis, before = state.model.w, repr(state)
    space = Space(state)
    _run(_loss, space)
    assert state.model.w is axis and isinstance(state.integrator.a, Parameter) and repr(state) == before
    state.model.I_o = jnp.zeros(3)
    np.testing.assert_array_equal(space[0].model.I_o, np.full(3, 0.3))
    assert isinstance(copy.deepcopy(state).model.w, GridAxis)


def test_a_state_shows_its_axes():
    state = _state(model__w=GridAxis(0.001, 0.7, 16), model__I_o=DataAxis(np.ones((2, 3))))
    assert "w = GridAxis(0.001 .. 0.7, 16 values)" in repr(state)
    assert "I_o = DataAxis(1 .. 1, 2 values of shape (3,))" in repr(state)
    assert repr(Space(state)).startswith("Space: 2 x 16 = 32 points\n  model.I_o: DataAxis(")


@given(low=st.floats(-10, 10), width=st.floats(0.1, 10), n=st.integers(1, 40), seed=st.integers(0, 5))
def test_drawn_values_lie_in_their_range_and_come_again(low, width, n, seed):
    for kind in (UniformAxis, LatinHypercubeAxis):
        values = kind(low, low + width, n, seed).values("model.w")
        assert values.shape == (n,) and np.all((values >= low) & (values <= low + width))
        np.testing.assert_array_equal(values, kind(low, low + width, n, seed).values("model.w"))
        assert not np.array_equal(values, kind(low, low + width, n, seed + 1).values("model.w"))
        assert not np.array_equal(values, kind(low, low + width, n, seed).values("model.I_o"))
    parts = np.floor((values - low) / width * n + 1e-9 * n)
    if n > 1 and width > 1.0:
        assert np.unique(parts.clip(0, n - 1)).size >= n - 1


def test_zipped_latin_axes_make_a_hypercube_and_uniform_ones_are_independent():
    n = 400
    latin, uniform = (
        Space(_state(model__w=kind(0.0, 1.0, n), integrator__a=kind(0.0, 1.0, n)), "zip").collect()
        for kind in (LatinHypercubeAxis, UniformAxis)
    )
    for values in latin.values():
        np.testing.assert_array_equal(np.sort(np.floor(values * n)), np.arange(n))
        assert not np.array_equal(np.argsort(values), np.arange(n))
    assert np.unique(np.floor(uniform["model.w"] * n)).size < n
    for both in (latin, uniform):
        assert abs(np.corrcoef(both["model.w"], both["integrator.a"])[0, 1]) < 0.15


def test_regional_data_go_to_their_points_whole():
    data = np.arange(12.0).reshape(4, 3)
    space = Space(_state(model__I_o=DataAxis(data), integrator__a=DataAxis([0.1, 0.2])))
    np.testing.assert_array_equal(space.collect()["model.I_o"], np.repeat(data, 2, axis=0))
    np.testing.assert_array_equal(space[2, 1].model.I_o, data[2])
    table = space.to_pandas()
    assert list(table.columns) == ["model.I_o[0]", "model.I_o[1]", "model.I_o[2]", "integrator.a"]
    np.testing.assert_array_equal(table["model.I_o[2]"], np.repeat(data[:, 2], 2))
    result = _run(lambda state: jnp.sum(state.model.I_o) - state.integrator.a[0], space)
    np.testing.assert_allclose(result.values, data.sum(1)[:, None] - [0.1, 0.2], rtol=1e-14)


ERRORS = {
    "no axis": (lambda: Space(_state()), "no value of the state is an axis. Put one"),
    "mode": (lambda: _grid(mode="cross"), "mode = 'cross'; give 'product' or 'zip'"),
    "unequal": (lambda: _grid(4, 3, "zip"), r"do not zip \(model.w: 4, integrator.a: 3\)"),
    "no values": (lambda: GridAxis(0.0, 1.0, 0), "GridAxis: n = 0; give a whole number"),
    "half a value": (lambda: UniformAxis(0.0, 1.0, 2.5), "UniformAxis: n = 2.5; give a whole number"),
    "no range": (lambda: LatinHypercubeAxis(1.0, 0.0, 3), "LatinHypercubeAxis: 1.0 to 0.0 is no range"),
    "infinite": (lambda: GridAxis(0.0, np.inf, 3), "0.0 to inf is no range"),
    "no data": (lambda: DataAxis([]), r"values of shape \(0,\)"),
    "one number": (lambda: DataAxis(1.0), r"values of shape \(\)"),
    "threads": (lambda: ParallelExecution(_loss, _grid(), n_pmap=0), "n_pmap = 0; give a whole number of at least 1"),
    "batch": (lambda: ParallelExecution(_loss, _grid(), batch_size=-1), "batch_size = -1; give a whole number of"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_no_space_is_refused(name):
    make, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_points_that_are_not_there_are_refused():
    for index in (12, -13, (4, 0)):
        with pytest.raises(IndexError, match="there are 4 x 3 = 12 points"):
            _grid()[index]
    for index in ((0,), (0, 0, 0), "w", 1.5):
        with pytest.raises(TypeError, match="give the number of a point, or one index an axis"):
            _grid()[index]


# Executions


@settings(max_examples=20)
@given(
    n_w=st.integers(1, 5),
    n_a=st.integers(1, 4),
    n_pmap=st.integers(1, 4),
    batch_size=st.one_of(st.none(), st.integers(1, 25)),
)
def test_values_are_those_of_a_plain_loop(n_w, n_a, n_pmap, batch_size):
    space = _grid(n_w, n_a)
    result = _run(_loss, space, n_pmap=n_pmap, batch_size=batch_size)
    expected = _looped(_loss, space)
    assert result.values.shape == (n_w, n_a) and result.failures == []
    np.testing.assert_allclose(result.values, expected, rtol=1e-12)
    assert result.best_index == np.unravel_index(expected.argmin(), expected.shape)
    np.testing.assert_allclose(_loss(result.best), expected.min(), rtol=1e-12)
    assert result.stop_reason == f"all {n_w * n_a} points done" and result.wall_time > 0.0


def test_a_batch_is_traced_once_however_the_points_divide():
    traces = []

    def loss(state):
        traces.append(1)
        return _loss(state)

    for batch_size in (1, 5, 12, 100):
        traces.clear()
        _run(loss, _grid(), batch_size=batch_size, n_pmap=3)
        assert len(traces) == 1


def test_default_batch_sizes():
    def size(n=100, **options):
        state = State(w=GridAxis(0.0, 1.0, n))
        return ParallelExecution(_loss, Space(state), **options).batch_size

    assert size(n_pmap=2) == 16 and size(n_pmap=2, batch_size=7) == 7
    # Every thread has a batch.
    assert size(6, n_pmap=4) == 2


def test_only_what_the_axes_change_is_batched():
    shapes = []

    def loss(state):
        shapes.append(jax.make_jaxpr(lambda i, w: i * w)(state.model.I_o, state.model.w).out_avals[0].shape)
        assert not hasattr(state.model.I_o, "batch_dim") and hasattr(state.model.w, "batch_dim")
        return jnp.sum(state.model.I_o) * state.model.w[0]

    result = _run(loss, _grid(), batch_size=4)
    assert shapes == [(3,)] and result.failures == []


@pytest.mark.parametrize("execution", [ParallelExecution, SequentialExecution])
def test_trees_of_arrays_come_in_the_shape_of_the_space(execution):
    def loss(state):
        value, of_w = jax.value_and_grad(lambda w: _loss(with_path(state, "model.w", w)))(state.model.w)
        return value, {"w": of_w, "outer": jnp.outer(state.model.I_o, state.model.w * jnp.ones(2))}

    space = _grid()
    value, others = (result := _run(loss, space, execution)).values
    assert value.shape == (4, 3) and others["w"].shape == (4, 3, 1) and others["outer"].shape == (4, 3, 3, 2)
    np.testing.assert_allclose(value, _looped(_loss, space), rtol=1e-12)
    w = space.collect()["model.w"].reshape(4, 3)
    np.testing.assert_allclose(others["w"][..., 0], 0.9 * np.exp(w), rtol=1e-12)
    np.testing.assert_allclose(others["outer"][..., 2, 1], 0.3 * w, rtol=1e-12)
    assert result.best_index == np.unravel_index(value.argmin(), value.shape)
    assert list(result.to_pandas().columns) == ["model.w", "integrator.a", "[0]"]


def test_a_table_has_a_row_a_point():
    result = _run(_loss, _grid())
    table = result.to_pandas()
    assert list(table.columns) == ["model.w", "integrator.a", "value"] and len(table) == 12
    row = table.loc[table.value.idxmin()]
    assert dict(row[["model.w", "integrator.a"]]) == result.space.point(result.best_index)
    np.testing.assert_array_equal(table.value, result.values.ravel())


def test_a_loss_without_a_number_has_no_best():
    result = _run(lambda state: state.model.I_o * state.model.w, _grid())
    with pytest.raises(ValueError, match=r"an array of shape \(3,\) at each point. Let it return a number"):
        result.best  # noqa: B018
    assert "value: shape (4, 3, 3)" in repr(result)


def _nan_above(limit):
    return lambda state: jnp.where(state.model.w[0] > limit, jnp.nan, _loss(state))


@pytest.mark.parametrize("execution", [ParallelExecution, SequentialExecution])
def test_values_that_are_not_finite_are_kept_and_reported(execution):
    result = _run(_nan_above(1.5), _grid(), execution)
    assert np.isnan(result.values[3]).all() and np.isfinite(result.values[:3]).all()
    assert [point for point, _ in result.failures] == [{"model.w": 2.0, "integrator.a": a} for a in (0.0, 0.5, 1.0)]
    assert {what for _, what in result.failures} == {"value is nan"}
    assert result.values[result.best_index] == np.nanmin(result.values)
    assert "failed: 3 points, the first at model.w = 2, integrator.a = 0: value is nan" in repr(result)
    assert "  order of values: [model.w, integrator.a]\n  smallest: " in repr(result)


def test_where_nothing_is_finite_there_is_no_best():
    result = _run(_nan_above(-9.0), _grid())
    assert len(result.failures) == 12
    with pytest.raises(ValueError, match="no point has a finite value; see failures"):
        result.best  # noqa: B018
    assert "failed: 12 points" in repr(result)


def _raises_at(value):
    def loss(state):
        if float(state.model.w[0]) == value and float(state.integrator.a[0]) == 0.5:
            raise RuntimeError("no convergence\nand more")
        return float(_loss(state))

    return loss


def test_a_point_that_raises_is_named_and_the_others_keep_their_values():
    space = _grid()
    expected = _looped(_loss, space)
    expected[2, 1] = np.nan
    result = _run(_raises_at(1.0), space, SequentialExecution)
    np.testing.assert_allclose(result.values, expected, rtol=1e-12)
    assert result.failures == [({"model.w": 1.0, "integrator.a": 0.5}, "RuntimeError: no convergence")]


@pytest.mark.parametrize("n_pmap,batch_size", [(1, 5), (4, 2)])
def test_a_batch_that_raises_is_run_point_by_point(n_pmap, batch_size):
    """A host callback raises at one point while the compiled batch runs."""

    def checked(w, a):
        if np.any((np.asarray(w) == 1.0) & (np.asarray(a) == 0.5)):
            raise RuntimeError("no convergence")
        return np.asarray(w)

    def loss(state):
        kind = jax.ShapeDtypeStruct((), jnp.float64)
        w = jax.pure_callback(checked, kind, state.model.w[0], state.integrator.a[0], vmap_method="broadcast_all")
        return _loss(state) + 0.0 * w

    space = _grid()
    expected = _looped(_loss, space)
    expected[2, 1] = np.nan
    result = _run(loss, space, n_pmap=n_pmap, batch_size=batch_size)
    np.testing.assert_allclose(result.values, expected, rtol=1e-12)
    ((point, what),) = result.failures
    assert point == {"model.w": 1.0, "integrator.a": 0.5} and "Error" in what


@pytest.mark.parametrize("n_pmap", [1, 3])
def test_batches_are_halved_where_the_memory_of_a_device_does_not_suffice(n_pmap, monkeypatch):
    fetched, tried = batches._run_to_numpy, []

    def of_a_small_device(batch, arguments):
        tried.append(len(arguments[0]["model.w"]))
        if tried[-1] > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
        return fetched(batch, arguments)

    monkeypatch.setattr(batches, "_run_to_numpy", of_a_small_device)
    space = _grid()
    run = ParallelExecution(_loss, space, n_pmap=n_pmap, batch_size=9, progress=False)
    with pytest.warns(UserWarning, match=r"does not suffice for \d points at once") as caught:
        result = run.run()
    assert [str(one.message).partition("; ")[2] for one in caught] == ["5 at once follow.", "3 at once follow."]
    np.testing.assert_allclose(result.values, _looped(_loss, space), rtol=1e-12)
    assert not result.failures and run.batch_size == 3 and set(tried) == {9, 5, 3}
    assert all(one.filename == __file__ for one in caught)


def test_a_loss_that_does_not_trace_is_run_point_by_point_and_warned_of():
    with pytest.warns(UserWarning, match="does not run as a compiled batch.*one by one") as caught:
        result = _run(_raises_at(1.0), _grid())
    assert caught[0].filename == __file__
    assert len(result.failures) == 1 and np.isnan(result.values).sum() == 1


@pytest.mark.parametrize("execution", [ParallelExecution, SequentialExecution])
@pytest.mark.filterwarnings("ignore:the loss does not run as a compiled batch")
def test_a_loss_that_raises_everywhere_raises(execution):
    with pytest.raises(AttributeError, match="no 'W' here"):
        _run(lambda state: state.model.W, _grid(), execution)


def test_an_interrupt_keeps_what_was_computed():
    seen = []

    def loss(state):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(float(_loss(state)))
        return seen[-1]

    result = _run(loss, _grid(), SequentialExecution)
    np.testing.assert_array_equal(result.values.ravel()[:5], seen)
    assert np.isnan(result.values.ravel()[5:]).all() and result.failures == []
    assert result.stop_reason == "interrupted after 5 of 12 points"
    assert result.values[result.best_index] == min(seen)


@pytest.mark.parametrize("n_pmap", [1, 3])
def test_an_interrupt_of_a_parallel_run_keeps_its_batches(n_pmap, monkeypatch):
    """An interrupt in the waiting thread, here while it updates the progress bar after the second batch."""
    taken, space = [], _grid()
    bar = tqdm.auto.tqdm

    class Bar(bar):
        def update(self, n=1):
            taken.append(n)
            if len(taken) == 2:
                raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    result = _run(_loss, space, n_pmap=n_pmap, batch_size=3)
    done = np.isfinite(result.values).all(axis=1)
    np.testing.assert_allclose(result.values[done], _looped(_loss, space)[done], rtol=1e-12)
    assert 2 <= done.sum() <= 1 + n_pmap and result.failures == []
    assert result.stop_reason == f"interrupted after {3 * done.sum()} of 12 points"
    assert result.values[result.best_index] == np.nanmin(result.values)


def test_nothing_is_kept_where_nothing_was_computed():
    def loss(state):
        raise KeyboardInterrupt

    result = _run(loss, _grid())
    assert np.isnan(result.values).all() and result.values.shape == (4, 3)
    assert result.stop_reason == "interrupted after 0 of 12 points"


@pytest.mark.parametrize("n_pmap", [1, 3])
def test_no_more_batches_are_in_flight_than_asked_for(n_pmap):
    lock, running, most = threading.Lock(), [], []

    def waits(x):
        with lock:
            running.append(1)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.pop()
        return x

    def loss(state):
        w = state.model.w[0]
        return jax.pure_callback(waits, jax.ShapeDtypeStruct((), w.dtype), w, vmap_method="broadcast_all")

    _run(loss, _grid(), n_pmap=n_pmap, batch_size=1)
    assert len(most) == 12 and max(most) <= n_pmap


@pytest.mark.parametrize("execution", [ParallelExecution, SequentialExecution])
def test_the_progress_bar_is_optional(execution, capsys):
    execution(_loss, _grid()).run()
    shown = capsys.readouterr()
    assert "explore: 100%" in shown.err and "12/12" in shown.err and shown.out == ""
    _run(_loss, _grid(), execution)
    assert capsys.readouterr() == ("", "")


def test_without_64_bit_everything_is_single():
    with jax.enable_x64(False):  # for this thread alone
        state = State(w=GridAxis(0.0, 1.0, 3), z=jnp.ones(2))
        space = Space(state)
        result = _run(lambda s: jnp.sum(s.z) * s.w, space)
        assert space[1].w.dtype == jnp.float32 and result.values.dtype == np.float32
        np.testing.assert_allclose(result.values, [0.0, 1.0, 2.0], rtol=1e-6)


# Simulations


def _simulator(delays):
    random = np.random.default_rng(5)
    white = noise.Additive(nsig=np.array([1e-6]))
    white.noise_seed = 3
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=random.uniform(size=(N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool),
            tract_lengths=random.uniform(4.0, 60.0, size=(N_NODE, N_NODE)),
            centres=np.zeros((N_NODE, 3)),
            region_labels=np.array([f"r{i}" for i in range(N_NODE)]),
            speed=np.array([4.0 if delays else np.inf]),
        ),
        model=models.ReducedWongWang(w=np.array([0.6]), I_o=np.array([0.3])),
        coupling=coupling.Linear(a=np.array([0.02])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=white),
        monitors=[monitors.TemporalAverage(period=10.0)],
        simulation_length=200.0,
    )


@pytest.mark.parametrize("delays", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["no delays", "delays"])
def test_simulations_in_a_batch_are_those_one_by_one(delays):
    simulate, state = tj.prepare(_simulator(delays))
    assert (simulate.step.delays is not None) == delays
    state.model.w, state.coupling.a = GridAxis(0.2, 0.9, 3), DataAxis([0.01, 0.2])
    space = Space(state)
    result = _run(lambda state: simulate(state).data[0], space, batch_size=4, n_pmap=2)
    alone = np.array([simulate(state).data[0] for state in space])
    assert result.values.shape == (2, 3, 20, 1, N_NODE, 1)
    np.testing.assert_allclose(result.values.reshape(alone.shape), alone, rtol=1e-12)
    assert np.ptp(alone, axis=0).max() > 1e-2


@pytest.mark.slow
def test_gradients_of_a_multi_start_are_those_one_by_one():
    simulate, state = tj.prepare(_simulator(False))
    state.model.w = DataAxis(np.random.default_rng(2).uniform(0.2, 0.8, size=(3, N_NODE)))

    def loss(state):
        of_w = jax.value_and_grad(lambda w: jnp.var(simulate(with_path(state, "model.w", w)).data[0]))
        return of_w(state.model.w)

    value, gradient = _run(loss, (space := Space(state)), batch_size=2).values
    for index, state in enumerate(space):
        one, of_one = loss(state)
        np.testing.assert_allclose(value[index], one, rtol=1e-11)
        np.testing.assert_allclose(gradient[index], of_one, rtol=1e-9)
    assert gradient.shape == (3, N_NODE) and np.ptp(gradient) > 0.0
