"""Reasons for which a fit ends: values for programs, and their text for people."""

from dataclasses import dataclass
from enum import Enum

from ..persistence import serialisable


@serialisable
class StopKind(Enum):
    """Kinds of reasons for which a fit ends."""

    MAX_STEPS = "max_steps"
    CALLBACK = "callback"
    PATIENCE = "patience"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    ERROR = "error"
    LINEAR_DONE = "linear_done"
    LINEAR_INTERRUPTED = "linear_interrupted"
    SWEEP_INTERRUPTED = "sweep_interrupted"
    FRESH_INTERRUPTED = "fresh_interrupted"


_INTERRUPTS = {
    *(StopKind.INTERRUPTED, StopKind.LINEAR_INTERRUPTED, StopKind.SWEEP_INTERRUPTED, StopKind.FRESH_INTERRUPTED)
}
_TEXTS = {
    StopKind.MAX_STEPS: "all {count} step{s} done",
    StopKind.CALLBACK: "{detail} after {count} update{s}",
    StopKind.PATIENCE: "{count} validation{s} brought nothing better than step {detail}",
    StopKind.DIVERGED: "{detail}; the last good state is kept",
    StopKind.INTERRUPTED: "interrupted after {count} evaluation{s}",
    StopKind.ERROR: "{detail} after {count} evaluation{s}",
    StopKind.LINEAR_DONE: "{count} start{s} followed; {detail}",
    StopKind.LINEAR_INTERRUPTED: "interrupted; {count} start{s} followed; {detail}",
    StopKind.SWEEP_INTERRUPTED: "interrupted in the sweep of starts; {detail}",
    StopKind.FRESH_INTERRUPTED: "{detail}; interrupted before a stage after it",
}


@serialisable
@dataclass(frozen=True)
class StopReason:
    """The reason for which a fit ended; ``str`` gives its text.

    Attributes
    ----------
    kind : StopKind
    count : int
        Number of steps (``MAX_STEPS``), updates (``CALLBACK``), validations (``PATIENCE``), evaluations
        (``INTERRUPTED``, ``ERROR``) or starts of a linear fit (``LINEAR_DONE``, ``LINEAR_INTERRUPTED``).
    detail : str
        Reason of the callback, best step, values that are not finite, type of the error, or result of the linear fit.

    Examples
    --------
    >>> from tvb_jaxfit.fitting.stopping import StopKind, StopReason
    >>> reason = StopReason(StopKind.INTERRUPTED, 5)
    >>> str(reason), reason.interrupted
    ('interrupted after 5 evaluations', True)
    """

    kind: StopKind
    count: int = 0
    detail: str = ""

    @property
    def interrupted(self) -> bool:
        """True after an interrupt (Ctrl-C)."""
        return self.kind in _INTERRUPTS

    def __str__(self):
        return _TEXTS[self.kind].format(count=self.count, s="" if self.count == 1 else "s", detail=self.detail)
