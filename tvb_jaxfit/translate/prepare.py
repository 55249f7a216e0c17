"""prepare: every refusal at once, every part and one step of the whole compared with TVB."""

import types
import warnings
from dataclasses import replace

import jax
import numpy as np
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator.simulator import Simulator

from ..errors import HistoryWarning, UnsupportedComponent
from ..runtime.processes import refuse_forked
from . import complete, derived
from .assemble import Parts, assemble, unchecked
from .clone import clone, configured_clone, history_has_current_state
from .complete import component_objects
from .components import coupling, history, integrator, model, monitors, stimulus
from .components import vector_field as field
from .components import vector_field_oracle as trials
from .double_precision import in_double, max_row_error
from .random_stream import GlobalStreamGuard
from .subclasses import supported_base, unsupported_reason
from .tracing.method import Untranslatable

_STEP_TOLERANCE = 1e-10


def prepare(sim, simulation_length=None, noise="tvb"):
    """Translate a TVB simulator into a pure, differentiable function of its state.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Configured or not, run before or not; region level. Not modified, nor is its random stream.
    simulation_length : float, optional
        [ms]; the simulator's own by default. As in TVB, ceil(length / dt) steps.
    noise : "tvb" or Array, optional
        "tvb" replays the simulator's own random stream: the draws that its next ``run()`` takes. A JAX key gives fresh
        noise without TVB.

    Returns
    -------
    simulate : Simulate
        ``(time, data), ... = simulate(state)``, one pair a monitor, data (n_time, n_voi, n_node, n_mode).
    state : State
        Every float of the simulator under its own attribute path (``state.model.w``, ``state.coupling.a``,
        ``state.connectivity.weights``, ``state.integrator.noise.nsig``, ``state.monitors[0].hrf_kernel.tau_s``,
        ``state.initial_conditions``), the draws (``state.integrator.noise.draws``) and the monitors' stocks. A value
        for all regions is of shape (), one for each of shape (n_node,).

    Raises
    ------
    UnsupportedComponent
        Where anything of the simulator would be lost or changed: with all reasons at once.
    ValueError
        Where a monitor would record nothing in this length, or ``noise`` is neither "tvb" nor a key.

    Warns
    -----
    PeriodWarning
        Where dt does not divide a monitor's period; TVB's rounded one is reproduced.
    FrozenWarning
        Where parameters of an equation are constants, as its code cannot be followed.

    Notes
    -----
    Without 64-bit mode (``jax.config.update("jax_enable_x64", True)``) everything is single precision, and agrees with
    TVB to that.

    Examples
    --------
    >>> import numpy as np, tvb_jaxfit as tj
    >>> from tvb.simulator.lab import *
    >>> white_matter = connectivity.Connectivity(
    ...     weights=np.array([[0.0, 1.0], [2.0, 0.0]]), tract_lengths=np.zeros((2, 2)), centres=np.zeros((2, 3)),
    ...     region_labels=np.array(["l", "r"]), speed=np.array([np.inf]))
    >>> sim = simulator.Simulator(
    ...     connectivity=white_matter, model=models.ReducedWongWang(), coupling=coupling.Linear(a=np.array([0.05])),
    ...     integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]))),
    ...     monitors=[monitors.TemporalAverage(period=10.0)], simulation_length=100.0)
    >>> simulate, state = tj.prepare(sim)
    >>> (time, data), = simulate(state)
    >>> data.shape
    (10, 1, 2, 1)
    """
    parts = translate_simulator(sim)
    monitors.warn_of_rounding(parts.reference)
    monitors.warn_of_constants(parts.reference)
    stimulus.warn_of_constants(parts.reference)
    if sim.history is None and history.is_misaligned(parts.reference):
        warnings.warn(
            f"Simulator.initial_conditions: {sim.initial_conditions.shape[0]} samples for a history of "
            f"{parts.reference.connectivity.horizon}; TVB takes another one than the last as the present, and so does "
            "the translation. Give the last ones alone.",
            HistoryWarning,
            stacklevel=2,
        )
    simulate, state = assemble(parts, simulation_length, noise)
    try:
        # What was traced is kept for the run.
        simulate.trace(state)
    except (Untranslatable, TypeError, ValueError, IndexError) as error:
        raise UnsupportedComponent(
            [f"Simulator: its translation fails as a whole: {error}. Use components of TVB's own where it names one."]
        ) from error
    return simulate, state


