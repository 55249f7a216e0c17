"""Criterion of a fit: the loss of FC, and weighted distances of other observables from their values in the data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.simulate import Simulate
from ..loss import fc_corr
from ..observation import compute_fc
from ..runtime.programs import Program
from ..state import State
from ..targets.target import Target


@dataclass(frozen=True, eq=False)
class Criterion:
    """Quantity that a fit minimises, as a function of samples or of a linear response.

    Attributes
    ----------
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
        Empirical FC.
    others : dict of str to Target
        Other observables, by name.
    monitor : int
        Index of the monitor that records the signals.
    skip_t : int
        Number of samples left out.
    period : float
        Of the samples [ms].
    n_time : int
        Number of samples of a simulation that are used.
    """

    loss: Callable
    target: np.ndarray
    others: dict[str, Target] = field(default_factory=dict)
    monitor: int = 0
    skip_t: int = 0
    period: float = 1.0
    n_time: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms; none if there is no other than FC."""
        return ("fc", *self.others) if self.others else ()

    def recording(self, simulate: Simulate) -> Simulate:
        """Simulation that also records what targets need besides the signals."""
        recorders = [each.recorder(simulate) for each in self._observing_states]
        return replace(simulate, monitors=(*simulate.monitors, *recorders)) if recorders else simulate

    def recording_state(self, state: State) -> State:
        """State for `recording`."""
        nodes = [State() for _ in self._observing_states]
        return state.replace(monitors=[*state.monitors, *nodes]) if nodes else state

    def recorded(self, data) -> tuple:
        """The signals, and the samples of recorders, of the data of all monitors of `recording`."""
        return (data[self.monitor], *data[len(data) - len(self._observing_states) :])

    @property
    def _observing_states(self):
        return [each for each in self.others.values() if each.observes_states]

    def of_data(self, recorded: tuple) -> tuple[jax.Array, dict]:
        """Value of the criterion.

        Parameters
        ----------
        recorded : tuple of Array
            See `recorded`.

        Returns
        -------
        value : Array, shape ()
        scores : dict of str to Array
            ``"r"``, correlation of FC with the target; with other targets also each term without its weight, by name.
        """
        samples, *of_recorders = recorded
        fc = compute_fc(samples, self.skip_t)
        loss, r = self.loss(fc, self.target), fc_corr(fc, self.target, missing="ignore")
        signals, of_recorders = samples[self.skip_t :, 0, :, 0], iter(of_recorders)
        distances = {
            name: each.distance_of(
                each.of_record(next(of_recorders)) if each.observes_states else each.of_signal(signals, self.period)
            )
            for name, each in self.others.items()
        }
        return self.total(loss, distances), {"r": r} | self.terms(loss, distances)

    def of_response(self, response, key: jax.Array) -> dict[str, jax.Array]:
        """Distances of the other observables that a linear response expects, by name.

        Parameters
        ----------
        response : LinearResponse
        key : Array
            JAX key of the normal draws of samples, for observables that are not stationary.
        """
        n_drawn = {name: each.n_samples(self.n_time) for name, each in self.others.items() if not each.is_stationary}
        distances = {}
        if n_drawn:
            signals = response.sample(key, max(n_drawn.values()), self.monitor)[:, 0, :, 0]
        for name, each in self.others.items():
            if name in n_drawn:
                simulated = each.of_signal(signals[: n_drawn[name]], self.period)
            else:
                simulated = each.of_response(response, self.monitor)
            distances[name] = each.distance_of(simulated)
        return distances

    def total(self, loss: jax.Array, distances: dict[str, jax.Array]) -> jax.Array:
        """Weighted sum of the loss of FC and of the other distances."""
        return loss + sum(self.others[name].weight * distance for name, distance in distances.items())

    def terms(self, loss: jax.Array, distances: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Terms without their weights, by name; empty if there is no other than FC."""
        return {"fc": loss, **distances} if self.others else {}


class Scorer:
    """Scores of simulations by a criterion, in a compiled program: samples that have no FC give NaN, and no error.

    Parameters
    ----------
    criterion : Criterion
    """

    def __init__(self, criterion: Criterion):
        self.criterion = criterion

        def scores(recorded):
            value, of_terms = criterion.of_data(recorded)
            return value, of_terms, compute_fc(recorded[0], criterion.skip_t)

        self._program = Program(scores, shares_constants=True)

    def __call__(self, recorded: tuple) -> tuple[float, dict[str, float], np.ndarray]:
        """(value, scores, fc) of the samples of one simulation; see `Criterion.of_data`."""
        value, scores, fc = self._program(tuple(jnp.asarray(each) for each in recorded))
        return float(value), {name: float(score) for name, score in scores.items()}, np.asarray(fc)

    def of_runs(self, recorded: list[tuple], length: float) -> "ScoredRuns":
        """Scores of several simulations of a length [ms]."""
        values, scores, fcs = zip(*map(self, recorded), strict=True)
        by_name = {name: np.array([each[name] for each in scores]) for name in scores[0]}
        return ScoredRuns(np.array(values), by_name, np.stack(fcs), list(recorded), length)


class ScoredRuns(NamedTuple):
    """Simulations of one state on noise of their own, and their scores.

    Attributes
    ----------
    values : ndarray, shape (n,)
        Of the criterion; NaN for a simulation without FC.
    scores : dict of str to ndarray, shape (n,)
        See `Criterion.of_data`.
    fc : ndarray, shape (n, n_node, n_node)
    recorded : list of tuple
        Samples of each simulation; see `Criterion.recorded`.
    length : float
        Of each simulation [ms].
    """

    values: np.ndarray
    scores: dict
    fc: np.ndarray
    recorded: list
    length: float

    @property
    def means(self) -> dict[str, float]:
        """Mean of each score over the simulations, by name."""
        return {name: float(np.mean(values)) for name, values in self.scores.items()}
