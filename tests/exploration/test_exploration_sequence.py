"""An exploration is a sequence in the order of its space: TVB-Optim's order, whatever the order of assignment."""

import copy
import itertools
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit import DataAxis, GridAxis, ParallelExecution, SequentialExecution, Space, State

# Paths in TVB-Optim's order, and its names for them.
PATHS = {
    "coupling.a": "coupling.instant.G",
    "coupling.b": "coupling.instant.b",
    "model.I_o": "dynamics.I_o",
    "model.J_N": "dynamics.J_N",
    "model.a": "dynamics.a",
    "model.gamma": "dynamics.gamma",
    "model.tau_s": "dynamics.tau_s",
    "model.w": "dynamics.w",
    "integrator.noise.nsig": "noise.sigma",
}


def _state():
    of_model = {name: jnp.asarray(0.5) for name in ("a", "gamma", "tau_s", "w", "J_N", "I_o")}
    return State(
        model=State(**of_model),
        coupling=State(a=jnp.asarray(0.1), b=jnp.asarray(0.0)),
        integrator=State(noise=State(nsig=jnp.asarray(1e-6))),
        monitors=[State(tau_s=jnp.asarray(0.8))],
        stimulus=State(weight=jnp.ones(3)),
    )


def _put(state, path, axis):
    *above, name = path.split(".")
    for step in above:
        state = getattr(state, step)
    setattr(state, name, axis)


def _loss(state):
    return state.coupling.a * 100.0 + state.model.w


def _run(loss, space, execution=ParallelExecution):
    return execution(loss, space, progress=False).run()


@pytest.mark.parametrize("pair", list(itertools.combinations(PATHS, 2)), ids="-".join)
def test_the_order_is_the_same_however_axes_were_assigned(pair):
    for order in (pair, pair[::-1]):
        state = _state()
        for path in order:
            _put(state, path, GridAxis(0.0, 1.0, 2 if path == pair[0] else 3))
        space = Space(state)
        assert tuple(space.axes) == tuple(space.collect()) == tuple(space.to_pandas()) == pair
        assert space.shape == (2, 3)


def test_stimulus_and_monitors_have_their_place_in_the_order():
    state = _state()
    state.monitors[0].tau_s = state.integrator.noise.nsig = state.model.w = state.coupling.a = GridAxis(0.0, 1.0, 2)
    state.stimulus.weight = DataAxis(np.ones((2, 3)))
    expected = ["coupling.a", "model.w", "stimulus.weight", "integrator.noise.nsig", "monitors[0].tau_s"]
    assert list(Space(state).axes) == expected


@pytest.mark.slow
def test_the_order_is_that_of_tvb_optims_own_space():
    network_dynamics = pytest.importorskip("tvboptim.experimental.network_dynamics")
    from tvboptim import types
    from tvboptim.experimental.network_dynamics import coupling, dynamics, graph, noise, solvers

    network = network_dynamics.Network(
        dynamics=dynamics.tvb.ReducedWongWang(),
        coupling={"instant": coupling.LinearCoupling(incoming_states=["S"], G=0.15)},
        graph=graph.DenseGraph(np.ones((3, 3))),
        noise=noise.AdditiveNoise(sigma=0.01, apply_to="S"),
    )
    _, theirs = network_dynamics.prepare(network, solvers.Heun(), t1=10.0, dt=1.0)
    ours = _state()
    for path, of_theirs in PATHS.items():
        _put(ours, path, GridAxis(0.0, 1.0, 1))
        _put(theirs, of_theirs, types.GridAxis(0.0, 1.0, 1))
    columns = list(types.Space(theirs, mode="product").to_dataframe().columns)
    assert columns == [PATHS[path] for path in Space(ours).axes]


@pytest.fixture(scope="module", params=[ParallelExecution, SequentialExecution])
def result(request):
    state = _state()
    state.model.w, state.coupling.a = GridAxis(1.0, 3.0, 3), GridAxis(0.0, 1.0, 2)
    return _run(_loss, Space(state), request.param)


def test_it_is_a_sequence_in_the_order_of_the_space(result):
    expected = [1.0, 2.0, 3.0, 101.0, 102.0, 103.0]
    assert len(result) == 6 and [float(value) for value in result] == list(result) == expected
    assert [result[i] for i in range(-6, 6)] == expected * 2
    assert result[1:5:2] == [2.0, 101.0] and result[::-1] == expected[::-1] and result[4:][0] == result[4]
    assert result[1, 2] == result.values[1, 2] == 103.0
    assert expected == [float(_loss(state)) for state in result.space]
    for stacked in (jnp.stack(result), np.stack(result), jnp.asarray(list(result)), np.array(result)):
        np.testing.assert_array_equal(np.asarray(stacked).reshape(2, 3), result.values)
    assert result.to_pandas()["value"].tolist() == expected
    assert "order of values: [coupling.a, model.w]" in repr(result)
    for outside in (6, -7, (2, 0)):
        with pytest.raises(IndexError, match="there are 2 x 3 = 6 points"):
            result[outside]


def test_each_item_is_a_tree_as_the_loss_returns_it():
    state = _state()
    state.model.w, state.coupling.a = DataAxis([1.0, 2.0]), DataAxis([0.1, 0.2])
    zipped = _run(lambda s: {"loss": _loss(s), "fc": s.model.w * jnp.eye(2)}, Space(state, mode="zip"))
    assert len(zipped) == 2 and set(zipped[1]) == {"loss", "fc"} and zipped[1]["loss"] == pytest.approx(22.0)
    np.testing.assert_array_equal(zipped[1]["fc"], 2.0 * np.eye(2))
    assert [part["fc"].shape for part in zipped[:2]] == [(2, 2)] * 2


def test_points_are_a_dict_with_attributes_also_when_copied_and_pickled(result):
    points = result.space.collect()
    assert dict(points) == {path: points[path] for path in ("coupling.a", "model.w")}
    for same in (points, copy.copy(points), copy.deepcopy(points), pickle.loads(pickle.dumps(points))):
        np.testing.assert_array_equal(same.model.w, [1.0, 2.0, 3.0] * 2)
        np.testing.assert_array_equal(same.coupling.a, same["coupling.a"])
        assert float(same.model.J_N) == 0.5
    with pytest.raises(AttributeError, match="no 'dynamics' here"):
        points.dynamics  # noqa: B018


def test_a_slice_of_a_space_is_a_list_of_states(result):
    assert [float(state.model.w) for state in result.space[1:4]] == [2.0, 3.0, 1.0]
