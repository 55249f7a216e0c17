"""Costs of a fit: seconds of each of its stages."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Costs:
    """Clock of the stages of a fit. A stage within another one is counted for itself alone.

    Attributes
    ----------
    seconds : dict of str to float
        Seconds by stage, in the order in which the stages began.
    """

    def __init__(self):
        self.seconds, self._open = {}, []

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time of the block for a stage.

        Parameters
        ----------
        stage : str
        """
        self.seconds.setdefault(stage, 0.0)
        self._count(stage)
        try:
            yield
        finally:
            self._count()

    def timed(self, stage: str, function: Callable) -> Callable:
        """Function whose calls count for a stage."""

        def call(*arguments, **options):
            with self.of(stage):
                return function(*arguments, **options)

        return call

    def _count(self, opened=None):
        """Count the time since the last change for the innermost stage; then open a stage, or close the innermost."""
        now = time.perf_counter()
        if self._open:
            stage, since = self._open[-1]
            self.seconds[stage] += now - since
            self._open[-1] = stage, now
        if opened is not None:
            self._open.append((opened, now))
            return
        self._open.pop()
        if self._open:
            self._open[-1] = self._open[-1][0], now


def format_costs(seconds: dict[str, float]) -> str:
    """Costs as text: the sum, and the seconds of each stage.

    Examples
    --------
    >>> from tvb_jaxfit.fitting.costs import format_costs
    >>> format_costs({"translation": 1.0, "simulation": 3.5})
    '4.5 s (translation 1.0, simulation 3.5)'
    """
    stages = ", ".join(f"{stage} {each:.1f}" for stage, each in seconds.items())
    return f"{sum(seconds.values()):.1f} s ({stages})"
