"""Model: vector field, parameters, and the variables of interest that monitors see."""

import jax
import numpy as np
from tvb.simulator.models.base import Model

from ...errors import UnsupportedComponent
from .. import traits
from ..clone import configured_clone
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter, global_or_regional
from ..tracing.method import trace
from ..tracing.untranslatable import Untranslatable
from . import contract, vector_field
from . import vector_field_oracle as oracle
from .derived_attributes import derives_attributes

NAME, POSITION = "model", ""
handles = contract.handles_all
warn = contract.no_warning
position_problems = contract.no_position_problems
restore = contract.nothing_to_restore
rederive = contract.nothing_to_rederive

_TOLERANCE = 1e-12


def refusals(sim):
    """Reasons against translation that show before configure()."""
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


def refusals_configured(sim, seed=0):
    """Reasons against translation that show in a configured copy only: monitors would see something else."""
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
        ours = in_double(lambda state: _observe(model)(state[None])[0], state)
    except (Untranslatable, ValueError, TypeError) as error:
        yield f"{path}: {names} is not translated: {error}."
        return
    if not max_row_error(ours, theirs) <= _TOLERANCE:
        yield f"{path}: the translation of {names} differs from TVB's."


def translate(sim):
    """Translate the model of a configured simulator; its vector field is compared with TVB's."""
    field, reasons = vector_field.translate_checked(sim)
    if reasons:
        raise UnsupportedComponent(reasons)
    return translated(field)


def translated(field):
    """Translated model with a vector field."""
    return contract.TranslatedModel(
        vector_field=field,
        observe=_observe(field.model),
        constants=lambda state: {"model": field.constants(state.model)},
    )


def _observe(model):
    """Function from states (n_time, n_var, n_node, n_mode) to the model's variables of interest."""
    names = model.variables_of_interest
    if all(name in model.state_variables for name in names):
        rows = tuple(model.state_variables.index(name) for name in names)
        if rows == tuple(range(model.nvar)):
            return lambda states: states
        return lambda states: states[:, np.asarray(rows)]
    return jax.vmap(lambda state: trace(None, model.observe, {}, state)[0])


def parameters(sim):
    """Parameters of the model."""
    return [_mapped(parameter) for parameter in traits.parameters(sim.model)]


def _mapped(parameter):
    def to_tvb(value, sim):
        own_shape = np.shape(parameter.read(sim.model))
        if parameter.shape is not None or value.size == np.prod(own_shape):
            return value.reshape(own_shape)
        if value.size == 1:
            return value.reshape(1)
        if not derives_attributes(sim.model):
            return value.reshape(sim.model.spatial_param_reshape)
        configured = configured_clone(sim).model
        return oracle.in_regional_layout(value, oracle.find_regional_layouts(configured, value.size)[parameter.name])

    def shapes(sim):
        if parameter.shape is not None or parameter.is_scalar:
            return ((1,) if parameter.is_scalar else parameter.shape,)
        return global_or_regional(np.shape(sim.connectivity.weights)[0])

    return MappedParameter(
        f"model.{parameter.name}",
        lambda sim: sim.model,
        parameter.name,
        to_tvb,
        parameter.shaped,
        is_scalar=parameter.is_scalar,
        shapes=shapes,
    )


def node(sim, span):
    """Model's part of the state."""
    return contract.parameter_node(parameters(sim))


def unconfigure(sim):
    """Bring regional parameters of a copy into the layouts in which configure() derives further attributes.

    A model that derives nothing takes any of TVB's layouts.
    """
    model = sim.model
    if not derives_attributes(model):
        return
    regional = [
        p for p in traits.parameters(model) if p.shape is None and not p.is_scalar and np.size(p.read(model)) > 1
    ]
    if not regional:
        return
    layouts = oracle.find_regional_layouts(model, np.shape(sim.connectivity.weights)[0])
    for parameter in regional:
        setattr(model, parameter.name, oracle.in_regional_layout(parameter.read(model), layouts[parameter.name]))
