"""Stimulus on regions: a weight for each, times a temporal equation; several of them added up; or TVB's own values."""

import jax
import jax.numpy as jnp
import numpy as np
from tvb.datatypes.patterns import StimuliRegion

from ..errors import UnsupportedComponent
from . import equation
from .leaves import Leaf
from .subclass import kind_of, unsupported

_PATH = "Simulator.stimulus"


def refusals(sim):
    """Reasons why the stimulus of a simulator is not translated, as far as they show before configure()."""
    stimulus = sim.stimulus
    if stimulus is None:
        return
    if kind_of(stimulus, (StimuliRegion,)) is None:
        why = unsupported(stimulus, (StimuliRegion,))
        yield f"{_PATH}: {why}. Use StimuliRegion, or set sim.stimulus = None."
        return
    n_node = np.shape(sim.connectivity.weights)[0]
    weight = getattr(stimulus, "weight", None)
    if weight is None:
        yield f"{_PATH}.weight: none; give an array of shape ({n_node},), one weight for each region."
    elif np.shape(weight) != (n_node,):
        yield f"{_PATH}.weight: shape {np.shape(weight)}; give ({n_node},), one weight for each region."
    elif not np.all(np.isfinite(weight)):
        yield f"{_PATH}.weight: {np.sum(~np.isfinite(weight))} are not finite. Give finite ones."
    for name in ("temporal", "spatial"):
        part = getattr(stimulus, name, None)
        if part is None:
            yield f"{_PATH}.{name}: none; give an equation of tvb.datatypes.equations."
        else:
            yield from equation.refusals(part, f"{_PATH}.{name}")


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    stimulus = sim.stimulus
    if stimulus is None:
        return
    n_steps = int(np.ceil(sim.simulation_length / sim.integrator.dt))
    _, reasons = _in_time(sim, n_steps)
    yield from reasons
    column = stimulus.weight_array
    yield from equation.disagreement(stimulus.spatial, column, f"{_PATH}.spatial")


def _times(n_steps, dt):
    """TVB's times of the stimulus [ms], from 0 at each call, whatever ran before: a row."""
    return (np.arange(n_steps) * dt)[None]


def _in_time(sim, n_steps):
    """TVB's own temporal pattern at each step of a run, and reasons why the translation's is another one."""
    temporal, path = sim.stimulus.temporal, f"{_PATH}.temporal"
    time = _times(n_steps, sim.integrator.dt)
    theirs, reasons = equation.of_tvb(temporal, time, path)
    if not reasons and theirs.size < n_steps:
        what = f"{type(temporal).__name__} gives {theirs.size} values for {n_steps} times, with which TVB fails"
        reasons = [f"{path}: {what}. Give one value for each time."]
    if reasons:
        return None, reasons
    theirs = theirs.reshape(-1)[:n_steps]
    if _obstacle(sim) is None:
        translated, values = _along(temporal, time), equation.values(temporal)
        reasons = equation.difference(temporal, theirs, path, translated, values)
    return theirs, reasons


def _along(temporal, time):
    """Parameters to the temporal pattern at some times."""
    evaluate = equation.translate(temporal)
    return lambda parameters: jnp.reshape(evaluate(equation.as_held(temporal, parameters), time), -1)[: time.size]


def _obstacle(sim):
    """Why the temporal equation is not followed, so that its parameters are constants; None where it is."""
    return equation.obstacle(sim.stimulus.temporal, _times(8, sim.integrator.dt))


def warn_of_constants(sim):
    """Warn where parameters of a stimulus are constants of the translation."""
    if sim.stimulus is None:
        return
    error = _obstacle(sim)
    if error is not None:
        name = type(sim.stimulus.temporal).__name__
        equation.warn_of_constants(f"{_PATH}.temporal", f"{name} is taken as TVB evaluates it ({error})")
    for part in ("temporal", "spatial"):
        for name in equation.unnamed(getattr(sim.stimulus, part)):
            equation.warn_of_constants(f"{_PATH}.{part}.parameters[{name!r}]", "no attribute of a state has this name")


def leaves(sim):
    """Table of the stimulus's parameters."""
    if sim.stimulus is None:
        return []
    table = [Leaf("stimulus.weight", lambda sim: sim.stimulus, "weight")]
    if _obstacle(sim) is None:
        table += equation.leaves("stimulus.temporal", lambda sim: sim.stimulus.temporal, sim)
    return [*table, *equation.leaves("stimulus.spatial", lambda sim: sim.stimulus.spatial, sim)]


def names(sim):
    """Parameters of both equations: {"temporal": ..., "spatial": ...}."""
    temporal = equation.names(sim.stimulus.temporal) if _obstacle(sim) is None else ()
    return {"temporal": temporal, "spatial": equation.names(sim.stimulus.spatial)}


def translate(sim, length, n_steps):
    """Function from the stimulus's node of the state to what enters at each step, (n_steps, 1, n_node, 1).

    With the parameters of the simulator itself, the temporal pattern is TVB's own to the bit, in single precision, too:
    time in double precision decides at which step a pulse begins.

    Raises
    ------
    UnsupportedComponent
        Where the translation differs from TVB within this length.
    """
    stimulus = sim.stimulus
    theirs, reasons = _in_time(sim, n_steps)
    if reasons:
        raise UnsupportedComponent(reasons)
    own, began = names(sim), equation.values(stimulus.temporal)
    spatial = equation.translate(stimulus.spatial)
    temporal = _along(stimulus.temporal, _times(n_steps, float(sim.integrator.dt))) if own["temporal"] else None

    def gather(node, part):
        values = {name: getattr(getattr(node, part), name) for name in own[part]}
        return equation.as_held(getattr(stimulus, part), values)

    def drive(node):
        dtype = node.weight.dtype
        in_time = jnp.asarray(theirs, dtype)
        if temporal is not None:
            parameters = gather(node, "temporal")
            same = [jnp.all(value == jnp.asarray(began[name], dtype)) for name, value in parameters.items()]
            in_time = _as_tvbs(temporal(parameters).astype(dtype), in_time, jnp.all(jnp.stack(same)))
        column = node.weight[:, None]
        in_space = jnp.sum(jnp.broadcast_to(spatial(gather(node, "spatial"), column), column.shape), axis=1)
        return (in_time[:, None] * in_space[None])[:, None, :, None]

    return drive


def _as_tvbs(ours, theirs, same):
    """TVB's values where the parameters are TVB's, with the derivatives of the translation."""
    return ours + jax.lax.stop_gradient(jnp.where(same, theirs - ours, 0.0))
