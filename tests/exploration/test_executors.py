"""Values of a sweep do not depend on the executor; those in a folder survive interrupts, kills and full disks."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributed import Client, LocalCluster

from tvb_jaxfit import Exploration, GridAxis, ParallelExecution, ProcessWorkers, Space, State
from tvb_jaxfit.exploration.batches import Batches
from tvb_jaxfit.exploration.folder import SweepFolder
from tvb_jaxfit.exploration.sweep_files import RowWriter
from tvb_jaxfit.runtime import executors

# The workers cannot import a module of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
SIZE = 4


@pytest.fixture(autouse=True)
def interruptible():
    """Tests that a shell starts in the background ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def workers():
    with ProcessWorkers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def client():
    options = dict(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    with LocalCluster(**options, silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(params=["workers", "dask", "threads"])
def executor(request):
    if request.param == "threads":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "dask":
        yield request.getfixturevalue("client").get_executor(pure=False)
    else:
        yield request.getfixturevalue("workers")


def _space(n_w=6, n_a=5):
    state = State(model=State(w=jnp.asarray([0.6]), matrix=jnp.sin(jnp.arange(49.0)).reshape(7, 7)), a=jnp.asarray(0.1))
    state.model.w, state.a = GridAxis(-1.0, 2.0, n_w), GridAxis(0.0, 1.0, n_a)
    return Space(state)


def _loss(state):
    matrix = jnp.tanh(state.model.matrix @ state.model.matrix * state.model.w[0]) + state.a
    return jnp.sum(matrix @ matrix), {"matrix": matrix}


def _run(loss=_loss, space=None, **options):
    return ParallelExecution(loss, space or _space(), **(dict(progress=False, batch_size=SIZE) | options)).run()


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found.values, expected.values)
    assert found.failures == expected.failures


@pytest.fixture(scope="module")
def by_threads():
    return _run()


def _with_callback(function):
    """Loss that calls a Python function with the values of each batch."""

    def loss(state):
        kind = jax.ShapeDtypeStruct((), state.a.dtype)
        w = jax.pure_callback(function, kind, state.model.w[0], state.a, vmap_method="broadcast_all")
        value, others = _loss(state)
        return value + 0.0 * w, others

    return loss


# Executors


def test_values_do_not_depend_on_the_executor(executor, by_threads):
    assert_equal(_run(executor=executor), by_threads)
    # With single precision as the setting of this thread alone.
    with jax.enable_x64(False):
        space = _space()
        single = _run(space=space, executor=executor)
        assert single.values[0].dtype == np.float32
        assert_equal(single, _run(space=space))


def test_other_sizes_of_tasks_give_other_tasks_and_the_same_values(workers):
    """Tasks grow while points are cheap, and the last ones are smaller."""
    sizes, space = [], _space(50, 40)

    class Counting(Executor):
        def submit(self, function, values):
            sizes.append(len(values["a"]))
            return workers.submit(function, values)

    found = _run(space=space, executor=Counting(), n_pmap=2)
    assert_equal(found, _run(space=space))
    assert sizes[0] == SIZE and max(sizes) > 20 * SIZE and sizes[-1] < max(sizes) and sum(sizes) == 2000
    assert len(sizes) < 50


def test_failures_are_reported_as_by_threads(executor):
    def check(w, a):
        if np.any((np.asarray(w) > 1.9) & (np.asarray(a) == 0.5)):
            raise RuntimeError("no convergence")
        return np.where(np.asarray(a) == 1.0, np.nan, w)

    found = _run(_with_callback(check), executor=executor)
    assert_equal(found, _run(_with_callback(check)))
    reasons = [reason for _, reason in found.failures]
    assert len(reasons) == 7 and reasons.count("[0] is nan") == 6 and sum("Error" in reason for reason in reasons) == 1


def test_a_loss_that_is_no_jax_function_runs_point_by_point_with_one_warning(workers):
    def loss(state):
        if float(state.a) > 0.9:
            raise KeyError("too large")
        return float(state.model.w[0]) + float(state.a)

    with pytest.warns(UserWarning, match="one by one") as caught:
        found = _run(loss, executor=workers)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(UserWarning, match="one by one"):
        assert_equal(found, _run(loss))
    with pytest.warns(UserWarning, match="one by one"), pytest.raises(AttributeError, match="no 'W' here"):
        _run(lambda state: state.W, executor=workers)


def test_a_pool_whose_process_dies_is_refused_with_a_remedy():
    class Broken(Executor):
        def submit(self, function, values):
            future = Future()
            future.set_exception(BrokenProcessPool("a process died"))
            return future

    with pytest.raises(Exception, match="a process died") as caught:
        _run(executor=Broken())
    assert "ProcessWorkers()" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="executor = <class .*>; give a Executor such as ProcessWorkers"):
        _run(executor=ProcessPoolExecutor)


