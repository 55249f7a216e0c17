"""Stationary covariances of a linearised step: choice between the eigenmodes and the spectral integral."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import modal, quadrature, spectral
from .linearise import Linearised, delays_of, step_matrix


class Covariances(NamedTuple):
    """Covariances of the stationary process.

    Attributes
    ----------
    observed : tuple of Array, each (n, n)
        Covariance of the observed variables through each filter.
    local : Array, shape (n_group, n_state + n_input, n_state + n_input)
        Covariance of states and coupling inputs in each group.
    n_unstable : Array, shape ()
        Number of unstable modes, including those too close to the stability boundary to be resolved.
    """

    observed: tuple
    local: jax.Array
    n_unstable: jax.Array


def stationary_covariances(step, weights, linearised: Linearised, observed, noise, filters, dt: float) -> Covariances:
    """Covariances through each filter.

    Eigenmodes are used if the step matrix is similar to a symmetric one, which depends on the weights at run time; the
    spectral integral is used otherwise.

    Parameters
    ----------
    step : Step
    weights : Array, shape (n_node, n_node)
    linearised : Linearised
    observed : Array, shape (n_group, n_out, n_state)
        Derivative of the observed variables by the state.
    noise : State
        Noise node of the state.
    filters : list of (int, Array)
        Filter of each monitor, as ``(n_mean, taps)``: see `modal.lagged_filter`.
    dt : float
        [ms]

    Returns
    -------
    Covariances
    """
    dtype, delays = linearised.A.dtype, delays_of(step, linearised)
    n_means, taps = [n_mean for n_mean, _ in filters], [taps.astype(dtype) for _, taps in filters]

    def by_frequency(linearised, observed, taps):
        def points(grid):
            density = noise_density(noise, dt, jnp.asarray(grid.theta, dtype))
            of_filters = [quadrature.filter_weights(grid, *one) for one in zip(taps, n_means, strict=True)]
            return spectral.weighted_points(grid, density, of_filters)

        levels = [points(grid) for grid in quadrature.frequency_grids(dt, delays)]
        return spectral.integrate_spectra(linearised, delays, observed, levels)

    def by_modes(linearised, observed, taps):
        return _by_modes(linearised, weights, observed, list(zip(n_means, taps, strict=True)))

    is_scalar = linearised.A.shape[1:] == linearised.D.shape[1:] == linearised.Y.shape[1:] == (1, 1)
    if not is_scalar or step.is_nonlocal or step.pairwise is not None or delays is not None or "eta" in noise:
        return Covariances(*by_frequency(linearised, observed, taps))
    usable = modal.is_symmetrisable(weights, linearised.D[:, 0, 0], linearised.Y[:, 0, 0])
    return Covariances(*jax.lax.cond(usable, by_modes, by_frequency, linearised, observed, taps))


def _by_modes(linearised, weights, observed, filters):
    A, D, Y, B, _ = linearised
    a, d, y = (block[:, 0, 0] for block in (A, D, Y))
    M, modes = step_matrix(linearised), modal.eigenmodes(a, d, weights, y)
    P = modal.discrete_lyapunov(M, jnp.diag(jnp.sum(B[:, 0] ** 2, axis=-1)), modes)
    of_observed = []
    for n_mean, taps in filters:
        half = modal.lagged_filter(M, taps, modes, n_mean) @ P
        full = half + half.T
        products = observed[:, :, None, None, 0] * observed[None, None, :, :, 0] * full[:, None, :, None]
        of_observed.append(products.reshape(observed.shape[0] * observed.shape[1], -1))
    to_input = weights * y
    input_by_state = to_input @ P
    cross, of_inputs = jnp.diagonal(input_by_state), jnp.sum(input_by_state * to_input, axis=1)
    local = jnp.stack([jnp.stack([jnp.diagonal(P), cross], -1), jnp.stack([cross, of_inputs], -1)], -2)
    n_unstable = jnp.sum(jnp.abs(modes.values) >= 1.0).astype(M.dtype)
    return tuple(of_observed), local, n_unstable


def noise_density(noise, dt: float, theta) -> jax.Array:
    """Spectral density of the noise at frequencies [rad per step], relative to white noise of unit variance per step.

    Parameters
    ----------
    noise : State
        Noise node of the state.
    dt : float
        [ms]
    theta : Array, shape (n,)

    Returns
    -------
    Array, shape (n,)
    """
    if "eta" not in noise:
        return jnp.ones_like(theta)
    ntau = jnp.reshape(noise.ntau, ())
    E = jnp.exp(-dt / ntau)
    return spectral.coloured_density(E, dt**2 / ntau * (1.0 - E**2), theta)


def filter_correlation_time(taps, n_mean: int) -> jax.Array:
    """Sum over all lags of a filter's squared autocorrelation [steps]."""
    if taps.size > 1:
        lags, steps_per_lag = modal.autocorrelation(taps), n_mean
    else:
        lags, steps_per_lag = 1.0 - jnp.arange(n_mean, dtype=taps.dtype) / n_mean, 1
    return (2.0 * jnp.sum((lags / lags[0]) ** 2) - 1.0) * steps_per_lag
