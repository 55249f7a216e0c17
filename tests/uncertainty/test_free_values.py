"""Free values as one vector: names, bounds, priors, and back to the values of a state."""

import jax.numpy as jnp
import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.uncertainty.free_values import FreeValues

LABELS = ["a", "b", "c"]
WEIGHTS = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 4.0], [0.0, 0.0, 0.0]])


@pytest.fixture
def free():
    parameters = {
        "connectivity.weights": tj.MaskedParameter(WEIGHTS, lower_bound=0.0, upper_bound=6.0),
        "model.w": tj.BoundedParameter([0.2, 0.3, 1.0], 0.0, 1.0),
        "model.I_o": tj.MapParameter({"myelin": np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.5)}, coefficients=[-1.0, 0.1]),
        "coupling.a": tj.Parameter(-0.5),
        "coupling.b": tj.Parameter(0.0),
        "integrator.noise.nsig": tj.PositiveParameter(1e-6),
    }
    return FreeValues(parameters, LABELS)


def test_entries_have_names_bounds_and_priors(free):
    assert free.names == {
        "connectivity.weights": ["a, b", "b, a", "b, c"],
        "model.w": LABELS,
        "model.I_o": ["intercept", "myelin"],
        "coupling.a": [""],
        "coupling.b": [""],
        "integrator.noise.nsig": [""],
    }
    assert [free.name(index) for index in (1, 4, 7, 8)] == [
        "connectivity.weights[b, a]",
        "model.w[b]",
        "model.I_o[myelin]",
        "coupling.a",
    ]
    np.testing.assert_allclose(free.vector, [1.0, 2.0, 4.0, 0.2, 0.3, 1.0, -1.0, 0.1, -0.5, 0.0, 1e-6])
    low, high = free.bounds
    np.testing.assert_array_equal(low, [0.0] * 6 + [-np.inf] * 4 + [0.0])
    np.testing.assert_array_equal(high, [6.0] * 3 + [1.0] * 3 + [np.inf] * 5)
    assert np.flatnonzero(free.is_on_bound).tolist() == [5]
    uniform = [6.0] * 3 + [1.0] * 3 + [np.log(16.0), 1.0, 3.75 * 0.5, 3.75, 3.75e-6]
    np.testing.assert_allclose(free.prior_std, np.array(uniform) / np.sqrt(12.0))


def test_a_vector_leads_back_to_the_values_of_a_state(free):
    values = free.values(jnp.asarray(free.vector))
    for path, parameter in free.parameters.items():
        assert values[path].shape == parameter.value.shape
        np.testing.assert_allclose(values[path], parameter.value)
    changed = free.values(jnp.asarray(free.vector).at[1].set(3.0))["connectivity.weights"]
    np.testing.assert_array_equal(changed, np.where(WEIGHTS == 2.0, 3.0, WEIGHTS))