def translate_simulator(sim):
    """Configured copy of a simulator and its translated parts, each compared with TVB's own.

    Raises
    ------
    UnsupportedComponent
        With all reasons at once.
    """
    refuse_forked("prepare")
    _refuse(refusals(sim))
    try:
        # Initial conditions are drawn in double precision; what a stock TVB keeps of them is rounded to single.
        reference = configured_clone(sim, float64_history=True)
    except Exception as error:
        raise UnsupportedComponent(
            [f"Simulator: TVB's own configure() fails: {type(error).__name__}: {error}. Mend it, so that it succeeds."]
        ) from error
    try:
        with GlobalStreamGuard(reference):
            return _translated(sim, reference)
    except UnsupportedComponent:
        raise
    except Exception as error:
        raise UnsupportedComponent([_unforeseen("Simulator", error)]) from error


def _translated(sim, reference):
    if sim.history is not None or monitors.configured_before(sim):
        _refuse(derived.changes(reference))
    _refuse(_later_refusals(reference))
    vector_field, reasons = field.translate_checked(reference)
    of_coupling, others = coupling.make(reference, with_model=not reasons)
    _refuse(reasons + others)
    parts = Parts(reference, vector_field, of_coupling)
    _refuse(step_refusals(parts))
    return parts


def _unforeseen(path, error):
    """Reason for an error that no check foresees."""
    return (
        f"{path}: what it holds is not read: {type(error).__name__}: {error}. Give values of the kind that TVB "
        "documents, with which its configure() and run() succeed."
    )


def _refuse(reasons):
    reasons = list(reasons)
    if reasons:
        raise UnsupportedComponent(reasons)


def refusals(sim):
    """Reasons why a simulator, configured or not, is not translated, as far as they show before configure()."""
    if not isinstance(sim, Simulator):
        yield f"{type(sim).__name__} is not a tvb.simulator.simulator.Simulator; give a plain TVB Simulator."
        return
    if supported_base(sim, (Simulator,)) is None:
        yield f"Simulator: {unsupported_reason(sim, (Simulator,))}. Give a plain TVB Simulator."
    if getattr(sim, "surface", None) is not None:
        yield "Simulator.surface: surfaces are not supported (region level alone). Set sim.surface = None."
    missing = list(_guarded("Simulator", complete.refusals, sim))
    yield from missing
    if missing:
        return
    yield from _of_connectivity(sim.connectivity)
    if not _is_square(sim.connectivity.weights):
        return
    for part in (model, coupling, integrator, monitors, stimulus):
        yield from _guarded(f"Simulator.{part.__name__.rpartition('.')[2]}", part.refusals, sim)
    if sim.initial_conditions is not None and not np.all(np.isfinite(sim.initial_conditions)):
        yield "Simulator.initial_conditions: hold values that are not finite. Give finite ones."
    for path, component in component_objects(sim):
        methods = [name for name in list(vars(component)) if _replaces_method(component, name)]
        if methods:
            yield f"{path}.{methods[0]}: replaced on the instance, which cannot be followed. Remove it."


def _guarded(path, check, sim):
    """Reasons of a check, and one more where what the simulator holds makes the check itself fail."""
    try:
        yield from check(sim)
    except Exception as error:
        yield _unforeseen(path, error)


def _is_square(weights):
    return weights.ndim == 2 and weights.shape[0] == weights.shape[1] > 0


def _of_connectivity(connectivity):
    if supported_base(connectivity, (Connectivity,)) is None:
        why = unsupported_reason(connectivity, (Connectivity,))
        yield f"Simulator.connectivity: {why}. Give a tvb.datatypes.connectivity.Connectivity."
    weights = connectivity.weights
    if not _is_square(weights):
        yield f"Simulator.connectivity.weights: shape {weights.shape}; give a square matrix [target, source]."
    elif not np.all(np.isfinite(weights)):
        yield f"Simulator.connectivity.weights: {np.sum(~np.isfinite(weights))} are not finite. Give finite ones."


