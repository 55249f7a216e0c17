"""prepare: collects every refusal, then assembles step, monitors and state."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator.simulator import Simulator

from ..dynamics.noise import KeyStream, NumpyStream
from ..dynamics.simulate import Simulate
from ..dynamics.step import Step
from ..errors import UnsupportedComponent
from ..state import State, with_path
from . import coupling, integrator, model, monitors
from .clone import configured_clone, holds_current_state, holds_weights
from .leaves import Leaf


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
        ``state.initial_conditions``), the draws (``state.integrator.noise.draws``) and the monitors' stocks.

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
    reference = checked_clone(sim)
    monitors.warn_of_rounding(reference)
    return assemble(reference, simulation_length, noise)


def checked_clone(sim):
    """Configured copy of a simulator, once nothing speaks against translating it.

    Raises
    ------
    UnsupportedComponent
        With all reasons at once.
    """
    if type(sim) is not Simulator:
        raise UnsupportedComponent(
            [f"{type(sim).__name__} is not tvb.simulator.simulator.Simulator itself; give a plain TVB Simulator."]
        )
    _refuse(refusals(sim))
    try:
        reference = configured_clone(sim)
    except Exception as error:
        raise UnsupportedComponent(
            [f"Simulator: TVB's own configure() fails: {type(error).__name__}: {error}"]
        ) from error
    _refuse(_later_refusals(reference))
    return reference


def _refuse(reasons):
    reasons = list(reasons)
    if reasons:
        raise UnsupportedComponent(reasons)


def refusals(sim):
    """Reasons why a simulator, configured or not, is not translated, as far as they show before configure()."""
    if sim.surface is not None:
        yield "Simulator.surface: surfaces are not supported (region level alone). Set sim.surface = None."
    if sim.stimulus is not None:
        yield f"Simulator.stimulus: {type(sim.stimulus).__name__} is not supported yet. Set sim.stimulus = None."
    connectivity = getattr(sim, "connectivity", None)
    if connectivity is None:
        yield "Simulator.connectivity: none; give a tvb.datatypes.connectivity.Connectivity."
        return
    if type(connectivity) is not Connectivity:
        yield f"Simulator.connectivity: {type(connectivity).__name__} is not TVB's Connectivity itself."
    weights = np.asarray(connectivity.weights)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        yield f"Simulator.connectivity.weights: shape {weights.shape}; give a square matrix [target, source]."
        return
    if not np.all(np.isfinite(weights)):
        yield f"Simulator.connectivity.weights: {np.sum(~np.isfinite(weights))} are not finite. Give finite ones."
    yield from model.refusals(sim)
    yield from coupling.refusals(sim)
    yield from integrator.refusals(sim)
    yield from monitors.refusals(sim)
    if sim.initial_conditions is not None and not np.all(np.isfinite(sim.initial_conditions)):
        yield "Simulator.initial_conditions: hold values that are not finite. Give finite ones."
    for path, component in components(sim):
        methods = [name for name in vars(component) if callable(getattr(type(component), name, None))]
        if methods:
            yield f"{path}.{methods[0]}: replaced on the instance, which cannot be followed. Remove it."


def components(sim):
    """Paths and objects of a simulator's components."""
    yield "Simulator", sim
    yield "Simulator.model", sim.model
    yield "Simulator.coupling", sim.coupling
    yield "Simulator.connectivity", sim.connectivity
    yield "Simulator.integrator", sim.integrator
    if integrator.is_stochastic(sim.integrator):
        yield "Simulator.integrator.noise", sim.integrator.noise
    for index, monitor in enumerate(sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]):
        yield f"Simulator.monitors[{index}]", monitor
        if hasattr(monitor, "hrf_kernel"):
            yield f"Simulator.monitors[{index}].hrf_kernel", monitor.hrf_kernel


def _later_refusals(reference):
    """Reasons that show in a configured copy only."""
    connectivity, dt = reference.connectivity, reference.integrator.dt
    longest = int(np.max(connectivity.idelays))
    if longest:
        yield (
            f"Simulator.connectivity: delays of up to {longest} steps ({longest * dt:g} ms) are not supported yet. "
            "Set connectivity.speed = numpy.array([numpy.inf]), or tract_lengths to zero."
        )
        return
    delays = np.rint(connectivity.tract_lengths / connectivity.speed / dt).astype(np.int32)
    if not np.array_equal(delays, connectivity.idelays):
        yield "Simulator.connectivity: lengths or speed changed since configure(). Call sim.configure() again."
    if not holds_weights(reference):
        yield "Simulator.connectivity.weights: changed since configure(), which TVB keeps. Call sim.configure() again."
    if integrator.is_stochastic(reference.integrator) and reference.integrator.noise.dt != dt:
        yield "Simulator.integrator.dt: changed since configure(). Call sim.configure() again."
    if integrator.is_stochastic(reference.integrator) and np.ndim(reference.integrator.noise.nsig) != 3:
        nsig = reference.integrator.noise.nsig
        if nsig.shape != (1,):
            yield (
                f"Simulator.integrator.noise.nsig: shape {nsig.shape}, set since configure(), which TVB would "
                "broadcast wrongly. Call sim.configure() again."
            )
    if not holds_current_state(reference):
        yield (
            "Simulator.current_state: is not the newest sample of the history, as after a run that was broken off. "
            "Call sim.configure() again."
        )
    if not np.all(np.isfinite(reference.current_state)):
        yield "Simulator.current_state: holds values that are not finite. Give initial_conditions that are."
    yield from monitors.stale(reference)
    yield from model.disagreement(reference)


