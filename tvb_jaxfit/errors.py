"""Errors and warnings of the package. An error carries all its reasons at once."""

import sys
from collections.abc import Sequence


class UnsupportedComponent(ValueError):
    """A simulator that cannot be translated without loss.

    Parameters
    ----------
    reasons : sequence of str
        Each names the attribute, the value found, the allowed values, and the remedy.

    Attributes
    ----------
    reasons : tuple of str
    """

    def __init__(self, reasons: Sequence[str]):
        self.reasons = tuple(reasons)
        count = "1 reason" if len(self.reasons) == 1 else f"{len(self.reasons)} reasons"
        super().__init__(f"not translated, for {count}:\n" + "\n".join(f"  - {reason}" for reason in self.reasons))

    def __reduce__(self):
        return type(self), (self.reasons,), vars(self)


class FitFailed(ValueError):
    """A fit without a result: the loss or its gradient is not finite at the start values.

    Attributes
    ----------
    linear_stage : FitResult or None
        Result of the preceding linear fit, if there was one.
    """

    linear_stage = None


class NoLinearFit(ValueError):
    """A simulator that cannot be fitted by its linear response.

    Parameters
    ----------
    reason, remedy : str
    function : str, optional
        Name of the function that refuses it.

    Attributes
    ----------
    reason : str
    """

    def __init__(self, reason: str, remedy: str, function: str = "fit"):
        self.reason, self.remedy, self.function = reason, remedy, function
        super().__init__(f"{function}: {reason}. {remedy}")

    def __reduce__(self):
        return type(self), (self.reason, self.remedy, self.function), vars(self)


class NoStableFixedPoint(NoLinearFit):
    """No stable fixed point at any of the values that were tried: there is no linear response to fit."""


class NoEffect(NoLinearFit):
    """FC of the linear response depends on no free value: there is nothing to fit."""


class WorkerDied(RuntimeError):
    """A process that ran a task ended before the task did: killed, or out of memory."""


class PeriodWarning(UserWarning):
    """A monitor's period is not a multiple of dt. TVB rounds it, and so does the translation."""


class DomainWarning(UserWarning):
    """A value that is written back lies outside the domain that TVB declares for it."""


class BalanceWarning(UserWarning):
    """Values of a `Balanced` parameter are below 0, or no value balances the network."""


class HistoryWarning(UserWarning):
    """TVB starts from a sample of the initial conditions other than the last. So does the translation."""


class FrozenWarning(UserWarning):
    """Some TVB parameters are constants of the translation: runs are the same, but the state does not contain them."""


def caller_stacklevel() -> int:
    """Stack level, for `warnings.warn`, of the code outside this package that called it.

    Returns
    -------
    int
        Level for a warning that the calling function issues.
    """
    package, level, frame = __name__.partition(".")[0], 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{package}."):
        level, frame = level + 1, frame.f_back
    return level
