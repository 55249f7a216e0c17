"""Result of an exploration: the values of a loss at the points of a space."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import jax
import numpy as np

from ..markup import notebook_html, table
from ..parameters import path_name
from ..persistence import serialisable
from ..persistence.serialise import ReadError
from ..state import State
from .axes import Axis
from .space import Space
from .sweep_files import read_done, read_log, read_sweep, read_values

if TYPE_CHECKING:
    import pandas


@serialisable
@dataclass
class Exploration:
    """Values of a loss at the points of a space; a sequence in the order of the space.

    ``jnp.stack(result)`` has the points in front. ``result[index]`` is what the loss returned at ``space[index]``, and
    ``result[3:6]`` is a list.

    Attributes
    ----------
    space : Space
    values : tree of ndarray
        As returned by the loss, with the shape of the space in front: one axis for each of ``axes``, in that order. NaN
        for points that failed or were not reached. Those of a run with a folder stay on disk, and are read when they
        are used.
    failures : list of (dict, str)
        Points that raised or gave a value that is not finite, as values by path, and the reason.
    stop_reason : str
    wall_time : float
        Duration of the run [s], compilation included; of all runs together, if they had a folder.
    """

    space: Space
    values: object = field(repr=False)
    failures: list
    stop_reason: str
    wall_time: float

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Self:
        """Exploration of a folder, complete or not (``folder`` of `ParallelExecution`).

        Parameters
        ----------
        folder : path-like
            It may belong to a run that is still going on.

        Returns
        -------
        Exploration
            Its values stay on disk, and are read when they are used.

        Raises
        ------
        ValueError
            There is no exploration in the folder.
        """
        folder = Path(folder)
        try:
            space, is_done = read_sweep(folder)["space"], read_done(folder)
        except (OSError, ReadError) as error:
            raise ValueError(
                f"Exploration.load: no exploration in {folder} ({error}). Give a folder that was given to "
                "ParallelExecution(..., folder=...), and in which a run has begun."
            ) from None
        failed, seconds = read_log(folder)
        stop_reason = f"{np.count_nonzero(is_done)} of {len(space)} points done"
        return exploration(space, read_values(folder), failed, stop_reason, seconds)

    @property
    def axes(self) -> dict[str, Axis]:
        """Axes of the space by path, in the order of the axes of ``values`` (see Notes of `Space`)."""
        return self.space.axes

    def __len__(self):
        return len(self.space)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = np.unravel_index(self.space.flat_index(index), self.space.shape)
        return jax.tree.map(lambda leaf: leaf[place], self.values)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    @property
    def best_index(self) -> tuple[int, ...]:
        """Index of the smallest finite value along each axis of the space.

        Raises
        ------
        ValueError
            If the loss does not give one number per point, or no value is finite.
        """
        value = jax.tree.leaves(self.values)[0]
        if value.shape != self.space.shape:
            point_shape = value.shape[len(self.space.shape) :]
            raise ValueError(
                f"best: the loss gives an array of shape {point_shape} at each point. Let it return a number, or a "
                "tuple that begins with one."
            )
        if not np.isfinite(value).any():
            raise ValueError("best: no point has a finite value; see failures.")
        return tuple(map(int, np.unravel_index(np.argmin(np.where(np.isfinite(value), value, np.inf)), value.shape)))

    @property
    def best(self) -> State:
        """State with the smallest finite value of the loss, or of the first value that the loss returns."""
        return self.space[self.best_index]

    def to_pandas(self) -> "pandas.DataFrame":
        """Table of the points and of every value that is one number per point.

        Returns
        -------
        pandas.DataFrame
            One row per point: a column for each axis (see `Space.to_pandas`), and ``value``, or the paths of the
            values.
        """
        frame = self.space.to_pandas()
        for name, values in named_leaves(self.values):
            if values.shape == self.space.shape:
                frame[name] = values.ravel()
        return frame

    def __repr__(self):
        lines = [f"Exploration: {self.stop_reason}, {self.wall_time:.1f} s"]
        lines += [f"  {line}" for line in repr(self.space).splitlines()]
        return "\n".join([*lines, *(f"  {line}" for line in self._summary_lines())])

    def _repr_html_(self):
        axes = [(path, repr(axis)) for path, axis in self.space.axes.items()]
        return notebook_html(
            f"Exploration: {len(self.space)} points, {self.stop_reason}, {self.wall_time:.1f} s",
            table(["axis", "values"], axes),
            *self._summary_lines(),
        )

    def _summary_lines(self):
        """Lines of text on the order of the values, the smallest value and the failures."""
        if len(self.space.shape) > 1:
            yield f"order of values: [{', '.join(self.axes)}]"
        try:
            smallest = jax.tree.leaves(self.values)[0][self.best_index]
            yield f"smallest: {smallest:.6g} at {_format_point(self.space.point(self.best_index))}"
        except ValueError:
            yield from (f"{name}: shape {values.shape}" for name, values in named_leaves(self.values))
        if self.failures:
            point, reason = self.failures[0]
            yield f"failed: {len(self.failures)} points, the first at {_format_point(point)}: {reason}"


def exploration(space: Space, values, failed: dict[int, str], stop_reason: str, wall_time: float) -> Exploration:
    """Exploration from values in the order of the points."""
    if values is None:
        values = np.full(len(space), np.nan)
    values = jax.tree.map(lambda stored: stored.reshape(*space.shape, *stored.shape[1:]), values)
    failures = [(space.point(index), reason) for index, reason in sorted(failed.items())]
    return Exploration(space, values, failures, stop_reason, wall_time)


def named_leaves(values) -> list[tuple[str, np.ndarray]]:
    """Leaves of a tree with their paths; the path of a single leaf is ``value``."""
    return [(path_name(path) or "value", leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]]


def _format_point(point):
    """Values of a point as text."""
    numbers = {
        path: f"{value:.6g}" if np.ndim(value) == 0 else f"{np.size(value)} values" for path, value in point.items()
    }
    return ", ".join(f"{path} = {number}" for path, number in numbers.items())
