"""Integrator: scheme, bounds and clamps, as the node-local map of one step; and its noise."""

from functools import partial

import jax.numpy as jnp
import numpy as np
from tvb.simulator import integrators
from tvb.simulator.models.base import Model

from ...dynamics import schemes
from ...state import State
from ..mapped_parameter import MappedParameter
from ..shapes import shape_problems
from ..subclasses import supported_base, unsupported_reason
from ..tracing.method import trace_in_place
from ..tracing.step_attributes import StepAttributes
from ..tracing.untranslatable import Untranslatable
from . import contract, noise

NAME, POSITION = "integrator", rf"integrator\.{noise.POSITION}"
handles = contract.handles_all
warn = contract.no_warning
unconfigure = contract.nothing_to_unconfigure
rederive = contract.nothing_to_rederive

_SCHEMES = {
    integrators.HeunDeterministic: schemes.heun_deterministic,
    integrators.HeunStochastic: schemes.heun_stochastic,
    integrators.EulerDeterministic: schemes.euler_deterministic,
    integrators.EulerStochastic: schemes.euler_stochastic,
    integrators.RungeKutta4thOrderDeterministic: schemes.runge_kutta_4,
    integrators.Identity: schemes.identity,
    integrators.IdentityStochastic: schemes.identity,
}
_BEFORE, _AFTER = "update_state_variables_before_integration", "update_state_variables_after_integration"

SUPPORTED = ", ".join(cls.__name__ for cls in _SCHEMES)


def is_stochastic(integrator):
    """True if the integrator draws noise."""
    return isinstance(integrator, integrators.IntegratorStochastic)


def refusals(sim):
    """Reasons against translation that show before configure()."""
    integrator = sim.integrator
    if supported_base(integrator, _SCHEMES) is None:
        adapts_step = ": it adapts its own step" if isinstance(integrator, integrators.SciPyODEBase) else ""
        reason = unsupported_reason(integrator, _SCHEMES) + adapts_step
        yield f"Simulator.integrator: {reason}. Use one of {SUPPORTED}."
        return
    if not (np.isfinite(integrator.dt) and integrator.dt > 0.0):
        yield f"Simulator.integrator.dt: {integrator.dt} ms; give a positive step."
    values = integrator.clamped_state_variable_values
    if values is not None and not np.all(np.isfinite(values)):
        yield "Simulator.integrator.clamped_state_variable_values: hold values that are not finite. Give finite ones."
    if (values is None) != (integrator.clamped_state_variable_indices is None):
        yield (
            "Simulator.integrator: clamping takes both clamped_state_variable_indices and "
            "clamped_state_variable_values. Give both, or neither."
        )
    if is_stochastic(integrator):
        yield from noise.refusals(sim)


def refusals_configured(sim):
    """Reasons against translation that show in a configured copy only."""
    if is_stochastic(sim.integrator):
        yield from noise.refusals_configured(sim)
    if _has_clamps(sim):
        try:
            _clamped_shape(sim)
        except ValueError as error:
            yield f"Simulator.integrator.clamped_state_variable_values: {error}. Give (n_clamped, n_node, n_mode)."


def _has_clamps(sim):
    return sim.integrator.clamped_state_variable_values is not None


def _clamped_shape(sim):
    """Shape of the clamped values with all three axes.

    Raises
    ------
    ValueError
        If they do not broadcast to (n_clamped, n_node, n_mode).
    """
    integrator = sim.integrator
    shape = np.shape(integrator.clamped_state_variable_values)
    n_clamped = np.size(integrator.clamped_state_variable_indices)
    np.broadcast_to(np.zeros(shape), (n_clamped, *sim.current_state.shape[1:]))
    return (1,) * (3 - len(shape)) + shape


def translate(sim):
    """Translate the integrator of a configured simulator, with its noise."""
    stochastic = is_stochastic(sim.integrator)
    return contract.TranslatedIntegrator(
        constants=_constants(sim),
        inputs=partial(_inputs, sim) if stochastic else contract.no_inputs,
        position_shapes=partial(noise.position_shapes, sim) if stochastic else contract.no_position_shapes,
        local_map=partial(_local_map, sim),
        updates_model=_updates_model(sim.model),
    )


def _constants(sim):
    """Function from the state to the constants of the step: noise amplitude and clamped values."""
    noise_constants = noise.constants(sim) if is_stochastic(sim.integrator) else None
    clamped_shape = _clamped_shape(sim) if _has_clamps(sim) else None

    def constants(state):
        theta = {} if noise_constants is None else {"noise": noise_constants(state.integrator.noise)}
        if clamped_shape is not None:
            theta["clamped"] = jnp.reshape(state.integrator.clamped_state_variable_values, clamped_shape)
        return theta

    return constants


def _inputs(sim, n_steps):
    """Function from the state to the noise of a run, and to the integrator's node after the run."""
    series = noise.series(sim)

    def inputs(state):
        values, after = series(state.integrator.noise)
        return {"noise": values}, state.integrator.replace(noise=after)

    return inputs


