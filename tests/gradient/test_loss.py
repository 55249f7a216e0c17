"""Gradient of a fit's whole loss (simulation, BOLD, FC, rmse), for every floating-point value of the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.trajectory import scan_steps
from tvb_jaxfit.parameters import path_name
from tvb_jaxfit.state import get_path, with_path

SKIP_T = 2
N_NODE = 76


def _simulator():
    white_matter = connectivity.Connectivity.from_file("connectivity_76.zip")
    white_matter.speed = np.array([np.inf])
    white_matter.weights /= white_matter.weights.max()
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(w=np.array([0.6]), I_o=np.array([0.32])),
        coupling=coupling.Linear(a=np.array([0.02])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([1e-6]))),
        monitors=[monitors.Bold(period=1000.0)],
        simulation_length=24000.0,
    )


TARGET = np.corrcoef(np.random.default_rng(0).normal(size=(N_NODE, 30)))


def _loss(simulate):
    def loss(state):
        ((_, bold),) = simulate(state)
        return tj.rmse(tj.compute_fc(bold, SKIP_T), TARGET)

    return loss


@pytest.fixture(scope="module")
def prepared():
    return tj.prepare(_simulator())


@pytest.fixture(scope="module")
def whole(prepared):
    """(loss, state, gradient in the whole state), parameters global."""
    simulate, state = prepared
    loss = _loss(simulate)
    return jax.jit(loss), state, jax.jit(jax.grad(loss))(state)


REGIONAL = ("model.w", "model.I_o", "coupling.a", "integrator.noise.nsig")


@pytest.fixture(scope="module")
def regional(prepared):
    """(loss, state, gradients by path as a function of the state), four parameters with a value for each region."""
    simulate, state = prepared
    random = np.random.default_rng(1)
    for path in REGIONAL:
        value = get_path(state, path) * jnp.asarray(random.uniform(0.95, 1.05, N_NODE))
        state = with_path(state, path, value)
    loss = _loss(simulate)

    def of_values(values, state):
        for path, value in values.items():
            state = with_path(state, path, value)
        return loss(state)

    gradient = jax.jit(jax.grad(of_values))
    return jax.jit(loss), state, lambda state: gradient({path: get_path(state, path) for path in REGIONAL}, state)


def _central(loss, state, path, direction, size):
    """Directional derivative by two central differences, extrapolated to a step of zero."""
    value = get_path(state, path)

    def difference(h):
        above, below = (loss(with_path(state, path, value + jnp.asarray(s * h * direction))) for s in (1, -1))
        return (float(above) - float(below)) / (2 * h)

    return (4 * difference(size / 2) - difference(size)) / 3


# Scale on which each value changes the loss. The step of the differences is a small part of it.
SCALES = {
    "model.a": 0.27,
    "model.b": 0.108,
    "model.d": 154.0,
    "model.gamma": 0.641,
    "model.tau_s": 100.0,
    "model.w": 0.6,
    "model.J_N": 0.2609,
    "model.I_o": 0.32,
    "coupling.a": 0.02,
    "coupling.b": 0.1,
    "connectivity.weights": 1.0,
    "integrator.noise.nsig": 1e-6,
    "integrator.noise.draws": 1.0,
    "monitors[0].stock": 1.0,
    "monitors[0].hrf_kernel.tau_s": 0.8,
    "monitors[0].hrf_kernel.tau_f": 0.4,
    "initial_conditions": 0.3,
}
# Shift and scale of BOLD, on which FC does not depend, and a parameter that enters no equation.
NO_EFFECT = {"monitors[0].hrf_kernel.k_1": 5.6, "monitors[0].hrf_kernel.V_0": 0.02, "model.sigma_noise": 1e-9}
RELATIVE_STEP = 1e-4
# Accuracy of central differences after rounding; the gradients themselves are more accurate.
RTOL = 1e-7


def test_no_state_is_at_a_bound_here_which_would_put_kinks_into_the_loss(prepared):
    simulate, state = prepared
    inputs, _ = simulate.inputs(state)
    arguments = (simulate.constants(state), state.connectivity.weights, state.initial_conditions, inputs)
    states = scan_steps(simulate.step, simulate.n_steps, *arguments)
    assert np.min(states) > 0.0
    assert np.max(states) < 1.0


@pytest.mark.parametrize("path", SCALES)
def test_gradient_in_a_direction_equals_central_differences(path, whole):
    loss, state, gradient = whole
    ours = np.asarray(get_path(gradient, path))
    direction = np.random.default_rng(2).normal(size=ours.shape) if ours.size > 1 else np.ones(ours.shape)
    numeric = _central(loss, state, path, direction, RELATIVE_STEP * SCALES[path])
    np.testing.assert_allclose(np.sum(ours * direction), numeric, rtol=RTOL)


@pytest.mark.parametrize("path,entry", [("connectivity.weights", (3, 40)), ("initial_conditions", (0, 0, 17, 0))])
def test_gradient_in_one_entry_equals_central_differences(path, entry, whole):
    loss, state, gradient = whole
    direction = np.zeros(get_path(state, path).shape)
    direction[entry] = 1.0
    numeric = _central(loss, state, path, direction, 10 * RELATIVE_STEP * SCALES[path])
    np.testing.assert_allclose(get_path(gradient, path)[entry], numeric, rtol=RTOL)


def test_every_float_of_the_state_is_covered_here(whole):
    _, state, _ = whole
    leaves = jax.tree_util.tree_leaves_with_path(state)
    assert {path_name(path) for path, leaf in leaves if leaf.size} == set(SCALES) | set(NO_EFFECT)


def test_the_whole_tree_has_a_finite_gradient_of_its_own_shape(whole):
    _, state, gradient = whole
    assert jax.tree.structure(gradient) == jax.tree.structure(state)
    for leaf, g in zip(jax.tree.leaves(state), jax.tree.leaves(gradient), strict=True):
        assert leaf.dtype == g.dtype == jnp.float64
        assert leaf.shape == g.shape
        assert np.all(np.isfinite(g))


@pytest.mark.parametrize("path", NO_EFFECT)
def test_what_fc_does_not_see_has_no_gradient(path, whole):
    loss, state, gradient = whole
    assert abs(float(get_path(gradient, path).sum()) * NO_EFFECT[path]) < 1e-14
    doubled = with_path(state, path, 2.0 * get_path(state, path))
    np.testing.assert_allclose(loss(doubled), loss(state), rtol=1e-12)


def test_sigma_noise_enters_no_equation_and_its_gradient_is_exactly_zero(whole):
    assert float(whole[2].model.sigma_noise) == 0.0


@pytest.mark.parametrize("path", REGIONAL)
def test_regional_gradient_equals_central_differences_in_a_direction_and_at_one_node(path, regional):
    loss, state, gradients = regional
    ours = np.asarray(gradients(state)[path])
    assert ours.shape == (N_NODE,)
    one_node = np.zeros(N_NODE)
    one_node[11] = 1.0
    for direction, size in ((np.random.default_rng(3).normal(size=N_NODE), 1), (one_node, 10)):
        numeric = _central(loss, state, path, direction, size * RELATIVE_STEP * SCALES[path])
        np.testing.assert_allclose(np.sum(ours * direction), numeric, rtol=RTOL)


def test_the_global_gradient_is_the_sum_of_the_regional_ones(whole, regional):
    _, state, gradient = whole
    spread = state
    for path in REGIONAL:
        spread = with_path(spread, path, jnp.repeat(get_path(spread, path), N_NODE))
    for path, regional_gradient in regional[2](spread).items():
        np.testing.assert_allclose(np.sum(regional_gradient), get_path(gradient, path), rtol=1e-9)


def test_nodes_without_noise_have_finite_gradients_and_the_others_right_ones(regional):
    loss, state, gradients = regional
    silent = np.zeros(N_NODE, dtype=bool)
    silent[[0, 5, 30]] = True
    state = with_path(state, "integrator.noise.nsig", jnp.where(silent, 0.0, state.integrator.noise.nsig))
    gradient = gradients(state)
    assert all(np.all(np.isfinite(g)) for g in gradient.values())
    np.testing.assert_array_equal(gradient["integrator.noise.nsig"][silent], 0.0)
    for path in REGIONAL:
        direction = np.random.default_rng(4).normal(size=N_NODE) * ~silent
        numeric = _central(loss, state, path, direction, RELATIVE_STEP * SCALES[path])
        np.testing.assert_allclose(np.sum(np.asarray(gradient[path]) * direction), numeric, rtol=RTOL, err_msg=path)


def test_where_trajectories_run_into_their_bounds_the_gradient_is_that_between_the_kinks(whole):
    """With ten times the noise S is clipped at 0 at some steps; the loss is smooth between changes of these steps."""
    loss, state, _ = whole
    state = with_path(state, "integrator.noise.nsig", 10.0 * state.integrator.noise.nsig)
    gradient = jax.jit(jax.grad(lambda I_o: loss(with_path(state, "model.I_o", I_o))))(state.model.I_o)
    numeric = _central(loss, state, "model.I_o", np.ones(()), 1e-7 * SCALES["model.I_o"])
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6)


@pytest.mark.slow
def test_single_precision_gives_the_gradient_to_three_digits(whole):
    _, _, expected = whole
    with jax.enable_x64(False):
        simulate, state = tj.prepare(_simulator())
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
        gradient = jax.jit(jax.grad(_loss(simulate)))(state)
        gradient = jax.tree.map(np.asarray, gradient)
    for path in SCALES:
        # Relative to the largest entry of a leaf: small entries contain the rounding of large ones.
        ours, theirs = get_path(gradient, path), np.asarray(get_path(expected, path))
        assert np.max(np.abs(ours - theirs)) <= 1e-3 * np.max(np.abs(theirs)), path
