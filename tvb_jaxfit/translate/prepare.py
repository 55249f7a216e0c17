"""prepare: a TVB simulator as a pure, differentiable function of its state."""

import types
from collections.abc import Iterable, Iterator
from typing import Any

from tvb.simulator.simulator import Simulator

from ..dynamics.simulate import Simulate
from ..errors import UnsupportedComponent
from ..runtime.processes import refuse_forked
from ..state import State
from . import complete, derived
from .assemble import assemble
from .clone import configured_clone
from .complete import component_objects
from .components.registry import components_of
from .random_stream import GlobalStreamGuard
from .step_check import step_refusals
from .subclasses import supported_base, unsupported_reason
from .tracing.untranslatable import Untranslatable
from .translated_simulator import TranslatedSimulator, translate_components


def prepare(sim: Simulator, simulation_length: float | None = None, noise: Any = "tvb") -> tuple[Simulate, State]:
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
        ``(time, data), ... = simulate(state)``: one pair for each monitor, data (n_time, n_voi, n_node, n_mode).
    state : State
        Every float of the simulator under its own attribute path (``state.model.w``, ``state.coupling.a``,
        ``state.connectivity.weights``, ``state.integrator.noise.nsig``, ``state.monitors[0].hrf_kernel.tau_s``,
        ``state.initial_conditions``), the draws (``state.integrator.noise.draws``) and the monitors' buffers. A
        global value has shape (), a regional one (n_node,).

    Raises
    ------
    UnsupportedComponent
        If anything of the simulator would be lost or changed; with all reasons at once.
    ValueError
        If a monitor would record nothing in this length, or ``noise`` is neither "tvb" nor a key.

    Warns
    -----
    PeriodWarning
        If dt does not divide a monitor's period; the translation has TVB's rounded period.
    HistoryWarning
        If TVB starts from another sample than the last of the initial conditions, and so does the translation.
    FrozenWarning
        If parameters of an equation are constants of the translation, because its code cannot be traced.

    Notes
    -----
    Without 64-bit mode (``jax.config.update("jax_enable_x64", True)``) everything is in single precision, and
    agrees with TVB to that precision.

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
    translated = translate_simulator(sim)
    for component in components_of(sim):
        component.warn(sim, translated.reference)
    simulate, state = assemble(translated, simulation_length, noise)
    try:
        # The trace is kept for the run.
        simulate.trace(state)
    except (Untranslatable, TypeError, ValueError, IndexError) as error:
        raise UnsupportedComponent(
            [f"Simulator: its translation fails as a whole: {error}. Use components of TVB's own where it names one."]
        ) from error
    return simulate, state


def translate_simulator(sim: Simulator) -> TranslatedSimulator:
    """Translate all components of a simulator; each, and one step of the whole, is compared with TVB's own.

    Parameters
    ----------
    sim : Simulator
        Not modified.

    Raises
    ------
    UnsupportedComponent
        With all reasons at once.
    """
    refuse_forked("prepare")
    _raise_if_any(refusals(sim))
    try:
        # TVB draws initial conditions in double precision; only its history rounds them.
        reference = configured_clone(sim, float64_history=True)
    except Exception as error:
        reason = f"Simulator: TVB's own configure() fails: {type(error).__name__}: {error}."
        raise UnsupportedComponent([f"{reason} Give values with which it succeeds."]) from error
    try:
        with GlobalStreamGuard(reference):
            return _translate(sim, reference)
    except UnsupportedComponent:
        raise
    except Exception as error:
        raise UnsupportedComponent([_unforeseen("Simulator", error)]) from error


def _translate(sim, reference):
    if derived.was_configured(sim):
        _raise_if_any(derived.refusals(reference))
    parts = components_of(reference)
    _raise_if_any(
        reason for part in parts for reason in _guarded(f"Simulator.{part.NAME}", part.refusals_configured, reference)
    )
    translated = translate_components(reference)
    _raise_if_any(step_refusals(translated))
    return translated


def refusals(sim: Simulator) -> Iterator[str]:
    """Reasons against translation that show in a simulator, configured or not, before configure()."""
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
    for component in components_of(sim):
        yield from _guarded(f"Simulator.{component.NAME}", component.refusals, sim)
    for path, component in component_objects(sim):
        methods = [name for name in list(vars(component)) if _replaces_method(component, name)]
        if methods:
            yield f"{path}.{methods[0]}: replaced on the instance, which cannot be followed. Remove it."


def _guarded(path, check, sim):
    """Reasons of a check, and one more if a value in the simulator makes the check itself fail."""
    try:
        yield from check(sim)
    except Exception as error:
        yield _unforeseen(path, error)


def _unforeseen(path, error):
    """Reason for an error that no check foresees."""
    return (
        f"{path}: its values cannot be read: {type(error).__name__}: {error}. Give values of the kind that TVB "
        "documents, with which its configure() and run() succeed."
    )


def _raise_if_any(reasons: Iterable[str]) -> None:
    reasons = list(reasons)
    if reasons:
        raise UnsupportedComponent(reasons)


def _replaces_method(component, name):
    """True if an attribute hides a method of the class; not if it is another method of the object, as in Hopfield."""
    if not callable(getattr(type(component), name, None)):
        return False
    value = vars(component)[name]
    return not (isinstance(value, types.MethodType) and value.__self__ is component)