def _local_map(sim, field):
    """Function (theta, x, c, u) to the next x, of a configured simulator and its vector field."""
    integrator, model = sim.integrator, sim.model
    integrated = np.flatnonzero(model.state_variable_mask)
    # Bounds and clamps act on the integrated variables within a step. A model that updates variables itself has them
    # applied to all variables after each update.
    inner_clip = schemes.clip(
        _bounds(
            integrator._bounded_integration_state_variable_indices, integrator._integration_state_variable_boundaries
        )
    )
    outer_clip = schemes.clip(_bounds(integrator.bounded_state_variable_indices, integrator.state_variable_boundaries))
    outer_rows, inner_rows = _clamped_rows(sim, integrated)
    scheme = _SCHEMES[supported_base(integrator, _SCHEMES)]
    diffusion = noise.diffusion(sim) if is_stochastic(integrator) else None
    dt = float(integrator.dt)

    def advance(theta, x, coupling, inputs, step_attributes=None):
        noise_term = diffusion(theta, x) * inputs["noise"] if diffusion else 0.0
        first = []
        if field.writes_states:
            # TVB's schemes evaluate dfun first of all, and go on with the state as dfun leaves it.
            dx, x = field.in_place(theta["model"], x, coupling, step_attributes)
            first.append(dx)
        step = scheme(
            lambda theta, x, c: first.pop() if first else field(theta["model"], x, c, step_attributes),
            lambda x: _clamp(theta, inner_clip(x), inner_rows),
            dt,
        )
        return step(theta, x, coupling, noise_term, _stimulus(sim, inputs))

    if integrated.size == model.nvar and not _updates_model(model):
        return advance

    def update(theta, step_attributes, name, x, *others):
        """State and other arguments after an update of the model's own, which may write to them in place."""
        new, _, (x, *others) = trace_in_place(
            model, name, field.model_attributes(theta["model"]), x, *others, step_attributes=step_attributes
        )
        return x if new is None else _clamp(theta, outer_clip(jnp.asarray(new)), outer_rows), *others

    def advance_with_updates(theta, x, coupling, inputs):
        step_attributes, stimulus = StepAttributes(), _stimulus(sim, inputs)
        x, coupling, _, after = update(
            theta, step_attributes, _BEFORE, jnp.asarray(x), jnp.asarray(coupling), 0.0, stimulus
        )
        if after is not stimulus:
            raise Untranslatable(f"{_BEFORE} writes in place into the stimulus; give it a copy")
        x = x.at[integrated].set(advance(theta, x[integrated], coupling, inputs, step_attributes))
        (x,) = update(theta, step_attributes, _AFTER, x)
        step_attributes.refuse_carried_over(model)
        return x

    return advance_with_updates


def _bounds(indices, boundaries):
    """(state variable, lower, upper) of each bounded state variable."""
    if boundaries is None:
        return ()
    return tuple((int(i), float(low), float(high)) for i, (low, high) in zip(indices, boundaries, strict=True))


def _clamp(theta, x, rows):
    """State with the clamped values in place; rows of the values and of the state, see `_clamped_rows`."""
    for row, index in rows:
        values, x = theta["clamped"], jnp.asarray(x)
        x = x.at[index].set(jnp.broadcast_to(values[row if values.shape[0] > 1 else 0], x.shape[1:]))
    return x


def _clamped_rows(sim, integrated):
    """(row of the clamped values, row of the state) of each clamp: of all variables, and of the integrated ones."""
    if not _has_clamps(sim):
        return (), ()
    rows = [(row, int(index)) for row, index in enumerate(np.ravel(sim.integrator.clamped_state_variable_indices))]
    position = {int(index): position for position, index in enumerate(integrated)}
    return rows, [(row, position[index]) for row, index in rows if index in position]


def _stimulus(sim, inputs):
    """Stimulus on the variables that receive it; 0.0 without one."""
    if "stimulus" not in inputs:
        return 0.0
    receives = np.zeros((sim.model.nvar, 1, 1))
    receives[sim.model.stvar] = 1.0
    return jnp.asarray(receives, inputs["stimulus"].dtype) * inputs["stimulus"]


def _updates_model(model):
    """True if TVB calls the model's own updates around the integration (models with variables not integrated)."""
    own = (getattr(type(model), name) is not getattr(Model, name) for name in (_BEFORE, _AFTER))
    return model.has_nonint_vars and any(own)


def parameters(sim):
    """Parameters of the integrator and its noise."""
    table = noise.parameters(sim) if is_stochastic(sim.integrator) else []
    if _has_clamps(sim):
        table.append(
            MappedParameter(
                "integrator.clamped_state_variable_values",
                lambda sim: sim.integrator,
                "clamped_state_variable_values",
            )
        )
    return table


def node(sim, span):
    """Integrator's part of the state."""
    children = {"noise": noise.node(sim, span)} if is_stochastic(sim.integrator) else {}
    return State(**children | ({"clamped_state_variable_values": None} if _has_clamps(sim) else {}))


def position_problems(sim, state):
    """Reasons why the noise of a state cannot be put into a configured simulator.

    The number of draws is a matter of the state's own length: the stream says where the noise goes on.
    """
    return shape_problems(noise.position_shapes(sim, None), state) if is_stochastic(sim.integrator) else ()


def restore(sim, state):
    """Put memory and random stream of a state's noise into a configured simulator."""
    if "noise" in state.integrator:
        noise.restore(sim.integrator.noise, state.integrator.noise, int(state.current_step))
