"""Integrator: scheme, bounds and clamps, as the node-local map of one step."""

import jax.numpy as jnp
import numpy as np
from tvb.simulator import integrators
from tvb.simulator.models.base import Model

from ...dynamics import schemes
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base, unsupported_reason
from ..tracing.method import StepAttributes, Untranslatable, trace_in_place
from . import noise

_SCHEMES = {
    integrators.HeunDeterministic: schemes.heun_deterministic,
    integrators.HeunStochastic: schemes.heun_stochastic,
    integrators.EulerDeterministic: schemes.euler_deterministic,
    integrators.EulerStochastic: schemes.euler_stochastic,
    integrators.RungeKutta4thOrderDeterministic: schemes.runge_kutta_4,
    integrators.Identity: schemes.identity,
    integrators.IdentityStochastic: schemes.identity,
}
_HOOKS = ("update_state_variables_before_integration", "update_state_variables_after_integration")

SUPPORTED = ", ".join(cls.__name__ for cls in _SCHEMES)


def is_stochastic(integrator):
    """Whether the integrator draws noise."""
    return isinstance(integrator, integrators.IntegratorStochastic)


def refusals(sim):
    """Reasons why the integrator of a simulator is not translated."""
    integrator = sim.integrator
    if supported_base(integrator, _SCHEMES) is None:
        why = unsupported_reason(integrator, _SCHEMES) + (": it adapts its own step" if _is_scipy(integrator) else "")
        yield f"Simulator.integrator: {why}. Use one of {SUPPORTED}."
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


def _is_scipy(integrator):
    return isinstance(integrator, integrators.SciPyODEBase)


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    integrator = sim.integrator
    if is_stochastic(integrator):
        yield from noise.later_refusals(sim)
    if integrator.clamped_state_variable_values is not None:
        try:
            _clamped_shape(sim)
        except ValueError as error:
            yield f"Simulator.integrator.clamped_state_variable_values: {error}. Give (n_clamped, n_node, n_mode)."


def _clamped_shape(sim):
    """Shape of the clamped values with all three axes, once they fit."""
    integrator = sim.integrator
    shape = np.shape(integrator.clamped_state_variable_values)
    n_clamped = np.size(integrator.clamped_state_variable_indices)
    np.broadcast_to(np.zeros(shape), (n_clamped, *sim.current_state.shape[1:]))
    return (1,) * (3 - len(shape)) + shape


def leaves(sim):
    """Table of the parameters of the integrator and its noise."""
    table = noise.leaves(sim) if is_stochastic(sim.integrator) else []
    if sim.integrator.clamped_state_variable_values is not None:
        table.append(
            MappedParameter(
                "integrator.clamped_state_variable_values",
                lambda sim: sim.integrator,
                "clamped_state_variable_values",
                lambda value, sim: value.reshape(np.shape(sim.integrator.clamped_state_variable_values)),
            )
        )
    return table


def bounds(integrator):
    """(state variable, lower, upper) of each bounded state variable of a configured integrator."""
    return _pairs(integrator.bounded_state_variable_indices, integrator.state_variable_boundaries)


def _pairs(indices, boundaries):
    if boundaries is None:
        return ()
    return tuple((int(i), float(low), float(high)) for i, (low, high) in zip(indices, boundaries, strict=True))


