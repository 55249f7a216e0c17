"""Executors of the same kind for one thread, processes and clusters, and the number of their tasks in flight."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from .processes import processors

# Number of tasks for each worker that are in flight: one runs, one waits.
_PER_WORKER = 2
# Time after which the number of workers is asked for again [s].
_COUNT_AGAIN = 10.0
# Time without a result after which a cluster is asked whether it has workers [s].
_ANY_WORKERS = 30.0


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

    def has_no_workers(self) -> bool:
        """True if a cluster says that it has no workers."""
        with contextlib.suppress(Exception):
            return _n_workers(self._executor) == 0
        return False

    def is_closed(self) -> bool:
        """True if the client of a cluster was closed."""
        return getattr(getattr(self._executor, "_client", None), "status", None) == "closed"


def first_done(running: Iterable[Future], width: Callable) -> set[Future]:
    """Wait for tasks.

    Parameters
    ----------
    running : iterable of Future
    width : callable
        For example a `Width`.

    Returns
    -------
    set of Future
        Those that are done, at least one. If the client of the cluster was closed, all are cancelled: Dask forgets
        tasks that it is given while it closes.

    Warns
    -----
    UserWarning
        The cluster has no workers, so that the tasks wait.
    """
    is_told = False
    while not (done := wait(running, _ANY_WORKERS, FIRST_COMPLETED).done):
        if not isinstance(width, Width):
            continue
        if width.is_closed() and (cancelled := {task for task in running if task.cancel()}):
            return cancelled
        if not is_told and width.has_no_workers():
            is_told = True
            warnings.warn(
                "The cluster has no workers: tasks wait for one. Start workers, or stop with Ctrl-C, which keeps what "
                "is done. A worker of Dask that is killed while it starts is not started again.",
                stacklevel=2,
            )
    return done


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
