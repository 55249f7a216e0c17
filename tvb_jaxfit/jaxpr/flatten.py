"""Rewrite of a function for fast execution: the same numbers to rounding, from fewer and faster operations.

- Arrays become one-dimensional. The code of a model works on (n_node, n_mode) arrays, and most models have one mode;
  XLA vectorises neither loops over a last axis of length 1 nor loops over several axes, where an exponential costs five
  times as much.
- Stacked arrays are kept as separate rows, as long as only rows are used. A single loop over two state variables would
  have to select the variable for each element.
- Values that are constant in a loop are computed before it, and a division by such a value, which costs as much as ten
  multiplications, becomes a multiplication by its reciprocal.
"""

import math
from collections.abc import Callable
from functools import cache, wraps

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .symbolic import StackedRows, SymbolicZero, array, array_unless_zero, elementwise, flat, is_zero, rearranged, split

# Operations that act on each element separately: they may be applied in any shape.
ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt ceil clamp "
    "convert_element_type cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le "
    "lgamma log log1p logistic lt max min mul ne neg nextafter not or pow rem round rsqrt select_n shift_left "
    "sign sin sinh sqrt square sub tan tanh xor".split()
)
# Operations that call a jaxpr, and the parameter that holds it.
CALLS = {"closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "jit": "jaxpr"}
RESHAPES = ("reshape", "squeeze", "expand_dims")
# Maximum size of a first axis that is treated as rows; models have fewer variables.
_MAX_ROWS = 32


def flatten_jaxpr(function: Callable) -> Callable:
    """The same function of arrays, rewritten as the module describes.

    Parameters
    ----------
    function : callable
        Function of trees of arrays, to a tree of arrays.

    Returns
    -------
    callable
        Function with the same arguments, and the same result to rounding. Its derivatives are those of the single
        operations: a custom derivative rule inside ``function`` is lost unless the function is differentiated before it
        is passed here.
    """

    @wraps(function)
    def rewritten(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        arguments = map(flat, jax.tree.leaves(arguments))
        values = dict(zip(closed.jaxpr.invars, arguments, strict=True))
        results = _evaluate(closed, values)
        leaves, tree = jax.tree.flatten(shapes)
        return jax.tree.unflatten(tree, [jnp.reshape(array(r), s.shape) for r, s in zip(results, leaves, strict=True)])

    return rewritten


def _evaluate(closed, values, reciprocals=()):
    """Results of a closed jaxpr.

    Parameters
    ----------
    values : dict
        Values of variables: of the inputs, and of any others that are known.
    reciprocals : dict
        Reciprocals of divisors that are known.
    """
    values = dict(zip(closed.jaxpr.constvars, map(flat, closed.consts), strict=True)) | values
    reciprocals = dict(reciprocals)
    for equation in closed.jaxpr.eqns:
        if equation.outvars and all(atom in values for atom in equation.outvars):
            continue
        name, operands = equation.primitive.name, equation.invars
        divisor = reciprocals.get(operands[-1]) if operands and not is_literal(operands[-1]) else None
        if divisor is not None and name == "div" and _is_elementwise(equation):
            product = equation.replace(primitive=lax.mul_p, params=_parameters_of_mul())
            results = [elementwise(product, [_read(values, operands[0]), divisor])]
        else:
            results = _apply(closed.jaxpr, equation, [_read(values, atom) for atom in operands])
        if divisor is not None and _is_reshape(equation):
            reciprocals |= zip(equation.outvars, map(array, _apply(closed.jaxpr, equation, [divisor])), strict=True)
        values |= zip(equation.outvars, results, strict=True)
    return [_read(values, atom) for atom in closed.jaxpr.outvars]


@cache
def _parameters_of_mul():
    """Parameters of JAX's multiplication, which a division does not have."""
    return jax.make_jaxpr(lax.mul)(1.0, 1.0).eqns[0].params


def is_literal(atom) -> bool:
    """True for an operand that is a constant in the jaxpr, not a variable."""
    return hasattr(atom, "val")


def _read(values, atom):
    return atom.val if is_literal(atom) else values[atom]


def _is_elementwise(equation):
    """True for an elementwise operation without broadcasting, except of single numbers."""
    if equation.primitive.name not in ELEMENTWISE:
        return False
    shape = equation.outvars[0].aval.shape
    return all(a.aval.shape == shape or a.aval.size == 1 for a in equation.invars)


def _is_reshape(equation):
    """True for an operation that only changes the shape of one value, broadcasts included."""
    return equation.primitive.name in (*RESHAPES, "broadcast_in_dim") and len(equation.invars) == 1


def _apply(jaxpr, equation, arguments):
    name = equation.primitive.name
    if name in CALLS:
        called = equation.params[CALLS[name]]
        return _evaluate(called, dict(zip(called.jaxpr.invars, map(flat, arguments), strict=True)))
    if _is_elementwise(equation):
        return [elementwise(equation, arguments)]
    if name == "stop_gradient":
        return arguments
    if name == "unstack" and equation.params["axis"] == 0:
        return split(arguments[0], len(equation.outvars))
    rows = rearranged(equation, arguments) if equation.outvars else None
    if rows is not None:
        return [rows]
    if name in RESHAPES or name == "stack" and len(arguments) == 1:
        return [flat(array_unless_zero(arguments[0]))]
    if name == "broadcast_in_dim" and len(arguments) == 1:
        return [_broadcast(equation, arguments[0])]
    arguments = [array(a) for a in arguments]
    if name == "scan":
        return _scan(equation, arguments)
    return map(flat, eval_equation(jaxpr, equation, arguments))


def eval_equation(jaxpr, equation, arguments) -> list:
    """Results of one equation of a jaxpr, evaluated by JAX from values that may be flat."""
    pairs = zip(equation.invars, arguments, strict=True)
    inputs = {atom: jnp.reshape(value, atom.aval.shape) for atom, value in pairs if not is_literal(atom)}
    single = jaxpr.replace(constvars=[], invars=list(inputs), outvars=equation.outvars, eqns=[equation])
    return jax.core.eval_jaxpr(single, (), *inputs.values())


def scan_sizes(parameters) -> tuple[int, int]:
    """Numbers of the constants and of the carried values among the operands of a scan."""
    # Since version 0.12 JAX stores trees of them.
    if "ft_in" in parameters:
        constants, carry, _ = parameters["ft_in"].unpack()
        return len(constants), len(carry)
    return parameters["num_consts"], parameters["num_carry"]


def _scan(equation, arguments):
    called, length = equation.params["jaxpr"], equation.params["length"]
    n_constant, n_carry = scan_sizes(equation.params)
    n_fixed = n_constant + n_carry
    constants, carry = called.jaxpr.invars[:n_constant], arguments[n_constant:n_fixed]
    known, reciprocals = _hoist_invariants(called, dict(zip(constants, arguments[:n_constant], strict=True)))
    atoms = equation.invars[n_fixed:]
    n_rows = list(map(_n_rows, atoms))
    series = list(map(_series, atoms, arguments[n_fixed:]))
    scanned = [values for values, n_row in zip(series, n_rows, strict=True) if n_row == 1]

    def body(carry, at):
        time, *at = at
        at = iter(at)
        pairs = zip(series, n_rows, strict=True)
        samples = [next(at) if n_row == 1 else _rows_at(values, n_row, time) for values, n_row in pairs]
        inputs = zip(called.jaxpr.invars[n_constant:], [*carry, *samples], strict=True)
        results = [array(value) for value in _evaluate(called, known | dict(inputs), reciprocals)]
        # A value that is returned several times is stored once.
        distinct = {id(value): value for value in results[n_carry:]}
        places[:] = [list(distinct).index(id(value)) for value in results[n_carry:]]
        return results[:n_carry], list(distinct.values())

    places = []
    xs = [jnp.arange(length, dtype=jnp.int32), *scanned]
    end, out = lax.scan(body, list(carry), xs, length=length, reverse=equation.params["reverse"])
    return [*end, *(flat(out[place]) for place in places)]


def _n_rows(atom):
    """Number of stacked variables in each sample of a series."""
    shape = atom.aval.shape[1:]
    return shape[0] if len(shape) == 3 and shape[0] <= _MAX_ROWS else 1


def _series(atom, value):
    """Series as an array (length, n), or (length,) for single numbers."""
    length, *shape = atom.aval.shape
    return jnp.reshape(array(value), (length,) if math.prod(shape) == 1 else (length, -1))


def _rows_at(series, n_row, time):
    """Rows of one sample, sliced one by one: XLA makes no fast loop from rows that are sliced together."""
    size = series.shape[1] // n_row
    slices = (lax.dynamic_slice(series, (time, np.int32(row * size)), (1, size)) for row in range(n_row))
    return StackedRows(map(flat, slices))


def _is_cheap(equation):
    return equation.primitive.name in ELEMENTWISE or equation.primitive.name.startswith("reduce_")


def _hoist_invariants(closed, values):
    """(values, reciprocals): loop-invariant values, and the reciprocals of loop-invariant divisors."""
    values = dict(zip(closed.jaxpr.constvars, map(flat, closed.consts), strict=True)) | values
    origins, reciprocals = {}, {}
    for equation in closed.jaxpr.eqns:
        operands = equation.invars
        if _is_reshape(equation) and not is_literal(operands[0]):
            # A reshape costs no time in the loop, but would cost memory before it.
            origins[equation.outvars[0]] = origins.get(operands[0], operands[0])
        elif _is_cheap(equation) and all(is_literal(a) or a in values for a in operands):
            results = _apply(closed.jaxpr, equation, [_read(values, atom) for atom in operands])
            values |= zip(equation.outvars, map(array, results), strict=True)
        elif equation.primitive.name == "div" and not is_literal(operands[1]):
            divisor = origins.get(operands[1], operands[1])
            if divisor in values and jnp.issubdtype(divisor.aval.dtype, jnp.floating):
                reciprocals[divisor] = 1.0 / values[divisor]
    return values, reciprocals


def _broadcast(equation, value):
    own_shape, shape = equation.invars[0].aval.shape, equation.params["shape"]
    size = math.prod(shape)
    if isinstance(value, SymbolicZero) or is_zero(value):
        return SymbolicZero(size, equation.outvars[0].aval.dtype)
    value = jnp.asarray(array(value))
    if value.size in (1, size):
        return jnp.broadcast_to(value, () if size == 1 else (size,))
    return flat(lax.broadcast_in_dim(jnp.reshape(value, own_shape), shape, equation.params["broadcast_dimensions"]))
