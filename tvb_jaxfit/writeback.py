"""State to simulator: the fitted values into the user's own TVB objects."""

import contextlib
import warnings
from dataclasses import dataclass

import numpy as np

from .checks.arrays import real_array
from .checks.options import boolean, check
from .errors import DomainWarning
from .parameters import strip_parameters
from .state import State, get_path
from .translate import derived, origin
from .translate import position as positions
from .translate.assemble import parameter_map
from .translate.clone import clone, configured_clone
from .translate.complete import component_objects
from .translate.mapped_parameter import is_allowed_shape, shape_problem
from .translate.prepare import refusals
from .translate.shapes import array_paths, is_position


@dataclass(frozen=True)
class WriteBackReport:
    """What `write_back` changed: by path, values before and after in TVB's own shapes; and the steps of a move."""

    changes: dict
    notes: tuple[str, ...] = ()
    position_change: tuple[int, int] | None = None

    def __repr__(self):
        lines = [f"{path}: {_short(old)} -> {_short(new)}" for path, (old, new) in self.changes.items()]
        if self.position_change:
            lines.append(f"position: step {self.position_change[0]} -> step {self.position_change[1]}")
        return "\n".join([*(lines or ["nothing to change"]), *self.notes])


def _short(value):
    array = np.asarray(value)
    if array.size == 1:
        return f"{array.item():.6g}"
    return f"[{array.min():.6g} .. {np.median(array):.6g} .. {array.max():.6g}] {array.shape}"


def write_back(state, sim, position=False):
    """Put the values of a state into a simulator, in TVB's own shapes and dtypes: all of them or none.

    Parameters
    ----------
    state : State
        Fitted, or any other state of this simulator.
    sim : tvb.simulator.simulator.Simulator
        The user's own; configured or not. Values that are the same already are left alone.
    position : bool, optional
        Whether to put the simulator where the state stands, too: current state, history, step count, stocks of the
        monitors and random stream (of a configured simulator). By default parameters alone are written.

    Returns
    -------
    WriteBackReport
        Names what was changed.

    Raises
    ------
    ValueError
        Where the simulator is not one that the state belongs to (other components, regions, parameters; with
        ``position`` another horizon, period or number of monitors), a value has another shape, is masked, complex or
        not finite, or the simulator is none that `prepare` takes. All reasons at once; nothing is changed.
    TypeError
        Where ``state`` is no `State`.

    Warns
    -----
    DomainWarning
        Where a value lies outside the domain that TVB declares for it.

    Notes
    -----
    After it ``prepare(sim)`` gives the state back exactly, and a run of TVB on the same draws gives its BOLD. A
    configured simulator stays configured: what its configure() derives from a changed value (its copy of the weights,
    the kernel of the hemodynamic response) is derived anew. An error in the middle, as of a setter, undoes all of it.
    Noise from a key of ``jax.random`` has no place in TVB: with ``position`` its random stream is left as it is, which
    the report says.
    """
    if not isinstance(state, State):
        raise TypeError(f"write_back: state: {type(state).__name__}; give a State, such as the one of prepare(sim).")
    check("write_back", position=(position, boolean))
    state = strip_parameters(state)
    pending, standing, problems = _checked(state, sim, position)
    if problems:
        raise ValueError("write_back: " + "; ".join(problems) + ". Nothing was changed.")
    is_there = positions.is_at(state, standing)
    _warn_of_domains(pending, sim)
    before = int(standing.current_step)
    with _undone_on_error(sim):
        _write(pending, sim, state if position else None)
    changes = {path: (old, new) for path, (_, old, new) in pending.items()}
    notes = []
    if position and positions.is_of_keys(state):
        notes.append("(the state's noise comes from a key of jax.random: TVB's random stream was left where it stood)")
    if not position and not is_there:
        notes.append(_left_there(before, state))
    moved = (before, int(state.current_step)) if position and not is_there else None
    return WriteBackReport(changes, tuple(notes), moved)


def _checked(state, sim, position):
    """(values to write, configured copy of the simulator, problems): all that is checked before the first write."""
    reasons = list(refusals(sim))
    if not reasons and sim.history is not None:
        reasons = list(derived.changes(clone(sim)))
    if reasons:
        return {}, None, ["the simulator is none that prepare() takes: " + " ".join(reasons).removesuffix(".")]
    try:
        standing = configured_clone(sim)
    except Exception as error:
        return {}, None, [f"the simulator is none that prepare() takes: its configure() fails: {error}"]
    problems = list(_foreign(state, sim, standing, position))
    if problems:
        return {}, standing, problems
    pending = _differences(state, sim, standing, problems)
    if position:
        problems += positions.refusals(state, sim)
    if not problems:
        problems += _refused_with(pending, sim, state if position else None)
    return pending, standing, problems


