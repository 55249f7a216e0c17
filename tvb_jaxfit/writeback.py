"""write_back: the values of a state into the user's own TVB objects."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks.arrays import real_array
from .checks.options import boolean, check
from .errors import DomainWarning, caller_stacklevel
from .parameters import strip_parameters
from .state import State, get_path
from .text import value_range
from .translate import derived
from .translate import position as positions
from .translate.clone import clone, configured_clone
from .translate.complete import component_objects
from .translate.mapped_parameter import MappedParameter, is_allowed_shape, shape_problem
from .translate.origin import origin_mismatches, origin_of
from .translate.parameter_map import parameter_map
from .translate.prepare import refusals
from .translate.shapes import array_paths

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


@dataclass(frozen=True)
class WriteBackReport:
    """Report of `write_back`; its text names every change.

    Attributes
    ----------
    changes : dict of str to (object, object)
        By path, the values before and after in TVB's own shapes.
    notes : tuple of str
    position_change : (int, int) or None
        Step counts before and after, if the position was changed.
    """

    changes: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...] = ()
    position_change: tuple[int, int] | None = None

    def __repr__(self):
        lines = [f"{path}: {_short(old)} -> {_short(new)}" for path, (old, new) in self.changes.items()]
        if self.position_change:
            lines.append(f"position: step {self.position_change[0]} -> step {self.position_change[1]}")
        return "\n".join([*(lines or ["nothing to change"]), *self.notes])


def _short(value):
    text = value_range(value)
    return text if np.size(value) == 1 else f"[{text}] {np.shape(value)}"


def write_back(state: State, sim: "Simulator", position: bool = False) -> WriteBackReport:
    """Write the values of a state into a simulator, in TVB's own shapes and dtypes: all of them or none.

    Parameters
    ----------
    state : State
        Fitted, or any other state of this simulator.
    sim : tvb.simulator.simulator.Simulator
        The user's own; configured or not. Values that are equal already are left alone.
    position : bool, optional
        True writes the position, too: current state, history, step count, buffers of the monitors and random stream
        (of a configured simulator). By default parameters alone are written.

    Returns
    -------
    WriteBackReport

    Raises
    ------
    ValueError
        If the simulator is not one that the state belongs to (other components, regions, parameters; with
        ``position`` another horizon, period or number of monitors), a value has another shape, is masked, complex or
        not finite, or `prepare` refuses the simulator. With all reasons at once; nothing is changed.
    TypeError
        If ``state`` is no `State`.

    Warns
    -----
    DomainWarning
        If a value lies outside the domain that TVB declares for it.

    Notes
    -----
    Afterwards ``prepare(sim)`` gives the state back exactly, and a run of TVB on the same draws gives its BOLD. A
    configured simulator stays configured: what its configure() derives from a changed value (its copy of the weights,
    the kernel of the hemodynamic response) is derived anew. If a write fails, as in a setter, all writes are undone.
    Noise from a key of ``jax.random`` has no counterpart in TVB: with ``position`` TVB's random stream is left as it
    is, which the report says.
    """
    if not isinstance(state, State):
        raise TypeError(f"write_back: state: {type(state).__name__}; give a State, such as the one of prepare(sim).")
    check("write_back", position=(position, boolean))
    state = strip_parameters(state)
    pending, configured, problems = _checked(state, sim, position)
    if problems:
        raise ValueError("write_back: " + "; ".join(problems) + ". Nothing was changed.")
    is_there = positions.is_at(state, configured)
    _warn_of_domains(pending, sim)
    step_before = int(configured.current_step)
    with _undone_on_error(sim):
        _write(pending, sim, state if position else None)
    changes = {write.parameter.path: (write.old, write.new) for write in pending}
    notes = []
    if position and positions.has_jax_noise(state):
        notes.append("(the state's noise comes from a key of jax.random: TVB's random stream was not changed)")
    if not position and not is_there:
        where = f"the simulator is at step {step_before}, the state at step {int(state.current_step)}"
        notes.append(f"({where}: parameters were written, the position was not)")
    position_change = (step_before, int(state.current_step)) if position and not is_there else None
    return WriteBackReport(changes, tuple(notes), position_change)


@dataclass(frozen=True)
class _Write:
    """One write: a parameter, and its old and new value in TVB's own shape."""

    parameter: MappedParameter
    old: Any
    new: Any


def _checked(state, sim, position):
    """Writes, configured copy of the simulator, and problems: all checks before the first write."""
    reasons = list(refusals(sim))
    if not reasons and sim.history is not None:
        reasons = list(derived.refusals(clone(sim)))
    if reasons:
        return [], None, ["prepare() refuses the simulator: " + " ".join(reasons).removesuffix(".")]
    try:
        configured = configured_clone(sim)
    except Exception as error:
        return [], None, [f"prepare() refuses the simulator: TVB's configure() fails: {error}"]
    problems = list(_mismatches(state, sim, configured, position))
    if problems:
        return [], configured, problems
    pending = _pending(state, sim, configured, problems)
    if position:
        problems += positions.position_problems(state, sim)
    if not problems:
        problems += _refused_after(pending, sim, state if position else None)
    return pending, configured, problems


