"""Stimulus on regions: a weight for each, times a temporal equation; a sum of several; or TVB's own values."""

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
from . import contract, equation, summed_stimuli

NAME, POSITION = "stimulus", ""
position_problems = contract.no_position_problems
restore = contract.nothing_to_restore
unconfigure = contract.nothing_to_unconfigure
rederive = contract.nothing_to_rederive

_PATH = "Simulator.stimulus"


def handles(sim):
    """Handle a simulator with a stimulus."""
    return sim.stimulus is not None


@dataclass(frozen=True)
class _Term:
    """One of TVB's stimuli on regions: its path in the state, and a function from the simulator to it."""

    path: str
    get: Callable


def _is_region(stimulus):
    """True if a stimulus is TVB's on regions."""
    return supported_base(stimulus, (StimuliRegion,)) is not None


def _terms(sim):
    """The stimulus itself, or the stimuli whose sum it is; empty if the state shows none of its parameters."""
    if _is_region(sim.stimulus):
        return [_Term("stimulus", lambda sim: sim.stimulus)]
    parts = summed_stimuli.parts(sim.stimulus)
    time = _times(_n_steps(sim), sim.integrator.dt)
    if not all(map(_is_region, parts.values())) or not summed_stimuli.adds_up(sim.stimulus, time, _n_node(sim)):
        return []
    return [_Term(f"stimulus.{path}", partial(_part, path)) for path in parts]


def _part(path, sim):
    return summed_stimuli.parts(sim.stimulus)[path]


def _n_node(sim):
    return np.shape(sim.connectivity.weights)[0]


def _n_steps(sim):
    return int(np.ceil(sim.simulation_length / sim.integrator.dt))


def refusals(sim):
    """Reasons against translation that show before configure()."""
    stimulus = sim.stimulus
    if _is_region(stimulus):
        yield from _region_refusals(stimulus, _PATH, _n_node(sim))
        return
    parts = summed_stimuli.parts(stimulus)
    if not parts:
        reason = unsupported_reason(stimulus, (StimuliRegion,))
        yield f"{_PATH}: {reason}. Use StimuliRegion, or set sim.stimulus = None."
    for path, term in parts.items():
        if _is_region(term):
            yield from _region_refusals(term, f"{_PATH}.{path}", _n_node(sim))


def _region_refusals(stimulus, path, n_node):
    weight = getattr(stimulus, "weight", None)
    if weight is None:
        yield f"{path}.weight: none; give an array of shape ({n_node},), one weight for each region."
    elif np.shape(weight) != (n_node,):
        yield f"{path}.weight: shape {np.shape(weight)}; give ({n_node},), one weight for each region."
    elif not np.all(np.isfinite(weight)):
        yield f"{path}.weight: {np.sum(~np.isfinite(weight))} are not finite. Give finite ones."
    for name in ("temporal", "spatial"):
        own = getattr(stimulus, name, None)
        if own is None:
            yield f"{path}.{name}: none; give an equation of tvb.datatypes.equations."
        else:
            yield from equation.refusals(own, f"{path}.{name}")


def refusals_configured(sim):
    """Reasons against translation that show in a configured copy only."""
    try:
        terms = _terms(sim)
    except Exception as error:
        name = type(sim.stimulus).__name__
        yield f"{_PATH}: TVB's own evaluation of {name} fails: {type(error).__name__}: {error}. Use StimuliRegion."
        return
    for term in terms:
        stimulus, path = term.get(sim), f"Simulator.{term.path}"
        _, reasons = _in_time(stimulus, path, _n_steps(sim), sim.integrator.dt)
        yield from reasons
        yield from equation.mismatches(stimulus.spatial, stimulus.weight_array, f"{path}.spatial")


def _times(n_steps, dt):
    """TVB's times of the stimulus [ms], a row. They start from 0 at each call, whatever ran before."""
    return (np.arange(n_steps) * dt)[None]


