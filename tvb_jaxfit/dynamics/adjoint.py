r"""Runs of a step, and their reverse pass from node-local Jacobians.

A step is x_{t+1} = phi(x_t, s_t, u_t; theta) with s_t = sum_j W_ij y_j(x_{t - d_ij}), phi and y node-local. Its reverse
pass is

.. math::
    \lambda_t = g_t + A_t^T \lambda_{t+1} + Y_t^T \bar y_t, \quad
    \bar y_{t, j} = \sum_i W_{ij} \sigma_{t + d_{ij}, i}, \quad \sigma_t = D_t^T \lambda_{t+1}

with the small node-local Jacobians A = d phi / d x, D = d phi / d s and Y = d y / d x. These need no sequence: they are
computed for a block of time steps at once, in cache. What is left to do in order is the network, run backwards, and a
few multiply-adds a step; the parameter gradients are reductions over the block.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..jaxpr.flatten import flatten_jaxpr
from ..jaxpr.fusion import materialise_shared
from ..jaxpr.linear_map import linear_call
from .step import Network
from .trajectory import Blocks, joined, rows, run, run_piece, whole

# Elements of a block's states, of each variable: as many as keep two cores busy, few enough to stay in their caches.
BLOCK_ELEMENTS = 43008
# Bytes of states and sums that the reverse pass holds; beyond, it holds one piece at a time, and runs each again.
MEMORY = 2**29
# Rows of a node's Jacobians up to which their products with adjoints cost less than to pull adjoints back again.
_FEW_ROWS = 6


def trajectory(step, n_steps, theta, weights, past, inputs):
    """States after each step, with the structured reverse pass: `simulate_steps` where all states are asked for.

    Parameters and returns are those of `scan_steps`, which leaves the same to plain autodiff.
    """
    return simulate_steps(step, n_steps, theta, weights, past, inputs)[0]


def simulate_steps(step, n_steps, theta, weights, past, inputs, take=whole, taking=()):
    """What is asked for of a trajectory, with the structured reverse pass.

    Parameters
    ----------
    step, n_steps, theta, weights, past, inputs
        As in `scan_steps`.
    take : callable
        See `Blocks`; it must split at the lengths that `block_sizes` gives.
    taking : tree of Array
        What ``take`` needs besides the states.

    Returns
    -------
    taken : tree of Array
        Time in front.
    last : Array, shape (horizon, n_var, n_node, n_mode)
        From which a next run goes on.

    Notes
    -----
    Only what is differentiated is computed in the reverse pass: a gradient in two parameters does not pay for the
    others. A gradient in one number needs no reverse pass: what moves with it is worked out beside the run.
    Forward mode works beside the run, too, and so do products of the Hessian with a vector, as forward mode of a
    gradient.
    """
    n_node = past.shape[2]
    inputs = jax.tree.map(lambda a: jnp.broadcast_to(a, (*a.shape[:-2], n_node, a.shape[-1])), inputs)
    parts, begin = [], 0
    for blocks in cut(step, n_steps, past, take):
        enters = jax.tree.map(
            partial(jax.lax.slice_in_dim, start_index=begin, limit_index=begin + blocks.n_steps), inputs
        )
        if step.is_local:
            leaves, treedef = jax.tree.flatten((theta, taking, enters))
            tree = treedef, len(jax.tree.leaves(theta)), len(jax.tree.leaves(taking))
            taken, last = _run(blocks, tree, weights, past, *leaves)
        else:
            taken, last, _ = run(blocks, theta, weights, past, enters, taking)
        past = jnp.concatenate([past, last])[-past.shape[0] :]
        begin += blocks.n_steps
        parts.append(taken)
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts), past


def block_sizes(n_steps, past):
    """Steps a block, and steps of an odd piece at the end, where no good size divides their number."""
    most = max(1, min(n_steps, BLOCK_ELEMENTS // past[0, 0].size))
    size = next((size for size in range(most, most // 4, -1) if n_steps % size == 0), most)
    return size, n_steps % size


def cut(step, n_steps, past, take=whole):
    """`Blocks` of a run: one, or two where there is an odd piece."""
    size, rest = block_sizes(n_steps, past)
    n_block = n_steps // size
    kept = n_steps * past[0].size * past.dtype.itemsize * 2
    enough = -(-kept // MEMORY)
    n_piece = next(n for n in range(min(enough, n_block), n_block + 1) if n_block % n == 0)
    connected = step.sparsity_mask if step.is_local else None
    # Without delays, and where all pairs are looked at, sums over the network are one matrix product for a block.
    more = take, connected, step.delays is not None or connected is not None
    yield Blocks(step, size, n_block // n_piece, n_piece, *more)
    if rest:
        yield Blocks(step, rest, 1, 1, *more)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _run(blocks, tree, weights, past, *leaves):
    arguments = _arguments(tree, weights, past, leaves)
    return _rewritten(blocks, lambda blocks, *args: run(blocks, *args)[:2], weights)(*arguments)


def _arguments(tree, weights, past, leaves):
    """Of `run`."""
    theta, taking, inputs = jax.tree.unflatten(tree[0], leaves)
    return theta, weights, past, inputs, taking


def _rewritten(blocks, function, weights):
    """Function of blocks and arguments, for the machine; of all pairs, where others than expected have weights."""

    def of(blocks):
        return materialise_shared(flatten_jaxpr(partial(function, blocks)))

    if blocks.connected is None:
        return of(blocks)
    beyond = jnp.any(jnp.where(blocks.connected, 0.0, weights) != 0.0)
    everywhere = replace(blocks, connected=None)
    return lambda *arguments: jax.lax.cond(beyond, of(everywhere), of(blocks), *arguments)


@partial(_run.defjvp, symbolic_zeros=True)
def _derivative(blocks, tree, arguments, tangents):
    """Result of `_run`, and its tangent: forward mode moves beside the run, reverse mode is the structured one."""
    weights, past, *leaves = arguments
    # What is not differentiated has a symbolic zero.
    chosen = tuple(index for index, tangent in enumerate(tangents) if not _is_zero(tangent))
    given = [tangents[index] for index in chosen]
    if len(chosen) == 1 and 2 <= chosen[0] < 2 + tree[1] and arguments[chosen[0]].size == 1:
        # Cheaper than a reverse pass: how everything moves with the one number.
        moving = partial(_moved, tree, chosen, [jnp.ones_like(arguments[chosen[0]])])
        value, moved = _rewritten(blocks, moving, weights)(*arguments)
        number = jnp.reshape(given[0], ())
        return value, jax.tree.map(lambda one: one * number, moved)
    taken, last, kept = _rewritten(blocks, partial(run, keep=True), weights)(*_arguments(tree, weights, past, leaves))
    kept, tree_of_kept = jax.tree.flatten(kept)
    value, tree_of_value = jax.tree.flatten((taken, last))
    n_argument = len(arguments)

    def forward(residuals, given):
        arguments = residuals[:n_argument]
        moving = partial(_moved, tree, chosen, given)
        return jax.tree.leaves(_rewritten(blocks, moving, arguments[0])(*arguments)[1])

    def backward(residuals, cotangents):
        (weights, past, *leaves), kept = residuals[:n_argument], residuals[n_argument:]
        *of_taken, of_last = cotangents
        if all(g is None for g in cotangents):
            return [jnp.zeros_like(residuals[index]) for index in chosen]
        wanted = [index in chosen for index in range(n_argument)]
        residuals = weights, past, leaves, jax.tree.unflatten(tree_of_kept, kept)
        reverse = partial(_reverse, tree, wanted)
        gradients = _rewritten(blocks, reverse, weights)(residuals, of_taken, of_last)
        return [gradients[index] for index in chosen]

    moved = linear_call(forward, backward, [*arguments, *kept], given, value)
    return (taken, last), jax.tree.unflatten(tree_of_value, moved)


def _moved(tree, chosen, given, blocks, *arguments):
    """What a run gives, and how it moves with the arguments that are differentiated."""

    def of(*moving):
        replaced = dict(zip(chosen, moving, strict=True))
        weights, past, *leaves = (replaced.get(index, one) for index, one in enumerate(arguments))
        return run(blocks, *_arguments(tree, weights, past, leaves))[:2]

    return jax.jvp(of, tuple(arguments[index] for index in chosen), tuple(given))


def _reverse(tree, wanted, blocks, residuals, of_taken, of_last):
    """One gradient for each argument of `_run`; None for arguments that are not differentiated."""
    weights, past, leaves, (kept, starts) = residuals
    of_x_end, of_latest = _of_the_last(blocks, of_last, past[0])
    step, (treedef, n_theta, n_taking) = blocks.step, tree
    want_weights, _, *want_leaves = wanted
    (constants, taking, entering), (want_constants, want_taking, want_entering) = (
        (some[:n_theta], some[n_theta : n_theta + n_taking], some[n_theta + n_taking :])
        for some in (leaves, want_leaves)
    )
    network, backwards = (Network(weights, step.delays, blocks.connected, forward) for forward in (True, False))
    all_pairs = Network(weights, step.delays)
    theta, _, inputs = jax.tree.unflatten(treedef, leaves)

    def rebuilt(constants, entering):
        theta, _, inputs = jax.tree.unflatten(treedef, [*constants, *taking, *entering])
        return theta, inputs

    def take(chosen_taking, states):
        leaves = [*constants, *_replaced(taking, want_taking, chosen_taking), *entering]
        taken = jax.tree.leaves(blocks.take(jax.tree.unflatten(treedef, leaves)[1], states))
        return [None if g is None else one for one, g in zip(taken, of_taken, strict=True)]

    # A block of steps is one step of so many times more nodes: what is local does not notice, and all axes but the last
    # stay where loops are fast. A global constant that is differentiated is spread over nodes and steps: what comes
    # back is added elementwise, and summed once, at the end.
    n_node, size = past.shape[2], blocks.size
    chosen, chosen_taking = (
        [leaf for leaf, want in zip(some, wants, strict=True) if want]
        for some, wants in ((constants, want_constants), (taking, want_taking))
    )
    wide = [jnp.broadcast_to(leaf, (*leaf.shape[:-2], n_node, leaf.shape[-1])) for leaf in chosen]
    long_constants, long_chosen = ([_repeated(leaf, size) for leaf in some] for some in (constants, wide))

    def sent(constants, chosen, x):
        return step.source_output(rebuilt(_replaced(constants, want_constants, chosen), entering)[0], x)

    every_sent = jax.vmap(partial(sent, constants, chosen))

    def block(was_sent, carry, arrays):
        adjoint, ring, *totals = carry
        times, inputs, of_taken, after, s, first = arrays
        of_taking, g = jax.vjp(take, chosen_taking, jnp.stack(after, axis=1))[1](of_taken)
        totals[2] = [total + one for total, one in zip(totals[2], of_taking, strict=True)]
        if of_latest is not None:
            g = g + _latest_of(blocks, of_latest, times[0])
        # The adjoint of a state is complete once what was taken of it has been added: of the last one here.
        adjoint = tuple(one + last for one, last in zip(adjoint, rows(g[-1]), strict=True))
        earlier = _of_the_step_before(rows(g, 1))
        entering = [_long(leaf) for leaf in jax.tree.leaves(inputs)]
        chosen_entering = [leaf for leaf, want in zip(entering, want_entering, strict=True) if want]
        before = tuple(jnp.concatenate([x[None], one[:-1]]) for x, one in zip(first, after, strict=True))
        if s is None:
            s = network.sums(every_sent(jnp.stack(before, axis=1)))
        long_x, long_s = tuple(map(_long, before)), rows(_long(s))

        def step_of(chosen, x, s, chosen_entering):
            constants = _replaced(long_constants, want_constants, chosen)
            theta, inputs = rebuilt(constants, _replaced(entering, want_entering, chosen_entering))
            return step.next_state(theta, jnp.stack(x), jnp.stack(s), inputs)

        def sent_of(chosen, x):
            return sent(long_constants, chosen, jnp.stack(x))

        new, pull = jax.vjp(step_of, long_chosen, long_x, long_s, chosen_entering)
        pulled = [pull(unit) for unit in _units(new)]
        by_state, by_sum = zip(*(row[1:3] for row in pulled), strict=True)
        value, pull_sent = jax.vjp(sent_of, long_chosen, long_x)
        sending = None if step.channels is None else [pull_sent(unit)[1] for unit in _units(value)]
        local = (times, *_unlong((by_state, by_sum, sending), size), earlier)
        back = partial(_back, step, backwards)
        (adjoint, ring), (through, through_sent) = jax.lax.scan(back, (adjoint, ring), local, reverse=True)
        through = tuple(_long(one) for one in through)
        few = len(pulled) <= _FEW_ROWS
        of_each, _, _, d_entering = _scaled(pulled, through) if few else pull(jnp.stack(through))
        totals[0] = [total + one for total, one in zip(totals[0], of_each, strict=True)]
        if step.channels is not None:
            of_each, _ = pull_sent(jnp.stack([_long(one) for one in through_sent]))
            totals[0] = [total + one for total, one in zip(totals[0], of_each, strict=True)]
        if want_weights:
            of_sum, y = (_unlong(jnp.stack(one), size) for one in (_weighted(by_sum, through), rows(value)))
            totals[1] = totals[1] + _of_weights(all_pairs, of_sum, y, was_sent, times)
        return (adjoint, ring, *totals), _unlong(d_entering, size)

    def piece(carry, arrays):
        times, inputs, of_taken, kept, begin = arrays
        if kept is None:
            kept = run_piece(blocks, network, theta, weights, (*begin, None), times, inputs, keep=True)[2]
        after, s = kept
        first = tuple(jnp.concatenate([x[None], one[:-1, -1]]) for x, one in zip(begin[0], after, strict=True))
        was_sent = None
        if want_weights and step.delays is not None:
            # From the first sample that anybody still waits for.
            later = every_sent(jnp.stack(joined(after, 2), axis=1))
            newest = sent(constants, chosen, begin[0])
            ring = network.put(begin[1], times[0, 0], newest)
            was_sent = times[0, 0], jnp.concatenate([network.ordered(ring, times[0, 0], newest), later])
        return jax.lax.scan(partial(block, was_sent), carry, (times, inputs, of_taken, after, s, first), reverse=True)

    zeros = [jnp.zeros_like(leaf) for leaf in long_chosen]
    n_channel = jax.eval_shape(every_sent, past).shape[1]
    nothing = jnp.zeros((network.horizon, n_channel, *past.shape[2:]), past.dtype)
    no_weights = jnp.zeros_like(weights) if want_weights else None
    carry = (rows(of_x_end), backwards.ring(nothing), zeros, no_weights, list(map(jnp.zeros_like, chosen_taking)))
    arrays = (blocks.times(), blocks.cut(inputs), blocks.cut_taken(of_taken), kept, starts)
    (adjoint, ring, totals, d_weights, d_taking), d_entering = jax.lax.scan(piece, carry, arrays, reverse=True)
    d_early, d_past = _of_the_past(partial(sent, constants), backwards, ring, chosen, past)
    d_past = jnp.concatenate([d_past, jnp.stack(adjoint)[None]])
    totals = [jnp.sum(total, axis=0) for total in _unlong(totals, size)]
    d_chosen = (_summed_to(total, leaf.shape) for total, leaf in zip(totals, chosen, strict=True))
    d_chosen = [later + early for later, early in zip(d_chosen, d_early, strict=True)]
    gradients = ((want_constants, d_chosen), (want_taking, d_taking), (want_entering, joined(d_entering, 3)))
    return (d_weights, d_past, *(one for want, some in gradients for one in _replaced([None] * len(want), want, some)))


def _is_zero(value):
    return isinstance(value, SymbolicZero)


def _of_the_last(blocks, of_last, like):
    """Cotangents of the latest states: of the very last, and of the blocks that hold the others."""
    if of_last is None:
        return jnp.zeros_like(like), None
    if blocks.step.horizon == 1:
        return of_last[0], None
    n_fill = blocks.n_last * blocks.size - of_last.shape[0]
    filled = jnp.concatenate([jnp.zeros((n_fill, *of_last.shape[1:]), of_last.dtype), of_last])
    return jnp.zeros_like(like), filled.reshape(blocks.n_last, blocks.size, *of_last.shape[1:])


def _replaced(leaves, wanted, chosen):
    """Leaves with those that are differentiated replaced."""
    chosen = iter(chosen)
    return [next(chosen) if want else leaf for leaf, want in zip(leaves, wanted, strict=True)]


def _latest_of(blocks, of_latest, time):
    """Cotangent of a block's states by what a next run goes on from."""
    n_block = blocks.n_block * blocks.n_piece
    place = time // blocks.size - (n_block - blocks.n_last)
    value = jax.lax.dynamic_index_in_dim(of_latest, jnp.maximum(place, 0), keepdims=False)
    return jnp.where(place >= 0, value, 0.0)


