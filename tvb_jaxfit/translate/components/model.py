"""Model: its parameters in the state, and what monitors see of it."""

import jax
import numpy as np
from tvb.simulator.models.base import Model

from .. import traits
from ..clone import configured_clone
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter, global_or_regional
from ..tracing.method import Untranslatable, trace
from . import vector_field_oracle as trials

_TOLERANCE = 1e-12


def refusals(sim):
    """Reasons why the model of a simulator is not translated, as far as they show before configure()."""
    model = sim.model
    if not isinstance(model, Model):
        yield f"Simulator.model: {type(model).__name__} is no tvb.simulator.models.base.Model."
        return
    n_node = np.shape(sim.connectivity.weights)[0]
    for parameter in traits.parameters(model):
        value = np.asarray(parameter.read(model))
        path = f"Simulator.model.{parameter.name}"
        if parameter.shape is not None:
            if value.size != np.prod(parameter.shape):
                yield f"{path}: shape {value.shape}; {type(model).__name__} declares {parameter.shape}."
        elif value.size not in (1, n_node):
            yield f"{path}: {value.size} values for {n_node} regions. Give one value, or one for each region."
        if not np.all(np.isfinite(value)):
            yield f"{path}: {np.sum(~np.isfinite(value))} values are not finite. Give finite ones."
    for name in traits.flags(model):
        size = np.size(getattr(model, name))
        if size not in (1, n_node):
            yield f"Simulator.model.{name}: {size} values for {n_node} regions. Give one value, or one for each region."


def leaves(sim):
    """Table of the model's parameters."""
    return [_leaf(parameter) for parameter in traits.parameters(sim.model)]


def _leaf(parameter):
    def native(value, sim):
        held = np.shape(parameter.read(sim.model))
        if parameter.shape is not None or value.size == np.prod(held):
            return value.reshape(held)
        if value.size == 1:
            return value.reshape(1)
        if not trials.derives_attributes(sim.model):
            return value.reshape(sim.model.spatial_param_reshape)
        configured = configured_clone(sim).model
        return trials.in_regional_layout(value, trials.find_regional_layouts(configured, value.size)[parameter.name])

    def shapes(sim):
        if parameter.shape is not None or parameter.is_scalar:
            return ((1,) if parameter.is_scalar else parameter.shape,)
        return global_or_regional(np.shape(sim.connectivity.weights)[0])

    return MappedParameter(
        f"model.{parameter.name}",
        lambda sim: sim.model,
        parameter.name,
        native,
        parameter.shaped,
        is_scalar=parameter.is_scalar,
        shapes=shapes,
    )


def observed(model):
    """What monitors see of the states (n_time, n_var, n_node, n_mode): rows of them, or expressions."""
    names = model.variables_of_interest
    if _are_rows(model):
        rows = tuple(model.state_variables.index(name) for name in names)
        if rows == tuple(range(model.nvar)):
            return lambda states: states
        return lambda states: states[:, np.asarray(rows)]
    return jax.vmap(lambda state: trace(None, model.observe, {}, state)[0])


def _are_rows(model):
    """Whether the variables of interest are plain state variables."""
    return all(name in model.state_variables for name in model.variables_of_interest)


def disagreement(sim, seed=0):
    """Why what monitors see is not what TVB's monitors see, or nothing.

    Yields
    ------
    str
    """
    model = sim.model
    path = "Simulator.model.variables_of_interest"
    state = np.random.RandomState(seed).uniform(0.1, 0.9, size=sim.current_state.shape)
    names = ", ".join(model.variables_of_interest)
    try:
        theirs = np.asarray(model.observe(state))
    except Exception as error:
        yield (
            f"{path}: TVB fails with {names}: {type(error).__name__}: {error}. Name state variables "
            f"({', '.join(model.state_variables)}), or expressions of them."
        )
        return
    if theirs.ndim != 3:
        yield f"{path}: {names} gives shape {theirs.shape}, not (n_voi, n_node, n_mode). Name values at each region."
        return
    try:
        ours = in_double(lambda state: observed(model)(state[None])[0], state)
    except (Untranslatable, ValueError, TypeError) as error:
        yield f"{path}: {names} is not translated: {error}."
        return
    if not max_row_error(ours, theirs) <= _TOLERANCE:
        yield f"{path}: what is translated of {names} differs from TVB's."
