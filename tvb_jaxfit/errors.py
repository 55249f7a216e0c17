"""Errors and warnings that carry all their reasons at once."""


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
    before : FitResult or None
        The linear fit that it went on from.
    """

    before = None


class PeriodWarning(UserWarning):
    """A monitor's period is not a multiple of dt: TVB rounds it, and so does the translation."""


class DomainWarning(UserWarning):
    """A value written back lies outside the domain that TVB declares for it."""


class HistoryWarning(UserWarning):
    """TVB starts from another sample of the initial conditions than the last: so does the translation."""


class FrozenWarning(UserWarning):
    """Parameters that TVB holds are constants of the translation: a run is TVB's, but they are not in the state."""
