"""Functions that do not depend on the user's settings of JAX for mixed dtypes and ranks."""

from collections.abc import Callable
from functools import wraps

import jax


def with_standard_promotion(function: Callable) -> Callable:
    """The same function, independent of the dtype and rank promotion that the user has set for JAX."""

    @wraps(function)
    def promoting(*args):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args)

    return promoting
