"""Stimulus on regions: a weight for each, times a temporal equation; several of them added up; or TVB's own values."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from tvb.datatypes.patterns import StimuliRegion

from ...errors import UnsupportedComponent
from ...state import State, get_path
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base, unsupported_reason
from . import equation
from . import summed_stimuli as summed

_PATH = "Simulator.stimulus"


@dataclass(frozen=True)
class _Part:
    """One of TVB's stimuli on regions: its path in the state, and a function from the simulator to it."""

    path: str
    get: Callable


def _is_region(stimulus):
    """Whether a stimulus is TVB's on regions."""
    return supported_base(stimulus, (StimuliRegion,)) is not None


def _parts(sim):
    """The stimulus itself, or those that it adds up; none where the state shows nothing of it."""
    if sim.stimulus is None:
        return []
    if _is_region(sim.stimulus):
        return [_Part("stimulus", lambda sim: sim.stimulus)]
    held = summed.parts(sim.stimulus)
    time = _times(_n_steps(sim), sim.integrator.dt)
    if not all(map(_is_region, held.values())) or not summed.adds_up(sim.stimulus, time, _n_node(sim)):
        return []
    return [_Part(f"stimulus.{path}", partial(_held, path)) for path in held]


def _held(path, sim):
    return summed.parts(sim.stimulus)[path]


def _n_node(sim):
    return np.shape(sim.connectivity.weights)[0]


def _n_steps(sim):
    return int(np.ceil(sim.simulation_length / sim.integrator.dt))


def refusals(sim):
    """Reasons why the stimulus of a simulator is not translated, as far as they show before configure()."""
    stimulus = sim.stimulus
    if stimulus is None:
        return
    if _is_region(stimulus):
        yield from _refusals_of_region(stimulus, _PATH, _n_node(sim))
        return
    held = summed.parts(stimulus)
    if not held:
        why = unsupported_reason(stimulus, (StimuliRegion,))
        yield f"{_PATH}: {why}. Use StimuliRegion, or set sim.stimulus = None."
    for path, part in held.items():
        if _is_region(part):
            yield from _refusals_of_region(part, f"{_PATH}.{path}", _n_node(sim))


def _refusals_of_region(stimulus, path, n_node):
    weight = getattr(stimulus, "weight", None)
    if weight is None:
        yield f"{path}.weight: none; give an array of shape ({n_node},), one weight for each region."
    elif np.shape(weight) != (n_node,):
        yield f"{path}.weight: shape {np.shape(weight)}; give ({n_node},), one weight for each region."
    elif not np.all(np.isfinite(weight)):
        yield f"{path}.weight: {np.sum(~np.isfinite(weight))} are not finite. Give finite ones."
    for name in ("temporal", "spatial"):
        part = getattr(stimulus, name, None)
        if part is None:
            yield f"{path}.{name}: none; give an equation of tvb.datatypes.equations."
        else:
            yield from equation.refusals(part, f"{path}.{name}")


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    if sim.stimulus is None:
        return
    try:
        parts = _parts(sim)
    except Exception as error:
        name = type(sim.stimulus).__name__
        yield f"{_PATH}: TVB's own evaluation of {name} fails: {type(error).__name__}: {error}. Use StimuliRegion."
        return
    for part in parts:
        stimulus, path = part.get(sim), f"Simulator.{part.path}"
        _, reasons = _in_time(stimulus, path, _n_steps(sim), sim.integrator.dt)
        yield from reasons
        column = stimulus.weight_array
        yield from equation.mismatches(stimulus.spatial, column, f"{path}.spatial")


def _times(n_steps, dt):
    """TVB's times of the stimulus [ms], from 0 at each call, whatever ran before: a row."""
    return (np.arange(n_steps) * dt)[None]


def _in_time(stimulus, path, n_steps, dt):
    """TVB's own temporal pattern at each step of a run, and reasons why the translation's is another one."""
    temporal, path, time = stimulus.temporal, f"{path}.temporal", _times(n_steps, dt)
    theirs, reasons = equation.reference_values(temporal, time, path)
    if not reasons and theirs.size < n_steps:
        what = f"{type(temporal).__name__} gives {theirs.size} values for {n_steps} times, with which TVB fails"
        reasons = [f"{path}: {what}. Give one value for each time."]
    if reasons:
        return None, reasons
    theirs = theirs.reshape(-1)[:n_steps]
    if _obstacle(stimulus, dt) is None:
        translated, values = _along(temporal, time), equation.parameter_values(temporal)
        reasons = equation.mismatches_with(temporal, theirs, path, translated, values)
    return theirs, reasons


def _along(temporal, time):
    """Parameters to the temporal pattern at some times."""
    evaluate = equation.translate(temporal)

    def along(parameters):
        pattern = jnp.asarray(evaluate(equation.in_tvb_shapes(temporal, parameters), time))
        return jnp.reshape(pattern, -1)[: time.size].astype(jnp.result_type(float))

    return along


def _obstacle(stimulus, dt):
    """Why a temporal equation is not followed, so that its parameters are constants; None where it is."""
    return equation.tracing_error(stimulus.temporal, _times(8, dt))


