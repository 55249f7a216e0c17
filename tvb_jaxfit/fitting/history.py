"""What happened in a fit."""

from dataclasses import dataclass, field

import numpy as np

from ..persistence import serialisable
from ..state import State


@serialisable
@dataclass(frozen=True)
class Validation:
    """What a fit was held against while it ran: unpacks as (steps, values).

    Attributes
    ----------
    steps : ndarray of int, shape (n,)
        Updates done before each.
    values : ndarray, shape (n,)
        As ``validate`` gave them; NaN counts as worse than any number.
    aux : dict of str to ndarray, shape (n,)
        What ``validate`` returned beside them.
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
    """What happened in a fit.

    Attributes
    ----------
    loss : ndarray, shape (n_steps + 1,)
        Loss after 0, 1, ... updates; finite.
    aux : dict of str to ndarray
        What the loss returned beside itself (``has_aux``), one value a step.
    best : State
        State of the smallest loss; of the smallest validation value where there is one.
    best_step : int
    stop_reason : str
        Why the loop ended.
    wall_time : float
        [s], compilation included.
    validation : Validation
        Empty without ``validate``.
    diverged : str
        What was not finite and why, where that ended the fit or leaves nothing to choose its best state by; else empty.
    saved : dict of str to Saved
        What `SavingCallback`s kept, by their key; ``history["state"]`` is short for ``history.saved["state"]``.
    """

    loss: np.ndarray
    aux: dict = field(repr=False)
    best: State = field(repr=False)
    best_step: int
    stop_reason: str
    wall_time: float
    validation: Validation = field(default_factory=Validation)
    saved: dict = field(default_factory=dict, repr=False)
    diverged: str = ""

    def __getitem__(self, key):
        if key not in self.saved:
            kept = ", ".join(map(repr, self.saved)) or "nothing"
            raise KeyError(f"{key!r}: kept was {kept}. Fit with callback=SavingCallback({key!r}, ...).")
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
