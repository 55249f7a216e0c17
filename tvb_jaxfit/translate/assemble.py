"""Step, constants, inputs, monitors and state of a simulator that nothing speaks against, from its translated parts."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator.simulator import Simulator

from ..checks import options as allowed
from ..checks.options import check
from ..dynamics.monitors import NoOutput
from ..dynamics.network import sparsity_mask
from ..dynamics.noise import KeyStream, coloured_noise
from ..dynamics.simulate import Simulate
from ..dynamics.step import Step
from ..errors import UnsupportedComponent
from ..state import State, with_n_regions, with_path
from . import origin
from .clone import PackedSimulator
from .components import coupling, equation, history, integrator, model, monitors, stimulus
from .components import noise as noise_of
from .components import vector_field as field
from .double_precision import in_double
from .mapped_parameter import MappedParameter
from .random_stream import GlobalStreamGuard
from .shapes import shapes_of
from .tracing.method import Untranslatable


@dataclass(frozen=True, eq=False)
class Parts:
    """What of a simulator took work to translate.

    Attributes
    ----------
    reference : Simulator
        Configured copy that stands where ``sim.run()`` would start.
    field : VectorField
    coupling : Translated
    """

    reference: Simulator
    field: field.VectorField
    coupling: coupling.Translated


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a `Simulate` is made once more, in another process: from a configured copy of the simulator.

    Attributes
    ----------
    reference : Simulator
    n_steps : int
    alike : bool
        See `Step`.
    monitor : int or None
        The only monitor; None for all.
    """

    reference: Simulator
    n_steps: int
    alike: bool = True
    monitor: int | None = None

    def __getstate__(self):
        return vars(self) | {"reference": PackedSimulator(self.reference)}

    def __setstate__(self, held):
        vars(self).update(held | {"reference": held["reference"].unpack()})

    def __call__(self):
        """`Simulate`.

        Raises
        ------
        UnsupportedComponent
            Where what was translated once is not any more, as where a user's source is not found.
        """
        with GlobalStreamGuard(self.reference):
            vector_field, reasons = field.translate_checked(self.reference)
            of_coupling, others = coupling.make(self.reference)
        if reasons or others:
            raise UnsupportedComponent([*reasons, *others])
        parts = Parts(self.reference, vector_field, of_coupling)
        simulate = _simulate(parts, self.n_steps, self.alike)
        simulate = simulate.with_factory(self)
        return simulate if self.monitor is None else simulate.with_monitor(self.monitor)


def parameter_map(sim):
    """The table between state and simulator: every parameter, in order (see `MappedParameter`)."""
    weights = MappedParameter("connectivity.weights", lambda sim: sim.connectivity, "weights")
    return [
        *model.leaves(sim),
        *coupling.leaves(sim),
        weights,
        *integrator.leaves(sim),
        *monitors.leaves(sim),
        *stimulus.leaves(sim),
    ]


def assemble(parts, simulation_length=None, noise="tvb", reference=None, n_steps=None):
    """(simulate, state) of a simulator that nothing speaks against; see `prepare`.

    Parameters
    ----------
    parts : Parts
    simulation_length, noise
        As for `prepare`.
    reference : Simulator, optional
        Another configured copy of the same simulator to start from, such as one with a double-precision history.
    n_steps : int, optional
        Number of steps, in place of ceil(length / dt).
    """
    reference = parts.reference if reference is None else reference
    check("prepare", simulation_length=(simulation_length, allowed.optional(allowed.real)))
    length = float(reference.simulation_length if simulation_length is None else simulation_length)
    dt = float(reference.integrator.dt)
    if not (np.isfinite(length) and length > 0.0):
        raise ValueError(f"simulation_length: {length} ms; give a positive length.")
    n_steps = math.ceil(length / dt) if n_steps is None else n_steps
    simulate, state = unchecked(parts, n_steps, reference, noise)
    alike = not (simulate.step.is_local and _has_own_code(reference)) or _are_alike(simulate, state)
    simulate = replace(simulate, step=replace(simulate.step, is_homogeneous=alike))
    simulate = simulate.with_factory(Recipe(reference, n_steps, alike), jax.config.jax_enable_x64)
    for index, monitor in enumerate(simulate.monitors):
        if not isinstance(monitor, NoOutput) and monitor.steps(reference.current_step, n_steps).size == 0:
            raise ValueError(
                f"simulation_length: {length:g} ms is too short for monitors[{index}] ({monitor.name}, every "
                f"{monitor.istep * dt:g} ms): it would record nothing. Simulate at least one period."
            )
    return simulate, state


def unchecked(parts, n_steps, reference, noise="tvb"):
    """(simulate, state), whatever the monitors record."""
    simulate = _simulate(replace(parts, reference=reference), n_steps)
    return simulate, _state(reference, simulate, noise)


def _simulate(parts, n_steps, alike=True):
    reference = parts.reference
    shapes = shapes_of(reference, parameter_map(reference), n_steps)
    return Simulate(
        step=replace(_step(reference, parts), is_homogeneous=alike),
        constants=_constants(reference, parts, shapes),
        inputs=_inputs(reference, n_steps, shapes),
        monitors=monitors.translate(reference),
        n_steps=n_steps,
        dt=float(reference.integrator.dt),
        observe=model.observed(reference.model),
        description=describe(reference),
    )


def _has_own_code(sim):
    """Whether a model, coupling or noise is a user's own."""
    components = (sim.model, sim.coupling, getattr(sim.integrator, "noise", None))
    return any(not type(one).__module__.startswith("tvb.simulator.") for one in components if one is not None)


