"""Random streams with the same draws are equal, whatever has been drawn: they are part of the structure of states."""

import jax
import numpy as np
import pytest

from tvb_jaxfit import State
from tvb_jaxfit.dynamics.noise import KeyStream, NumpyStream


def _numpy(seed=0, step=3):
    return NumpyStream(np.random.RandomState(seed), step)


def _key(seed=0):
    return KeyStream(jax.random.key(seed))


@pytest.mark.parametrize("make", [_numpy, _key])
def test_equal_streams_make_equal_structures(make):
    one, other = make(), make()
    one.draws(3, 5, (2, 4))
    assert one == other and hash(one) == hash(other)
    structures = [jax.tree.structure(State({"stream": stream}.items(), a=1.0)) for stream in (one, other, make(1))]
    assert structures[0] == structures[1] != structures[2]


def test_where_a_stream_begins_makes_it_another():
    assert _numpy(step=3) != _numpy(step=4)
    assert _numpy() != _key() and _key() != _numpy()
    assert _key() != KeyStream(jax.random.key(0, impl="rbg"))


def test_an_equal_stream_does_not_compile_anew():
    traces = []

    @jax.jit
    def run(state):
        traces.append(1)
        return state.a

    for stream in (_numpy(), _numpy()):
        run(State({"stream": stream}.items(), a=1.0))
    assert len(traces) == 1
