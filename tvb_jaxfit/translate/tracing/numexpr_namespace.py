"""numexpr's expressions on JAX arrays: its own parser and types, its virtual machine's operations.

numexpr is not numpy: ``x % y`` is ``x - floor(x / y) * y``, each operation rounded, powers by small whole numbers are
products, and a remainder by the integer 0 is 0. Where no JAX array enters, numexpr itself is called.
"""

import jax
import jax.numpy as jnp
import numpy as np

from .mutable_array import is_traced, plain

# numexpr's own names of what numpy calls otherwise.
_BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "pow": "power"}
_COMPARISONS = {"gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
_BITWISE = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "invert": "invert"}
_INTEGERS = ("int", "long")
_RANKS = ("bool", "int", "long", "float", "double", "complex")
_ALL_AXES = 255


def value_of(expression, look_up, numpy, missing, **options):
    """Value of an expression.

    Parameters
    ----------
    expression : str
    look_up : callable
        Name to value: a number, an array of numpy's, or a JAX array.
    numpy : object
        numpy's functions, for arrays of both kinds.
    missing : type
        Error to raise for what has no counterpart.
    **options
        Of ``numexpr.evaluate``.

    Returns
    -------
    Array or ndarray
    """
    import numexpr
    from numexpr import necompiler

    context = {"optimization": options.get("optimization", "aggressive"), "truediv": options.get("truediv") is True}
    names = {node.value for node in _nodes(necompiler.stringToExpression(expression, {}, context), "variable")}
    values = {name: plain(look_up(name)) for name in names}
    if not is_traced(values):
        return numexpr.evaluate(expression, local_dict=values, global_dict={}, **options)
    types = {name: _type_of(value) for name, value in values.items()}
    tree = necompiler.stringToExpression(expression, types, context)
    return plain(_Machine(values, numpy, missing).value(tree))


def _nodes(tree, kind):
    if tree.astType == kind:
        yield tree
    for child in tree.children:
        yield from _nodes(child, kind)


def _type_of(value):
    """numexpr's type; a JAX array stands for the double that TVB holds, in single precision, too."""
    from numexpr import necompiler

    if isinstance(value, jax.Array):
        return {"b": bool, "i": np.int64, "u": np.int64, "f": np.double, "c": complex}[np.dtype(value.dtype).kind]
    return necompiler.getType(np.asarray(value))


class _Machine:
    """Values of the nodes of an expression's tree."""

    def __init__(self, values, numpy, missing):
        self._values, self._numpy, self._missing, self._known = values, numpy, missing, {}

    def value(self, node):
        """Of a node; of one that several others share, once."""
        if id(node) not in self._known:
            self._known[id(node)] = self._worked_out(node)
        return self._known[id(node)]

    def _worked_out(self, node):
        if node.astType == "variable":
            return self._values[node.value]
        if node.astType in ("constant", "raw"):
            return node.value
        name, kind = node.value, node.astKind
        if name == "where":
            condition, *branches = node.children
            return self._call("where", self.value(condition), *(self._cast(branch, kind) for branch in branches))
        if name in ("sum", "prod", "min", "max"):
            of, axis = map(self.value, node.children)
            return self._call(name, of, axis=None if axis == _ALL_AXES else axis)
        if kind == "bool":
            # A comparison, or a test: of operands of one kind, the widest of theirs.
            kind = max((child.astKind for child in node.children), key=_RANKS.index)
        parts = name in ("real", "imag")
        operands = [self.value(child) if parts else self._cast(child, kind) for child in node.children]
        if kind in _INTEGERS and name in ("div", "pow", "lshift", "rshift"):
            raise self._missing(f"numexpr's {name} of integers has no counterpart in JAX")
        if hasattr(self, f"_{name}"):
            return getattr(self, f"_{name}")(kind, *operands)
        numpy_name = next((table[name] for table in (_BINARY, _COMPARISONS, _BITWISE) if name in table), name)
        if kind == "bool" and name == "invert":
            numpy_name = "logical_not"
        return self._call(numpy_name, *operands)

    def _call(self, name, *operands, **named):
        return plain(getattr(self._numpy, name)(*operands, **named))

    def _cast(self, child, kind):
        """Value of a child as an operand of a kind."""
        value = self.value(child)
        if child.astKind == kind or kind == "bool":
            return value
        if isinstance(value, jax.Array):
            wanted = {"int": int, "long": int, "float": float, "double": float, "complex": complex}[kind]
            is_wide = jnp.issubdtype(value.dtype, jnp.inexact) and wanted is float
            return value if is_wide else value.astype(jax.dtypes.canonicalize_dtype(wanted))
        wanted = {"int": np.int32, "long": np.int64, "float": np.float32, "double": float, "complex": complex}[kind]
        return np.asarray(value).astype(wanted) if np.ndim(value) else wanted(value)

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
        return self._call("floor", x / _apart(y))

    def _mod(self, kind, x, y):
        if kind in _INTEGERS:
            return self._call("where", y == 0, 0, self._call("mod", x, self._call("where", y == 0, 1, y)))
        x, y = _broadcast(x, y)
        whole = self._call("floor", x / _apart(y))
        # A choice between the product and NaN, which is for operands that are not finite: without it, XLA rounds the
        # product and the difference once, not each.
        return x - self._call("where", x + y < np.inf, whole * y, (whole - whole) + (y - y))

    def _round(self, _, x):
        return self._call("rint", x)

    def _complex(self, _, real, imaginary):
        return real + 1j * imaginary


def _broadcast(*operands):
    """Operands in one shape, JAX arrays where one of them is."""
    module = jnp if is_traced(operands) else np
    shape = np.broadcast_shapes(*map(np.shape, operands))
    return [module.broadcast_to(module.asarray(operand), shape) for operand in operands]


def _apart(divisor):
    """A divisor that XLA does not replace by its reciprocal, which rounds otherwise at multiples."""
    return jax.lax.optimization_barrier(divisor) if is_traced(divisor) else divisor