def leaves(sim):
    """The table between state and simulator: every parameter, in order (see `Leaf`)."""
    weights = Leaf("connectivity.weights", lambda sim: sim.connectivity, "weights")
    return [
        *model.leaves(sim),
        *coupling.leaves(sim),
        weights,
        *integrator.leaves(sim),
        *monitors.leaves(sim),
    ]


def assemble(reference, simulation_length=None, noise="tvb"):
    """(simulate, state) of a configured simulator that nothing speaks against; see `prepare`."""
    length = float(reference.simulation_length if simulation_length is None else simulation_length)
    dt = float(reference.integrator.dt)
    if not (np.isfinite(length) and length > 0.0):
        raise ValueError(f"simulation_length: {length} ms; give a positive length.")
    n_steps = math.ceil(length / dt)
    simulate = Simulate(
        step=Step(integrator.local_map(reference), _post(reference), tuple(int(i) for i in reference.model.cvar)),
        constants=_constants(reference),
        monitors=monitors.translate(reference),
        n_steps=n_steps,
        dt=dt,
        observed=model.observed(reference.model),
        description=describe(reference),
    )
    for index, monitor in enumerate(simulate.monitors):
        if monitor.steps(reference.current_step, n_steps).size == 0:
            raise ValueError(
                f"simulation_length: {length:g} ms is too short for monitors[{index}] ({type(monitor).__name__}, every "
                f"{monitor.istep * dt:g} ms): it would record nothing. Simulate at least one period."
            )
    return simulate, _state(reference, n_steps, noise)


def describe(sim):
    """One line on a simulator."""
    scheme = f"{type(sim.integrator).__name__}, dt {sim.integrator.dt:g} ms"
    return (
        f"{type(sim.model).__name__}, {sim.connectivity.weights.shape[0]} regions, "
        f"{type(sim.coupling).__name__} coupling, {scheme}"
    )


def _post(sim):
    post = coupling.post(sim.coupling)
    return lambda theta, gx: post(theta["coupling"], gx)


def _constants(sim):
    n_node = sim.connectivity.weights.shape[0]
    of_model = model.constants(sim.model, n_node)
    of_coupling = coupling.constants(sim.coupling, n_node)
    of_noise = integrator.constants(sim) if integrator.is_stochastic(sim.integrator) else None

    def constants(state):
        shape = state.connectivity.weights.shape
        if shape != (n_node, n_node):
            raise ValueError(
                f"State.connectivity.weights: shape {shape}. Give [target, source] of shape ({n_node}, {n_node})."
            )
        theta = {"model": of_model(state.model), "coupling": of_coupling(state.coupling)}
        if of_noise:
            theta["noise"] = of_noise(state.integrator.noise)
        return theta

    return constants


def _state(sim, n_steps, noise):
    dtype, step = jnp.result_type(float), int(sim.current_step)
    stream, source = _stream(sim, noise), State()
    if stream:
        draws = stream.draws(step, n_steps, sim.current_state.shape)
        source = State(noise=State(nsig=None, draws=jnp.asarray(draws, dtype)))
    state = State(
        static={"current_step": step, "stream": stream}.items(),
        model=State(**dict.fromkeys(model.parameter_names(sim.model))),
        coupling=State(**dict.fromkeys(leaf.name for leaf in coupling.leaves(sim))),
        connectivity=State(weights=None),
        integrator=source,
        monitors=monitors.nodes(sim, step),
        initial_conditions=jnp.asarray(sim.current_state[None], dtype),
    )
    for leaf in leaves(sim):
        state = with_path(state, leaf.path, leaf.state_value(sim))
    return state


def _stream(sim, noise):
    if isinstance(noise, str) and noise == "tvb":
        if not integrator.is_stochastic(sim.integrator):
            return None
        return NumpyStream(sim.integrator.noise.random_stream, int(sim.current_step))
    if not isinstance(noise, jax.Array) or not (
        jnp.issubdtype(noise.dtype, jax.dtypes.prng_key) or (noise.dtype == jnp.uint32 and noise.shape == (2,))
    ):
        raise ValueError(f'noise: {noise!r}; give "tvb", for the simulator\'s own draws, or a key of jax.random.key().')
    return KeyStream(noise) if integrator.is_stochastic(sim.integrator) else None
