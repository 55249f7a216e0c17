"""Axes of a parameter space: the values that are tried in place of one value of a state."""

import copy
import math
import zlib

import numpy as np

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin


class Axis(PicklableMixin):
    """Values to try in place of one value of the state.

    Attributes
    ----------
    n : int
        Number of values.
    shape : tuple of int
        Shape of each value. For an axis in a state, the shape of the global value that it stands for.
    """

    n: int
    shape: tuple[int, ...] = ()

    def reshape_like(self, former, n_node=None) -> "Axis":
        """Return this axis with values in the shape of the value that it replaces.

        `State` calls this method when an axis is assigned.

        Parameters
        ----------
        former : Array, Parameter or Axis
            The value that is replaced.
        n_node : int, optional
            Number of regions; not used.

        Returns
        -------
        Axis
            A copy; for regional values the axis itself.
        """
        if math.prod(self.shape) > 1:
            return self
        former_shape = getattr(former, "shape", ())
        placed = copy.copy(self)
        placed.shape = former_shape if math.prod(former_shape) == 1 else ()
        return placed

    def values(self, path: str = "") -> np.ndarray:
        """Values of the axis at a path of the state.

        Parameters
        ----------
        path : str, optional
            Random axes at different paths are independent, even with the same seed.

        Returns
        -------
        ndarray, shape ``(n, *shape)``
        """
        return self._numbers(path).reshape(self.n, *self.shape)

    def _numbers(self, path):
        raise NotImplementedError

    def __len__(self):
        return self.n


@serialisable
class GridAxis(Axis):
    """Evenly spaced values, both ends included.

    Parameters
    ----------
    low, high : float
        Ends of the range, in the unit of the value.
    n : int
        Number of values.

    Raises
    ------
    ValueError
        If the ends are not finite or not in order, or ``n`` is below 1.

    Examples
    --------
    >>> from tvb_jaxfit import GridAxis
    >>> GridAxis(0.0, 1.0, 5).values()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    def __init__(self, low: float, high: float, n: int):
        name = type(self).__name__
        check(name, n=(n, allowed.integer(1)))
        low, high = (real_array(end, f"{name}: {label}", shape=()) for label, end in {"low": low, "high": high}.items())
        if not (np.isfinite([low, high]).all() and low <= high):
            raise ValueError(f"{name}: {low} to {high} is no range; give two finite numbers, the lower one first.")
        self.low, self.high, self.n = float(low), float(high), int(n)

    def _numbers(self, path):
        return np.linspace(self.low, self.high, self.n)

    def __repr__(self):
        return f"{type(self).__name__}({self.low:g} .. {self.high:g}, {self.n} values)"


@serialisable
class UniformAxis(GridAxis):
    """Independent random values, uniform over the range.

    Parameters
    ----------
    low, high : float
        Ends of the range, in the unit of the value.
    n : int
        Number of values.
    seed : int, optional

    Raises
    ------
    ValueError
        If the ends are not finite or not in order, ``n`` is below 1, or ``seed`` is negative.

    Notes
    -----
    The values depend on the seed and on the path in the state: two axes of a zipped `Space` with the same seed are
    independent.
    """

    def __init__(self, low: float, high: float, n: int, seed: int = 0):
        super().__init__(low, high, n)
        check(type(self).__name__, seed=(seed, allowed.integer(0)))
        self.seed = int(seed)

    def _numbers(self, path):
        random = np.random.default_rng([self.seed, zlib.crc32(path.encode())])
        return self.low + (self.high - self.low) * self._fractions(random)

    def _fractions(self, random):
        """Random positions in the range, from 0 to 1."""
        return random.uniform(size=self.n)


@serialisable
class LatinHypercubeAxis(UniformAxis):
    """Random values, one from each of ``n`` equal parts of the range, in random order.

    Parameters
    ----------
    low, high : float
        Ends of the range, in the unit of the value.
    n : int
        Number of values.
    seed : int, optional

    Raises
    ------
    ValueError
        If the ends are not finite or not in order, ``n`` is below 1, or ``seed`` is negative.

    Notes
    -----
    Several such axes in a `Space` of mode ``"zip"`` form a Latin hypercube: the points are spread evenly along each
    axis. The order depends on the seed and on the path in the state.

    References
    ----------
    McKay, M. D., Beckman, R. J. and Conover, W. J. (1979). Technometrics 21(2), 239-245.
    """

    def _fractions(self, random):
        return (random.permutation(self.n) + random.uniform(size=self.n)) / self.n


@serialisable
class DataAxis(Axis):
    """Given values: one number, or one set of regional values, per point.

    Parameters
    ----------
    values : array_like, shape (n,) or (n, n_node)

    Raises
    ------
    ValueError
        If there are no values, or some are masked, complex, not finite or not numeric.

    Examples
    --------
    >>> from tvb_jaxfit import DataAxis
    >>> DataAxis([0.1, 0.3, 0.4])
    DataAxis(0.1 .. 0.4, 3 values)
    """

    def __init__(self, values):
        self.data = np.array(real_array(values, "DataAxis: values", finite=True), dtype=float)
        if self.data.ndim == 0 or self.data.size == 0:
            raise ValueError(f"DataAxis: values of shape {self.data.shape}; give n numbers, or (n, n_node) of them.")
        self.n, *shape = self.data.shape
        self.shape = tuple(shape)

    def _numbers(self, path):
        return self.data

    def __repr__(self):
        shape = f" of shape {self.shape}" if math.prod(self.shape) > 1 else ""
        return f"DataAxis({self.data.min():g} .. {self.data.max():g}, {self.n} values{shape})"
