"""What of a traced function is worked out once and kept: kernels, materialise_shared.

XLA makes a kernel of each result and of each costly operation with several users, and puts everything cheap that leads
to it inside, again in each kernel that needs it. In the derivatives of a step the cheap is the most: some tens of
products and sums that several results share. Where to work out such a value once, and to store it, costs less than to
work it out again, it is divided by a one: a division is costly to XLA, though it is cheap, and so it is not repeated.
"""

from collections import defaultdict
from functools import wraps

import jax
import jax.numpy as jnp
from jax import lax

from .flatten import ELEMENTWISE, RESHAPES, by_itself, is_literal, scan_sizes

# In products: what a value costs. XLA never repeats what costs more than some.
_COST = {"integer_pow": 2, "div": 6, "sqrt": 6, "rsqrt": 8, "rem": 12} | dict.fromkeys(
    "acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erfc erf_inv exp exp2 expm1 lgamma log log1p logistic "
    "pow sin sinh tan tanh".split(),
    25,
)
_NEVER_REPEATED = 6
# To divide by the one, to store and to load.
_KEEPING = 50
# Elements below which a value's kernel costs less than its call; plans that are tried before there is none better.
_SMALL, _TRIES = 32, 40
_FREE = frozenset(
    {*RESHAPES, "broadcast_in_dim", "convert_element_type", "iota", "slice", "dynamic_slice", "transpose", "copy"}
)
_ROOTS = ("reduce_", "concatenate", "pad", "dynamic_update_slice", "cumsum")


def materialise_shared(function):
    """The same function of arrays, with what its kernels share worked out once.

    Parameters
    ----------
    function : callable
        Of trees of arrays, to a tree of arrays.

    Returns
    -------
    callable
        Same arguments, same result, bit for bit but for what XLA makes of other kernels.
    """

    @wraps(function)
    def rewritten(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        # Behind a barrier no compiler sees that it is 1.
        one = lax.optimization_barrier(jnp.ones(()))
        results = _evaluate(closed, jax.tree.leaves(arguments), one)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return rewritten


def _evaluate(closed, arguments, one, n_carry=0):
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)
    same = _same(jaxpr)
    own = [None if is_literal(atom) else same.get(atom, atom) for atom in jaxpr.outvars]
    # What a loop hands on and gives out, too, XLA would work out for each.
    kept = plan(jaxpr, same) | {atom for atom in set(own[:n_carry]) & set(own[n_carry:]) if atom and _is_large(atom)}

    def read(atom):
        return atom.val if is_literal(atom) else values[same.get(atom, atom)]

    for equation in jaxpr.eqns:
        if any(atom in same for atom in equation.outvars):
            continue
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name == "scan":
            results = _scan(equation, operands, one)
        else:
            results = by_itself(jaxpr, equation, operands)
        for atom, value in zip(equation.outvars, results, strict=True):
            values[atom] = value / one.astype(value.dtype) if atom in kept else value
    return [read(atom) for atom in jaxpr.outvars]


def _scan(equation, operands, one):
    parameters = equation.params
    n_constant, n_carry = scan_sizes(parameters)
    constants, carry = operands[:n_constant], operands[n_constant : n_constant + n_carry]

    def body(carry, at):
        results = _evaluate(parameters["jaxpr"], [*constants, *carry, *at], one, n_carry)
        return results[:n_carry], results[n_carry:]

    series = operands[n_constant + n_carry :]
    end, out = lax.scan(body, carry, series, length=parameters["length"], reverse=parameters["reverse"])
    return [*end, *out]


def _key(equation, same):
    atoms = tuple((str(a.val), str(a.aval)) if is_literal(a) else id(same.get(a, a)) for a in equation.invars)
    return equation.primitive.name, atoms, str(equation.params)


def _same(jaxpr):
    """Variables that are others again: {variable: the first with this value}."""
    same, first = {}, {}
    for equation in jaxpr.eqns:
        if equation.primitive.name not in ELEMENTWISE | _FREE:
            continue
        (atom,) = equation.outvars
        found = first.setdefault(_key(equation, same), atom)
        if found is not atom:
            same[atom] = found
    return same