def _kill_one(pids, after):
    """Kill the process that is the first in a file, as soon as it has some lines."""

    def kill():
        while not pids.exists() or pids.read_text().count("\n") < after:
            time.sleep(0.005)
        os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def _noting(pids, seconds=0.02):
    def note(w, a):
        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return np.asarray(w)

    return note


@pytest.mark.parametrize("kind", ["workers", "dask"])
def test_a_worker_that_is_killed_costs_no_value(kind, request, tmp_path, by_threads):
    executor = (
        request.getfixturevalue("workers")
        if kind == "workers"
        else request.getfixturevalue("client").get_executor(pure=False)
    )
    thread = _kill_one(tmp_path / "pids", after=3)
    found = _run(_with_callback(_noting(tmp_path / "pids")), executor=executor)
    thread.join()
    assert_equal(found, by_threads)
    assert len(set((tmp_path / "pids").read_text().split())) >= 2


def _poisoned(w, a):
    if np.any((np.asarray(w) == 2.0) & (np.asarray(a) == 0.5)):
        os.kill(os.getpid(), signal.SIGKILL)
    return np.asarray(w)


def _allow_failures(n, dask_scheduler):
    dask_scheduler.allowed_failures = n


def test_a_cluster_without_workers_is_told(monkeypatch):
    monkeypatch.setattr(executors, "_ANY_WORKERS", 0.05)
    counts = iter([{}])

    class Cluster:
        _client = SimpleNamespace(nthreads=lambda: next(counts, {"tcp://a": 1}))

    task = Future()
    threading.Timer(0.4, task.set_result, (1,)).start()
    with pytest.warns(UserWarning, match="The cluster has no workers") as warned:
        assert executors.first_done([task], executors.Width(Cluster(), None)) == {task}
    assert len(warned) == 1
    # Negative control: tasks that take long.
    slow = Future()
    threading.Timer(0.2, slow.set_result, (1,)).start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        executors.first_done([slow], executors.Width(Cluster(), None))


def test_tasks_that_a_closing_cluster_has_forgotten_are_cancelled(monkeypatch):
    monkeypatch.setattr(executors, "_ANY_WORKERS", 0.05)
    client = SimpleNamespace(status="closing", nthreads=lambda: {"tcp://a": 1})
    width = executors.Width(SimpleNamespace(_client=client), None)
    forgotten = [Future(), Future()]
    threading.Timer(0.2, setattr, (client, "status", "closed")).start()
    assert executors.first_done(forgotten, width) == set(forgotten)
    assert all(task.cancelled() for task in forgotten)
    # Negative control: a cluster that is not closed.
    client.status, slow = "running", Future()
    threading.Timer(0.2, slow.set_result, (1,)).start()
    assert executors.first_done([slow], width) == {slow} and not slow.cancelled()


@pytest.mark.filterwarnings("ignore:folder. the loss depends on what cannot be tracked")
@pytest.mark.parametrize("kind", ["workers", pytest.param("dask", marks=pytest.mark.slow)])
def test_the_point_at_which_a_process_dies_is_found(kind, request, tmp_path, by_threads):
    if kind == "workers":
        executor = request.getfixturevalue("workers")
    else:
        client = request.getfixturevalue("client")
        # A worker that is killed while it starts, as one of several in a row may be, is not started again by Dask.
        client.run_on_scheduler(_allow_failures, 0)
        request.addfinalizer(lambda: client.run_on_scheduler(_allow_failures, 3))
        executor = client.get_executor(pure=False)
    found = _run(_with_callback(_poisoned), executor=executor, folder=tmp_path)
    expected = jax.tree.map(np.copy, by_threads.values)
    for leaf in jax.tree.leaves(expected):
        leaf[5, 2] = np.nan
    jax.tree.map(np.testing.assert_array_equal, found.values, expected)
    ((point, reason),) = found.failures
    assert point == {"a": 0.5, "model.w": 2.0} and ("WorkerDied" in reason or "KilledWorker" in reason)
    # It is tried again by the next run: the memory may suffice then.
    assert Exploration.load(tmp_path).stop_reason == "29 of 30 points done"


