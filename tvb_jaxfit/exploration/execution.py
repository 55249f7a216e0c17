"""A loss at every point of a space: in compiled batches that run in parallel, or point by point."""

import itertools
import time
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..errors import caller_stacklevel
from ..parameters import strip_parameters, with_values
from ..runtime.processes import PicklableMixin, processors, refuse_forked
from ..runtime.programs import Program
from ..runtime.progress import progress_bar
from .results import Exploration, named_leaves
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
        Number of batches that run at the same time, each in its own thread. By default the number of processors; 1 on
        an accelerator.
    batch_size : int, optional
        Number of points in a batch. By default the fastest size that was measured: 16 on a CPU, 4096 on an accelerator.
        If memory does not suffice, the size is halved with a warning.
    progress : bool, optional
        Show a progress bar.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed. The message names all such options.

    Notes
    -----
    Only the values that the axes put into the state differ within a batch (`jax.vmap`). Products of the weights with a
    state become products with a matrix of states, gathers of delayed states become gathers of rows, and all points use
    the same noise, which is stored once. ``n_pmap`` batches are in memory at a time.

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
    ):
        check(
            "ParallelExecution",
            loss=(loss, allowed.function),
            space=(space, allowed.instance(Space, "such as Space(state)")),
            n_pmap=(n_pmap, allowed.optional(allowed.integer(1))),
            batch_size=(batch_size, allowed.optional(allowed.integer(1))),
            progress=(progress, allowed.boolean),
        )
        self.loss, self.space, self.progress = loss, space, progress
        is_cpu = jax.default_backend() == "cpu"
        self.n_pmap = int(n_pmap or (len(processors()) if is_cpu else 1))
        # The batches of a small space are smaller, so that every thread has one.
        default = min(_CPU_BATCH_SIZE if is_cpu else _ACCELERATOR_BATCH_SIZE, -(-len(space) // self.n_pmap))
        self.batch_size = int(batch_size or default)

    def run(self) -> Exploration:
        """Evaluate the loss at every point.

        Returns
        -------
        Exploration

        Raises
        ------
        Exception
            The exception of the loss, if it raises at every point.

        Notes
        -----
        A batch that raises is run again point by point: the point that fails is reported, and the others keep their
        values. An interrupt (Ctrl-C) ends the run and keeps the values computed so far.
        """
        refuse_forked("ParallelExecution.run")
        return _run_recorded(self._run, self.space, self.progress)

    def _run(self, recorder, bar):
        remaining = [range(len(self.space))]
        while remaining:
            batch = self._compile_batch()
            if batch is None:
                points = itertools.chain.from_iterable(remaining)
                return _run_sequentially(self.loss, self.space, points, recorder, bar)
            remaining = self._run_batches(batch, remaining, recorder, bar)
            if remaining:
                self._halve_batch_size()

    def _run_batches(self, batch, ranges, recorder, bar):
        """Evaluate ranges of points in batches; return the ranges for which memory does not suffice."""
        size, running, too_large = self.batch_size, {}, []
        parts = iter([points[begin : begin + size] for points in ranges for begin in range(0, len(points), size)])

        def record(future, part):
            error = future.exception()
            if error is None:
                recorder.add(part, _first_rows(future.result(), len(part)), bar)
            elif size > 1 and _lacks_memory(error):
                too_large.append(part)
            else:
                # One by one, to find the point that fails.
                _run_sequentially(self.loss, self.space, part, recorder, bar)

        # The threads only wait for a compiled function: JAX's settings (enable_x64) may be local to this thread.
        with ThreadPoolExecutor(self.n_pmap) as pool:
            try:
                while True:
                    for part in itertools.islice(parts, 0 if too_large else self.n_pmap - len(running)):
                        running[pool.submit(_run_to_numpy, batch, self._batch_arguments(part))] = part
                    if not running:
                        return [*too_large, *parts]
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        record(future, running.pop(future))
            except KeyboardInterrupt:
                # Running batches cannot be stopped: wait for them and keep their values.
                pool.shutdown()
                for future, part in running.items():
                    if future.exception() is None:
                        recorder.add(part, _first_rows(future.result(), len(part)), bar)
                raise

    def _halve_batch_size(self):
        before, self.batch_size = self.batch_size, -(-self.batch_size // 2)
        vars(self).pop("_batch", None)
        warnings.warn(
            f"batch_size: the memory does not suffice for {before} points at once; {self.batch_size} at once follow.",
            stacklevel=caller_stacklevel(),
        )

    def _batch_arguments(self, part):
        """Values of the axes at the points of a batch, and the state around them."""
        # The last batch is padded with its last point: another length would be compiled again.
        points = np.minimum(np.arange(part.start, part.start + self.batch_size), part[-1])
        return self.space.values(points), self.space.template

    @cached_property
    def _batch(self):
        """Program of a batch; the same object in every run, so that JAX compiles it once."""

        def point(values, template):
            return self.loss(strip_parameters(with_values(template, values)))

        def batch(values, template):
            if self.batch_size > 1:
                return jax.vmap(point, in_axes=(0, None))(values, template)
            single = point({path: value[0] for path, value in values.items()}, template)
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], single)

        return Program(batch, shares_constants=True)

    def _compile_batch(self):
        """Compiled batch; None, with a warning, if the loss cannot be traced."""
        try:
            return self._batch.compiled(*self._batch_arguments(range(1)))
        except Exception as error:
            if self.batch_size > 1 and _lacks_memory(error):
                self._halve_batch_size()
                return self._compile_batch()
            warnings.warn(
                f"the loss does not run as a compiled batch, so its points run one by one ({_error_line(error)}).",
                stacklevel=caller_stacklevel(),
            )


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
        return _run_recorded(self._run, self.space, self.progress)

    def _run(self, recorder, bar):
        _run_sequentially(self.loss, self.space, range(len(self.space)), recorder, bar)


def _lacks_memory(error):
    """True for the error of a device whose memory does not suffice."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _run_sequentially(loss, space, points, recorder, bar):
    """Record what the loss returns or raises at some points."""
    for index in points:
        try:
            outcome = jax.tree.map(np.asarray, loss(space[index]))
        except Exception as error:
            outcome = error
        recorder.add([index], [outcome], bar)


def _run_to_numpy(batch, arguments):
    """Values of a batch as numpy arrays, so that nothing of it stays on the device."""
    return jax.tree.map(np.asarray, batch(*arguments))


def _first_rows(values, n):
    """Values of the first n points of a batch."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(n)]


def _error_line(error):
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _run_recorded(run, space, progress):
    """Exploration of a run, complete or until an interrupt."""
    recorder, start, stop_reason = _Recorder(space), time.perf_counter(), f"all {len(space)} points done"
    with progress_bar("explore", "point", len(space), progress) as bar:
        try:
            run(recorder, bar)
        except KeyboardInterrupt:
            stop_reason = f"interrupted after {recorder.n_done} of {len(space)} points"
    return recorder.exploration(stop_reason, time.perf_counter() - start)


class _Recorder:
    """Values and failures of the points evaluated so far."""

    def __init__(self, space):
        self.space, self.values, self.failed, self.errors, self.n_done = space, None, {}, [], 0

    def add(self, points, outcomes, bar):
        """Record the outcomes of some points: values, or exceptions."""
        for index, outcome in zip(points, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self.failed[index] = _error_line(outcome)
                self.errors.append(outcome)
            else:
                self._store(index, outcome)
        self.n_done += len(points)
        bar.update(len(points))

    def _store(self, index, value):
        if self.values is None:
            self.values = jax.tree.map(self._nan_array, value)
        jax.tree.map(lambda stored, new: stored.__setitem__(index, new), self.values, value)
        bad = [(name, leaf) for name, leaf in named_leaves(value) if not np.isfinite(leaf).all()]
        if bad:
            self.failed[index] = ", ".join(
                f"{name} is {leaf if leaf.size == 1 else 'not finite'}" for name, leaf in bad
            )

    def _nan_array(self, leaf):
        dtype = leaf.dtype if np.issubdtype(leaf.dtype, np.inexact) else float
        return np.full((len(self.space), *leaf.shape), np.nan, dtype)

    def exploration(self, stop_reason, wall_time):
        """Exploration of what was recorded; raises the first exception of the loss if there are no values."""
        if self.values is None and self.errors:
            raise self.errors[0]
        shape = self.space.shape
        values = np.full(len(self.space), np.nan) if self.values is None else self.values
        values = jax.tree.map(lambda stored: stored.reshape(*shape, *stored.shape[1:]), values)
        failures = [(self.space.point(index), reason) for index, reason in sorted(self.failed.items())]
        return Exploration(self.space, values, failures, stop_reason, wall_time)
