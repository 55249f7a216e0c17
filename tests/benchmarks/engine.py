"""Cost of the executors of a sweep: cheap points by threads, processes and Dask; tasks that sleep on many workers.

    python tests/benchmarks/engine.py            # both, about 3 minutes
    python tests/benchmarks/engine.py sweep 10000
    python tests/benchmarks/engine.py sleep 1000 50

The sweep is run in turns, each executor warm: seconds are medians, and compilation and the start of processes are left
out. The sleeping tasks are those of the dispatcher alone, on workers of Dask that are threads of one process: the time
that they take beyond their sleep is that of the client, the scheduler and the dispatcher.
"""

import contextlib
import logging
import statistics
import sys
import time

import jax
import jax.numpy as jnp

from tvb_jaxfit import GridAxis, ParallelExecution, ProcessWorkers, Space, State
from tvb_jaxfit.exploration.batches import Outcome
from tvb_jaxfit.exploration.dispatch import evaluate_points
from tvb_jaxfit.runtime.executors import Width
from tvb_jaxfit.runtime.processes import processors

REPETITIONS = 5


def loss(state):
    """300 steps of a network of 20 regions: about 0.05 ms in a batch."""
    weights = jnp.sin(jnp.arange(400.0)).reshape(20, 20) / 20

    def step(x, _):
        return x + 0.1 * (jnp.tanh(state.g * weights @ x + state.i) - x), None

    return jnp.sum(jax.lax.scan(step, jnp.zeros(20), length=300)[0])


def space_of(n_points):
    state = State(g=jnp.asarray(0.0), i=jnp.asarray(0.0))
    state.g, state.i = GridAxis(0.0, 2.0, n_points // 100), GridAxis(-1.0, 1.0, 100)
    return Space(state)


def dask_client(**options):
    from distributed import Client, LocalCluster

    options |= dict(threads_per_worker=1, host="127.0.0.1", protocol="tcp", dashboard_address=None)
    cluster = LocalCluster(silence_logs=logging.CRITICAL, **options)
    return cluster, Client(cluster)


def sweep(n_points):
    """Seconds of a sweep by executor."""
    n_workers, space, seconds = len(processors()), space_of(n_points), {}
    with contextlib.ExitStack() as stack:
        cluster, client = map(stack.enter_context, dask_client(n_workers=n_workers))
        executors = {
            "threads": None,
            "ProcessWorkers": stack.enter_context(ProcessWorkers(n_workers)),
            "Dask": client.get_executor(pure=False),
        }
        for repetition in range(REPETITIONS + 1):
            for name, executor in executors.items():
                start = time.perf_counter()
                ParallelExecution(loss, space, progress=False, executor=executor, batch_size=16).run()
                if repetition:
                    seconds.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print(f"{n_points} points, {n_workers} workers")
    for name, median in medians.items():
        print(
            f"  {name:15s} {median:7.2f} s   {median / medians['threads']:5.2f} of threads   {min(seconds[name]):.2f}"
        )


def sleep(n_tasks, n_workers):
    """Seconds of tasks of 1 s, against those of an engine that costs nothing."""

    def task(values):
        time.sleep(1.0)
        return Outcome(1, seconds=1.0)

    cluster, client = dask_client(n_workers=n_workers, processes=False)
    with cluster, client:
        client.wait_for_workers(n_workers)
        executor, done = client.get_executor(pure=False), []
        start, cpu = time.perf_counter(), time.process_time()
        evaluate_points(
            lambda values: executor.submit(task, values),
            space_of(max(100, n_tasks)),
            [range(n_tasks)],
            1,
            Width(executor, None),
            lambda points, outcome: done.append(points),
            grows=False,
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    ideal = n_tasks / n_workers
    print(f"{len(done)} tasks of 1 s on {n_workers} workers: {seconds:.1f} s, {seconds / ideal:.3f} of {ideal:.1f} s")
    print(f"  {1e3 * cpu / n_tasks:.1f} ms of one processor a task, for the client, the scheduler and the workers")


def main(what=None, *numbers):
    """Run one of the two, or both."""
    jax.config.update("jax_enable_x64", True)
    if what in (None, "sweep"):
        sweep(*(map(int, numbers) if what else [10_000]))
    if what in (None, "sleep"):
        sleep(*(map(int, numbers) if what else [1000, 50]))


if __name__ == "__main__":
    main(*sys.argv[1:])
