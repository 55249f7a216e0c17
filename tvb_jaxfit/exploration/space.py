"""Parameter space: the states that the axes in a state span."""

import itertools
import math
import operator
import re
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..dependents import strip_free_parameters
from ..parameters import path_name, strip_parameters, with_values
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin, refuse_forked
from ..state import State
from .axes import Axis

if TYPE_CHECKING:
    import pandas

# Order of axes by component, as in TVB-Optim's state: coupling, dynamics, external, graph, initial_state, noise.
_COMPONENTS = ("coupling", "model", "stimulus", "connectivity", "initial_conditions", "integrator")


@serialisable
class Space(PicklableMixin):
    """Sequence of the states that the axes in a state span.

    Parameters
    ----------
    state : State
        With axes in place of values: ``state.model.w = GridAxis(0.0, 1.0, 16)``. Not modified. Every `Parameter` in it
        becomes a plain array.
    mode : {"product", "zip"}, optional
        ``"product"``: every combination of values, the last axis fastest. ``"zip"``: the first values of all axes, the
        second values of all axes, and so on.

    Attributes
    ----------
    axes : dict of str to Axis
        Axes by path, in order (see Notes).
    shape : tuple of int
        Number of values along each axis; (n_points,) for ``"zip"``.
    template : State
        First point of the space, before dependent parameters are worked out.

    Raises
    ------
    ValueError
        If the state has no axis, or zipped axes differ in length.

    Notes
    -----
    The order of the axes is TVB-Optim's, whatever the order of assignment: coupling, model, stimulus, connectivity,
    initial conditions, noise, monitors; within each by name, capitals first. A grid over ``coupling.a`` (G in
    TVB-Optim) and ``model.w`` has the shape (n_a, n_w).

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

    def __init__(self, state: State, mode: str = "product"):
        refuse_forked("Space")
        check("Space", state=(state, allowed.instance(State)), mode=(mode, allowed.choice("product", "zip")))
        self.mode, self.axes = mode, _axes_of(state)
        lengths = [axis.n for axis in self.axes.values()]
        self.shape = tuple(lengths) if mode == "product" else (lengths[0],)
        if mode == "zip" and len(set(lengths)) > 1:
            listed = ", ".join(f"{path}: {axis.n}" for path, axis in self.axes.items())
            raise ValueError(
                f"Space: axes of different lengths do not zip ({listed}). Give equal ones, or mode='product'."
            )
        indices = np.indices(self.shape).reshape(len(self.shape), -1)
        indices = indices if mode == "product" else itertools.repeat(indices[0])
        # Random values are drawn once, so that `collect` later returns the values that were run.
        self._values = {
            path: axis.values(path)[index] for (path, axis), index in zip(self.axes.items(), indices, strict=False)
        }
        self.template = with_values(strip_free_parameters(state), self.values(0))

    def values(self, index) -> dict[str, jax.Array]:
        """Values that the axes put into the state at some points.

        Parameters
        ----------
        index : int, slice or array of int
            Number of a point, or numbers of several points.

        Returns
        -------
        dict of str to Array
            By path, in JAX's default float type; for several points with a leading axis of points.
        """
        dtype = jnp.result_type(float)
        return {path: jnp.asarray(values, dtype) for path, values in self.numbers(index).items()}

    def numbers(self, index) -> dict[str, np.ndarray]:
        """Values that the axes put into the state at some points, as NumPy arrays of 64 bits.

        Parameters
        ----------
        index : int, slice or array of int
            As for `values`.

        Returns
        -------
        dict of str to ndarray
            By path; for several points with a leading axis of points.
        """
        return {path: values[index] for path, values in self._values.items()}

    def point(self, index) -> dict[str, float | np.ndarray]:
        """Values of the axes at a point.

        Parameters
        ----------
        index : int or tuple of int
            As in ``space[index]``, but no slice.

        Returns
        -------
        dict of str to float or ndarray
            By path; an array for regional values.
        """
        values = self.numbers(self.flat_index(index))
        return {path: value.item() if np.size(value) == 1 else value for path, value in values.items()}

    def collect(self) -> "Points":
        """Values of the axes at every point.

        Returns
        -------
        Points
            A dict by path, ``points["model.w"]``, whose values are attributes too, ``points.model.w``: ndarrays of
            shape (n_points,) for global values, (n_points, n_node) for regional values.
        """
        return Points(
            {path: _squeeze_single(values) for path, values in self._values.items()}, strip_parameters(self.template)
        )

    def to_pandas(self) -> "pandas.DataFrame":
        """Values of the axes as a table: one row per point, one column per global value or region.

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
        return strip_parameters(with_values(self.template, self.values(self.flat_index(index))))

    def flat_index(self, index) -> int:
        """Number of a point, counted from 0.

        Parameters
        ----------
        index : int or tuple of int
            Number of the point (negative: from the end), or its index along each axis.

        Returns
        -------
        int

        Raises
        ------
        TypeError
            If the index is of another kind.
        IndexError
            If there is no such point.
        """
        try:
            if not isinstance(index, tuple):
                return range(len(self))[operator.index(index)]
            places = [range(n)[operator.index(i)] for n, i in zip(self.shape, index, strict=True)]
        except (TypeError, ValueError):
            raise TypeError(f"Space: index {index!r}; give the number of a point, or one index an axis.") from None
        except IndexError:
            raise IndexError(f"Space: no point {index}; there are {self._size_text()}.") from None
        return int(np.ravel_multi_index(places, self.shape))

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def _size_text(self):
        return " x ".join(map(str, self.shape)) + (f" = {len(self)}" if len(self.shape) > 1 else "") + " points"

    def __repr__(self):
        axes = "".join(f"\n  {path}: {axis!r}" for path, axis in self.axes.items())
        return f"Space: {self._size_text()}{axes}"


class Points(dict):
    """Values of axes at every point of a space, by path and as attributes: ``points["model.w"]``, ``points.model.w``.

    Attributes that are not explored have the state's own values.

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

    def __init__(self, values: dict[str, np.ndarray], state: State):
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


def _axes_of(state):
    """Axes of a state by path, in order."""
    leaves = jax.tree_util.tree_flatten_with_path(strip_free_parameters(state))[0]
    axes = {path_name(path): leaf for path, leaf in leaves if isinstance(leaf, Axis)}
    if not axes:
        raise ValueError(
            "Space: no value of the state is an axis. Put one in its place, e.g. "
            "state.model.w = GridAxis(0.0, 1.0, 16)."
        )
    return {path: axes[path] for path in sorted(axes, key=_axis_rank)}


def _axis_rank(path):
    """Sort key of a path in the order of axes."""
    component = re.match(r"\w*", path)[0]
    return (_COMPONENTS.index(component) if component in _COMPONENTS else len(_COMPONENTS), path)


def _squeeze_single(values):
    """Array of shape (n, 1) as (n,)."""
    return values.reshape(len(values)) if values.size == len(values) else values
