"""TVB's equations: an expression, or a method, of one variable and named numbers."""

import numbers
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import FrozenWarning
from ...state import State
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter
from ..tracing.method import Untranslatable, trace

_TOLERANCE = 1e-12
# numpy's words where an array of boxes.py is given to a function that is not followed.
_INNER = "TypeError: operand 'MutableArray' does not support ufuncs (__array_ufunc__=None)"


def parameter_names(equation):
    """Parameters that the state shows: numbers, and arrays of one, in the order in which TVB holds them."""
    return tuple(name for name in _numbers(equation) if _is_name(name))


def hidden_parameters(equation):
    """Numbers among the parameters whose names no attribute of a state can have: constants of the translation."""
    return tuple(name for name in _numbers(equation) if not _is_name(name))


def _numbers(equation):
    return [name for name, value in equation.parameters.items() if _is_number(value)]


def _is_number(value):
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in "fiu"
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _is_name(name):
    return isinstance(name, str) and name.isidentifier() and not name.startswith("_") and not hasattr(State, name)


def parameter_values(equation):
    """Values of the parameters that the state shows."""
    return {name: _value(equation, name) for name in parameter_names(equation)}


def _value(equation, name):
    return float(np.reshape(equation.parameters[name], ()))


def refusals(equation, path):
    """Reasons why an equation cannot be translated that show at a glance."""
    for name in _numbers(equation):
        value = _value(equation, name)
        if not np.isfinite(value):
            yield f"{path}.parameters[{name!r}]: {value}; give a finite number."


def translate(equation):
    """(parameters, variable) to the value: the equation's own ``evaluate``, followed.

    A variable that is an array of numpy's stays one: what depends on it alone is worked out by numpy.
    """

    def evaluate(parameters, variable):
        parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
        return trace(equation, "evaluate", {"parameters": parameters}, variable)[0]

    return evaluate


def in_tvb_shapes(equation, parameters):
    """Single values of parameters in the shapes in which TVB holds them: numbers, or arrays of one."""
    return {name: jnp.reshape(value, np.shape(equation.parameters[name])) for name, value in parameters.items()}


def tracing_error(equation, variable):
    """Error of following an equation with its parameters as JAX arrays, or None."""
    with jax.enable_x64(True):
        parameters = {name: jax.ShapeDtypeStruct((), float) for name in parameter_names(equation)}
        try:
            jax.eval_shape(lambda some: translate(equation)(in_tvb_shapes(equation, some), variable), parameters)
        except (Untranslatable, ValueError, TypeError) as error:
            return error
    return None


def reference_values(equation, variable, path):
    """TVB's own values, and reasons why there are none."""
    try:
        with np.errstate(all="ignore"):
            first, second = (np.array(equation.evaluate(variable), dtype=float) for _ in range(2))
    except Exception as error:
        what = f"no parameter {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        return None, [
            f"{path}: {type(equation).__name__} cannot be evaluated by TVB itself: {what}. Give numbers for what its "
            f"equation names (found: {', '.join(map(str, equation.parameters)) or 'none'})."
        ]
    if not np.array_equal(first, second, equal_nan=True):
        return None, [f"{path}: {type(equation).__name__} has other values at each call. Give it fixed ones."]
    return first, []


def mismatches(equation, variable, path):
    """Reasons why a translated equation is not TVB's, as a function of its variable, on some values of that."""
    theirs, reasons = reference_values(equation, variable, path)
    if reasons:
        return reasons
    return mismatches_with(equation, theirs, path, translate(equation), parameter_values(equation), variable)


def mismatches_with(equation, theirs, path, translated, *arguments):
    """Reasons why a translation of an equation does not give TVB's values, at most one."""
    name = type(equation).__name__
    try:
        ours = in_double(translated, *arguments)
        shape = np.broadcast_shapes(ours.shape, theirs.shape)
        ours, theirs = (np.broadcast_to(value, shape).reshape(1, -1) for value in (ours, theirs))
    except (Untranslatable, ValueError, TypeError) as error:
        return [f"{path}: {name} is not translated: {error}."]
    worst = max_row_error(ours, theirs)
    if worst <= _TOLERANCE:
        return []
    return [f"{path}: the translated {name} differs from TVB's by {worst:.1e} of its maximum."]


def warn_frozen(path, reason, remedy, stacklevel=4):
    """Warn that the state does not show what an equation holds."""
    warnings.warn(
        f"{path}: {reason}. It is constant in the translation: results are TVB's, but the state does not show it. "
        f"{remedy}",
        FrozenWarning,
        stacklevel=stacklevel,
    )


def warn_untraceable(path, equation, error):
    """Warn that an equation is evaluated by TVB alone."""
    reason = str(error).replace(_INNER, "a function that has no counterpart in JAX is given a parameter")
    what = f"{type(equation).__name__} is evaluated by TVB, as its code cannot be followed while parameters vary"
    warn_frozen(path, f"{what} ({reason})", "To fit its parameters, write it with numpy's functions.", 5)


def warn_hidden(path, name):
    """Warn that no attribute of a state can have a parameter's name."""
    what = "no value of a state can have this name"
    warn_frozen(f"{path}.parameters[{name!r}]", what, "To fit it, give it another name.", 5)


def mapped_parameters(path, owner, sim):
    """Table of an equation's parameters."""
    return [
        MappedParameter(f"{path}.{name}", owner, name, in_equation_dict=True) for name in parameter_names(owner(sim))
    ]
