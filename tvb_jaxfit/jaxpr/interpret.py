"""Evaluation of a jaxpr by NumPy, without compilation.

Comparisons with TVB evaluate a traced function once; compiling it would take far longer.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from .flatten import CALLS, eval_equation, is_literal, scan_sizes

# By primitive: the NumPy function of the operands.
_ELEMENTWISE = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "eq": np.equal,
    "erf": special.erf,
    "erfc": special.erfc,
    "erf_inv": special.erfinv,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "lgamma": special.gammaln,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": special.expit,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "pow": np.power,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tan": np.tan,
    "tanh": np.tanh,
    "xor": np.bitwise_xor,
}
_REDUCTIONS = {
    "reduce_and": np.all,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_or": np.any,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
}


def interpret(closed, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a closed jaxpr, evaluated operation by operation.

    Parameters
    ----------
    closed : jax.extend.core.ClosedJaxpr
    arguments : sequence of ndarray

    Returns
    -------
    list of ndarray

    Notes
    -----
    Operations without a NumPy equivalent (gathers, linear algebra) are evaluated by JAX, in the precision mode of
    the caller.
    """
    values = dict(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    values |= zip(closed.jaxpr.invars, arguments, strict=True)

    def read(atom):
        return np.asarray(atom.val) if is_literal(atom) else values[atom]

    with np.errstate(all="ignore"):
        for equation in closed.jaxpr.eqns:
            results = _apply(closed.jaxpr, equation, [read(atom) for atom in equation.invars])
            # NumPy returns scalars from reductions, and from arithmetic of 0-dimensional arrays.
            values |= zip(equation.outvars, map(np.asarray, results), strict=True)
        return [read(atom) for atom in closed.jaxpr.outvars]


def _apply(jaxpr, equation, arguments):
    name, parameters = equation.primitive.name, equation.params
    if name in _ELEMENTWISE:
        return [_ELEMENTWISE[name](*arguments)]
    if name in _REDUCTIONS:
        return [_REDUCTIONS[name](arguments[0], axis=tuple(parameters["axes"]))]
    if name in CALLS:
        return interpret(parameters[CALLS[name]], arguments)
    if name in _STRUCTURAL:
        return _STRUCTURAL[name](arguments, **parameters)
    return eval_equation(jaxpr, equation, arguments)


def _div(arguments, **_):
    x, y = arguments
    if x.dtype.kind in "biu":
        return [np.trunc(x / y).astype(x.dtype)]
    return [x / y]


def _integer_pow(arguments, *, y, **_):
    power = np.power(arguments[0], abs(y))
    return [1.0 / power if y < 0 else power]


def _select_n(arguments, **_):
    return [np.choose(arguments[0].astype(int), arguments[1:])]


def _broadcast_in_dim(arguments, *, shape, broadcast_dimensions, **_):
    aligned = np.ones(len(shape), int)
    aligned[list(broadcast_dimensions)] = arguments[0].shape
    return [np.broadcast_to(arguments[0].reshape(aligned), shape)]


def _slice(arguments, *, start_indices, limit_indices, strides, **_):
    strides = strides or (1,) * len(start_indices)
    return [arguments[0][tuple(map(slice, start_indices, limit_indices, strides))]]


def _dot_general(arguments, *, dimension_numbers, **_):
    (contracted_x, contracted_y), (batch_x, batch_y) = dimension_numbers
    x, y = arguments
    x_axes, y_axes = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in (*zip(contracted_x, contracted_y, strict=True), *zip(batch_x, batch_y, strict=True)):
        y_axes[j] = x_axes[i]
    free_x = [x_axes[i] for i in range(x.ndim) if i not in (*contracted_x, *batch_x)]
    free_y = [y_axes[j] for j in range(y.ndim) if j not in (*contracted_y, *batch_y)]
    return [np.einsum(x, x_axes, y, y_axes, [x_axes[i] for i in batch_x] + free_x + free_y)]


def _scan(arguments, *, jaxpr, length, reverse, **parameters):
    n_constant, n_carry = scan_sizes(parameters)
    constants, carry = arguments[:n_constant], arguments[n_constant : n_constant + n_carry]
    series, out = arguments[n_constant + n_carry :], [None] * length
    for index in reversed(range(length)) if reverse else range(length):
        results = interpret(jaxpr, [*constants, *carry, *(values[index] for values in series)])
        carry, out[index] = results[:n_carry], results[n_carry:]
    return [*carry, *(np.stack(parts) for parts in zip(*out, strict=True))]


def _clamp(arguments, **_):
    low, x, high = arguments
    return [np.clip(x, low, high)]


# By primitive: function of the operands and the parameters, to the list of results.
_STRUCTURAL = {
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": _clamp,
    "concatenate": lambda arguments, *, dimension: [np.concatenate(arguments, axis=dimension)],
    "convert_element_type": lambda arguments, *, new_dtype, **_: [arguments[0].astype(new_dtype)],
    "copy": lambda arguments, **_: arguments,
    "div": _div,
    "dot_general": _dot_general,
    "integer_pow": _integer_pow,
    "iota": lambda arguments, **parameters: [_iota(**parameters)],
    "rem": lambda arguments, **_: [np.fmod(*arguments)],
    "reshape": lambda arguments, *, new_sizes, **_: [arguments[0].reshape(new_sizes)],
    "rsqrt": lambda arguments, **_: [1.0 / np.sqrt(arguments[0])],
    "scan": _scan,
    "select_n": _select_n,
    "slice": _slice,
    "squeeze": lambda arguments, *, dimensions, **_: [np.squeeze(arguments[0], dimensions)],
    "stack": lambda arguments, *, axis=0, **_: [np.stack(arguments, axis)],
    "stop_gradient": lambda arguments, **_: arguments,
    "tile": lambda arguments, *, reps: [np.tile(arguments[0], reps)],
    "transpose": lambda arguments, *, permutation, **_: [np.transpose(arguments[0], permutation)],
}


def _iota(*, dtype, shape, dimension, **_):
    index = np.arange(shape[dimension], dtype=dtype)
    return np.broadcast_to(index.reshape([-1 if axis == dimension else 1 for axis in range(len(shape))]), shape)
