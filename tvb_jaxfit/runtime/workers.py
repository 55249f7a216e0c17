"""Executor of Python processes that start afresh, share out the processors, and are replaced when they die."""

import contextlib
import json
import numbers
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ..errors import WorkerDied
from .accelerators import default_n_workers, environment_of, gpus
from .processes import processors
from .remote import RemoteFunction, dumps
from .worker_process import receive, send

# Program of a worker. An interrupt (Ctrl-C) reaches all processes of a terminal, and is the parent's to answer.
_START = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
start = json.loads(sys.argv.pop())
sys.path[:] = start["path"]
from tvb_jaxfit.runtime.worker_process import main
main(start["processors"])
"""
# Variables by which BLAS libraries choose their number of threads.
_BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Settings of JAX that a process reads when JAX starts there; each is also an environment variable.
_AT_START = (
    *("jax_platforms", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"),
    *("jax_persistent_cache_min_entry_size_bytes", "jax_persistent_cache_enable_xla_caches"),
)
_ENDED = "the worker processes were ended by kill_workers, or by an interrupt."
# Number of processes that may die before they begin a task.
_TRIES = 3
# Longest time that an idle worker may take to end [s].
_PATIENCE = 10.0


class ProcessWorkers(Executor):
    """Executor of Python processes on this machine, each of which runs one task at a time.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes. By default the number of GPUs that JAX would use, or else of processors. They start when
        they are needed.

    Raises
    ------
    ValueError
        ``n_workers`` is no positive integer.

    Notes
    -----
    It is used like the executors of ``concurrent.futures``: ``submit``, ``map``, ``shutdown``, ``with``. In addition:

    - Functions travel by cloudpickle, and run with the settings of JAX of the thread that submits them (see
      `RemoteFunction`). A process keeps the last functions with what they have compiled.
    - A process is a new Python, not a fork, and does not run the user's script again: no
      ``if __name__ == "__main__"`` is necessary. It has the search path, the directory and the environment of its
      parent, and what it prints appears on standard error.
    - Each process has its share of the processors, and BLAS libraries start as many threads there. JAX starts as many
      threads as here: XLA orders sums by that number, and numbers are therefore equal bit for bit. Environment
      variables for the number of threads that are set already are respected.
    - Each process has a GPU of its own, where there are any. Several processes that share one share its memory.
    - A process that dies (killed, out of memory) fails its task with `WorkerDied`. Other tasks are not affected, and
      the next one starts a new process.
    - An interrupt (Ctrl-C) in a ``with`` block ends the processes at once. They also end when their parent is killed.

    Examples
    --------
    >>> from tvb_jaxfit import ProcessWorkers
    >>> with ProcessWorkers(1) as workers:
    ...     workers.submit(lambda x: x**2, 3).result()
    9
    """

    def __init__(self, n_workers: int | None = None):
        available = processors()
        n_workers = default_n_workers() if n_workers is None else n_workers
        if isinstance(n_workers, bool) or not isinstance(n_workers, numbers.Integral) or n_workers < 1:
            raise ValueError(f"ProcessWorkers: n_workers = {n_workers!r}; give a whole number of at least 1, or None.")
        self.n_workers = n_workers
        found = gpus()
        self._workers = [
            _Worker(_share(available, index, n_workers), environment_of(index, n_workers, found))
            for index in range(n_workers)
        ]
        # Last in, first out: no more processes start than there are tasks at a time.
        self._idle = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(n_workers, "ProcessWorkers")

    def submit(self, function: Callable, /, *arguments, **keywords) -> Future:
        """Run ``function(*arguments, **keywords)`` in one of the processes.

        Returns
        -------
        concurrent.futures.Future

        Raises
        ------
        pickle.PicklingError, TypeError
            The function cannot be pickled. Arguments that cannot be pickled make the future fail.
        """
        return self._threads.submit(self._run, (_remote(function), arguments, keywords))

    def map(self, function: Callable, *iterables, **options) -> Iterator:
        """Results of the function for each item, in order; as ``concurrent.futures.Executor.map``."""
        return super().map(_remote(function), *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and end the processes when the submitted tasks are done.

        Parameters
        ----------
        wait : bool, optional
            Return when the processes have ended.
        cancel_futures : bool, optional
            Cancel the tasks that have not started.
        """
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._close()
        else:
            threading.Thread(target=self._close).start()

    def kill_workers(self) -> None:
        """End the processes at once. Their tasks fail with `WorkerDied`, those that have not started are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._close()

    def __exit__(self, kind, error, trace):
        if kind is None or issubclass(kind, Exception):
            self.shutdown(cancel_futures=kind is not None)
        else:
            self.kill_workers()

    def _run(self, task):
        worker = self._idle.get()
        try:
            is_result, outcome = worker.run(task)
        finally:
            self._idle.put(worker)
        if not is_result:
            raise outcome
        return outcome

    def _close(self):
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.wait()


class _Worker:
    """A process with its share of the processors; started by its first task, and again after its death."""

    def __init__(self, share, variables):
        self._variables = variables
        self._share, self._process, self._is_ended, self._lock = share, None, False, threading.Lock()

    def run(self, task):
        """(True, result of a task), or (False, the error that it raised)."""
        message = dumps(task)
        for _ in range(_TRIES):
            process = self._started()
            with contextlib.suppress(BrokenPipeError):
                send(process.stdin, message)
            # The first reply confirms that the task begins. A process that died before costs nothing: the next one.
            has_begun = receive(process.stdout) is not None
            reply = receive(process.stdout) if has_begun else None
            if reply is not None:
                return pickle.loads(reply)
            code = self._end()
            if has_begun:
                break
        raise WorkerDied(_ENDED if self._is_ended else _death(code, has_begun))

    def _started(self):
        with self._lock:
            if self._is_ended:
                raise WorkerDied(_ENDED)
            if self._process is None:
                start = json.dumps({"path": sys.path, "processors": self._share})
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _START, start],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=_environment(len(self._share)) | self._variables,
                )
            return self._process

    def _end(self):
        """Exit code of a process that has closed its channel."""
        with self._lock:
            process, self._process = self._process, None
        process.kill()
        _release(process)
        return process.returncode

    def kill(self):
        with self._lock:
            self._is_ended = True
            if self._process is not None:
                self._process.kill()

    def close(self):
        """Let an idle process end."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self):
        if self._process is None:
            return
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        _release(self._process)
        self._process = None


