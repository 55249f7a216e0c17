"""Workers run functions as this process would; a worker that dies costs its own task, and none outlives its parent."""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import time

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import models

from tvb_jaxfit import ProcessWorkers, WorkerDied, compute_fc
from tvb_jaxfit.runtime.remote import RemoteFunction, dumps


@pytest.fixture(scope="module")
def workers():
    with ProcessWorkers(2) as workers:
        yield workers


class OddError(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, a, b):
        super().__init__(a)


def test_functions_travel_by_value_and_results_come_back(workers):
    offset, key = np.arange(3.0), jax.random.key(2)
    assert list(workers.map(lambda x, y: (offset + x) @ offset + y, range(3), range(3))) == [5.0, 9.0, 13.0]
    assert workers.submit(os.getpid).result() != os.getpid()
    np.testing.assert_array_equal(
        workers.submit(lambda: jax.random.uniform(key, 3)).result(), jax.random.uniform(key, 3)
    )


def test_an_object_in_the_place_of_a_module_travels_by_name():
    """`tvb.simulator.models` by value would be a copy, with all names of its file, which notebooks cannot pickle."""

    def task():
        return models, np, sys

    assert pickle.loads(dumps(task))() == (models, np, sys)
    # Negative control: by value it is another object, where it can be pickled at all.
    with contextlib.suppress(TypeError, pickle.PicklingError):
        assert pickle.loads(cloudpickle.dumps(task))()[0] is not models


@pytest.mark.parametrize("x64", [True, False])
def test_a_call_has_the_settings_of_jax_of_the_thread_that_submits_it(workers, x64):
    def task():
        strict = jax.config.jax_numpy_dtype_promotion
        return strict, constant.dtype, np.asarray(jnp.sum(jnp.full(3, 0.1))), jax.config.jax_default_matmul_precision

    constant = jnp.ones(2)
    assert constant.dtype == jnp.float64
    with jax.enable_x64(x64), jax.default_matmul_precision("highest"):
        expected, found = task(), workers.submit(task).result()
    assert found == expected and found[2].dtype == expected[2].dtype == (jnp.float64 if x64 else jnp.float32)
    assert workers.submit(task).result() == task() != expected


def test_a_process_keeps_a_function_with_what_it_has_cached():
    class Counting:
        n_calls = 0

        def __call__(self):
            self.n_calls += 1
            return self.n_calls

    with ProcessWorkers(1) as one:
        remote, other = RemoteFunction(Counting()), RemoteFunction(lambda: 0)
        counts = [one.submit(function).result() for function in (remote, pickle.loads(pickle.dumps(remote)), other)]
        assert counts + [one.submit(remote).result()] == [1, 2, 0, 3]
        # Not without end: here the ninth function displaces the first.
        for value in range(8):
            assert one.submit(lambda value=value: value).result() == value
        assert one.submit(remote).result() == 1


def test_errors_come_back_with_their_traceback(workers):
    def missing():
        raise KeyError("x")

    def odd():
        raise OddError(1, 2)

    error = workers.submit(missing).exception()
    assert type(error) is KeyError and error.args == ("x",) and "in missing" in error.__notes__[0]
    for task, kind, said in (
        (odd, RuntimeError, "OddError: 1"),
        (sys.exit, RuntimeError, "SystemExit"),
        (lambda: (x for x in ()), TypeError, "generator"),
    ):
        error = workers.submit(task).exception()
        assert type(error) is kind and said in str(error)
    assert type(workers.submit(abs, (x for x in ())).exception()) is TypeError
    with pytest.raises(TypeError):
        workers.submit(queue.SimpleQueue().get)


