"""TVB's equations: an expression, or a method, of one variable and named numbers."""

import numbers

import jax.numpy as jnp
import numpy as np

from .compare import in_double, worst_by_row
from .leaves import Leaf
from .source import Untranslatable, follow

_TOLERANCE = 1e-12


def names(equation):
    """Parameters that are numbers, in the order in which TVB holds them."""
    return tuple(
        name
        for name, value in equation.parameters.items()
        if isinstance(value, (numbers.Real, np.floating, np.integer)) and not isinstance(value, (bool, np.bool_))
    )


def values(equation):
    """Values of these parameters."""
    return {name: float(equation.parameters[name]) for name in names(equation)}


def refusals(equation, path):
    """Reasons why an equation cannot be translated that show at a glance."""
    for name, value in values(equation).items():
        if not np.isfinite(value):
            yield f"{path}.parameters[{name!r}]: {value}; give a finite number."


def translate(equation):
    """(parameters, variable) to the value: the equation's own ``evaluate``, followed."""

    def evaluate(parameters, variable):
        parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
        return follow(equation, "evaluate", {"parameters": parameters}, variable)[0]

    return evaluate


def disagreement(equation, variable, path):
    """Why a translated equation is not TVB's on the variable's values, or nothing.

    Yields
    ------
    str
    """
    name = type(equation).__name__
    with np.errstate(all="ignore"):
        theirs = np.broadcast_to(equation.evaluate(variable), np.shape(variable))
    try:
        ours = np.broadcast_to(in_double(translate(equation), values(equation), variable), np.shape(variable))
    except (Untranslatable, ValueError, TypeError) as error:
        yield f"{path}: {name} is not translated: {error}."
        return
    worst = worst_by_row(ours.reshape(1, -1), theirs.reshape(1, -1))
    if not worst <= _TOLERANCE:
        yield f"{path}: the translated {name} differs from TVB's by {worst:.1e} of its maximum."


def leaves(path, owner, sim):
    """Table of an equation's parameters."""
    return [Leaf(f"{path}.{name}", owner, name, parameters=True) for name in names(owner(sim))]
