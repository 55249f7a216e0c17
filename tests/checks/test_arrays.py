"""Arrays from the user are refused if the conversion to real numbers would lose something."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from tvb_jaxfit.checks.arrays import real_array

REFUSED = {
    "masked": (np.ma.masked_array([1.0, 999.0], mask=[0, 1]), "mask would be lost"),
    "list of masked": ([np.ma.masked_array([1.0, 999.0], mask=[0, 1])], "mask would be lost"),
    "complex": (np.array([1.0 + 0.5j]), "complex"),
    "complex of JAX": (jnp.array([1.0 + 0.5j]), "complex"),
    "complex number": (1.0 + 0.5j, "complex"),
    "text": (["0.5", "0.6"], "real numbers"),
    "text among objects": (np.array(["0.5", 1.0], dtype=object), "real numbers"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "real numbers"),
    "objects": ([{"a": 1}], "real numbers"),
    "nothing": (None, "real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "rectangular"),
    "sparse": (scipy.sparse.csr_matrix(np.eye(2)), "toarray"),
    "large integers": (np.array([2**53 + 1]), "rounds"),
    "long double": (np.array([np.longdouble(1) / 3]), "rounds"),
    "key": (jax.random.key(0), "key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_conversion_would_lose_is_refused(name):
    value, reason = REFUSED[name]
    with pytest.raises(ValueError, match=f"^target: .*{reason}"):
        real_array(value, "target")


@pytest.mark.parametrize(
    "value",
    [1.5, [1, 2], np.array([True, False]), np.float32([0.1]), np.ma.masked_array([1.0, 2.0], mask=False),
     pd.DataFrame({"a": [1.0, 2.0]}), np.longdouble([0.5]), np.array([1, 2], dtype=object)],
)  # fmt: skip
def test_real_numbers_keep_their_values(value):
    array = real_array(value, "target")
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.asarray(value))


def test_missing_values_of_pandas_become_nan():
    np.testing.assert_array_equal(real_array(pd.array([1.0, None], dtype="Float64"), "target"), [1.0, np.nan])


def test_arrays_of_jax_are_given_back_as_they_are():
    value = jnp.array([1.0, 2.0], jnp.float32)
    assert real_array(value, "value") is value
    assert jax.jit(lambda x: real_array(x, "value", shape=(2,), finite=True) * 2)(value)[1] == 4.0


def test_masked_entries_take_the_value_that_is_asked_for():
    masked = np.ma.masked_array([1.0, 999.0], mask=[0, 1])
    np.testing.assert_array_equal(real_array(masked, "target", masked=np.nan), [1.0, np.nan])
    whole = np.ma.masked_array([1, 999], mask=[0, 1])
    np.testing.assert_array_equal(real_array(whole, "target", masked=np.nan), [1.0, np.nan])


def test_shape_and_values_are_refused_in_one_message():
    with pytest.raises(ValueError, match=r"shape \(2,\); give \(any, 3\); 1 of 2 values are not finite, the first at"):
        real_array([1.0, np.nan], "w", shape=(None, 3), finite=True)
    assert real_array(np.ones((5, 3)), "w", shape=(None, 3), finite=True).shape == (5, 3)
