"""Origin of a state: the simulator that it belongs to, as far as its arrays do not tell."""

from collections.abc import Iterator
from dataclasses import replace

from tvb.basic.neotraits.api import HasTraits
from tvb.datatypes.equations import Equation
from tvb.simulator.simulator import Simulator

from ..state import Origin
from .complete import component_objects
from .components import monitors
from .parameter_map import parameter_map
from .subclasses import overridden_attributes

# Largest number of regions that a message names.
_MAX_SHOWN = 3
# Components whose class changes the meaning of no value; their parts are compared by themselves.
_OF_ANY_CLASS = {"connectivity", "integrator", "stimulus"}


def origin_of(sim: Simulator) -> Origin:
    """Origin of the states of a configured simulator."""
    labels = tuple(str(label) for label in sim.connectivity.region_labels)
    classes = tuple(
        (path.removeprefix("Simulator."), _class_name(component))
        for path, component in component_objects(sim)
        if path != "Simulator"
    )
    return Origin(labels, classes, float(sim.integrator.dt), monitors.periods_in_steps(sim))


def origin_with_domains(sim: Simulator) -> Origin:
    """Origin of the states of a configured simulator, with the domains of its parameters."""
    table = parameter_map(sim)
    domains = tuple((p.path, *bounds) for p in table if (bounds := p.bounds(sim)) is not None)
    return replace(origin_of(sim), domains=domains, positive=tuple(p.path for p in table if p.positive))


def _class_name(component):
    """Name of a component's class, or of the highest base, down from TVB's, of which it overrides nothing."""
    kind = cls = type(component)
    # Equations of another class are other equations: their text is a default.
    bases = () if isinstance(component, Equation) or cls.__module__.startswith("tvb.") else cls.__mro__[1:]
    for base in bases:
        if issubclass(base, HasTraits) and not overridden_attributes(cls, base):
            kind = base
        if base.__module__.startswith("tvb."):
            break
    return f"{kind.__module__}.{kind.__qualname__}"


def origin_mismatches(own: Origin, other: Origin, position: bool) -> Iterator[str]:
    """Reasons why values of a state do not belong into another simulator.

    Parameters
    ----------
    own, other : Origin
        Of the state, and of the simulator.
    position : bool
        True if the position is written, too: history and buffers then have to mean the same.

    Yields
    ------
    str
    """
    yield from _label_mismatches(own.region_labels, other.region_labels)
    classes = dict(other.components)
    for path, name in own.components:
        is_monitor = path.startswith("monitors[") and path.endswith("]")
        if path not in classes or classes[path] == name or path in _OF_ANY_CLASS or (is_monitor and not position):
            continue
        short, found = (class_name.rpartition(".")[2] for class_name in (name, classes[path]))
        if short == found:
            short, found = name, classes[path]
        yield (
            f"{path}: the state is of a {short}, the simulator has a {found}, whose values mean something else. Write "
            f"into a simulator with a {short}"
        )
    if position:
        yield from _period_mismatches(own, other)


def _period_mismatches(own, other):
    if own.dt != other.dt:
        yield (
            f"integrator.dt: the state counts steps of {own.dt:g} ms, the simulator steps of {other.dt:g} ms. Give the "
            f"simulator dt = {own.dt:g} and configure it again"
        )
    if len(own.steps) != len(other.steps):
        yield (
            f"monitors: the state has {len(own.steps)}, the simulator {len(other.steps)}. Give the simulator the same "
            "monitors and configure it again"
        )
        return
    for index, (steps, found) in enumerate(zip(own.steps, other.steps, strict=True)):
        if steps != found:
            yield (
                f"monitors[{index}].period: the state has {steps} steps, the simulator {found}. Give the simulator the "
                "same period and configure it again"
            )


def _label_mismatches(own, other):
    if own == other or len(own) != len(other):
        return
    differ = [index for index, pair in enumerate(zip(own, other, strict=True)) if pair[0] != pair[1]]
    shown = ", ".join(
        f"region {index} is {own[index]!r} in the state, {other[index]!r} in the simulator"
        for index in differ[:_MAX_SHOWN]
    )
    more = f" and {len(differ) - _MAX_SHOWN} more" if len(differ) > _MAX_SHOWN else ""
    if sorted(own) == sorted(other):
        found, remedy = "the same regions in another order", "Put the connectivity into the state's order"
    else:
        found, remedy = "other regions", "Write into a simulator of the same regions, or give it the state's labels"
    yield f"connectivity.region_labels: the simulator has {found} ({shown}{more}). {remedy}"