def _mismatches(state, sim, configured, position) -> Iterator[str]:
    """Reasons why the state is not one of this simulator."""
    n_sim = np.shape(sim.connectivity.weights)[0]
    weights = state.connectivity.weights if "connectivity" in state and "weights" in state.connectivity else None
    n_state = np.shape(weights)[0] if np.ndim(weights) else n_sim
    if n_state != n_sim:
        yield f"the state has {n_state} regions, the simulator {n_sim}"
        return
    origin = getattr(state, "origin", None)
    if origin is not None:
        yield from origin_mismatches(origin, origin_of(configured), position)
    in_state = [path for path in array_paths(state) if not positions.is_position(path)]
    in_sim = [parameter.path for parameter in parameter_map(sim)]
    for path in in_sim:
        if path not in in_state:
            yield f"the simulator has {path}, which the state does not"
    for path in in_state:
        if path not in in_sim:
            yield f"the state has {path}, which the simulator does not"


def _pending(state, sim, configured, problems):
    """Writes of the values that are not the simulator's own; adds to the problems."""
    pending = []
    for parameter in parameter_map(sim):
        path = parameter.path
        try:
            value = np.asarray(real_array(get_path(state, path), path))
        except ValueError as error:
            problems.append(str(error).removesuffix("."))
            continue
        own = np.asarray(parameter.state_value(configured))
        if value.shape == own.shape and np.array_equal(value, own):
            continue
        if not is_allowed_shape(value.shape, parameter.allowed_shapes(sim)):
            problems.append(shape_problem(path, value.shape, parameter.allowed_shapes(sim)))
        elif not np.all(np.isfinite(value)):
            problems.append(f"{path} holds {np.sum(~np.isfinite(value))} values that are not finite")
        else:
            pending.append(_Write(parameter, parameter.read(sim), parameter.tvb_value(value, sim)))
    return pending


def _refused_after(pending, sim, state):
    """Reasons why `prepare` would refuse the simulator with the new values, found on a copy of it."""
    trial = clone(sim)
    try:
        _write(pending, trial, state)
        return [reason.removesuffix(".") for reason in refusals(trial)]
    except Exception as error:
        return [f"TVB does not accept the values: {type(error).__name__}: {error}"]


def _write(pending, sim, state):
    """Write the new values, renew what TVB derives from them, and put the position of a state if it is not None."""
    _own_equations(sim, pending)
    for write in pending:
        write.parameter.write(sim, write.new)
    if pending:
        derived.rederive(sim)
    if state is not None:
        positions.restore(state, sim)


@contextlib.contextmanager
def _undone_on_error(sim):
    """Context that restores attributes, arrays and random streams of the simulator if an error is raised."""
    attributes = [(owner, dict(owner)) for owner in _attribute_dicts(sim)]
    values = [value for owner, _ in attributes for value in owner.values()]
    arrays = [value for value in values if isinstance(value, np.ndarray) and value.flags.writeable]
    if sim.history is not None:
        arrays.append(sim.history.buffer)
    contents = [(array, array.copy()) for array in arrays]
    streams = [(value, value.get_state()) for value in values if isinstance(value, np.random.RandomState)]
    try:
        yield
    except BaseException:
        for owner, before in attributes:
            owner.clear()
            owner.update(before)
        for array, before in contents:
            array[...] = before
        for stream, before in streams:
            stream.set_state(before)
        raise


def _attribute_dicts(sim):
    """Dicts that hold the attributes of a simulator and its components, and the parameters of equations."""
    for _, component in component_objects(sim):
        yield vars(component)
        if hasattr(component, "parameters"):
            yield component.parameters


def _own_equations(sim, pending):
    """Give a component an equation of its own if it shares one: TVB's default is one object for all."""
    for parameter in (write.parameter for write in pending):
        if not parameter.in_equation_dict:
            continue
        equation = parameter.owner(sim)
        holders = [
            (path, component, name)
            for path, component in component_objects(sim)
            for name, value in vars(component).items()
            if value is equation
        ]
        for path, component, name in holders:
            default = getattr(getattr(type(component), name, None), "default", None)
            is_its_own = f"Simulator.{parameter.path}".startswith(f"{path}.{name}")
            if is_its_own and (len(holders) > 1 or equation is default):
                setattr(component, name, clone(equation))


def _warn_of_domains(pending, sim):
    for write in pending:
        domain, new = write.parameter.domain(sim), np.asarray(write.new)
        low, high = getattr(domain, "lo", -np.inf), getattr(domain, "hi", np.inf)
        outside = (new < low) | (new > high)
        if outside.any():
            warnings.warn(
                f"{write.parameter.path}: {outside.sum()} of {outside.size} values lie outside the domain "
                f"[{low:g}, {high:g}] that TVB declares (from {np.min(new):.6g} to {np.max(new):.6g}).",
                DomainWarning,
                stacklevel=caller_stacklevel(),
            )
