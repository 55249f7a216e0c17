"""Values of a traced function while it is rewritten: flat, row by row where rows were stacked, or known to be zero.

One loop over two state variables would decide at each element which of them it is at. And of the derivatives of one
variable's equation by another, most are zero, and known to be.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Zero:
    """An array of zeros, so many and of that kind."""

    size: int
    dtype: Any


class Rows(list):
    """A stacked array, as its rows along the first axis, each flat."""


def array(value):
    """A value as one array, flat."""
    if isinstance(value, Rows):
        return jnp.concatenate([jnp.ravel(array(row)) for row in value])
    if isinstance(value, Zero):
        return jnp.zeros(() if value.size == 1 else value.size, value.dtype)
    return value


def flat(value):
    """A value without its axes; a single number without any."""
    if isinstance(value, (Rows, Zero)):
        return value
    return jnp.reshape(value, () if jnp.size(value) == 1 else (-1,))


def split(value, n_row):
    """Rows of a value."""
    if isinstance(value, Rows):
        return value
    if isinstance(value, Zero):
        return Rows([Zero(value.size // n_row, value.dtype)] * n_row)
    # Slices of one axis: taken from two, XLA would divide to find each element.
    value = jnp.ravel(value)
    size = value.size // n_row
    return Rows(flat(value[row * size : (row + 1) * size]) for row in range(n_row))


def elementwise(equation, arguments):
    """Result of an operation that treats each element by itself, row by row where an operand is in rows."""
    shape = equation.outvars[0].aval.shape
    if not any(isinstance(a, Rows) for a in arguments):
        return _row(equation, arguments)
    pairs = zip(equation.invars, arguments, strict=True)
    parts = [split(a, shape[0]) if atom.aval.shape == shape else [a] * shape[0] for atom, a in pairs]
    return Rows(_row(equation, row) for row in zip(*parts, strict=True))


def _row(equation, arguments):
    name, zeros = equation.primitive.name, [isinstance(a, Zero) for a in arguments]
    if any(zeros):
        kind = equation.outvars[0].aval.dtype
        size = max(jnp.size(a) if not zero else a.size for a, zero in zip(arguments, zeros, strict=True))
        if name == "mul" or all(zeros) and name in ("add", "add_any", "sub", "neg", "convert_element_type"):
            return Zero(size, kind)
        if name == "div" and zeros == [True, False] or name == "select_n" and all(zeros[1:]):
            return Zero(size, kind)
        if name in ("add", "add_any", "sub"):
            x = arguments[zeros.index(False)]
            if jnp.size(x) == size:
                return lax.neg(jnp.asarray(x)) if name == "sub" and zeros[0] else x
    return equation.primitive.bind(*map(jnp.asarray, map(array, arguments)), **equation.params)


def rearranged(equation, arguments):
    """Result of an operation that puts rows together or takes some out, or None where it does something else."""
    name, parameters = equation.primitive.name, equation.params
    shape, of_operands = equation.outvars[0].aval.shape, [atom.aval.shape for atom in equation.invars]
    if name == "concatenate" and parameters["dimension"] == 0 and len(arguments) > 1:
        if all(own[0] == 1 or isinstance(a, Rows) for a, own in zip(arguments, of_operands, strict=True)):
            return Rows(row for a in arguments for row in (a if isinstance(a, Rows) else [a]))
        return None
    if name == "stack" and parameters.get("axis", 0) == 0:
        rows = Rows(map(array_unless_zero, arguments))
        return rows if len(rows) > 1 else rows[0]
    if name == "pad" and of_operands[0][1:] == shape[1:] and shape[0] > 1:
        (low, high, _), *others = parameters["padding_config"]
        if low >= 0 and high >= 0 and of_operands[0][0] + low + high == shape[0] and not any(map(any, others)):
            inside = split(arguments[0], of_operands[0][0]) if of_operands[0][0] > 1 else [arguments[0]]
            outside = _spread(arguments[1], inside[0])
            return Rows([*[outside] * low, *inside, *[outside] * high])
    if not arguments or not isinstance(arguments[0], Rows):
        return None
    rows, own = arguments[0], of_operands[0]
    if name in ("reshape", "squeeze", "expand_dims") and shape[:1] == own[:1]:
        return rows
    if name == "slice" and shape[1:] == own[1:] and parameters["strides"] in (None, (1,) * len(own)):
        begin, end = parameters["start_indices"][0], parameters["limit_indices"][0]
        return Rows(rows[begin:end]) if end - begin > 1 else rows[begin]
    return None


def array_unless_zero(value):
    """A value as one array, or the zero that it is."""
    return value if isinstance(value, Zero) else array(value)


def _spread(number, like):
    """A number for each element of a row."""
    size = like.size if isinstance(like, Zero) else jnp.size(like)
    number = array(number)
    if is_zero(number):
        return Zero(size, jnp.result_type(number))
    return jnp.broadcast_to(jnp.asarray(number), () if size == 1 else (size,))


def is_zero(number):
    """Whether a number that is written in a function, not worked out, is a floating-point zero."""
    if isinstance(number, (Rows, Zero, jnp.ndarray)) or jnp.size(number) != 1:
        return False
    return jnp.issubdtype(jnp.result_type(number), jnp.floating) and number == 0
