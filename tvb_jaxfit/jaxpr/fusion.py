"""Choice of intermediate values that XLA stores instead of computing them again in several kernels.

XLA makes one kernel for each result, and one for each costly operation with several users. It fuses all cheap
operations that lead to a result into its kernel, again in each kernel that needs them. In the derivatives of a step,
most of the work is such cheap operations: some tens of multiplications and additions that several results share. Where
storing such a value costs less than computing it again, the value is divided by a number that is 1: XLA counts a
division as costly, although it is cheap, and does not repeat it.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import wraps

import jax
import jax.numpy as jnp
from jax import lax

from .flatten import ELEMENTWISE, RESHAPES, eval_equation, is_literal, scan_sizes

# Cost of an operation per element, in multiplications; 1 if it is not listed.
_COST = {"integer_pow": 2, "div": 6, "sqrt": 6, "rsqrt": 8, "rem": 12} | dict.fromkeys(
    "acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erfc erf_inv exp exp2 expm1 lgamma log log1p logistic "
    "pow sin sinh tan tanh".split(),
    25,
)
# XLA never repeats an operation of this cost or more.
_NEVER_REPEATED = 6
# Cost per element of storing a value: the division by 1, one store and the loads.
_STORING = 50
# Arrays below this size are ignored: the launch of their kernel costs more than its work.
_SMALL = 32
# Number of candidates that are examined per greedy step.
_TRIES = 40
_FREE = frozenset(
    {*RESHAPES, "broadcast_in_dim", "convert_element_type", "iota", "slice", "dynamic_slice", "transpose", "copy"}
)
# Operations, by the beginning of their names, whose result has a kernel of its own.
_ROOTS = ("reduce_", "concatenate", "pad", "dynamic_update_slice", "cumsum")


def materialise_shared(function: Callable) -> Callable:
    """The same function of arrays, with values that several kernels share stored once.

    Parameters
    ----------
    function : callable
        Function of trees of arrays, to a tree of arrays.

    Returns
    -------
    callable
        Function with the same arguments, and the same result up to differences from XLA's other choice of kernels.
    """

    @wraps(function)
    def rewritten(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        # The barrier hides from the compiler that the value is 1.
        opaque_one = lax.optimization_barrier(jnp.ones(()))
        results = _evaluate(closed, jax.tree.leaves(arguments), opaque_one)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return rewritten


def _evaluate(closed, arguments, opaque_one, n_carry=0):
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)
    duplicates = _duplicates(jaxpr)
    outputs = [None if is_literal(atom) else duplicates.get(atom, atom) for atom in jaxpr.outvars]
    # XLA would compute a value that is both carry and output of a loop once for each.
    carried_and_returned = set(outputs[:n_carry]) & set(outputs[n_carry:])
    stored = choose_materialised(jaxpr, duplicates) | {a for a in carried_and_returned if a and _is_large(a)}

    def read(atom):
        return atom.val if is_literal(atom) else values[duplicates.get(atom, atom)]

    for equation in jaxpr.eqns:
        if any(atom in duplicates for atom in equation.outvars):
            continue
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name == "scan":
            results = _scan(equation, operands, opaque_one)
        else:
            results = eval_equation(jaxpr, equation, operands)
        for atom, value in zip(equation.outvars, results, strict=True):
            values[atom] = value / opaque_one.astype(value.dtype) if atom in stored else value
    return [read(atom) for atom in jaxpr.outvars]


def _scan(equation, operands, opaque_one):
    parameters = equation.params
    n_constant, n_carry = scan_sizes(parameters)
    constants, carry = operands[:n_constant], operands[n_constant : n_constant + n_carry]

    def body(carry, at):
        results = _evaluate(parameters["jaxpr"], [*constants, *carry, *at], opaque_one, n_carry)
        return results[:n_carry], results[n_carry:]

    series = operands[n_constant + n_carry :]
    end, out = lax.scan(body, carry, series, length=parameters["length"], reverse=parameters["reverse"])
    return [*end, *out]


def _duplicates(jaxpr):
    """Common subexpressions: {variable: the first variable with the same value}."""
    duplicates, first = {}, {}
    for equation in jaxpr.eqns:
        if equation.primitive.name not in ELEMENTWISE | _FREE:
            continue
        (atom,) = equation.outvars
        found = first.setdefault(_expression(equation, duplicates), atom)
        if found is not atom:
            duplicates[atom] = found
    return duplicates


def _expression(equation, duplicates):
    """Key that is equal for equations with equal results."""
    atoms = tuple((str(a.val), str(a.aval)) if is_literal(a) else id(duplicates.get(a, a)) for a in equation.invars)
    return equation.primitive.name, atoms, str(equation.params)


def choose_materialised(jaxpr, duplicates: dict) -> set:
    """Greedy choice of the values to store.

    Parameters
    ----------
    jaxpr : jax.extend.core.Jaxpr
    duplicates : dict
        Variables that are replaced, and their replacements.

    Returns
    -------
    set
        Variables of the jaxpr.
    """
    values = _Values(jaxpr, duplicates)
    stored = values.strided_reads
    total, kernels = values.cost(stored)
    while True:
        for value in values.worth_storing(kernels)[:_TRIES]:
            new_total, new_kernels = values.cost(stored | {value})
            if new_total < total:
                stored, total, kernels = stored | {value}, new_total, new_kernels
                break
        else:
            return stored


class _Values:
    """Values of a jaxpr that kernels can compute, and the cost of these kernels."""

    def __init__(self, jaxpr, duplicates):
        self.results, self.operands, self.weight = set(), {}, {}
        self.users, n_slices, transposed = defaultdict(list), defaultdict(int), set()
        live = {duplicates.get(a, a) for a in jaxpr.outvars if not is_literal(a)}
        self.results |= live
        for equation in reversed(jaxpr.eqns):
            if not any(atom in live and atom not in duplicates for atom in equation.outvars):
                continue
            operands = {duplicates.get(a, a) for a in equation.invars if not is_literal(a)}
            live |= operands
            name, (atom, *others) = equation.primitive.name, equation.outvars
            if name == "slice":
                n_slices[duplicates.get(equation.invars[0], equation.invars[0])] += 1
            is_root = name.startswith(_ROOTS)
            if others or not (is_root or name in _FREE or name in ELEMENTWISE):
                self.results |= operands
                continue
            if is_root:
                self.results.add(atom)
            self.operands[atom] = operands
            self.weight[atom] = 0 if name in _FREE else _COST.get(name, 1)
            if name == "transpose" and _changes_order(equation):
                transposed.add(atom)
            for operand in operands:
                self.users[operand].append(atom)
        # Each value comes after its users.
        self.order = list(self.operands)
        # A kernel is slow if it computes a value that it reads in another order or at several places.
        in_memory = set(jaxpr.invars)
        for atom in reversed(self.order):
            if self.weight[atom] == 0 and self.operands[atom] <= in_memory and atom not in transposed:
                in_memory.add(atom)
        strided = transposed | {atom for atom, count in n_slices.items() if count > 1 and atom not in in_memory}
        self.strided_reads = {atom for atom in self.order if atom in strided and _is_large(atom)}

    def cost(self, stored):
        """(cost, kernels): total cost, and the kernels that compute each value that has no kernel of its own."""
        roots, kernels, total = set(), {}, 0
        for atom in self.order:
            users = set()
            for user in self.users[atom]:
                users |= {user} if user in roots else kernels[user]
            if atom in self.results or atom in stored or (self.weight[atom] >= _NEVER_REPEATED and len(users) > 1):
                roots.add(atom)
                users = set() if atom.aval.size < _SMALL else {atom}
            kernels[atom] = users
            if atom.aval.size >= _SMALL:
                total += self.weight[atom] * len(users)
        total += _STORING * sum(atom not in self.results for atom in stored)
        return total, {atom: users for atom, users in kernels.items() if atom not in roots}

    def worth_storing(self, kernels):
        """Values that several kernels compute, those with the largest saving first."""
        fused, saving = {}, {}
        for atom in reversed(self.order):
            fused[atom] = {atom}.union(*(fused[operand] for operand in self.operands[atom] if operand in kernels))
            n_repeated = len(kernels.get(atom, ())) - 1
            if n_repeated > 0 and _is_large(atom) and self.weight[atom]:
                saving[atom] = n_repeated * sum(self.weight[value] for value in fused[atom]) - _STORING
        return sorted((atom for atom in saving if saving[atom] > 0), key=saving.get, reverse=True)


def _changes_order(equation):
    """True for a transposition that moves an axis longer than 1."""
    shape = equation.invars[0].aval.shape
    moved = [axis for axis in equation.params["permutation"] if shape[axis] > 1]
    return moved != sorted(moved)


def _is_large(atom):
    """True for a value that can be stored: large enough, and of a floating-point type that can be divided."""
    return atom.aval.size >= _SMALL and jnp.issubdtype(atom.aval.dtype, jnp.floating)
