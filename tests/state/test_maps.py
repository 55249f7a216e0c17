"""MapParameter: maps are matched and standardised, its value is a formula of coefficients, and these are fitted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

from tvb_jaxfit import MapParameter, OptaxOptimizer, Parameter, State, show_parameters
from tvb_jaxfit.fitting.starts import latin_hypercube, parameter_scale
from tvb_jaxfit.parameters import parameters_of, strip_parameters
from tvb_jaxfit.persistence.serialise import read, write
from tvb_jaxfit.state import with_n_regions

RANDOM = np.random.RandomState(1)
RAW = RANDOM.normal(size=(5, 2))
MAPS = (RAW - RAW.mean(axis=0)) / RAW.std(axis=0)
LABELS = [f"region {i}" for i in range(5)]


@pytest.mark.parametrize("transform", ["exp", "linear", "sigmoid"])
def test_the_value_is_the_formula_of_the_coefficients(transform):
    bounds = {"lower_bound": -1.0, "upper_bound": 3.0} if transform == "sigmoid" else {}
    parameter = MapParameter(MAPS, transform, [0.4, -0.3, 0.2], **bounds)
    eta = 0.4 + MAPS @ [-0.3, 0.2]
    expected = {"exp": np.exp(eta), "linear": eta, "sigmoid": -1.0 + 4.0 / (1.0 + np.exp(-(eta - 1.0)))}[transform]
    np.testing.assert_allclose(parameter.value, expected, rtol=1e-14)
    # Negative control: the maps matter.
    assert np.ptp(expected) > 0.1
    gradient = jax.grad(lambda c: parameter.with_coefficients(c).value[2])(parameter.coefficients)
    step = 1e-6 * jnp.eye(3)
    central = [
        (
            parameter.from_unconstrained(parameter.coefficients + d)[2]
            - parameter.from_unconstrained(parameter.coefficients - d)[2]
        )
        / 2e-6
        for d in step
    ]
    np.testing.assert_allclose(gradient, central, rtol=1e-7, atol=1e-9)
    (leaf,) = jax.tree.leaves(parameter)
    assert leaf is parameter.coefficients and hash(jax.tree.structure(parameter)) is not None
    assert jax.tree.structure(parameter) == jax.tree.structure(MapParameter(MAPS, transform, [0.0] * 3, **bounds))


@pytest.mark.parametrize("form", ["frame", "dict of series", "dict of dicts"])
def test_labelled_maps_are_matched_to_the_regions(form):
    order, extra = [3, 1, 4, 0, 2], {"elsewhere": [9.0, 9.0]}
    frame = pandas.DataFrame(MAPS[order], index=[LABELS[i] for i in order], columns=["myelin", "gradient"])
    frame = pandas.concat([frame, pandas.DataFrame.from_dict(extra, orient="index", columns=frame.columns)])
    maps = {"frame": frame, "dict of series": dict(frame.items()), "dict of dicts": frame.to_dict()}[form]
    parameter = MapParameter(maps, region_labels=LABELS, coefficients=[0.0, 1.0, 0.0])
    np.testing.assert_allclose(parameter.maps, MAPS, atol=1e-14)
    assert parameter.names == ("intercept", "myelin", "gradient")
    assert MapParameter(maps).match(np.array(LABELS, "S10")).maps.tolist() == parameter.maps.tolist()
    # Without labels, the order is kept.
    np.testing.assert_array_equal(MapParameter(frame.reset_index(drop=True).iloc[:5]).maps, MAPS[order])


def test_maps_are_standardised_with_a_message():
    with pytest.warns(UserWarning, match=r"standardised over the 5 regions: myelin \(mean 5, standard deviation 2\)"):
        parameter = MapParameter({"myelin": 5.0 + 2.0 * MAPS[:, 0], "gradient": MAPS[:, 1]})
    np.testing.assert_allclose(parameter.maps, MAPS, atol=1e-14)
    # Maps that are standardised, also with n - 1, are left alone, silently.
    other = MAPS * np.sqrt(100.0) / np.sqrt(99.0)
    np.testing.assert_array_equal(MapParameter(other).maps, other)


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        (np.ones((5, 1)), {}, "map map_1 is the same in all regions"),
        (np.where(np.eye(5, 2) > 0, np.nan, MAPS), {}, r"map_1 has no finite value in 1 regions \(0\); map map_2"),
        (MAPS[:, [0, 0]], {}, "linearly dependent"),
        (MAPS, {"transform": "sigmoid"}, "lower_bound < upper_bound"),
        (MAPS, {"upper_bound": 1.0}, "Leave them out"),
        (MAPS, {"transform": "tanh"}, "transform = 'tanh'; give one of"),
        (MAPS, {"coefficients": [1.0, 2.0]}, r"shape \(2,\); give \(3,\)"),
        (MAPS, {"region_labels": LABELS[:4]}, "maps of 5 regions for 4 regions"),
        ({"a": MAPS[:, 0], "b": MAPS[:4, 1]}, {}, "all of the same regions"),
        ({"a": dict(zip(LABELS[1:], MAPS[:4, 0], strict=True))}, {"region_labels": LABELS}, "no values for region 0"),
        (np.zeros((2, 2, 2)), {}, r"give \(n_region, n_map\)"),
    ],
)
def test_maps_that_determine_nothing_are_refused(maps, options, message):
    with pytest.raises(ValueError, match=message):
        MapParameter(maps, **options)


def _state(value=0.5, n_node=5):
    return with_n_regions(State(model=State(w=jnp.asarray(value))), n_node)


def test_in_a_state_it_starts_from_the_value_that_it_replaces(capsys):
    for transform, bounds in (("exp", {}), ("linear", {}), ("sigmoid", {"lower_bound": 0.0, "upper_bound": 2.0})):
        state = _state()
        state.model.w = MapParameter(MAPS, transform, **bounds)
        np.testing.assert_allclose(strip_parameters(state).model.w, np.full(5, 0.5), rtol=1e-14)
        assert state.model.w.coefficients[1:].tolist() == [0.0, 0.0]
    show_parameters(state)
    assert "0.5 (5 values), MapParameter sigmoid(0.4507 + 0 map_1 + 0 map_2) in [0, 2]" in capsys.readouterr().out
    with pytest.raises(ValueError, match="0.5 regions|a state of 4 regions"):
        _state(n_node=4).model.w = MapParameter(MAPS)
    with pytest.raises(ValueError, match="'exp' does not reach"):
        _state(-1.0).model.w = MapParameter(MAPS)
    with pytest.raises(ValueError, match="region_labels=sim.connectivity.region_labels"):
        _state().model.w = MapParameter(pandas.DataFrame(MAPS, index=LABELS))


def test_an_optimiser_changes_the_coefficients_and_finds_them():
    expected = np.array([-0.5, 0.4, -0.2])
    target = np.exp(expected[0] + MAPS @ expected[1:])
    state = _state()
    state.model.w = MapParameter(MAPS)
    loss = OptaxOptimizer(lambda s: jnp.sum((s.model.w - target) ** 2), optax.adam(0.05), progress=False)
    fitted, history = loss.run(state, 400)
    np.testing.assert_allclose(fitted.model.w.coefficients, expected, atol=1e-4)
    np.testing.assert_allclose(fitted.model.w.value, target, atol=1e-4)
    assert history.loss[0] > 0.1


def test_sweeps_scale_and_files_are_those_of_the_coefficients(tmp_path):
    parameter = MapParameter(MAPS, "exp", [-1.0, 0.0, 0.0])
    assert parameter_scale(parameter) == 1.0
    points = list(latin_hypercube({"model.w": parameter, "coupling.a": Parameter(0.1)}, 8, 0))
    coefficients = np.array([point["model.w"].coefficients for point in points])
    # A hypercube: each coefficient falls into each eighth of its range once.
    for column, half_width in zip((coefficients - [-1.0, 0.0, 0.0]).T, (np.log(4.0), 0.5, 0.5), strict=True):
        assert sorted(np.floor((column / half_width + 1.0) * 4.0)) == list(range(8))
    write(tmp_path / "state.npz", State(w=parameter), "state")
    again = read(tmp_path / "state.npz", "state").w
    np.testing.assert_array_equal(again.value, parameter.value)
    assert again.names == parameter.names and parameters_of(State(w=again))
