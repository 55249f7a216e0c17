"""Simulations of a fit's result on noise that the fit never saw."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.noise import resample
from ..dynamics.simulate import Simulate
from ..evaluation.scores import format_length
from ..loss import fc_corr
from ..observation import compute_fc
from ..parameters import strip_parameters
from ..persistence import serialisable
from ..runtime.programs import Program
from ..state import State

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
    """

    r: np.ndarray
    length: float
    key: str

    @property
    def mean(self) -> float:
        """Mean of r over the runs."""
        return float(np.mean(self.r))

    def __str__(self):
        n_runs = len(self.r)
        runs = f"{n_runs} run{'s' if n_runs != 1 else ''} of {format_length(self.length)}"
        return f"r {self.mean:.4f} on noise that the fit never saw ({runs})"


def fc_or_nan(simulate: Simulate, state: State, monitor: int, skip_t: int) -> np.ndarray:
    """FC of the run from a state; NaN if it has none.

    Parameters
    ----------
    simulate : Simulate
    state : State
    monitor, skip_t : int
    """
    try:
        return np.asarray(compute_fc(simulate(strip_parameters(state)).data[monitor], skip_t))
    # Samples that are not finite, or constant.
    except ValueError:
        n_node = state.connectivity.weights.shape[0]
        return np.full((n_node, n_node), np.nan)


def score_of(loss: Callable, target: np.ndarray) -> Callable:
    """Function of an FC to its loss and its correlation with a target; not finite for an FC that has none.

    Parameters
    ----------
    loss : callable
        (fc, target) to a scalar.
    target : ndarray, shape (n_node, n_node)
    """
    # In a program, values that have no correlation give NaN, and no error.
    scores = Program(lambda fc: (loss(fc, target), fc_corr(fc, target, missing="ignore")), shares_constants=True)

    def score(fc):
        value, r = scores(jnp.asarray(fc))
        return float(value), float(r)

    return score


def r_with(target: np.ndarray, fcs) -> np.ndarray:
    """Correlation of several FC with a target; NaN for one that has none."""
    r = Program(lambda fc: fc_corr(fc, target, missing="ignore"), shares_constants=True)
    return np.array([float(r(jnp.asarray(fc))) for fc in fcs])


def short_runs(simulate: Simulate, monitor: int, skip_t: int) -> Callable:
    """Function of a state and a key to (FC of several runs, their length [ms]), in runs of the simulator's own length.

    Parameters
    ----------
    simulate : Simulate
    monitor, skip_t : int
    """

    def run(state, key):
        keys = jax.random.split(key, N_RUNS)
        fcs = [fc_or_nan(simulate, resample(state, each), monitor, skip_t) for each in keys]
        return np.stack(fcs), simulate.n_steps * simulate.dt

    return run
