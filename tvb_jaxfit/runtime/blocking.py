"""Order of the operations of a program that wait for threads of the pool in which they run.

XLA on a CPU runs operations side by side in one pool of threads. A batch of LAPACK calls, or an FFT, takes a thread of
that pool and waits there for other threads of it. As many such operations at once as the pool has threads wait for
each other for ever. Here each of them depends on the one before, so that they run one after the other.
"""

import jax
import jax.numpy as jnp
from jax import lax

# Primitives of JAX that call LAPACK, or the FFT, on a CPU.
_BLOCKING = frozenset(
    "cholesky eig eigh fft geqrf geqp3 hessenberg householder_product lu lu_solve ormqr qr schur svd sylvester "
    "symmetric_product triangular_solve tridiagonal tridiagonal_solve".split()
)
# Calls of a jaxpr that are replaced by its operations, with the parameter that holds it.
_CALLS = {"closed_call": "call_jaxpr", "core_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_CALLS |= {"custom_vjp_call": "call_jaxpr", "jit": "jaxpr", "pjit": "jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr"}


def n_blocking(jaxpr) -> int:
    """Number of operations of a jaxpr that block a thread, those of its calls and loops included.

    Parameters
    ----------
    jaxpr : jax.extend.core.Jaxpr
    """
    return sum(_n_of(equation) for equation in jaxpr.eqns)


def _n_of(equation):
    if equation.primitive.name in _BLOCKING:
        return 1
    return sum(n_blocking(each) for each in _jaxprs(equation.params))


def _jaxprs(value):
    """Jaxprs in the parameters of an operation."""
    if hasattr(value, "eqns"):
        return [value]
    if hasattr(value, "jaxpr") and hasattr(value.jaxpr, "eqns"):
        return [value.jaxpr]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [each for item in values for each in _jaxprs(item)]


def evaluate_in_order(jaxpr, constants, arguments) -> list:
    """Results of a jaxpr, in which operations that block a thread run one after the other.

    Parameters
    ----------
    jaxpr : jax.extend.core.Jaxpr
    constants, arguments : sequence of Array

    Returns
    -------
    list of Array
        Bit for bit those of ``jax.core.eval_jaxpr``.
    """
    return _Ordered(_zero_of(arguments)).evaluate(jaxpr, constants, arguments)


class _Ordered:
    """Evaluation in order. ``last`` is an entry of a result of the last blocking operation."""

    def __init__(self, zero):
        self.zero, self.last = zero, None

    def evaluate(self, jaxpr, constants, arguments):
        values = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom):
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            values |= zip(equation.outvars, self._apply(jaxpr, equation, operands), strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, jaxpr, equation, operands):
        name, parameters = equation.primitive.name, equation.params
        if _n_of(equation) == 0:
            return _bind(jaxpr, equation, operands)
        if name in _CALLS:
            called = parameters[_CALLS[name]]
            closed = (called.jaxpr, called.consts) if hasattr(called, "consts") else (called, ())
            return self.evaluate(*closed, operands)
        if name == "custom_linear_solve":
            return self._linear_solve(parameters, operands)
        ordered = equation.replace(params=self._ordered_inside(name, parameters))
        results = _bind(jaxpr, ordered, self._after_last(operands))
        self.last = _entry(results, self.last)
        return results

    def _linear_solve(self, parameters, operands):
        """Results of the solver alone: a program is not differentiated any more."""
        lengths, solve = parameters["const_lengths"], parameters["jaxprs"].solve
        begin = lengths.matvec + lengths.vecmat
        n_constants = begin + lengths.solve + lengths.transpose_solve
        operands = [*operands[begin : begin + lengths.solve], *operands[n_constants:]]
        return self.evaluate(solve.jaxpr, solve.consts, operands)

    def _after_last(self, operands):
        """Operands that depend on the last blocking operation, with the same bits."""
        if self.last is None:
            return operands
        # A subtraction of 0 keeps the sign of a zero.
        nothing = (self.last != self.last).astype(jnp.int32) * self.zero
        return [each - nothing.astype(each.dtype) if _is_inexact(each) else each for each in operands]

    def _ordered_inside(self, name, parameters):
        """Parameters of a loop or branch, whose inside is ordered as well; of any other operation as they are."""
        if name not in ("scan", "while", "cond"):
            return parameters
        inside = {
            key: parameters[key] for key in ("jaxpr", "body_jaxpr", "cond_jaxpr", "branches") if key in parameters
        }
        return parameters | {
            key: tuple(map(self._ordered, each)) if isinstance(each, tuple) else self._ordered(each)
            for key, each in inside.items()
        }

    def _ordered(self, closed):
        """The same closed jaxpr with its blocking operations in order."""
        if n_blocking(closed.jaxpr) == 0:
            return closed

        def inside(*arguments):
            return _Ordered(_zero_of(arguments)).evaluate(closed.jaxpr, closed.consts, arguments)

        return jax.make_jaxpr(inside)(*closed.in_avals)


def _zero_of(arguments):
    """0 of type int32 that XLA cannot simplify: whether a number of the arguments is the largest of its type."""
    for each in arguments:
        kind = jnp.finfo if _is_inexact(each) else jnp.iinfo if jnp.issubdtype(each.dtype, jnp.integer) else None
        if kind is not None and each.size:
            entry = lax.real(each.ravel()[0]) if jnp.iscomplexobj(each) else each.ravel()[0]
            return (entry == jnp.asarray(kind(entry.dtype).max, entry.dtype)).astype(jnp.int32)
    return jnp.zeros((), jnp.int32)


def _bind(jaxpr, equation, operands):
    """Results of an operation as it is."""
    inputs = {atom: value for atom, value in zip(equation.invars, operands, strict=True) if not hasattr(atom, "val")}
    single = jaxpr.replace(eqns=[equation], constvars=[], invars=list(inputs), outvars=equation.outvars)
    return jax.core.eval_jaxpr(single, (), *inputs.values())


def _is_inexact(value):
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def _entry(results, last):
    """An entry of the first result that has numbers."""
    for each in results:
        if _is_inexact(each) and each.size:
            return lax.real(each.ravel()[0]) if jnp.iscomplexobj(each) else each.ravel()[0]
    return last
