"""TVB's equations: functions of one variable with scalar parameters, given as an expression or a method."""

import numbers
import warnings
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import FrozenWarning, caller_stacklevel
from ...state import State
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter
from ..tracing.method import trace
from ..tracing.untranslatable import Untranslatable

_TOLERANCE = 1e-12
# numpy's message where a `MutableArray` is given to a function that is not translated to JAX, and its replacement.
_NUMPY_MESSAGE = "TypeError: operand 'MutableArray' does not support ufuncs (__array_ufunc__=None)"
_MESSAGE = "a function that has no counterpart in JAX is given a parameter"


def parameter_names(equation) -> tuple[str, ...]:
    """Names of the parameters that the state shows: numbers and arrays of size 1, in TVB's order."""
    return tuple(name for name in _scalar_names(equation) if _is_attribute_name(name))


def hidden_parameters(equation) -> tuple[str, ...]:
    """Names of scalar parameters that cannot be attributes of a state; they are constants of the translation."""
    return tuple(name for name in _scalar_names(equation) if not _is_attribute_name(name))


def _scalar_names(equation):
    return [name for name, value in equation.parameters.items() if _is_scalar(value)]


def _is_scalar(value):
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in "fiu"
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def _is_attribute_name(name):
    return isinstance(name, str) and name.isidentifier() and not name.startswith("_") and not hasattr(State, name)


def parameter_values(equation) -> dict[str, float]:
    """Values of the parameters that the state shows, by name."""
    return {name: _value(equation, name) for name in parameter_names(equation)}


def _value(equation, name):
    return float(np.reshape(equation.parameters[name], ()))


def refusals(equation, path: str) -> Iterator[str]:
    """Reasons to refuse an equation that are found without evaluating it."""
    for name in _scalar_names(equation):
        value = _value(equation, name)
        if not np.isfinite(value):
            yield f"{path}.parameters[{name!r}]: {value}; give a finite number."


def translate(equation) -> Callable:
    """Translate an equation's ``evaluate``.

    Returns
    -------
    callable
        (parameters, variable) to the values, shape of the variable. If the variable is a numpy array, subexpressions of
        it alone are evaluated by numpy.
    """

    def evaluate(parameters, variable):
        parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
        return trace(equation, "evaluate", {"parameters": parameters}, variable)[0]

    return evaluate


def in_tvb_shapes(equation, parameters: dict) -> dict:
    """Scalar parameters in the shapes in which TVB holds them: (), or the shape of an array of size 1."""
    return {name: jnp.reshape(value, np.shape(equation.parameters[name])) for name, value in parameters.items()}


def tracing_error(equation, variable) -> Exception | None:
    """Error of tracing an equation with its parameters as JAX arrays; None if it can be traced."""
    with jax.enable_x64(True):
        parameters = {name: jax.ShapeDtypeStruct((), float) for name in parameter_names(equation)}
        try:
            jax.eval_shape(lambda values: translate(equation)(in_tvb_shapes(equation, values), variable), parameters)
        except (Untranslatable, ValueError, TypeError) as error:
            return error
    return None


def reference_values(equation, variable, path: str) -> tuple[np.ndarray | None, list[str]]:
    """TVB's own values of an equation.

    Returns
    -------
    values : ndarray or None
    reasons : list of str
        Reasons why there are no values; empty if there are.
    """
    try:
        with np.errstate(all="ignore"):
            first, second = (np.array(equation.evaluate(variable), dtype=float) for _ in range(2))
    except Exception as error:
        what = f"no parameter {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        return None, [
            f"{path}: {type(equation).__name__} cannot be evaluated by TVB itself: {what}. Give numbers for the names "
            f"in its equation (found: {', '.join(map(str, equation.parameters)) or 'none'})."
        ]
    if not np.array_equal(first, second, equal_nan=True):
        return None, [f"{path}: {type(equation).__name__} has other values at each call. Give it fixed ones."]
    return first, []


def mismatches(equation, variable, path: str) -> list[str]:
    """Reasons why a translated equation does not equal TVB's at some values of its variable; empty if it does."""
    theirs, reasons = reference_values(equation, variable, path)
    if reasons:
        return reasons
    return mismatches_with(equation, theirs, path, translate(equation), parameter_values(equation), variable)


def mismatches_with(equation, theirs, path: str, translated: Callable, *arguments) -> list[str]:
    """Reasons why a function does not give TVB's values of an equation, at most one.

    Parameters
    ----------
    equation : Equation
    theirs : ndarray
        TVB's values.
    path : str
    translated : callable
        Evaluated at ``arguments``.
    """
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


def warn_frozen(path: str, reason: str, remedy: str):
    """Warn that the state does not show values that an equation holds."""
    warnings.warn(
        f"{path}: {reason}. It is constant in the translation: results are TVB's, but the state does not show it. "
        f"{remedy}",
        FrozenWarning,
        stacklevel=caller_stacklevel(),
    )


def warn_untraceable(path: str, equation, error: Exception):
    """Warn that an equation is evaluated by TVB, since its code cannot be traced."""
    reason = str(error).replace(_NUMPY_MESSAGE, _MESSAGE)
    what = f"{type(equation).__name__} is evaluated by TVB, as its code cannot be translated to JAX"
    warn_frozen(path, f"{what} ({reason})", "To fit its parameters, write it with numpy's functions.")


def warn_hidden(path: str, name):
    """Warn that a parameter's name cannot be an attribute of a state."""
    reason = "a value of the state cannot have this name"
    warn_frozen(f"{path}.parameters[{name!r}]", reason, "To fit it, give it another name.")


def mapped_parameters(path: str, owner: Callable, sim) -> list[MappedParameter]:
    """Parameters of the equation ``owner(sim)`` at a path of the state."""
    return [
        MappedParameter(f"{path}.{name}", owner, name, in_equation_dict=True) for name in parameter_names(owner(sim))
    ]
