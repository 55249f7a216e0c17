"""Result of `certify`, and its text for the terminal and for notebooks."""

from dataclasses import dataclass
from typing import NamedTuple

from ..markup import notebook_html, table
from ..persistence import serialisable

# Largest relative difference of one step: rounding.
STEP_TOLERANCE = 1e-11


@serialisable
@dataclass(frozen=True)
class Comparison:
    """Signals of one monitor: TVB against the translation.

    Attributes
    ----------
    monitor : str
    n_samples : int
    times_equal : bool
    absolute, relative : float
        Largest difference of finite values, and the same divided by the largest value of TVB's signal; infinite if only
        one of the signals is finite somewhere.
    agrees_by_step : bool
        True if a larger difference is a rounding error that the simulator's dynamics amplify: each step from TVB's own
        states equals TVB's.
    not_finite_from : float or None
        Time from which TVB's signal is not finite [ms].
    n_finite : int or None
        Number of TVB's finite samples, if not all are finite.
    """

    monitor: str
    n_samples: int
    times_equal: bool
    absolute: float
    relative: float
    agrees_by_step: bool = False
    not_finite_from: float | None = None
    n_finite: int | None = None

    def agrees(self, tolerance: float) -> bool:
        """Check that times are equal, and values differ by at most the relative tolerance or agree by the step."""
        return self.times_equal and (self.relative <= tolerance or self.agrees_by_step)

    def verdict(self, tolerance: float) -> str:
        """Result of `agrees` as text."""
        if not self.agrees(tolerance):
            return "DIFFERS"
        how = "agrees" if self.relative <= tolerance else "agrees by the step"
        if self.not_finite_from is None:
            return how
        samples = f"{self.n_finite} of {self.n_samples} samples finite"
        return f"{how}, both not finite from {self.not_finite_from:g} ms on ({samples})"


class _Row(NamedTuple):
    """Row of the table of a certificate, as text."""

    label: str
    n_samples: object = ""
    times: str = ""
    absolute: str = ""
    relative: str = ""
    verdict: str = ""

    def line(self):
        """Line of the text for the terminal."""
        return "  {:<44} {:>8} {:>6} {:>11} {:>11}  {}".format(*self).rstrip()


class _Section(NamedTuple):
    """Rows of a certificate with the same tolerance."""

    title: str
    tolerance: float
    rows: list


@serialisable
@dataclass(frozen=True)
class Certificate:
    """Comparison of a translation with TVB, and a check that the comparison would notice mistakes.

    Attributes
    ----------
    simulator : str
    n_steps : int
    float64_history, float32_history : tuple of Comparison
        Against TVB with its history in float64, and against TVB as it is, with its history in float32.
    negative_controls : dict of str to (float or str)
        Largest relative difference of a translation with a deliberate mistake; or the reason why the mistake is not
        applicable. Each difference must exceed the tolerance.
    tolerance, float32_tolerance : float
        Largest relative difference allowed for ``float64_history`` and for ``float32_history``.
    step_error : float
        Largest relative difference of one step of the translation from TVB's own states.
    growth_rate : float
        Rate at which the simulator's own dynamics amplify differences [1/ms]; 0 if they do not.
    diverged : tuple of str
        State variable, region and time at which TVB's own run stops being finite, and the time for each monitor. Empty
        if it stays finite.
    """

    simulator: str
    n_steps: int
    float64_history: tuple[Comparison, ...]
    float32_history: tuple[Comparison, ...]
    negative_controls: dict
    tolerance: float
    float32_tolerance: float
    step_error: float = 0.0
    growth_rate: float = 0.0
    diverged: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if both comparisons agree and every applicable control is noticed.

        Runs that stop being finite in the same places agree, see ``diverged``.
        """
        return (
            all(c.agrees(self.tolerance) for c in self.float64_history)
            and all(c.agrees(self.float32_tolerance) for c in self.float32_history)
            and all(isinstance(d, str) or self._is_noticed(d) for d in self.negative_controls.values())
        )

    def __bool__(self) -> bool:
        return self.passed

    def _is_noticed(self, difference):
        # NaN counts as noticed.
        return not difference <= self.tolerance

    @property
    def _title(self):
        return f"Certificate: {'PASSED' if self.passed else 'FAILED'}"

    def _comparisons(self):
        """Sections of the comparisons with TVB."""
        for title, comparisons, tolerance in (
            ("TVB, history in float64", self.float64_history, self.tolerance),
            ("TVB as it is, history in float32", self.float32_history, self.float32_tolerance),
        ):
            rows = [
                _Row(
                    c.monitor,
                    c.n_samples,
                    "equal" if c.times_equal else "DIFFER",
                    f"{c.absolute:.1e}",
                    f"{c.relative:.1e}",
                    c.verdict(tolerance),
                )
                for c in comparisons
            ]
            yield _Section(title, tolerance, rows)

    def _controls(self):
        """Section of the negative controls."""
        rows = []
        for name, difference in self.negative_controls.items():
            if isinstance(difference, str):
                rows.append(_Row(name, verdict=f"not applicable: {difference}"))
            else:
                verdict = "noticed" if self._is_noticed(difference) else "NOT NOTICED"
                rows.append(_Row(name, relative=f"{difference:.1e}", verdict=verdict))
        return _Section("Negative controls", self.tolerance, rows)

    def __repr__(self):
        lines = [f"{self._title}   {self.simulator}, {self.n_steps} steps"]
        if self.diverged:
            alike = ", and neither does the translation" if self.passed else ""
            lines += [f"TVB's own run does not stay finite{alike}:", *(f"  {where}" for where in self.diverged)]
        lines.append(_Row("", "samples", "times", "max |diff|", "relative").line())
        for section in self._comparisons():
            lines.append(f"{section.title} (at most {section.tolerance:g} relative)")
            lines += [row.line() for row in section.rows]
        verdict = "as TVB's" if self.step_error <= STEP_TOLERANCE else "beyond rounding"
        step = _Row("one step from each of TVB's own states", self.n_steps, "", "", f"{self.step_error:.1e}", verdict)
        growth = f"grow e-fold in {1.0 / self.growth_rate:.3g} ms" if self.growth_rate > 0.0 else "do not grow"
        lines += [step.line(), f"  differences {growth} by the simulator's own dynamics"]
        controls = self._controls()
        lines.append(f"{controls.title} (must differ by more than {controls.tolerance:g})")
        return "\n".join([*lines, *(row.line() for row in controls.rows)])

    def _repr_html_(self):
        rows = [
            [f"{title}: {row.label}", row.relative, f"{tolerance:g}", row.verdict]
            for title, tolerance, section_rows in (*self._comparisons(), self._controls()._replace(title="control"))
            for row in section_rows
        ]
        return notebook_html(
            self._title,
            f"{self.simulator}, {self.n_steps} steps; controls must differ by more than their tolerance",
            table(["", "relative difference", "tolerance", "verdict"], rows),
        )
