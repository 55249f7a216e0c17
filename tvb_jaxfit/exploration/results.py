"""What a loss gave at the points of a space."""

from dataclasses import dataclass, field

import jax
import numpy as np

from ..markup import notebook_html, table
from ..parameters import path_name
from ..persistence import serialisable
from .space import Space


@serialisable
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
        for name, values in named(self.values):
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
            lines.append(f"  smallest: {smallest:.6g} at {_told(self.space.point(self.best_index))}")
        except ValueError:
            lines += [f"  {name}: shape {values.shape}" for name, values in named(self.values)]
        if self.failures:
            point, what = self.failures[0]
            lines.append(f"  failed: {len(self.failures)} points, the first at {_told(point)}: {what}")
        return "\n".join(lines)

    def _repr_html_(self):
        axes = [(path, repr(axis)) for path, axis in self.space.axes.items()]
        told = repr(self).splitlines()[len(axes) + 2 :]
        return notebook_html(
            f"Exploration: {len(self.space)} points, {self.stop_reason}, {self.wall_time:.1f} s",
            table(["axis", "values"], axes),
            *told,
        )


def named(values):
    """Leaves of a tree and their paths; a single one is ``value``."""
    return [(path_name(path) or "value", leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(values)[0]]


def _told(point):
    """Values of a point for people."""
    numbers = {
        path: f"{value:.6g}" if np.ndim(value) == 0 else f"{np.size(value)} values" for path, value in point.items()
    }
    return ", ".join(f"{path} = {number}" for path, number in numbers.items())
