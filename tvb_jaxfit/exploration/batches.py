"""A loss at given points: in batches of a fixed size that are compiled once, or point by point."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ..parameters import strip_parameters, with_values
from ..runtime.processes import PicklableMixin
from ..runtime.programs import Program
from ..state import State
from .results import named_leaves

_lock = threading.RLock()


@dataclass
class Outcome:
    """Values of a loss at some points.

    Attributes
    ----------
    n_points : int
    done : ndarray of int, shape (n_done,)
        Places, among the points, of those that have a value.
    values : tree of ndarray, or None
        Values at these points, which are the leading axis. None if there are none.
    failed : dict of int to str
        Reason by place of points that raised, or whose value is not finite.
    error : Exception or None
        The first one that was raised.
    seconds : float
        Duration without compilation.
    batch_size : int
        Number of points in a batch, at the end.
    notes : tuple of str
        Warnings.
    """

    n_points: int
    done: np.ndarray = field(default_factory=lambda: np.arange(0))
    values: object = None
    failed: dict = field(default_factory=dict)
    error: Exception | None = None
    seconds: float = 0.0
    batch_size: int = 1
    notes: tuple[str, ...] = ()


class PointByPoint(PicklableMixin):
    """A loss at given points, one by one and without compilation. It need not be a JAX function.

    Parameters
    ----------
    loss : callable
    template : State
        As `Space.template`.
    """

    batch_size, notes = 1, ()

    def __init__(self, loss: Callable, template: State):
        self.loss, self.template = loss, template

    def __call__(self, values: dict[str, np.ndarray]) -> Outcome:
        """Evaluate the loss.

        Parameters
        ----------
        values : dict of str to ndarray
            Values of the axes by path, with a leading axis of points (`Space.numbers`).

        Returns
        -------
        Outcome
        """
        outcome, done, parts = Outcome(_n_points(values)), [], []
        for places, found in self._parts(values, outcome):
            if isinstance(found, Exception):
                outcome.failed[places[0]] = error_line(found)
                outcome.error = outcome.error or found
            else:
                done.extend(places)
                parts.append(found)
        if parts:
            outcome.done = np.array(done)
            outcome.values = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
            outcome.failed |= _not_finite(outcome.done, outcome.values)
        outcome.batch_size, outcome.notes = self.batch_size, tuple(self.notes)
        return outcome

    def _parts(self, values, outcome):
        """(places, values there with a leading axis, or the exception) of all points."""
        start = time.perf_counter()
        yield from self._one_by_one(values, range(outcome.n_points))
        outcome.seconds += time.perf_counter() - start

    def _one_by_one(self, values, places):
        for place in places:
            try:
                found = jax.tree.map(lambda leaf: np.asarray(leaf)[None], self.loss(self._state(values, place)))
            except Exception as error:
                found = error
            yield range(place, place + 1), found

    def _state(self, values, place):
        return strip_parameters(with_values(self.template, _on_device(values, place)))


class Batches(PointByPoint):
    """A loss at given points, in batches that are compiled once.

    A batch that raises is run again point by point. If the loss cannot be traced, all points run one by one.

    Parameters
    ----------
    loss : callable
        JAX function of a state.
    template : State
        As `Space.template`.
    example : dict of str to ndarray
        Values of the axes at one point, with a leading axis: for their shapes.
    batch_size : int
        Number of points in a batch; halved where memory does not suffice.

    Attributes
    ----------
    batch_size : int
    notes : list of str
        Warnings.
    """

    def __init__(self, loss: Callable, template: State, example: dict[str, np.ndarray], batch_size: int):
        super().__init__(loss, template)
        self._example, self.batch_size, self.notes = example, batch_size, []

    def compile(self) -> bool:
        """Compile a batch, with a smaller size if necessary. False if the loss cannot be traced."""
        return self._compiled[1] is not None

    def _parts(self, values, outcome):
        begin = 0
        while begin < outcome.n_points:
            size, batch = self._compiled
            places = range(begin, min(begin + size, outcome.n_points))
            start = time.perf_counter()
            try:
                if batch is None:
                    # One at a time: a function that is no JAX function may not bear several threads.
                    with _lock:
                        yield from self._one_by_one(values, places)
                else:
                    found = _run_to_numpy(batch, self._arguments(values, begin, size))
                    yield places, _first_rows(found, len(places))
            except Exception as error:
                if size > 1 and _lacks_memory(error):
                    self._halve(size)
                    continue
                # One by one, to find the point that fails.
                yield from self._one_by_one(values, places)
            outcome.seconds += time.perf_counter() - start
            begin = places.stop

    def _arguments(self, values, begin, size):
        """Values of the axes at the points of a batch, and the state around them."""
        # The last batch is padded with its last point: another length would be compiled again.
        places = np.minimum(np.arange(begin, begin + size), _n_points(values) - 1)
        return _on_device(values, places), self.template

    @cached_property
    def _compiled(self):
        """(number of points, compiled batch of that size); None in place of a batch if the loss cannot be traced."""
        # Threads that share this object compile one after the other.
        with _lock:
            while True:
                size = self.batch_size
                try:
                    return size, self._program(size).compiled(*self._arguments(self._example, 0, size))
                except Exception as error:
                    if size == 1 or not _lacks_memory(error):
                        reason = f"({error_line(error)})"
                        self._note(f"the loss does not run as a compiled batch, so its points run one by one {reason}.")
                        return size, None
                    self._halve(size)

    def _program(self, size):
        def point(values, template):
            return self.loss(strip_parameters(with_values(template, values)))

        def batch(values, template):
            if size > 1:
                return jax.vmap(point, in_axes=(0, None))(values, template)
            single = point({path: value[0] for path, value in values.items()}, template)
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], single)

        return Program(batch, shares_constants=True)

    def _halve(self, size):
        with _lock:
            # Another thread may have done it.
            if self.batch_size == size:
                self.batch_size = -(-size // 2)
                vars(self).pop("_compiled", None)
                self._note(
                    f"batch_size: the memory does not suffice for {size} points at once; "
                    f"{self.batch_size} at once follow."
                )

    def _note(self, text):
        if text not in self.notes:
            self.notes.append(text)


def error_line(error: Exception) -> str:
    """Kind of an error, and the first line of its message."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _n_points(values):
    return len(next(iter(values.values())))


def _on_device(values, places):
    dtype = jnp.result_type(float)
    return {path: jnp.asarray(value[places], dtype) for path, value in values.items()}


def _run_to_numpy(batch, arguments):
    """Values of a batch as numpy arrays, so that nothing of it stays on the device."""
    return jax.tree.map(np.asarray, batch(*arguments))


def _first_rows(values, n):
    return jax.tree.map(lambda leaf: leaf[:n], values)


def _lacks_memory(error):
    """True for the error of a device whose memory does not suffice."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _not_finite(done, values):
    """Reason by place of the points with values that are not finite."""
    reasons = {}
    for name, leaf in named_leaves(values):
        rows = leaf.reshape(len(leaf), -1)
        for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
            what = f"{name} is {leaf[row] if rows.shape[1] == 1 else 'not finite'}"
            reasons.setdefault(int(done[row]), []).append(what)
    return {place: ", ".join(each) for place, each in reasons.items()}