def _are_alike(simulate, state):
    """Whether a step does with two samples as one, of twice as many nodes, what it does with each by itself."""
    step, random = simulate.step, np.random.RandomState(0)
    inputs, _ = simulate.inputs(state)
    x = np.asarray(state.initial_conditions[-1], float)
    theta, u = (
        jax.tree.map(np.asarray, tree) for tree in (simulate.constants(state), jax.tree.map(lambda a: a[0], inputs))
    )
    s = random.uniform(0.0, 1.0, jax.eval_shape(step.sent, theta, x).shape)

    def twice(value):
        return np.concatenate([value, value], axis=-2) if value.shape[-2] == x.shape[1] else value

    one = in_double(step.next_state, theta, x, s, u)
    try:
        two = in_double(step.next_state, *jax.tree.map(twice, (theta, x, s, u)))
    except (Untranslatable, TypeError, ValueError, IndexError):
        return False
    return np.array_equal(two, np.concatenate([one, one], axis=1), equal_nan=True)


def describe(sim):
    """One line on a simulator."""
    scheme = f"{type(sim.integrator).__name__}, dt {sim.integrator.dt:g} ms"
    delays = f", delays up to {sim.connectivity.idelays.max()} steps" if sim.connectivity.idelays.any() else ""
    return (
        f"{type(sim.model).__name__}, {sim.connectivity.weights.shape[0]} regions, "
        f"{type(sim.coupling).__name__} coupling{delays}, {scheme}"
    )


def _step(sim, parts):
    delays = coupling.delays(sim)
    return Step(
        local=integrator.local_map(sim, parts.field),
        cvar=tuple(int(i) for i in sim.model.cvar),
        post=parts.coupling.post,
        channels=parts.coupling.channels,
        pairwise=parts.coupling.pairs,
        delays=delays,
        sparsity_mask=sparsity_mask(sim.connectivity.weights, delays),
        is_nonlocal=parts.field.is_nonlocal,
    )


def _constants(sim, parts, shapes):
    n_node = sim.connectivity.weights.shape[0]
    of_coupling = coupling.constants(sim.coupling, n_node, parts.coupling.single)
    of_integrator = integrator.constants(sim)

    def constants(state):
        shapes.check_parameters(state)
        return {
            "model": parts.field.constants(state.model),
            "coupling": of_coupling(state.coupling),
            **of_integrator(state),
        }

    return constants


def _inputs(sim, n_steps, shapes):
    """Function from the state to what enters at each step, and to the integrator's node after the run."""
    drive = None if sim.stimulus is None else stimulus.translate(sim, n_steps)
    dt = float(sim.integrator.dt)
    has_memory = integrator.is_stochastic(sim.integrator) and noise_of.is_coloured(sim.integrator.noise)

    def inputs(state):
        shapes.check_samples(state)
        enters, after = {}, state.integrator
        if "noise" in state.integrator:
            node = state.integrator.noise
            enters["noise"] = node.draws
            if has_memory:
                enters["noise"], eta = coloured_noise(node.eta, jnp.reshape(node.ntau, ()), node.draws, dt)
                after = after.replace(noise=node.replace(eta=eta))
        if drive is not None:
            enters["stimulus"] = drive(state.stimulus)
        return enters, after

    return inputs


def _state(sim, simulate, noise):
    dtype, step, n_steps = jnp.result_type(float), int(sim.current_step), simulate.n_steps
    key = _key(noise)
    children = {}
    if integrator.is_stochastic(sim.integrator):
        stream = None if key is None else KeyStream(key)
        shape = (n_steps, int(sim.model.nintvar), *sim.current_state.shape[1:])
        node = noise_of.node(sim.integrator.noise, stream, step, step + n_steps, shape)
        own = dict.fromkeys(leaf.name for leaf in noise_of.own_leaves(sim))
        if hasattr(sim.integrator.noise, "b"):
            own["b"] = State(**dict.fromkeys(equation.parameter_names(sim.integrator.noise.b)))
        children["noise"] = State(node.static.items(), **own | dict(node.items()))
    if sim.integrator.clamped_state_variable_values is not None:
        children["clamped_state_variable_values"] = None
    parts = {}
    if sim.stimulus is not None:
        parts["stimulus"] = stimulus.node(sim)
    streams = None if key is None else (lambda index: KeyStream(jax.random.fold_in(key, index)))
    state = State(
        static={"current_step": step, "origin": _origin(sim)}.items(),
        model=State(**dict.fromkeys(leaf.name for leaf in model.leaves(sim))),
        coupling=State(**dict.fromkeys(leaf.name for leaf in coupling.leaves(sim))),
        connectivity=State(weights=None),
        integrator=State(**children),
        monitors=monitors.nodes(sim, step, n_steps, simulate.monitors, streams),
        initial_conditions=jnp.asarray(history.of(sim), dtype),
        **parts,
    )
    for leaf in parameter_map(sim):
        state = with_path(state, leaf.path, leaf.state_value(sim))
    return with_n_regions(state, sim.connectivity.weights.shape[0])


def _origin(sim):
    """Origin of a simulator's states, with the domains of its parameters."""
    table = parameter_map(sim)
    domains = tuple((leaf.path, *bounds) for leaf in table if (bounds := leaf.bounds(sim)) is not None)
    return replace(origin.of(sim), domains=domains, positive=tuple(leaf.path for leaf in table if leaf.positive))


def _key(noise):
    """JAX key that the draws come from; None for TVB's own stream."""
    if isinstance(noise, str) and noise == "tvb":
        return None
    if not isinstance(noise, jax.Array) or not (
        jnp.issubdtype(noise.dtype, jax.dtypes.prng_key) or (noise.dtype == jnp.uint32 and noise.shape == (2,))
    ):
        raise ValueError(f'noise: {noise!r}; give "tvb", for the simulator\'s own draws, or a key of jax.random.key().')
    return noise
