"""How far the linear response can be trusted: what curvature makes of the fluctuations, and what else there is."""

import jax
import jax.numpy as jnp
import numpy as np

from .linearise import arriving, at_rest, by_node, by_variable

# Second differences are taken over that share of the fluctuations: they see how the step bends where it is, and not the
# bounds of a state that lies near one, which clip its fluctuations and move nothing else.
_SHARE = 0.2
# The way home: so many steps, each that part of the time constant that a node has by itself.
_N_HOMEWARD, _PACE = 250, 0.2


def mean_push(step, theta, weights, inputs, x, linearised, local):
    r"""Push of the mean state a step by the curvature of the step, over fluctuations that are Gaussian.

    Parameters
    ----------
    step, theta, weights, inputs, x, linearised
        As for `linearise`.
    local : Array, shape (n_group, n_state + n_sum, n_state + n_sum)
        Covariance of states and sums in each group.

    Returns
    -------
    Array, shape (n_group * n_state,)
        :math:`E[F] - F`, to second order in the spread.
    """
    n_group, n_state, n_sum = linearised.D.shape
    s = arriving(step, theta, weights, x)

    def of_step(x, s):
        return step.next_state(theta, x, s, inputs)

    push = mean_of(of_step, (x, s), local)
    if step.channels is not None:
        of_sent = mean_of(lambda x: step.source_output(theta, x), (x,), local[:, :n_state, :n_state])
        arrived = (linearised.N @ of_sent.ravel()).reshape(n_group, n_sum)
        push = push + jnp.einsum("gas,gs->ga", linearised.D, arrived).reshape(push.shape)
    return push.ravel()


def mean_of(function, at, covariance):
    r"""Mean of a function over small Gaussian fluctuations, less its value at rest.

    Parameters
    ----------
    function : callable
        Of arrays (k, n_node, m) to (o, n_node, p), each node (or group of all) by itself.
    at : tuple of Array
    covariance : Array, shape (n_group, n, n)
        Of their entries in each group.

    Returns
    -------
    Array, shape (n_node, o * p)
        :math:`\frac12 \sum_{ij} \Sigma_{ij}\, \partial_i \partial_j F`, by second differences along the columns of a
        root of the covariance.
    """
    n_group, n, _ = covariance.shape
    splits = np.cumsum([value.size // n_group for value in at])[:-1]
    columns = jnp.moveaxis(_SHARE * root(covariance), -1, 0)

    def moved(column):
        parts = jnp.split(column, splits, axis=-1)
        return function(*(value + by_variable(part, value.shape) for part, value in zip(parts, at, strict=True)))

    around = jax.lax.map(moved, jnp.concatenate([columns, -columns]))
    return by_node(jnp.sum(around - function(*at), axis=0)) / (2.0 * _SHARE**2)


def root(covariance):
    """Triangular roots of covariances (n_group, n, n), of which some entries may not vary at all."""
    variance = jnp.diagonal(covariance, axis1=1, axis2=2)
    varies = variance > 0.0
    spread = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)
    scale = jnp.where(varies, 1.0 / jnp.where(varies, spread, 1.0), 0.0)
    unit = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    enough = jnp.sqrt(jnp.finfo(covariance.dtype).eps)
    correlation = jnp.where(unit > 0.0, 1.0 + enough, scale[:, :, None] * covariance * scale[:, None])
    return spread[:, :, None] * jnp.linalg.cholesky(correlation)


def homeward(step, theta, weights, inputs, linearised, x, ends):
    """What is left of the way to a fixed point, from both ends of the state variables' ranges.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `linearise`.
    linearised : Linearised
        At the fixed point.
    x : Array, shape (n_var, n_node, n_mode)
        The fixed point.
    ends : array_like, shape (2, n_var)

    Returns
    -------
    Array, shape (2, n_var, n_node, n_mode)
        In parts of the ranges, fifty time constants later: of each node by itself, at the fixed point.

    Notes
    -----
    Without noise, and with delays left out, which move no fixed point. Where another fixed point comes near, the way
    slows down before there is one: what is left grows smoothly, and so does a cost of it. States are held within three
    times their ranges: a model may run away out there.
    """
    ends = jnp.asarray(ends, x.dtype)
    size = (ends[1] - ends[0])[:, None, None]
    low, high = ends[0][:, None, None] - size, ends[1][:, None, None] + size
    own = jnp.eye(linearised.A.shape[1], dtype=x.dtype) - linearised.A
    # Of each node for itself: the fastest of all would be a kink where another takes its place.
    rate = jnp.sqrt(jnp.sum(own**2, axis=(1, 2)))[None, :, None]
    pace = jnp.maximum(_PACE / rate, 1.0)

    def onward(there, _):
        moved = there + pace * (at_rest(step, theta, weights, inputs, there) - there)
        return jnp.clip(moved, low, high), None

    def left(end):
        start = jnp.broadcast_to(end[:, None, None], x.shape)
        return (jax.lax.scan(onward, start, length=_N_HOMEWARD)[0] - x) / size

    return jax.lax.map(left, ends)
