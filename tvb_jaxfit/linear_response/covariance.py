"""Stationary covariances of a linearised step: by eigenmodes, or by an integral over frequencies."""

from enum import StrEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import filters as monitor_filters
from . import modal, quadrature, spectral
from .filters import NO_SHIFT
from .linearise import Linearised, apply_left, block_diagonal, delays_of, step_matrix

# Size of the step matrix, relative to that of the network's coupling input, up to which its eigenmodes take less time
# than the integral over frequencies.
_MODAL_SIZE = 12


class Way(StrEnum):
    """Way to compute covariances.

    Members
    -------
    SYMMETRIC
        By eigenmodes of a step matrix that is similar to a symmetric one.
    MODES
        By eigenmodes of any step matrix without delays.
    FREQUENCIES
        By an integral of spectra.
    EITHER
        SYMMETRIC where it applies, otherwise MODES, chosen at run time: for functions that JAX transforms.
    """

    SYMMETRIC = "symmetric modes"
    MODES = "modes"
    FREQUENCIES = "frequencies"
    EITHER = "symmetric modes or modes"


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
    error : Array, shape ()
        Bound of the errors of variances by rounding in the eigenmodes, relative to them; infinite if the way does not
        apply.
    """

    observed: tuple
    local: jax.Array
    n_unstable: jax.Array
    error: jax.Array


def tolerance(dtype) -> float:
    """Largest `Covariances.error`, a bound, with which a result is used; the error itself is usually far smaller."""
    return 1e-8 if dtype == np.float64 else 2e-2


def ways(step, noise, weights, x_shape, n_coupling: int) -> tuple[Way, ...]:
    """Ways that may apply to a step, in the order in which they are tried.

    Parameters
    ----------
    step : Step
    noise : State
        Noise node of the state.
    weights : Array, shape (n_node, n_node)
    x_shape : tuple of int
        Shape (n_var, n_node, n_mode) of the state.
    n_coupling : int
        Number of source outputs of the whole network.
    """
    if step.delays is not None or np.prod(x_shape) > _MODAL_SIZE * n_coupling:
        return (Way.FREQUENCIES,)
    is_scalar = step.is_local and "eta" not in noise and np.prod(x_shape) == n_coupling == weights.shape[0]
    if isinstance(weights, jax.core.Tracer):
        return (Way.EITHER if is_scalar else Way.MODES,)
    symmetric = (Way.SYMMETRIC,) if is_scalar and np.array_equal(weights, np.transpose(weights)) else ()
    return (*symmetric, Way.MODES, Way.FREQUENCIES)


def stationary_covariances(
    step, weights, linearised: Linearised, observed, noise, filters, dt: float, way: Way, shifts=NO_SHIFT
) -> Covariances:
    """Covariances through each filter.

    Parameters
    ----------
    step : Step
    weights : Array, shape (n_node, n_node)
    linearised : Linearised
    observed : Array, shape (n_group, n_out, n_state)
        Derivative of the observed variables by the state.
    noise : State
        Noise node of the state.
    filters : list of (int, Array) or callable
        Filter of each monitor, as ``(n_mean, taps)``: see `modal.covariance_coordinates`. Or a response for each
        observed variable, see `spectral.integrate_spectra`; only frequencies take these.
    dt : float
        [ms]
    way : Way
    shifts : tuple of (int, float)
        Lags of the first signal behind the second one [steps], and the weights of their sum.

    Returns
    -------
    Covariances
    """
    dtype, delays = linearised.A.dtype, delays_of(step, linearised)
    gains, shared = ([each for each in filters if callable(each) is is_gain] for is_gain in (True, False))
    n_means, taps = [n_mean for n_mean, _ in shared], [taps.astype(dtype) for _, taps in shared]

    def by_frequencies(linearised, observed, noise, taps):
        def points(grid):
            density = noise_density(noise, dt, jnp.asarray(grid.theta, dtype))
            of_filters = [quadrature.filter_weights(grid, *one, shifts) for one in zip(taps, n_means, strict=True)]
            of_gains = quadrature.filter_weights(grid, jnp.ones(1, dtype), 1, shifts)
            return spectral.weighted_points(grid, density, of_filters, of_gains)

        levels = [points(grid) for grid in quadrature.frequency_grids(dt, delays, bool(gains))]
        through, *others = spectral.integrate_spectra(linearised, delays, observed, levels, gains)
        # Shared filters come first.
        places = np.argsort(np.argsort([callable(each) for each in filters], kind="stable"))
        return Covariances(tuple(through[place] for place in places), *others, jnp.zeros((), dtype))

    def by_modes(linearised, observed, noise, taps):
        M, B = process(linearised, noise, dt)
        filters = list(zip(n_means, taps, strict=True))
        return _by_modes(linearised, observed, M, B, modal.general_modes(M), filters, shifts)

    def by_symmetric_modes(linearised, observed, noise, taps):
        M, B = process(linearised, noise, dt)
        modes, usable = symmetric_modes(linearised, weights)
        filters = list(zip(n_means, taps, strict=True))
        found = _by_modes(linearised, observed, M, B, modes, filters, shifts)
        return found._replace(error=jnp.where(usable, 0.0, jnp.inf).astype(dtype))

    functions = {Way.FREQUENCIES: by_frequencies, Way.MODES: by_modes, Way.SYMMETRIC: by_symmetric_modes}
    arguments = linearised, observed, noise, taps
    if way is Way.EITHER:
        _, usable = symmetric_modes(linearised, weights)
        return jax.lax.cond(usable, by_symmetric_modes, by_modes, *arguments)
    return functions[way](*arguments)


def symmetric_modes(linearised: Linearised, weights) -> tuple[modal.Modes, jax.Array]:
    """Eigenmodes of `modal.symmetric_modes` for one state per node, and whether they are those of the step."""
    a, d, y = (block[:, 0, 0] for block in (linearised.A, linearised.D, linearised.Y))
    return modal.symmetric_modes(a, d, weights, y), modal.is_symmetrisable(weights, d, y)


def process(linearised: Linearised, noise, dt: float) -> tuple[jax.Array, jax.Array]:
    """Matrices M, B of the process x' = M x + B z, with white noise z of unit variance.

    Coloured noise is a first-order process itself: its values are further states, after those of the network.
    """
    M, B = step_matrix(linearised), block_diagonal(linearised.B)
    if "eta" not in noise:
        return M, B
    ntau = jnp.reshape(noise.ntau, ())
    E = jnp.exp(-dt / ntau)
    unit, to_states = jnp.eye(B.shape[1], dtype=M.dtype), dt / jnp.sqrt(ntau) * B
    M = jnp.block([[M, E * to_states], [jnp.zeros((unit.shape[0], M.shape[0]), M.dtype), E * unit]])
    return M, jnp.sqrt(-jnp.expm1(-2.0 * dt / ntau)) * jnp.concatenate([to_states, unit])


def _by_modes(linearised, observed, M, B, modes, filters, shifts):
    _, D, Y, _, N = linearised
    n_group, n_state, n_input = D.shape
    found = modal.covariance_coordinates(M, B, filters, modes, shifts)
    of_states = modes.R[: n_group * n_state]
    of_inputs = N @ apply_left(Y, of_states)
    rows = jnp.concatenate([each.reshape(n_group, -1, M.shape[0]) for each in (of_states, of_inputs)], axis=1)
    local = jnp.einsum("gan,gbn->gab", rows @ found.states, rows)
    rows = apply_left(observed, of_states)
    return Covariances(
        tuple(rows @ filtered @ rows.T for filtered in found.filtered),
        0.5 * (local + jnp.swapaxes(local, 1, 2)),
        jnp.sum(jnp.abs(modes.values) >= 1.0).astype(M.dtype),
        modal.relative_error(M, B, modes, found.states),
    )


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


def noise_amplitude(noise, dt: float, theta) -> jax.Array:
    """Complex gain of the noise, whose square is `noise_density`, at frequencies (n,) [rad per step]."""
    complex_dtype = jnp.result_type(theta.dtype, 1j)
    if "eta" not in noise:
        return jnp.ones(theta.shape, complex_dtype)
    ntau = jnp.reshape(noise.ntau, ())
    E, strength = jnp.exp(-dt / ntau), dt / jnp.sqrt(ntau) * jnp.sqrt(-jnp.expm1(-2.0 * dt / ntau))
    return (strength / (1.0 - E * jnp.exp(-1j * theta))).astype(complex_dtype)


def gain_correlation_time(gain, voi, dt: float, dtype) -> jax.Array:
    """Sum over all lags of the product of the autocorrelations of two signals' filters [steps].

    Parameters
    ----------
    gain : callable
        Function of frequencies to (n, n_voi, n_node, n_mode), see `BalloonBold.response`.
    voi : tuple of int
        Rows of the signals.
    dt : float
        [ms]
    dtype : dtype

    Returns
    -------
    Array, shape (n_signal, n_signal)
    """
    grid = quadrature.frequency_grids(dt, hemodynamic=True)[0]
    density = jnp.abs(gain(jnp.asarray(grid.theta, dtype))[:, np.asarray(voi)]) ** 2
    density = density.reshape(density.shape[0], -1)
    weighted = jnp.asarray(grid.weight / np.pi, dtype)[:, None] * density
    total = jnp.sum(weighted, axis=0)
    # Parseval: lags of the product are an integral of the product of densities.
    return weighted.T @ density / jnp.outer(total, total)


def filter_correlation_time(taps, n_mean: int) -> jax.Array:
    """Sum over all lags of a filter's squared autocorrelation [steps]."""
    if taps.size > 1:
        return monitor_filters.sum_of_squared_autocorrelation(taps / jnp.sqrt(jnp.sum(taps**2))) * n_mean
    lags = 1.0 - jnp.arange(n_mean, dtype=taps.dtype) / n_mean
    return 2.0 * jnp.sum(lags**2) - 1.0