def _back(step, backwards, carry, arrays):
    """One step of the reverse recursion: from the adjoint of the state after it to that of the state before.

    It comes out as it came in: with one user of the new adjoint, XLA makes one loop of it.
    """
    adjoint, ring = carry
    time, by_state, by_sum, sending, g = arrays
    of_sent, ring = backwards.sum(jnp.stack(_weighted(by_sum, adjoint)), ring, time)
    of_sent = rows(of_sent)
    before = [one + here for one, here in zip(_weighted(by_state, adjoint), g, strict=True)]
    if sending is None:
        for variable, one in zip(step.cvar, of_sent, strict=True):
            before[variable] = before[variable] + one
    else:
        before = [one + more for one, more in zip(before, _weighted(sending, of_sent), strict=True)]
    return (tuple(before), ring), (adjoint, None if sending is None else of_sent)


def _of_the_step_before(series):
    """Series moved by one step: at each what was at the one before, and nothing at the first."""
    return jax.tree.map(lambda one: jnp.concatenate([jnp.zeros_like(one[:1]), one[:-1]]), series)


def _of_weights(network, of_sum, y, was_sent, times):
    """Gradient of the weights over a block: of_sum (n_time, n_channel, target, n_mode) times what was seen."""
    if network.delays is None:
        return jnp.einsum("tcim,tcjm->ij", of_sum, y)
    first, sent = was_sent
    # (n_channel, n_mode, time * n_node): the sample of time k lies at k - first + horizon - 1.
    flat = jnp.transpose(sent, (1, 3, 0, 2)).reshape(*sent.shape[1::2], -1)
    own = np.arange(network.n_node, dtype=np.int32)[None] - network.delays * network.n_node

    def add(total, at):
        time, sigma = at
        index = (time - first + network.horizon - 1) * network.n_node + own
        return total + jnp.einsum("cim,cmij->ij", sigma, flat.at[:, :, index].get(mode="promise_in_bounds")), None

    return jax.lax.scan(add, jnp.zeros_like(network.weights), (times, of_sum))[0]


