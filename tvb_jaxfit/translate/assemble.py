"""Assembly of a simulate function and its state from the translated components of a simulator."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator.simulator import Simulator

from ..checks import options as allowed
from ..checks.options import check
from ..dynamics.monitors import NoOutput
from ..dynamics.simulate import Simulate
from ..dynamics.step import Step
from ..state import State, with_n_regions, with_path
from .clone import PackedSimulator
from .components.contract import RunSpan
from .components.registry import components_of
from .double_precision import in_double
from .origin import origin_with_domains
from .parameter_map import parameter_map
from .random_stream import GlobalStreamGuard
from .shapes import Shapes
from .tracing.untranslatable import Untranslatable
from .translated_simulator import TranslatedSimulator, translate_components


@dataclass(frozen=True, eq=False)
class SimulateFactory:
    """Factory of a `Simulate` in another process, from a configured copy of the simulator.

    Attributes
    ----------
    reference : Simulator
    n_steps : int
    is_homogeneous : bool
        See `Step`.
    monitor : int or None
        Index of the only monitor; None for all monitors.
    """

    reference: Simulator
    n_steps: int
    is_homogeneous: bool = True
    monitor: int | None = None

    def __getstate__(self):
        return vars(self) | {"reference": PackedSimulator(self.reference)}

    def __setstate__(self, values):
        vars(self).update(values | {"reference": values["reference"].unpack()})

    def __call__(self) -> Simulate:
        """Make the `Simulate`.

        Raises
        ------
        UnsupportedComponent
            If a component is not translated any more, as when a user's source is not found.
        """
        with GlobalStreamGuard(self.reference):
            translated = translate_components(self.reference)
        simulate = _simulate(translated, self.n_steps, self.is_homogeneous).with_factory(self)
        return simulate if self.monitor is None else simulate.with_monitor(self.monitor)


def assemble(
    translated: TranslatedSimulator,
    simulation_length: float | None = None,
    noise: Any = "tvb",
    reference: Simulator | None = None,
    n_steps: int | None = None,
) -> tuple[Simulate, State]:
    """Assemble a simulate function and its state; see `prepare`.

    Parameters
    ----------
    translated : TranslatedSimulator
    simulation_length, noise
        As for `prepare`.
    reference : Simulator, optional
        Another configured copy of the same simulator to start from, such as one with a double-precision history.
    n_steps : int, optional
        Number of steps, in place of ceil(length / dt).

    Returns
    -------
    simulate : Simulate
    state : State

    Raises
    ------
    ValueError
        If the length is not positive, a monitor would record nothing in it, or ``noise`` is neither "tvb" nor a key.
    """
    reference = translated.reference if reference is None else reference
    check("prepare", simulation_length=(simulation_length, allowed.optional(allowed.real)))
    length = float(reference.simulation_length if simulation_length is None else simulation_length)
    dt = float(reference.integrator.dt)
    if not (np.isfinite(length) and length > 0.0):
        raise ValueError(f"simulation_length: {length} ms; give a positive length.")
    n_steps = math.ceil(length / dt) if n_steps is None else n_steps
    simulate, state = assemble_unchecked(translated, n_steps, reference, noise)
    may_differ = simulate.step.is_local and _has_user_code(reference)
    is_homogeneous = not may_differ or _is_homogeneous(simulate, state)
    simulate = replace(simulate, step=replace(simulate.step, is_homogeneous=is_homogeneous))
    simulate = simulate.with_factory(SimulateFactory(reference, n_steps, is_homogeneous), jax.config.jax_enable_x64)
    for index, monitor in enumerate(simulate.monitors):
        if not isinstance(monitor, NoOutput) and monitor.steps(reference.current_step, n_steps).size == 0:
            raise ValueError(
                f"simulation_length: {length:g} ms is too short for monitors[{index}] ({monitor.name}, every "
                f"{monitor.istep * dt:g} ms): it would record nothing. Simulate at least one period."
            )
    return simulate, state


def assemble_unchecked(
    translated: TranslatedSimulator, n_steps: int, reference: Simulator, noise: Any = "tvb"
) -> tuple[Simulate, State]:
    """Assemble a simulate function and its state, even if a monitor records nothing."""
    span = RunSpan(int(reference.current_step), n_steps, _key(noise))
    return _simulate(translated, n_steps), _state(reference, span)


def _simulate(translated, n_steps, is_homogeneous=True):
    reference, components = translated.reference, translated.components.values()
    position = {path: shape for part in components for path, shape in part.position_shapes(n_steps).items()}
    table = [parameter for parameter in parameter_map(reference) if not parameter.path.startswith("monitors[")]
    shapes = Shapes({parameter.path: parameter.allowed_shapes(reference) for parameter in table}, position)
    return Simulate(
        step=_network_step(translated, is_homogeneous),
        constants=_constants(components, shapes),
        inputs=_inputs(translated.components, n_steps, shapes),
        monitors=translated["monitors"].monitors,
        n_steps=n_steps,
        dt=float(reference.integrator.dt),
        observe=translated["model"].observe,
        description=describe(reference),
    )


def _network_step(translated, is_homogeneous):
    """Step that joins model, coupling, connectivity and integrator."""
    model, coupling = translated["model"], translated["coupling"]
    return Step(
        local=translated["integrator"].local_map(model.vector_field),
        cvar=tuple(int(i) for i in translated.reference.model.cvar),
        post=coupling.post,
        channels=coupling.channels,
        pairwise=coupling.pairwise,
        delays=translated["connectivity"].delays,
        sparsity_mask=translated["connectivity"].sparsity_mask,
        is_nonlocal=model.vector_field.is_nonlocal,
        is_homogeneous=is_homogeneous,
    )


def _constants(components, shapes):
    """Function from the state to the constants of all components."""

    def constants(state):
        shapes.check_parameters(state)
        return {name: value for part in components for name, value in part.constants(state).items()}

    return constants


def _inputs(components, n_steps, shapes):
    """Function from the state to the inputs of each step, and to the integrator's node after the run."""
    functions = {name: part.inputs(n_steps) for name, part in components.items()}

    def inputs(state):
        shapes.check_position(state)
        entering, after = {}, {"integrator": state.integrator}
        for name, function in functions.items():
            if function is not None:
                values, after[name] = function(state)
                entering |= values
        return entering, after["integrator"]

    return inputs


