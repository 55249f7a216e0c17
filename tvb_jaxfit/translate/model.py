"""Model: vector field, bounds, observed expressions."""

import numpy as np
from tvb.simulator import models

from ..dynamics import vector_fields
from .leaves import Leaf, in_double, node_column

# Hand-written fields, for models whose formula is numerically singular, with the parameters that enter them.
_FIELDS = {
    models.ReducedWongWang: (
        vector_fields.reduced_wong_wang,
        ("a", "b", "d", "gamma", "tau_s", "w", "J_N", "I_o"),
    ),
}
# Parameters of a model that enter no equation: in the state, with zero gradient.
_IDLE = {models.ReducedWongWang: ("sigma_noise",)}
_TOLERANCE = 1e-11

SUPPORTED = ", ".join(cls.__name__ for cls in _FIELDS)


def refusals(sim):
    """Reasons why the model of a simulator, configured or not, is not translated."""
    model = sim.model
    if type(model) not in _FIELDS:
        yield f"Simulator.model: {type(model).__name__} is not supported yet (supported: {SUPPORTED})."
        return
    unknown = [name for name in model.variables_of_interest if name not in model.state_variables]
    if unknown:
        yield (
            f"Simulator.model.variables_of_interest: {', '.join(unknown)} is no state variable "
            f"({', '.join(model.state_variables)}); expressions are not supported yet. Name state variables alone."
        )
    n_node = sim.connectivity.weights.shape[0]
    for name in parameter_names(model):
        value = np.asarray(getattr(model, name))
        if value.size not in (1, n_node):
            yield (
                f"Simulator.model.{name}: {value.size} values for {n_node} regions. "
                f"Give one value, or one for each region."
            )
        elif not np.all(np.isfinite(value)):
            yield f"Simulator.model.{name}: {np.sum(~np.isfinite(value))} values are not finite. Give finite ones."


def parameter_names(model):
    """Names of the float parameters of a supported model, those that enter no equation included."""
    return (*_FIELDS[type(model)][1], *_IDLE[type(model)])


def leaves(sim):
    """Table of the model's parameters."""

    def native(value, sim):
        return value.reshape(-1)

    return [Leaf(f"model.{name}", lambda sim: sim.model, name, native, np.ravel) for name in parameter_names(sim.model)]


def vector_field(model):
    """(parameters, x, coupling) to dx/dt, parameters as `constants` gives them."""
    return _FIELDS[type(model)][0]


def constants(model, n_node):
    """Function from the model's node of the state to the parameters of `vector_field`, as columns."""
    names = _FIELDS[type(model)][1]

    def columns(node):
        return {name: node_column(getattr(node, name), n_node, f"model.{name}") for name in names}

    return columns


def bounds(integrator):
    """(state variable, lower, upper) of each bounded state variable of a configured integrator."""
    if integrator.state_variable_boundaries is None:
        return ()
    return tuple(
        (int(index), float(low), float(high))
        for index, (low, high) in zip(
            integrator.bounded_state_variable_indices, integrator.state_variable_boundaries, strict=True
        )
    )


def observed(model):
    """State variables that monitors see, in the order of variables_of_interest."""
    return tuple(model.state_variables.index(name) for name in model.variables_of_interest)


def disagreement(sim, seed=0):
    """Reason to refuse where the translated field differs from TVB's own on random states and couplings.

    Parameters
    ----------
    sim : Simulator
        Configured, and nobody else's: TVB's function is called on it.

    Yields
    ------
    str
    """
    model, n_node = sim.model, sim.connectivity.number_of_regions
    random = np.random.RandomState(seed)
    ranges = np.array([model.state_variable_range[name] for name in model.state_variables])
    shape = (model.nvar, n_node, model.number_of_modes)
    x = random.uniform(ranges[:, :1, None], ranges[:, 1:, None], size=shape)
    coupling = random.uniform(-0.5, 2.0, size=(len(model.cvar), *shape[1:]))
    with np.errstate(over="ignore"):  # exp in TVB's formula, far from the singular point: the value is right
        theirs, above, below = (model.dfun(x * nudge, coupling * nudge) for nudge in (1.0, 1.0 + 1e-8, 1.0 - 1e-8))
    # A second difference this small leaves only the digits that TVB's formula loses near its singular point.
    floor = np.max(np.abs(above + below - 2.0 * theirs)) / np.max(np.abs(theirs))
    columns = {name: np.asarray(getattr(model, name), dtype=float).reshape(-1, 1) for name in _FIELDS[type(model)][1]}
    ours = in_double(vector_field(model), columns, x, coupling)
    worst = np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))
    if not worst <= max(_TOLERANCE, 4.0 * floor):
        yield (
            f"Simulator.model: the translated vector field differs from {type(model).__name__}.dfun by {worst:.1e} of "
            "its maximum. Either it is not the model that this version of tvb_jaxfit knows (please report it, with the "
            "version of tvb-library), or TVB's formula loses these digits with its parameters."
        )
