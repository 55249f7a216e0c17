"""numexpr's expressions on JAX arrays: numexpr's parser and types, with its virtual machine's operations in JAX.

numexpr differs from numpy: ``x % y`` is ``x - floor(x / y) * y`` with each operation rounded, powers with small whole
exponents are products, and a remainder by the integer 0 is 0. An expression without JAX arrays is evaluated by numexpr.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from .mutable_array import has_jax_array, unwrap, wrap
from .numpy_namespace import NUMPY, NoCounterpart

# numpy's names of numexpr's operations, where they differ.
_BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "pow": "power"}
_COMPARISONS = {"gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
_BITWISE = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "invert": "invert"}
_INTEGERS = ("int", "long")
# numexpr's kinds, from the narrowest to the widest.
_KINDS = ("bool", "int", "long", "float", "double", "complex")
_ALL_AXES = 255


def evaluate(expression, local_dict=None, global_dict=None, out=None, order="K", casting="same_kind", **options):
    """numexpr.evaluate; names are looked up in the dicts, or in the caller's frame."""
    caller = sys._getframe(1)
    local_names = caller.f_locals if local_dict is None else local_dict
    global_names = caller.f_globals if global_dict is None else global_dict

    def look_up(name):
        return local_names[name] if name in local_names else global_names[name]

    result = wrap(_value_of(expression, look_up, **options))
    if out is None:
        return result
    out.write(result)
    return out


def _value_of(expression, look_up, **options):
    """Value of an expression, an array of numpy or JAX; ``look_up`` maps a name to its value."""
    import numexpr
    from numexpr import necompiler

    context = {"optimization": options.get("optimization", "aggressive"), "truediv": options.get("truediv") is True}
    names = {node.value for node in _nodes(necompiler.stringToExpression(expression, {}, context), "variable")}
    values = {name: unwrap(look_up(name)) for name in names}
    if not has_jax_array(values):
        return numexpr.evaluate(expression, local_dict=values, global_dict={}, **options)
    types = {name: _numexpr_type(value) for name, value in values.items()}
    tree = necompiler.stringToExpression(expression, types, context)
    return unwrap(_Interpreter(values).value(tree))


def _nodes(tree, kind):
    if tree.astType == kind:
        yield tree
    for child in tree.children:
        yield from _nodes(child, kind)


def _numexpr_type(value):
    """numexpr's type of a value; double for a JAX array of floats in either precision, since TVB holds doubles."""
    from numexpr import necompiler

    if isinstance(value, jax.Array):
        return {"b": bool, "i": np.int64, "u": np.int64, "f": np.double, "c": complex}[np.dtype(value.dtype).kind]
    return necompiler.getType(np.asarray(value))


class _Interpreter:
    """Values of the nodes of an expression tree."""

    def __init__(self, values):
        self._values, self._evaluated = values, {}

    def value(self, node):
        """Value of a node; a node that several others share is evaluated once."""
        if id(node) not in self._evaluated:
            self._evaluated[id(node)] = self._evaluate(node)
        return self._evaluated[id(node)]

    def _evaluate(self, node):
        if node.astType == "variable":
            return self._values[node.value]
        if node.astType in ("constant", "raw"):
            return node.value
        name, kind = node.value, node.astKind
        if name == "where":
            condition, *branches = node.children
            return self._call("where", self.value(condition), *(self._cast(branch, kind) for branch in branches))
        if name in ("sum", "prod", "min", "max"):
            operand, axis = map(self.value, node.children)
            return self._call(name, operand, axis=None if axis == _ALL_AXES else axis)
        if kind == "bool":
            # Operands of a comparison are cast to the widest of their kinds.
            kind = max((child.astKind for child in node.children), key=_KINDS.index)
        takes_complex = name in ("real", "imag")
        operands = [self.value(child) if takes_complex else self._cast(child, kind) for child in node.children]
        if kind in _INTEGERS and name in ("div", "pow", "lshift", "rshift"):
            raise NoCounterpart(f"numexpr's {name} of integers has no counterpart in JAX")
        if hasattr(self, f"_{name}"):
            return getattr(self, f"_{name}")(kind, *operands)
        numpy_name = next((table[name] for table in (_BINARY, _COMPARISONS, _BITWISE) if name in table), name)
        if kind == "bool" and name == "invert":
            numpy_name = "logical_not"
        return self._call(numpy_name, *operands)

    def _call(self, name, *operands, **named):
        return unwrap(getattr(NUMPY, name)(*operands, **named))

    def _cast(self, child, kind):
        """Value of a child, cast to a kind of numexpr."""
        value = self.value(child)
        if child.astKind == kind or kind == "bool":
            return value
        if isinstance(value, jax.Array):
            dtype = {"int": int, "long": int, "float": float, "double": float, "complex": complex}[kind]
            is_float = jnp.issubdtype(value.dtype, jnp.inexact) and dtype is float
            return value if is_float else value.astype(jax.dtypes.canonicalize_dtype(dtype))
        dtype = {"int": np.int32, "long": np.int64, "float": np.float32, "double": float, "complex": complex}[kind]
        return np.asarray(value).astype(dtype) if np.ndim(value) else dtype(value)

    # Operations that numpy has under no name, or defines otherwise: found by `_evaluate` as "_" + numexpr's name.

    def _neg(self, _, x):
        return -x

    def _div(self, _, x, y):
        return self._call("divide", x, y)

    def _copy(self, _, x):
        return x

    def _floordiv(self, kind, x, y):
        if kind in _INTEGERS:
            return self._call("where", y == 0, 0, self._call("floor_divide", x, self._call("where", y == 0, 1, y)))
        x, y = _broadcast(x, y)
        return self._call("floor", x / _opaque(y))

    def _mod(self, kind, x, y):
        if kind in _INTEGERS:
            return self._call("where", y == 0, 0, self._call("mod", x, self._call("where", y == 0, 1, y)))
        x, y = _broadcast(x, y)
        quotient = self._call("floor", x / _opaque(y))
        # The `where` keeps XLA from fusing the product and the difference into one operation with one rounding. Its
        # other branch gives NaN for operands that are not finite.
        return x - self._call("where", x + y < np.inf, quotient * y, (quotient - quotient) + (y - y))

    def _round(self, _, x):
        return self._call("rint", x)

    def _complex(self, _, real, imaginary):
        return real + 1j * imaginary


def _broadcast(*operands):
    """Operands in one shape; as JAX arrays if one of them is one."""
    module = jnp if has_jax_array(operands) else np
    shape = np.broadcast_shapes(*map(np.shape, operands))
    return [module.broadcast_to(module.asarray(operand), shape) for operand in operands]


def _opaque(divisor):
    """Divisor that XLA does not replace by its reciprocal, which rounds otherwise at multiples of the divisor."""
    return jax.lax.optimization_barrier(divisor) if has_jax_array(divisor) else divisor
