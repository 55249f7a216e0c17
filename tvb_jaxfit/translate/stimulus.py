"""Stimulus on regions: a weight for each, times a temporal equation."""

import jax.numpy as jnp
import numpy as np
from tvb.datatypes.patterns import StimuliRegion

from . import equation
from .leaves import Leaf

_PATH = "Simulator.stimulus"


def refusals(sim):
    """Reasons why the stimulus of a simulator is not translated, as far as they show before configure()."""
    stimulus = sim.stimulus
    if stimulus is None:
        return
    if type(stimulus) is not StimuliRegion:
        yield f"{_PATH}: {type(stimulus).__name__} is not supported. Use StimuliRegion, or set sim.stimulus = None."
        return
    n_node = np.shape(sim.connectivity.weights)[0]
    weight = np.asarray(stimulus.weight)
    if weight.shape != (n_node,):
        yield f"{_PATH}.weight: shape {weight.shape}; give ({n_node},), one weight for each region."
    elif not np.all(np.isfinite(weight)):
        yield f"{_PATH}.weight: {np.sum(~np.isfinite(weight))} are not finite. Give finite ones."
    for name in ("temporal", "spatial"):
        part = getattr(stimulus, name)
        if part is None:
            yield f"{_PATH}.{name}: none; give an equation."
        else:
            yield from equation.refusals(part, f"{_PATH}.{name}")


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    stimulus = sim.stimulus
    if stimulus is None:
        return
    time = _time(sim, sim.simulation_length)
    yield from equation.disagreement(stimulus.temporal, time, f"{_PATH}.temporal")
    column = stimulus.weight_array
    yield from equation.disagreement(stimulus.spatial, column, f"{_PATH}.spatial")
    steps = int(np.ceil(sim.simulation_length / sim.integrator.dt))
    if time.size < steps:
        yield (
            f"{_PATH}: TVB lays out {time.size} times for {steps} steps and fails. Take a simulation_length that is a "
            "multiple of dt."
        )


def _time(sim, length):
    """TVB's times of the stimulus [ms], from 0 at each call, whatever ran before."""
    return np.r_[0.0 : length : sim.integrator.dt]


def leaves(sim):
    """Table of the stimulus's parameters."""
    if sim.stimulus is None:
        return []
    return [
        Leaf("stimulus.weight", lambda sim: sim.stimulus, "weight"),
        *equation.leaves("stimulus.temporal", lambda sim: sim.stimulus.temporal, sim),
        *equation.leaves("stimulus.spatial", lambda sim: sim.stimulus.spatial, sim),
    ]


def names(sim):
    """Parameters of both equations: {"temporal": ..., "spatial": ...}."""
    return {part: equation.names(getattr(sim.stimulus, part)) for part in ("temporal", "spatial")}


def translate(sim, length, n_steps):
    """Function from the stimulus's node of the state to what enters at each step, (n_steps, 1, n_node, 1)."""
    stimulus = sim.stimulus
    time = _time(sim, length)[:n_steps]
    temporal, spatial = equation.translate(stimulus.temporal), equation.translate(stimulus.spatial)
    own = names(sim)

    def gather(node, part):
        return {name: jnp.reshape(getattr(getattr(node, part), name), ()) for name in own[part]}

    def drive(node):
        dtype = node.weight.dtype
        in_time = jnp.broadcast_to(temporal(gather(node, "temporal"), jnp.asarray(time, dtype)), time.shape)
        column = node.weight[:, None]
        in_space = jnp.sum(jnp.broadcast_to(spatial(gather(node, "spatial"), column), column.shape), axis=1)
        return (in_time[:, None] * in_space[None])[:, None, :, None]

    return drive
