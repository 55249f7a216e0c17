"""The state is a tree with the simulator's own paths; nothing is added to it or lost from it by accident."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter, Parameter, State
from tvb_jaxfit.state import get_path, with_path


@pytest.fixture
def state():
    return State(
        static=[("current_step", 3)],
        model=State(w=jnp.asarray([0.3]), J_N=jnp.asarray([0.2609])),
        monitors=[State(), State(hrf_kernel=State(tau_s=jnp.asarray(0.8)))],
        draws=jnp.zeros((4, 2)),
    )


def _leaves(state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def test_attributes_are_read_and_set_along_the_path(state):
    assert state.monitors[1].hrf_kernel.tau_s == 0.8
    state.model.w = jnp.asarray([0.5])
    assert state.model.w[0] == 0.5
    assert state.current_step == 3
    assert "w" in state.model and "a" not in state.model
    assert [name for name, _ in state.model.items()] == ["w", "J_N"]
    assert {"w", "J_N", "items"} <= set(dir(state.model))


@pytest.mark.parametrize("name,meant", [("W", "w"), ("J_n", "J_N"), ("JN", "J_N")])
def test_an_unknown_attribute_is_refused_with_what_there_is_and_what_was_meant(name, meant, state):
    for attempt in (
        lambda: getattr(state.model, name),
        lambda: setattr(state.model, name, jnp.zeros(1)),
        lambda: state.model.replace(**{name: jnp.zeros(1)}),
    ):
        with pytest.raises(AttributeError, match=f"no '{name}' here; there is: w, J_N. Did you mean '{meant}'?"):
            attempt()
    assert list(dict(state.model.items())) == ["w", "J_N"]


def test_a_static_field_cannot_be_set_and_the_message_says_so(state):
    with pytest.raises(AttributeError, match="'current_step' is a static field of the simulation, not a value to set"):
        state.current_step = 4
    assert state.current_step == 3
    assert state.replace(static={"current_step": 4}).current_step == 4


@pytest.mark.parametrize("path", ["model.w", "monitors[1].hrf_kernel.tau_s", "monitors[1]", "draws", "model"])
def test_what_is_put_at_a_path_is_found_there_and_the_old_state_is_untouched(path, state):
    before, marker = _leaves(state), jnp.asarray(17.0)
    new = with_path(state, path, marker)
    assert get_path(new, path) is marker
    assert get_path(state, path) is not marker
    after = _leaves(state)
    assert before.keys() == after.keys() and all(before[key] is after[key] for key in before)
    untouched = [key for key in _leaves(new) if not key.lstrip(".").startswith(path)]
    assert all(_leaves(new)[key] is before[key] for key in untouched)


@pytest.mark.parametrize(
    "path",
    ["model.v", "monitors[2].hrf_kernel", "monitors[0].hrf_kernel", "model.w.a", "model[0]", "nothing"],
)
def test_a_path_that_is_not_there_is_refused(path, state):
    for attempt in (lambda: get_path(state, path), lambda: with_path(state, path, 0.0)):
        with pytest.raises(AttributeError, match="the state has no"):
            attempt()


@pytest.mark.parametrize("path", ["", "[0]", "model w", "model-w", "monitors[-1]", "monitors[x]", "model..w", ".model"])
def test_what_is_no_path_is_refused_as_such(path, state):
    with pytest.raises(AttributeError, match="is no path; a path looks like"):
        get_path(state, path)


def test_flattening_and_back_is_the_same_tree(state):
    leaves, structure = jax.tree.flatten(state)
    again = jax.tree.unflatten(structure, leaves)
    assert jax.tree.structure(again) == structure
    assert again.current_step == 3
    assert all(a is b for a, b in zip(jax.tree.leaves(again), leaves, strict=True))
    assert list(_leaves(state)) == [".model.w", ".model.J_N", ".monitors[1].hrf_kernel.tau_s", ".draws"]


def test_jit_grad_and_vmap_act_on_it_as_on_any_tree(state):
    def total(state):
        return jnp.sum(state.model.w**2) + state.monitors[1].hrf_kernel.tau_s

    gradient = jax.jit(jax.grad(total))(state)
    np.testing.assert_allclose(gradient.model.w, [0.6], rtol=1e-15)
    assert gradient.monitors[1].hrf_kernel.tau_s == 1.0
    batched = jax.tree.map(lambda leaf: jnp.stack([leaf, 2.0 * leaf]), state)
    np.testing.assert_allclose(jax.vmap(total)(batched), [0.89, 1.96], rtol=1e-15)


def test_static_fields_are_part_of_the_structure(state):
    assert jax.tree.structure(state) != jax.tree.structure(state.replace(static={"current_step": 4}))


def test_a_deepcopy_is_independent(state):
    state.draws = np.zeros(3)
    other = copy.deepcopy(state)
    other.model.w = jnp.asarray([9.0])
    other.monitors[1].hrf_kernel.tau_s = jnp.asarray(9.0)
    other.draws[0] = 9.0
    assert state.model.w[0] == 0.3
    assert state.monitors[1].hrf_kernel.tau_s == 0.8
    assert state.draws[0] == 0.0


def test_repr_shows_paths_values_and_shapes_a_line_each(state):
    state.model.w = BoundedParameter(0.3, 0.0, 1.0)
    assert repr(state).splitlines() == [
        "State  (current_step=3)",
        "  model",
        "    w = BoundedParameter(0.3, in [0, 1])",
        "    J_N = 0.2609  float64[1]",
        "  monitors[0]",
        "  monitors[1]",
        "    hrf_kernel",
        "      tau_s = 0.8  float64[]",
        "  draws = 0 .. 0 .. 0  float64[4, 2]",
    ]


def test_repr_works_under_a_trace(state):
    seen = []
    jax.jit(lambda state: seen.append(repr(state)))(state)
    assert "w = float64[1]" in seen[0]


@pytest.fixture(scope="module")
def prepared():
    sim = simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=np.array([[0.0, 1.0], [2.0, 0.0]]),
            tract_lengths=np.zeros((2, 2)),
            centres=np.zeros((2, 3)),
            region_labels=np.array(["l", "r"]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]))),
        monitors=[monitors.Raw()],
        simulation_length=20.0,
    )
    return tj.prepare(sim)


def test_simulate_accepts_parameters_and_gives_the_same_numbers(prepared):
    simulate, state = prepared
    marked = copy.deepcopy(state)
    marked.model.w = BoundedParameter(state.model.w, 0.0, 1.0)
    marked.coupling.a = Parameter(state.coupling.a)
    np.testing.assert_array_equal(simulate(marked).data[0], simulate(state).data[0])
    marked.model.w.shape = (2,)
    np.testing.assert_array_equal(simulate(marked).data[0], simulate(state).data[0])


def test_simulate_neither_changes_the_state_nor_remembers_it(prepared):
    simulate, state = prepared
    before = _leaves(state)
    first, second = simulate(state).data[0], simulate(state).data[0]
    np.testing.assert_array_equal(first, second)
    assert all(leaf is before[key] for key, leaf in _leaves(state).items())


def test_a_parameter_of_the_wrong_shape_is_refused_by_its_path(prepared):
    simulate, state = prepared
    with pytest.raises(ValueError, match=r"State.model.w: shape \(3,\) is neither global .* nor regional \(2,\)"):
        simulate(with_path(state, "model.w", jnp.zeros(3)))
