"""prepare and certify beside other threads, for which TVB's classes and numpy's stream stay unchanged."""

import threading
import time

import numpy as np
import pytest
from tvb.simulator import models, monitors
from tvb.simulator.history import BaseHistory, DenseHistory, SparseHistory

import tvb_jaxfit as tj
from tvb_jaxfit.translate.clone import Float64History, PicklableHistory, configured_clone


class Drawing(models.ReducedWongWang):
    """User's model that draws from numpy's global stream, and ignores the stream that it is given."""

    def initial(self, dt, history_shape, rng=np.random):
        return np.random.uniform(0.1, 0.4, size=history_shape)


def delayed(build_small, weights_6, connectivity_of, **more):
    lengths = np.where(weights_6 > 0.0, 15.0, 0.0)
    connectivity = connectivity_of(weights_6, lengths, speed=1.5)
    return build_small(connectivity=connectivity, dt=1.0, steps=60, monitors=[monitors.Raw()], **more)


def side_by_side(*functions):
    """Results of functions that start at the same time, each in a thread of its own."""
    results, begin = [None] * len(functions), threading.Barrier(len(functions))

    def run(index, function):
        begin.wait()
        try:
            results[index] = function()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.slow
def test_several_threads_prepare_and_certify_while_others_run_tvb(build_small, weights_6, connectivity_of):
    def sim():
        return delayed(build_small, weights_6, connectivity_of)

    def prepared():
        simulate, state = tj.prepare(sim())
        return np.asarray(simulate(state).data[0])

    def run():
        own = sim().configure()
        return own.history.buffer.dtype, own.run()[0][1]

    expected, of_tvb = prepared(), run()[1]
    assert 1e-12 < np.max(np.abs(expected - of_tvb)) < 1e-6  # the precision of the history matters
    for of_prepare, certificate, (dtype, data), other in [
        side_by_side(prepared, lambda: tj.certify(sim()), run, prepared) for _ in range(2)
    ]:
        np.testing.assert_array_equal(of_prepare, expected)
        np.testing.assert_array_equal(other, expected)
        assert certificate.passed
        assert dtype == np.float32
        np.testing.assert_array_equal(data, of_tvb)


def test_the_float64_history_is_a_class_of_its_own_and_otherwise_equals_tvbs(build_small):
    sim = build_small()
    own, float64_tvb = configured_clone(sim), configured_clone(sim, float64_history=True)
    assert (type(own.history), type(float64_tvb.history)) == (PicklableHistory, Float64History)
    assert float64_tvb.history.buffer.dtype == float64_tvb.history.nnz_weights.dtype == np.float64
    for cls in (BaseHistory, DenseHistory, SparseHistory):
        arrays = [
            name for name, array in vars(cls).items() if hasattr(array, "instance_state") and "dtype" in dir(array)
        ]
        for name in arrays:
            theirs, ours = getattr(own.history, name), getattr(float64_tvb.history, name)
            assert ours.dtype == (np.float64 if theirs.dtype == np.float32 else theirs.dtype), name
            np.testing.assert_array_equal(ours.astype(theirs.dtype), theirs)


@pytest.mark.parametrize("model", [models.ReducedWongWang, Drawing])
def test_no_draw_of_another_thread_is_repeated(build_small, model):
    """Also if the model draws from numpy's global stream: other threads then wait."""
    draws, stop = [], threading.Event()

    def draw():
        while not stop.is_set():
            draws.append(np.random.rand())
            time.sleep(2e-4)

    np.random.seed(0)
    thread = threading.Thread(target=draw)
    thread.start()
    try:
        while len(draws) < 10:
            time.sleep(1e-3)
        for _ in range(2):
            sim = build_small(scheme="HeunDeterministic", steps=20)
            sim.model = model()
            tj.prepare(sim)
    finally:
        stop.set()
        thread.join()
    np.testing.assert_array_equal(draws, np.random.RandomState(0).uniform(size=len(draws)))


def test_draws_of_a_users_model_equal_those_of_configure_and_do_not_advance_the_stream(
    build_small, float64_tvb, equal_runs
):
    sim = build_small(steps=20)
    sim.model = Drawing(w=np.array([0.5]))
    np.random.seed(3)
    simulate, state = tj.prepare(sim)
    expected = np.random.RandomState(3).uniform(0.1, 0.4, size=(1, 1, 6, 1))
    np.testing.assert_array_equal(state.initial_conditions, expected)
    equal_runs(simulate(state), float64_tvb(sim).run())
    assert tj.certify(sim)
    assert np.random.rand() == np.random.RandomState(3).rand()
