"""Value and gradient are right where TVB's formula of the transfer function is 0/0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, simulator

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.vector_fields import reduced_wong_wang
from tvb_jaxfit.parameters import with_values
from tvb_jaxfit.state import get_path

# Binary fractions: w J_N S + I_o = 1/2, so that a x - b is exactly 0.
EXACT = {"a": 0.25, "b": 0.125, "d": 128.0, "gamma": 0.5, "tau_s": 64.0, "w": 1.0, "J_N": 0.25, "I_o": 0.375}
S = 0.5


def _field(parameters, S, c=0.0):
    columns = {name: jnp.reshape(value, (1, 1)) for name, value in parameters.items()}
    return reduced_wong_wang(columns, jnp.reshape(S, (1, 1, 1)), jnp.reshape(c, (1, 1, 1)))[0, 0, 0]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_value_and_gradient_of_the_vector_field_at_the_point_equal_those_derived_by_hand(dtype):
    p = {name: dtype(value) for name, value in EXACT.items()}
    value, (by_parameter, by_state) = jax.jit(jax.value_and_grad(_field, (0, 1)))(p, dtype(S), dtype(0.0))
    # At the point H = 1/d, dH/d(ax - b) = 1/2 and dH/dd = -1/d^2.
    assert float(value) == -S / 64.0 + (1 - S) * 0.5 / 128.0
    slope = (1 - S) * 0.5 * 0.5
    expected = {
        "a": slope * 0.5,
        "b": -slope,
        "d": -(1 - S) * 0.5 / 128.0**2,
        "gamma": (1 - S) / 128.0,
        "tau_s": S / 64.0**2,
        "w": slope * 0.25 * 0.25 * S,
        "J_N": slope * 0.25 * S,
        "I_o": slope * 0.25,
    }
    assert {name: float(g) for name, g in by_parameter.items()} == expected
    assert float(by_state) == -1 / 64.0 - 0.5 / 128.0 + slope * 0.25 * 0.25


field_gradient = jax.jit(jax.grad(_field))


@pytest.mark.parametrize("distance", [1e-15, 1e-12, 1e-9, 1e-6, -1e-12, -1e-6])
def test_near_the_point_the_gradient_equals_the_one_at_the_point_to_first_order(distance):
    p = {name: jnp.float64(value) for name, value in EXACT.items()}
    at, near = (field_gradient(p | {"I_o": p["I_o"] + d}, jnp.float64(S)) for d in (0.0, distance))
    for name in EXACT:
        # The second derivative of H is d/6.
        np.testing.assert_allclose(near[name], at[name], rtol=100 * abs(distance) + 1e-14)


@pytest.fixture(scope="module")
def run():
    """(loss and gradient of a short run that starts at the point, its state, the loss alone)."""
    parameters = {name: np.array([value]) for name, value in EXACT.items()}
    sim = simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]),
            tract_lengths=np.zeros((3, 3)),
            centres=np.zeros((3, 3)),
            region_labels=np.array(["a", "b", "c"]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(**parameters),
        coupling=coupling.Linear(a=np.array([0.0])),
        integrator=integrators.HeunDeterministic(dt=1.0),
        monitors=[monitors.Raw()],
        initial_conditions=np.full((1, 1, 3, 1), S),
        simulation_length=20.0,
    )
    simulate, state = tj.prepare(sim)

    def loss(state):
        ((_, data),) = simulate(state)
        return jnp.sum(data**2)

    return jax.jit(jax.value_and_grad(loss)), state, jax.jit(loss)


def test_the_gradient_of_a_run_that_starts_at_the_point_equals_central_differences(run):
    value_and_grad, state, loss = run
    value, gradient = value_and_grad(state)
    assert np.isfinite(value)
    for path in (*(f"model.{name}" for name in EXACT), "coupling.a", "initial_conditions"):
        at = get_path(state, path)
        h = 1e-4 * max(float(np.max(np.abs(at))), 0.1)

        def difference(h, path=path, at=at):
            above, below = (loss(with_values(state, {path: at + s * h})) for s in (1, -1))
            return (float(above) - float(below)) / (2 * h)

        numeric = (4 * difference(h / 2) - difference(h)) / 3
        np.testing.assert_allclose(np.sum(get_path(gradient, path)), numeric, rtol=1e-8, err_msg=path)
