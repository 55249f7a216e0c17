"""Result of a fit from its problem and its history; and the ends that it has chosen from."""

from dataclasses import dataclass

import numpy as np

from ..parameters import parameters_of
from ..persistence import serialisable
from ..state import State
from .history import History
from .keys import Purpose, key_as_code
from .problem import FitProblem
from .result import FitResult


@serialisable
@dataclass(frozen=True, eq=False)
class Candidate:
    """End of a fit from one start.

    Attributes
    ----------
    values : dict of str to ndarray
        Fitted values by path; of maps, the coefficients.
    loss, r : float
        On the noise by which the best candidate is selected; NaN where there is none.
    """

    values: dict
    loss: float
    r: float

    @classmethod
    def of(cls, state: State, loss: float, r: float) -> "Candidate":
        """Candidate of a state with `Parameter`s."""
        values = {path: np.asarray(parameter.estimate) for path, parameter in parameters_of(state).items()}
        return cls(values, float(loss), float(r))

    def __repr__(self):
        return f"Candidate(loss={self.loss:.5f}, r={self.r:.4f})"


def result_of(
    problem: FitProblem,
    fitted: State,
    initial: State,
    history: History,
    resolved: dict,
    linear_stage: FitResult | None = None,
    candidates=(),
) -> FitResult:
    """Result of a fit.

    Parameters
    ----------
    problem : FitProblem
    fitted, initial : State
    history : History
    resolved : dict of str to str
        Meaning of the options that were left out, by name.
    linear_stage : FitResult, optional
    candidates : sequence of Candidate, optional
    """
    return FitResult(
        fitted=fitted,
        best=history.best,
        initial=initial,
        history=history,
        target=problem.target,
        simulate=problem.simulate,
        skip_t=problem.skip_t,
        monitor=problem.monitor,
        simulator=problem.simulator,
        linear_stage=linear_stage,
        settings=problem.settings.with_resolved(_resolved(problem) | resolved),
        data=problem.data,
        candidates=list(candidates),
    )


def _resolved(problem):
    """Meaning of the options that were left out, whatever the method."""
    training, validation = (
        key_as_code(problem.request.search.seed, purpose) for purpose in (Purpose.TRAINING, Purpose.VALIDATION)
    )
    keys = f"noise of its own for each step, jax.random.fold_in({training}, step); held out: {validation}"
    return {
        "penalty": "none",
        "fc.skip_t": str(problem.skip_t),
        "fc.monitor": str(problem.monitor),
        "fc.simulation_length": "the simulator's own",
        "noise.resample": keys if "noise" in problem.state.integrator else "no: there is no noise",
        "noise.patience": "none",
        "search.n_starts": "that of the method",
        "run.callback": "none",
        "run.checkpoint": "none",
    }
