"""What every test and every doctest runs under. At the root, because the doctests live in the package."""

import logging

import hypothesis
import jax
import pytest
import tvb.simulator.lab  # noqa: F401  fails when first imported inside a test: it asks pytest's log handlers for a name

# Comparisons with TVB are to rounding, in double precision; promotions that nobody asked for would hide mistakes.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples in every run. The first one compiles, which takes longer than any deadline.
hypothesis.settings.register_profile("tvb_jaxfit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tvb_jaxfit")

# TVB's loggers share their handlers, and write to standard output, where doctests look for their results.
for handler in logging.getLogger("tvb").handlers:
    handler.setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def few_programs(request):
    """Programs of earlier tests are dropped now and then: a process may map so much memory, and JAX keeps them all."""
    yield
    request.session.n_done = getattr(request.session, "n_done", 0) + 1
    if request.session.n_done % 100 == 0:
        jax.clear_caches()
