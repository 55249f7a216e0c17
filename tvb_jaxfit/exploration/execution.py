"""A loss at every point of a space: in compiled batches that run in parallel, or point by point."""

import contextlib
import functools
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import jax

from ..checks import options as allowed
from ..checks.options import check
from ..errors import caller_stacklevel
from ..persistence.fingerprint.hasher import digest_and_untracked, environment
from ..persistence.fingerprint.objects import NotHashable
from ..persistence.locks import file_lock
from ..runtime.dask_executor import dependable
from ..runtime.executors import Inline, Width
from ..runtime.processes import PicklableMixin, processors, refuse_forked
from ..runtime.progress import announce, progress_bar
from ..runtime.remote import RemoteFunction, WithSettings
from .batches import Batches, PointByPoint
from .dispatch import evaluate_points
from .folder import SweepFolder
from .recorder import InMemory, Recorder, remaining_points
from .results import Exploration
from .space import Space

# Default number of points in a batch, measured by tests/benchmarks/sweep.py: larger batches need more memory and save
# no time. A step on an accelerator takes hardly longer for thousands of points than for one.
_CPU_BATCH_SIZE, _ACCELERATOR_BATCH_SIZE = 16, 4096


class ParallelExecution(PicklableMixin):
    """A loss at every point of a space, in batches of points that are compiled once and run in parallel.

    Parameters
    ----------
    loss : callable
        Maps a state of plain arrays to a tree of arrays: a number, an FC matrix, the result of ``jax.value_and_grad``.
        It must be a JAX function, as for a fit; `SequentialExecution` takes any function.
    space : Space
    n_pmap : int, optional
        Number of batches, or of tasks of the executor, that run at the same time. By default the number of processors,
        each in its own thread (1 on an accelerator), or the number of workers of the executor.
    batch_size : int, optional
        Number of points in a batch. By default the fastest size that was measured: 16 on a CPU, 4096 on an accelerator.
        If memory does not suffice, the size is halved with a warning.
    progress : bool, optional
        Show a progress bar.
    executor : concurrent.futures.Executor, optional
        Runs the batches: `ProcessWorkers`, ``client.get_executor(pure=False)`` of Dask, or any other whose processes
        are not forked. By default threads of this process.
    folder : path-like, optional
        Folder for the values and failures, which are stored there while the sweep runs. A run that was interrupted or
        killed is continued by the next one with the same folder. By default they are kept in memory.

    Attributes
    ----------
    batch_size : int
        Number of points in a batch; smaller after a run for which the memory did not suffice.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed. The message names all such options.

    Notes
    -----
    Only the values that the axes put into the state differ within a batch (`jax.vmap`). Products of the weights with a
    state become products with a matrix of states, gathers of delayed states become gathers of rows, and all points use
    the same noise, which is stored once. ``n_pmap`` batches are in memory at a time.

    An executor receives tasks of one or more batches, which take about 2 s each. The loss travels by value (see
    `ProcessWorkers`), and each process compiles it once. The values do not depend on the executor: they are equal bit
    for bit for the same `batch_size` and kind of machine.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit import GridAxis, ParallelExecution, Space, State
    >>> space = Space(State(x=GridAxis(-1.0, 2.0, 4), y=GridAxis(0.0, 1.0, 2)))
    >>> result = ParallelExecution(lambda state: state.x**2 + state.y, space, progress=False).run()
    >>> result.values.astype(int)
    array([[1, 2],
           [0, 1],
           [1, 2],
           [4, 5]])
    >>> float(result.best.x), result.best_index
    (0.0, (1, 0))
    """

    def __init__(
        self,
        loss: Callable,
        space: Space,
        n_pmap: int | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        executor: Executor | None = None,
        folder: str | os.PathLike | None = None,
    ):
        check(
            "ParallelExecution",
            loss=(loss, allowed.function),
            space=(space, allowed.instance(Space, "such as Space(state)")),
            n_pmap=(n_pmap, allowed.optional(allowed.integer(1))),
            batch_size=(batch_size, allowed.optional(allowed.integer(1))),
            progress=(progress, allowed.boolean),
            executor=(executor, allowed.optional(allowed.instance(Executor, "such as ProcessWorkers()"))),
            folder=(folder, allowed.optional(allowed.path)),
        )
        self.loss, self.space, self.progress, self.executor = loss, space, progress, executor
        self.folder = None if folder is None else Path(folder)
        is_cpu = jax.default_backend() == "cpu"
        self.n_pmap = n_pmap
        self._n_threads = int(n_pmap or (len(processors()) if is_cpu else 1))
        # The batches of a small space are smaller, so that every thread has one.
        n_at_once = self._n_threads if executor is None else Width(executor, n_pmap, 1)()
        default = min(_CPU_BATCH_SIZE if is_cpu else _ACCELERATOR_BATCH_SIZE, -(-len(space) // n_at_once))
        self._is_default_size = batch_size is None
        self._set_batch_size(int(batch_size or default))

    @property
    def batch_size(self) -> int:
        """Number of points in a batch."""
        return self._batches.batch_size

    def _set_batch_size(self, size):
        self._batches = Batches(self.loss, self.space.template, self.space.numbers(slice(0, 1)), size)

    def run(self) -> Exploration:
        """Evaluate the loss at every point.

        Returns
        -------
        Exploration

        Raises
        ------
        Exception
            The exception of the loss, if it raises at every point; that of the executor, if it does not work.
        ValueError
            The folder belongs to an exploration of another loss or space, or with other settings.
        NotHashable
            With a folder: the loss uses something that cannot be compared by content.
        OSError
            The disk of the folder is full, or cannot be written. What was stored remains.

        Warns
        -----
        UserWarning
            Memory does not suffice for a batch, or the loss cannot be compiled. With a folder: the loss depends on
            something whose changes cannot be noticed.

        Notes
        -----
        A batch that raises is run again point by point: the point that fails is reported, and the others keep their
        values. A task whose process dies is run again, and divided until the point is found at which it dies; that
        point is reported. An interrupt (Ctrl-C) ends the run and keeps the values computed so far.
        """
        refuse_forked("ParallelExecution.run")
        with contextlib.ExitStack() as stack:
            return _recorded(self._run, self.space, self._store(stack), self.progress)

    def _store(self, stack):
        """Store of the values; the stack holds the lock of the folder."""
        if self.folder is None:
            return InMemory(len(self.space))
        digests = _digests(self.loss, self.space)
        with file_lock(self.folder / "sweep", wait=False) as is_free:
            pass
        if not is_free:
            announce(f"explore: another run is at work in {self.folder}; this one waits for it", self.progress)
        stack.enter_context(file_lock(self.folder / "sweep"))
        store = SweepFolder(self.folder, self.space, digests, self.batch_size)
        if self._is_default_size and store.batch_size != self.batch_size:
            self._set_batch_size(store.batch_size)
        return store

    def _run(self, recorder):
        evaluate = functools.partial(
            evaluate_points, space=self.space, remaining=remaining_points(recorder.store.is_done), record=recorder.add
        )
        if self.executor is not None:
            executor = dependable(self.executor)
            width = Width(executor, self.n_pmap)
            submit = functools.partial(executor.submit, RemoteFunction(self._batches))
            evaluate(submit, batch_size=self.batch_size, width=width, grows=True)
        elif self._batches.compile():
            with ThreadPoolExecutor(self._n_threads) as pool:
                # JAX's settings (enable_x64) may be local to this thread.
                submit = functools.partial(pool.submit, WithSettings(self._batches))
                evaluate(submit, batch_size=self.batch_size, width=lambda: self._n_threads, grows=False)
        else:
            # In this thread: a function that is no JAX function may not be used from another.
            _run_inline(self._batches, evaluate)


class SequentialExecution:
    """A loss at every point of a space, one by one and without compilation; it need not be a JAX function.

    Parameters
    ----------
    loss : callable
        Maps a state of plain arrays to a number or a tree of arrays, always of the same shapes.
    space : Space
    progress : bool, optional
        Show a progress bar.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed. The message names all such options.
    """

    def __init__(self, loss: Callable, space: Space, progress: bool = True):
        check(
            "SequentialExecution",
            loss=(loss, allowed.function),
            space=(space, allowed.instance(Space, "such as Space(state)")),
            progress=(progress, allowed.boolean),
        )
        self.loss, self.space, self.progress = loss, space, progress

    def run(self) -> Exploration:
        """Evaluate the loss at every point; as `ParallelExecution.run`.

        Returns
        -------
        Exploration

        Raises
        ------
        Exception
            The exception of the loss, if it raises at every point.
        """
        return _recorded(self._run, self.space, InMemory(len(self.space)), self.progress)

    def _run(self, recorder):
        remaining = [range(len(self.space))]
        evaluate = functools.partial(evaluate_points, space=self.space, remaining=remaining, record=recorder.add)
        _run_inline(PointByPoint(self.loss, self.space.template), evaluate)


def _run_inline(points, evaluate):
    """Evaluate points one by one in this thread."""
    evaluate(functools.partial(Inline().submit, points), batch_size=1, width=lambda: 1, grows=False)


def _recorded(run, space, store, progress):
    """Exploration of a run, complete or until an interrupt."""
    start, n_before = time.perf_counter(), int(store.is_done.sum())
    try:
        with progress_bar("explore", "point", len(space), progress, initial=n_before) as bar:
            recorder, stop_reason = Recorder(space, store, bar), f"all {len(space)} points done"
            try:
                run(recorder)
            except KeyboardInterrupt:
                stop_reason = f"interrupted after {recorder.n_done} of {len(space)} points"
    finally:
        store.finish(time.perf_counter() - start)
    return recorder.exploration(stop_reason, time.perf_counter() - start)


def _digests(loss, space):
    """Digests of all that the values depend on, by name."""
    try:
        of_loss, untracked = digest_and_untracked(loss, "loss")
        digests = {"loss": of_loss, "space": digest_and_untracked(space, "space")[0]}
    except NotHashable as error:
        raise NotHashable(f"folder: {error} Without a folder, the values are kept in memory.") from None
    if untracked:
        names = ", ".join(sorted({dependency.name for dependency in untracked.values()}))
        warnings.warn(
            f"folder: the loss depends on what cannot be tracked: {names}. If it changes, a run that goes on in the "
            "folder does not notice it.",
            stacklevel=caller_stacklevel(),
        )
    return digests | {name: digest_and_untracked(value, name)[0] for name, value in environment().items()}
