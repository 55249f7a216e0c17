"""Functions of a coupling, traced from TVB's code: what sources send, and what follows the weighted sum."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator import coupling as tvb_coupling

from .. import traits
from ..tracing.method import trace
from ..tracing.mutable_array import MutableArray

_SPARSE, _DENSE = tvb_coupling.SparseCoupling, tvb_coupling.Coupling


@dataclass(frozen=True, eq=False)
class CouplingFunctions:
    """One way to compute a coupling; see `Step` for what each function does.

    Attributes
    ----------
    post : callable
    channels, pairwise : callable or None
    global_only : frozenset of str
        Parameters that act before the weighted sum, where TVB takes one value for all regions.
    """

    post: Callable
    channels: Callable | None = None
    pairwise: Callable | None = None
    global_only: frozenset = frozenset()


def has_own_call(coupling):
    """True if the coupling has a __call__ of its own, as TVB's PreSigmoidal; its parameters may have any shape."""
    return type(coupling).__call__ not in (_SPARSE.__call__, _DENSE.__call__)


def is_dense(coupling):
    """True if TVB sums over all pairs, laid out (target, n_cvar, source, n_mode); False if over connected pairs."""
    return type(coupling).__call__ is not _SPARSE.__call__


def candidates(sim):
    """Ways to compute the coupling of a configured simulator, the fastest first.

    Yields
    ------
    CouplingFunctions

    Raises
    ------
    Untranslatable
        If TVB's code cannot be traced.
    """
    coupling, n_cvar = sim.coupling, len(sim.model.cvar)
    if has_own_call(coupling):
        scalars = frozenset(p.name for p in traits.parameters(coupling) if np.size(p.read(coupling)) == 1)
        for mask in _MASKS:
            yield CouplingFunctions(lambda theta, s, y: s, pairwise=_traced_call(coupling, mask), global_only=scalars)
        return
    post = _traced_post(coupling, n_cvar)
    pre = type(coupling).pre
    if pre is _DENSE.pre:
        yield CouplingFunctions(post)
    elif pre is tvb_coupling.Difference.pre:
        yield _split(post, _difference_channels, lambda y, s: s[:-1] - s[-1:] * y)
    elif pre is tvb_coupling.Kuramoto.pre:
        yield _split(post, _kuramoto_channels, _kuramoto_from_channels)
    else:
        arguments = _arguments_of_pre(coupling, sim)
        global_only = frozenset(arguments - {"x_i", "x_j"})
        if "x_i" in arguments:
            yield CouplingFunctions(post, pairwise=_traced_pairwise(coupling), global_only=global_only)
        else:
            yield CouplingFunctions(post, channels=_traced_pre(coupling), global_only=global_only)


def _split(post, channels, combine):
    """Coupling whose pre(x_i, x_j) is a sum of products of a source's and a target's factor.

    Sources send their factors; ``combine`` multiplies the sums by the target's.
    """
    return CouplingFunctions(lambda theta, s, y: post(theta, combine(y, s), y), channels)


def _difference_channels(theta, y):
    """x_j - x_i: send x_j, and 1 for the sum of the weights."""
    return jnp.concatenate([y, jnp.ones_like(y[:1])])


def _kuramoto_channels(theta, y):
    """sin(x_j - x_i) = sin x_j cos x_i - cos x_j sin x_i: send sin x_j and cos x_j."""
    return jnp.concatenate([jnp.sin(y), jnp.cos(y)])


def _kuramoto_from_channels(y, s):
    sines, cosines = jnp.split(s, 2)
    return sines * jnp.cos(y) - cosines * jnp.sin(y)


def _for_each_variable(s, n_cvar):
    """Sums of one channel, repeated for each coupling variable, as TVB repeats the weights."""
    return jnp.broadcast_to(s, (max(n_cvar, s.shape[0]), *s.shape[1:]))


def _traced_post(coupling, n_cvar):
    own = type(coupling).post
    if own is _DENSE.post:
        return lambda theta, s, y: _for_each_variable(s, n_cvar)
    if is_dense(coupling):

        def post(theta, s, y):
            # TVB's layout is (target, n_cvar, n_mode), each row of the weights repeated for each variable.
            gx = jnp.swapaxes(_for_each_variable(s, n_cvar), 0, 1)
            values = traits.as_declared(coupling, theta["coupling"], lambda value: jnp.swapaxes(value, 0, 1))
            return jnp.swapaxes(trace(coupling, "post", values, gx)[0], 0, 1)
    else:

        def post(theta, s, y):
            return trace(coupling, "post", traits.as_declared(coupling, theta["coupling"]), s)[0]

    return post


