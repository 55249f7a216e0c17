"""Sums over the network, with delays: a ring buffer of the source outputs that are still on their way."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxpr.linear_map import linear_call
from .step import Step, Theta

# Number of columns up to which separate matrix-vector products are faster than one matrix-matrix product.
_MAX_SEPARATE_PRODUCTS = 4
# Size of the weights up to which they stay in a core's cache, and number of nodes from which a sparse sum pays.
_CACHED_WEIGHTS, _MIN_SPARSE_NODES = 2**17, 64
# Largest fraction of connected sources for which a sparse sum pays: with delays, and without (weights cached or not).
_SPARSE_DELAYED, _SPARSE_CACHED, _SPARSE_UNCACHED = 0.8, 0.02, 0.15

# Properties of ring indices, for XLA's gather and scatter.
_IN_ORDER = {"unique_indices": True, "indices_are_sorted": True}


def sparsity_mask(weights: np.ndarray, delays: np.ndarray | None) -> np.ndarray | None:
    """Pairs to which sums are worth restricting, or None if dense sums are faster.

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
    A gather costs far more than a multiply-add; the ratio is smaller once the weights no longer fit the cache. With
    delays every pair needs a gather in any case. The limits are measured.
    """
    connected = np.asarray(weights) != 0.0
    n_node, n_source = connected.shape[0], connected.sum(axis=1).max()
    if delays is not None:
        limit = _SPARSE_DELAYED
    else:
        limit = _SPARSE_CACHED if n_node**2 < _CACHED_WEIGHTS else _SPARSE_UNCACHED
    return connected if n_node >= _MIN_SPARSE_NODES and n_source <= limit * n_node else None


class Network:
    """Weighted sums over sources of delayed source outputs.

    Parameters
    ----------
    weights : Array, shape (n_node, n_node)
        Indexed [target, source].
    delays : ndarray of int or None
        As in `Step`.
    mask : ndarray of bool, optional
        Pairs to which sums are restricted; all by default.
    forward : bool
        False for the reverse pass, in which targets send to sources, from later to earlier times.

    Notes
    -----
    Without delays there is no ring buffer. With delays it is a flat array, (n_channel, n_mode, n_node, horizon) in C
    order: one gather reads all pairs, and the next read of a pair is adjacent in memory to the present one. A ring
    with several axes is copied by XLA at every step.
    """

    def __init__(
        self, weights: jax.Array, delays: np.ndarray | None, mask: np.ndarray | None = None, forward: bool = True
    ):
        self.weights = weights if forward else weights.T
        # [source, target] is the fastest layout of the product. The barrier keeps XLA from transposing it back.
        self.weights_transposed = jax.lax.optimization_barrier(weights.T) if forward else weights
        self.n_node = weights.shape[0]
        self.sources = np.broadcast_to(np.arange(self.n_node, dtype=np.int32), weights.shape)
        self.is_dense = mask is None
        if not self.is_dense:
            mask = mask if forward else mask.T
            # Rows are padded to the target with the most sources; the padding has weight zero.
            n_source = max(1, int(mask.sum(axis=1).max()))
            self.sources = np.argsort(~mask, axis=1, kind="stable")[:, :n_source].astype(np.int32)
            selected = jnp.take_along_axis(self.weights, jnp.asarray(self.sources), axis=1)
            self.weights = jnp.where(np.take_along_axis(mask, self.sources, axis=1), selected, 0.0)
        self.delays, self.horizon = None, 1
        if delays is not None:
            self.horizon = int(np.max(delays)) + 1
            delays = np.mod(delays if forward else -delays.T, self.horizon)
            self.delays = np.take_along_axis(delays, self.sources, axis=1).astype(np.int32)

    def ring(self, samples):
        """Ring buffer of samples (horizon, n_channel, n_node, n_mode) in order of time, the newest of time 0.

        None without delays.
        """
        if self.delays is None:
            return None
        # The sample of time k is stored at k modulo the horizon.
        return jnp.transpose(jnp.roll(samples, 1, axis=0), (1, 3, 2, 0)).reshape(-1)

    def ordered(self, ring, time, sample):
        """Samples of a ring, each shaped like ``sample``, in order of time, the newest of ``time``."""
        n_channel, n_node, n_mode = sample.shape
        samples = ring.reshape(n_channel, n_mode, n_node, self.horizon)
        return jnp.roll(jnp.transpose(samples, (3, 0, 2, 1)), -1 - time, axis=0)

    def push(self, ring, time, sample):
        """Ring with the sample of ``time`` in place of the oldest one."""
        if self.delays is None:
            return None
        return _push(self.horizon, sample, ring, time)

    def gather_delayed(self, sample, ring, time):
        """Delayed source outputs that each target receives, (n_channel, n_mode, target, source), and the new ring.

        The new ring includes ``sample``, the source output of ``time``. Only the call for the next time may use it:
        see `_push_and_gather`.
        """
        if self.delays is None:
            return jnp.swapaxes(sample, 1, 2).at[:, :, self.sources].get(mode="promise_in_bounds"), None
        return _push_and_gather(self.horizon, self.delays, self.sources, sample, ring, time)

    def sum(self, sample, ring, time):
        """Weighted sum over sources, (n_channel, n_node, n_mode), and the ring with the present sample."""
        if self.delays is None and self.is_dense:
            n_channel, _, n_mode = sample.shape
            if n_channel * n_mode > _MAX_SEPARATE_PRODUCTS:
                return jnp.einsum("cjm,ji->cim", sample, self.weights_transposed), None
            products = [[sample[c, :, m] @ self.weights_transposed for m in range(n_mode)] for c in range(n_channel)]
            return jnp.stack([jnp.stack(by_mode, axis=-1) for by_mode in products]), None
        received, ring = self.gather_delayed(sample, ring, time)
        # Summed as a product with ones: XLA's reduction over an axis is ten times slower on a CPU.
        weighted = received * self.weights[None, None]
        return jnp.swapaxes(weighted @ jnp.ones(weighted.shape[-1:], weighted.dtype), 1, 2), ring

    def sum_series(self, samples):
        """`sum` without delays for a time series, (n_time, n_channel, n_node, n_mode) to the same shape."""
        return jnp.einsum("ij,tcjm->tcim", self.weights, samples)

    def pairs(self, sample, ring, time):
        """Source outputs that each target receives, (target, n_channel, source, n_mode), and the ring as in `sum`."""
        if self.delays is None:
            return jnp.broadcast_to(sample, (self.n_node, *sample.shape)), None
        received, ring = self.gather_delayed(sample, ring, time)
        return jnp.transpose(received, (2, 0, 3, 1)), ring


def _push_and_gather(horizon, delays, sources, sample, ring, time):
    """`Network.gather_delayed` with delays, with a transpose that changes the ring in place.

    Plain autodiff clears the cotangent of a ring slot while it reads it, so that XLA copies the ring at every step.
    Here the slot is cleared by the transposed step of the following time, which precedes it in the reverse pass.
    """
    sample_type, ring_type = jax.typeof(sample), jax.typeof(ring)

    def forward(residuals, arguments):
        (time,), (sample, ring) = residuals, arguments
        ring = _push(horizon, sample, ring, time)
        return ring.at[_gather_indices(horizon, delays, sources, sample, time)].get(mode="promise_in_bounds"), ring

    def transpose(residuals, cotangents):
        (time,), (received_bar, ring_bar) = residuals, cotangents
        ring_bar = jnp.zeros(ring_type.shape, ring_type.dtype) if ring_bar is None else ring_bar
        ring_bar = _push(horizon, jnp.zeros(sample_type.shape, sample_type.dtype), ring_bar, time + 1)
        if received_bar is not None:
            indices = _gather_indices(horizon, delays, sources, sample_type, time)
            ring_bar = ring_bar.at[indices].add(received_bar, mode="promise_in_bounds")
        sample_bar = ring_bar.at[_slot_indices(horizon, sample_type, time)].get(mode="promise_in_bounds", **_IN_ORDER)
        n_channel, n_node, n_mode = sample_type.shape
        return jnp.swapaxes(sample_bar.reshape(n_channel, n_mode, n_node), 1, 2), ring_bar

    received = jax.ShapeDtypeStruct((*sample_type.shape[::2], *sources.shape), sample_type.dtype)
    return linear_call(forward, transpose, [jnp.asarray(time, jnp.int32)], [sample, ring], [received, ring_type])


def _push(horizon, sample, ring, time):
    """Ring with the sample of a time."""
    flat = jnp.swapaxes(sample, 1, 2).reshape(-1)
    return ring.at[_slot_indices(horizon, sample, time)].set(flat, mode="promise_in_bounds", **_IN_ORDER)


def _slot_indices(horizon, sample, time):
    """Ring indices of the sample of a time."""
    return np.arange(sample.size, dtype=np.int32) * horizon + jnp.mod(jnp.asarray(time, jnp.int32), horizon)


def _gather_indices(horizon, delays, sources, sample, time):
    """Ring indices of the delayed source outputs at a time, (n_channel, n_mode, target, source)."""
    n_channel, n_node, n_mode = sample.shape
    slot = jnp.mod(time, horizon) - delays
    # A comparison in place of a modulo: an integer division per pair costs more than the step.
    slot = jnp.where(slot < 0, slot + horizon, slot) + sources * horizon
    offset = np.arange(n_channel * n_mode, dtype=np.int32) * (n_node * horizon)
    return offset.reshape(n_channel, n_mode, 1, 1) + slot[None, None]


def coupling_input(step: Step, theta: Theta, weights, network: Network, ring, x, time):
    """Coupling input s of `Step` at a time, and the ring with the source output of that time.

    The ring is written before it is read. In the other order XLA copies it whenever the source output does not depend
    on the values read.
    """
    sample = step.source_output(theta, x)
    if step.pairwise is None:
        return network.sum(sample, ring, time)
    received, ring = network.pairs(sample, ring, time)
    return step.pairwise(theta, weights, step.coupling_variables(x), received), ring


def start_network(
    step: Step,
    theta: Theta,
    weights: jax.Array,
    past: jax.Array,
    mask: np.ndarray | None = None,
    time: int = 0,
) -> tuple[Network, jax.Array | None]:
    """Network and ring buffer for a run that begins at ``time``.

    Parameters
    ----------
    step : Step
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    past : Array, shape (horizon, n_var, n_node, n_mode)
        States up to the start, in order of time.
    mask : ndarray of bool, optional
        As in `Network`.
    time : int

    Returns
    -------
    network : Network
    ring : Array or None
    """
    network = Network(weights, step.delays, mask)
    if step.delays is None:
        return network, None
    samples = jax.vmap(partial(step.source_output, theta))(past)
    # The slot of the start is cleared: the first step writes it. See `_push_and_gather`.
    return network, network.push(network.ring(samples), time, jnp.zeros_like(samples[0]))


def coupling_series(step: Step, theta: Theta, weights: jax.Array, past: jax.Array, states: jax.Array) -> jax.Array:
    """Coupling after each step, as the following step receives it (TVB's AfferentCoupling monitors).

    Parameters
    ----------
    step : Step
    theta : pytree of Array
    weights : Array, shape (n_node, n_node)
    past : Array, shape (horizon, n_var, n_node, n_mode)
        Samples before the first of ``states``, in order of time.
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
