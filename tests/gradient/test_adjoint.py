"""The structured reverse pass gives the gradients of plain autodiff, for any step and any division into blocks."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.dynamics import blocks, reverse_pass
from tvb_jaxfit.dynamics.adjoint import simulate_steps, trajectory
from tvb_jaxfit.dynamics.step import Step
from tvb_jaxfit.dynamics.trajectory import scan_steps

N_VAR, N_NODE, N_MODE = 2, 5, 2
N_STEPS = 22
RTOL = 1e-12


def _local(theta, x, c, inputs):
    """Two nonlinear variables, coupled modes, a bound, multiplicative noise, and a stimulus."""
    v, w = x
    mode_mean = jnp.mean(v, axis=-1, keepdims=True)
    dv = theta["rate"] * (jnp.sin(2.0 * v) - v - w) + theta["drive"] + c[0] * theta["gain"]
    dw = theta["slow"] * jnp.sin(v + mode_mean) - 0.3 * w * theta["by_mode"]
    new = x + 0.1 * jnp.stack([dv, dw])
    if "noise" in inputs:
        new = new + theta["noise"] * jnp.cos(x) * inputs["noise"] + 0.1 * inputs["stimulus"]
    return new.at[1].set(jnp.clip(new[1], -0.5, 0.5))


def _post(theta, s, y):
    """Depends on the coupling input and on the node's own variable."""
    return jnp.tanh(theta["coupling"] * s[:1]) + 0.2 * y * s[-1:]


def _channels(theta, y):
    """Two channels, one of which depends on a parameter."""
    return jnp.concatenate([jnp.sin(theta["source"] * y), 1.0 + y**2])


def _pairs(theta, weights, y_i, y_j):
    """A nonlinear function of target and source, which no sum of source outputs gives."""
    terms = jnp.tanh(theta["source"][..., None, :] * (jnp.swapaxes(y_j, 0, 1) - y_i[:, :, None]))
    return jnp.einsum("ij,cijm->cim", weights, terms)


DELAYS = np.array([[0, 3, 1, 7, 0], [2, 0, 0, 1, 4], [0, 0, 0, 0, 0], [5, 1, 2, 0, 7], [1, 1, 6, 3, 2]])

# The second state variable is the only coupling variable.
STEPS = {
    "plain": Step(_local, (1,), _post),
    "channels": Step(_local, (1,), _post, _channels),
    "delays": Step(_local, (1,), _post, delays=DELAYS),
    "channels and delays": Step(_local, (1,), _post, _channels, delays=DELAYS),
    "pairs": Step(_local, (1,), _post, pairwise=_pairs),
    "pairs and delays": Step(_local, (1,), _post, pairwise=_pairs, delays=DELAYS),
}


def _problem(n_steps=N_STEPS, stochastic=True, seed=0, horizon=1):
    draw = np.random.default_rng(seed).normal

    def near(mean, *shape):
        return jnp.asarray(mean + 0.2 * draw(size=shape))

    theta = {
        "rate": near(1.0, 1, 1),  # global
        "drive": near(0.2, N_NODE, 1),  # regional
        "gain": near(0.5, 1, N_MODE),  # global, one per mode
        "by_mode": near(1.0, N_NODE, N_MODE),
        "slow": near(0.4, N_NODE, 1),
        "coupling": near(0.5, 1, N_NODE, 1),  # with an axis of coupling variables
        "source": near(0.8, 1, 1, 1),
        "noise": near(0.1, N_VAR, N_NODE, 1),  # regional, one per variable
    }
    if not stochastic:
        del theta["noise"]
    inputs = {"noise": near(0.0, n_steps, N_VAR, N_NODE, N_MODE) * 5.0, "stimulus": near(0.0, n_steps, 1, N_NODE, 1)}
    inputs = inputs if stochastic else {}
    arguments = (theta, near(0.3, N_NODE, N_NODE), near(0.0, horizon, N_VAR, N_NODE, N_MODE), inputs)
    return arguments, jnp.asarray(draw(size=(n_steps, N_VAR, N_NODE, N_MODE)))


