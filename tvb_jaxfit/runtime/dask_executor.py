"""Executor on a client of Dask whose futures always come to an end.

The futures of Dask's own executor wait for ever if the result is fetched through a connection that breaks: when the
scheduler is started again. Here such a task counts as cancelled, as do all others that the scheduler has lost.
"""

import functools
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

# Number of times that a result is asked for, and longest time to wait for it [s].
_TRIES, _PATIENCE = 2, 300.0


def dependable(executor: Executor) -> Executor:
    """Executor for the same workers: that of Dask is replaced, any other is returned.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        For example ``client.get_executor()``.
    """
    client = getattr(executor, "_client", None)
    if hasattr(client, "scheduler_info") and hasattr(client, "submit"):
        return _DaskExecutor(client, getattr(executor, "_kwargs", {}))
    return executor


class _DaskExecutor(Executor):
    """Executor on a client of Dask. Equal tasks are different tasks."""

    def __init__(self, client: Any, options: dict[str, Any]):
        self._client, self._options = client, options | {"pure": False}

    def submit(self, function: Callable, /, *arguments, **keywords) -> Future:
        """Future of a task. It is cancelled if the scheduler loses the task."""
        outcome, there = Future(), self._client.submit(function, *arguments, **keywords, **self._options)
        outcome.add_done_callback(functools.partial(_cancel_there, there))
        there.add_done_callback(functools.partial(_pass_on, outcome))
        return outcome


def _cancel_there(there, outcome):
    if outcome.cancelled() and there.status != "cancelled":
        there.cancel()


def _pass_on(outcome, there):
    """Pass the result or the error of a future of Dask on; called in a thread of Dask's."""
    for _ in range(_TRIES):
        if there.status == "cancelled" or outcome.cancelled():
            break
        try:
            result = there.result(_PATIENCE)
        except Exception as error:
            if there.status != "error":
                # The connection, not the task.
                continue
            set_outcome = functools.partial(outcome.set_exception, error)
        else:
            set_outcome = functools.partial(outcome.set_result, result)
        if outcome.set_running_or_notify_cancel():
            set_outcome()
        return
    if outcome.cancel():
        # Wakes those who wait for it.
        outcome.set_running_or_notify_cancel()
