"""A single value has the shape () in a state and behaves as a number; write_back restores TVB's own shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import coupling, integrators, monitors, noise

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit.state import get_path
from tvb_jaxfit.translate.parameter_map import parameter_map

KINDS = {
    "plain": lambda value: value,
    "array": lambda value: np.array([float(value)]),
    "jax": lambda value: jnp.asarray([float(value)]),
    "list": lambda value: [float(value)],
    "number": float,
    "Parameter": tj.Parameter,
    "Parameter of an array": lambda value: tj.Parameter([float(value)]),
    "bounded": lambda value: tj.BoundedParameter([float(value)], -1e9, 1e9),
    "scaled": lambda value: tj.ScaledParameter([float(value)], scale=1.0),
    "masked": lambda value: tj.MaskedParameter([float(value)], mask=[True]),
}


@pytest.fixture(scope="module")
def sim(weights_6):
    """Simulator with single values in every component."""
    return simulator(
        weights_6,
        model={"w": np.array([0.3])},
        coupling=coupling.Linear(a=np.array([0.1])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]), ntau=2.0)),
        monitors=[monitors.Bold(period=100.0)],
        simulation_length=200.0,
    )


@pytest.fixture(scope="module")
def prepared(sim):
    return tj.prepare(sim)


def _single(sim, state):
    return [leaf.path for leaf in parameter_map(sim) if get_path(state, leaf.path).size == 1]


def test_every_single_value_is_a_number(sim, prepared):
    paths = _single(sim, prepared[1])
    assert {"model.w", "coupling.a", "integrator.noise.nsig", "integrator.noise.ntau"} < set(paths)
    for path in paths:
        value = get_path(prepared[1], path)
        assert value.shape == () and f"{value:.6e}" == f"{float(value):.6e}"


@pytest.mark.parametrize("kind", KINDS)
def test_it_stays_one_however_it_is_given(sim, prepared, kind):
    simulate, state = prepared
    state = jax.tree.map(lambda leaf: leaf, state)
    expected = np.asarray(simulate(state).data[0])
    state.model.w = KINDS[kind](state.model.w)
    assert state.model.w.shape == () if hasattr(state.model.w, "shape") else isinstance(state.model.w, float)
    assert f"{state.model.w:.3f}" == "0.300" and float(state.model.w) == 0.3
    np.testing.assert_array_equal(simulate(state).data[0], expected)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k not in ("plain", "number", "jax", "masked"))) for k in KINDS]
)
def test_tvb_has_its_shape_again(sim, kind):
    simulate, state = tj.prepare(sim)
    for path in ("model.w", "coupling.a", "integrator.noise.nsig"):
        above, _, name = path.rpartition(".")
        setattr(get_path(state, above), name, KINDS[kind](2.0 * get_path(state, path)))
    own = [sim.model.w, sim.coupling.a, sim.integrator.noise.nsig]
    tj.write_back(state, sim)
    try:
        new = [sim.model.w, sim.coupling.a, sim.integrator.noise.nsig]
        assert [of.shape for of in new] == [(1,)] * 3
        np.testing.assert_allclose(np.ravel(new), 2.0 * np.ravel(own), rtol=1e-15)
        again = tj.prepare(sim)[1]
        assert again.model.w.shape == again.coupling.a.shape == ()
    finally:
        sim.model.w, sim.coupling.a, sim.integrator.noise.nsig = own


def test_what_has_several_values_formats_as_none():
    regional = tj.Parameter([0.1, 0.2])
    assert f"{regional}" == str(regional)
    with pytest.raises(ValueError, match="size 1"):
        f"{regional:.3f}"


def test_a_network_of_one_region_with_a_stimulus_runs():
    weights = np.zeros((1, 1))
    alone = simulator(
        weights,
        model={"w": np.array([0.3])},
        integrator=integrators.HeunDeterministic(dt=1.0),
        monitors=[monitors.Raw()],
        simulation_length=20.0,
    )
    alone.stimulus = patterns.StimuliRegion(
        temporal=equations.PulseTrain(parameters={"T": 5.0, "tau": 2.0, "amp": 1.0, "onset": 3.0}),
        connectivity=alone.connectivity,
        weight=np.array([0.01]),
    )
    simulate, state = tj.prepare(alone)
    alone.configure()
    ((_, expected),) = alone.run()
    np.testing.assert_allclose(simulate(state).data[0], expected, rtol=1e-6)
    weaker = state.replace(stimulus=state.stimulus.replace(weight=0.5 * state.stimulus.weight))
    assert np.max(np.abs(simulate(weaker).data[0] - expected)) > 1e-6
