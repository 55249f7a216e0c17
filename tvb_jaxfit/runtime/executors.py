"""Executors of the same kind for one thread, processes and clusters, and the number of their tasks in flight."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from .processes import processors

# Number of tasks for each worker that are in flight: one runs, one waits.
_PER_WORKER = 2
# Time after which the number of workers is asked for again [s].
_COUNT_AGAIN = 10.0


class Inline(Executor):
    """Executor that runs a task in the thread that submits it."""

    def submit(self, function: Callable, /, *arguments, **keywords) -> Future:
        """Future that is done."""
        future = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


class Width:
    """Number of tasks that are in flight at the same time.

    Parameters
    ----------
    executor : Executor
    n_parallel : int or None
        Number of tasks that run at the same time. By default the number of workers of the executor.
    per_worker : int, optional
        Number of tasks in flight for each of these.
    """

    def __init__(self, executor: Executor, n_parallel: int | None, per_worker: int = _PER_WORKER):
        self._executor, self._n_parallel, self._per_worker = executor, n_parallel, per_worker
        self._counted, self._n_workers = -_COUNT_AGAIN, 1

    def __call__(self) -> int:
        """Number of tasks now: clusters grow and shrink."""
        if self._n_parallel is not None:
            return self._per_worker * self._n_parallel
        if time.perf_counter() - self._counted >= _COUNT_AGAIN:
            # A cluster that is starting again, or that has ended, does not answer: the next task tells which.
            with contextlib.suppress(Exception):
                self._n_workers = max(1, _n_workers(self._executor))
            self._counted = time.perf_counter()
        return self._per_worker * self._n_workers


def _n_workers(executor):
    """Number of tasks that an executor runs at the same time."""
    for name in ("n_workers", "_max_workers"):
        if isinstance(getattr(executor, name, None), int):
            return getattr(executor, name)
    client = getattr(executor, "_client", None)
    if hasattr(client, "nthreads"):
        # Dask's.
        return sum(client.nthreads().values())
    return len(processors())
