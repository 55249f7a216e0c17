"""Record of a fit."""

from dataclasses import dataclass, field

import numpy as np

from ..persistence import serialisable
from ..state import State
from .stopping import StopReason


@serialisable
@dataclass(frozen=True)
class Validation:
    """Validations of a fit; unpacks as (steps, values).

    Attributes
    ----------
    steps : ndarray of int, shape (n,)
        Number of updates before each validation.
    values : ndarray, shape (n,)
        Values of ``validate``; NaN counts as worse than any number.
    aux : dict of str to ndarray, shape (n,)
        Further scalars that ``validate`` returned.
    """

    steps: np.ndarray = field(default_factory=lambda: np.array([], int))
    values: np.ndarray = field(default_factory=lambda: np.array([]))
    aux: dict = field(default_factory=dict)

    def __iter__(self):
        return iter((self.steps, self.values))

    def __repr__(self):
        n = len(self.steps)
        return (
            f"Validation: {self.values[0]:.6g} -> {self.values[-1]:.6g} in {n} evaluations" if n else "Validation: none"
        )


@serialisable
@dataclass
class History:
    """Record of a fit.

    Attributes
    ----------
    loss : ndarray, shape (n_steps + 1,)
        Loss after 0, 1, ... updates; finite.
    aux : dict of str to ndarray
        Further scalars that the loss returned (``has_aux``), one value per step.
    best : State
        State of the smallest validation value; without a validation, of the smallest loss.
    best_step : int
        Number of updates before the best state.
    stop_reason : StopReason
        Reason for which the fit ended; ``str(history.stop_reason)`` is its text.
    wall_time : float
        Duration [s], compilation included.
    validation : Validation
        Empty without ``validate``.
    diverged : str
        Explanation of values that were not finite and ended the fit, or that leave no best state; empty otherwise.
    saved : dict of str to Saved
        Values that the `SavingCallback`s saved, by key; ``history["state"]`` is short for ``history.saved["state"]``.
    """

    loss: np.ndarray
    aux: dict = field(repr=False)
    best: State = field(repr=False)
    best_step: int
    stop_reason: StopReason
    wall_time: float
    validation: Validation = field(default_factory=Validation)
    saved: dict = field(default_factory=dict, repr=False)
    diverged: str = ""

    @property
    def is_linear(self) -> bool:
        """True for a fit by the linear response, which records its nonlinearity at each step."""
        return "nonlinearity" in self.aux

    def __getitem__(self, key):
        if key not in self.saved:
            saved = ", ".join(map(repr, self.saved)) or "nothing"
            raise KeyError(f"{key!r}: the saved keys are {saved}. Fit with callback=SavingCallback({key!r}, ...).")
        return self.saved[key]

    def __repr__(self):
        if not self.loss.size:
            return f"History: nothing fitted; {self.stop_reason}"
        steps, values = self.validation
        validated = f"; validation {values[0]:.6g} -> {values[steps == self.best_step][0]:.6g}" if steps.size else ""
        return (
            f"History: loss {self.loss[0]:.6g} -> {self.loss[-1]:.6g} in {self.loss.size - 1} steps "
            f"(best {self.loss[self.best_step]:.6g} at step {self.best_step}){validated}, {self.wall_time:.1f} s; "
            f"{self.stop_reason}{'; DIVERGED' if self.diverged else ''}"
        )
