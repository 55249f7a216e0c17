"""FC and lagged correlation, of recordings and of a linear response, and their agreement."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..evaluation.baselines import correlation
from ..observation.moments import lagged_covariance
from ..observation.signals import read_signals, refuse_constant


class Observed(NamedTuple):
    """Correlations of the signals of all regions.

    Attributes
    ----------
    fc : Array, shape (n_node, n_node)
        Correlation, with ones on the diagonal.
    lagged : Array, shape (n_node, n_node)
        cov(x_i(t + lag), x_j(t)) over both standard deviations; the diagonal is the autocorrelation.
    """

    fc: jax.Array
    lagged: jax.Array


class Agreement(NamedTuple):
    """Agreement of two `Observed`.

    Attributes
    ----------
    fc, lagged : float
        Pearson's r between their entries off the diagonal.
    loss : float
        See `difference`.
    """

    fc: float
    lagged: float
    loss: float


def normalised(covariance, lagged) -> Observed:
    """Correlations from covariances, of the signals at the same time and at the lag."""
    std = jnp.sqrt(jnp.diagonal(covariance))
    scale = std[:, None] * std[None, :]
    return Observed(covariance / scale, lagged / scale)


def difference(ours: Observed, theirs: Observed) -> jax.Array:
    """Mean squared difference of FC off the diagonal, plus that of all lagged correlations."""
    n_node = ours.fc.shape[0]
    of_fc = jnp.sum(jnp.square(ours.fc - theirs.fc)) / (n_node * (n_node - 1))
    return of_fc + jnp.mean(jnp.square(ours.lagged - theirs.lagged))


def agreement(ours: Observed, theirs: Observed) -> Agreement:
    """Agreement of two: see `Agreement`."""
    ours, theirs = (Observed(*(np.asarray(each, float) for each in both)) for both in (ours, theirs))
    return Agreement(
        correlation(ours.fc, theirs.fc), correlation(ours.lagged, theirs.lagged), float(difference(ours, theirs))
    )


def mean_of(several: Sequence[Any]) -> Any:
    """Mean of several named tuples, entry by entry."""
    return type(several[0])(*(sum(each) / len(several) for each in zip(*several, strict=True)))


def observe(signals: jax.Array, lag: int) -> Observed:
    """Correlations of signals (n_time, n_node), at the same time and at a lag [samples]."""
    return normalised(lagged_covariance(signals, 0), lagged_covariance(signals, lag))


def read_recordings(recordings, lag: int, skip_t: int, n_node: int) -> list[jax.Array]:
    """Signals of each session, (n_time, n_node).

    Parameters
    ----------
    recordings : array_like, or sequence of array_like
        Of shape (n_time, n_node) or (n_time, 1, n_node, 1).
    lag : int
        [samples]
    skip_t : int
        Number of samples to skip at the beginning of each session.
    n_node : int
        Number of regions.

    Returns
    -------
    list of Array

    Raises
    ------
    ValueError, TypeError
        With the name of the session: another number of regions, too few samples, constant or non-finite signals.
    """
    is_single = not isinstance(recordings, (list, tuple))
    sessions = []
    for index, recording in enumerate([recordings] if is_single else recordings):
        name = "recordings" if is_single else f"recordings[{index}]"
        try:
            # Half of a recording still has a correlation at the lag.
            signals = read_signals(recording, "effective connectivity", skip_t, minimum=2 * (lag + 3))
            refuse_constant(signals, "correlation")
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        if signals.shape[1] != n_node:
            raise ValueError(f"{name}: {signals.shape[1]} signals; give one for each of the {n_node} regions.")
        sessions.append(signals)
    if not sessions:
        raise ValueError("recordings: empty; give one array (n_time, n_node) for each session.")
    return sessions