@contextlib.contextmanager
def _cluster_of_processes():
    """Client of a scheduler, and a function that starts the scheduler and the workers again after their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, processes = f"tcp://127.0.0.1:{port}", []

    def start():
        common = dict(stderr=subprocess.DEVNULL, start_new_session=True)
        common |= dict(env=os.environ | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s"})
        for command in (
            ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            ["dask_worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--death-timeout", "10"],
        ):
            command = [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]]
            processes.append(subprocess.Popen(command, **common))

    start()
    try:
        with Client(address, timeout=30) as client:
            client.wait_for_workers(2)
            yield client, processes, start
    finally:
        for process in processes:
            # With the workers that it has started, one of which may be stopped.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["scheduler", "worker"])
def test_a_scheduler_that_starts_again_and_a_worker_that_is_cut_off_cost_no_value(what, tmp_path, by_threads):
    pids = tmp_path / "pids"
    with _cluster_of_processes() as (client, processes, start):

        def disturb():
            while not pids.exists() or pids.read_text().count("\n") < 3:
                time.sleep(0.01)
            if what == "scheduler":
                processes[0].kill()
                start()
            else:
                # It keeps its connections, and answers no more.
                os.kill(int(pids.read_text().split()[0]), signal.SIGSTOP)

        (thread := threading.Thread(target=disturb)).start()
        loss = _with_callback(_noting(pids, seconds=0.3))
        found = _run(loss, executor=client.get_executor(pure=False))
        thread.join()
    assert_equal(found, by_threads)
    assert len(set(pids.read_text().split())) >= (3 if what == "scheduler" else 2)


def test_a_process_compiles_a_loss_once(workers, tmp_path):
    """All tasks share it, also those of a second run."""

    def loss(state):
        with open(tmp_path / "traces", "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.1)
        return _loss(state)[0]

    for _ in range(2):
        _run(loss, executor=workers)
    traces = (tmp_path / "traces").read_text().split()
    assert len(traces) == len(set(traces)) == 2


# Folders


@pytest.mark.filterwarnings("ignore:folder. the loss depends on what cannot be tracked")
@pytest.mark.parametrize("kind", ["workers", "threads"])
def test_an_interrupted_run_goes_on_in_its_folder(kind, request, tmp_path, by_threads):
    executor = None if kind == "threads" else request.getfixturevalue("workers")
    folder, points, switch, parent = tmp_path / "sweep", tmp_path / "points", tmp_path / "switch", os.getpid()

    def note(w, a):
        with open(points, "a") as file:
            file.writelines(f"{x:.3f} {y:.3f}\n" for x, y in zip(np.ravel(w), np.ravel(a), strict=True))
        time.sleep(0.05)
        if switch.exists() and points.read_text().count("\n") > 3 * SIZE:
            switch.unlink()
            os.kill(parent, signal.SIGINT)
            time.sleep(0.2)
        return np.asarray(w)

    loss = _with_callback(note)
    switch.touch()
    first = _run(loss, executor=executor, folder=folder)
    n_first = np.count_nonzero(np.isfinite(first.values[0]))
    assert SIZE <= n_first < 30 and first.stop_reason == f"interrupted after {n_first} of 30 points"
    assert Exploration.load(folder).stop_reason == f"{n_first} of 30 points done"
    n_before = points.read_text().count("\n")
    assert_equal(_run(loss, executor=executor, folder=folder), by_threads)
    n_after = points.read_text().count("\n")
    # The last batches are padded.
    assert len(set(points.read_text().splitlines())) == 30 and n_after - n_before <= 30 - n_first + 3 * SIZE
    # A third run computes nothing, and what a folder holds needs no loss.
    assert_equal(_run(loss, executor=executor, folder=folder), by_threads)
    assert points.read_text().count("\n") == n_after
    again = Exploration.load(folder)
    assert_equal(again, by_threads)
    assert again.stop_reason == "30 of 30 points done" and again.best_index == by_threads.best_index
    assert 0.0 < first.wall_time < again.wall_time


SCRIPT = """
import resource, sys, time, jax
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
jax.config.update("jax_enable_x64", True)
import numpy as np, jax.numpy as jnp
from tvb_jaxfit import GridAxis, ParallelExecution, ProcessWorkers, Space, State

def slow(w):
    time.sleep(0.05)
    return np.asarray(w)

def loss(state):
    w = jax.pure_callback(slow, jax.ShapeDtypeStruct((), state.w.dtype), state.w, vmap_method="broadcast_all")
    return jnp.sin(w) + state.a, jnp.where(state.a > 0.9, jnp.nan, w), jnp.full(100, w)

state = State(w=jnp.asarray(0.0), a=jnp.asarray(0.0))
state.w, state.a = GridAxis(0.0, 1.0, 20), GridAxis(0.0, 1.0, 5)
options = dict(progress=False, batch_size=2, folder=sys.argv[1])
with ProcessWorkers(1) if sys.argv[2] == "workers" else ProcessWorkers(2) as workers:
    executor = workers if sys.argv[2] == "workers" else None
    result = ParallelExecution(loss, Space(state), executor=executor, **options).run()