def local_map(sim, field):
    """(theta, x, coupling, inputs) to the next x, for a configured simulator and its vector field."""
    integrator, model = sim.integrator, sim.model
    integrated = np.flatnonzero(model.state_variable_mask)
    every = integrated.size == model.nvar
    # What acts on the integrated variables, and what acts on all: the same but for models that update some themselves.
    inner_clip = schemes.clip(
        _pairs(
            integrator._bounded_integration_state_variable_indices, integrator._integration_state_variable_boundaries
        )
    )
    outer_clip = schemes.clip(bounds(integrator))
    clamped, inner_rows = _clamped(sim, integrated)
    scheme = _SCHEMES[supported_base(integrator, _SCHEMES)]
    diffusion = noise.diffusion(sim) if is_stochastic(integrator) else None
    dt = float(integrator.dt)

    def clamp(theta, x, rows):
        for row, index in rows:
            values, x = theta["clamped"], jnp.asarray(x)
            x = x.at[index].set(jnp.broadcast_to(values[row if values.shape[0] > 1 else 0], x.shape[1:]))
        return x

    def advance(theta, x, coupling, inputs, step_attributes=None):
        take_noise = diffusion(theta, x) * inputs["noise"] if diffusion else 0.0
        first = []
        if field.writes_states:
            # TVB's schemes evaluate dfun at the state before all else, and go on with the state as dfun leaves it.
            dx, x = field.in_place(theta["model"], x, coupling, step_attributes)
            first.append(dx)
        step = scheme(
            lambda theta, x, c: first.pop() if first else field(theta["model"], x, c, step_attributes),
            lambda x: clamp(theta, inner_clip(x), inner_rows),
            dt,
        )
        return step(theta, x, coupling, take_noise, _stimulus(sim, theta, inputs))

    if every and not has_hooks(model):
        return advance

    def updated(theta, step_attributes, name, x, *others):
        """State and other arguments after one of the model's own updates, which may write to them in place."""
        new, _, (x, *others) = trace_in_place(
            model, name, field.model_attributes(theta["model"]), x, *others, step_attributes=step_attributes
        )
        return x if new is None else clamp(theta, outer_clip(jnp.asarray(new)), clamped), *others

    def with_hooks(theta, x, coupling, inputs):
        step_attributes, drive = StepAttributes(), _stimulus(sim, theta, inputs)
        x, coupling, _, after = updated(
            theta, step_attributes, _HOOKS[0], jnp.asarray(x), jnp.asarray(coupling), 0.0, drive
        )
        if after is not drive:
            raise Untranslatable(f"{_HOOKS[0]} writes in place into the stimulus; give it a copy")
        x = x.at[integrated].set(advance(theta, x[integrated], coupling, inputs, step_attributes))
        (x,) = updated(theta, step_attributes, _HOOKS[1], x)
        step_attributes.refuse_carried_over(model)
        return x

    return with_hooks


def has_hooks(model):
    """Whether TVB calls the model's own updates around the integration: for models with variables not integrated."""
    return model.has_nonint_vars and any(getattr(type(model), name) is not getattr(Model, name) for name in _HOOKS)


def _clamped(sim, integrated):
    """(row of the values, state variable) of each clamp: of all variables, and of the integrated ones."""
    indices = sim.integrator.clamped_state_variable_indices
    if sim.integrator.clamped_state_variable_values is None:
        return (), ()
    rows = [(row, int(index)) for row, index in enumerate(np.ravel(indices))]
    place = {int(index): position for position, index in enumerate(integrated)}
    return rows, [(row, place[index]) for row, index in rows if index in place]


def _stimulus(sim, theta, inputs):
    """The stimulus on the variables that it is given to; 0.0 where there is none."""
    if "stimulus" not in inputs:
        return 0.0
    shape = (sim.model.nvar, 1, 1)
    rows = np.zeros(shape)
    rows[sim.model.stvar] = 1.0
    return jnp.asarray(rows, inputs["stimulus"].dtype) * inputs["stimulus"]


def constants(sim):
    """Function from the state to what the step needs of the integrator."""
    of_noise = noise.constants(sim) if is_stochastic(sim.integrator) else None
    shape = None if sim.integrator.clamped_state_variable_values is None else _clamped_shape(sim)

    def gather(state):
        theta = {} if of_noise is None else {"noise": of_noise(state.integrator.noise)}
        if shape is not None:
            theta["clamped"] = jnp.reshape(state.integrator.clamped_state_variable_values, shape)
        return theta

    return gather
