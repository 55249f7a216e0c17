"""Values of a traced function during `flatten_jaxpr`: flat arrays, stacked rows, and symbolic zeros.

Rows of a stacked array are kept separate, since a single loop over two state variables would have to select the
variable for each element. Zeros are kept symbolic, since most derivatives of one variable's equation by another are
zero.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class SymbolicZero:
    """Array of zeros of a given size and dtype."""

    size: int
    dtype: Any


class StackedRows(list):
    """Stacked array, as a list of its rows along the first axis, each of them flat."""


def array(value) -> jax.Array:
    """A value as one flat array."""
    if isinstance(value, StackedRows):
        return jnp.concatenate([jnp.ravel(array(row)) for row in value])
    if isinstance(value, SymbolicZero):
        return jnp.zeros(() if value.size == 1 else value.size, value.dtype)
    return value


def flat(value):
    """A value as a one-dimensional array, or a zero-dimensional one if it has one element."""
    if isinstance(value, (StackedRows, SymbolicZero)):
        return value
    return jnp.reshape(value, () if jnp.size(value) == 1 else (-1,))


def split(value, n_row: int) -> StackedRows:
    """Rows of a value."""
    if isinstance(value, StackedRows):
        return value
    if isinstance(value, SymbolicZero):
        return StackedRows([SymbolicZero(value.size // n_row, value.dtype)] * n_row)
    # Slices of a one-dimensional array: for slices of two axes XLA would divide to find each element.
    value = jnp.ravel(value)
    size = value.size // n_row
    return StackedRows(flat(value[row * size : (row + 1) * size]) for row in range(n_row))


def elementwise(equation, arguments):
    """Result of an elementwise operation, row by row if an operand is stacked."""
    shape = equation.outvars[0].aval.shape
    if not any(isinstance(a, StackedRows) for a in arguments):
        return _row(equation, arguments)
    pairs = zip(equation.invars, arguments, strict=True)
    parts = [split(a, shape[0]) if atom.aval.shape == shape else [a] * shape[0] for atom, a in pairs]
    return StackedRows(_row(equation, row) for row in zip(*parts, strict=True))


def _row(equation, arguments):
    """Result of an elementwise operation on flat operands; operations on symbolic zeros are simplified."""
    name, zeros = equation.primitive.name, [isinstance(a, SymbolicZero) for a in arguments]
    if any(zeros):
        dtype = equation.outvars[0].aval.dtype
        size = max(jnp.size(a) if not zero else a.size for a, zero in zip(arguments, zeros, strict=True))
        if name == "mul" or all(zeros) and name in ("add", "add_any", "sub", "neg", "convert_element_type"):
            return SymbolicZero(size, dtype)
        if name == "div" and zeros == [True, False] or name == "select_n" and all(zeros[1:]):
            return SymbolicZero(size, dtype)
        if name in ("add", "add_any", "sub"):
            x = arguments[zeros.index(False)]
            if jnp.size(x) == size:
                return lax.neg(jnp.asarray(x)) if name == "sub" and zeros[0] else x
    return equation.primitive.bind(*map(jnp.asarray, map(array, arguments)), **equation.params)


def rearranged(equation, arguments):
    """Result of an operation that stacks, pads or selects rows; None for any other operation."""
    name, parameters = equation.primitive.name, equation.params
    shape, operand_shapes = equation.outvars[0].aval.shape, [atom.aval.shape for atom in equation.invars]
    if name == "concatenate" and parameters["dimension"] == 0 and len(arguments) > 1:
        if all(own[0] == 1 or isinstance(a, StackedRows) for a, own in zip(arguments, operand_shapes, strict=True)):
            return StackedRows(row for a in arguments for row in (a if isinstance(a, StackedRows) else [a]))
        return None
    if name == "stack" and parameters.get("axis", 0) == 0:
        rows = StackedRows(map(array_unless_zero, arguments))
        return rows if len(rows) > 1 else rows[0]
    if name == "pad" and operand_shapes[0][1:] == shape[1:] and shape[0] > 1:
        n_row, ((low, high, _), *others) = operand_shapes[0][0], parameters["padding_config"]
        if low >= 0 and high >= 0 and n_row + low + high == shape[0] and not any(map(any, others)):
            inside = split(arguments[0], n_row) if n_row > 1 else [arguments[0]]
            outside = _row_of(arguments[1], inside[0])
            return StackedRows([*[outside] * low, *inside, *[outside] * high])
    if not arguments or not isinstance(arguments[0], StackedRows):
        return None
    rows, own = arguments[0], operand_shapes[0]
    if name in ("reshape", "squeeze", "expand_dims") and shape[:1] == own[:1]:
        return rows
    if name == "slice" and shape[1:] == own[1:] and parameters["strides"] in (None, (1,) * len(own)):
        begin, end = parameters["start_indices"][0], parameters["limit_indices"][0]
        return StackedRows(rows[begin:end]) if end - begin > 1 else rows[begin]
    return None


def array_unless_zero(value):
    """A value as one flat array; a symbolic zero unchanged."""
    return value if isinstance(value, SymbolicZero) else array(value)


def _row_of(number, like):
    """A number, repeated for each element of the row ``like``."""
    size = like.size if isinstance(like, SymbolicZero) else jnp.size(like)
    number = array(number)
    if is_zero(number):
        return SymbolicZero(size, jnp.result_type(number))
    return jnp.broadcast_to(jnp.asarray(number), () if size == 1 else (size,))


def is_zero(number) -> bool:
    """True for a floating-point zero that is a constant of the jaxpr, not a traced or computed value."""
    if isinstance(number, (StackedRows, SymbolicZero, jnp.ndarray)) or jnp.size(number) != 1:
        return False
    return jnp.issubdtype(jnp.result_type(number), jnp.floating) and number == 0