def _of_the_past(sent, backwards, ring, chosen, past):
    """Gradients of constants and samples before the start, which act through what was sent alone."""
    zeros = [jnp.zeros_like(leaf) for leaf in chosen]
    if backwards.delays is None:
        return zeros, past[:0]

    def body(carry, at):
        ring, totals = carry
        time, x = at
        value, pull = jax.vjp(sent, chosen, x)
        of_sent, ring = backwards.sum(jnp.zeros_like(value), ring, time)
        of_chosen, of_x = pull(of_sent)
        return (ring, [total + new for total, new in zip(totals, of_chosen, strict=True)]), of_x

    times = jnp.arange(-(backwards.horizon - 1), 0, dtype=jnp.int32)
    (_, totals), of_past = jax.lax.scan(body, (ring, zeros), (times, past[:-1]), reverse=True)
    return totals, of_past


def _units(value):
    """One cotangent for each (variable, mode) of a node: pulled back, they are the rows of the local Jacobians."""
    n_var, n_node, n_mode = value.shape
    nothing = jnp.zeros((n_node, n_mode), value.dtype)
    for variable in range(n_var):
        for mode in range(n_mode):
            unit = jnp.broadcast_to((jnp.arange(n_mode) == mode).astype(value.dtype), nothing.shape)
            yield jnp.stack([unit if other == variable else nothing for other in range(n_var)])


