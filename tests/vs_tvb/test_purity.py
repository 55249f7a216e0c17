"""simulate is a pure function of the state, also under jit, vmap, in single precision and with noise of a JAX key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj


def three_monitors():
    return [monitors.Raw(), monitors.TemporalAverage(period=28.0), monitors.Bold(period=200.0, hrf_length=2000.0)]


def shifted(state, steps=1):
    noise = state.integrator.noise
    return state.replace(
        integrator=state.integrator.replace(noise=noise.replace(draws=jnp.roll(noise.draws, steps, 0)))
    )


def with_weights(state, weights):
    return state.replace(connectivity=state.connectivity.replace(weights=weights))


def test_the_comparison_notices_transposed_removed_and_slightly_changed_weights_and_shifted_noise(
    build, float64_tvb, equal_runs, difference
):
    """Negative controls: the effect of each error is far above the tolerance at which the translation equals TVB."""
    sim = build(monitors=three_monitors())
    simulate, state = tj.prepare(sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs, kinds=sim.monitors)
    weights = state.connectivity.weights
    wrong = {
        "transposed": (with_weights(state, weights.T), 1e-3),
        "removed": (with_weights(state, 0.0 * weights), 1e-2),
        "one weight by a millionth": (with_weights(state, weights.at[0, 1].add(1e-6)), 1e-10),
        "single precision": (with_weights(state, weights.astype("float32").astype("float64")), 1e-11),
        "noise one step late": (shifted(state), 1e-3),
        "noise one node off": (
            state.replace(
                integrator=state.integrator.replace(
                    noise=state.integrator.noise.replace(draws=jnp.roll(state.integrator.noise.draws, 1, axis=2))
                )
            ),
            1e-3,
        ),
    }
    for name, (other, minimum) in wrong.items():
        run = simulate(other)
        assert difference(run, theirs)[0] > minimum, name
        with pytest.raises(AssertionError):
            equal_runs(run, theirs, kinds=sim.monitors)


def test_same_state_same_result_and_the_state_is_not_changed(build_small):
    simulate, state = tj.prepare(build_small(monitors=three_monitors()))
    before = jax.tree.map(np.array, state)
    first, second = simulate(state), simulate(state)
    assert first.final_state.current_step == 300  # reading it draws the noise of the next run
    third = simulate(state)
    for a, b, c in zip(first.data, second.data, third.data, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    jax.tree.map(np.testing.assert_array_equal, before, state)
    np.testing.assert_array_equal(first.final_state.integrator.noise.draws, second.final_state.integrator.noise.draws)


def test_two_prepares_give_the_same_state(build_small):
    sim = build_small(monitors=three_monitors())
    (_, first), (_, second) = tj.prepare(sim), tj.prepare(sim)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_jit_and_vmap_over_states_equal_a_loop(build_small):
    simulate, state = tj.prepare(build_small(monitors=three_monitors()))
    jitted = jax.jit(simulate)(state)
    for (time, data), (our_time, ours) in zip(jitted, simulate(state), strict=True):
        np.testing.assert_array_equal(time, our_time)
        np.testing.assert_allclose(data, ours, rtol=0, atol=1e-14)
    states = [state.replace(model=state.model.replace(w=jnp.asarray([w]))) for w in (0.3, 0.5, 0.9)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.vmap(lambda s: simulate(s).data)(stacked)
    for index, single in enumerate(states):
        for many, one in zip(together, simulate(single).data, strict=True):
            np.testing.assert_allclose(many[index], one, rtol=0, atol=1e-14)
    assert np.max(np.abs(together[0][0] - together[0][2])) > 0.1


def test_noise_from_a_key_is_reproducible_and_not_tvbs(build_small):
    sim = build_small(monitors=three_monitors())
    _, tvbs = tj.prepare(sim)
    simulate, state = tj.prepare(sim, noise=jax.random.key(1))
    _, again = tj.prepare(sim, noise=jax.random.key(1))
    _, other = tj.prepare(sim, noise=jax.random.key(2))
    draws = [np.asarray(s.integrator.noise.draws) for s in (state, again, other, tvbs)]
    np.testing.assert_array_equal(draws[0], draws[1])
    for different in draws[2:]:
        assert abs(np.corrcoef(draws[0].ravel(), different.ravel())[0, 1]) < 0.1
    # Everything else is the simulator's own.
    np.testing.assert_array_equal(state.initial_conditions, tvbs.initial_conditions)
    following = simulate(state).final_state.integrator.noise.draws
    assert abs(np.corrcoef(draws[0].ravel(), np.ravel(following))[0, 1]) < 0.1


@pytest.mark.parametrize("noise", ["tvb", "key"])
def test_noise_has_the_variance_of_tvbs_two_nsig_dt(build_small, noise):
    """A flat vector field (gamma = 0, tau_s huge) leaves a random walk: its steps have the variance 2 nsig dt."""
    sim = build_small(
        scheme="EulerStochastic",
        steps=20_000,
        nsig=1e-9,
        model={"gamma": np.array([0.0]), "tau_s": np.array([1e12])},
        initial_conditions=np.full((1, 1, 6, 1), 0.5),
    )
    simulate, state = tj.prepare(sim, noise="tvb" if noise == "tvb" else jax.random.key(0))
    data = np.asarray(simulate(state).data[0])[:, 0, :, 0]
    assert 0.0 < data.min() and data.max() < 1.0
    steps = np.diff(data, axis=0)
    # 120,000 draws: the standard error of the variance is 0.4 %.
    np.testing.assert_allclose(steps.var(), 2 * 1e-9 * 4.0, rtol=0.02)
    assert abs(steps.mean()) < 4 * steps.std() / np.sqrt(steps.size)


@pytest.mark.parametrize("wrong", [None, 3, "numpy", np.random.RandomState(0), jnp.zeros(3)])
def test_noise_that_is_neither_tvbs_nor_a_key_is_refused(build_small, wrong):
    with pytest.raises(ValueError, match="noise: .*jax.random.key"):
        tj.prepare(build_small(), noise=wrong)


@pytest.mark.parametrize("scheme", ["HeunStochastic", "EulerDeterministic"])
def test_single_precision_agrees_with_double_to_single_precision(build, scheme):
    sim = build(scheme=scheme, steps=500, monitors=three_monitors())
    simulate, state = tj.prepare(sim)
    double = simulate(state)
    with jax.enable_x64(False):
        simulate, state = tj.prepare(sim)
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype("float32")}
        single = simulate(state)
        assert single.final_state.initial_conditions.dtype == np.float32
    for (time, data), (time_double, data_double) in zip(single, double, strict=True):
        assert data.dtype == np.float32
        np.testing.assert_array_equal(time, time_double)
        error = np.max(np.abs(np.asarray(data, float) - np.asarray(data_double)))
        assert 1e-12 < error < 1e-5 * np.max(np.abs(data_double))
