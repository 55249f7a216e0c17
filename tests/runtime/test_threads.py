"""A function of many items in threads: order, settings of JAX, and what an error ends."""

import threading

import jax
import jax.numpy as jnp
import pytest

from tvb_jaxfit.runtime import threads
from tvb_jaxfit.runtime.threads import map_in_threads


def test_results_are_in_order_with_the_settings_of_this_thread():
    assert list(map_in_threads(lambda x: x**2, range(20))) == [x**2 for x in range(20)]
    with jax.enable_x64(False):
        kinds = list(map_in_threads(lambda _: (threading.get_ident(), jnp.ones(1).dtype), range(20)))
    assert {kind for _, kind in kinds} == {jnp.dtype("float32")}
    assert threading.get_ident() not in {thread for thread, _ in kinds}


def test_after_an_error_no_further_item_begins(monkeypatch):
    monkeypatch.setattr(threads, "processors", lambda: [0, 1])
    begun, error = [], threading.Event()

    def fails(x):
        begun.append(x)
        if x == 1:
            error.set()
            raise ZeroDivisionError
        # The others last until the error, and a little longer.
        error.wait(5.0)
        threading.Event().wait(0.05)

    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(fails, range(1000)))
    assert len(begun) < 100