def _scaled(pulled, adjoint):
    """Rows of Jacobians, each times its adjoint, summed: what pulling the adjoint back would give again."""

    def one(row, weight):
        return jax.tree.map(lambda a: a * weight.reshape(*(1,) * (a.ndim - 2), -1, 1), row)

    scaled = map(one, pulled, _by_row(adjoint))
    return jax.tree.map(lambda *rows: sum(rows), *scaled)


def _by_row(adjoint):
    """The adjoint (n_node, 1) of each (variable, mode)."""
    return [one[:, mode : mode + 1] for one in adjoint for mode in range(one.shape[-1])]


def _repeated(constant, size):
    """A constant (..., n_node or 1, k) for so many times more nodes."""
    if constant.shape[-2] == 1:
        return constant
    return jnp.tile(constant, (*(1,) * (constant.ndim - 2), size, 1))


def _long(series):
    """Series (size, ..., n_node, k) as one sample of (..., size * n_node, k)."""
    moved = jnp.moveaxis(series, 0, -3)
    return moved.reshape(*series.shape[1:-2], -1, series.shape[-1])


def _unlong(tree, size):
    """The reverse of `_long`, for each array of a tree."""

    def one(value):
        parted = value.reshape(*value.shape[:-2], size, -1, value.shape[-1])
        return jnp.moveaxis(parted, -3, 0)

    return jax.tree.map(one, tree)


def _weighted(by, adjoint):
    """Sum of Jacobian rows, each times its adjoint.

    Parameters
    ----------
    by : list of tuple of Array, shape (n_node, n_mode)
        For each (variable, mode), its derivatives.
    adjoint : tuple of Array, shape (n_node, n_mode)
        One a variable.
    """
    weights = _by_row(adjoint)
    return [sum(one * weight for one, weight in zip(column, weights, strict=True)) for column in zip(*by, strict=True)]


def _summed_to(total, shape):
    """Sum over the nodes where the parameter is global."""
    return total if total.shape == shape else jnp.sum(total, axis=-2, keepdims=True)