def _loss(run, n_steps=N_STEPS, kind="plain"):
    def loss(theta, weights, past, inputs, cotangent):
        return jnp.sum(cotangent * jnp.sin(run(STEPS[kind], n_steps, theta, weights, past, inputs)))

    return loss


def _assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, leaf), ours in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        error = np.max(np.abs(ours - leaf)) / (np.max(np.abs(leaf)) or 1.0)
        assert error <= RTOL, (jax.tree_util.keystr(path), error)


@pytest.fixture(scope="module")
def reference():
    """Gradients in everything by plain autodiff, compiled once."""
    return jax.jit(jax.grad(_loss(scan_steps), (0, 1, 2, 3)))


@pytest.fixture(scope="module")
def structured():
    """Gradients in everything by the structured reverse pass, in one block."""
    return jax.jit(jax.grad(_loss(trajectory), (0, 1, 2, 3)))


@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.slow), "pairs and delays"])
def test_states_are_those_of_the_plain_scan(kind):
    step = STEPS[kind]
    arguments, _ = _problem(horizon=step.horizon)
    expected = scan_steps(step, N_STEPS, *arguments)
    np.testing.assert_allclose(trajectory(step, N_STEPS, *arguments), expected, rtol=0.0, atol=1e-15)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("delays", marks=pytest.mark.slow),
        "channels and delays",
        pytest.param("pairs", marks=pytest.mark.slow),
        pytest.param("pairs and delays", marks=pytest.mark.slow),
    ],
)
def test_gradients_of_every_kind_of_coupling_equal_plain_autodiff(kind, monkeypatch):
    # Blocks of nine steps, and a remainder.
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 9 * N_NODE * N_MODE)
    arguments, cotangent = _problem(horizon=STEPS[kind].horizon)
    gradients = (jax.jit(jax.grad(_loss(run, kind=kind), (0, 1, 2, 3))) for run in (trajectory, scan_steps))
    ours, expected = (gradient(*arguments, cotangent) for gradient in gradients)
    # States before the start act through their source outputs, with every delay that reaches back to them.
    assert np.any(expected[2][0] != 0.0) or "delays" not in kind
    _assert_same(ours, expected)


@pytest.mark.slow
def test_gradients_under_channels_equal_plain_autodiff():
    arguments, cotangent = _problem()
    ours, expected = (jax.jit(jax.grad(_loss(run, kind="channels"), (0, 1, 2, 3))) for run in (trajectory, scan_steps))
    _assert_same(ours(*arguments, cotangent), expected(*arguments, cotangent))


@pytest.mark.slow
def test_gradients_equal_central_differences_through_delays():
    kind = "channels and delays"
    (theta, weights, past, inputs), cotangent = _problem(horizon=STEPS[kind].horizon)
    loss = jax.jit(_loss(trajectory, kind=kind))
    gradient = jax.jit(jax.grad(_loss(trajectory, kind=kind), (1, 2)))(theta, weights, past, inputs, cotangent)
    direction = np.random.default_rng(1).normal(size=past.shape)
    numeric = (
        loss(theta, weights, past + 1e-5 * direction, inputs, cotangent)
        - loss(theta, weights, past - 1e-5 * direction, inputs, cotangent)
    ) / 2e-5
    np.testing.assert_allclose(np.sum(gradient[1] * direction), numeric, rtol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_in_everything_equal_plain_autodiff(seed, structured, reference):
    arguments, cotangent = _problem(seed=seed)
    _assert_same(structured(*arguments, cotangent), reference(*arguments, cotangent))


@pytest.mark.slow
@pytest.mark.parametrize(
    "most,used",
    [(9, 9), (0, 1)],
    ids=["remainder of four steps", "one step per block"],
)
def test_gradients_equal_plain_autodiff_however_the_steps_divide_into_blocks(most, used, monkeypatch, reference):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", most * N_NODE * N_MODE)
    arguments, cotangent = _problem()
    assert blocks.block_sizes(N_STEPS, arguments[2])[0] == used
    got = jax.jit(jax.grad(_loss(trajectory), (0, 1, 2, 3)))(*arguments, cotangent)
    _assert_same(got, reference(*arguments, cotangent))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "channels and delays"])
