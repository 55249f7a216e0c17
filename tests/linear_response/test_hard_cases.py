"""Fixed points, stability, nonlinearity, and degenerate states: defined results, never NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path

N_NODE = 5


def simulator(connectivity_of, model, function, *, dt=1.0, delayed=False, nsig=1e-12, scheme="HeunStochastic"):
    random = np.random.RandomState(1)
    weights = random.uniform(0.0, 1.0, (N_NODE, N_NODE))
    np.fill_diagonal(weights, 0.0)
    lengths = random.uniform(0.0, 40.0, weights.shape)
    options = {"noise": noise.Additive(nsig=np.array([nsig]), noise_seed=3)} if "Stoch" in scheme else {}
    return Simulator(
        model=model,
        connectivity=connectivity_of(weights, lengths, 4.0 if delayed else np.inf),
        coupling=function,
        integrator=getattr(integrators, scheme)(dt=dt, **options),
        monitors=[monitors.Raw()],
        simulation_length=3000.0,
    )


def changed(state, **values):
    for name, value in values.items():
        path = name.replace("__", ".")
        state = with_path(state, path, jnp.broadcast_to(jnp.asarray(value, float), np.shape(value) or (1,)))
    return state


NETWORKS = {
    "ReducedWongWang": lambda: (
        models.ReducedWongWang(w=np.array([0.6]), I_o=np.array([0.31])),
        coupling.Linear(a=np.array([0.05])),
        {},
    ),
    "JansenRit": lambda: (
        models.JansenRit(mu=np.array([0.06])),
        coupling.SigmoidalJansenRit(a=np.array([2.0])),
        {"delayed": True},
    ),
    "ReducedWongWangExcInh": lambda: (models.ReducedWongWangExcInh(), coupling.Linear(a=np.array([0.1])), {}),
}


@pytest.mark.parametrize(
    "name",
    [
        "ReducedWongWang",
        pytest.param("JansenRit", marks=pytest.mark.slow),
        pytest.param("ReducedWongWangExcInh", marks=pytest.mark.slow),
    ],
)
def test_fixed_point_is_the_end_of_a_simulation_without_noise(connectivity_of, name):
    model, function, options = NETWORKS[name]()
    sim = simulator(connectivity_of, model, function, nsig=0.0, **options)
    sim.simulation_length = 20000.0 if name != "JansenRit" else 3000.0
    linear, state = tj.prepare_linear(sim)
    response = linear(state)
    assert response.fixed_point.converged and response.is_stable
    last = linear.simulate(state).final_state.initial_conditions[-1]
    np.testing.assert_allclose(response.fixed_point.x, last, rtol=1e-9, atol=1e-12)
    # Without noise nothing fluctuates.
    assert not np.any(response.std) and not np.any(response.fc()) and not np.any(response.nonlinearity)


@pytest.mark.slow
def test_unstable_modes_are_counted(connectivity_of):
    model, function, options = NETWORKS["JansenRit"]()
    linear, state = tj.prepare_linear(simulator(connectivity_of, model, function, **options))
    counts = set()
    one_node = np.where(np.arange(N_NODE) == 0, 0.3, 0.05)
    for mu, a in ((0.05, 2.0), (0.08, 10.0), (0.3, 2.0), (0.35, 10.0), (one_node, 0.1)):
        response = linear(changed(state, model__mu=mu, coupling__a=a))
        growing = np.sum(np.abs(response.eigenvalues) > 1.0)
        assert response.fixed_point.converged and int(response.n_unstable) == growing
        assert bool(response.is_stable) == (growing == 0) == (response.decay_rate > 0.0)
        counts.add(int(growing))
        # If no mode grows the covariance is positive definite; otherwise its numbers are finite but without meaning.
        covariance = np.asarray(response.covariance())
        assert np.isfinite(covariance).all() and np.isfinite(response.nonlinearity).all()
        if growing == 0:
            np.testing.assert_allclose(covariance, covariance.T, rtol=1e-12)
            assert np.linalg.eigvalsh(covariance).min() > 0.0
    assert counts >= {0, 2, 2 * N_NODE}


@pytest.mark.slow
def test_slowest_eigenvalues_by_arnoldi_are_those_of_the_dense_matrix(connectivity_of, monkeypatch):
    from tvb_jaxfit.linear_response import eigenvalues as module

    model, function, options = NETWORKS["JansenRit"]()
    linear, state = tj.prepare_linear(simulator(connectivity_of, model, function, **options))
    response = linear(state)
    dense = response.eigenvalues
    monkeypatch.setattr(module, "_DENSE_SIZE", 10)
    del response.__dict__["eigenvalues"]
    np.testing.assert_allclose(np.abs(response.eigenvalues[:4]), np.abs(dense[:4]), rtol=1e-9)
    assert response.eigenvalues.size == 8 < dense.size


@pytest.fixture(scope="module")
def wong_wang():
    """Linear response and state of a small network, bistable for some parameters."""
    from tests.conftest import white_matter

    model, function, _ = NETWORKS["ReducedWongWang"]()
    return tj.prepare_linear(simulator(white_matter, model, function, nsig=1e-8))


def without(state, node):
    """State without connections to or from a node."""
    weights = np.array(state.connectivity.weights)
    weights[node], weights[:, node] = 0.0, 0.0
    return with_path(state, "connectivity.weights", jnp.asarray(weights))


HARD = {
    "no coupling": lambda state: changed(state, coupling__a=0.0),
    "a region without connections": lambda state: without(state, 2),
    "no connection": lambda state: changed(state, connectivity__weights=np.zeros((N_NODE, N_NODE))),
    "no noise at a node": lambda state: changed(state, integrator__noise__nsig=[1e-8, 0.0, 1e-8, 1e-8, 1e-8]),
    "no noise": lambda state: changed(state, integrator__noise__nsig=0.0),
    "bistable": lambda state: changed(state, model__w=1.0, coupling__a=0.1),
    "high state": lambda state: changed(state, model__w=1.0, model__I_o=0.4, coupling__a=0.3),
    "equal eigenvalues": lambda state: changed(state, connectivity__weights=np.ones((N_NODE, N_NODE)) - np.eye(N_NODE)),
}


# These compile separate programs.
SLOW = ("no coupling", "a region without connections")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in HARD]
)
def test_hard_cases_have_the_gradients_of_central_differences(wong_wang, case):
    linear, state = wong_wang
    state = HARD[case](state)
    regional = changed(state, model__w=np.full(N_NODE, float(state.model.w)))
    regional = changed(regional, integrator__noise__nsig=jnp.broadcast_to(regional.integrator.noise.nsig, (N_NODE,)))
    both = value_and_gradient(linear)
    _, response, gradient = both(regional)
    for leaf in jax.tree.leaves((response, gradient)):
        assert np.isfinite(leaf).all()
    for name, ours in zip(NAMES, gradient, strict=True):
        if (case, name) == ("no noise", "integrator.noise.nsig"):
            # The FC is not continuous there.
            continue
        slope, size = slope_in_a_direction(both, regional, name, ours)
        np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6, atol=1e-9 * size, err_msg=name)
        assert (slope[0] != 0.0) == has_slope(case, name), name
    assert response.fixed_point.converged
    fc = np.asarray(response.fc())
    if case in ("no coupling", "no connection", "no noise"):
        np.testing.assert_allclose(fc, 0.0, atol=1e-14)
        assert (np.asarray(response.covariance()).any()) == (case != "no noise")
    if case == "a region without connections":
        assert np.max(np.abs(fc[2])) < 1e-14 and response.covariance()[2, 2] > 0.0
    if case == "no noise at a node":
        # The noise of other nodes still has an effect there. The derivative by its own amplitude is 0 at 0.
        assert np.all(response.std > 0.0)
        assert gradient[2][1] == 0.0 and np.all(np.delete(np.asarray(gradient[2]), 1) != 0.0)


NAMES = ("model.w", "coupling.a", "integrator.noise.nsig", "connectivity.weights")


def has_slope(case, name):
    """True if the FC depends on a value."""
    return (
        case != "no noise"
        and (case != "no coupling" or name == "coupling.a")
        and (case != "no connection" or name == "connectivity.weights")
    )


def slope_in_a_direction(both, state, name, gradient):
    """Derivative in a direction, from the gradient and from five points, each times a step; largest loss of the points.

    Noise is not negative: the direction is 0 where its amplitude is 0.
    """
    value = np.asarray(get_path(state, name))
    direction = np.random.RandomState(7).uniform(0.5, 1.5, value.shape)
    direction.flat[::3] *= -1.0
    if name == "integrator.noise.nsig":
        direction = direction * (value > 0.0)
    h = 1e-3 * (np.max(np.abs(value)) or 1e-2)
    losses = [
        float(both(with_path(state, name, jnp.asarray(value + point * h * direction)))[0]) for point in range(-2, 3)
    ]
    ours = float(np.sum(np.asarray(gradient) * direction)) * h
    return (ours, np.dot([1.0, -8.0, 0.0, 8.0, -1.0], losses) / 12.0), np.max(losses)


_compiled = {}


def value_and_gradient(linear):
    if linear not in _compiled:

        def loss(state):
            response = linear(state)
            fc = response.fc()
            target = jnp.linspace(0.0, 1.0, fc.size).reshape(fc.shape)
            return jnp.mean((fc - target) ** 2), response

        @jax.jit
        def both(state):
            def loss_of_values(values):
                changed = state
                for name, value in zip(NAMES, values, strict=True):
                    changed = with_path(changed, name, value)
                return loss(changed)

            values = [get_path(state, name) for name in NAMES]
            (value, response), gradient = jax.value_and_grad(loss_of_values, has_aux=True)(values)
            return value, response, gradient

        _compiled[linear] = both
    return _compiled[linear]


def test_fixed_point_of_a_bistable_network_depends_on_the_start(wong_wang):
    linear, state = wong_wang
    state = changed(state, model__w=1.1, model__I_o=0.31, coupling__a=0.01)
    shape = state.initial_conditions.shape[1:]
    low, high = (linear(state, jnp.full(shape, value)) for value in (0.02, 0.9))
    assert low.is_stable and high.is_stable
    assert np.all(high.fixed_point.x - low.fixed_point.x > 0.2)


@pytest.mark.slow
def test_relaxation_residual_grows_before_another_fixed_point_appears(build_small, weights_6):
    """Residual of the relaxation from above: none, some, all; and its derivative, which a fit descends."""
    weights = weights_6 + weights_6.T
    linear, state = tj.prepare_linear(build_small(weights, steps=100, model={"I_o": np.array([0.3])}))
    below = jnp.zeros(state.initial_conditions.shape[1:])

    def residual(w):
        changed = state.replace(model=state.model.replace(w=jnp.asarray(w, float)[None]))
        return jnp.sum(linear(changed, below).relaxation_residual[1] ** 2)

    # Smallest w, to 1e-4, at which the network does not leave the upper state.
    low, high = 0.6, 0.765
    assert residual(low) < 1e-20 and residual(high) > 0.1
    while high - low > 1e-4:
        low, high = (low, 0.5 * (low + high)) if residual(0.5 * (low + high)) > 0.1 else (0.5 * (low + high), high)
    before = low - 1e-3
    assert 1e-14 < residual(before) < 0.1
    slope, h = jax.grad(residual)(before), 1e-7
    assert slope > 0.0
    assert float(slope) == pytest.approx(float(residual(before + h) - residual(before - h)) / (2.0 * h), rel=1e-4)


@pytest.mark.slow
def test_nonlinearity_is_that_of_the_normal_form(wong_wang):
    # Without coupling each node is x' = f(x) + noise: to second order the mean shifts by f'' v / (2 |f'|).
    linear, state = wong_wang
    state = changed(state, coupling__a=0.0, model__w=0.9, model__I_o=0.33, integrator__noise__nsig=1e-7)
    response = linear(state)
    linearised = response.linearised
    x = response.fixed_point.x[0, 0, 0]
    step, theta = linear.simulate.step, linear.simulate.constants(state)

    def f(value):
        start = jnp.full((1, N_NODE, 1), value)
        s = jnp.zeros((1, N_NODE, 1))
        return step.next_state(theta, start, s, {"noise": jnp.zeros((1, N_NODE, 1))})[0, 0, 0]

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        first, second = jax.grad(f)(x), jax.grad(jax.grad(f))(x)
    np.testing.assert_allclose(first, linearised.A[0, 0, 0], rtol=1e-10)
    variance = float(linearised.B[0, 0, 0] ** 2 / (1.0 - first**2))
    np.testing.assert_allclose(response.std[0, 0, 0] ** 2, variance, rtol=1e-10)
    expected = 0.5 * second * variance / (1.0 - first)
    np.testing.assert_allclose(response.mean_shift[0, 0, 0], expected, rtol=1e-7)
    np.testing.assert_allclose(response.nonlinearity[0, 0, 0], abs(expected) / np.sqrt(variance), rtol=1e-7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"integrator": integrators.HeunDeterministic(dt=1.0)}, ["HeunDeterministic has no noise"]),
        ({"monitors": [monitors.AfferentCoupling()]}, ["monitors[0]: AfferentCoupling records the coupling"]),
        (
            {
                "integrator": integrators.EulerDeterministic(dt=1.0),
                "monitors": [monitors.Raw(), monitors.AfferentCouplingTemporalAverage(period=5.0)],
            },
            ["EulerDeterministic has no noise", "monitors[1]: AfferentCouplingTemporalAverage"],
        ),
    ],
)
def test_simulators_without_a_linear_response_are_refused_with_all_reasons(ou, change, words):
    sim = ou.network()
    for name, value in change.items():
        setattr(sim, name, value)
    with pytest.raises(tj.UnsupportedComponent) as caught:
        tj.prepare_linear(sim)
    assert len(caught.value.reasons) == len(words)
    for word in words:
        assert word in str(caught.value)


def test_a_stimulus_and_an_object_that_is_no_simulator_are_refused(ou):
    from tvb.datatypes import equations
    from tvb.datatypes.patterns import StimuliRegion

    sim = ou.network()
    weight = np.ones(ou.n_node)
    sim.stimulus = StimuliRegion(connectivity=sim.connectivity, weight=weight, temporal=equations.Sinusoid())
    with pytest.raises(tj.UnsupportedComponent, match="stimulus"):
        tj.prepare_linear(sim)
    with pytest.raises(tj.UnsupportedComponent, match="plain TVB Simulator"):
        tj.prepare_linear(object())
