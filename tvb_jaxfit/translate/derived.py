"""What TVB's configure() derives: whether a configured simulator still holds what configure() would derive now."""

import logging
import types
import uuid
from dataclasses import dataclass

import numpy as np
from tvb.basic.neotraits.api import HasTraits
from tvb.simulator.history import BaseHistory
from tvb.simulator.monitors import Monitor, Projection
from tvb.simulator.noise import Noise
from tvb.simulator.simulator import Simulator

from . import traits
from .clone import clone, configured_clone, history_with_weights
from .components import vector_field_oracle as trials

# Where a run stands, and estimates for people. Each configure() starts these anew; of some the shape is derived.
_RUN_STATE = {
    Simulator: {
        *("current_step", "calls", "_memory_requirement_guess", "_memory_requirement_census"),
        *("_runtime", "_storage_requirement"),
    },
    Noise: {"random_stream", "_eta", "_h"},
    # The last says who gave the mask, the user or TVB: the second configure() takes TVB's own for the user's.
    Monitor: {"_sim", "is_default_special_mask"},
}
_SHAPE_ALONE = {Simulator: {"current_state"}, Monitor: {"_stock", "_interim_stock", "_state"}}
_NAMES_FOR_PEOPLE = {"gid", "title", "tags", "log"}
# Of a history, what configure() puts into it besides the samples.
_OF_HISTORY = ("weights", "delays", "cvars", "n_mode", "n_time")
# Attributes that a derived one comes from, where its own name does not say it.
_SOURCES = {
    "istep": "period",
    "_period_in_steps": "period",
    "voi": "variables_of_interest",
    "observe": "variables_of_interest",
    "hemodynamic_response_function": "hrf_kernel",
    "_stock_steps": "hrf_length",
    "_stock_time": "hrf_length",
    "_gain": "projection",
    "_rmap": "region_mapping",
    "_ref_vec": "reference",
    "_ref_vec_mask": "reference",
    "spatial_mean": "spatial_mask",
    "space": "weight",
    "_spatial_pattern": "weight",
    "_E": "ntau",
    "_sqrt_1_E2": "ntau",
    "_dt_sqrt_lambda": "ntau",
    "delays": "tract_lengths or speed",
    "idelays": "tract_lengths, speed or dt",
    "state_variable_mask": "non_integrated_variables",
    "_nintvar": "non_integrated_variables",
}
_OF_OTHERS = {
    "Simulator.history.weights": "Simulator.connectivity.weights",
    "Simulator.history.delays": "Simulator.connectivity.tract_lengths or speed",
    "Simulator.history.n_time": "Simulator.connectivity.tract_lengths or speed",
    "Simulator.history.cvars": "Simulator.model.cvar",
    "Simulator.history.n_mode": "Simulator.model.number_of_modes",
    "Simulator.number_of_nodes": "Simulator.connectivity",
    "Simulator.integrate_next_step": "Simulator.integrator",
    "Simulator.integrator.bounded_state_variable_indices": "Simulator.model.state_variable_boundaries",
    "Simulator.integrator.state_variable_boundaries": "Simulator.model.state_variable_boundaries",
}
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A value in which two simulators differ.

    Attributes
    ----------
    path : str
    place : dict or None
        What holds the value of the one: an object's attributes, or a dict in one. None for parts of a history.
    key : str
    held, derived : object
        Of the one and of the other.
    """

    path: str
    place: dict | None
    key: str
    held: object
    derived: object


def changes(sim):
    """Reasons why a configured simulator does not hold what configure() would derive from its components now.

    Parameters
    ----------
    sim : Simulator
        Configured, and a copy: reading a trait puts its default on the instance.

    Yields
    ------
    str
    """
    try:
        fresh = reconfigured(sim)
    except Exception as error:
        yield (
            "Simulator: a component changed since configure(), and TVB's configure() fails with what it holds now: "
            f"{type(error).__name__}: {error}. Mend it and call sim.configure() again."
        )
        return
    said = set()
    for found in _lasting(differences(sim, fresh), fresh):
        source = _source(found.path)
        if source in said:
            continue
        said.add(source)
        yield (
            f"{source}: changed since configure(), which TVB does not notice: it runs with {found.key} = "
            f"{_text(found.held)}, where configure() would now derive {_text(found.derived)}. Call sim.configure() "
            f"again.{_remedy(sim, found.path)}"
        )


def derive_anew(sim):
    """Put into a configured simulator what configure() would derive from its components now; where it stands stays.

    Parameters
    ----------
    sim : Simulator
        Modified: attributes are replaced, no array is changed in place.
    """
    fresh = reconfigured(sim)
    for found in list(_lasting(differences(sim, fresh), fresh)):
        if found.place is None:
            sim.history = history_with_weights(sim.history, sim.connectivity.weights)
        elif found.derived is _ABSENT:
            found.place.pop(found.key, None)
        else:
            found.place[found.key] = found.derived


def _lasting(found, fresh):
    """Differences but for what every configure() makes another, such as a count of its calls."""
    found = {one.path: one for one in found}
    if found:
        for one in differences(fresh, reconfigured(fresh)):
            found.pop(one.path, None)
    return found.values()


def _source(path):
    """Path of the attribute that a user changes, from the one that was derived from it."""
    if path in _OF_OTHERS:
        return _OF_OTHERS[path]
    owner, _, name = path.rpartition(".")
    return f"{owner}.{_SOURCES.get(name, name)}"


def _remedy(sim, path):
    """What to do besides, where a second configure() changes nothing."""
    for index, monitor in enumerate(sim.monitors if isinstance(sim.monitors, (list, tuple)) else ()):
        if isinstance(monitor, Projection) and path.startswith(f"Simulator.monitors[{index}]."):
            return (
                f" TVB configures a {type(monitor).__name__} once only: make a new one. A gain of your own belongs "
                "into projection.projection_data."
            )
    return ""


def _text(value):
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}" if value.size > 4 else str(value.tolist())
    if isinstance(value, (int, float, str, np.number, np.bool_)) or value is None:
        return f"{value!r}" if isinstance(value, str) else f"{value}"
    return f"another {type(value).__name__}"


def reconfigured(sim):
    """Copy of a configured simulator that was configured anew, from its beginning.

    Parameters
    ----------
    sim : Simulator
        Not modified, nor any random stream.
    """
    fresh = clone(sim)
    vars(fresh).pop("history", None)
    for component in _objects(fresh, HasTraits):
        # TVB reports the shape that it gave nsig itself as a bad one.
        vars(component)["log"] = _SILENT
    as_given(fresh)
    projections = [monitor for monitor in fresh.monitors if isinstance(monitor, Projection)]
    for monitor in projections:
        vars(monitor).pop("_gain_configuration_done", None)
        if vars(monitor).get("projection") is not None:
            for name in ("_gain", "_rmap"):
                vars(monitor).pop(name, None)
    fresh = configured_clone(fresh)
    for monitor, own in zip(fresh.monitors, sim.monitors, strict=True):
        if isinstance(monitor, Projection) and vars(monitor).get("projection") is None:
            # Given by hand: derived from nothing.
            vars(monitor)["_gain"] = own._gain
    return fresh


_SILENT = logging.Logger("tvb_jaxfit.silent", level=logging.CRITICAL + 1)


def as_given(sim):
    """Put regional parameters of a model into the shapes in which TVB derives further attributes from them.

    Parameters
    ----------
    sim : Simulator
        Modified. Models that derive nothing take any of TVB's shapes.
    """
    model = sim.model
    if not trials.derives_attributes(model):
        return
    own = [p for p in traits.parameters(model) if p.shape is None and not p.is_scalar and np.size(p.read(model)) > 1]
    if not own:
        return
    raw = trials.find_regional_layouts(model, np.shape(sim.connectivity.weights)[0])
    for parameter in own:
        setattr(model, parameter.name, trials.in_regional_layout(parameter.read(model), raw[parameter.name]))


def _objects(value, kind, met=None):
    """Objects of a kind that something holds, itself included, each once."""
    met = {} if met is None else met
    if id(value) in met:
        return
    met[id(value)] = value
    if isinstance(value, kind):
        yield value
    if isinstance(value, HasTraits):
        for item in list(vars(value).values()):
            yield from _objects(item, kind, met)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _objects(item, kind, met)


def differences(one, other):
    """Attributes in which two simulators differ, wherever they stand.

    Parameters
    ----------
    one, other : Simulator

    Yields
    ------
    Difference
    """
    yield from _of_pair(one, other, "Simulator", None, "Simulator", {})


def _of_pair(one, other, path, place, key, met):
    if isinstance(one, HasTraits) and isinstance(other, HasTraits) and (id(one) in met or id(other) in met.values()):
        if met.get(id(one)) != id(other):
            yield Difference(path, place, key, one, other)
    elif isinstance(one, HasTraits) and type(one) is type(other):
        met[id(one)] = id(other)
        yield from _of_objects(one, other, path, met)
    elif isinstance(one, BaseHistory) and isinstance(other, BaseHistory):
        for name in _OF_HISTORY:
            pair = getattr(one, name), getattr(other, name)
            if not _equal(*(np.asarray(value, "f" if name == "weights" else None) for value in pair)):
                yield Difference(f"{path}.{name}", None, name, *pair)
    elif isinstance(one, types.MethodType) and isinstance(other, types.MethodType):
        bound_alike = not list(_of_pair(one.__self__, other.__self__, path, None, key, met))
        if one.__func__ is not other.__func__ or not bound_alike:
            yield Difference(path, place, key, one, other)
    elif isinstance(one, dict) and isinstance(other, dict):
        for inner in dict.fromkeys([*one, *other]):
            pair = one.get(inner, _ABSENT), other.get(inner, _ABSENT)
            yield from _of_pair(*pair, f"{path}[{inner!r}]", one, inner, met)
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _of_pair(*pair, f"{path}[{index}]", place, key, met)
    elif not _equal(one, other):
        yield Difference(path, place, key, one, other)


def _of_objects(one, other, path, met):
    skipped = _NAMES_FOR_PEOPLE.union(*(names for cls, names in _RUN_STATE.items() if isinstance(one, cls)))
    by_shape = set().union(*(names for cls, names in _SHAPE_ALONE.items() if isinstance(one, cls)))
    names = [name for name in dict.fromkeys([*vars(one), *vars(other)]) if name not in skipped]
    # Methods last: what they are bound to is known by then.
    names.sort(key=lambda name: isinstance(vars(one).get(name), types.MethodType))
    for name in names:
        pair = _attribute(one, name), _attribute(other, name)
        if name in by_shape:
            if not _equal(*map(np.shape, pair)):
                yield Difference(f"{path}.{name}", vars(one), name, *pair)
        else:
            yield from _of_pair(*pair, f"{path}.{name}", vars(one), name, met)


def _attribute(owner, name):
    try:
        return getattr(owner, name)
    except Exception:  # required and not given
        return _ABSENT


def _equal(one, other):
    """Whether two values are the same, for all that can be told."""
    if one is other:
        return True
    if isinstance(one, (np.ndarray, np.generic, int, float)) and isinstance(
        other, (np.ndarray, np.generic, int, float)
    ):
        one, other = np.asarray(one), np.asarray(other)
        return one.shape == other.shape and np.array_equal(
            one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f"
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, types.FunctionType):
        return one.__code__ == other.__code__
    if isinstance(one, (np.random.RandomState, logging.Logger, uuid.UUID)):
        return True
    if type(one).__eq__ is object.__eq__:
        inner = [vars(value) if hasattr(value, "__dict__") else {} for value in (one, other)]
        return inner[0].keys() == inner[1].keys() and all(_equal(inner[0][name], inner[1][name]) for name in inner[0])
    try:
        return bool(one == other)
    except Exception:
        return True
