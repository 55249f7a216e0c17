"""Rounding errors that a simulator's own dynamics amplify, as in chaos, and differences that they explain."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from .comparison import n_equal_samples
from .result import STEP_TOLERANCE, Comparison

# Relative size of perturbations of the initial history: rounding in double precision, and in single precision.
ROUNDING, SINGLE = 1e-14, 1e-7
# A perturbation counts as amplified if its effect exceeds it by this factor.
_AMPLIFIED = 1e2
# Largest ratio of a difference to the effect of a perturbation at the start, since rounding errs at each step.
_MAX_RATIO = 1e5
# Relative effect of a perturbation that is as large as the signal itself.
_SATURATED = 1e-3


def perturb_history(state, size: float, seed: int = 0):
    """State with a perturbed initial history; ``size`` is relative to the largest value of each variable."""
    past = np.asarray(state.initial_conditions)
    scale = np.max(np.abs(past), axis=(0, 2, 3), keepdims=True)
    random = np.random.RandomState(seed).uniform(-1.0, 1.0, past.shape)
    perturbed = past + size * random * np.where(scale > 0.0, scale, 1.0)
    return state.replace(initial_conditions=jnp.asarray(perturbed, state.initial_conditions.dtype))


def growth_rate(signals: list, perturbed: list, size: float) -> float:
    """Rate at which the dynamics amplify a perturbation of the initial history.

    Parameters
    ----------
    signals, perturbed : list of (ndarray, ndarray)
        Times and samples of each monitor, without and with the perturbation.
    size : float
        Relative size of the perturbation.

    Returns
    -------
    float
        [1/ms]; the largest over monitors, 0 if no difference grows.
    """
    rates = [0.0]
    for (time, data), (_, other) in zip(signals, perturbed, strict=True):
        if not data.size:
            continue
        with np.errstate(all="ignore"):
            difference = np.nanmax(np.abs(data - other).reshape(len(data), -1), axis=1, initial=0.0)
            scale = np.max(np.where(np.isfinite(data), np.abs(data), 0.0)) or 1.0
        # Up to the time at which the difference saturates.
        ended = np.flatnonzero(~(difference < 1e-2 * scale))
        last = ended[0] if ended.size else len(difference) - 1
        reached = min(difference[last] / scale, 1.0) if np.isfinite(difference[last]) else 1.0
        if reached > size and time[last] > 0.0:
            rates.append(float(np.log(reached / size) / time[last]))
    return max(rates)


def mark_float64(comparisons, ours, theirs, tolerance, perturbed, steps) -> tuple[Comparison, ...]:
    """Set ``agrees_by_step`` in comparisons with TVB whose history is in float64.

    A difference is explained if every step from TVB's own states equals TVB's, and if a perturbation of the initial
    history by rounding makes runs of the translation differ as much.

    Parameters
    ----------
    comparisons : tuple of Comparison
    ours, theirs : list of (ndarray, ndarray)
        The signals that were compared.
    tolerance : float
    perturbed : tuple of Comparison
        Translation against itself, its initial history perturbed by `ROUNDING`.
    steps : StepByStep
    """

    def is_explained(index, relative, equal_start):
        effect = perturbed[index].relative
        is_amplified = effect > _AMPLIFIED * ROUNDING and relative <= _MAX_RATIO * effect
        return steps.error <= STEP_TOLERANCE and is_amplified and (equal_start or effect > _SATURATED)

    return _mark(comparisons, ours, theirs, tolerance, is_explained)


def mark_float32(comparisons, ours, theirs, tolerance, perturbed, steps, explains) -> tuple[Comparison, ...]:
    """Set ``agrees_by_step`` in comparisons with TVB as it is, whose history is in float32.

    A difference is explained if the translation agrees with TVB in double precision, and TVB as it is differs from that
    as much.

    Parameters
    ----------
    comparisons, ours, theirs, tolerance, steps
        See `mark_float64`.
    perturbed : tuple of Comparison
        Translation against itself, its initial history perturbed by `SINGLE`.
    explains : list of (bool, float)
        For each monitor: agreement with TVB whose history is in float64, and the relative difference of TVB as it is
        from that.
    """

    def is_explained(index, relative, equal_start):
        agrees, difference_of_tvb = explains[index]
        is_tvbs = agrees and difference_of_tvb >= 0.5 * relative
        is_amplified = equal_start or perturbed[index].relative > _AMPLIFIED * SINGLE or steps.overflows_single
        return steps.error <= STEP_TOLERANCE and is_tvbs and is_amplified

    return _mark(comparisons, ours, theirs, tolerance, is_explained)


def _mark(comparisons, ours, theirs, tolerance, is_explained):
    marked = []
    for index, (c, (_, our_data), (_, data)) in enumerate(zip(comparisons, ours, theirs, strict=True)):
        equal_start = n_equal_samples(our_data, data, tolerance) > 0
        differs = not c.relative <= tolerance
        marked.append(replace(c, agrees_by_step=differs and is_explained(index, c.relative, equal_start)))
    return tuple(marked)