def _traced_pre(coupling):
    """pre of a source alone, for a pre that does not use the target."""
    dense = is_dense(coupling)

    def channels(theta, y):
        values = traits.as_declared(coupling, theta["coupling"])
        if dense:
            return trace(coupling, "pre", values, y[None, :, :1], y[None])[0][0]
        return trace(coupling, "pre", values, y, y)[0]

    return channels


def _arguments_of_pre(coupling, sim):
    """Those of x_i, x_j and the parameters on which pre depends."""
    shape = (len(sim.model.cvar), 2, sim.model.number_of_modes)
    x = jax.ShapeDtypeStruct((2, *shape) if is_dense(coupling) else shape, jnp.result_type(float))
    scalar = jax.ShapeDtypeStruct((1, 1, 1), x.dtype)
    names = [p.name for p in traits.parameters(coupling)]

    def pre(x_i, x_j, *parameters):
        values = traits.as_declared(coupling, dict(zip(names, parameters, strict=True)))
        return trace(coupling, "pre", values, x_i, x_j)[0]

    traced = jax.make_jaxpr(pre)(x, x, *[scalar] * len(names)).jaxpr
    needed = {id(v) for v in traced.outvars}
    for equation in reversed(traced.eqns):
        if any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars}
    return {name for name, v in zip(["x_i", "x_j", *names], traced.invars, strict=True) if id(v) in needed}


def _traced_pairwise(coupling):
    """pre(x_i, x_j) for every pair, and the weighted sum."""
    dense = is_dense(coupling)

    def pairwise(theta, weights, y_i, y_j):
        values = traits.as_declared(coupling, theta["coupling"])
        n_target, n_cvar, n_source, n_mode = y_j.shape
        if dense:
            pre, _ = trace(coupling, "pre", values, jnp.swapaxes(y_i[None], 0, 2), y_j)
        else:
            x_i = jnp.repeat(y_i, n_source, axis=1)
            x_j = jnp.swapaxes(y_j, 0, 1).reshape(n_cvar, -1, n_mode)
            pre, _ = trace(coupling, "pre", values, x_i, x_j)
            pre = jnp.swapaxes(pre.reshape(-1, n_target, n_source, n_mode), 0, 1)
        # A value that is not finite must not spread through a weight of 0. A finite one is kept: it is the derivative
        # of the sum with respect to that weight.
        pre = jnp.where((weights != 0.0)[:, None, :, None] | jnp.isfinite(pre), pre, 0.0)
        return jnp.einsum("ij,icjm->cim", weights, pre)

    return pairwise


class _HistoryProxy:
    """TVB's history as a coupling's own __call__ reads it."""

    def __init__(self, weights, y_i, y_j):
        self.n_node, self.n_cvar, _, self.n_mode = y_j.shape
        self.es_weights = MutableArray(jnp.broadcast_to(weights[:, None, :, None], y_j.shape))
        self._current, self._delayed = MutableArray(y_i), MutableArray(y_j)

    def query(self, step):
        """Current state of the targets, and delayed states of the sources."""
        return self._current, self._delayed


# Pairs without connection for which a __call__ reads 0 as the delayed state. TVB gives it 0 for all of them. If the
# result does not depend on that, the true states are better: the derivative with respect to a weight of 0 is right.
_MASKS = {
    "none": lambda weights: jnp.zeros_like(weights, bool),
    "own": lambda weights: (weights == 0.0) & jnp.eye(weights.shape[0], dtype=bool),
    "all": lambda weights: weights == 0.0,
}


def _traced_call(coupling, mask):
    """A coupling's own __call__, as of TVB's PreSigmoidal."""

    def pairwise(theta, weights, y_i, y_j):
        values = traits.as_declared(coupling, theta["coupling"])
        y_j = jnp.where(_MASKS[mask](weights)[:, None, :, None], 0.0, y_j)
        return trace(coupling, type(coupling).__call__, values, 0, _HistoryProxy(weights, y_i, y_j))[0]

    return pairwise
