"""A loss at every point of a space: in compiled batches side by side, or point by point."""

import itertools
import os
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..errors import caller_stacklevel
from ..parameters import with_values
from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.programs import Program
from ..runtime.progress import progress_bar
from .results import Exploration, named
from .space import Space

# Points that a batch works on together, as tests/benchmarks/sweep.py finds them: beyond, memory grows and time does not
# fall. A step on an accelerator takes hardly longer for thousands of points than for one.
_BATCH, _BATCH_OF_ACCELERATOR = 16, 4096


class ParallelExecution(PicklableMixin):
    """A loss at every point of a space, in batches of points that are compiled once and run side by side.

    Parameters
    ----------
    loss : callable
        State (plain arrays) to a tree of arrays: a number, an FC matrix, the result of ``jax.value_and_grad``. It has
        to be a JAX function, as for a fit; `SequentialExecution` takes any.
    space : Space
    n_pmap : int, optional
        Batches at once, each in a thread of its own. By default as many as there are processors; 1 on an accelerator.
    batch_size : int, optional
        Points a batch. By default what was fastest: 16 on a CPU, 4096 on an accelerator. Half as many,
        with a warning, where the memory does not suffice.
    progress : bool, optional
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        Options of another kind: all of them at once.

    Notes
    -----
    Within a batch, only what the axes put into the state differs (`jax.vmap`): products of the weights with a state
    become products with a matrix of states, gathers of delayed states become gathers of rows, and all points see the
    same noise, which is held once. ``n_pmap`` batches are in memory at a time.

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

    def __init__(self, loss, space, n_pmap=None, batch_size=None, progress=True):
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
        self.n_pmap = int(n_pmap or (_n_processor() if is_cpu else 1))
        # No more than what gives every thread something to do.
        most = min(_BATCH if is_cpu else _BATCH_OF_ACCELERATOR, -(-len(space) // self.n_pmap))
        self.batch_size = int(batch_size or most)

    def run(self):
        """Evaluate.

        Returns
        -------
        Exploration

        Raises
        ------
        Exception
            Of the loss, where it raises at every point.

        Notes
        -----
        A batch that raises is run again point by point, so that the point that fails is named, and the others keep
        their values. An interrupt (Ctrl-C) ends the run and keeps what has been computed.
        """
        refuse_forked("ParallelExecution.run")
        return _recorded(self._run, self.space, self.progress)

    def _run(self, record, bar):
        left = [range(len(self.space))]
        while left:
            batch = self._compiled()
            if batch is None:
                points = itertools.chain.from_iterable(left)
                return _one_by_one(self.loss, self.space, points, record, bar)
            left = self._side_by_side(batch, left, record, bar)
            if left:
                self._halve()

    def _side_by_side(self, batch, points, record, bar):
        """Evaluate ranges of points in batches; ranges that are left, since the memory does not suffice for a batch."""
        size, running, too_large = self.batch_size, {}, []
        parts = iter([each[begin : begin + size] for each in points for begin in range(0, len(each), size)])

        def take(future, part):
            error = future.exception()
            if error is None:
                record.take(part, _rows(future.result(), len(part)), bar)
            elif size > 1 and _lacks_memory(error):
                too_large.append(part)
            else:
                # Which point it was shows one by one.
                _one_by_one(self.loss, self.space, part, record, bar)

        # A thread does no more than to wait for a compiled function: JAX's settings, such as enable_x64, may be those
        # of this one alone.
        with ThreadPoolExecutor(self.n_pmap) as pool:
            try:
                while True:
                    for part in itertools.islice(parts, 0 if too_large else self.n_pmap - len(running)):
                        running[pool.submit(_fetched, batch, self._arguments(part))] = part
                    if not running:
                        return [*too_large, *parts]
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        take(future, running.pop(future))
            except KeyboardInterrupt:
                # What runs cannot be stopped: what it gives is kept.
                pool.shutdown()
                for future, part in running.items():
                    if future.exception() is None:
                        record.take(part, _rows(future.result(), len(part)), bar)
                raise

    def _halve(self):
        """Go on with smaller batches."""
        before, self.batch_size = self.batch_size, -(-self.batch_size // 2)
        vars(self).pop("_batch", None)
        warnings.warn(
            f"batch_size: the memory does not suffice for {before} points at once; {self.batch_size} at once follow.",
            stacklevel=caller_stacklevel(),
        )

    def _arguments(self, part):
        """Values of the axes at the points of a batch, and the state around them."""
        # The last batch is filled up with its last point: another length would be compiled anew.
        points = np.minimum(np.arange(part.start, part.start + self.batch_size), part[-1])
        return self.space.values(points), self.space[0]

    @cached_property
    def _batch(self):
        """Function of a batch's arguments; one and the same in every run, so that JAX compiles it once."""

        def point(values, rest):
            return self.loss(with_values(rest, values))

        def batch(values, rest):
            if self.batch_size > 1:
                return jax.vmap(point, in_axes=(0, None))(values, rest)
            alone = point({path: value[0] for path, value in values.items()}, rest)
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], alone)

        return Program(batch, shares_constants=True)

    def _compiled(self):
        """The same, compiled; None where the loss does not trace."""
        try:
            return self._batch.compiled(*self._arguments(range(1)))
        except Exception as error:
            if self.batch_size > 1 and _lacks_memory(error):
                self._halve()
                return self._compiled()
            warnings.warn(
                f"the loss does not run as a compiled batch, so its points run one by one ({_message(error)}).",
                stacklevel=caller_stacklevel(),
            )


