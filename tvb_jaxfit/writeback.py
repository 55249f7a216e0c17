"""State to simulator: the fitted values into the user's own TVB objects."""

import warnings
from dataclasses import dataclass

import numpy as np

from .errors import DomainWarning
from .parameters import plain
from .state import get_path
from .translate import history, model, monitors, noise
from .translate.assemble import leaves
from .translate.clone import clone, configured_clone, with_weights
from .translate.simulator import components, refusals


@dataclass(frozen=True)
class WrittenBack:
    """What `write_back` changed: by path, values before and after in TVB's own shapes; and the steps of a move."""

    changes: dict
    notes: tuple[str, ...] = ()
    moved: tuple[int, int] | None = None

    def __repr__(self):
        lines = [f"{path}: {_short(old)} -> {_short(new)}" for path, (old, new) in self.changes.items()]
        if self.moved:
            lines.append(f"position: step {self.moved[0]} -> step {self.moved[1]}")
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
    WrittenBack
        Names what was changed.

    Raises
    ------
    ValueError
        Where the simulator is not the one that the state belongs to, or a value is not finite; nothing is changed.
    UnsupportedComponent
        Where the simulator is none that `prepare` takes.

    Warns
    -----
    DomainWarning
        Where a value lies outside the domain that TVB declares for it.

    Notes
    -----
    After it ``prepare(sim)`` gives the state back exactly, and a run of TVB on the same draws gives its BOLD. A
    configured simulator stays configured: what TVB works out from a changed value (its copy of the weights, the kernel
    of the hemodynamic response) is worked out anew.
    """
    state = plain(state)
    problems = [*_foreign(state, sim)]
    pending = {} if problems else _differences(state, sim, problems)
    if not problems:
        problems += _refused_with(pending, sim)
    if problems:
        raise ValueError("write_back: " + "; ".join(problems) + ". Nothing was changed.")
    move, notes = _move(state, sim, position)
    _warn_of_domains(pending, sim)
    held = [(attributes, dict(attributes)) for attributes in _attributes(sim)]
    try:
        _write(pending, sim)
        if sim.history is not None:
            _work_out_anew(sim, pending)
    except BaseException:
        # Values are replaced, never changed in place: the attributes as they were are all there is to undo.
        for attributes, before in held:
            attributes.clear()
            attributes.update(before)
        raise
    changes = {path: (old, new) for path, (_, old, new) in pending.items()}
    moved = None
    if move:
        moved = (sim.current_step, state.current_step)
        move()
    return WrittenBack(changes, notes, moved)


def _foreign(state, sim):
    """Reasons why the state is not one of this simulator."""
    n_state, n_sim = state.connectivity.weights.shape[0], np.shape(sim.connectivity.weights)[0]
    if n_state != n_sim:
        yield f"the state has {n_state} regions, the simulator {n_sim}"
        return
    reasons = list(refusals(sim))
    if reasons:
        yield "the simulator is none that prepare() takes: " + " ".join(reasons)
        return
    for leaf in leaves(sim):
        try:
            get_path(state, leaf.path)
        except AttributeError:
            yield f"the simulator has {leaf.path}, which the state does not"


def _differences(state, sim, problems):
    """Leaves whose value is not the simulator's own: path to (leaf, old, new)."""
    pending = {}
    for leaf in leaves(sim):
        value = np.asarray(get_path(state, leaf.path))
        own = np.asarray(leaf.state_value(sim))
        if value.shape == own.shape and np.array_equal(value, own):
            continue
        if not np.all(np.isfinite(value)):
            problems.append(f"{leaf.path} holds {np.sum(~np.isfinite(value))} values that are not finite")
            continue
        try:
            pending[leaf.path] = (leaf, leaf.read(sim), leaf.native_value(value, sim))
        except ValueError:
            problems.append(f"{leaf.path} has shape {value.shape}, where the simulator's own has {own.shape}")
    return pending


def _refused_with(pending, sim):
    """Reasons why `prepare` would not take the simulator with the new values."""
    trial = clone(sim)
    try:
        _write(pending, trial)
    except (ValueError, TypeError) as error:
        return [str(error)]
    return list(refusals(trial))


def _write(pending, sim):
    """Put the new values in place."""
    _own_kernels(sim, pending)
    if "connectivity.weights" in pending:
        for cached in ("_cached_lri", "_cached_nzr"):
            vars(sim.coupling).pop(cached, None)
    for leaf, _, new in pending.values():
        leaf.write(sim, new)


def _attributes(sim):
    """What a simulator and its components hold, as the dicts that hold it."""
    for _, component in components(sim):
        yield vars(component)
        if hasattr(component, "parameters"):
            yield component.parameters


def _own_kernels(sim, pending):
    """Give a monitor a hemodynamic response of its own where TVB shares one: its default is one object for all."""
    for index in _monitors_of(pending):
        monitor = sim.monitors[index]
        kernel = monitor.hrf_kernel
        users = [other for other in sim.monitors if getattr(other, "hrf_kernel", None) is kernel]
        if len(users) > 1 or kernel is type(monitor).hrf_kernel.default:
            monitor.hrf_kernel = clone(kernel)


def _monitors_of(pending):
    """Indices of the monitors whose hemodynamic response changes."""
    return sorted({int(path.split("]")[0].split("[")[1]) for path in pending if path.startswith("monitors[")})


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


def _work_out_anew(sim, pending):
    """What configure() derived from a changed value."""
    if "connectivity.weights" in pending:
        sim.history = with_weights(sim.history, sim.connectivity.weights)
    if any(path.startswith("model.") for path in pending):
        model.derive_anew(sim)
    if any(path.startswith("stimulus.") for path in pending):
        sim.stimulus.configure_space()
    if "integrator.noise.ntau" in pending:
        noise.derive_anew(sim.integrator.noise)
    for index in _monitors_of(pending):
        monitors.derive_anew(sim.monitors[index])


def _move(state, sim, position):
    """What puts the simulator where the state stands (or None), and notes where it is not put there."""
    standing = sim if sim.history is not None else configured_clone(sim)
    if standing.current_step == state.current_step and history.is_at(standing, np.asarray(state.initial_conditions)):
        return None, ()
    if not position:
        where = f"the simulator stands at step {standing.current_step}, the state at step {state.current_step}"
        return None, (f"({where}: parameters were written, the simulator was not moved)",)
    if sim.history is None:
        raise ValueError(
            "write_back: a simulator that is not configured has no position. Call sim.configure() first. "
            "Nothing was changed."
        )

    def move():
        step = state.current_step
        sim.current_step = step
        sim.current_state = np.array(state.initial_conditions[-1], dtype=float)
        past, horizon = sim.history, sim.history.n_time
        slots = (step + 1 + np.arange(horizon)) % horizon
        past.buffer[slots] = np.asarray(state.initial_conditions, dtype=float)[:, sim.model.cvar]
        for index, node in enumerate(state.monitors):
            monitors.put_stocks(sim, index, node, step)
        if "noise" in state.integrator:
            noise.put_stream(sim.integrator.noise, state.integrator.noise, step)

    return move, ()
