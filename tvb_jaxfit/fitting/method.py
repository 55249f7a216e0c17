"""Methods of a fit. Needs the standard library only: the command line reads it before JAX is loaded."""

from enum import StrEnum


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
