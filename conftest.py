"""Configuration of all tests and doctests. At the root, because the doctests are in the package."""

import gc
import logging

import hypothesis
import jax
import pytest
import tvb.simulator.lab  # noqa: F401  first imported inside a test it fails: it expects names of pytest's log handlers

# Comparisons with TVB are to rounding, in double precision. Implicit promotions would hide mistakes.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples in every run. No deadline: the first example compiles.
hypothesis.settings.register_profile("tvb_jaxfit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tvb_jaxfit")

# Tracing makes many objects that live on, and Python's default is to look through them again and again.
gc.set_threshold(50_000, 20, 100)

# TVB's loggers share their handlers and write to standard output, which doctests compare.
for handler in logging.getLogger("tvb").handlers:
    handler.setLevel(logging.ERROR)


def pytest_collection_finish():
    """Leave out what imports have made when garbage is collected."""
    gc.freeze()


@pytest.fixture(autouse=True)
def few_programs(request):
    """Drop compiled programs after every 400 tests: JAX keeps them all, and a process has a limit of memory maps."""
    yield
    request.session.n_done = getattr(request.session, "n_done", 0) + 1
    if request.session.n_done % 400 == 0:
        jax.clear_caches()