def _lacks_memory(error):
    """Whether an error is that of a device whose memory does not suffice."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _n_processor():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class SequentialExecution:
    """A loss at every point of a space, one by one, as it is: nothing is compiled, and it need not be a JAX function.

    Parameters
    ----------
    loss : callable
        State (plain arrays) to a number or a tree of arrays, always of the same shapes.
    space : Space
    progress : bool, optional
        Whether to show a progress bar.
    """

    def __init__(self, loss, space, progress=True):
        check(
            "SequentialExecution",
            loss=(loss, allowed.function),
            space=(space, allowed.instance(Space, "such as Space(state)")),
            progress=(progress, allowed.boolean),
        )
        self.loss, self.space, self.progress = loss, space, progress

    def run(self):
        """Evaluate; as `ParallelExecution.run`.

        Returns
        -------
        Exploration

        Raises
        ------
        Exception
            Of the loss, where it raises at every point.
        """
        return _recorded(self._run, self.space, self.progress)

    def _run(self, record, bar):
        _one_by_one(self.loss, self.space, range(len(self.space)), record, bar)


def _one_by_one(loss, space, points, record, bar):
    """What the loss returns at some points, or what it raises there, on record."""
    for index in points:
        try:
            outcome = jax.tree.map(np.asarray, loss(space[index]))
        except Exception as error:
            outcome = error
        record.take([index], [outcome], bar)


def _fetched(batch, arguments):
    """Values of a batch, as numpy arrays: once they are, nothing of it is left on the device."""
    return jax.tree.map(np.asarray, batch(*arguments))


def _rows(values, n):
    """Values of the first n points of a batch."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(n)]


def _message(error):
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _recorded(run, space, progress):
    """Exploration of what a run puts on record, to its end or to an interrupt."""
    record, start, stop_reason = _Record(space), time.perf_counter(), f"all {len(space)} points done"
    with progress_bar("explore", "point", len(space), progress) as bar:
        try:
            run(record, bar)
        except KeyboardInterrupt:
            stop_reason = f"interrupted after {record.n_done} of {len(space)} points"
    return record.close(stop_reason, time.perf_counter() - start)


class _Record:
    """Values and failures, as they come."""

    def __init__(self, space):
        self.space, self.values, self.failed, self.errors, self.n_done = space, None, {}, [], 0

    def take(self, points, outcomes, bar):
        """Put what some points gave on record."""
        for index, outcome in zip(points, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self.failed[index] = _message(outcome)
                self.errors.append(outcome)
            else:
                self._keep(index, outcome)
        self.n_done += len(points)
        bar.update(len(points))

    def _keep(self, index, value):
        if self.values is None:
            self.values = jax.tree.map(self._empty, value)
        jax.tree.map(lambda held, new: held.__setitem__(index, new), self.values, value)
        bad = [(name, leaf) for name, leaf in named(value) if not np.isfinite(leaf).all()]
        if bad:
            self.failed[index] = ", ".join(
                f"{name} is {leaf if leaf.size == 1 else 'not finite'}" for name, leaf in bad
            )

    def _empty(self, leaf):
        dtype = leaf.dtype if np.issubdtype(leaf.dtype, np.inexact) else float
        return np.full((len(self.space), *leaf.shape), np.nan, dtype)

    def close(self, stop_reason, wall_time):
        """Exploration; raises the loss's own exception where it gave nothing else."""
        if self.values is None and self.errors:
            raise self.errors[0]
        shape = self.space.shape
        values = np.full(len(self.space), np.nan) if self.values is None else self.values
        values = jax.tree.map(lambda held: held.reshape(*shape, *held.shape[1:]), values)
        failures = [(self.space.point(index), what) for index, what in sorted(self.failed.items())]
        return Exploration(self.space, values, failures, stop_reason, wall_time)