print(result.stop_reason, len(result.failures), repr(float(np.sum(result.values[0]))))
"""


def _script(tmp_path, *arguments):
    # Written once: another process may be reading it.
    if not (tmp_path / "script.py").exists():
        (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "sweep"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _n_done(folder):
    try:
        return int(np.count_nonzero(np.load(folder / "done.npy")))
    except (FileNotFoundError, ValueError):
        return 0


@pytest.mark.parametrize("kind", ["threads", pytest.param("workers", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_goes_on_in_its_folder(kind, tmp_path):
    killed = _script(tmp_path, kind)
    while (n_done := _n_done(tmp_path / "sweep")) < 10:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    before = Exploration.load(tmp_path / "sweep")
    assert n_done <= _n_done(tmp_path / "sweep") < 100
    # What is marked is there: the values are those of the whole run below.
    is_done = np.load(tmp_path / "sweep" / "done.npy").reshape(before.space.shape) == 1
    kept = [np.array(leaf) for leaf in before.values]
    # Two runs at the same time: one waits, and finds everything done.
    for process in [_script(tmp_path, kind), _script(tmp_path, kind)]:
        out, errors = process.communicate(timeout=60)
        assert out.startswith("all 100 points done 20 "), (process.returncode, errors)
    after = Exploration.load(tmp_path / "sweep")
    for one, other in zip(kept, after.values, strict=True):
        np.testing.assert_array_equal(one[is_done], np.array(other)[is_done])
    grid = np.linspace(0.0, 1.0, 5)[:, None] + np.sin(np.linspace(0.0, 1.0, 20))
    np.testing.assert_allclose(after.values[0], grid, rtol=1e-15)
    assert len(after.failures) == 20 and np.isnan(after.values[1][4]).all() and np.isfinite(after.values[1][:4]).all()


def test_another_loss_space_or_setting_is_refused(tmp_path, by_threads):
    scale = np.ones(3)

    def loss(state):
        return _loss(state)[0] * scale[1]

    _run(loss, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"belongs to another exploration, with other space\. Give another folder"):
        _run(loss, _space(n_w=7), folder=tmp_path)
    with pytest.raises(ValueError, match="with other settings"), jax.default_matmul_precision("highest"):
        _run(loss, folder=tmp_path)
    scale[1] = 2.0
    with pytest.raises(ValueError, match="with other loss"):
        _run(loss, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    scale[1] = 1.0
    # The size of a batch is that of the first run, unless another is given.
    execution = ParallelExecution(loss, _space(), folder=tmp_path, progress=False)
    assert_equal(execution.run(), _run(loss))
    assert execution.batch_size == SIZE


def test_what_is_no_folder_of_an_exploration_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="no exploration in .* Give a folder"):
            Exploration.load(folder)
    (tmp_path / "sweep.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no exploration in"):
        Exploration.load(tmp_path)


def test_a_full_disk_is_noticed_before_anything_is_computed_there(tmp_path):
    """Here the size of a file is limited."""

    _, errors = (process := _script(tmp_path, "threads", "15000")).communicate(timeout=60)
    assert process.returncode == 1 and errors.strip().endswith("OSError: [Errno 27] File too large")
    assert _n_done(tmp_path / "sweep") == 0 and not (tmp_path / "sweep" / "values.npz").exists()


def test_a_disk_that_is_full_later_costs_no_value_that_is_marked(tmp_path, monkeypatch):
    space, write = _space(), RowWriter.write
    evaluate = Batches(_loss, space.template, space.numbers(slice(0, 1)), SIZE)

    def add(store, n_tasks):
        for begin in range(0, SIZE * n_tasks, SIZE):
            store.add(range(begin, begin + SIZE), evaluate(space.numbers(slice(begin, begin + SIZE))))

    def nearly_full(self, begin, rows):
        if begin >= 4 * SIZE:
            raise OSError(28, "No space left on device")
        write(self, begin, rows)

    store = SweepFolder(tmp_path, space, {}, SIZE)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(RowWriter, "write", nearly_full)
        try:
            add(store, 7)
        finally:
            store.finish(1.0)
    again = SweepFolder(tmp_path, space, {}, SIZE)
    assert again.is_done.tolist() == [True] * 4 * SIZE + [False] * (30 - 4 * SIZE)
    np.testing.assert_array_equal(again.values[0][: 4 * SIZE], evaluate(space.numbers(slice(0, 4 * SIZE))).values[0])
    add(again, 7)
    again.finish(1.0)
    assert Exploration.load(tmp_path).wall_time == 2.0


def test_values_in_a_folder_are_read_when_they_are_used(tmp_path):
    result = _run(folder=tmp_path)
    for leaf in (result.values[0], Exploration.load(tmp_path).values[1]["matrix"]):
        while isinstance(leaf, np.ndarray) and not isinstance(leaf, np.memmap):
            leaf = leaf.base
        assert isinstance(leaf, np.memmap)
