"""Attributes that TVB's configure() derives: checks that a configured simulator is up to date, and renews them."""

import logging
import types
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tvb.basic.neotraits.api import HasTraits
from tvb.simulator.history import BaseHistory
from tvb.simulator.monitors import Monitor, Projection
from tvb.simulator.noise import Noise
from tvb.simulator.simulator import Simulator

from .clone import clone, configured_clone
from .components.registry import components_of

# Attributes of a run's position, and estimates for people, which each configure() starts anew.
_RUN_STATE = {
    Simulator: {
        *("current_step", "calls", "_memory_requirement_guess", "_memory_requirement_census"),
        *("_runtime", "_storage_requirement"),
    },
    Noise: {"random_stream", "_eta", "_h"},
    # is_default_special_mask: True if the mask is TVB's. A second configure() takes TVB's own for the user's.
    Monitor: {"_sim", "is_default_special_mask"},
}
# Attributes of the position of which the shape is derived.
_SHAPE_ALONE = {Simulator: {"current_state"}, Monitor: {"_stock", "_interim_stock", "_state"}}
_NAMES_FOR_PEOPLE = {"gid", "title", "tags", "log"}
# Attributes that configure() puts into a history besides the samples.
_OF_HISTORY = ("weights", "delays", "cvars", "n_mode", "n_time")
# Attribute from which a derived one is computed, if it has another name.
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
_SOURCE_PATHS = {
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
_SILENT = logging.Logger("tvb_jaxfit.silent", level=logging.CRITICAL + 1)


@dataclass(frozen=True)
class Difference:
    """A value in which two simulators differ.

    Attributes
    ----------
    path : str
    place : dict or None
        Dict that holds the value of the first simulator: attributes of an object, or a dict among them. None for
        attributes of a history.
    key : str
    own, derived : object
        Values of the first and of the second simulator.
    """

    path: str
    place: dict | None
    key: str
    own: object
    derived: object


def was_configured(sim: Simulator) -> bool:
    """Return True if a simulator was configured, or a monitor that TVB configures once only."""
    monitors = sim.monitors if isinstance(sim.monitors, (list, tuple)) else [sim.monitors]
    return sim.history is not None or any(getattr(m, "_gain_configuration_done", False) for m in monitors)


def refusals(sim: Simulator) -> Iterator[str]:
    """Reasons against translation: attributes that are not what configure() would derive now.

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
            "Simulator: a component changed since configure(), and TVB's configure() fails with the present values: "
            f"{type(error).__name__}: {error}. Give values with which it succeeds, and call sim.configure() again."
        )
        return
    reported = set()
    for found in _outdated(sim, fresh):
        source = _source(found.path)
        if source in reported:
            continue
        reported.add(source)
        yield (
            f"{source}: changed since configure(), which TVB does not notice: it runs with {found.key} = "
            f"{_text(found.own)}, where configure() would now derive {_text(found.derived)}. Call sim.configure() "
            f"again.{_remedy(sim, found.path)}"
        )


def rederive(sim: Simulator) -> None:
    """Renew what TVB derives from the parameters of a configured simulator; its position stays.

    Parameters
    ----------
    sim : Simulator
        Modified: attributes are replaced, no array is changed in place. If it is not configured, only what TVB keeps
        outside configure() is renewed.
    """
    if sim.history is not None:
        for found in _outdated(sim, reconfigured(sim)):
            if found.place is None:
                continue
            if found.derived is _ABSENT:
                found.place.pop(found.key, None)
            else:
                found.place[found.key] = found.derived
    for component in components_of(sim):
        component.rederive(sim)


def _outdated(sim, fresh):
    """Differences from a reconfigured copy, without those that each configure() makes, such as a count of calls."""
    found = {difference.path: difference for difference in differences(sim, fresh)}
    if found:
        for difference in differences(fresh, reconfigured(fresh)):
            found.pop(difference.path, None)
    return list(found.values())


def _source(path):
    """Path of the attribute that a user changes, from that of the derived attribute."""
    if path in _SOURCE_PATHS:
        return _SOURCE_PATHS[path]
    owner, _, name = path.rpartition(".")
    return f"{owner}.{_SOURCES.get(name, name)}"


def _remedy(sim, path):
    """Further advice on a component that a second configure() does not change."""
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
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, (int, float, np.number, np.bool_)) or value is None:
        return f"{value}"
    return f"another {type(value).__name__}"


def reconfigured(sim: Simulator) -> Simulator:
    """Copy of a configured simulator that was configured anew, from its beginning.

    Parameters
    ----------
    sim : Simulator
        Not modified, nor any random stream.
    """
    fresh = clone(sim)
    vars(fresh).pop("history", None)
    for component in _traited_objects(fresh):
        # TVB reports the shape that it gave nsig itself as a bad one.
        vars(component)["log"] = _SILENT
    for component in components_of(fresh):
        component.unconfigure(fresh)
    return configured_clone(fresh)


def _traited_objects(value, visited=None):
    """TVB objects within a TVB object, itself included, each once."""
    visited = {} if visited is None else visited
    if id(value) in visited:
        return
    visited[id(value)] = value
    if isinstance(value, HasTraits):
        yield value
        for item in list(vars(value).values()):
            yield from _traited_objects(item, visited)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _traited_objects(item, visited)


def differences(first: Simulator, second: Simulator) -> Iterator[Difference]:
    """Attributes in which two simulators differ, at whatever depth.

    Yields
    ------
    Difference
    """
    yield from _of_pair(first, second, "Simulator", None, "Simulator", {})


def _of_pair(own, other, path, place, key, visited):
    if (
        isinstance(own, HasTraits)
        and isinstance(other, HasTraits)
        and (id(own) in visited or id(other) in visited.values())
    ):
        if visited.get(id(own)) != id(other):
            yield Difference(path, place, key, own, other)
    elif isinstance(own, HasTraits) and type(own) is type(other):
        visited[id(own)] = id(other)
        yield from _of_objects(own, other, path, visited)
    elif isinstance(own, BaseHistory) and isinstance(other, BaseHistory):
        for name in _OF_HISTORY:
            pair = getattr(own, name), getattr(other, name)
            if not _equal(*(np.asarray(value, "f" if name == "weights" else None) for value in pair)):
                yield Difference(f"{path}.{name}", None, name, *pair)
    elif isinstance(own, types.MethodType) and isinstance(other, types.MethodType):
        same_object = not list(_of_pair(own.__self__, other.__self__, path, None, key, visited))
        if own.__func__ is not other.__func__ or not same_object:
            yield Difference(path, place, key, own, other)
    elif isinstance(own, dict) and isinstance(other, dict):
        for inner in dict.fromkeys([*own, *other]):
            pair = own.get(inner, _ABSENT), other.get(inner, _ABSENT)
            yield from _of_pair(*pair, f"{path}[{inner!r}]", own, inner, visited)
    elif isinstance(own, (list, tuple)) and isinstance(other, (list, tuple)) and len(own) == len(other):
        for index, pair in enumerate(zip(own, other, strict=True)):
            yield from _of_pair(*pair, f"{path}[{index}]", place, key, visited)
    elif not _equal(own, other):
        yield Difference(path, place, key, own, other)


def _of_objects(own, other, path, visited):
    skipped = _NAMES_FOR_PEOPLE.union(*(names for cls, names in _RUN_STATE.items() if isinstance(own, cls)))
    if isinstance(own, Projection) and vars(own).get("projection") is None:
        # A gain that was set by hand is derived from nothing.
        skipped |= {"_gain"}
    by_shape = set().union(*(names for cls, names in _SHAPE_ALONE.items() if isinstance(own, cls)))
    names = [name for name in dict.fromkeys([*vars(own), *vars(other)]) if name not in skipped]
    # Methods last: the objects to which they are bound have been visited by then.
    names.sort(key=lambda name: isinstance(vars(own).get(name), types.MethodType))
    for name in names:
        pair = _attribute(own, name), _attribute(other, name)
        if name in by_shape:
            if not _equal(*map(np.shape, pair)):
                yield Difference(f"{path}.{name}", vars(own), name, *pair)
        else:
            yield from _of_pair(*pair, f"{path}.{name}", vars(own), name, visited)


def _attribute(owner, name):
    try:
        return getattr(owner, name)
    except Exception:  # required and not given
        return _ABSENT


def _equal(own, other):
    """True if two values are equal, or cannot be compared."""
    if own is other:
        return True
    numeric = (np.ndarray, np.generic, int, float)
    if isinstance(own, numeric) and isinstance(other, numeric):
        own, other = np.asarray(own), np.asarray(other)
        equal_nan = own.dtype.kind == other.dtype.kind == "f"
        return own.shape == other.shape and np.array_equal(own, other, equal_nan=equal_nan)
    if type(own) is not type(other):
        return False
    if isinstance(own, types.FunctionType):
        return own.__code__ == other.__code__
    if isinstance(own, (np.random.RandomState, logging.Logger, uuid.UUID)):
        return True
    if type(own).__eq__ is object.__eq__:
        inner = [vars(value) if hasattr(value, "__dict__") else {} for value in (own, other)]
        return inner[0].keys() == inner[1].keys() and all(_equal(inner[0][name], inner[1][name]) for name in inner[0])
    try:
        return bool(own == other)
    except Exception:
        return True
