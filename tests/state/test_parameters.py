"""A parameter's value, its bounds and its unconstrained value belong together."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvb_jaxfit import BoundedParameter, Parameter, State
from tvb_jaxfit.parameters import parameters_of, strip_parameters, with_values

INF = np.inf
bounds = st.sampled_from([(-INF, INF), (0.0, INF), (-2.5, INF), (-INF, 3.0), (0.0, 1.0), (-1e-6, 2e-6), (5.0, 5e4)])
parts = st.floats(1e-9, 1.0 - 1e-9)
unconstrained_values = st.floats(allow_nan=False, allow_infinity=True)


def _inside(low, high, part):
    """Value strictly between the bounds."""
    if np.isfinite(low) and np.isfinite(high):
        return low + (high - low) * part
    distance = 10.0 * part / (1.0 - part)
    if np.isfinite(low):
        return low + distance
    return high - distance if np.isfinite(high) else 10.0 * (part - 0.5)


@given(bounds, parts)
def test_value_and_unconstrained_value_are_each_others_inverse(between, part):
    value = _inside(*between, part)
    parameter = BoundedParameter(value, *between)
    back = parameter.from_unconstrained(parameter.to_unconstrained())
    finite = [abs(b) for b in between if np.isfinite(b)]
    np.testing.assert_allclose(back, value, rtol=1e-13, atol=1e-15 * max(finite, default=0.0))


@given(bounds, unconstrained_values)
def test_whatever_the_unconstrained_value_the_value_is_within_the_bounds(between, unconstrained):
    low, high = between
    value = BoundedParameter(None, low, high).from_unconstrained(jnp.asarray(unconstrained))
    assert low <= value <= high


@given(bounds, st.floats(-50.0, 50.0))
def test_the_value_grows_with_its_unconstrained_value_at_most_as_fast(between, unconstrained):
    """So learning rates keep the scale of the value."""
    parameter = BoundedParameter(None, *between)
    slope = jax.grad(parameter.from_unconstrained)(jnp.asarray(unconstrained))
    assert 0.0 <= slope <= 1.0 + 1e-15


@pytest.mark.parametrize("low,high", [(0.0, 1.0), (-4.0, 2.0)])
def test_in_the_middle_of_two_bounds_the_unconstrained_value_moves_as_the_value(low, high):
    parameter = BoundedParameter((low + high) / 2, low, high)
    np.testing.assert_allclose(jax.grad(parameter.from_unconstrained)(parameter.to_unconstrained()), 1.0, rtol=1e-15)


@pytest.mark.parametrize("value,low", [(1e-5, 0.0), (1e-9, 0.0), (3.0, 0.0)])
@pytest.mark.parametrize("high", [1.0, INF, 10.0])
def test_a_start_value_near_a_bound_stays_what_it_is(value, low, high):
    """A noise of 1e-5 is no mistaken zero."""
    if value > high:
        high = 2 * value
    parameter = BoundedParameter(value, low, high)
    np.testing.assert_allclose(parameter.from_unconstrained(parameter.to_unconstrained()), value, rtol=1e-13)


@pytest.mark.parametrize(
    "value,low,high,inside",
    [(0.0, 0.0, 4.0, 4e-3), (4.0, 0.0, 4.0, 4.0 - 4e-3), (2.0, 2.0, INF, 2.001), (2.0, -INF, 2.0, 1.999)],
)
def test_a_start_on_a_bound_is_taken_a_thousandth_inside_so_that_it_can_move(value, low, high, inside):
    parameter = BoundedParameter(np.array([value, _inside(low, high, 0.5)]), low, high)
    unconstrained = parameter.to_unconstrained()
    assert np.all(np.isfinite(unconstrained))
    np.testing.assert_allclose(
        parameter.from_unconstrained(unconstrained), [inside, _inside(low, high, 0.5)], rtol=1e-12
    )
    assert parameter.value[0] == value


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, [0.5, 7.0]])
def test_a_start_outside_the_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"1 of \d start values lie outside \[0, 1\].*Widen the bounds or move"):
        BoundedParameter(value, 0.0, 1.0)


@pytest.mark.parametrize("low,high", [(1.0, 0.0), (1.0, 1.0), (np.nan, 1.0)])
def test_bounds_that_are_not_in_order_are_refused(low, high):
    with pytest.raises(ValueError, match="not in order"):
        BoundedParameter(0.5, low, high)


def test_shape_makes_a_single_value_regional():
    parameter = Parameter([0.3])
    parameter.shape = (4,)
    np.testing.assert_array_equal(parameter.value, np.full(4, 0.3))


def test_shape_keeps_the_number_of_other_values():
    parameter = Parameter([1.0, 2.0])
    parameter.shape = (2, 1)
    np.testing.assert_array_equal(parameter.value, [[1.0], [2.0]])
    with pytest.raises(ValueError, match=r"\(2, 1\) does not become \(3,\)"):
        parameter.shape = (3,)


def test_a_parameter_of_a_parameter_takes_its_value():
    assert Parameter(Parameter(0.25)).value == 0.25
    assert BoundedParameter(Parameter(0.25), 0.0, 1.0).value == 0.25


@pytest.fixture
def state():
    return State(
        model=State(w=BoundedParameter([0.2, 0.4], 0.0, 1.0), I_o=jnp.asarray([0.3])),
        coupling=State(a=Parameter(2.0)),
        monitors=[State(tau=Parameter(0.8))],
    )


def test_the_value_freezes_what_was_marked(state):
    state.model.w = state.model.w.value
    assert list(parameters_of(state)) == ["coupling.a", "monitors[0].tau"]


def test_strip_parameters_replaces_parameters_by_their_values_and_leaves_the_state_alone(state):
    values = strip_parameters(state)
    assert parameters_of(values) == {}
    np.testing.assert_array_equal(values.model.w, [0.2, 0.4])
    assert len(parameters_of(state)) == 3
    assert jax.tree.structure(strip_parameters(values)) == jax.tree.structure(values)


def test_with_values_keeps_parameters_with_their_bounds(state):
    new = with_values(state, {"model.w": jnp.asarray([0.5, 0.6]), "model.I_o": jnp.asarray([1.0])})
    assert isinstance(new.model.w, BoundedParameter) and (new.model.w.lower_bound, new.model.w.upper_bound) == (0, 1)
    np.testing.assert_array_equal(new.model.w.value, [0.5, 0.6])
    np.testing.assert_array_equal(new.model.I_o, [1.0])
    np.testing.assert_array_equal(state.model.w.value, [0.2, 0.4])


def test_gradients_flow_through_parameters_in_jit_and_grad(state):
    def loss(state):
        values = strip_parameters(state)
        return jnp.sum(values.model.w**2) * values.coupling.a

    gradient = jax.jit(jax.grad(loss))(state)
    assert isinstance(gradient.model.w, BoundedParameter)
    np.testing.assert_array_equal(gradient.model.w.value, [0.8, 1.6])
    np.testing.assert_allclose(gradient.coupling.a.value, 0.2, rtol=1e-15)


def test_bounds_are_part_of_the_trees_structure(state):
    other = with_values(state, {})
    assert jax.tree.structure(other) == jax.tree.structure(state)
    other.model.w = BoundedParameter([0.2, 0.4], 0.0, 2.0)
    assert jax.tree.structure(other) != jax.tree.structure(state)


def test_deepcopy_of_a_state_copies_its_parameters(state):
    other = copy.deepcopy(state)
    other.model.w.shape = (2, 1)
    other.coupling.a.value = jnp.asarray(7.0)
    assert state.model.w.shape == (2,)
    assert state.coupling.a.value == 2.0


@pytest.mark.parametrize(
    "parameter,said",
    [
        (Parameter(), "Parameter(the simulator's own)"),
        (Parameter(regional=True), "Parameter(the simulator's own, regional)"),
        (Parameter(0.25), "Parameter(0.25)"),
        (Parameter([1.0, 3.0, 2.0]), "Parameter(1 .. 2 .. 3, shape (3,))"),
        (BoundedParameter([0.5] * 3, 0, INF), "BoundedParameter(0.5 x 3, in [0, inf])"),
    ],
)
def test_repr_says_value_and_bounds(parameter, said):
    assert repr(parameter) == said


def test_numpy_sees_the_value():
    np.testing.assert_array_equal(np.asarray(Parameter([1.0, 2.0])), [1.0, 2.0])
