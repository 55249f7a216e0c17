"""Misspelt names in a state are errors that list the existing ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path


@pytest.fixture
def prepared(build_small):
    return tj.prepare(build_small(steps=20, monitors=[monitors.Raw(), monitors.SubSample(period=8.0)]))


@pytest.mark.parametrize(
    "path, suggestion",
    [
        ("model.W", "'w'"),
        ("model.tau", "'tau_s'"),
        ("modle.w", "'model'"),
        ("coupling.A", "'a'"),
        ("connectivity.weight", "'weights'"),
        ("integrator.noise.sig", "'nsig'"),
    ],
)
def test_a_misspelled_path_is_an_error_with_a_suggestion(prepared, path, suggestion):
    _, state = prepared
    with pytest.raises(AttributeError, match=f"Did you mean {suggestion}"):
        get_path(state, path)
    with pytest.raises(AttributeError, match=f"Did you mean {suggestion}"):
        with_path(state, path, jnp.zeros(1))
    *parents, name = path.split(".")
    if parents != ["modle"]:
        with pytest.raises(AttributeError, match=f"Did you mean {suggestion}"):
            setattr(get_path(state, ".".join(parents)), name, jnp.zeros(1))


def test_a_monitor_that_is_not_there_is_an_error_that_names_the_path(prepared):
    with pytest.raises(AttributeError, match=r"the state has no 'monitors\[2\].stock'"):
        get_path(prepared[1], "monitors[2].stock")


@pytest.mark.parametrize("path", ["", "[0]", "."])
def test_what_is_no_path_is_an_error_that_shows_one(prepared, path):
    with pytest.raises(AttributeError, match="a path looks like 'model.w'"):
        get_path(prepared[1], path)


@pytest.mark.parametrize(
    "path, shape",
    [
        ("model.w", (5,)),
        ("model.w", (2, 3)),
        ("model.I_o", (1, 6, 1, 2)),
        ("coupling.a", (7,)),
        ("integrator.noise.nsig", (5,)),
        ("integrator.noise.nsig", (2, 6, 1)),
    ],
)
def test_a_parameter_of_a_wrong_shape_is_an_error_that_names_it(prepared, path, shape):
    simulate, state = prepared
    with pytest.raises(ValueError) as caught:
        simulate(with_path(state, path, jnp.full(shape, 0.1)))
    message = str(caught.value)
    assert f"State.{path}: shape {shape}" in message and "one for each of the 6 regions" in message


@pytest.mark.parametrize("shape", [(5, 5), (6,), (6, 5)])
def test_weights_of_a_wrong_shape_are_an_error_that_names_them(prepared, shape):
    simulate, state = prepared
    with pytest.raises(ValueError, match=r"State.connectivity.weights: shape .*\(6, 6\)"):
        simulate(with_path(state, "connectivity.weights", jnp.ones(shape)))


def test_draws_of_another_length_are_an_error_that_says_so(prepared):
    simulate, state = prepared
    draws = state.integrator.noise.draws
    with pytest.raises(ValueError, match="19 steps of noise for 20 steps of simulation"):
        simulate(with_path(state, "integrator.noise.draws", draws[1:]))


def test_noise_beyond_the_stream_is_an_error_that_says_where_it_stood(prepared):
    simulate, state = prepared
    elsewhere = state.replace(static={"current_step": 3})
    with pytest.raises(ValueError, match=r"the random stream is known at steps \[0, 20\], not at step 23"):
        _ = simulate(elsewhere).final_state


def test_a_path_that_is_there_reads_and_replaces_without_touching_the_state(prepared):
    _, state = prepared
    new = with_path(state, "model.w", jnp.asarray([0.9]))
    assert float(get_path(new, "model.w")) == 0.9
    assert float(state.model.w) == 0.5
    same = jax.tree.map(np.array_equal, new.replace(model=state.model), state)
    assert all(jax.tree.leaves(same))
