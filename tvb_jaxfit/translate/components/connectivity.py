"""Connectivity: weights and delays."""

import numpy as np
from tvb.datatypes.connectivity import Connectivity

from ...dynamics.network import sparsity_mask
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base, unsupported_reason
from . import contract

NAME, POSITION = "connectivity", ""
handles = contract.handles_all
refusals_configured = contract.no_refusals
warn = contract.no_warning
position_problems = contract.no_position_problems
restore = contract.nothing_to_restore
unconfigure = contract.nothing_to_unconfigure
rederive = contract.nothing_to_rederive


def refusals(sim):
    """Reasons against translation that show before configure()."""
    connectivity = sim.connectivity
    if supported_base(connectivity, (Connectivity,)) is None:
        reason = unsupported_reason(connectivity, (Connectivity,))
        yield f"Simulator.connectivity: {reason}. Give a tvb.datatypes.connectivity.Connectivity."
    n_not_finite = np.sum(~np.isfinite(connectivity.weights))
    if n_not_finite:
        yield f"Simulator.connectivity.weights: {n_not_finite} are not finite. Give finite ones."


def translate(sim):
    """Translate the connectivity of a configured simulator."""
    steps = delays(sim)
    return contract.TranslatedConnectivity(delays=steps, sparsity_mask=sparsity_mask(sim.connectivity.weights, steps))


def delays(sim):
    """Delays of a configured simulator.

    Returns
    -------
    ndarray of int, shape (n_node, n_node), or None
        [steps], [target, source]; None without delays.
    """
    steps = np.asarray(sim.connectivity.idelays, dtype=int)
    return steps if steps.any() else None


def parameters(sim):
    """Parameters of the connectivity: its weights."""
    return [MappedParameter("connectivity.weights", lambda sim: sim.connectivity, "weights")]


def node(sim, span):
    """Connectivity's part of the state."""
    return contract.parameter_node(parameters(sim))
