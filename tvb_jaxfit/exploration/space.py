"""What is to be explored: axes in place of values of a state, and the states that they span."""

import copy
import itertools
import math
import operator
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..checks.options import check
from ..parameters import path_name, strip_parameters, with_values
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin, refuse_forked
from ..state import State

# Order of axes by component, as in TVB-Optim's state: coupling, dynamics, external, graph, initial_state, noise.
_COMPONENTS = ("coupling", "model", "stimulus", "connectivity", "initial_conditions", "integrator")


class Axis(PicklableMixin):
    """Values to try in place of one value of the state.

    Attributes
    ----------
    n : int
        Number of values.
    shape : tuple of int
        Shape of each: once the axis is in its place, that of the global value that it stands for.
    """

    n: int
    shape: tuple[int, ...] = ()

    def reshape_like(self, former, n_node=None):
        """Return this axis with values in the shape of what it is put in place of; `State` asks for it."""
        own, theirs = math.prod(self.shape), getattr(former, "shape", ())
        if own > 1:
            return self
        placed = copy.copy(self)
        placed.shape = theirs if math.prod(theirs) == 1 else ()
        return placed

    def values(self, path=""):
        """Values of the axis at a path of the state.

        Parameters
        ----------
        path : str, optional
            Axes that draw at random do so independently at different paths, whatever their seeds.

        Returns
        -------
        ndarray, shape (n, *shape)
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
    n : int

    Raises
    ------
    ValueError
        Where this is no range, or there is no value.

    Examples
    --------
    >>> from tvb_jaxfit import GridAxis
    >>> GridAxis(0.0, 1.0, 5).values()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    def __init__(self, low, high, n):
        name = type(self).__name__
        check(name, n=(n, allowed.integer(1)))
        low, high = (real_array(end, f"{name}: {which}", shape=()) for which, end in {"low": low, "high": high}.items())
        if not (np.isfinite([low, high]).all() and low <= high):
            raise ValueError(f"{name}: {low} to {high} is no range; give two finite numbers, the lower one first.")
        self.low, self.high, self.n = float(low), float(high), int(n)

    def _numbers(self, path):
        return np.linspace(self.low, self.high, self.n)

    def __repr__(self):
        return f"{type(self).__name__}({self.low:g} .. {self.high:g}, {self.n} values)"


@serialisable
class UniformAxis(GridAxis):
    """Values drawn at random, each from the whole range.

    Parameters
    ----------
    low, high : float
    n : int
    seed : int, optional

    Raises
    ------
    ValueError
        Where this is no range, or there is no value.

    Notes
    -----
    One seed draws other values at another path: two axes of a zipped `Space` are independent without further care.
    """

    def __init__(self, low, high, n, seed=0):
        super().__init__(low, high, n)
        check(type(self).__name__, seed=(seed, allowed.integer(0)))
        self.seed = int(seed)

    def _numbers(self, path):
        random = np.random.default_rng([self.seed, zlib.crc32(path.encode())])
        return self.low + (self.high - self.low) * self._drawn(random)

    def _drawn(self, random):
        return random.uniform(size=self.n)


@serialisable
class LatinHypercubeAxis(UniformAxis):
    """Values drawn at random, one from each of ``n`` equal parts of the range, in random order.

    Parameters
    ----------
    low, high : float
    n : int
    seed : int, optional

    Raises
    ------
    ValueError
        Where this is no range, or there is no value.

    Notes
    -----
    Several of them in a `Space` of mode ``"zip"`` make a Latin hypercube: seen along each axis, the points are spread
    evenly. One seed draws another order at another path.

    References
    ----------
    McKay, M. D., Beckman, R. J. and Conover, W. J. (1979). Technometrics 21(2), 239-245.
    """

    def _drawn(self, random):
        return (random.permutation(self.n) + random.uniform(size=self.n)) / self.n


@serialisable
class DataAxis(Axis):
    """Given values: numbers, or regional values, one set of them a point.

    Parameters
    ----------
    values : array_like, shape (n,) or (n, n_node)

    Raises
    ------
    ValueError
        Where there are none, or some are masked, complex, not finite or no numbers.

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
        each = f" of shape {self.shape}" if math.prod(self.shape) > 1 else ""
        return f"DataAxis({self.data.min():g} .. {self.data.max():g}, {self.n} values{each})"


