"""Shapes of a state's arrays, as the translation of a simulator takes them."""

import re
from dataclasses import dataclass

import jax
import numpy as np

from ..dynamics.buffers import shape_matches
from ..parameters import path_name
from ..state import get_path
from .mapped_parameter import is_allowed_shape, shape_problem

# Where a run starts, and its noise: what of a state is no parameter.
_POSITION = re.compile(
    r"initial_conditions|integrator\.noise\.(draws|eta)|monitors\[\d+\]\.(stock|interim_stock|obsnoise\.(draws|eta))"
)


def is_position(path):
    """Whether a path of a state is no parameter, but where a run starts or what its noise is."""
    return _POSITION.fullmatch(path) is not None


def array_paths(state):
    """Paths of all arrays of a state."""
    return [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]


@dataclass(frozen=True)
class Shapes:
    """Shapes that a simulator takes, by path; those of its monitors they know themselves.

    Attributes
    ----------
    parameters : dict of str to tuple
        Shapes of each parameter; (1,) stands for one value in any shape.
    samples : dict of str to tuple of int
        Of the history (None: of any length) and of the integrator's noise.
    """

    parameters: dict
    samples: dict

    def check_parameters(self, state):
        """Raise ValueError where a parameter is missing, has another shape, or has no place in the simulator."""
        found = _present(state, self.parameters)
        problems = [
            shape_problem(f"State.{path}", np.shape(value), self.parameters[path])
            for path, value in found.items()
            if not is_allowed_shape(np.shape(value), self.parameters[path])
        ]
        for path in array_paths(state):
            if not (path.startswith("monitors[") or path in self.parameters or path in self.samples):
                problems.append(f"State.{path}: this simulator has no place for it")
        _refuse(_missing(self.parameters, found) + problems)

    def check_samples(self, state):
        """Raise ValueError where a sample of the history, or the noise, has another shape."""
        _refuse(list(sample_problems(self.samples, state)))


def sample_problems(samples, state):
    """What is wrong with the samples of a state."""
    found = _present(state, samples)
    yield from _missing(samples, found)
    for path, value in found.items():
        shape, expected = np.shape(value), samples[path]
        if shape_matches(shape, expected):
            continue
        if path.endswith(".draws") and shape[1:] == expected[1:]:
            yield f"State.{path}: {shape[0]} steps of noise for {expected[0]} steps of simulation"
        else:
            yield f"State.{path}: shape {shape}, where this simulator has {str(expected).replace('None', 'any')}"


def _present(state, paths):
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


def shapes_of(sim, table, n_steps):
    """Shapes that a configured simulator takes.

    Parameters
    ----------
    sim : Simulator
    table : list of MappedParameter
    n_steps : int or None
        None allows noise of any length.

    Returns
    -------
    Shapes
    """
    n_var, *per_node = np.shape(sim.current_state)
    samples = {"initial_conditions": (None, n_var, *per_node)}
    noise = getattr(sim.integrator, "noise", None)
    if noise is not None:
        integrated = (int(sim.model.nintvar), *per_node)
        samples["integrator.noise.draws"] = (n_steps, *integrated)
        if noise.ntau > 0.0:
            samples["integrator.noise.eta"] = integrated
    own = [leaf for leaf in table if not leaf.path.startswith("monitors[")]
    return Shapes({leaf.path: leaf.allowed_shapes(sim) for leaf in own}, samples)
