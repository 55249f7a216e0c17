"""The structured reverse pass gives the gradients of plain autodiff, whatever the step and however it is blocked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit.dynamics import adjoint
from tvb_jaxfit.dynamics.adjoint import scan_steps, trajectory
from tvb_jaxfit.dynamics.step import Step

N_VAR, N_NODE, N_MODE = 2, 5, 2
RTOL = 1e-12


def _local(theta, x, c, z):
    """Two nonlinear variables, modes that mix, a bound, and noise that the state multiplies."""
    v, w = x
    other = jnp.mean(v, axis=-1, keepdims=True)
    dv = theta["rate"] * (v - v**3 / 3.0 - w) + theta["drive"] + c[0] * theta["gain"]
    dw = theta["slow"] * jnp.sin(v + other) - 0.3 * w * theta["of_mode"]
    moved = x + 0.1 * jnp.stack([dv, dw])
    if z is not None:
        moved = moved + theta["noise"] * (1.0 + x**2) * z
    return moved.at[1].set(jnp.clip(moved[1], -0.5, 0.5))


def _post(theta, gx):
    return jnp.tanh(theta["coupling"] * gx)


# Node 0's second variable is the only one that others see.
STEP = Step(_local, _post, cvar=(1,))


def _problem(n_steps, stochastic=True, seed=0):
    draw = np.random.default_rng(seed).normal

    def near(mean, *shape):
        return jnp.asarray(mean + 0.2 * draw(size=shape))

    theta = {
        "rate": near(1.0, 1, 1),  # global
        "drive": near(0.2, N_NODE, 1),  # regional
        "gain": near(0.5, 1, N_MODE),  # global, one a mode
        "of_mode": near(1.0, N_NODE, N_MODE),
        "slow": near(0.4, N_NODE, 1),
        "coupling": near(0.5, 1, N_NODE, 1),  # with an axis of coupling variables
        "noise": near(0.1, N_VAR, N_NODE, 1),  # local, one a variable
    }
    if not stochastic:
        del theta["noise"]
    draws = jnp.asarray(draw(size=(n_steps, N_VAR, N_NODE, N_MODE))) if stochastic else None
    arguments = (theta, near(0.3, N_NODE, N_NODE), near(0.0, N_VAR, N_NODE, N_MODE), draws)
    return arguments, jnp.asarray(draw(size=(n_steps, N_VAR, N_NODE, N_MODE)))


def _loss(run, n_steps, cotangent):
    return lambda *arguments: jnp.sum(cotangent * jnp.sin(run(STEP, n_steps, *arguments)))


def _assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        ours = dict(jax.tree_util.tree_leaves_with_path(got))[path]
        error = np.max(np.abs(ours - leaf)) / np.max(np.abs(leaf))
        assert error <= RTOL, (jax.tree_util.keystr(path), error)


def _argnums(arguments):
    return tuple(index for index, argument in enumerate(arguments) if argument is not None)


def _gradients(run, n_steps, arguments, cotangent, transform=jax.jit):
    return transform(jax.grad(_loss(run, n_steps, cotangent), _argnums(arguments)))(*arguments)


@pytest.mark.parametrize(
    "n_steps,steps_a_block",
    [(24, 100), (24, 6), (23, 4), (7, 5), (5, 0), (1, 100)],
    ids=["one block", "blocks that divide", "an odd piece", "one block and more", "a step a block", "a single step"],
)
def test_gradients_equal_plain_autodiff_however_the_steps_divide_into_blocks(n_steps, steps_a_block, monkeypatch):
    monkeypatch.setattr(adjoint, "BLOCK_ELEMENTS", steps_a_block * N_VAR * N_NODE * N_MODE)
    problem = _problem(n_steps)
    _assert_same(_gradients(trajectory, n_steps, *problem), _gradients(scan_steps, n_steps, *problem))


def test_gradients_of_a_deterministic_step_equal_plain_autodiff(monkeypatch):
    monkeypatch.setattr(adjoint, "BLOCK_ELEMENTS", 4 * N_VAR * N_NODE * N_MODE)
    problem = _problem(11, stochastic=False)
    _assert_same(_gradients(trajectory, 11, *problem), _gradients(scan_steps, 11, *problem))


def test_states_are_those_of_the_plain_scan():
    arguments, _ = _problem(9)
    np.testing.assert_array_equal(trajectory(STEP, 9, *arguments), scan_steps(STEP, 9, *arguments))


def test_without_jit_the_gradients_are_the_same():
    problem = _problem(6)
    plain = _gradients(trajectory, 6, *problem, transform=lambda f: f)
    _assert_same(plain, _gradients(scan_steps, 6, *problem))


def test_a_cotangent_on_the_last_state_alone_reaches_the_first():
    arguments, _ = _problem(10)

    def last(run):
        return jax.jit(jax.grad(lambda x0: jnp.sum(run(STEP, 10, *arguments[:2], x0, arguments[3])[-1] ** 2)))

    _assert_same(last(trajectory)(arguments[2]), last(scan_steps)(arguments[2]))


@pytest.fixture(scope="module")
def full():
    """A problem and its gradients in everything."""
    problem = _problem(12)
    return problem, _gradients(trajectory, 12, *problem)


@pytest.mark.parametrize("wanted", ["rate", "drive", "coupling", "noise", "weights", "x0", "draws"])
def test_a_gradient_in_one_argument_is_the_same_as_among_all(wanted, full):
    (arguments, cotangent), expected = full
    theta, *others = arguments
    place = {"weights": 0, "x0": 1, "draws": 2}

    def loss(value):
        if wanted in theta:
            return _loss(trajectory, 12, cotangent)(theta | {wanted: value}, *others)
        return _loss(trajectory, 12, cotangent)(theta, *(value if i == place[wanted] else o for i, o in enumerate(others)))

    value = theta[wanted] if wanted in theta else others[place[wanted]]
    among_all = expected[0][wanted] if wanted in theta else expected[1 + place[wanted]]
    _assert_same(jax.jit(jax.grad(loss))(value), among_all)


def test_under_vmap_each_gradient_is_the_one_by_itself():
    problems = [_problem(8, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(arguments for arguments, _ in problems))
    cotangent = problems[0][1]
    gradient = jax.grad(_loss(trajectory, 8, cotangent), (0, 1, 2, 3))
    together = jax.jit(jax.vmap(gradient))(*stacked)
    alone = jax.jit(gradient)
    for index, (arguments, _) in enumerate(problems):
        _assert_same(jax.tree.map(lambda leaf, index=index: leaf[index], together), alone(*arguments))


def test_under_vmap_over_the_noise_alone_the_gradients_are_those_of_each_noise():
    (theta, weights, x0, _), cotangent = _problem(8)
    noises = jnp.stack([_problem(8, seed=seed)[0][3] for seed in range(3)])
    gradient = jax.grad(_loss(trajectory, 8, cotangent), (0, 1))
    together = jax.jit(jax.vmap(gradient, in_axes=(None, None, None, 0)))(theta, weights, x0, noises)
    for index, draws in enumerate(noises):
        expected = _gradients(scan_steps, 8, (theta, weights, x0, draws), cotangent)
        _assert_same(jax.tree.map(lambda leaf, index=index: leaf[index], together), expected[:2])


def test_forward_mode_of_the_plain_scan_is_the_transpose_of_the_reverse_pass():
    (theta, weights, x0, draws), cotangent = _problem(10)
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape), theta)
    _, forward = jax.jvp(lambda theta: scan_steps(STEP, 10, theta, weights, x0, draws), (theta,), (direction,))
    _, pull = jax.vjp(lambda theta: trajectory(STEP, 10, theta, weights, x0, draws), theta)
    (reverse,) = pull(cotangent)
    products = [jnp.sum(a * b) for a, b in zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)]
    np.testing.assert_allclose(sum(products), jnp.sum(forward * cotangent), rtol=RTOL)