def _foreign(state, sim, standing, position):
    """Reasons why the state is not one of this simulator."""
    own, there = getattr(state, "origin", None), origin.of(standing)
    n_sim = np.shape(sim.connectivity.weights)[0]
    weights = state.connectivity.weights if "connectivity" in state and "weights" in state.connectivity else None
    n_state = np.shape(weights)[0] if np.ndim(weights) else n_sim
    if n_state != n_sim:
        yield f"the state has {n_state} regions, the simulator {n_sim}"
        return
    if own is not None:
        yield from origin.disagreement(own, there, position)
    in_state = [path for path in array_paths(state) if not is_position(path)]
    in_sim = [leaf.path for leaf in parameter_map(sim)]
    for path in in_sim:
        if path not in in_state:
            yield f"the simulator has {path}, which the state does not"
    for path in in_state:
        if path not in in_sim:
            yield f"the state has {path}, for which the simulator has no place"


def _differences(state, sim, standing, problems):
    """Leaves whose value is not the simulator's own: path to (leaf, old, new)."""
    pending = {}
    for leaf in parameter_map(sim):
        try:
            value = np.asarray(real_array(get_path(state, leaf.path), leaf.path))
        except ValueError as error:
            problems.append(str(error).removesuffix("."))
            continue
        own = np.asarray(leaf.state_value(standing))
        if value.shape == own.shape and np.array_equal(value, own):
            continue
        if not is_allowed_shape(value.shape, leaf.allowed_shapes(sim)):
            problems.append(shape_problem(leaf.path, value.shape, leaf.allowed_shapes(sim)))
        elif not np.all(np.isfinite(value)):
            problems.append(f"{leaf.path} holds {np.sum(~np.isfinite(value))} values that are not finite")
        else:
            pending[leaf.path] = (leaf, leaf.read(sim), leaf.tvb_value(value, sim))
    return pending


def _refused_with(pending, sim, state):
    """Reasons why `prepare` would not take the simulator with the new values, found on a copy of it."""
    trial = clone(sim)
    try:
        _write(pending, trial, state)
        return [reason.removesuffix(".") for reason in refusals(trial)]
    except Exception as error:
        return [f"the values are not taken: {type(error).__name__}: {error}"]


def _write(pending, sim, state):
    """Put the new values in place, what TVB derives from them, and the position of a state unless that is None."""
    _own_equations(sim, pending)
    if "connectivity.weights" in pending:
        for cached in ("_cached_lri", "_cached_nzr"):
            vars(sim.coupling).pop(cached, None)
    for leaf, _, new in pending.values():
        leaf.write(sim, new)
    if pending and sim.history is not None:
        derived.derive_anew(sim)
    if state is not None:
        positions.put(state, sim)


@contextlib.contextmanager
def _undone_on_error(sim):
    """Within it an error leaves the simulator as it was: attributes, arrays and random streams."""
    attributes = [(held, dict(held)) for held in _attributes(sim)]
    values = [value for held, _ in attributes for value in held.values()]
    arrays = [value for value in values if isinstance(value, np.ndarray) and value.flags.writeable]
    if sim.history is not None:
        arrays.append(sim.history.buffer)
    contents = [(array, array.copy()) for array in arrays]
    streams = [(value, value.get_state()) for value in values if isinstance(value, np.random.RandomState)]
    try:
        yield
    except BaseException:
        for held, before in attributes:
            held.clear()
            held.update(before)
        for array, before in contents:
            array[...] = before
        for stream, before in streams:
            stream.set_state(before)
        raise


def _attributes(sim):
    """What a simulator and its components hold, as the dicts that hold it."""
    for _, component in component_objects(sim):
        yield vars(component)
        if hasattr(component, "parameters"):
            yield component.parameters


def _own_equations(sim, pending):
    """Give a component an equation of its own where it shares one: TVB's defaults are one object for all."""
    for leaf, _, _ in pending.values():
        if not leaf.in_equation_dict:
            continue
        equation = leaf.owner(sim)
        holders = [
            (path, component, name)
            for path, component in component_objects(sim)
            for name, value in vars(component).items()
            if value is equation
        ]
        for path, component, name in holders:
            default = getattr(getattr(type(component), name, None), "default", None)
            is_its = f"Simulator.{leaf.path}".startswith(f"{path}.{name}")
            if is_its and (len(holders) > 1 or equation is default):
                setattr(component, name, clone(equation))


def _warn_of_domains(pending, sim):
    for path, (leaf, _, new) in pending.items():
        domain = leaf.domain(sim)
        low, high = getattr(domain, "lo", -np.inf), getattr(domain, "hi", np.inf)
        outside = (np.asarray(new) < low) | (np.asarray(new) > high)
        if outside.any():
            warnings.warn(
                f"{path}: {outside.sum()} of {outside.size} values lie outside the domain [{low:g}, {high:g}] that TVB "
                f"declares (from {np.min(new):.6g} to {np.max(new):.6g}).",
                DomainWarning,
                stacklevel=3,
            )


def _left_there(step, state):
    where = f"the simulator stands at step {step}, the state at step {int(state.current_step)}"
    return f"({where}: parameters were written, the simulator was not moved)"
