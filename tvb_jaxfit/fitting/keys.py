"""Random keys of a fit: each purpose draws from a key of its own, which the seed of the fit decides."""

from enum import IntEnum

import jax
import numpy as np


class Purpose(IntEnum):
    """Purposes for which a fit draws random numbers. Their values are part of the keys.

    Members
    -------
    TRAINING
        Noise of the steps; each step folds its number into the key.
    VALIDATION
        Noise on which the best step is selected.
    CONFIRMATION
        Noise of the simulations that select and confirm the result of a linear fit.
    COMPARISON
        Noise on which a linear fit and its refinement are compared.
    FRESH
        Noise that the fit never sees, of the r that is reported.
    SWEEP
        Points of a sweep of starts.
    SAMPLING
        Sampling error of the FC whose loss a linear fit expects.
    PERTURBATION
        Values that show whether FC depends on a parameter.
    SAMPLES
        Samples that a linear fit draws from the linear response.
    RATES
        Noise of the mean rates of balanced regions, which are reported.
    SECOND_CONFIRMATION
        Noise on which a point on the way of a linear fit, found by simulations, is confirmed again.
    """

    TRAINING = 1
    VALIDATION = 2
    CONFIRMATION = 3
    COMPARISON = 4
    FRESH = 5
    SWEEP = 6
    SAMPLING = 7
    PERTURBATION = 8
    SAMPLES = 9
    RATES = 10
    SECOND_CONFIRMATION = 11


def noise_key(seed: int, purpose: Purpose) -> jax.Array:
    """JAX key of the noise of a purpose.

    Parameters
    ----------
    seed : int
    purpose : Purpose

    Returns
    -------
    Array
        A typed key.
    """
    return jax.random.fold_in(jax.random.key(seed), int(purpose))


def key_as_code(seed: int, purpose: Purpose) -> str:
    """Code that makes the key of `noise_key`.

    Examples
    --------
    >>> from tvb_jaxfit.fitting.keys import Purpose, key_as_code
    >>> key_as_code(0, Purpose.VALIDATION)
    'jax.random.fold_in(jax.random.key(0), 2)'
    """
    return f"jax.random.fold_in(jax.random.key({seed}), {int(purpose)})"


def generator(seed: int, purpose: Purpose) -> np.random.Generator:
    """Generator of NumPy's random numbers of a purpose.

    Parameters
    ----------
    seed : int
    purpose : Purpose

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng((seed, int(purpose)))
