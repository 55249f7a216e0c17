"""Arrays of a state with other shapes than the simulator's, or without real numbers, are refused by their path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path
from tvb_jaxfit.translate.shapes import array_paths


@pytest.fixture(scope="module")
def built(weights_6):
    """Function: simulator with every kind of array in its state; delays up to ``delay`` steps."""
    from tests.conftest import simulator, white_matter

    def make(delay=5):
        sim = simulator(
            weights_6,
            dt=1.0,
            steps=12,
            monitors=[monitors.TemporalAverage(period=5.0), monitors.Bold(period=10.0, hrf_length=40.0)],
            connectivity=white_matter(weights_6, np.full((6, 6), float(delay)), 1.0),
        )
        sim.integrator.noise = noise.Additive(nsig=np.array([1e-5]), ntau=3.0)
        sim.stimulus = patterns.StimuliRegion(
            temporal=equations.Sinusoid(), connectivity=sim.connectivity, weight=np.full(6, 0.1)
        )
        sim.configure()
        sim.run(simulation_length=7.0)
        sim.simulation_length = 12.0
        return sim

    return make


@pytest.fixture(scope="module")
def prepared(built):
    return tj.prepare(built())


# Initial values of a run, and values that are always regional: they have one valid shape.
EXACT = [
    "connectivity.weights",
    "initial_conditions",
    "integrator.noise.draws",
    "integrator.noise.eta",
    "monitors[0].stock",
    "monitors[1].stock",
    "monitors[1].interim_stock",
    "stimulus.weight",
]
GLOBAL = ["integrator.noise.ntau", "stimulus.temporal.amp", "monitors[1].hrf_kernel.tau_s"]
REGIONAL = ["model.w", "model.tau_s", "coupling.a", "integrator.noise.nsig"]


def otherwise_shaped(value):
    """The same numbers in other shapes, each of which would broadcast, or nearly."""
    value = np.asarray(value)
    for axis in range(value.ndim):
        if value.shape[axis] != 1:
            yield np.take(value, [0], axis)
            yield np.take(value, range(value.shape[axis] - 1), axis)
        yield np.concatenate([value, np.take(value, [0], axis)], axis)
        if value.shape[axis] == 1 and value.ndim > 1:
            yield np.squeeze(value, axis)
    yield value[None]


@pytest.mark.parametrize("path", EXACT)
def test_arrays_of_another_shape_are_refused(prepared, path):
    simulate, state = prepared
    shapes = [other.shape for other in otherwise_shaped(get_path(state, path))]
    assert len(shapes) > 2
    for other in otherwise_shaped(get_path(state, path)):
        with pytest.raises(ValueError) as caught:
            simulate(with_path(state, path, jnp.asarray(other)))
        assert f"State.{path}: " in str(caught.value), other.shape
        assert "Use the state that came with this simulate" in str(caught.value)


@pytest.mark.parametrize("path", [*GLOBAL, *REGIONAL])
def test_parameters_that_are_neither_one_value_nor_one_for_each_region_are_refused(prepared, path):
    simulate, state = prepared
    for shape in [(2, 3), (2,), (7,), (1, 6), (6, 6), *([(6,)] if path in GLOBAL else [])]:
        with pytest.raises(ValueError) as caught:
            simulate(with_path(state, path, jnp.full(shape, 0.5)))
        assert f"State.{path}: shape {shape}" in str(caught.value) and "Give one value" in str(caught.value)


@pytest.mark.parametrize("path", ["model.w", pytest.param("coupling.a", marks=pytest.mark.slow)])
def test_one_value_in_any_shape_and_one_for_each_region_are_taken(prepared, path):
    simulate, state = prepared
    value = float(np.ravel(get_path(state, path))[0])
    signals = [
        np.asarray(simulate(with_path(state, path, jnp.full(shape, value))).data[0]) for shape in [(1,), (), (6,)]
    ]
    for other in signals:
        np.testing.assert_allclose(other, signals[0], rtol=1e-13)
    other = np.asarray(simulate(with_path(state, path, jnp.full(1, 1.5 * value))).data[0])
    assert np.max(np.abs(other - signals[0])) > 1e-9


SPOILT = {
    "masked": lambda value: np.ma.masked_array(value, mask=np.arange(value.size).reshape(value.shape) == 0),
    "complex": lambda value: jnp.asarray(value + 1j),
    "complex numpy": lambda value: value + 1j,
    "text": lambda value: np.full(value.shape, "a"),
    "objects": lambda value: np.full(value.shape, None),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("path", ["model.w", "integrator.noise.draws", "connectivity.weights", "initial_conditions"])
def test_arrays_that_are_no_real_numbers_are_refused(prepared, put_in, path, kind):
    simulate, state = prepared
    value = SPOILT[kind](np.array(get_path(state, path)))
    spoilt = put_in(state, path, value)
    with pytest.raises(ValueError, match="real|masked") as caught:
        simulate(spoilt)
    assert f"State.{path}: " in str(caught.value)
    with pytest.raises(ValueError, match="real|masked"):
        with_path(state, path, value)


def test_the_linear_response_refuses_them_too(build_small, put_in):
    linear, state = tj.prepare_linear(build_small(monitors=[monitors.Raw()]))
    for value in (np.ma.masked_array([0.5], mask=[1]), jnp.asarray([0.5j]), jnp.full((2, 3), 0.5)):
        with pytest.raises(ValueError, match="State.model.w: "):
            linear(put_in(state, "model.w", value))


@pytest.mark.parametrize("path", array_paths(tj.state.State(model=tj.state.State(w=0.0), initial_conditions=0.0)))
def test_what_is_missing_is_named(prepared, path):
    simulate, state = prepared
    with pytest.raises(ValueError, match=f"State.{path}: missing|State.{path}: shape"):
        simulate(with_path(state, path, None))


@pytest.mark.parametrize(
    "own, other", [(5, 3), (0, 5), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((3, 5), (5, 0)))]
)
def test_a_state_of_other_delays_is_refused(built, own, other):
    simulate, _ = tj.prepare(built(own))
    _, state = tj.prepare(built(other))
    with pytest.raises(ValueError, match=f"initial_conditions: .*up to {own} steps, has {own + 1} samples"):
        simulate(state)


def test_what_the_simulator_has_no_place_for_is_refused(built, prepared, build_small):
    _, state = prepared
    plain = built()
    plain.stimulus = None
    plain.configure()
    simulate, own = tj.prepare(plain)
    with pytest.raises(ValueError, match="State.stimulus.weight: this simulator has no place for it"):
        simulate(state.replace(initial_conditions=own.initial_conditions))
    simulate, own = tj.prepare(build_small(monitors=[monitors.Raw()]))
    _, more = tj.prepare(build_small(monitors=[monitors.Raw(), monitors.Raw()]))
    _, other = tj.prepare(build_small(monitors=[monitors.Bold(period=400.0)]))
    with pytest.raises(ValueError, match="State.monitors: 2, where this simulator has 1"):
        simulate(more)
    with pytest.raises(ValueError, match=r"State.monitors\[0\].stock: this simulator has no place for it"):
        simulate(other)


def test_numbers_that_are_no_arrays_of_jax_are_taken(prepared):
    simulate, state = prepared
    expected = np.asarray(simulate(with_path(state, "model.w", jnp.asarray([0.5]))).data[0])
    for value in (0.5, np.float32(0.5), np.array([0.5]), np.ma.masked_array([0.5], mask=[0])):
        np.testing.assert_array_equal(simulate(with_path(state, "model.w", value)).data[0], expected)


def test_under_jit_and_vmap_shapes_are_those_of_one_state(prepared):
    simulate, state = prepared
    values = jnp.asarray([0.4, 0.5])
    many = jax.vmap(lambda w: simulate(with_path(state, "model.w", w)).data[0])(values)
    for value, data in zip(values, many, strict=True):
        one = jax.jit(lambda s: simulate(s).data[0])(with_path(state, "model.w", value[None]))
        np.testing.assert_allclose(data, one, rtol=1e-12)
    with pytest.raises(ValueError, match=r"State.model.w: shape \(2,\)"):
        jax.vmap(lambda w: simulate(with_path(state, "model.w", w)).data[0])(jnp.ones((3, 2)))
