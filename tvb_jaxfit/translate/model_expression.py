"""Expressions of a model's own variables, such as the firing rate that its code computes on the way to a derivative."""

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from tvb.simulator.models.base import Model

from ..checks.suggestions import did_you_mean
from . import traits
from .components import vector_field_oracle as oracle
from .components.vector_field import VectorField
from .double_precision import in_double, max_row_error
from .tracing.method import trace
from .tracing.untranslatable import Untranslatable

_TOLERANCE = 1e-12


def model_expression(model: Model, n_node: int, expression: str) -> Callable:
    """Function that evaluates an expression of a model's variables, traced from the code of its equations.

    Parameters
    ----------
    model : Model
        Configured; not modified.
    n_node : int
    expression : str
        In Python, of the variables that the code of ``dfun`` computes (``_numpy_dfun``, where there is one), state
        variables, and parameters: ``"H_e"``, ``"x_e / a_e"``.

    Returns
    -------
    callable
        (theta, x, coupling) to an array of shape (n_node, n_mode); arguments as for `VectorField`.

    Raises
    ------
    ValueError
        No Python expression; names that the model does not have; code that cannot be read or traced; values that
        differ from those of TVB's own code.
    """
    method, owner = _method(model)
    function = _with_result(model, owner, method, expression)
    layouts = oracle.find_regional_layouts(model, n_node)
    field = VectorField(model, n_node, method, layouts)

    def evaluate(theta, x, coupling):
        value, _ = trace(model, function, field.model_attributes(theta), x, coupling, 0.0)
        return jnp.broadcast_to(value, x.shape[1:])

    _refuse_other_values(model, n_node, function, expression)
    return evaluate


def _method(model):
    """(name of the method whose variables can be named, class that defines it)."""
    owner = next(cls for cls in type(model).__mro__ if "dfun" in vars(cls))
    return ("_numpy_dfun" if "_numpy_dfun" in vars(owner) else "dfun"), owner


def _with_result(model, owner, method, expression):
    """Function with the code of a method that returns an expression of its variables."""
    function = vars(owner)[method]
    code = getattr(function, "__code__", None)
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise ValueError(f"{type(model).__name__}.{method}: its source cannot be read ({error}).") from error
    if code is None or code.co_freevars or not isinstance(definition, ast.FunctionDef):
        raise ValueError(f"{type(model).__name__}.{method}: no plain method, so that its variables cannot be named.")
    try:
        parsed = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is no expression of Python ({error.msg}).") from error
    result = _Names(model, code, function.__globals__).visit(parsed)
    definition.decorator_list = []
    ast.fix_missing_locations(_Returns(result).visit(definition))
    namespace = dict(function.__globals__)
    exec(compile(ast.Module([definition], []), code.co_filename, "exec"), namespace)
    return namespace[definition.name]


class _Names(ast.NodeTransformer):
    """Names of an expression as the code of a method can evaluate them."""

    def __init__(self, model, code, namespace):
        self._variables, self._namespace, self._model = set(code.co_varnames[1:]), namespace, model
        self._self, self._state = code.co_varnames[:2]
        self._parameters = {parameter.name for parameter in traits.parameters(model)}

    def visit_Name(self, node):
        """The name itself, an item of the state, or an attribute of the model."""
        name, variables = node.id, list(self._model.state_variables)
        if name in self._variables:
            return node
        if name in variables:
            return ast.parse(f"{self._state}[{variables.index(name)}]", mode="eval").body
        if name in self._parameters:
            return ast.parse(f"{self._self}.{name}", mode="eval").body
        if name in self._namespace or hasattr(builtins, name):
            return node
        known = sorted(self._variables | self._parameters | set(variables))
        raise ValueError(
            f"{type(self._model).__name__} has no variable {name!r} (there is: {', '.join(known)})."
            f"{did_you_mean(name, known)}"
        )


class _Returns(ast.NodeTransformer):
    """Each return of a function replaced by that of an expression; nested functions keep their own."""

    def __init__(self, result):
        self._result, self._depth = result, 0

    def visit_Return(self, node):
        """Return of the expression."""
        return ast.Return(self._result)

    def visit_FunctionDef(self, node):
        """The function itself; a nested one as it is."""
        if self._depth:
            return node
        self._depth += 1
        return self.generic_visit(node)

    def visit_Lambda(self, node):
        """As it is."""
        return node


def _refuse_other_values(model, n_node, function, expression, seed=0):
    """Compare the traced expression with the values of TVB's own code, at one value of each parameter."""
    own = {p.name: np.ravel(p.read(model))[:1] for p in traits.parameters(model) if p.shape is None and not p.is_scalar}
    low, high = np.array([model.state_variable_range[name] for name in model.state_variables], float).T[..., None, None]
    random = np.random.RandomState(seed)
    shape = (model.nvar, n_node, model.number_of_modes)
    x = low + (high - low) * random.uniform(0.1, 0.9, shape)
    coupling = random.uniform(0.0, 0.1, (len(model.cvar), *shape[1:]))
    name = f"{type(model).__name__}: {expression!r}"
    try:
        theirs = np.broadcast_to(function(_Attributes(model, own), x.copy(), coupling.copy(), 0.0), shape[1:])
        ours = in_double(
            lambda x, c: jnp.broadcast_to(trace(model, function, own, x, c, 0.0)[0], shape[1:]), x, coupling
        )
    except Untranslatable as error:
        raise ValueError(f"{name} cannot be translated: {error}.") from error
    # The code is the model's, and may fail in any way.
    except Exception as error:
        raise ValueError(f"{name} has no value in each region: {type(error).__name__}: {error}.") from error
    if not max_row_error(np.asarray(ours), np.asarray(theirs)) <= _TOLERANCE:
        raise ValueError(f"{name}: its translation differs from the values of TVB's own code.")


class _Attributes:
    """Attributes of an object, some of them with other values."""

    def __init__(self, original, values):
        self._original, self._values = original, values

    def __getattr__(self, name):
        return self._values[name] if name in self._values else getattr(self._original, name)
