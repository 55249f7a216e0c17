"""Order of the fits of a cohort on the workers that there are, whatever becomes of a worker."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from typing import Any

from ..runtime.executors import first_done

# Number of times that a task is given to a worker, if workers die of it.
_MAX_ATTEMPTS = 3


class NotRun(Exception):
    """A task that no worker has completed."""


def completed(
    executor: Executor,
    function: Callable,
    tasks: Iterable,
    n_running: Callable,
    is_busy: Callable,
    packed: Callable = lambda task: task,
) -> Iterator[tuple[Any, Any]]:
    """Results of a function for each task, as they are completed.

    Parameters
    ----------
    executor : Executor
        Of threads, of processes or of a cluster.
    function : callable
        (task, wait) to its result; it travels to the workers. The first call of a task has ``wait`` False.
    tasks : iterable
    n_running : callable
        Number of tasks that the executor has at a time, now: a cluster's scheduler need not know of all of them.
    is_busy : callable
        Result to bool: True to give the task to a worker again, after all others, with ``wait`` True.
    packed : callable, optional
        Task to the form in which it travels.

    Yields
    ------
    task
    result
        Of the function; `NotRun` if the executor has lost the task more often than it is tried, or takes no more tasks.

    Notes
    -----
    An interrupt cancels what has not begun. What is running is not waited for.
    """
    waiting = deque((task, False, 1) for task in tasks)
    running: dict[Future, tuple] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_running():
                entry = waiting.popleft()
                try:
                    running[executor.submit(function, packed(entry[0]), entry[1])] = entry
                # An executor that is shut down, or whose cluster is gone.
                except Exception as error:
                    yield entry[0], NotRun(_text(error))
            if running:
                for future in first_done(running, n_running):
                    yield from _ended(future, running.pop(future), waiting, is_busy)
    finally:
        for future in running:
            with suppress(Exception):
                future.cancel()


def _ended(future, entry, waiting, is_busy):
    """Result of a future that has ended, or nothing: then its task stands at the end of the queue."""
    task, waits, attempt = entry
    try:
        result = future.result()
    # The worker, its connection or its machine is gone, or the function itself has raised an error.
    except (Exception, CancelledError) as error:
        if attempt < _MAX_ATTEMPTS:
            waiting.append((task, waits, attempt + 1))
        else:
            yield task, NotRun(_text(error))
        return
    if is_busy(result) and not waits:
        waiting.append((task, True, attempt))
    else:
        yield task, result


def _text(error):
    return f"{type(error).__name__}: {error}".strip().rstrip(":")