def _in_time(stimulus, path, n_steps, dt):
    """TVB's own temporal pattern at each step of a run, and reasons why the translation's is another one."""
    temporal, path, time = stimulus.temporal, f"{path}.temporal", _times(n_steps, dt)
    theirs, reasons = equation.reference_values(temporal, time, path)
    if not reasons and theirs.size < n_steps:
        found = f"{type(temporal).__name__} gives {theirs.size} values for {n_steps} times, with which TVB fails"
        reasons = [f"{path}: {found}. Give one value for each time."]
    if reasons:
        return None, reasons
    theirs = theirs.reshape(-1)[:n_steps]
    if _tracing_error(stimulus, dt) is None:
        translated, values = _temporal_pattern(temporal, time), equation.parameter_values(temporal)
        reasons = equation.mismatches_with(temporal, theirs, path, translated, values)
    return theirs, reasons


def _temporal_pattern(temporal, time):
    """Function from parameters to the temporal pattern at given times."""
    evaluate = equation.translate(temporal)

    def pattern(parameters):
        values = jnp.asarray(evaluate(equation.in_tvb_shapes(temporal, parameters), time))
        return jnp.reshape(values, -1)[: time.size].astype(jnp.result_type(float))

    return pattern


def _tracing_error(stimulus, dt):
    """Error of tracing a temporal equation, whose parameters are constants then; None if it is traced."""
    return equation.tracing_error(stimulus.temporal, _times(8, dt))


def warn(sim, reference):
    """Warn if parameters of a stimulus are constants of the translation."""
    terms = _terms(reference)
    if not terms:
        equation.warn_frozen(
            _PATH,
            f"{type(reference.stimulus).__name__} is no sum of the stimuli that its attributes hold",
            "To fit their parameters, add them up, in attributes whose names do not begin with _.",
        )
    for term in terms:
        stimulus, path = term.get(reference), f"Simulator.{term.path}"
        error = _tracing_error(stimulus, reference.integrator.dt)
        if error is not None:
            equation.warn_untraceable(f"{path}.temporal", stimulus.temporal, error)
        for kind in ("temporal", "spatial"):
            for name in equation.hidden_parameters(getattr(stimulus, kind)):
                equation.warn_hidden(f"{path}.{kind}", name)


def parameters(sim):
    """Parameters of the stimulus."""
    table = []
    for term in _terms(sim):
        path, get = term.path, term.get
        table.append(MappedParameter(f"{path}.weight", get, "weight"))
        if _tracing_error(get(sim), sim.integrator.dt) is None:
            table += equation.mapped_parameters(f"{path}.temporal", lambda sim, get=get: get(sim).temporal, sim)
        table += equation.mapped_parameters(f"{path}.spatial", lambda sim, get=get: get(sim).spatial, sim)
    return table


def node(sim, span):
    """Stimulus's part of the state; the terms of one attribute are a list."""
    nodes, children = [], {}
    for term in _terms(sim):
        own = _equation_names(term.get(sim), sim.integrator.dt)
        nodes.append(State(weight=None, **{kind: State(**dict.fromkeys(names)) for kind, names in own.items()}))
        name, _, is_item = term.path.partition(".")[2].partition("[")
        if is_item:
            children.setdefault(name, []).append(nodes[-1])
        else:
            children[name] = nodes[-1]
    return nodes[0] if _is_region(sim.stimulus) else State(**children)


def _equation_names(stimulus, dt):
    """Names of the parameters of both equations that the state shows: {"temporal": ..., "spatial": ...}."""
    temporal = equation.parameter_names(stimulus.temporal) if _tracing_error(stimulus, dt) is None else ()
    return {"temporal": temporal, "spatial": equation.parameter_names(stimulus.spatial)}


def translate(sim):
    """Translate the stimulus of a configured simulator; each length of run is compared with TVB."""
    return contract.TranslatedComponent(inputs=partial(_inputs, sim))