def test_gradients_of_runs_that_are_kept_piece_by_piece_equal_plain_autodiff(kind, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 2 * N_NODE * N_MODE)
    monkeypatch.setattr(blocks, "MEMORY_LIMIT", 8 * 2 * 8 * N_VAR * N_NODE * N_MODE)
    arguments, cotangent = _problem(24, horizon=8 if "delays" in kind else 1)
    pieces = next(blocks.split_run(STEPS[kind], 24, arguments[2]))
    assert (pieces.size, pieces.n_piece > 1, pieces.n_steps) == (2, True, 24)
    ours, expected = (jax.jit(jax.grad(_loss(run, 24, kind), (0, 1, 2, 3))) for run in (trajectory, scan_steps))
    _assert_same(ours(*arguments, cotangent), expected(*arguments, cotangent))


def test_reduced_outputs_and_the_final_history_have_the_gradients_of_plain_autodiff(monkeypatch):
    """Scaled means over two steps, and the final history, across block borders and delays; one output is unused."""
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 4 * N_NODE * N_MODE)
    arguments, _ = _problem(12, horizon=8)
    step, weight = STEPS["delays"], jnp.asarray(np.random.default_rng(1).normal(size=(8, N_VAR, N_NODE, N_MODE)))

    scale = jnp.asarray([0.7, 1.3]).reshape(1, N_VAR, 1, 1)

    def means(scale, x):
        return scale * jnp.mean(x.reshape(-1, 2, *x.shape[1:]), axis=1), x[1::2] ** 2

    def in_blocks(theta, weights, past, inputs, scale):
        (outputs, _), last = simulate_steps(step, 12, theta, weights, past, inputs, means, scale)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(weight * last)

    def plain(theta, weights, past, inputs, scale):
        x = scan_steps(step, 12, theta, weights, past, inputs)
        return jnp.sum(jnp.sin(means(scale, x)[0])) + jnp.sum(weight * jnp.concatenate([past, x])[-8:])

    gradients = (jax.jit(jax.value_and_grad(run, (0, 1, 2, 3, 4))) for run in (in_blocks, plain))
    ours, expected = (gradient(*arguments, scale) for gradient in gradients)
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-13)
    _assert_same(ours[1], expected[1])


@pytest.mark.slow
def test_gradients_by_a_second_pullback_equal_those_by_rows_of_jacobians(monkeypatch, reference):
    arguments, cotangent = _problem()
    assert N_VAR * N_MODE <= reverse_pass._MAX_ROWS
    monkeypatch.setattr(reverse_pass, "_MAX_ROWS", 1)
    got = jax.jit(jax.grad(_loss(trajectory), (0, 1, 2, 3)))(*arguments, cotangent)
    _assert_same(got, reference(*arguments, cotangent))


@pytest.mark.slow
def test_gradients_of_a_single_step_equal_plain_autodiff():
    arguments, cotangent = _problem(n_steps=1)
    ours, expected = (jax.jit(jax.grad(_loss(run, 1), (0, 1, 2, 3))) for run in (trajectory, scan_steps))
    _assert_same(ours(*arguments, cotangent), expected(*arguments, cotangent))


@pytest.mark.slow
def test_gradients_of_a_deterministic_step_in_blocks_that_divide_equal_plain_autodiff(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 4 * N_NODE * N_MODE)
    arguments, cotangent = _problem(12, stochastic=False)
    ours, expected = (jax.jit(jax.grad(_loss(run, 12), (0, 1, 2))) for run in (trajectory, scan_steps))
    _assert_same(ours(*arguments, cotangent), expected(*arguments, cotangent))


def test_a_cotangent_on_the_last_state_alone_reaches_the_first(structured, reference):
    arguments, cotangent = _problem()
    cotangent = cotangent.at[:-1].set(0.0)
    expected = reference(*arguments, cotangent)
    assert np.all(expected[2] != 0.0)
    _assert_same(structured(*arguments, cotangent), expected)


