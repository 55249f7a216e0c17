"""Integrator and its noise: the node-local map of one step."""

import numpy as np
from tvb.simulator import integrators, noise

from ..dynamics import schemes
from ..dynamics.noise import amplitude
from . import model as translate_model
from .leaves import Leaf

_SCHEMES = {
    integrators.HeunDeterministic: schemes.heun,
    integrators.HeunStochastic: schemes.heun,
    integrators.EulerDeterministic: schemes.euler,
    integrators.EulerStochastic: schemes.euler,
}

SUPPORTED = ", ".join(cls.__name__ for cls in _SCHEMES)


def is_stochastic(integrator):
    """Whether the integrator draws noise."""
    return isinstance(integrator, integrators.IntegratorStochastic)


def refusals(sim):
    """Reasons why the integrator of a simulator is not translated."""
    integrator = sim.integrator
    if type(integrator) not in _SCHEMES:
        yield f"Simulator.integrator: {type(integrator).__name__} is not supported yet (supported: {SUPPORTED})."
        return
    if not (np.isfinite(integrator.dt) and integrator.dt > 0.0):
        yield f"Simulator.integrator.dt: {integrator.dt} ms; give a positive step."
    if integrator.clamped_state_variable_values is not None:
        yield "Simulator.integrator.clamped_state_variable_values: clamping is not supported yet. Remove it."
    if is_stochastic(integrator):
        yield from _noise_refusals(sim)


def _noise_refusals(sim):
    source = sim.integrator.noise
    path = "Simulator.integrator.noise"
    if type(source) is not noise.Additive:
        yield f"{path}: {type(source).__name__} is not supported yet (supported: Additive)."
        return
    if source.ntau > 0.0:
        yield f"{path}.ntau: {source.ntau}; coloured noise is not supported yet (supported: ntau = 0, white)."
    nsig = np.asarray(source.nsig)
    if not np.all(np.isfinite(nsig)) or np.any(nsig < 0.0):
        yield f"{path}.nsig: holds values that are negative or not finite; give dispersions of at least 0."
    n_node, n_var = sim.connectivity.weights.shape[0], len(sim.model.state_variables)
    shapes = [(1,), (n_var,), (n_node,), (n_var, n_node), (n_var, n_node, 1), (n_var, 1, 1), (1, n_node, 1)]
    if nsig.shape not in shapes:
        yield f"{path}.nsig: shape {nsig.shape}; TVB takes {', '.join(map(str, dict.fromkeys(shapes)))}."


def leaves(sim):
    """Table of the noise's parameters."""

    def native(value, sim):
        if value.size == 1:
            return value.reshape(1)
        n_node = sim.connectivity.weights.shape[0]
        return value.reshape((1, n_node, 1)) if value.shape == (n_node,) else value

    if not is_stochastic(sim.integrator):
        return []

    def shaped(value):
        return value.ravel() if value.ndim == 3 and value.shape[0] == value.shape[2] == 1 else value

    return [Leaf("integrator.noise.nsig", lambda sim: sim.integrator.noise, "nsig", native, shaped)]


def local_map(sim):
    """(theta, x, coupling, draws) to the next x, for a configured simulator."""
    integrator = sim.integrator
    scheme = _SCHEMES[type(integrator)](
        translate_model.vector_field(sim.model),
        schemes.clip(translate_model.bounds(integrator)),
        float(integrator.dt),
    )
    if is_stochastic(integrator):
        return lambda theta, x, c, z: scheme(theta["model"], x, c, theta["noise"] * z)
    return lambda theta, x, c, z: scheme(theta["model"], x, c, 0.0)


def constants(sim):
    """Function from the noise's node of the state to the amplitude of a step's noise, (n_var or 1, n_node or 1, 1)."""
    dt = float(sim.integrator.dt)
    n_node, n_var = sim.connectivity.weights.shape[0], sim.model.nvar

    def standard_deviation(node):
        nsig = node.nsig
        if nsig.size == 1:
            nsig = nsig.reshape((1, 1, 1))
        elif nsig.shape == (n_node,):
            nsig = nsig.reshape((1, n_node, 1))
        elif nsig.ndim != 3 or nsig.shape[0] not in (1, n_var) or nsig.shape[1] not in (1, n_node):
            raise ValueError(
                f"State.integrator.noise.nsig: shape {nsig.shape} is neither global (one value) nor regional "
                f"({n_node},). Give one value, or one for each of the {n_node} regions."
            )
        return amplitude(nsig, dt)

    return standard_deviation
