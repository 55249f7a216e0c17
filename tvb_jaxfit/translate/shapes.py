"""Shapes of a state's arrays, as the translation of a simulator takes them."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from ..dynamics.buffers import shape_matches
from ..parameters import path_name
from ..state import State, get_path
from .mapped_parameter import is_allowed_shape, shape_problem


def array_paths(state: State) -> list[str]:
    """Paths of all arrays of a state."""
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]


@dataclass(frozen=True)
class Shapes:
    """Shapes that a simulator takes, by path; those of monitors are checked by the monitors themselves.

    Attributes
    ----------
    parameters : dict of str to tuple
        Allowed shapes of each parameter; (1,) stands for one value in any shape.
    position : dict of str to tuple
        Shape of each other array; None stands for any length.
    """

    parameters: dict
    position: dict

    def check_parameters(self, state: State) -> None:
        """Raise ValueError if a parameter is missing, has another shape, or has no place in the simulator."""
        found = _present(state, self.parameters)
        problems = [
            shape_problem(f"State.{path}", np.shape(value), self.parameters[path])
            for path, value in found.items()
            if not is_allowed_shape(np.shape(value), self.parameters[path])
        ]
        for path in array_paths(state):
            if not (path.startswith("monitors[") or path in self.parameters or path in self.position):
                problems.append(f"State.{path}: this simulator has no place for it")
        _refuse(_missing(self.parameters, found) + problems)

    def check_position(self, state: State) -> None:
        """Raise ValueError if the history or the noise has another shape."""
        _refuse(list(shape_problems(self.position, state)))


def shape_problems(shapes: dict, state: State) -> Iterator[str]:
    """Problems of a state's arrays that are no parameters: missing, or of another shape.

    Parameters
    ----------
    shapes : dict of str to tuple
        Shape of each array, by path; None stands for any length.
    state : State
    """
    found = _present(state, shapes)
    yield from _missing(shapes, found)
    for path, value in found.items():
        shape, expected = np.shape(value), shapes[path]
        if shape_matches(shape, expected):
            continue
        if path.endswith(".draws") and shape[1:] == expected[1:]:
            yield f"State.{path}: {shape[0]} steps of noise for {expected[0]} steps of simulation"
        else:
            yield f"State.{path}: shape {shape}, where this simulator has {str(expected).replace('None', 'any')}"


def _present(state, paths):
    """Values of a state by path, of those that it has."""
    found = {}
    for path in paths:
        try:
            found[path] = get_path(state, path)
        except AttributeError:
            continue
    return {path: value for path, value in found.items() if value is not None}


def _missing(paths, found):
    return [f"State.{path}: missing" for path in paths if path not in found]


def _refuse(problems):
    if problems:
        raise ValueError(". ".join(problems) + ". Use the state that came with this simulate.")
