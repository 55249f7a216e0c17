r"""Covariances as integrals of spectra, for any step, with delays and coloured noise.

At the frequency :math:`\theta` [rad per step], with :math:`z = e^{i \theta}`, the coupling input is
:math:`s = X(z)\, T_B(z)\, \xi`, where :math:`X = (1 - N(z) T_D)^{-1} N(z)`, :math:`T_\cdot = Y (z - A)^{-1} \cdot`, and
each entry of N has the phase :math:`z^{-delay}`. Groups are eliminated first: only one matrix, of the size of the
coupling input, is factorised per frequency, for any number of state variables.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from .filters import polynomial
from .linearise import Linearised, apply_left, apply_right, block_diagonal
from .quadrature import FrequencyGrid

# Tolerance for a number of turns to count as an integer.
_INTEGER_TOLERANCE = 0.05
# Relative error of the rule of every second frequency: at most this, and no finer rule is used; at least that, and a
# mode counts as unresolved. The whole rule's error is usually far smaller; with long delays and short steps, not much.
_TOLERANCE, _UNRESOLVED = 1e-6, 3e-2
# Number of frequencies that are evaluated together.
_CHUNK = 16
# Name of the arrays that are kept for the derivative.
_KEPT = "inverse"


class Points(NamedTuple):
    """Frequencies [rad per step] and their weights, each of shape (n,), with a last axis for ``filters``.

    Attributes
    ----------
    theta : Array
    turns : Array
        Weights of an integral over (0, pi), divided by pi.
    own : Array
        The same, times the spectral density of the noise.
    half : Array
        As ``own``, for the rule of every second frequency.
    filters : Array, shape (n, n_filter)
        Weights of each filter, times the spectral density of the noise.
    gains : Array, shape (n,)
        The same for filters with a response for each observed variable.
    """

    theta: jax.Array
    turns: jax.Array
    own: jax.Array
    half: jax.Array
    filters: jax.Array
    gains: jax.Array


def weighted_points(grid: FrequencyGrid, density, filters, of_gains) -> Points:
    """Frequencies of a grid and their weights.

    Parameters
    ----------
    grid : FrequencyGrid
    density : Array, shape (n,)
        Spectral density of the noise, 1 for white noise.
    filters : list of Array, each of shape (n,)
        Weights of each filter: see `quadrature.filter_weights`.
    of_gains : Array, shape (n,)
        Weights for filters with a response for each observed variable.

    Returns
    -------
    Points
    """
    dtype = density.dtype
    density = density / np.pi
    turns, half = jnp.asarray(grid.weight / np.pi, dtype), jnp.asarray(grid.half_weight, dtype)
    of_filters = jnp.reshape(jnp.stack(filters) if filters else jnp.zeros(0, dtype), (len(filters), density.size)).T
    own = jnp.asarray(grid.weight, dtype) * density
    theta = jnp.asarray(grid.theta, dtype)
    return Points(theta, turns, own, half * density, density[:, None] * of_filters, density * of_gains)


class _Totals(NamedTuple):
    """Sums over frequencies: see `Points`."""

    observed: jax.Array
    local: jax.Array
    half: jax.Array
    turns: jax.Array


def integrate_spectra(
    linearised: Linearised, delays: np.ndarray | None, observed, levels: list[Points], gains=()
) -> tuple:
    """Covariances of the stationary process.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    observed : Array, shape (n_group, n_out, n_state)
        Derivative of the observed variables by the state.
    levels : list of Points
        Quadrature rules, the coarsest first. A finer one is used if the error of all before it is too large.
    gains : list of callable
        Further filters, with a response for each observed variable: functions of frequencies (n,) [rad per step] to
        complex gains (n, n_group, n_out). Smooth in frequency, unlike the squared gain of ``Points.filters``.

    Returns
    -------
    observed, local, n_unstable
        As in `covariance.Covariances`; ``observed`` has the filters of ``levels`` first.
    """
    dtype = linearised.A.dtype
    n_group, n_state, _ = linearised.A.shape
    n_local, n_out = n_state + linearised.D.shape[-1], n_group * observed.shape[1]
    n_filter, local = levels[0].filters.shape[1] + len(gains), jnp.zeros((n_group, n_local, n_local), dtype)
    zeros = _Totals(jnp.zeros((n_filter, n_out, n_out), dtype), local, local, jnp.zeros((), dtype))

    # Of each frequency only the inverse matrices are kept for the derivative; all else is computed again.
    @partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(_KEPT))
    def add(totals, points):
        transfers = jax.vmap(partial(_transfers, linearised, delays))(points.theta)
        density, constant = jax.vmap(_local_density)(transfers), jax.lax.stop_gradient((points.theta, transfers))
        rates = jax.vmap(partial(_phase_rate, linearised, delays))(*constant)
        weighted = [(observed, points.filters)]
        weighted += [(gain(points.theta)[..., None] * observed, points.gains[:, None]) for gain in gains]
        return _Totals(
            totals.observed + jnp.concatenate([_observed_covariance(transfers, *each) for each in weighted]),
            totals.local + jnp.einsum("f,fgab->gab", points.own, density),
            totals.half + jnp.einsum("f,fgab->gab", points.half, density),
            totals.turns + jnp.sum(rates * points.turns),
        )

    def add_if_needed(carry, chunk):
        (totals, is_needed), (points, is_first) = carry, chunk
        is_needed = jnp.where(is_first, ~(_error(totals) < _tolerance(dtype)), is_needed)
        totals = jax.tree.map(lambda total: jnp.where(is_first & is_needed, 0.0, total), totals)
        return (jax.lax.cond(is_needed, add, lambda totals, _: totals, totals, points), is_needed), None

    chunks = [jax.tree.map(_in_chunks, points) for points in levels]
    is_first = np.concatenate([np.arange(points.theta.shape[0]) == 0 for points in chunks])
    chunks = jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks)
    (totals, _), _ = jax.lax.scan(add_if_needed, (zeros, jnp.array(True)), (chunks, jnp.asarray(is_first)))
    return tuple(totals.observed), totals.local, _number_of_unstable_modes(totals)


def _error(totals):
    """Relative error of the rule of every second frequency; that of the whole rule is smaller."""
    local, half = jax.lax.stop_gradient((totals.local, totals.half))
    return jnp.max(jnp.abs(local - half)) / jnp.max(jnp.abs(local))


def _number_of_unstable_modes(totals):
    # Argument principle: the determinant of 1 - M / z turns once around 0 for each unstable mode.
    turns = jnp.abs(jax.lax.stop_gradient(totals.turns))
    n_unstable = jnp.round(turns)
    # A mode is too close to instability to be resolved if the number of turns is not an integer or the error is large.
    # Without noise there is no error.
    is_resolved = (jnp.abs(turns - n_unstable) < _INTEGER_TOLERANCE) & ~(_error(totals) > _UNRESOLVED)
    return jnp.where(is_resolved, n_unstable, jnp.maximum(n_unstable, 1.0))


def _tolerance(dtype):
    """Relative error of the rule of every second frequency at which no finer rule is needed."""
    return max(_TOLERANCE, float(jnp.finfo(dtype).eps) ** 0.5)


def _in_chunks(values):
    """Rows in chunks, shape (n_chunk, _CHUNK, ...); zeros fill up the last one: frequency 0, without weight."""
    n_chunk = -(-values.shape[0] // _CHUNK)
    fill = jnp.zeros((n_chunk * _CHUNK - values.shape[0], *values.shape[1:]), values.dtype)
    return jnp.concatenate([values, fill]).reshape(n_chunk, _CHUNK, *values.shape[1:])


class _Transfers(NamedTuple):
    """Transfer functions at one frequency: s = X T_B noise, x = G_D s + G_B noise, source output T_D s + T_B noise.

    The other entries act in each group separately; ``resolvent`` is (z - A)^-1, and N has the phases of the delays.
    """

    X: jax.Array
    N: jax.Array
    resolvent: jax.Array
    G_D: jax.Array
    G_B: jax.Array
    T_D: jax.Array
    T_B: jax.Array


def _transfers(linearised, delays, theta):
    A, D, Y, B, N = linearised
    z = jnp.exp(1j * theta)
    resolvent = inverse_of_blocks(z * jnp.eye(A.shape[1], dtype=A.dtype) - A)
    G_D, G_B = resolvent @ D.astype(z.dtype), resolvent @ B.astype(z.dtype)
    T_D, T_B = Y.astype(z.dtype) @ G_D, Y.astype(z.dtype) @ G_B
    N = N.astype(z.dtype) if delays is None else N * _phases(theta, delays)
    return _Transfers(_closed_loop(N, T_D), N, resolvent, G_D, G_B, T_D, T_B)


def _phases(theta, delays):
    """exp(-i theta delay) of each delay, from a table of the delays that occur."""
    lags, index = np.unique(delays, return_inverse=True)
    phase = theta * lags.astype(theta.dtype)
    return jax.lax.complex(jnp.cos(phase), -jnp.sin(phase))[index.reshape(delays.shape)]


def _keep(values):
    """The same complex values, kept for the derivative."""
    return jax.lax.complex(*(checkpoint_name(part, _KEPT) for part in (jnp.real(values), jnp.imag(values))))


@jax.custom_jvp
def inverse_of_blocks(matrices):
    """Inverse of small matrices; its derivative consists of products."""
    return _keep(1.0 / matrices if matrices.shape[-1] == 1 else jnp.linalg.inv(matrices))


@inverse_of_blocks.defjvp
def _inverse_of_blocks_jvp(primals, tangents):
    inverse = inverse_of_blocks(*primals)
    return inverse, -inverse @ tangents[0] @ inverse


@jax.custom_jvp
def _closed_loop(N, T):
    """X = (1 - N T)^-1 N of a network N and blocks T; its derivative consists of products."""
    return _keep(jnp.linalg.solve(jnp.eye(N.shape[0], dtype=N.dtype) - apply_right(N, T), N))


@partial(_closed_loop.defjvp, symbolic_zeros=True)
def _closed_loop_jvp(primals, tangents):
    (_, T), (dN, dT) = primals, tangents
    X = _closed_loop(*primals)
    tangent = jnp.zeros_like(X)
    if not isinstance(dT, SymbolicZero):
        tangent = tangent + apply_right(X, dT) @ X
    if not isinstance(dN, SymbolicZero):
        through = dN + apply_right(dN, T) @ X
        tangent = tangent + through + apply_right(X, T) @ through
    return X, tangent


def _phase_rate(linearised, delays, theta, transfers):
    """Derivative by frequency of the phase of det(1 - M / z): imaginary part of its logarithmic derivative."""
    A, _, Y, _, _ = linearised
    n_group, n_state, _ = A.shape
    z, T, resolvent = jnp.exp(1j * theta), transfers.T_D, transfers.resolvent
    of_groups = jnp.imag(1j * z * jnp.sum(jnp.trace(resolvent, axis1=1, axis2=2))) - n_group * n_state
    derivative = -1j * z * (Y @ resolvent) @ transfers.G_D
    of_network = jnp.sum(_diagonal_blocks(transfers.X, n_group) * jnp.swapaxes(derivative, -1, -2))
    if delays is not None:
        # (1 - N T)^-1 = 1 + X T
        inverse = jnp.eye(transfers.N.shape[0], dtype=A.dtype) + apply_right(transfers.X, T)
        of_delays = transfers.N * (-1j * jnp.asarray(delays, A.dtype))
        of_network = of_network + jnp.sum(inverse.T * apply_right(of_delays, T))
    return of_groups - jnp.imag(of_network)


def _observed_covariance(transfers, observed, weights):
    """Sum over frequencies of weights (n, n_filter) times the densities of the observed variables: its real part.

    With K = O G_D X, the density is K T_B T_B^H K^H + K T_B G_B^H O^H + its adjoint + O G_B G_B^H O^H. The noise
    variables are summed in each group first, and the frequencies are part of the sums of one matrix product.
    """
    by_input, by_noise = observed @ transfers.G_D, observed @ transfers.G_B
    K = jax.vmap(apply_left)(by_input, transfers.X)
    power, cross = transfers.T_B @ _adjoint(transfers.T_B), transfers.T_B @ _adjoint(by_noise)
    own = jnp.real(jnp.einsum("fp,fgab->pgab", weights.astype(K.dtype), by_noise @ _adjoint(by_noise)))
    # Half of the density: the other half is its adjoint.
    right = 0.5 * jax.vmap(apply_right)(K, power).conj() + jax.vmap(block_diagonal)(jnp.swapaxes(cross, -1, -2))

    def half(weights):
        weighted = weights.T[:, :, None, None] * K
        real = jnp.einsum("pfij,fkj->pik", jnp.real(weighted), jnp.real(right))
        return real - jnp.einsum("pfij,fkj->pik", jnp.imag(weighted), jnp.imag(right))

    first = half(weights)
    second = half(jnp.conj(weights)) if jnp.iscomplexobj(weights) else first
    return first + jnp.swapaxes(second, -1, -2) + jax.vmap(block_diagonal)(own)


def _local_density(transfers):
    """Real part of the spectral density of states and inputs in each group."""
    X, G_D, G_B, T_B = transfers.X, transfers.G_D, transfers.G_B, transfers.T_B
    n_group, _, n_input = G_D.shape
    rows = apply_right(X, T_B @ _adjoint(T_B)).reshape(n_group, n_input, -1)
    of_inputs = jnp.einsum("gan,gbn->gab", rows, X.conj().reshape(n_group, n_input, -1))
    cross = _diagonal_blocks(X, n_group) @ (T_B @ _adjoint(G_B))
    of_states = G_D @ of_inputs @ _adjoint(G_D) + G_B @ _adjoint(G_B)
    of_states = of_states + G_D @ cross + _adjoint(G_D @ cross)
    state_input = G_D @ of_inputs + _adjoint(cross)
    upper = jnp.concatenate([of_states, state_input], axis=-1)
    lower = jnp.concatenate([_adjoint(state_input), of_inputs], axis=-1)
    return jnp.real(jnp.concatenate([upper, lower], axis=-2))


def _adjoint(matrix):
    return jnp.conj(jnp.swapaxes(matrix, -1, -2))


def _diagonal_blocks(matrix, n_group):
    """Diagonal blocks (n_group, a, b) of a matrix (n_group * a, n_group * b)."""
    blocks = matrix.reshape(n_group, matrix.shape[0] // n_group, n_group, matrix.shape[1] // n_group)
    return jnp.moveaxis(jnp.diagonal(blocks, axis1=0, axis2=2), -1, 0)


def power(linearised: Linearised, delays: np.ndarray | None, observed, theta, reduce: Callable) -> jax.Array:
    """Reduced spectral densities of the observed variables, for white noise.

    Parameters
    ----------
    linearised, delays, observed
        As for `integrate_spectra`.
    theta : Array, shape (n,)
        Frequencies [rad per step].
    reduce : callable
        Function of the density matrix at one frequency, to an array.

    Returns
    -------
    Array, shape (n, ...)
    """

    def at(theta):
        transfers = jax.vmap(partial(_transfers, linearised, delays))(theta[None])
        return reduce(_observed_covariance(transfers, observed, jnp.ones((1, 1), theta.dtype))[0])

    return jax.lax.map(at, theta)


def driven_states(linearised: Linearised, delays: np.ndarray | None, theta, noise, batch_size: int) -> jax.Array:
    """States that noise of given Fourier coefficients drives.

    Parameters
    ----------
    linearised, delays
        As for `integrate_spectra`.
    theta : Array, shape (n,)
        Frequencies [rad per step].
    noise : Array of complex, shape (n, n_group * n_noise)
    batch_size : int
        Number of frequencies that are solved together. The derivative solves them again.

    Returns
    -------
    Array of complex, shape (n, n_group * n_state)
    """
    A, D, Y, B, N = linearised

    @jax.checkpoint
    def at(theta, noise):
        z = jnp.exp(1j * theta)
        resolvent = inverse_of_blocks(z * jnp.eye(A.shape[1], dtype=A.dtype) - A)
        local = resolvent @ (B @ noise.reshape(B.shape[0], -1, 1))
        network = N.astype(z.dtype) if delays is None else N * _phases(theta, delays)
        by_input = resolvent @ D
        loop = jnp.eye(N.shape[0], dtype=z.dtype) - apply_right(network, Y @ by_input)
        inputs = jnp.linalg.solve(loop, network @ (Y @ local).reshape(-1))
        return (local + by_input @ inputs.reshape(D.shape[0], -1, 1)).reshape(-1)

    return jax.lax.map(lambda both: at(*both), (theta, noise), batch_size=batch_size)


def filter_gain(taps, n_mean: int, theta) -> jax.Array:
    """Complex gain of a filter at frequencies [rad per step], up to the phase of the mean over ``n_mean`` steps."""
    # sin(m a) / (m sin(a)), also at a = 0.
    of_mean = jnp.sinc(n_mean * theta / (2.0 * np.pi)) / jnp.sinc(theta / (2.0 * np.pi))
    return of_mean * polynomial(jnp.exp(-1j * n_mean * theta), taps)


def squared_gain(taps, n_mean: int, theta) -> jax.Array:
    """Squared gain of a filter (see `modal.covariance_coordinates`) at the frequencies ``theta`` [rad per step]."""
    return jnp.abs(filter_gain(taps, n_mean, theta)) ** 2


def coloured_density(E, strength, theta) -> jax.Array:
    """Spectral density of first-order autoregressive noise: coefficient E per step, driving variance ``strength``."""
    return strength / jnp.abs(1.0 - E * jnp.exp(-1j * theta)) ** 2