def test_the_death_of_a_worker_fails_its_task_alone(workers):
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    before = {workers.submit(os.getpid).result() for _ in range(10)}
    tasks = [workers.submit(die if i == 3 else lambda i=i: (time.sleep(0.05), i)[1]) for i in range(8)]
    assert [task.exception() and type(task.exception()) for task in tasks] == [None] * 3 + [WorkerDied] + [None] * 4
    assert "SIGKILL" in str(tasks[3].exception()) and "memory" in str(tasks[3].exception())
    assert {workers.submit(os.getpid).result() for _ in range(10)} != before
    # One that dies while it has nothing to do costs nothing.
    os.kill(workers.submit(os.getpid).result(), signal.SIGKILL)
    time.sleep(0.1)
    assert workers.submit(abs, -1).result() == 1


def test_each_worker_has_its_share_of_the_processors(workers):
    def share():
        time.sleep(0.1)
        return os.sched_getaffinity(0), int(os.environ["MKL_NUM_THREADS"])

    shares = [task.result() for task in [workers.submit(share) for _ in range(2)]]
    available = os.sched_getaffinity(0)
    assert set.union(*(share for share, _ in shares)) == available
    assert [n for _, n in shares] == [len(share) for share, _ in shares]
    assert len(available) == 1 or not set.intersection(*(share for share, _ in shares))


def test_numbers_do_not_depend_on_the_share_of_the_processors(workers, monkeypatch):
    """XLA and Eigen order the terms of long sums by the number of threads."""
    samples = np.random.default_rng(0).normal(size=(600, 84))

    def sums():
        return np.append(compute_fc(samples), jnp.sum(jnp.outer(samples[:, 0], samples[:, 1])))

    expected = sums()
    np.testing.assert_array_equal(workers.submit(sums).result(), expected)
    # Negative control.
    monkeypatch.setenv("PJRT_NPROC", "1" if len(os.sched_getaffinity(0)) > 1 else "2")
    with ProcessWorkers(1) as others:
        found = others.submit(sums).result()
    # Before jax 0.10.2, these sums do not depend on the number of threads.
    assert np.any(found != expected) or jax.__version_info__ < (0, 10, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def _is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for_end(pids):
    end = time.time() + 10
    while any(map(_is_alive, pids)):
        assert time.time() < end, f"alive: {pids}"
        time.sleep(0.02)


def test_an_interrupt_ends_the_workers_at_once():
    def forever():
        time.sleep(100)

    start = time.time()
    with pytest.raises(KeyboardInterrupt), ProcessWorkers(1) as one:
        pid = one.submit(os.getpid).result()
        running, waiting = one.submit(forever), one.submit(forever)
        while not running.running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert time.time() - start < 20 and not _is_alive(pid)
    assert isinstance(running.exception(), WorkerDied) and "memory" not in str(running.exception())
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="shutdown"):
        one.submit(abs, 1)


@pytest.mark.parametrize("how", ["kill", "interrupt", "end"])
def test_no_worker_outlives_a_script_which_needs_no_guard(tmp_path, how):
    script, report = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(
        "import os, signal, sys, time\n"
        # A script that a shell starts in the background ignores interrupts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tvb_jaxfit import ProcessWorkers\n"
        "assert 'jax' not in sys.modules and 'tvb' not in sys.modules\n"
        "def task(seconds):\n"
        f"    open({str(report)!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "    time.sleep(seconds)\n"
        "with ProcessWorkers(1) as workers:\n"
        f"    workers.submit(task, {0 if how == 'end' else 100}).result()\n"
        "assert 'jax' not in sys.modules and 'tvb' not in sys.modules\n"
    )
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, start_new_session=True)
    while not (report.exists() and report.read_text().endswith("\n")):
        assert process.poll() in (None, 0)
        time.sleep(0.02)
    if how == "kill":
        process.kill()
    elif how == "interrupt":
        # As the terminal does: to the worker, too.
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode == 0) == (how == "end")
    assert how != "interrupt" or errors.count(b"Traceback") == errors.count(b"\nKeyboardInterrupt") == 1
    _wait_for_end([int(report.read_text())])
