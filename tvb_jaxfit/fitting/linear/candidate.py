"""End of a minimisation by the linear response, and what simulations from there say about it."""

from dataclasses import dataclass, field

import numpy as np

from ...loss import fc_corr
from ...state import State

# A linear fit is confirmed if the noise-corrected r of simulations is at most _R_TOLERANCE below its own, and the
# noise-corrected RMS difference between their FC and its own at most _FC_TOLERANCE.
_R_TOLERANCE, _FC_TOLERANCE = 0.05, 0.1
# Minimum share of the variance between pairs that is attributed to FC, and not to its sampling error: recordings that
# are mostly noise are corrected to twice their r at most.
_MIN_RELIABILITY = 0.25


@dataclass(frozen=True)
class LinearFitCandidate:
    """End of a minimisation, with the results of simulations from there.

    Attributes
    ----------
    fitted : State
        At its fixed point.
    trace : ndarray, shape (n, 3 + n_term)
        Loss, r, nonlinearity, and the terms of a loss of more than FC, at the start values, at the start of the
        minimisation, and at each improvement.
    loss, r : float
        Mean over simulations on new noise. Infinite and NaN after an interrupt, without simulations; both NaN if the
        simulations are not finite.
    noise_corrected_r, fc_distance : float
        r, and RMS difference between FC of the simulations and of the linear response, as expected of infinitely long
        simulations; see `noise_corrected`.
    terms : dict of str to float
        Mean terms of a loss of more than FC over the simulations, by name.
    """

    fitted: State = field(repr=False)
    trace: np.ndarray = field(repr=False)
    loss: float = np.inf
    r: float = np.nan
    noise_corrected_r: float = np.nan
    fc_distance: float = np.nan
    terms: dict = field(default_factory=dict, repr=False)

    @property
    def is_confirmed(self) -> bool:
        """True if simulations agree with the linear response, apart from their sampling error."""
        return self.noise_corrected_r >= self.trace[-1, 1] - _R_TOLERANCE and self.fc_distance <= _FC_TOLERANCE

    @property
    def is_diverged(self) -> bool:
        """True if simulations were run, and have no FC."""
        return np.isnan(self.loss)

    def __str__(self):
        if self.is_diverged:
            return f"linear response: r {self.trace[-1, 1]:.3f}; simulations on fresh noise are not finite"
        if np.isnan(self.r):
            return f"linear response: r {self.trace[-1, 1]:.3f}; not simulated"
        agrees = "" if self.is_confirmed else ", which they do not confirm"
        return (
            f"simulations on fresh noise: r {self.r:.3f}, {self.noise_corrected_r:.3f} without sampling error; "
            f"linear response: {self.trace[-1, 1]:.3f}{agrees} (their FC differ by {self.fc_distance:.3f})"
        )


def noise_corrected(fcs, fc, target) -> tuple[float, float]:
    """Agreement of recordings with an FC, corrected for their sampling error.

    Parameters
    ----------
    fcs : array_like, shape (n, n_node, n_node)
        FC of two recordings or more.
    fc : array_like, shape (n_node, n_node)
        FC that they are compared with.
    target : array_like, shape (n_node, n_node)

    Returns
    -------
    r : float
        Correlation of the recordings with the target.
    fc_distance : float
        RMS difference between the recordings and ``fc``.

    Notes
    -----
    Off the diagonal, and where the target has data. The variance between recordings is a part of the variance of their
    mean, and of its difference from ``fc``, and is subtracted: Spearman's correction for attenuation, of the recordings
    alone; the sampling error of the target remains.

    References
    ----------
    Spearman, C. (1904). The proof and measurement of association between two things. Am. J. Psychol. 15(1), 72-101.

    Examples
    --------
    >>> fc = np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    >>> draw = np.array([[0.0, 0.1, -0.2], [0.1, 0.0, 0.1], [-0.2, 0.1, 0.0]])
    >>> r, fc_distance = noise_corrected([fc + draw, fc - draw], fc, fc)
    >>> r > 1.0 - 1e-12, fc_distance < 0.01
    (True, True)
    """
    pairs = ~np.eye(np.shape(fc)[0], dtype=bool) & ~np.isnan(np.asarray(target))
    fcs, mean = np.asarray(fcs), np.mean(fcs, axis=0)
    error_variance = np.mean(fcs.var(0, ddof=1)[pairs]) / fcs.shape[0]
    reliability = max(1.0 - error_variance / max(np.var(mean[pairs]), 1e-300), _MIN_RELIABILITY)
    r = np.clip(fc_corr(mean, target, missing="ignore") / np.sqrt(reliability), -1.0, 1.0)
    mean_square = np.mean((mean - np.asarray(fc))[pairs] ** 2)
    return float(r), float(np.sqrt(max(mean_square - error_variance, 0.0)))
