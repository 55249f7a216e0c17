"""Simulations of a fit's result on noise that the fit never saw."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np

from ..dynamics.noise import resample
from ..dynamics.simulate import Simulate
from ..evaluation.scores import format_length
from ..parameters import strip_parameters
from ..persistence import serialisable
from .criterion import Criterion, Scorer

# Number of simulations of a result.
N_RUNS = 3


@serialisable
@dataclass(frozen=True)
class FreshNoise:
    """Correlation with the target of simulations of the best state, on noise that the fit never saw.

    Attributes
    ----------
    r : ndarray, shape (n_runs,)
        NaN for a run without FC.
    length : float
        Length of each run [ms].
    key : str
        Code of the JAX key of the noise.
    terms : dict of str to ndarray, shape (n_runs,)
        Terms of a loss of more than FC, without their weights, by name.
    """

    r: np.ndarray
    length: float
    key: str
    terms: dict = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean of r over the runs."""
        return float(np.mean(self.r))

    def __str__(self):
        n_runs = len(self.r)
        runs = f"{n_runs} run{'s' if n_runs != 1 else ''} of {format_length(self.length)}"
        terms = "".join(f", {name} {np.mean(values):.4f}" for name, values in self.terms.items())
        return f"r {self.mean:.4f}{terms} on noise that the fit never saw ({runs})"


def short_runs(simulate: Simulate, criterion: Criterion) -> Callable:
    """Function of a state and a key to `ScoredRuns` of the simulator's own length; without a key, of one run.

    Parameters
    ----------
    simulate : Simulate
    criterion : Criterion
    """
    scorer, recording = Scorer(criterion), criterion.recording(simulate)

    def run(state, key=None):
        state = criterion.recording_state(strip_parameters(state))
        states = [state] if key is None else [resample(state, each) for each in jax.random.split(key, N_RUNS)]
        recorded = [criterion.recorded(recording(each).data) for each in states]
        return scorer.of_runs(recorded, simulate.n_steps * simulate.dt)

    return run