def _has_user_code(sim):
    """True if model, coupling or noise is of a user's class."""
    components = (sim.model, sim.coupling, getattr(sim.integrator, "noise", None))
    return any(not type(part).__module__.startswith("tvb.simulator.") for part in components if part is not None)


def _is_homogeneous(simulate, state):
    """True if a step of two samples, as one sample of twice as many nodes, is the step of each by itself."""
    step, random = simulate.step, np.random.RandomState(0)
    inputs, _ = simulate.inputs(state)
    x = np.asarray(state.initial_conditions[-1], float)
    theta, u = (
        jax.tree.map(np.asarray, tree) for tree in (simulate.constants(state), jax.tree.map(lambda a: a[0], inputs))
    )
    s = random.uniform(0.0, 1.0, jax.eval_shape(step.source_output, theta, x).shape)

    def twice(value):
        return np.concatenate([value, value], axis=-2) if value.shape[-2] == x.shape[1] else value

    single = in_double(step.next_state, theta, x, s, u)
    try:
        double = in_double(step.next_state, *jax.tree.map(twice, (theta, x, s, u)))
    except (Untranslatable, TypeError, ValueError, IndexError):
        return False
    return np.array_equal(double, np.concatenate([single, single], axis=1), equal_nan=True)


def describe(sim: Simulator) -> str:
    """Description of a configured simulator in one line."""
    scheme = f"{type(sim.integrator).__name__}, dt {sim.integrator.dt:g} ms"
    delays = f", delays up to {sim.connectivity.idelays.max()} steps" if sim.connectivity.idelays.any() else ""
    return (
        f"{type(sim.model).__name__}, {sim.connectivity.weights.shape[0]} regions, "
        f"{type(sim.coupling).__name__} coupling{delays}, {scheme}"
    )


def _state(sim, span):
    """State of a configured simulator: the node of each component, filled with its parameters."""
    state = State(
        static={"current_step": span.start, "origin": origin_with_domains(sim)}.items(),
        **{component.NAME: component.node(sim, span) for component in components_of(sim)},
    )
    for parameter in parameter_map(sim):
        state = with_path(state, parameter.path, parameter.state_value(sim))
    return with_n_regions(state, sim.connectivity.weights.shape[0])


def _key(noise):
    """JAX key of fresh noise; None for TVB's own stream."""
    if isinstance(noise, str) and noise == "tvb":
        return None
    if not isinstance(noise, jax.Array) or not (
        jnp.issubdtype(noise.dtype, jax.dtypes.prng_key) or (noise.dtype == jnp.uint32 and noise.shape == (2,))
    ):
        raise ValueError(f'noise: {noise!r}; give "tvb", for the simulator\'s own draws, or a key of jax.random.key().')
    return noise
