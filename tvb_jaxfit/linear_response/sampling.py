r"""Samples of the stationary Gaussian process of a linearised step, on given normal draws.

A process x' = M x + B z with white noise z has, at the frequency :math:`\theta` [rad per step], the Fourier transform
:math:`(e^{i \theta} - M)^{-1} B\, z(\theta)`. Its samples at every p-th step, N of them, are an inverse Fourier
transform: at the frequency j of N, the sum over the bands :math:`\theta = 2 \pi (j / N + k) / p` that sampling folds
into one another, each with normal draws of its own. For the same draws the samples are a smooth function of M and B,
since the draws belong to the noise, and not to the eigenmodes.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from . import modal, spectral
from .covariance import Way, noise_amplitude, process, symmetric_modes
from .linearise import Linearised, delays_of

# Time for which the process remembers, and that hemodynamics do [ms]: the Fourier transform is periodic, and so much of
# each period is cut away.
_MEMORY, _HEMODYNAMIC_MEMORY = 10_000.0, 20_000.0
# Highest frequency of BOLD [Hz]. Above it, hemodynamic responses leave 2e-5 of the variance of white noise.
_HIGHEST_OF_BOLD = 5.0
# Number of bands on each side of the lowest one that are summed one by one. Of those above, in each octave the spectra
# are interpolated from a few bands.
_N_SINGLE, _N_PER_OCTAVE = 16, 3
# Number of frequencies whose linear systems are solved together.
_BATCH = 16


class Plan(NamedTuple):
    """Frequencies of samples.

    Attributes
    ----------
    n_period : int
        Number of samples of a period of the Fourier transform; even.
    theta : ndarray, shape (n_band, n_period // 2 + 1)
        [rad per step]
    weight : ndarray, shape (n_band,)
        Number of bands that each one stands for, per integration step of a sample.
    """

    n_period: int
    theta: np.ndarray
    weight: np.ndarray

    def draws(self, key: jax.Array, n_noise: int) -> jax.Array:
        """Standard normal draws, shape (n_band, 2, n_period // 2 + 1, n_noise), the same in double precision."""
        shape = self.theta.shape[0], 2, self.theta.shape[1], n_noise
        # The same draws as of this shape, which takes XLA twenty times as long to compile.
        return jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)


def plan(n_samples: int, istep: int, dt: float, filter_length: int | None, is_bold: bool) -> Plan:
    """Frequencies for a number of samples.

    Parameters
    ----------
    n_samples : int
    istep : int
        Sampling period [steps].
    dt : float
        [ms]
    filter_length : int or None
        Length of the monitor's filter [steps]; None for hemodynamics.
    is_bold : bool
        True for a monitor that passes low frequencies only.

    Returns
    -------
    Plan
    """
    filter_time = _HEMODYNAMIC_MEMORY if filter_length is None else filter_length * dt
    n_cut = int(np.ceil((filter_time + _MEMORY) / (istep * dt)))
    n_period = 2 * next_fast_len(-(-(n_samples + n_cut) // 2))
    highest = int(np.ceil(_HIGHEST_OF_BOLD * istep * dt / 1000.0)) if is_bold else istep
    positive, weight_above = _bands(min(highest, (istep - 1) // 2))
    negative, weight_below = _bands(min(highest, istep // 2))
    bands = np.concatenate([[0], positive, -negative])
    weight = np.concatenate([[1.0], weight_above, weight_below]) / istep
    theta = 2.0 * np.pi / istep * (bands[:, None] + np.arange(n_period // 2 + 1) / n_period)
    return Plan(n_period, theta, weight)


def _bands(last):
    """Bands from 1 to ``last`` that stand for all of them, and the number of bands that each stands for."""
    bands, weights, first = [], [], 1
    nodes = 0.5 * (1.0 + np.polynomial.legendre.leggauss(_N_PER_OCTAVE)[0])
    while first <= last:
        octave = np.arange(first, min(max(2 * first, _N_SINGLE + 1), last + 1))
        index, weight = np.arange(octave.size), np.ones(octave.size)
        if first > _N_SINGLE and octave.size >= _N_SINGLE:
            # Near the nodes of Gauss-Legendre quadrature: the sum over the octave is exact for polynomials.
            index = np.rint(nodes * (octave.size - 1)).astype(int)
            powers, at = np.arange(index.size)[:, None], (octave - first) / octave.size
            weight = np.linalg.solve(at[index] ** powers, np.sum(at**powers, axis=1))
        bands.append(octave[index])
        weights.append(weight)
        first = octave[-1] + 1
    return np.concatenate([[], *bands]), np.concatenate([[], *weights])


def sampled_signals(
    step, weights, linearised: Linearised, observed, noise, gain, draws, plan: Plan, dt: float, way: Way
) -> tuple[jax.Array, jax.Array]:
    """Samples of the stationary process.

    Parameters
    ----------
    step, weights, linearised, noise, dt, way
        As for `covariance.stationary_covariances`.
    observed : Array, shape (n_out, n_group * n_state)
        Derivative of the observed variables by the state.
    gain : callable
        Filter: frequencies (n,) [rad per step] to complex gains (n, n_out), or (n, 1) for all observed variables.
    draws : Array
        See `Plan.draws`.
    plan : Plan

    Returns
    -------
    samples : Array, shape (plan.n_period, n_out)
        A whole period: its first samples follow its last ones.
    error : Array, shape ()
        See `covariance.Covariances`.
    """

    def by_modes(linearised, observed, noise, draws):
        M, B = process(linearised, noise, dt)
        modes = modal.general_modes(M)
        error = modal.relative_error(M, B, modes, modal.covariance_coordinates(M, B, [], modes).states)
        return _by_modes(M, B, modes, observed, gain, draws, plan), error

    def by_symmetric_modes(linearised, observed, noise, draws):
        modes, usable = symmetric_modes(linearised, weights)
        samples = _by_modes(*process(linearised, noise, dt), modes, observed, gain, draws, plan)
        return samples, jnp.where(usable, 0.0, jnp.inf).astype(observed.dtype)

    def by_frequencies(linearised, observed, noise, draws):
        delays = delays_of(step, linearised)

        def respond(theta, z):
            z = z * noise_amplitude(noise, dt, theta)[:, None]
            return spectral.driven_states(linearised, delays, theta, z, _BATCH)

        return _samples(respond, observed, gain, draws, plan), jnp.zeros((), observed.dtype)

    functions = {Way.FREQUENCIES: by_frequencies, Way.MODES: by_modes, Way.SYMMETRIC: by_symmetric_modes}
    arguments = linearised, observed, noise, draws
    if way is Way.EITHER:
        _, usable = symmetric_modes(linearised, weights)
        return jax.lax.cond(usable, by_symmetric_modes, by_modes, *arguments)
    return functions[way](*arguments)


def _by_modes(M, B, modes, observed, gain, draws, plan):
    M_hat, by_noise = modes.L @ M @ modes.R, modes.L @ B

    def respond(theta, z):
        return _resolved(M_hat, modes.values, theta, _product(by_noise, z))

    return _samples(respond, observed @ modes.R[: observed.shape[1]], gain, draws, plan)


def _samples(respond, observed, gain, draws, plan):
    """Samples of a period from the response to noise at each frequency, (n,) and (n, n_noise) to (n, n_state)."""
    theta, dtype = jnp.asarray(plan.theta, observed.dtype), observed.dtype
    # A filter that all signals share acts on the states: they are observed once, after the sum over bands.
    is_shared = jax.eval_shape(gain, theta[0]).shape[1] == 1

    def of_band(theta, weight, draws):
        real, imaginary = jnp.sqrt(0.5 * weight) * draws.astype(dtype)
        response = respond(theta, jax.lax.complex(real, imaginary))
        return gain(theta) * (response if is_shared else _product(observed, response))

    def add(total, band):
        return total + of_band(*band), None

    bands = theta, jnp.asarray(plan.weight, dtype), draws
    zeros = jnp.zeros_like(jax.eval_shape(of_band, *(each[0] for each in bands)))
    total, _ = jax.lax.scan(add, zeros, bands)
    total = _product(observed, total) if is_shared else total
    # Of the first and of the last frequency the real part counts.
    size = np.full(plan.theta.shape[1], np.sqrt(plan.n_period))
    size[[0, -1]] *= np.sqrt(2.0)
    return jnp.fft.irfft(jnp.asarray(size, dtype)[:, None] * total, plan.n_period, axis=0)


@jax.custom_jvp
def _resolved(M, values, theta, right):
    """Solutions x of (exp(i theta) - M) x = right, in real coordinates of the modes of M: see `modal`.

    Parameters
    ----------
    M : Array, shape (n, n)
        In these coordinates; its value is known from its eigenvalues, its derivative counts.
    values : Array, shape (n,)
        Eigenvalues.
    theta : Array, shape (n_theta,)
    right : Array of complex, shape (n_theta, n)
    """
    return modal.resolvent_product(values, _on_circle(theta), right)


@_resolved.defjvp
def _resolved_jvp(primals, tangents):
    (_, values, theta, _), (dM, _, _, dright) = primals, tangents
    x = _resolved(*primals)
    return x, modal.resolvent_product(values, _on_circle(theta), dright + _product(dM, x))


def _on_circle(theta):
    return jax.lax.complex(jnp.cos(theta), jnp.sin(theta))


def _product(matrix, values):
    """Products of a real matrix (m, n) and complex vectors (..., n), as two real products."""
    return jax.lax.complex(jnp.real(values) @ matrix.T, jnp.imag(values) @ matrix.T)
