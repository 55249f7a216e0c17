"""A loss at every point of a space: in compiled batches side by side, or point by point."""

import itertools
import os
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from .. import options as allowed
from ..markup import shown_in_notebook, table
from ..options import check
from ..parameters import path_name, with_values
from ..processes import Portable, refuse_forked
from ..programs import Program
from ..progress import progress_bar
from .explore import Space

# Points that a batch works on together, as tests/benchmarks/sweep.py finds them: beyond, memory grows and time does not
# fall.
_BATCH, _BATCH_OF_ACCELERATOR = 16, 64


@dataclass
class Exploration:
    """What a loss gave at the points of a space: a sequence of it, point by point in the order of the space.

    ``jnp.stack(result)`` has the points in front, ``result[index]`` is what the loss returned at ``space[index]``, and
    ``result[3:6]`` a list.

    Attributes
    ----------
    space : Space
    values : tree of ndarray
        As the loss returns, with the shape of the space in front: one axis for each of ``axes``, in that order. NaN
        where a point failed or was not reached.
    failures : list of (dict, str)
        Points, as values by path, that raised or gave a value that is not finite, and what happened there.
    stop_reason : str
    wall_time : float
        [s], compilation included.
    """

    space: Space
    values: object = field(repr=False)
    failures: list
    stop_reason: str
    wall_time: float

    @property
    def axes(self):
        """Axes of the space by path, in the order in which ``values`` has them (see Notes of `Space`)."""
        return self.space.axes

    def __len__(self):
        return len(self.space)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = np.unravel_index(self.space.number(index), self.space.shape)
        return jax.tree.map(lambda leaf: leaf[place], self.values)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    @property
    def best_index(self):
        """Index along each axis of the space of the smallest finite value.

        Raises
        ------
        ValueError
            Where the loss does not give one number a point, or none is finite.
        """
        value = jax.tree.leaves(self.values)[0]
        if value.shape != self.space.shape:
            of_point = value.shape[len(self.space.shape) :]
            raise ValueError(
                f"best: the loss gives an array of shape {of_point} at each point. Let it return a number, or a tuple "
                "that begins with one."
            )
        if not np.isfinite(value).any():
            raise ValueError("best: no point has a finite value; see failures.")
        return tuple(map(int, np.unravel_index(np.argmin(np.where(np.isfinite(value), value, np.inf)), value.shape)))

    @property
    def best(self):
        """State at the smallest finite value: of the loss, or of the first of what it returns."""
        return self.space[self.best_index]

    def to_pandas(self):
        """Table of the points and of every value that is one number a point.

        Returns
        -------
        pandas.DataFrame
            One row a point: a column for each axis (see `Space.to_pandas`), and ``value``, or the paths of the values.
        """
        frame = self.space.to_pandas()
        for name, values in _named(self.values):
            if values.shape == self.space.shape:
                frame[name] = values.ravel()
        return frame

    def __repr__(self):
        lines = [f"Exploration: {self.stop_reason}, {self.wall_time:.1f} s"]
        lines += [f"  {line}" for line in repr(self.space).splitlines()]
        if len(self.space.shape) > 1:
            lines.append(f"  order of values: [{', '.join(self.axes)}]")
        try:
            smallest = jax.tree.leaves(self.values)[0][self.best_index]
            lines.append(f"  smallest: {smallest:.6g} at {_told(self.space.at(self.best_index))}")
        except ValueError:
            lines += [f"  {name}: shape {values.shape}" for name, values in _named(self.values)]
        if self.failures:
            point, what = self.failures[0]
            lines.append(f"  failed: {len(self.failures)} points, the first at {_told(point)}: {what}")
        return "\n".join(lines)

    def _repr_html_(self):
        axes = [(path, repr(axis)) for path, axis in self.space.axes.items()]
        told = repr(self).splitlines()[len(axes) + 2 :]
        return shown_in_notebook(
            f"Exploration: {len(self.space)} points, {self.stop_reason}, {self.wall_time:.1f} s",
            table(["axis", "values"], axes),
            *told,
        )


class ParallelExecution(Portable):
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
        Points a batch. By default what was fastest: 16 on a CPU, 64 on an accelerator.
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
            space=(space, allowed.a(Space, "such as Space(state)")),
            n_pmap=(n_pmap, allowed.optional(allowed.whole(1))),
            batch_size=(batch_size, allowed.optional(allowed.whole(1))),
            progress=(progress, allowed.flag),
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
        batch, running = self._compiled(), {}
        if batch is None:
            return _one_by_one(self.loss, self.space, range(len(self.space)), record, bar)
        n, size = len(self.space), self.batch_size
        parts = iter([range(begin, min(begin + size, n)) for begin in range(0, n, size)])
        # A thread does no more than to wait for a compiled function: JAX's settings, such as enable_x64, may be those
        # of this one alone.
        with ThreadPoolExecutor(self.n_pmap) as pool:
            try:
                while True:
                    for part in itertools.islice(parts, self.n_pmap - len(running)):
                        running[pool.submit(_fetched, batch, self._arguments(part))] = part
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        part = running.pop(future)
                        if future.exception() is None:
                            record.take(part, _rows(future.result(), len(part)), bar)
                        else:
                            # Which point it was shows one by one.
                            _one_by_one(self.loss, self.space, part, record, bar)
            except KeyboardInterrupt:
                # What runs cannot be stopped: what it gives is kept.
                pool.shutdown()
                for future, part in running.items():
                    if future.exception() is None:
                        record.take(part, _rows(future.result(), len(part)), bar)
                raise

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
            warnings.warn(
                f"the loss does not run as a compiled batch, so its points run one by one ({_message(error)}).",
                stacklevel=5,
            )


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
            space=(space, allowed.a(Space, "such as Space(state)")),
            progress=(progress, allowed.flag),
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


def _named(values):
    """Leaves of a tree and their paths; a single one is ``value``."""
    return [(path_name(path) or "value", leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]]


def _told(point):
    """Values of a point for people."""
    numbers = {
        path: f"{value:.6g}" if np.ndim(value) == 0 else f"{np.size(value)} values" for path, value in point.items()
    }
    return ", ".join(f"{path} = {number}" for path, number in numbers.items())


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
        bad = [(name, leaf) for name, leaf in _named(value) if not np.isfinite(leaf).all()]
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
        failures = [(self.space.at(index), what) for index, what in sorted(self.failed.items())]
        return Exploration(self.space, values, failures, stop_reason, wall_time)