def plan(jaxpr, same):
    """Values to keep: variables of a jaxpr.

    Parameters
    ----------
    jaxpr : jax.extend.core.Jaxpr
    same : dict
        Of variables to those in whose place they are.

    Returns
    -------
    set
    """
    values = _Values(jaxpr, same)
    kept = values.out_of_order
    total, fused = values.cost(kept)
    while True:
        for value in values.worth_keeping(fused)[:_TRIES]:
            less, then = values.cost(kept | {value})
            if less < total:
                kept, total, fused = kept | {value}, less, then
                break
        else:
            return kept


class _Values:
    """The values of a jaxpr that kernels can be made of, and what their kernels cost."""

    def __init__(self, jaxpr, same):
        self.results, self.operands, self.weight = set(), {}, {}
        self.users, sliced, turned = defaultdict(list), defaultdict(int), set()
        live = {same.get(a, a) for a in jaxpr.outvars if not is_literal(a)}
        self.results |= live
        for equation in reversed(jaxpr.eqns):
            if not any(atom in live and atom not in same for atom in equation.outvars):
                continue
            operands = {same.get(a, a) for a in equation.invars if not is_literal(a)}
            live |= operands
            name, (atom, *others) = equation.primitive.name, equation.outvars
            if name == "slice":
                sliced[same.get(equation.invars[0], equation.invars[0])] += 1
            rooted = name.startswith(_ROOTS)
            if others or not (rooted or name in _FREE or name in ELEMENTWISE):
                self.results |= operands
                continue
            if rooted:
                self.results.add(atom)
            self.operands[atom] = operands
            self.weight[atom] = 0 if name in _FREE else _COST.get(name, 1)
            if name == "transpose" and _changes_order(equation):
                turned.add(atom)
            for operand in operands:
                self.users[operand].append(atom)
        # Users before what they use.
        self.order = list(self.operands)
        # No kernel is fast that works out what is read in another order, or at several places, unless it is there.
        there = set(jaxpr.invars)
        for atom in reversed(self.order):
            if self.weight[atom] == 0 and self.operands[atom] <= there and atom not in turned:
                there.add(atom)
        made = turned | {atom for atom, count in sliced.items() if count > 1 and atom not in there}
        self.out_of_order = {atom for atom in self.order if atom in made and _is_large(atom)}

    def cost(self, kept):
        """(cost, fused): the kernels in which each value is worked out that is not a kernel's own result."""
        roots, fused, total = set(), {}, 0
        for atom in self.order:
            reached = set()
            for user in self.users[atom]:
                reached |= {user} if user in roots else fused[user]
            if atom in self.results or atom in kept or (self.weight[atom] >= _NEVER_REPEATED and len(reached) > 1):
                roots.add(atom)
                reached = set() if atom.aval.size < _SMALL else {atom}
            fused[atom] = reached
            if atom.aval.size >= _SMALL:
                total += self.weight[atom] * len(reached)
        total += _KEEPING * sum(atom not in self.results for atom in kept)
        return total, {atom: reached for atom, reached in fused.items() if atom not in roots}

    def worth_keeping(self, fused):
        """Values that are worked out in several kernels, those with most to work out first."""
        below, gain = {}, {}
        for atom in reversed(self.order):
            below[atom] = {atom}.union(*(below[operand] for operand in self.operands[atom] if operand in fused))
            repeated = len(fused.get(atom, ())) - 1
            if repeated > 0 and _is_large(atom) and self.weight[atom]:
                gain[atom] = repeated * sum(self.weight[one] for one in below[atom]) - _KEEPING
        return sorted((atom for atom in gain if gain[atom] > 0), key=gain.get, reverse=True)


def _changes_order(equation):
    """Whether a transposition moves other axes than those of length 1."""
    shape = equation.invars[0].aval.shape
    moved = [axis for axis in equation.params["permutation"] if shape[axis] > 1]
    return moved != sorted(moved)


def _is_large(atom):
    """Whether a value can be kept: enough numbers, which a one divides."""
    return atom.aval.size >= _SMALL and jnp.issubdtype(atom.aval.dtype, jnp.floating)
