"""Completeness of a simulator: every component is given, is of TVB's kind, and holds real numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from tvb.basic.neotraits.api import Float, HasTraits, List, NArray
from tvb.datatypes.equations import Equation
from tvb.simulator.integrators import IntegratorStochastic

from ..checks.arrays import real_array

# TVB takes a monitor without one, whose gain was set by hand.
_MAY_BE_ABSENT = {"projection"}
_NUMBERS = {"f": "real numbers", "i": "integers", "u": "integers", "b": "integers or booleans"}


def refusals(sim: Any) -> Iterator[str]:
    """Reasons against a simulator that lacks something TVB needs, or holds something else in its place.

    Parameters
    ----------
    sim : Simulator

    Yields
    ------
    str
    """
    for path, component in component_objects(sim):
        if not isinstance(component, HasTraits):
            yield f"{path}: {_found(component)}, which is no component of TVB. Give one."
            continue
        for name in type(component).declarative_attrs:
            yield from _attribute_refusals(component, name, f"{path}.{name}")
    yield from _variable_refusals(getattr(sim, "model", None))
    yield from _weight_refusals(getattr(sim, "connectivity", None))


def _attribute_refusals(component, name, path):
    attribute = getattr(type(component), name)
    try:
        value = getattr(component, name)
    except Exception as error:
        if name not in _MAY_BE_ABSENT and not _has_own_evaluate(component, name):
            found = "none" if vars(component).get(name) is None else f"{type(error).__name__}: {error}"
            yield f"{path}: {found}; give {_wanted(attribute)}."
        return
    if value is None:
        return
    kind = getattr(attribute, "field_type", object)
    if isinstance(attribute, NArray):
        yield from _array_refusals(value, attribute, path)
    elif isinstance(attribute, Float):
        if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
            yield f"{path}: {_found(value)}; give {_wanted(attribute)}."
    elif isinstance(attribute, List):
        items = value if isinstance(value, (list, tuple)) else [value]
        for index, item in enumerate(items):
            if not isinstance(item, attribute.element_type):
                yield f"{path}[{index}]: {_found(item)}; give {_article(attribute.element_type.__name__)}."
    elif isinstance(kind, type) and not isinstance(value, kind):
        yield f"{path}: {_found(value)}; give {_wanted(attribute)}."


def _has_own_evaluate(component, name):
    """True if an equation needs no text, because its class evaluates it by code of its own."""
    own = isinstance(component, Equation) and type(component).evaluate.__module__ != Equation.__module__
    return own and name == "equation"


def _array_refusals(value, attribute, path):
    kinds = {"f": "fiub", "i": "iub", "u": "iub", "b": "iub"}.get(attribute.dtype.kind, "USO")
    if not isinstance(value, np.ndarray) or (value.dtype.kind not in kinds and value.size):
        yield f"{path}: {_found(value)}; give {_wanted(attribute)}."
        return
    try:
        if kinds != "USO":
            real_array(value, path)
    except ValueError as error:
        yield f"{error} TVB takes {_wanted(attribute)}."


def _variable_refusals(model):
    """Reasons against names and indices of variables that are not those of the model's state variables."""
    if model is None or not hasattr(model, "state_variables"):
        return
    for name in ("state_variables", "variables_of_interest", "non_integrated_variables"):
        names = getattr(model, name, None)
        may_be_empty = name == "non_integrated_variables"
        if may_be_empty and names is None:
            continue
        is_names = isinstance(names, (tuple, list)) and all(isinstance(item, str) for item in names)
        if not is_names or not (names or may_be_empty):
            yield f"Simulator.model.{name}: {_found(names)}; give a tuple of names."
            return
    own = ", ".join(model.state_variables)
    unknown = [name for name in model.non_integrated_variables or () if name not in model.state_variables]
    if unknown:
        yield f"Simulator.model.non_integrated_variables: {', '.join(unknown)}; give names of {own}."
        return
    ranges = getattr(model, "state_variable_range", None) or ()
    without = [name for name in model.state_variables if name not in ranges]
    if without:
        yield f"Simulator.model.state_variable_range: none for {', '.join(without)}; give a range for each of {own}."
        return
    n_var = len(model.state_variables)
    if not isinstance(model.nvar, (int, np.integer)) or model.nvar != n_var:
        yield (
            f"Simulator.model._nvar: {model.nvar!r} for {n_var} state variables ({', '.join(model.state_variables)}). "
            f"Give {n_var}."
        )
        return
    for name in ("cvar", "stvar"):
        indices = getattr(model, name)
        if name == "stvar" and indices is None:
            continue
        path = f"Simulator.model.{name}"
        allowed = f"Give an array of indices from 0 to {n_var - 1}, one for each variable."
        if not isinstance(indices, np.ndarray) or indices.ndim != 1 or indices.dtype.kind not in "iu":
            yield f"{path}: {_found(indices)}. {allowed}"
            continue
        outside = indices[(indices < -n_var) | (indices >= n_var)].tolist()
        if outside or not indices.size:
            yield f"{path}: {outside or 'empty'}, for {n_var} state variables. {allowed}"


def _weight_refusals(connectivity):
    weights = getattr(connectivity, "weights", None)
    if isinstance(weights, np.ndarray) and not (weights.ndim == 2 and weights.shape[0] == weights.shape[1] > 0):
        yield f"Simulator.connectivity.weights: shape {weights.shape}; give a square matrix [target, source]."


def _wanted(attribute):
    if isinstance(attribute, NArray):
        return f"an array of {_NUMBERS.get(attribute.dtype.kind, 'names')}"
    if isinstance(attribute, Float):
        return "a number"
    if isinstance(attribute, List):
        return f"a list of {attribute.element_type.__name__}s"
    kind = getattr(attribute, "field_type", object)
    return _article(kind.__name__) if isinstance(kind, type) else "a value"


def _article(name):
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _found(value):
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return "none" if value is None else f"{value!r:.60} ({type(value).__name__})"


def component_objects(sim: Any) -> Iterator[tuple[str, Any]]:
    """Components of a simulator and their parts, as objects with their paths.

    Yields
    ------
    path : str
    component : object
    """
    yield "Simulator", sim
    for name in ("model", "coupling", "connectivity", "integrator"):
        yield from _present(sim, name, "Simulator")
    integrator = getattr(sim, "integrator", None)
    if isinstance(integrator, IntegratorStochastic):
        yield from _present(integrator, "noise", "Simulator.integrator")
        yield from _present(getattr(integrator, "noise", None), "b", "Simulator.integrator.noise")
    monitors = getattr(sim, "monitors", None)
    for index, monitor in enumerate(monitors if isinstance(monitors, (list, tuple)) else [monitors]):
        if monitor is not None:
            yield f"Simulator.monitors[{index}]", monitor
        for name in ("hrf_kernel", "obsnoise"):
            yield from _present(monitor, name, f"Simulator.monitors[{index}]")
    yield from _present(sim, "stimulus", "Simulator")
    for name in ("temporal", "spatial"):
        yield from _present(getattr(sim, "stimulus", None), name, "Simulator.stimulus")


def _present(owner, name, path):
    value = getattr(owner, name, None)
    if value is not None:
        yield f"{path}.{name}", value
