"""Positive, scaled and masked parameters keep what they promise, in a fit and out of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tvb_jaxfit import (
    BoundedParameter,
    MaskedParameter,
    OptaxOptimizer,
    Parameter,
    PositiveParameter,
    RunOptions,
    ScaledParameter,
    State,
    fit,
)
from tvb_jaxfit.parameters import parameters_of, with_values

WEIGHTS = np.array([[0.0, 1.0, 0.4], [0.5, 0.0, 0.0], [2.0, 0.3, 0.0]])


@pytest.mark.parametrize(
    "parameter",
    [
        PositiveParameter([1e-9, 1.0, 1e9]),
        ScaledParameter([-3.0, 0.0, 2e-6]),
        ScaledParameter(0.0, scale=0.1),
        MaskedParameter(WEIGHTS),
        MaskedParameter(WEIGHTS, WEIGHTS > 0.35, 0.0, 4.0),
    ],
    ids=repr,
)
def test_value_and_unconstrained_value_are_each_others_inverse(parameter):
    back = parameter.from_unconstrained(parameter.to_unconstrained())
    np.testing.assert_allclose(back, parameter.value, rtol=1e-13)
    (same,) = jax.tree.leaves(jax.tree.map(lambda x: x, parameter))
    assert same is parameter.value
    other = parameter.with_value(2.0 * parameter.value)
    assert type(other) is type(parameter) and jax.tree.structure(other) == jax.tree.structure(parameter)


def _fitted(parameter, target, optimizer=None, steps=60):
    state = State(x=parameter)
    optimizer = optimizer or optax.adam(0.05)
    fitted, history = OptaxOptimizer(lambda s: jnp.sum((s.x - target) ** 2), optimizer, progress=False).run(
        state, steps
    )
    assert type(fitted.x) is type(parameter)
    return fitted.x.value, history


def test_a_positive_value_stays_positive_and_moves_by_factors():
    value, _ = _fitted(PositiveParameter([1e-6, 3.0]), -1.0, optax.adam(0.5), 100)
    assert np.all(value > 0.0) and np.all(value < np.array([1e-8, 0.1]))
    value, _ = _fitted(PositiveParameter([1e-6, 3.0]), jnp.array([1.0, 10.0]), optax.adam(0.01), 1)
    np.testing.assert_allclose(value, np.array([1e-6, 3.0]) * np.exp(0.01), rtol=1e-4)


def test_a_positive_value_is_above_zero_where_it_would_round_to_it():
    assert PositiveParameter(1.0).from_unconstrained(jnp.asarray(-1e6)) > 0.0


@pytest.mark.parametrize("value", [0.0, -1.0, [1.0, np.nan]])
def test_a_start_that_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match=r"1 of \d start values are not above 0.*BoundedParameter\(lower_bound=0\)"):
        PositiveParameter(value)


def test_one_step_moves_scaled_values_by_the_same_part_of_their_scale():
    value, _ = _fitted(ScaledParameter([2e-6, 1e-6, 0.0]), 1.0, optax.adam(0.01), 1)
    np.testing.assert_allclose(value, np.array([2e-6, 1e-6, 0.0]) + 0.01 * 2e-6, rtol=3e-3)


@pytest.mark.parametrize("given", [{"value": 0.0}, {"value": 1.0, "scale": -1.0}, {"scale": np.inf}])
def test_a_scale_is_above_zero(given):
    with pytest.raises(ValueError, match="ScaledParameter: a scale of .*; give one above 0"):
        ScaledParameter(**given)


def test_where_nothing_is_there_nothing_comes_and_what_is_free_stays_within_its_bounds():
    target = jnp.full((3, 3), -1.0).at[0, 1].set(3.0)
    value, history = _fitted(MaskedParameter(WEIGHTS, lower_bound=0.0), target, optax.adam(0.3), 200)
    np.testing.assert_array_equal(value[WEIGHTS == 0.0], 0.0)
    assert np.all(value >= 0.0) and np.all(value[WEIGHTS > 0.0] != WEIGHTS[WEIGHTS > 0.0])
    np.testing.assert_allclose(value[0, 1], 3.0, atol=0.05)
    assert history.loss[-1] < history.loss[0]


def test_what_is_not_free_stays_even_outside_the_bounds():
    mask = WEIGHTS == 1.0
    value, _ = _fitted(MaskedParameter(-WEIGHTS + 2.0 * mask, mask, 0.0, 2.0), jnp.full((3, 3), 1.5))
    np.testing.assert_array_equal(value[~mask], -WEIGHTS[~mask])
    np.testing.assert_allclose(value[mask], 1.5, atol=0.05)


def test_the_optimiser_sees_free_entries_alone():
    seen = optax.GradientTransformation(lambda x: x["x"].shape, lambda g, s, p=None: (g, s))
    assert seen.init({"x": MaskedParameter(WEIGHTS).to_unconstrained()}) == (5,)
    decayed, _ = _fitted(MaskedParameter(WEIGHTS + 1.0, WEIGHTS > 0.0), 0.0, optax.adamw(0.1, weight_decay=1.0))
    np.testing.assert_array_equal(decayed[WEIGHTS == 0.0], 1.0)


@pytest.mark.parametrize(
    "given,said",
    [
        ({"mask": np.ones(3, bool)}, r"a mask of shape \(3,\) for a value of \(3, 3\)"),
        ({"mask": np.zeros((3, 3), bool)}, "frees nothing"),
        ({"mask": WEIGHTS}, "the mask is of float64; give booleans"),
        ({"upper_bound": 1.5}, r"1 of 5 start values lie outside \[-inf, 1.5\]"),
    ],
)
def test_masks_and_bounds_that_do_not_fit_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        MaskedParameter(WEIGHTS, **given)


def test_a_mask_has_the_shape_of_its_value():
    with pytest.raises(ValueError, match=r"does not become \(9,\). Make a new one"):
        MaskedParameter(WEIGHTS).shape = (9,)


def test_the_mask_is_part_of_the_trees_structure():
    one, other = State(x=MaskedParameter(WEIGHTS)), State(x=MaskedParameter(WEIGHTS, WEIGHTS == 1.0))
    assert jax.tree.structure(one) != jax.tree.structure(other)
    assert hash(jax.tree.structure(one)) == hash(jax.tree.structure(State(x=MaskedParameter(WEIGHTS))))
    gradient = jax.jit(jax.grad(lambda state: jnp.sum(jnp.asarray(state.x) ** 2)))(one)
    np.testing.assert_array_equal(gradient.x.value, 2.0 * WEIGHTS)
    moved = with_values(one, {"x": jnp.zeros((3, 3))})
    np.testing.assert_array_equal(moved.x.mask, WEIGHTS != 0.0)


@pytest.mark.parametrize(
    "parameter,said",
    [
        (PositiveParameter(), "PositiveParameter(the simulator's own)"),
        (ScaledParameter(regional=True), "ScaledParameter(the simulator's own, regional)"),
        (ScaledParameter(3.0), "ScaledParameter(3, in units of 3)"),
        (MaskedParameter(lower_bound=0.0), "MaskedParameter(the simulator's own, in [0, inf])"),
    ],
)
def test_repr_names_the_constraint(parameter, said):
    assert repr(parameter) == said


def test_a_parameter_of_a_parameter_takes_its_value():
    assert PositiveParameter(Parameter(0.25)).value == 0.25
    np.testing.assert_array_equal(MaskedParameter(BoundedParameter(WEIGHTS, 0.0, 3.0)).value, WEIGHTS)


@pytest.mark.slow
def test_a_simulators_own_values_are_the_start_of_each_kind(build_small):
    from tvb.simulator import monitors

    sim = build_small(steps=300, monitors=[monitors.TemporalAverage(period=16.0)])
    sim.configure()
    n, weights = 6, sim.connectivity.weights.copy()
    target = np.corrcoef(np.random.default_rng(0).normal(size=(n, 30)))
    result = fit(
        sim,
        target,
        {
            "connectivity.weights": MaskedParameter(lower_bound=0.0),
            "integrator.noise.nsig": PositiveParameter(),
            "coupling.a": ScaledParameter(),
            "model.w": ScaledParameter(regional=True),
        },
        method="simulate",
        max_steps=3,
        run=RunOptions(progress=False),
        optimizer=optax.adam(0.02),
    )
    found = {path: np.asarray(p.value) for path, p in parameters_of(result.fitted).items()}
    np.testing.assert_array_equal(found["connectivity.weights"][weights == 0.0], 0.0)
    assert np.all(found["connectivity.weights"][weights > 0.0] > 0.0)
    assert found["model.w"].shape == (n,) and np.all(found["integrator.noise.nsig"] > 0.0)
    np.testing.assert_allclose(found["coupling.a"], sim.coupling.a, rtol=0.1)
    assert all(np.any(found[path] != np.asarray(p.value)) for path, p in parameters_of(result.initial).items())
    result.write_back(sim)
    np.testing.assert_array_equal(sim.connectivity.weights, parameters_of(result.best)["connectivity.weights"].value)
