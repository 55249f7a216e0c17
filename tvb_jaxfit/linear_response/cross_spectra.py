"""Cross-spectral densities of a linearised step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .linearise import Linearised, apply_left, apply_right, block_diagonal
from .spectral import inverse_of_blocks


def cross_spectra(linearised: Linearised, delays: np.ndarray | None, observed, theta, reduce: Callable) -> jax.Array:
    """Reduced cross-spectral densities of the observed variables, for white noise.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    observed : Array, shape (n, n_group, n_out, n_state)
        Derivative of the observed variables by the state, at each frequency.
    theta : Array, shape (n,)
        Frequencies [rad per step].
    reduce : callable
        Function of the density matrix at one frequency, to an array. The matrix is Hermitian; its entry (i, j) is the
        Fourier transform of the covariance of i with an earlier j.

    Returns
    -------
    Array of complex, shape (n, ...)
    """
    A, D, Y, B, N = linearised

    def at(frequency):
        theta, observed = frequency
        resolvent = inverse_of_blocks(jnp.exp(1j * theta) * jnp.eye(A.shape[1], dtype=A.dtype) - A)
        by_input, by_noise = resolvent @ D, resolvent @ B
        network = N if delays is None else N * jnp.exp(-1j * theta * delays)
        loop = jnp.eye(N.shape[0], dtype=A.dtype) - apply_right(network, Y @ by_input)
        inputs = jnp.linalg.solve(loop, apply_right(network, Y @ by_noise))
        states = block_diagonal(by_noise) + apply_left(by_input, inputs)
        signals = apply_left(observed, states)
        return reduce(signals @ jnp.conj(signals.T))

    return jax.lax.map(at, (theta, observed))


def aliases(omega, istep: int, n_alias: int) -> jax.Array:
    """Frequencies of the steps that are the same in samples.

    Parameters
    ----------
    omega : Array, shape (n,)
        Frequencies of the samples, from 0 to pi [rad per sample].
    istep : int
        Sampling period [steps].
    n_alias : int
        Number of further multiples of the sampling frequency on either side, at most.

    Returns
    -------
    Array, shape (n, m)
        [rad per step], from -pi to pi; the first column belongs to ``omega`` itself.
    """
    multiples = np.arange(istep) - istep // 2
    order = np.argsort(np.abs(multiples), kind="stable")
    multiples = multiples[order][: 1 + 2 * n_alias]
    return (omega[:, None] + 2.0 * np.pi * multiples.astype(omega.dtype)) / istep