def _inputs(sim, n_steps):
    """Function from the state to the stimulus at each step, (n_steps, 1, n_node, 1), and to its node.

    Raises
    ------
    UnsupportedComponent
        If the translation differs from TVB within this number of steps.
    """
    pattern = _pattern(sim, n_steps)
    return lambda state: ({"stimulus": pattern(state.stimulus)}, state.stimulus)


def _pattern(sim, n_steps):
    terms, dt = _terms(sim), float(sim.integrator.dt)
    patterns = [(term.path, _term_pattern(term.get(sim), f"Simulator.{term.path}", n_steps, dt)) for term in terms]
    if not _is_region(sim.stimulus):
        time, steps = _times(n_steps, dt), range(n_steps)
        if not terms:
            constant = summed_stimuli.pattern(sim.stimulus, time, _n_node(sim), steps)[:, None, :, None]
            return lambda node: jnp.asarray(constant, jnp.result_type(float))
        if not summed_stimuli.adds_up(sim.stimulus, time, _n_node(sim), steps):
            raise UnsupportedComponent(
                [f"{_PATH}: {type(sim.stimulus).__name__} is not the sum of its parts throughout. Use StimuliRegion."]
            )
    return lambda node: sum(pattern(get_path(State(stimulus=node), path)) for path, pattern in patterns)


def _term_pattern(stimulus, path, n_steps, dt):
    """Function from the node of one stimulus to its values at each step.

    With the simulator's own parameters the temporal pattern is TVB's own, bit for bit, also in single precision: time
    in double precision decides at which step a pulse begins.
    """
    theirs, reasons = _in_time(stimulus, path, n_steps, dt)
    if reasons:
        raise UnsupportedComponent(reasons)
    names = _equation_names(stimulus, dt)
    spatial = equation.translate(stimulus.spatial)
    temporal = _with_tvb_values(
        _temporal_pattern(stimulus.temporal, _times(n_steps, dt)), theirs, equation.parameter_values(stimulus.temporal)
    )

    def gather(node, kind):
        values = {name: getattr(getattr(node, kind), name) for name in names[kind]}
        return equation.in_tvb_shapes(getattr(stimulus, kind), values)

    def pattern(node):
        dtype = node.weight.dtype
        in_time = temporal(gather(node, "temporal")) if names["temporal"] else jnp.asarray(theirs)
        column = jnp.reshape(node.weight, (-1, 1))
        in_space = jnp.sum(jnp.broadcast_to(spatial(gather(node, "spatial"), column), column.shape), axis=1)
        return (in_time.astype(dtype)[:, None] * in_space[None])[:, None, :, None]

    return pattern


def _with_tvb_values(function, theirs, tvb_parameters):
    """A function of a few parameters, with TVB's values if the parameters are TVB's, and the function's derivatives.

    Derivatives are computed in forward mode. TVB's ``where`` may reject a value that overflows, as in Alpha before its
    onset; reverse mode would multiply it by 0 and give NaN.
    """

    @jax.custom_jvp
    def pattern(parameters):
        value = function(parameters)
        same = [jnp.all(now == jnp.asarray(tvb_parameters[name], now.dtype)) for name, now in parameters.items()]
        return jnp.where(jnp.all(jnp.stack(same)), jnp.asarray(theirs, value.dtype), value)

    def forward_mode(primals, tangents):
        (parameters,), (tangents,) = primals, tangents
        value = pattern(parameters)
        tangents = {name: tangent for name, tangent in tangents.items() if not isinstance(tangent, SymbolicZero)}
        jacobians = jax.jacfwd(lambda some: function(parameters | some))({name: parameters[name] for name in tangents})
        terms = [jnp.tensordot(jacobians[name], tangent, axes=tangent.ndim) for name, tangent in tangents.items()]
        return value, sum(terms, start=jnp.zeros_like(value))

    pattern.defjvp(forward_mode, symbolic_zeros=True)
    return pattern
