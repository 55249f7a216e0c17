"""Validity of the linear response: effects of curvature, and other fixed points."""

import jax
import jax.numpy as jnp
import numpy as np

from .linearise import apply_left, by_node, by_variable, coupling_input, steady_coupling_input, steady_step

# Relaxation, in units of each isolated node's time constant at the fixed point: its length, and that of a pseudo-time
# step of nodes of one state, and of several, which may oscillate. Maximum of a step, in units of the shortest time
# constant on the way.
_RELAXATION, _STEP_OF_ONE_STATE, _STEP_OF_SEVERAL, _LONGEST_STEP = 50.0, 0.5, 0.2, 0.5


def noise_induced_drift(step, theta, weights, inputs, x, linearised, covariance) -> jax.Array:
    r"""Drift of the mean state per step, caused by the curvature of the step under Gaussian fluctuations.

    Parameters
    ----------
    step, theta, weights, inputs, x, linearised
        As for `linearise`.
    covariance : Array, shape (n_group, n_state + n_input, n_state + n_input)
        Covariance of states and coupling inputs in each group.

    Returns
    -------
    Array, shape (n_group * n_state,)
        :math:`E[F] - F`, to second order in the standard deviations.
    """
    s = steady_coupling_input(step, theta, weights, x)

    def next_state(x, s):
        return step.next_state(theta, x, s, inputs)

    drift = second_order_mean_correction(next_state, (x, s), covariance)
    of_input = _input_correction(step, theta, x, linearised, covariance)
    return (drift + jnp.einsum("gas,gs->ga", linearised.D, of_input).reshape(drift.shape)).ravel()


def _input_correction(step, theta, x, linearised, covariance):
    """Mean coupling input, minus that of the mean state, (n_group, n_input), from the curvature of source outputs."""
    n_group, n_state, n_input = linearised.D.shape
    if step.channels is None:
        return jnp.zeros((n_group, n_input), x.dtype)
    of_states = covariance[:, :n_state, :n_state]
    of_output = second_order_mean_correction(lambda x: step.source_output(theta, x), (x,), of_states)
    return (linearised.N @ of_output.ravel()).reshape(n_group, n_input)


def second_order_mean(step, theta, weights, function, x, linearised, covariance, mean_shift) -> jax.Array:
    r"""Mean of a function of states and coupling under noise.

    Parameters
    ----------
    step, theta, weights, x, linearised, covariance
        As for `noise_induced_drift`.
    function : callable
        (x, coupling) to an array (n_node, n_mode); each node depends on itself alone.
    mean_shift : Array, shape (n_var, n_node, n_mode)
        Difference between the mean of the states and ``x``.

    Returns
    -------
    Array, shape (n_node, n_mode)
        To second order in the standard deviations.
    """
    y, output = step.coupling_variables(x), step.source_output(theta, x)
    s = coupling_input(step, theta, weights, y, output)

    def of_inputs(x, change):
        # A pairwise coupling also depends on the target's own state.
        own = s if step.pairwise is None else coupling_input(step, theta, weights, step.coupling_variables(x), output)
        return function(x, step.post(theta, own + change, step.coupling_variables(x)))[None]

    no_change = jnp.zeros_like(s)
    of_curvature = second_order_mean_correction(of_inputs, (x, no_change), covariance)
    from_shift = linearised.N @ apply_left(linearised.Y, by_node(mean_shift).reshape(-1, 1))[:, 0]
    input_shift = from_shift + _input_correction(step, theta, x, linearised, covariance).ravel()
    shifts = mean_shift, by_variable(input_shift, s.shape)
    at_rest, of_shift = jax.jvp(of_inputs, (x, no_change), shifts)
    return (at_rest + of_shift + by_variable(of_curvature, at_rest.shape))[0]


