"""Steps of the refinement are relative to a value's range, for any scale and any bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter, PositiveParameter
from tvb_jaxfit.fitting.linear import refinement


@pytest.mark.parametrize("value", [4e-6, 0.05, 30.0])
@pytest.mark.parametrize(
    "kind",
    [
        Parameter,
        PositiveParameter,
        lambda value: BoundedParameter(value, lower_bound=0.0),
        lambda value: BoundedParameter(-value, upper_bound=0.0),
        lambda value: MaskedParameter(np.array([0.0, value]), lower_bound=0.0),
    ],
    ids=["plain", "positive", "bounded below", "bounded above", "masked"],
)
def test_the_largest_step_is_five_thousandths_of_the_value(kind, value):
    parameter = kind(value)
    images, n_steps = {"x": parameter.to_unconstrained()}, 100
    optimizer = refinement.adam({"x": parameter}, n_steps)
    state, largest = optimizer.init(images), 0.0
    update = jax.jit(lambda state: optimizer.update({"x": jnp.ones_like(images["x"])}, state, images))
    for _ in range(n_steps // 2):
        # As in the loop, since Optax mixes dtypes.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = update(state)
        moved = parameter.from_unconstrained(images["x"] + updates["x"])
        largest = max(largest, float(np.max(np.abs(moved - parameter.value))) / value)
    assert largest == pytest.approx(refinement._RATE, rel=0.01)
