"""Every task has one result, whatever becomes of its workers; none has two."""

import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from tvb_jaxfit.cohort.schedule import NotRun, completed
from tvb_jaxfit.runtime.executors import Inline


def never(result):
    return False


@pytest.mark.parametrize("n_running", [1, 3, 100])
def test_each_task_has_its_result(n_running):
    with ThreadPoolExecutor(3) as executor:
        found = dict(completed(executor, lambda task, wait: task**2, range(20), lambda: n_running, never))
    assert found == {task: task**2 for task in range(20)}


def test_no_more_tasks_are_given_than_asked():
    lock, running, most = threading.Lock(), [0], [0]

    def work(task, wait):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    with ThreadPoolExecutor(8) as executor:
        list(completed(executor, work, range(30), lambda: 3, never))
    assert most[0] <= 3


def test_a_busy_task_comes_last_and_waits():
    calls = []

    def work(task, wait):
        calls.append((task, wait))
        return "busy" if task == 0 and not wait else "done"

    results = dict(completed(Inline(), work, range(3), lambda: 1, lambda result: result == "busy"))
    assert calls == [(0, False), (1, False), (2, False), (0, True)]
    assert results == dict.fromkeys(range(3), "done")


def test_a_lost_task_is_tried_again_and_then_reported():
    calls = Counter()

    def work(task, wait):
        calls[task] += 1
        if task == 1 or (task == 2 and calls[task] < 3):
            raise RuntimeError("the worker died")
        return task

    results = dict(completed(Inline(), work, range(4), lambda: 2, never))
    assert isinstance(results[1], NotRun)
    assert str(results[1]) == "RuntimeError: the worker died"
    assert {task: results[task] for task in (0, 2, 3)} == {0: 0, 2: 2, 3: 3}
    assert calls == {0: 1, 1: 3, 2: 3, 3: 1}


class Closed(Executor):
    def submit(self, *arguments, **keywords):
        raise RuntimeError("cannot schedule new futures after shutdown")


def test_tasks_of_an_executor_that_is_gone_are_reported():
    results = dict(completed(Closed(), print, range(3), lambda: 2, never))
    assert [str(each) for each in results.values()] == ["RuntimeError: cannot schedule new futures after shutdown"] * 3


class Cancelling(Executor):
    def submit(self, *arguments, **keywords):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_cancelled_futures_are_lost_tasks():
    results = dict(completed(Cancelling(), print, range(2), lambda: 2, never))
    assert all(isinstance(each, NotRun) for each in results.values())


def test_an_interrupt_cancels_what_has_not_begun():
    begun, release = [], threading.Event()

    def work(task, wait):
        begun.append(task)
        if task:
            release.wait(10.0)

    with ThreadPoolExecutor(1) as executor:
        results = completed(executor, work, range(50), lambda: 20, never)
        assert next(results)[0] == 0
        results.close()
        release.set()
    assert len(begun) <= 2
