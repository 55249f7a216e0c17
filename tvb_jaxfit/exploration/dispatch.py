"""Points of a space as tasks of an executor: their size, their number at a time, and tasks whose process dies."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass

from ..errors import WorkerDied
from ..runtime.executors import first_done
from .batches import Outcome
from .space import Space

# Duration of a task that is aimed at [s]: long against the time that an executor takes for a task, and short against
# that of a sweep. A task has at least one batch, and at most so many times the points of the one before.
_SECONDS, _GROWTH = 2.0, 8
# Number of tries of a task whose process dies, beside others. After them it runs alone.
_TRIES = 2
# An executor that loses more tasks than this one after the other is no longer there.
_MAX_LOST = 100


@dataclass
class _Task:
    points: range
    n_deaths: int = 0
    is_alone: bool = False


def evaluate_points(
    submit: Callable[[dict], Future],
    space: Space,
    remaining: Iterable[range],
    batch_size: int,
    width: Callable[[], int],
    record: Callable[[range, Outcome | Exception], None],
    grows: bool,
) -> None:
    """Evaluate points of a space as tasks of an executor.

    Parameters
    ----------
    submit : callable
        (values of the axes at some points) to the future of an `Outcome`.
    space : Space
    remaining : iterable of range
        Points to evaluate.
    batch_size : int
        Number of points in a batch; tasks have a multiple of it.
    width : callable
        Number of tasks in flight.
    record : callable
        (points, outcome): takes what a task returns, or the error of a single point at which the process dies.
    grows : bool
        Tasks grow to a duration of a few seconds. Otherwise each has one batch.

    Raises
    ------
    Exception
        That of the executor. Tasks that have not started are cancelled.
    KeyboardInterrupt
        At an interrupt. The results of tasks that were running are recorded.
    """
    cutter, running, suspects, lost = _Cutter(remaining, batch_size, grows), {}, deque(), 0
    try:
        while True:
            while len(running) < (limit := width()) and (task := cutter.next(limit)):
                running[submit(space.numbers(_slice(task.points)))] = task
            if not running and suspects:
                # Alone, so that the death of its process is not another's doing.
                task = suspects.popleft()
                running[submit(space.numbers(_slice(task.points)))] = task
            if not running:
                return
            for future in first_done(running, width):
                task, error = running.pop(future), _error(future)
                if error is None:
                    lost = 0
                    cutter.learn(future.result())
                    record(task.points, future.result())
                elif isinstance(error, CancelledError) and lost < _MAX_LOST:
                    # A cluster that was restarted has lost it.
                    lost += 1
                    time.sleep(min(1.0, 0.05 * lost))
                    cutter.give_back(task)
                elif _is_death(error):
                    _try_again(task, error, cutter, suspects, record)
                else:
                    if isinstance(error, BrokenExecutor):
                        error.add_note("Give an executor that replaces its processes, such as ProcessWorkers().")
                    raise error
    except KeyboardInterrupt:
        _cancel(running)
        for future, task in running.items():
            # Running tasks cannot be stopped: wait for them and keep their values.
            if _error(future) is None:
                record(task.points, future.result())
        raise
    except BaseException:
        _cancel(running)
        raise


class _Cutter:
    """Cuts the remaining points into tasks, by the duration of the tasks before."""

    def __init__(self, remaining, batch_size, grows):
        self._ranges, self._again = deque(points for points in remaining if points), deque()
        self._n, self._batch_size, self._grows = sum(map(len, self._ranges)), batch_size, grows
        self._n_batches = 1

    def next(self, n_at_once):
        """Next task; None if there are no more points."""
        if self._again:
            return self._again.popleft()
        if not self._ranges:
            return None
        # The last tasks are smaller, so that all workers end at the same time.
        n_batches = min(self._n_batches, -(-self._n // (self._batch_size * n_at_once)))
        points, rest = _split(self._ranges.popleft(), n_batches * self._batch_size)
        if rest:
            self._ranges.appendleft(rest)
        self._n -= len(points)
        return _Task(points)

    def learn(self, outcome):
        """Adapt the size of the tasks that follow."""
        self._batch_size = min(self._batch_size, outcome.batch_size)
        if self._grows:
            fitting = _SECONDS * outcome.n_points / (max(outcome.seconds, 1e-9) * self._batch_size)
            self._n_batches = int(max(1, min(fitting, _GROWTH * self._n_batches)))

    def give_back(self, task):
        self._again.append(task)


def _try_again(task, error, cutter, suspects, record):
    """Narrow down the point at which a process dies."""
    if task.is_alone:
        if len(task.points) > 1:
            suspects.extend(_Task(half, is_alone=True) for half in _split(task.points, len(task.points) // 2))
        else:
            record(task.points, error)
        return
    task.n_deaths += 1
    # Dask has tried it several times.
    if isinstance(error, WorkerDied) and task.n_deaths < _TRIES:
        cutter.give_back(task)
    else:
        suspects.append(_Task(task.points, is_alone=True))


def _is_death(error):
    """True for the error of a task whose process died."""
    return isinstance(error, WorkerDied) or type(error).__name__ == "KilledWorker"


def _error(future):
    """Error of a future, or None."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _cancel(running):
    for future in running:
        future.cancel()


def _split(points, n):
    return points[:n], points[n:]


def _slice(points):
    return slice(points.start, points.stop)
