"""A regional parameter has a value for each region, however it was put into a state, or is refused."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.state import n_regions, with_path

N_NODE = 6
KINDS = {
    "Parameter": lambda value=None: tj.Parameter(value, regional=True),
    "BoundedParameter": lambda value=None: tj.BoundedParameter(value, 0.0, 1.0, regional=True),
    "PositiveParameter": lambda value=None: tj.PositiveParameter(value, regional=True),
    "ScaledParameter": lambda value=None: tj.ScaledParameter(value, regional=True),
}


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.fixture
def prepared(build_small, shared):
    """(simulate, new copy of the state), six regions."""
    if not shared:
        shared["all"] = tj.prepare(build_small(steps=60, monitors=[monitors.TemporalAverage(period=8.0)]))
    simulate, state = shared["all"]
    return simulate, copy.deepcopy(state)


def _loss(simulate):
    return lambda state: jnp.mean(simulate(state).data[0] ** 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [None, 0.5, [0.5]], ids=str)
def test_one_value_is_repeated_where_it_is_put_into_a_state(prepared, kind, value):
    _, state = prepared
    given = KINDS[kind](value)
    state.model.w = given
    assert type(state.model.w) is type(given) and state.model.w.regional
    np.testing.assert_array_equal(state.model.w.value, np.full(N_NODE, 0.5))
    assert state.model.w.to_unconstrained().shape == (N_NODE,)
    # The given object is not modified.
    assert given.shape == (None if value is None else np.shape(value))
    placed = with_path(prepared[1], "model.I_o", KINDS[kind](0.3))
    assert placed.model.I_o.shape == (N_NODE,)


@pytest.mark.parametrize(
    "kind", [*list(KINDS)[:2], *(pytest.param(kind, marks=pytest.mark.slow) for kind in list(KINDS)[2:])]
)
def test_it_is_fitted_region_by_region(prepared, kind):
    simulate, state = prepared
    state.model.w = KINDS[kind](state.model.w)
    fitted, history = tj.OptaxOptimizer(_loss(simulate), optax.adam(0.01), progress=False).run(state, max_steps=2)
    assert fitted.model.w.shape == history.best.model.w.shape == (N_NODE,)
    assert np.unique(np.asarray(fitted.model.w.value)).size == N_NODE


def test_one_that_is_not_regional_stays_one_value(prepared):
    """Negative control."""
    simulate, state = prepared
    state.model.w = tj.Parameter(state.model.w)
    fitted, _ = tj.OptaxOptimizer(_loss(simulate), optax.adam(0.01), progress=False).run(state, max_steps=2)
    assert fitted.model.w.shape == ()


@pytest.mark.slow
def test_gradients_outside_of_a_fit_are_regional(prepared):
    simulate, state = prepared
    state.model.w = tj.Parameter(0.5, regional=True)
    gradient = jax.jit(jax.grad(_loss(simulate)))(state).model.w.value
    np.testing.assert_array_equal(gradient, jax.grad(_loss(simulate))(_by_hand(state)).model.w)
    assert gradient.shape == (N_NODE,) and np.ptp(gradient) > 0.0


def _by_hand(state):
    state = strip_parameters(copy.deepcopy(state))
    state.model.w = jnp.full(N_NODE, 0.5)
    return state


def test_trees_and_copies_know_the_regions(prepared):
    simulate, state = prepared
    others = [jax.tree.map(lambda leaf: leaf, state), copy.deepcopy(state), copy.copy(state), strip_parameters(state)]
    others += [simulate(state).final_state, tj.resample(state, jax.random.key(0)), tj.Space(_with_axis(state))[0]]
    for other in others:
        assert n_regions(other) == n_regions(other.model) == N_NODE
        other.model.w = tj.Parameter(0.5, regional=True)
        assert other.model.w.shape == (N_NODE,)


def _with_axis(state):
    state = copy.deepcopy(state)
    state.coupling.a = tj.GridAxis(0.0, 0.1, 2)
    return state


def test_it_is_shown_with_its_values(prepared, capsys):
    _, state = prepared
    state.model.w = tj.Parameter(0.5, regional=True)
    tj.show_parameters(state)
    assert "0.5 (6 values)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "place,value,said",
    [
        ("connectivity.weights", 0.5, r"in place of a value of shape \(6, 6\), which is neither global"),
        ("model.w", [0.5] * (N_NODE - 1), r"a value of shape \(5,\) does not become \(6,\)"),
    ],
)
def test_what_cannot_be_regional_is_refused_and_the_state_is_as_it_was(prepared, place, value, said):
    _, state = prepared
    before = jax.tree.leaves(state)
    node, name = place.split(".")
    with pytest.raises(ValueError, match=said):
        setattr(getattr(state, node), name, tj.Parameter(value, regional=True))
    assert all(a is b for a, b in zip(before, jax.tree.leaves(state), strict=True))


@pytest.mark.parametrize(
    "value,said",
    [
        (np.ma.masked_array([0.1, 0.2], mask=[0, 1]), "w: a masked array"),
        (jnp.asarray([0.3 + 1j]), "w: complex numbers"),
        (np.complex64(1.0), "w: complex numbers"),
        (["0.3"], "w: values of type"),
        ([[0.1], [0.1, 0.2]], "w: lists of different lengths"),
    ],
)
def test_what_is_put_into_a_state_is_real(prepared, value, said):
    _, state = prepared
    before = state.model.w
    with pytest.raises(ValueError, match=said):
        state.model.w = value
    with pytest.raises(ValueError, match=said):
        with_path(state, "model.w", value)
    assert state.model.w is before
    for good in (0.3, np.full(N_NODE, 0.3), jnp.asarray(1.0)):
        state.model.w = good
        assert state.model.w is good


def test_marked_regional_afterwards_it_is_regional(prepared):
    simulate, state = prepared
    state.model.w = tj.Parameter(0.5)
    state.model.w.regional = True
    fitted, _ = tj.OptaxOptimizer(_loss(simulate), optax.adam(0.01), progress=False).run(state, max_steps=1)
    assert fitted.model.w.shape == (N_NODE,)


def test_in_a_state_that_does_not_say_how_many_regions_there_are_it_is_refused():
    state = tj.State(x=tj.Parameter(3.0, regional=True), y=tj.Parameter())
    optimizer = tj.OptaxOptimizer(lambda s: jnp.sum(s.x**2), optax.sgd(0.1), progress=False)
    with pytest.raises(ValueError, match=r"x: Parameter\(3\) is regional.*set its shape.*; y: .* has no value"):
        optimizer.run(state)
    state = tj.State(x=tj.Parameter([3.0, 2.0], regional=True))
    assert optimizer.run(state, max_steps=1)[0].x.shape == (2,)


def test_a_list_of_numbers_is_an_array_of_the_state(prepared):
    simulate, state = prepared
    by_array = with_path(state, "model.w", np.full(N_NODE, 0.4))
    expected = simulate(by_array).data[0]
    for values in ([0.4] * N_NODE, (0.4,) * N_NODE):
        np.testing.assert_array_equal(simulate(with_path(state, "model.w", values)).data[0], expected)
    traced = jax.jit(lambda w: simulate(with_path(state, "model.w", [w] * N_NODE)).data[0])(0.4)
    np.testing.assert_allclose(traced, expected, rtol=1e-12)


def test_what_is_put_in_place_of_a_parameter_is_real(prepared):
    _, state = prepared
    state.model.w = tj.Parameter()
    with pytest.raises(ValueError, match="w: complex numbers"):
        state.model.w = np.array([0.3 + 1j])