@serialisable
class Space(PicklableMixin):
    """The states that the axes in a state span: a sequence of plain states.

    Parameters
    ----------
    state : State
        With axes in place of values: ``state.model.w = GridAxis(0.0, 1.0, 16)``. Not modified; `Parameter`s in it
        become plain.
    mode : {"product", "zip"}, optional
        Every combination, the last axis fastest; or the first values of all axes, the second ones, and so on.

    Attributes
    ----------
    axes : dict of str to Axis
        By path, in order (see Notes).
    shape : tuple of int
        Number of values along each axis; with ``"zip"``, (n_points,).

    Raises
    ------
    ValueError
        Where the state has no axis, or zipped axes differ in length.

    Notes
    -----
    The order of the axes is TVB-Optim's, whatever the order in which they were assigned: those of the coupling first,
    then of the model, the stimulus, the connectivity, the initial conditions, the noise and the monitors; within each
    by name, capitals first. A grid over ``coupling.a`` (G in TVB-Optim) and ``model.w`` has the shape (n_a, n_w).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit import GridAxis, Space, State
    >>> space = Space(State(x=GridAxis(0.0, 1.0, 2), y=GridAxis(5.0, 7.0, 3), z=jnp.ones(2)))
    >>> space
    Space: 2 x 3 = 6 points
      x: GridAxis(0 .. 1, 2 values)
      y: GridAxis(5 .. 7, 3 values)
    >>> [(float(state.x), float(state.y)) for state in space][:4]
    [(0.0, 5.0), (0.0, 6.0), (0.0, 7.0), (1.0, 5.0)]
    """

    def __init__(self, state, mode="product"):
        refuse_forked("Space")
        check("Space", state=(state, allowed.instance(State)), mode=(mode, allowed.choice("product", "zip")))
        found = jax.tree_util.tree_flatten_with_path(strip_parameters(state))[0]
        axes = {path_name(path): leaf for path, leaf in found if isinstance(leaf, Axis)}
        self.mode, self.axes = mode, {path: axes[path] for path in sorted(axes, key=_place)}
        if not self.axes:
            raise ValueError(
                "Space: no value of the state is an axis. Put one in its place, e.g. "
                "state.model.w = GridAxis(0.0, 1.0, 16)."
            )
        lengths = {path: axis.n for path, axis in self.axes.items()}
        if mode == "zip" and len(set(lengths.values())) > 1:
            told = ", ".join(f"{path}: {n}" for path, n in lengths.items())
            raise ValueError(
                f"Space: axes of different lengths do not zip ({told}). Give equal ones, or mode='product'."
            )
        self.shape = tuple(lengths.values()) if mode == "product" else (next(iter(lengths.values())),)
        of_axes = np.indices(self.shape).reshape(len(self.shape), -1)
        of_axes = of_axes if mode == "product" else itertools.repeat(of_axes[0])
        # Drawn once: what is collected later is what was run.
        self._values = {
            path: axis.values(path)[index] for (path, axis), index in zip(self.axes.items(), of_axes, strict=False)
        }
        self._rest = with_values(strip_parameters(state), self.values(0))

    def values(self, index):
        """What the axes put into the state at some points.

        Parameters
        ----------
        index : int, slice or array of int
            Number of a point, or numbers of several.

        Returns
        -------
        dict of str to Array
            By path, points in front where several are asked for; in JAX's default float type.
        """
        dtype = jnp.result_type(float)
        return {path: jnp.asarray(values[index], dtype) for path, values in self._values.items()}

    def point(self, index):
        """Values of the axes at a point.

        Parameters
        ----------
        index : int or tuple of int
            As for ``space[index]``, which takes a slice, too.

        Returns
        -------
        dict of str to float or ndarray
            By path; an array where the value is regional.
        """
        values = {path: of_path[self.number(index)] for path, of_path in self.collect().items()}
        return {path: float(value) if np.ndim(value) == 0 else value for path, value in values.items()}

    def collect(self):
        """Values of the axes at every point.

        Returns
        -------
        Points
            A dict by path, ``points["model.w"]``, whose values are attributes, too, ``points.model.w``: ndarrays of
            shape (n_points,) for global values, (n_points, n_node) for regional ones.
        """
        return Points({path: _narrow(values) for path, values in self._values.items()}, self._rest)

    def to_pandas(self):
        """Values of the axes as a table, one row a point; a regional value has one column a region.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas

        columns = {}
        for path, values in self.collect().items():
            if values.ndim == 1:
                columns[path] = values
            else:
                columns |= {f"{path}[{i}]": column for i, column in enumerate(values.reshape(len(self), -1).T)}
        return pandas.DataFrame(columns)

    def __len__(self):
        return math.prod(self.shape)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return with_values(self._rest, self.values(self.number(index)))

    def number(self, index):
        """Number of a point, counted from 0.

        Parameters
        ----------
        index : int or tuple of int
            Its number, from the end where negative, or its place along each axis.

        Returns
        -------
        int

        Raises
        ------
        TypeError, IndexError
            Where it is none of these, or there is no such point.
        """
        try:
            if not isinstance(index, tuple):
                return range(len(self))[operator.index(index)]
            places = [range(n)[operator.index(i)] for n, i in zip(self.shape, index, strict=True)]
        except (TypeError, ValueError):
            raise TypeError(f"Space: index {index!r}; give the number of a point, or one index an axis.") from None
        except IndexError:
            raise IndexError(f"Space: no point {index}; there are {self._counted()}.") from None
        return int(np.ravel_multi_index(places, self.shape))

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def _counted(self):
        return " x ".join(map(str, self.shape)) + (f" = {len(self)}" if len(self.shape) > 1 else "") + " points"

    def __repr__(self):
        axes = "".join(f"\n  {path}: {axis!r}" for path, axis in self.axes.items())
        return f"Space: {self._counted()}{axes}"


class Points(dict):
    """Values of axes at every point of a space, by path, and as attributes: ``points["model.w"]``, ``points.model.w``.

    Attributes of what is not explored are the state's own values.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit import GridAxis, Space, State
    >>> state = State(model=State(w=jnp.asarray(0.5), I_o=jnp.asarray(0.3)))
    >>> state.model.w = GridAxis(0.0, 1.0, 3)
    >>> points = Space(state).collect()
    >>> points
    Points: model.w (3,)
    >>> print(points["model.w"], points.model.w, points.model.I_o)
    [0.  0.5 1. ] [0.  0.5 1. ] 0.3
    """

    def __init__(self, values, state):
        super().__init__(values)
        self._state = with_values(state, values)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._state, name)

    def __reduce__(self):
        return type(self), (dict(self), self._state)

    def __repr__(self):
        return "Points: " + ", ".join(f"{path} {values.shape}" for path, values in self.items())


def _place(path):
    """Place of a path in the order of axes."""
    component = re.match(r"\w*", path)[0]
    return (_COMPONENTS.index(component) if component in _COMPONENTS else len(_COMPONENTS), path)


def _narrow(values):
    """(n, 1) as (n,)."""
    return values.reshape(len(values)) if values.size == len(values) else values