def second_order_mean_correction(function, at, covariance) -> jax.Array:
    r"""Mean of a function over small Gaussian fluctuations, minus its value without fluctuations.

    Parameters
    ----------
    function : callable
        Function of arrays (k, n_node, m), to an array (o, n_node, p), local in each group.
    at : tuple of Array
        Arguments without fluctuations.
    covariance : Array, shape (n_group, n, n)
        Covariance of the arguments' entries in each group.

    Returns
    -------
    Array, shape (n_node, o * p)
        :math:`\frac12 \sum_{ij} \Sigma_{ij}\, \partial_i \partial_j F`, from second derivatives along the columns of a
        Cholesky factor of the covariance. Differences would cross a nearby bound of the state.
    """
    n_group, n, _ = covariance.shape
    splits = np.cumsum([value.size // n_group for value in at])[:-1]

    def second_derivative(column):
        parts = jnp.split(column, splits, axis=-1)
        tangents = tuple(by_variable(part, value.shape) for part, value in zip(parts, at, strict=True))

        def derivative(*at):
            return jax.jvp(function, at, tangents)[1]

        return jax.jvp(derivative, at, tangents)[1]

    return 0.5 * by_node(jnp.sum(jax.lax.map(second_derivative, jnp.moveaxis(cholesky(covariance), -1, 0)), axis=0))


def cholesky(covariance) -> jax.Array:
    """Cholesky factors of covariances (n_group, n, n), some of whose entries may have zero variance."""
    variance = jnp.diagonal(covariance, axis1=1, axis2=2)
    positive = variance > 0.0
    std = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
    scale = jnp.where(positive, 1.0 / jnp.where(positive, std, 1.0), 0.0)
    unit = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    # Keeps the matrix positive definite in spite of rounding.
    regularisation = jnp.sqrt(jnp.finfo(covariance.dtype).eps)
    correlation = jnp.where(unit > 0.0, 1.0 + regularisation, scale[:, :, None] * covariance * scale[:, None])
    return std[:, :, None] * _cholesky_by_columns(correlation)


def _cholesky_by_columns(matrices):
    """Cholesky factors of small matrices (n_group, n, n), all groups at once.

    LAPACK would take each group by itself, in a program that keeps others waiting: see `runtime.blocking`.
    """
    columns, rest = [], matrices
    for i in range(matrices.shape[-1]):
        column = rest[:, :, i] / jnp.sqrt(rest[:, i, i])[:, None]
        column = column.at[:, :i].set(0.0)
        rest = rest - column[:, :, None] * column[:, None, :]
        columns.append(column)
    return jnp.stack(columns, axis=-1)


def relaxation_residual(step, theta, weights, inputs, linearised, x, state_range) -> jax.Array:
    """Distance to the fixed point after a noise-free relaxation from both ends of the state variables' ranges.

    Parameters
    ----------
    step, theta, weights, inputs
        As for `linearise`.
    linearised : Linearised
        Linearised step at the fixed point.
    x : Array, shape (n_var, n_node, n_mode)
        Fixed point.
    state_range : array_like, shape (2, n_var)
        Lower and upper ends.

    Returns
    -------
    Array, shape (2, n_var, n_node, n_mode)
        Distance in units of the ranges, after up to fifty time constants of the isolated nodes at the fixed point.

    Notes
    -----
    Delays are ignored: they do not change fixed points. Before another fixed point appears, the relaxation slows down
    near it, so that the distance grows smoothly and can be used as a penalty. States are clipped to three times their
    ranges, since a model may diverge from there.
    """
    state_range = jnp.asarray(state_range, x.dtype)
    size = (state_range[1] - state_range[0])[:, None, None]
    low, high = state_range[0][:, None, None] - size, state_range[1][:, None, None] + size
    decay = jnp.eye(linearised.A.shape[1], dtype=x.dtype) - linearised.A
    # One rate per node: the maximum over nodes would have a kink where another node becomes the fastest.
    rate = jnp.sqrt(jnp.sum(decay**2, axis=(1, 2)))[None, :, None]

    step_length = _STEP_OF_ONE_STATE if decay.shape[1] == 1 else _STEP_OF_SEVERAL

    def flow(state):
        return steady_step(step, theta, weights, inputs, state) - state

    def squared_norm(change):
        return jnp.sum((change / size) ** 2, axis=(0, 2))[None, :, None]

    def relax(carry, is_first):
        state, former, former_drift = carry
        drift = flow(state)
        # Far from the fixed point the rates are others: that of the last step is a difference quotient.
        moved, changed = squared_norm(state - former), squared_norm(drift - former_drift)
        known = (moved > 0.0) & (changed > 0.0)
        last_rate = jnp.where(known, jnp.sqrt(jnp.where(known, changed, 1.0) / jnp.where(known, moved, 1.0)), 0.0)
        fastest = jnp.maximum(rate / step_length, last_rate / _LONGEST_STEP)
        # Before there is a last step, one of the simulator.
        length = jnp.where(is_first, 1.0, jnp.maximum(1.0 / fastest, 1.0))
        return (jnp.clip(state + length * drift, low, high), state, drift), None

    def residual(end):
        start = jnp.broadcast_to(end[:, None, None], x.shape)
        is_first = np.arange(round(_RELAXATION / step_length) + 1) == 0
        (state, *_), _ = jax.lax.scan(relax, (start, start, jnp.zeros_like(start)), is_first)
        return (state - x) / size

    return jax.vmap(residual)(state_range)
