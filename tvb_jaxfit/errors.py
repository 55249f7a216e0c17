"""Errors and warnings that carry all their reasons at once."""

import sys


class UnsupportedComponent(ValueError):
    """A simulator that would not be translated without loss.

    Parameters
    ----------
    reasons : sequence of str
        Each names the attribute, what was found, what is allowed, and the remedy.

    Attributes
    ----------
    reasons : tuple of str
    """

    def __init__(self, reasons):
        self.reasons = tuple(reasons)
        count = "1 reason" if len(self.reasons) == 1 else f"{len(self.reasons)} reasons"
        super().__init__(f"not translated, for {count}:\n" + "\n".join(f"  - {reason}" for reason in self.reasons))

    def __reduce__(self):
        return type(self), (self.reasons,), vars(self)


class FitFailed(ValueError):
    """A fit has no result: its loss or its gradient is not finite at the start values.

    Attributes
    ----------
    linear_stage : FitResult or None
        The linear fit that it went on from.
    """

    linear_stage = None


class PeriodWarning(UserWarning):
    """A monitor's period is not a multiple of dt: TVB rounds it, and so does the translation."""


class DomainWarning(UserWarning):
    """A value written back lies outside the domain that TVB declares for it."""


class HistoryWarning(UserWarning):
    """TVB starts from another sample of the initial conditions than the last: so does the translation."""


class FrozenWarning(UserWarning):
    """Parameters that TVB holds are constants of the translation: a run is TVB's, but they are not in the state."""


def caller_stacklevel():
    """Stack level, as `warnings.warn` counts it, of the code that called this package.

    Returns
    -------
    int
        For a warning of the function that asks.
    """
    package, level, frame = __name__.partition(".")[0], 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{package}."):
        level, frame = level + 1, frame.f_back
    return level
