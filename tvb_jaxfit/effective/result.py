"""Result of an estimate of effective connectivity."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..evaluation.baselines import correlation
from ..linear_response.response import LinearResponse
from ..linear_response.simulator import LinearizedSimulator
from ..markup import notebook_html
from ..parameters import strip_parameters
from ..runtime.processes import PicklableMixin
from ..state import State
from ..writeback import WriteBackReport, write_back
from .observed import Agreement, Observed, agreement, mean_of, observe, read_recordings

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


@dataclass(frozen=True, eq=False)
class EffectiveConnectivity(PicklableMixin):
    """Directed connection weights, with what they explain and how far they can be trusted.

    Made by `effective_connectivity`. All matrices are [target, source].

    Attributes
    ----------
    weights : ndarray, shape (n_node, n_node)
        Fitted to all sessions.
    structural_weights : ndarray, shape (n_node, n_node)
        Structural weights times their fitted scale, towards which the penalty draws.
    weights_of_halves : ndarray, shape (2, n_node, n_node)
        Fitted to one half of the sessions each, with the same penalty.
    lag : int
        Lag [samples].
    penalty : float
        Penalty with the smallest held-out loss; all sessions were fitted with half of it.
    penalties : ndarray, shape (n_penalty,)
        Penalties that were tried, in descending order.
    training_losses, held_out_losses : ndarray, shape (n_penalty,)
        Difference of FC and lagged correlations from the half that was fitted, and from the other half; means over both
        halves.
    scores : dict of str to Agreement
        ``fc`` and ``lagged``, Pearson's r off the diagonal, and ``loss``; of the held-out half also of what is trivial.
    nonlinearity : float
        Largest `LinearResponse.nonlinearity`.
    predicted : Observed
        ``fc`` and ``lagged``, the correlations of the linear response.
    state : State
        With weights and other fitted values as parameters, at rest in its fixed point.
    linear : LinearizedSimulator
    """

    weights: np.ndarray
    structural_weights: np.ndarray
    weights_of_halves: np.ndarray
    lag: int
    penalty: float
    penalties: np.ndarray
    training_losses: np.ndarray
    held_out_losses: np.ndarray
    scores: dict[str, Agreement]
    nonlinearity: float
    predicted: Observed = field(repr=False)
    state: State = field(repr=False)
    linear: LinearizedSimulator = field(repr=False)

    @property
    def support(self) -> np.ndarray:
        """True where there is a connection, shape (n_node, n_node)."""
        return self.structural_weights > 0.0

    @property
    def spread(self) -> np.ndarray:
        """Standard error of the weights, from the difference between the halves: half of it, (n_node, n_node)."""
        return np.abs(self.weights_of_halves[0] - self.weights_of_halves[1]) / 2.0

    @property
    def reliability(self) -> float:
        """Pearson's r between the weights of the halves, over the connections."""
        return correlation(*self.weights_of_halves, self.support)

    @property
    def reliability_of_directions(self) -> float:
        """Pearson's r between the halves of the difference between the two directions of each connection."""
        first, second = (each - each.T for each in self.weights_of_halves)
        return correlation(first, second, self.support | self.support.T)

    @property
    def response(self) -> LinearResponse:
        """Linear response with the estimated weights; computed at each access."""
        return self.linear(strip_parameters(self.state))

    def score(self, recordings: ArrayLike | list, skip_t: int = 0) -> Agreement:
        """Agreement with recordings that the estimate has not used.

        Parameters
        ----------
        recordings : array_like of shape (n_time, n_node), or list of such
        skip_t : int, optional
            Number of samples to skip at the beginning of each session.

        Returns
        -------
        Agreement
            ``fc`` and ``lagged``, Pearson's r off the diagonal, and ``loss``.

        Raises
        ------
        ValueError, TypeError
            As of `effective_connectivity`.
        """
        sessions = read_recordings(recordings, self.lag, skip_t, len(self.weights))
        return agreement(self.predicted, mean_of([observe(each, self.lag) for each in sessions]))

    def write_back(self, sim: "Simulator") -> WriteBackReport:
        """Write the weights, and the other fitted values, into a simulator: see `tvb_jaxfit.write_back`."""
        return write_back(self.state, sim)

    def __repr__(self):
        width, of_directions = max(map(len, self.scores)), self.reliability_of_directions
        rows = [
            f"  {name:{width}}  {each.fc:7.3f}  {each.lagged:7.3f}  {each.loss:9.5f}"
            for name, each in self.scores.items()
        ]
        return "\n".join(
            [
                f"EffectiveConnectivity: {self.linear.simulate.description}",
                f"  {np.sum(self.support)} connections; lag {self.lag} samples",
                f"  penalty {self.penalty:g}, chosen by the held-out halves",
                f"  {'':{width}}     r FC  r lagged     loss",
                *rows,
                f"  weights of both halves: r {self.reliability:.3f}; differences of directions: r {of_directions:.3f}",
                f"  largest nonlinearity: {self.nonlinearity:.3f}",
            ]
        )

    def _repr_html_(self):
        return notebook_html(*repr(self).splitlines())