def _release(process):
    """Wait for a process that is ending, and close its channel."""
    process.wait()
    for file in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            file.close()


def _death(code, has_begun):
    if code < 0:
        try:
            how = f"by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            how = f"by signal {-code}"
    else:
        how = f"with exit code {code}"
    if not has_begun:
        return f"the worker process ended {how} before it began a task; see what it wrote on standard error."
    return (
        f"the worker process ended {how} while it ran a task. The system ends a process in this way when the memory "
        "is exhausted: use fewer workers, or smaller tasks (batch_size)."
    )


def _remote(function):
    return function if isinstance(function, RemoteFunction) else RemoteFunction(function)


def _share(available, index, n_workers):
    """Processors of a worker: an equal part of those available, or one of them if there are more workers."""
    n = len(available)
    return (
        available[index * n // n_workers : (index + 1) * n // n_workers] if n >= n_workers else [available[index % n]]
    )


def _environment(n_threads):
    """Environment of a worker with a number of threads of its own."""
    jax = sys.modules.get("jax")
    values = {name: getattr(jax.config, name, None) for name in _AT_START} if jax is not None else {}
    settings = {name.upper(): str(value) for name, value in values.items() if value not in (None, "")}
    threads = {name: str(n_threads) for name in _BLAS_THREADS}
    # XLA's own variables, the first of which it prefers.
    threads["PJRT_NPROC"] = os.environ.get("NPROC") or str(len(processors()))
    return threads | dict(os.environ) | settings
