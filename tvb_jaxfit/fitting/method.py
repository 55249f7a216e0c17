"""Methods of a fit, and the options of each. Needs the standard library only: the command line reads it before JAX."""

from collections.abc import Iterable
from enum import StrEnum

from ..persistence.registry import serialisable


@serialisable
class Method(StrEnum):
    """Method by which a fit computes its loss. Users give the value as a string.

    Members
    -------
    AUTO
        Through the linear response, confirmed and, where that helps, refined by the simulation; through the simulation
        where the linear response does not apply.
    SIMULATE
        Through the simulation.
    LINEAR
        Through the linear response.
    LINEAR_THEN_SIMULATE
        Through the linear response first; the simulation refines its result.
    """

    AUTO = "auto"
    SIMULATE = "simulate"
    LINEAR = "linear"
    LINEAR_THEN_SIMULATE = "linear+simulate"


# Options that only a fit through the simulation has, and that only a linear fit has.
_OF_SIMULATION = ("optimizer", "max_steps", "resample", "n_realisations", "patience", "checkpoint", "resume")
_OF_LINEAR_RESPONSE = ("max_evaluations",)
# Options that make "auto" take the simulation. A number of steps does not: a refinement has steps, too.
_CHOOSING_SIMULATION = ("source", *(name for name in _OF_SIMULATION if name != "max_steps"))


def choosing_simulation(given: Iterable[str]) -> list[str]:
    """Given options for which "auto" takes the simulation.

    Parameters
    ----------
    given : iterable of str
        Names of the options that differ from their defaults.
    """
    return [name for name in _CHOOSING_SIMULATION if name in given]


def conflicts(method: Method, given: dict[str, str], n_starts: int | None) -> list[str]:
    """Problems of options that exclude each other.

    Parameters
    ----------
    method : Method
    given : dict of str to str
        Options that differ from their defaults: names of the options, and names under which the user knows them.
    n_starts : int or None

    Returns
    -------
    list of str

    Examples
    --------
    >>> from tvb_jaxfit.fitting.method import Method, conflicts
    >>> conflicts(Method.LINEAR, {"patience": "--patience"}, None)
    ['--patience: only a fit through the simulation has this; leave it out, or choose the method "linear+simulate"']
    """

    def names(options):
        return ", ".join(given[name] for name in options if name in given)

    problems, of_simulation, of_linear = [], names(_OF_SIMULATION), names(_OF_LINEAR_RESPONSE)
    choosing = names(choosing_simulation(given))
    remedy = 'leave it out, or choose the method "linear+simulate"'
    if method is Method.LINEAR and of_simulation:
        problems.append(f"{of_simulation}: only a fit through the simulation has this; {remedy}")
    if method is Method.SIMULATE and of_linear:
        problems.append(f"{of_linear}: only a linear fit has this; {remedy}")
    if method is Method.AUTO and of_linear and choosing:
        problems.append(f"{of_linear}: only a linear fit has this, and {choosing} asks for the simulation; {remedy}")
    if "resume" in given and "checkpoint" not in given:
        problems.append(f"{given['resume']}: there is nothing to go on from; give a checkpoint, too")
    if method in (Method.AUTO, Method.SIMULATE) and "checkpoint" in given and (n_starts or 1) > 1:
        problems.append(
            f"{given['checkpoint']}: it is of a fit from one start, and n_starts = {n_starts}; leave out one of them"
        )
    return problems