@pytest.mark.parametrize(
    "name", ["drive", *(pytest.param(name, marks=pytest.mark.slow) for name in ("weights", "inputs"))]
)
def test_a_gradient_in_one_argument_alone_is_the_same_as_among_all(name, reference):
    (theta, *others), cotangent = _problem()
    among_all = reference(theta, *others, cotangent)
    place = {"weights": 0, "past": 1, "inputs": 2}

    def loss(value):
        if name in theta:
            return _loss(trajectory)(theta | {name: value}, *others, cotangent)
        replaced = [value if index == place[name] else argument for index, argument in enumerate(others)]
        return _loss(trajectory)(theta, *replaced, cotangent)

    value = theta[name] if name in theta else others[place[name]]
    expected = among_all[0][name] if name in theta else among_all[1 + place[name]]
    _assert_same(jax.jit(jax.grad(loss))(value), expected)


@pytest.mark.slow
def test_under_vmap_each_gradient_equals_the_unbatched_one(reference):
    problems = [(*arguments, cotangent) for arguments, cotangent in (_problem(seed=seed) for seed in range(3))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    together = jax.jit(jax.vmap(jax.grad(_loss(trajectory), (0, 1, 2, 3))))(*stacked)
    for index, problem in enumerate(problems):
        _assert_same(jax.tree.map(lambda leaf, index=index: leaf[index], together), reference(*problem))


@pytest.mark.slow
def test_under_vmap_over_the_noise_alone_the_gradients_are_those_of_each_noise(reference):
    (theta, weights, past, inputs), cotangent = _problem()
    noises = jnp.stack([_problem(seed=seed)[0][3]["noise"] for seed in range(3)])
    loss = jax.grad(lambda t, w, p, noise, g: _loss(trajectory)(t, w, p, inputs | {"noise": noise}, g), (0, 1))
    together = jax.jit(jax.vmap(loss, in_axes=(None, None, None, 0, None)))(theta, weights, past, noises, cotangent)
    for index, draws in enumerate(noises):
        expected = reference(theta, weights, past, inputs | {"noise": draws}, cotangent)[:2]
        _assert_same(jax.tree.map(lambda leaf, index=index: leaf[index], together), expected)


@pytest.mark.parametrize("kind", ["plain", pytest.param("channels and delays", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["rate", pytest.param("source", marks=pytest.mark.slow)])
def test_the_gradient_in_one_number_is_that_of_plain_autodiff_and_takes_no_reverse_pass(kind, name):
    arguments, cotangent = _problem(horizon=STEPS[kind].horizon)
    theta, *others = arguments

    def gradient(run):
        def loss(value):
            return _loss(run, kind=kind)({**theta, name: value}, *others, cotangent)

        return jax.grad(loss)

    if name == "source" and kind == "plain":
        assert gradient(trajectory)(theta[name]) == 0.0
        return
    _assert_same(jax.jit(gradient(trajectory))(theta[name]), jax.jit(gradient(scan_steps))(theta[name]))
    assert "reverse=True" in str(jax.make_jaxpr(gradient(scan_steps))(theta[name]))
    assert "reverse=True" not in str(jax.make_jaxpr(gradient(trajectory))(theta[name]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["channels", pytest.param("channels and delays", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "outside",
    [
        pytest.param(False, marks=pytest.mark.slow, id="no weights outside"),
        pytest.param(True, id="weights outside"),
    ],
)
def test_a_sparsity_mask_changes_nothing_with_and_without_weights_outside_of_it(kind, outside):
    connected = np.random.default_rng(1).random((N_NODE, N_NODE)) < 0.4
    (theta, weights, *others), cotangent = _problem(horizon=STEPS[kind].horizon)
    weights = weights if outside else jnp.where(connected, weights, 0.0)

    def loss(theta, weights, past, inputs, step):
        return jnp.sum(cotangent * jnp.sin(trajectory(step, N_STEPS, theta, weights, past, inputs)))

    arguments = (theta, weights, *others)
    sparse = replace(STEPS[kind], sparsity_mask=connected)
    got, expected = (
        jax.jit(jax.value_and_grad(partial(loss, step=step), (0, 1, 2, 3)))(*arguments)
        for step in (sparse, STEPS[kind])
    )
    _assert_same(got, expected)
    # The gradient in weights that are zero is not zero.
    assert np.all(got[1][1] != 0.0)
    assert connected.sum() < connected.size