def warn_of_constants(sim):
    """Warn where parameters of a stimulus are constants of the translation."""
    parts = _parts(sim)
    if sim.stimulus is not None and not parts:
        equation.warn_frozen(
            _PATH,
            f"{type(sim.stimulus).__name__} is no sum of the stimuli that its attributes hold",
            "To fit their parameters, add them up, in attributes whose names do not begin with _.",
        )
    for part in parts:
        stimulus, path = part.get(sim), f"Simulator.{part.path}"
        error = _obstacle(stimulus, sim.integrator.dt)
        if error is not None:
            equation.warn_untraceable(f"{path}.temporal", stimulus.temporal, error)
        for kind in ("temporal", "spatial"):
            for name in equation.hidden_parameters(getattr(stimulus, kind)):
                equation.warn_hidden(f"{path}.{kind}", name)


def leaves(sim):
    """Table of the stimulus's parameters."""
    table = []
    for part in _parts(sim):
        path, get = part.path, part.get
        table.append(MappedParameter(f"{path}.weight", get, "weight"))
        if _obstacle(get(sim), sim.integrator.dt) is None:
            table += equation.mapped_parameters(f"{path}.temporal", lambda sim, get=get: get(sim).temporal, sim)
        table += equation.mapped_parameters(f"{path}.spatial", lambda sim, get=get: get(sim).spatial, sim)
    return table


def node(sim):
    """The stimulus's node of the state, without values; the parts of one attribute are a list."""
    nodes, children = [], {}
    for part in _parts(sim):
        own = _names(part.get(sim), sim.integrator.dt)
        nodes.append(State(weight=None, **{kind: State(**dict.fromkeys(names)) for kind, names in own.items()}))
        name, _, is_item = part.path.partition(".")[2].partition("[")
        if is_item:
            children.setdefault(name, []).append(nodes[-1])
        else:
            children[name] = nodes[-1]
    return nodes[0] if _is_region(sim.stimulus) else State(**children)


def _names(stimulus, dt):
    """Parameters of both equations: {"temporal": ..., "spatial": ...}."""
    temporal = equation.parameter_names(stimulus.temporal) if _obstacle(stimulus, dt) is None else ()
    return {"temporal": temporal, "spatial": equation.parameter_names(stimulus.spatial)}


def translate(sim, n_steps):
    """Function from the stimulus's node of the state to what enters at each step, (n_steps, 1, n_node, 1).

    Raises
    ------
    UnsupportedComponent
        Where the translation differs from TVB within this number of steps.
    """
    parts, dt = _parts(sim), float(sim.integrator.dt)
    drives = [(part.path, _drive(part.get(sim), f"Simulator.{part.path}", n_steps, dt)) for part in parts]
    if not _is_region(sim.stimulus):
        time, every = _times(n_steps, dt), range(n_steps)
        if not parts:
            constant = summed.pattern(sim.stimulus, time, _n_node(sim), every)[:, None, :, None]
            return lambda node: jnp.asarray(constant, jnp.result_type(float))
        if not summed.adds_up(sim.stimulus, time, _n_node(sim), every):
            raise UnsupportedComponent(
                [f"{_PATH}: {type(sim.stimulus).__name__} is not the sum of its parts throughout. Use StimuliRegion."]
            )
    return lambda node: sum(drive(get_path(State(stimulus=node), path)) for path, drive in drives)


def _drive(stimulus, path, n_steps, dt):
    """Function from the node of one stimulus to what enters at each step.

    With the parameters of the simulator itself, the temporal pattern is TVB's own to the bit, in single precision, too:
    time in double precision decides at which step a pulse begins.
    """
    theirs, reasons = _in_time(stimulus, path, n_steps, dt)
    if reasons:
        raise UnsupportedComponent(reasons)
    own = _names(stimulus, dt)
    spatial = equation.translate(stimulus.spatial)
    temporal = _as_tvbs(
        _along(stimulus.temporal, _times(n_steps, dt)), theirs, equation.parameter_values(stimulus.temporal)
    )

    def gather(node, kind):
        values = {name: getattr(getattr(node, kind), name) for name in own[kind]}
        return equation.in_tvb_shapes(getattr(stimulus, kind), values)

    def drive(node):
        dtype = node.weight.dtype
        in_time = temporal(gather(node, "temporal")) if own["temporal"] else jnp.asarray(theirs)
        column = jnp.reshape(node.weight, (-1, 1))
        in_space = jnp.sum(jnp.broadcast_to(spatial(gather(node, "spatial"), column), column.shape), axis=1)
        return (in_time.astype(dtype)[:, None] * in_space[None])[:, None, :, None]

    return drive


def _as_tvbs(ours, theirs, began):
    """A function of a few parameters, with TVB's values where these are TVB's, and the slopes of the function.

    Slopes are worked out forwards: where TVB's ``where`` does not choose a value that overflows, as in Alpha before its
    onset, autodiff backwards would give 0 times infinity.
    """

    @jax.custom_jvp
    def chosen(parameters):
        value = ours(parameters)
        same = [jnp.all(now == jnp.asarray(began[name], now.dtype)) for name, now in parameters.items()]
        return jnp.where(jnp.all(jnp.stack(same)), jnp.asarray(theirs, value.dtype), value)

    def moved(primals, tangents):
        (parameters,), (moves,) = primals, tangents
        value = chosen(parameters)
        moves = {name: move for name, move in moves.items() if not isinstance(move, SymbolicZero)}
        slopes = jax.jacfwd(lambda some: ours(parameters | some))({name: parameters[name] for name in moves})
        parts = [jnp.tensordot(slopes[name], move, axes=move.ndim) for name, move in moves.items()]
        return value, sum(parts, start=jnp.zeros_like(value))

    chosen.defjvp(moved, symbolic_zeros=True)
    return chosen