def _replaces_method(component, name):
    """Whether an attribute hides a method of the class: but for another method of the same object, as in Hopfield."""
    if not callable(getattr(type(component), name, None)):
        return False
    held = vars(component)[name]
    return not (isinstance(held, types.MethodType) and held.__self__ is component)


def _later_refusals(reference):
    """Reasons that show in a configured copy only."""
    yield from integrator.later_refusals(reference)
    yield from stimulus.later_refusals(reference)
    if not history_has_current_state(reference):
        yield (
            "Simulator.current_state: is not the newest sample of the history, as after a run that was broken off. "
            "Call sim.configure() again."
        )
    if not np.all(np.isfinite(reference.current_state)):
        yield "Simulator.current_state: holds values that are not finite. Give initial_conditions that are."
    yield from monitors.later_refusals(reference)
    yield from model.disagreement(reference)


def step_refusals(parts):
    """Why a step of the whole is not TVB's, or nothing: what no part shows by itself."""
    sim, field = clone(parts.reference), parts.field
    # Field and coupling have been compared by themselves.
    compared = not (integrator.has_hooks(sim.model) or field.writes_states)
    parts = replace(parts, field=_Compared(field)) if compared else parts
    with jax.enable_x64(True):
        simulate, state = unchecked(parts, 1, sim)
    arrays, tree = jax.tree.flatten(state)

    def worked_out(arrays):
        state = jax.tree.unflatten(tree, arrays)
        return simulate.constants(state), simulate.inputs(state)[0]

    theta, inputs = in_double(worked_out, arrays)
    first = {name: entering[0] for name, entering in inputs.items()}
    past = history.of(sim)
    arrives = coupling.in_double_of(sim, parts.coupling, past[:, np.asarray(sim.model.cvar)])
    yield from _unread_rows(sim, field, arrives)
    try:
        if compared:
            with jax.enable_x64(True):
                ours = np.asarray(simulate.step.local(theta, past[-1], arrives, first))
        else:
            ours = in_double(simulate.step.local, theta, past[-1], arrives, first)
    except Untranslatable as error:
        yield f"Simulator.model: {type(sim.model).__name__} is not translated: {error}."
        return
    try:
        with np.errstate(all="ignore"):
            for _ in sim(n_steps=1):
                pass
    except Exception as error:
        yield f"Simulator: TVB's own run fails at its first step: {type(error).__name__}: {error}."
        return
    theirs = np.asarray(sim.current_state, dtype=float)
    # At a singular point of TVB's formula, where it gives NaN, a field written by hand is finite.
    worst = max_row_error(np.where(np.isnan(theirs), np.nan, ours), theirs)
    if not worst <= _STEP_TOLERANCE:
        yield f"Simulator: the first step of the translation differs from TVB's by {worst:.1e} of its maximum."


def _unread_rows(sim, field, arrives):
    """Why a coupling of fewer rows than the model has coupling variables is not enough for it, or nothing."""
    if arrives.shape[0] >= len(sim.model.cvar):
        return
    x = sim.current_state[sim.model.state_variable_mask]
    try:
        field.in_double(field.constants_in_double(), x, arrives)
    except (Untranslatable, IndexError):
        yield (
            f"Simulator.coupling: {type(sim.coupling).__name__} gives {arrives.shape[0]} rows, and "
            f"{type(sim.model).__name__}.dfun reads one for each of its {len(sim.model.cvar)} coupling variables: TVB "
            "reads there what happens to lie in memory. Use a coupling that gives all of them, such as Linear."
        )


class _Compared:
    """In place of a vector field that was compared with TVB's: TVB's own, which costs nothing to make."""

    def __init__(self, field):
        self.model, self.model_attributes, self.is_nonlocal, self.writes_states = (
            field.model,
            field.model_attributes,
            field.is_nonlocal,
            False,
        )
        self._constants = field.constants_in_double()

    def constants(self, node):
        """Constants of the field; the node is the model's own."""
        return self._constants

    def __call__(self, theta, x, coupling, step_attributes=None):
        return trials.reference_dfun(self.model, np.asarray(x), np.asarray(coupling))
