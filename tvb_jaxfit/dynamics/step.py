"""The one step that everything else runs: a node-local map, and the coupling where nodes meet."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxpr.linear_map import linear_call

# Columns up to which a matrix times each by itself is faster than times all of them.
_FEW = 4
# Weights that stay in a core's cache; nodes from which skipping pairs is noticed.
_IN_CACHE, _MANY = 2**17, 64

# Indices of a scatter, for XLA.
_IN_ORDER = {"unique_indices": True, "indices_are_sorted": True}

Theta = Any  # a pytree of arrays: what the step needs of the parameters, worked out once before the loop


@dataclass(frozen=True, eq=False)
class Step:
    """x' = local(theta, x, c, u), c = post(theta, sum over sources of W y(t - delay), x[cvar]).

    Attributes
    ----------
    local : callable
        (theta, x, c, u) to x': states (n_var, n_node, n_mode), coupling (n_cvar, n_node, n_mode), and what enters at
        each step (noise, stimulus) as a dict of arrays with the node axis second to last. No node looks at another,
        unless ``is_nonlocal``.
    cvar : tuple of int
        The coupling variables: rows of the state that other nodes see.
    post : callable
        (theta, s, y) to c: the coupling function after the weighted sum s (n_channel, n_node, n_mode), with a node's
        own coupling variables y (n_cvar, n_node, n_mode).
    channels : callable or None
        (theta, y) to what each node sends, (n_channel, n_node, n_mode); None where it sends y as it is.
    pairwise : callable or None
        (theta, weights, y_i, y_j) to s, for couplings that do not split into channels: y_j (target, n_cvar, source,
        n_mode) is what each target sees of each source.
    delays : ndarray of int, shape (n_node, n_node), or None
        Steps from source to target, [target, source]; None where there are none.
    sparsity_mask : ndarray of bool, shape (n_node, n_node), or None
        Pairs [target, source] that it pays to look at alone, as long as no other has a weight (see `sparsity_mask`).
    is_nonlocal : bool
        Whether nodes meet in ``local``, too.
    is_homogeneous : bool
        Whether ``local`` and ``post`` are the same for every node, but for its constants: they may then be given
        several samples as one of so many times more nodes.

    Notes
    -----
    TVB computes the coupling once a step and keeps it through the stages of the integrator; this is why the step
    splits in two, and why its reverse pass needs small node-local Jacobians only (see `adjoint`).
    """

    local: Callable[[Theta, Any, Any, Any], Any]
    cvar: tuple[int, ...]
    post: Callable[[Theta, Any, Any], Any]
    channels: Callable[[Theta, Any], Any] | None = None
    pairwise: Callable[[Theta, Any, Any, Any], Any] | None = None
    delays: np.ndarray | None = None
    sparsity_mask: np.ndarray | None = None
    is_nonlocal: bool = False
    is_homogeneous: bool = True

    @property
    def horizon(self):
        """Number of samples that the coupling looks back on, the present one included."""
        return 1 if self.delays is None else int(self.delays.max()) + 1

    @property
    def is_local(self):
        """Whether nodes are alike and meet in sums of channels alone: the Jacobians of a step are node-local."""
        return self.pairwise is None and self.is_homogeneous and not self.is_nonlocal

    def coupling_variables(self, x):
        """Coupling variables of the state x, (..., n_var, n_node, n_mode) to (..., n_cvar, n_node, n_mode)."""
        if self.cvar == tuple(range(x.shape[-3])):
            return x
        return jnp.stack([jax.lax.index_in_dim(x, i, x.ndim - 3, keepdims=False) for i in self.cvar], axis=-3)

    def source_output(self, theta, x):
        """What each node sends of itself at state x: its channels."""
        y = self.coupling_variables(x)
        return y if self.channels is None else self.channels(theta, y)

    def next_state(self, theta, x, s, u):
        """Next state from the sums s."""
        return self.local(theta, x, self.post(theta, s, self.coupling_variables(x)), u)


def sparsity_mask(weights, delays):
    """Pairs that it pays to look at alone, or None where to look at all costs less.

    Parameters
    ----------
    weights : ndarray, shape (n_node, n_node)
    delays : ndarray of int or None
        As in `Step`.

    Returns
    -------
    ndarray of bool, shape (n_node, n_node), or None

    Notes
    -----
    To look a value up and to hand it over takes far longer than to multiply and add it, less so where the weights do
    not stay in a core's cache. With delays each pair is looked up in any case. The limits are measured.
    """
    connected = np.asarray(weights) != 0.0
    n_node, most = connected.shape[0], connected.sum(axis=1).max()
    if delays is not None:
        worth = 0.8
    else:
        worth = 0.02 if n_node**2 < _IN_CACHE else 0.15
    return connected if n_node >= _MANY and most <= worth * n_node else None


class Network:
    """Sums over sources of what was sent a delay ago: a ring of the samples that are still on their way.

    Parameters
    ----------
    weights : Array, shape (n_node, n_node)
        [target, source].
    delays : ndarray of int or None
        As in `Step`.
    sparsity_mask : ndarray of bool, optional
        Pairs to look at; all by default.
    forward : bool
        False for the reverse pass, in which targets send to sources, from later to earlier.

    Notes
    -----
    Without delays there is no ring: what is sent now is all that is seen. The ring is one axis, (n_channel, n_mode,
    n_node, horizon) in order: one gather reads all pairs, the sum over sources runs along memory, and what a pair reads
    next lies beside what it reads now, in cache. Of a ring with several axes XLA makes a copy at every step.
    """

    def __init__(self, weights, delays, connected=None, forward=True):
        self.weights = weights if forward else weights.T
        # [source, target]: of batches of states, too, the fastest product. The barrier keeps XLA from turning it back.
        self.across = jax.lax.optimization_barrier(weights.T) if forward else weights
        self.n_node = weights.shape[0]
        self.sources = np.broadcast_to(np.arange(self.n_node, dtype=np.int32), weights.shape)
        self.is_whole = connected is None
        if not self.is_whole:
            here = connected if forward else connected.T
            # As many for each target as the one with most has; those that are none have no weight.
            most = max(1, int(here.sum(axis=1).max()))
            self.sources = np.argsort(~here, axis=1, kind="stable")[:, :most].astype(np.int32)
            of_pairs = jnp.take_along_axis(self.weights, jnp.asarray(self.sources), axis=1)
            self.weights = jnp.where(np.take_along_axis(here, self.sources, axis=1), of_pairs, 0.0)
        self.delays, self.horizon = None, 1
        if delays is not None:
            self.horizon = int(np.max(delays)) + 1
            delays = np.mod(delays if forward else -delays.T, self.horizon)
            self.delays = np.take_along_axis(delays, self.sources, axis=1).astype(np.int32)

    def ring(self, sent):
        """Ring of samples (horizon, n_channel, n_node, n_mode), in order of time, the newest that of time 0.

        None without delays: what is sent now is all that is seen now.
        """
        if self.delays is None:
            return None
        # The sample of time k lies at k modulo the horizon.
        return jnp.transpose(jnp.roll(sent, 1, axis=0), (1, 3, 2, 0)).reshape(-1)

    def ordered(self, ring, time, sent):
        """Samples of a ring, each like ``sent``, in order of time, the newest that of ``time``."""
        n_channel, n_node, n_mode = sent.shape
        samples = ring.reshape(n_channel, n_mode, n_node, self.horizon)
        return jnp.roll(jnp.transpose(samples, (3, 0, 2, 1)), -1 - time, axis=0)

    def put(self, ring, time, sent):
        """Ring with the sample of one more time, in place of the one that nobody waits for."""
        if self.delays is None:
            return None
        return _put(self.horizon, sent, ring, time)

    def exchange(self, sent, ring, time):
        """What each target sees of its sources at a time, (n_channel, n_mode, target, source), and the ring.

        The ring holds what is sent now. It may be used by the exchange of the next time alone: see `_exchange`.
        """
        if self.delays is None:
            return jnp.swapaxes(sent, 1, 2).at[:, :, self.sources].get(mode="promise_in_bounds"), None
        return _exchange(self.horizon, self.delays, self.sources, sent, ring, time)

    def sum(self, sent, ring, time):
        """Weighted sum over sources, (n_channel, n_node, n_mode), and the ring with what is sent now."""
        if self.delays is None and self.is_whole:
            n_channel, _, n_mode = sent.shape
            if n_channel * n_mode > _FEW:
                return jnp.einsum("cjm,ji->cim", sent, self.across), None
            products = [[sent[c, :, m] @ self.across for m in range(n_mode)] for c in range(n_channel)]
            return jnp.stack([jnp.stack(of_modes, axis=-1) for of_modes in products]), None
        seen, ring = self.exchange(sent, ring, time)
        # As a product with ones: XLA's own sum of an axis takes ten times as long.
        arrived = seen * self.weights[None, None]
        return jnp.swapaxes(arrived @ jnp.ones(arrived.shape[-1:], arrived.dtype), 1, 2), ring

    def sums(self, sent):
        """`sum` without delays at many times at once, all (n_time, n_channel, n_node, n_mode)."""
        return jnp.einsum("ij,tcjm->tcim", self.weights, sent)

    def pairs(self, sent, ring, time):
        """What each target sees of each source, (target, n_channel, source, n_mode), and the ring as in `sum`."""
        if self.delays is None:
            return jnp.broadcast_to(sent, (self.n_node, *sent.shape)), None
        seen, ring = self.exchange(sent, ring, time)
        return jnp.transpose(seen, (2, 0, 3, 1)), ring


def _exchange(horizon, delays, sources, sent, ring, time):
    """`Network.exchange` with delays, differentiable in place.

    A plain reverse pass empties the place of a sample while it reads it, so that XLA copies the ring at every step.
    Here the exchange before, which comes next in the reverse pass, empties it.
    """
    like, whole = jax.typeof(sent), jax.typeof(ring)

    def forward(residuals, arguments):
        (time,), (sent, ring) = residuals, arguments
        ring = _put(horizon, sent, ring, time)
        return ring.at[_looked_up(horizon, delays, sources, sent, time)].get(mode="promise_in_bounds"), ring

    def transpose(residuals, cotangents):
        (time,), (of_seen, of_ring) = residuals, cotangents
        of_ring = jnp.zeros(whole.shape, whole.dtype) if of_ring is None else of_ring
        of_ring = _put(horizon, jnp.zeros(like.shape, like.dtype), of_ring, time + 1)
        if of_seen is not None:
            places = _looked_up(horizon, delays, sources, like, time)
            of_ring = of_ring.at[places].add(of_seen, mode="promise_in_bounds")
        of_sent = of_ring.at[_places(horizon, like, time)].get(mode="promise_in_bounds", **_IN_ORDER)
        n_channel, n_node, n_mode = like.shape
        return jnp.swapaxes(of_sent.reshape(n_channel, n_mode, n_node), 1, 2), of_ring

    seen = jax.ShapeDtypeStruct((*like.shape[::2], *sources.shape), like.dtype)
    return linear_call(forward, transpose, [jnp.asarray(time, jnp.int32)], [sent, ring], [seen, whole])


def _put(horizon, sent, ring, time):
    """Ring with what is sent at a time."""
    sample = jnp.swapaxes(sent, 1, 2).reshape(-1)
    return ring.at[_places(horizon, sent, time)].set(sample, mode="promise_in_bounds", **_IN_ORDER)


def _places(horizon, sent, time):
    """Where in the ring the sample of a time lies, each like ``sent``."""
    return np.arange(sent.size, dtype=np.int32) * horizon + jnp.mod(jnp.asarray(time, jnp.int32), horizon)


def _looked_up(horizon, delays, sources, sent, time):
    """Where in the ring each target sees its sources at a time, (n_channel, n_mode, target, source)."""
    n_channel, n_node, n_mode = sent.shape
    place = jnp.mod(time, horizon) - delays
    # A comparison: a division for each pair costs more than the step.
    place = jnp.where(place < 0, place + horizon, place) + sources * horizon
    first = np.arange(n_channel * n_mode, dtype=np.int32) * (n_node * horizon)
    return first.reshape(n_channel, n_mode, 1, 1) + place[None, None]


def coupling_input(step, theta, weights, network, ring, x, time):
    """What the coupling makes of the network at a time, s of `Step`, and the ring with what is sent at that time.

    The ring is written first and then read. The other way round, XLA copies all of it where what is sent does not
    depend on what was read.
    """
    sent = step.source_output(theta, x)
    if step.pairwise is None:
        return network.sum(sent, ring, time)
    seen, ring = network.pairs(sent, ring, time)
    return step.pairwise(theta, weights, step.coupling_variables(x), seen), ring


def start_network(step, theta, weights, past, connected=None, time=0):
    """Network, and the ring of a run that begins at a time: past (horizon, n_var, n_node, n_mode) in order of time."""
    network = Network(weights, step.delays, connected)
    if step.delays is None:
        return network, None
    sent = jax.vmap(partial(step.source_output, theta))(past)
    # Without the sample that the first step itself puts there: see `_exchange`.
    return network, network.put(network.ring(sent), time, jnp.zeros_like(sent[0]))


def coupling_series(step, theta, weights, past, states):
    """Coupling after each step, as the next step will see it (TVB's AfferentCoupling monitors).

    Parameters
    ----------
    step : Step
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    past : Array, shape (horizon, n_var, n_node, n_mode)
        The samples before the first of ``states``.
    states : Array, shape (n_steps, n_var, n_node, n_mode)

    Returns
    -------
    Array, shape (n_steps, n_cvar, n_node, n_mode)
    """
    network, ring = start_network(step, theta, weights, past, time=1)

    def body(ring, at):
        time, x = at
        s, ring = coupling_input(step, theta, weights, network, ring, x, time)
        return ring, step.post(theta, s, step.coupling_variables(x))

    return jax.lax.scan(body, ring, (1 + jnp.arange(states.shape[0]), states))[1]
