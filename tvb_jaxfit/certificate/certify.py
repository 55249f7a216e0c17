"""TVB against its translation, on the same draws, with negative controls."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..markup import notebook_html, table
from ..parameters import strip_parameters
from ..persistence import serialisable
from ..runtime.processes import refuse_forked
from ..translate.assemble import assemble
from ..translate.clone import clone, configured_clone
from ..translate.divergence import DivergenceWatch
from ..translate.prepare import translate_simulator
from ..translate.random_stream import GlobalStreamGuard
from .controls import NO_CHANGE, controls, with_mistake
from .stepwise import ROUNDING, SINGLE, StepByStep, growth, shaken

TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-6
# Of one step: rounding.
STEP_TOLERANCE = 1e-11
# Of a difference of rounding at the start: how much it grows where the dynamics grow it, and as how much more it may
# then show where there is rounding at each step.
_GROWN, _AS_MUCH = 1e2, 1e5


@serialisable
@dataclass(frozen=True)
class Comparison:
    """One monitor of TVB against the translation.

    Attributes
    ----------
    monitor : str
    n_samples : int
    times_equal : bool
    absolute, relative : float
        Largest difference of finite values, and the same over the largest value of TVB's signal; infinite where one
        signal is finite and the other is not.
    agrees_by_step : bool
        Whether a larger difference is rounding that the simulator's own dynamics have grown: every step from TVB's own
        states is TVB's.
    not_finite_from : float or None
        Time from which TVB's signal is not finite [ms].
    n_finite : int or None
        Number of TVB's samples that are finite, where not all are.
    """

    monitor: str
    n_samples: int
    times_equal: bool
    absolute: float
    relative: float
    agrees_by_step: bool = False
    not_finite_from: float | None = None
    n_finite: int | None = None

    def agrees(self, tolerance):
        """Whether times are equal and values differ by no more than the tolerance, relatively, or agree by the step."""
        return self.times_equal and (self.relative <= tolerance or self.agrees_by_step)

    def verdict(self, tolerance):
        """The same in words."""
        if not self.agrees(tolerance):
            return "DIFFERS"
        how = "agrees" if self.relative <= tolerance else "agrees by the step"
        if self.not_finite_from is None:
            return how
        left = f"{self.n_finite} of {self.n_samples} samples finite"
        return f"{how}, both not finite from {self.not_finite_from:g} ms on ({left})"


@serialisable
@dataclass(frozen=True)
class Certificate:
    """Whether a translation gives TVB's numbers, and whether the comparison could have told.

    Attributes
    ----------
    simulator : str
    n_steps : int
    float64_history, float32_history : tuple of Comparison
        Against TVB with a double-precision history, and against TVB as it is (single-precision history).
    negative_controls : dict of str to (float or str)
        Negative controls: largest relative difference of a translation that is wrong on purpose; or why it is not
        applicable. Each must lie above the tolerance.
    tolerance, float32_tolerance : float
    step_error : float
        Largest relative difference of one step of the translation from TVB's own states.
    growth_rate : float
        Rate at which differences grow by the simulator's own dynamics [1/ms]; 0 where they do not.
    diverged : tuple of str
        Where TVB's own run stops being finite: the state variable, the region and the time, and the time of each
        monitor. Empty where it stays finite.
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
    def passed(self):
        """True where both comparisons agree and every applicable control fails.

        Runs that are not finite in the same places agree, see `diverged`.
        """
        return (
            all(c.agrees(self.tolerance) for c in self.float64_history)
            and all(c.agrees(self.float32_tolerance) for c in self.float32_history)
            and all(isinstance(d, str) or not d <= self.tolerance for d in self.negative_controls.values())
        )

    def __bool__(self):
        return self.passed

    def __repr__(self):
        head = f"Certificate: {'PASSED' if self.passed else 'FAILED'}   {self.simulator}, {self.n_steps} steps"
        row = "  {:<44} {:>8} {:>6} {:>11} {:>11}  {}".format
        alike = ", and neither does the translation" if self.passed else ""
        lines = [head, *([f"TVB's own run does not stay finite{alike}:"] if self.diverged else [])]
        lines += [f"  {where}" for where in self.diverged]
        lines.append(row("", "samples", "times", "max |diff|", "relative", ""))
        for title, comparisons, tolerance in (
            ("TVB, history in float64", self.float64_history, self.tolerance),
            ("TVB as it is, history in float32", self.float32_history, self.float32_tolerance),
        ):
            lines.append(f"{title} (at most {tolerance:g} relative)")
            for c in comparisons:
                times, verdict = "equal" if c.times_equal else "DIFFER", c.verdict(tolerance)
                lines.append(row(c.monitor, c.n_samples, times, f"{c.absolute:.1e}", f"{c.relative:.1e}", verdict))
        verdict = "as TVB's" if self.step_error <= STEP_TOLERANCE else "beyond rounding"
        lines.append(
            row("one step from each of TVB's own states", self.n_steps, "", "", f"{self.step_error:.1e}", verdict)
        )
        grow = f"grow e-fold in {1.0 / self.growth_rate:.3g} ms" if self.growth_rate > 0.0 else "do not grow"
        lines.append(f"  differences {grow} by the simulator's own dynamics")
        lines.append(f"Negative controls (must differ by more than {self.tolerance:g})")
        for name, d in self.negative_controls.items():
            if isinstance(d, str):
                lines.append(row(name, "", "", "", "", f"not applicable: {d}"))
            else:
                verdict = "GOES UNNOTICED" if d <= self.tolerance else "noticed"
                lines.append(row(name, "", "", "", f"{d:.1e}", verdict))
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self):
        rows = []
        for title, comparisons, tolerance in (
            ("history in float64", self.float64_history, self.tolerance),
            ("as it is", self.float32_history, self.float32_tolerance),
        ):
            for c in comparisons:
                rows.append([f"TVB, {title}: {c.monitor}", f"{c.relative:.1e}", f"{tolerance:g}", c.verdict(tolerance)])
        for name, d in self.negative_controls.items():
            is_made = not isinstance(d, str)
            verdict = f"not applicable: {d}" if not is_made else "noticed" if not d <= self.tolerance else "missed"
            rows.append([f"control: {name}", f"{d:.1e}" if is_made else "", f"{self.tolerance:g}", verdict])
        return notebook_html(
            f"Certificate: {'PASSED' if self.passed else 'FAILED'}",
            f"{self.simulator}, {self.n_steps} steps; controls must differ by more than their tolerance",
            table(["", "relative difference", "tolerance", "verdict"], rows),
        )


def certify(sim, simulation_length=None, tolerance=TOLERANCE, float32_tolerance=FLOAT32_TOLERANCE):
    """Run TVB and its translation on the same draws, and compare every monitor.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified: TVB runs on copies.
    simulation_length : float, optional
        [ms]; the simulator's own by default.
    tolerance, float32_tolerance : float, optional
        Largest difference allowed, relative to the largest value of TVB's signal, from TVB with a double-precision
        history and from TVB as it is.

    Returns
    -------
    Certificate
        True where it passed; ``print`` it.

    Raises
    ------
    RuntimeError
        Without 64-bit mode; in a process that was forked from one that had used JAX.
    UnsupportedComponent
        As `prepare`.

    Notes
    -----
    Where the simulator's own dynamics grow differences, as in chaos, two runs come apart by rounding alone. One step of
    the translation from each of TVB's own states shows whether it is TVB's: a run that differs by more than the
    tolerance still agrees where every such step does, where a start apart by rounding makes runs of the translation
    differ as much, and where both begin alike. So does TVB as it is where TVB with a double-precision history differs
    from it as much.

    A negative control is not applicable where TVB itself, with the same mistake, gives the same numbers.
    """
    refuse_forked("certify")
    check(
        "certify",
        tolerance=(tolerance, allowed.number(minimum=0.0)),
        float32_tolerance=(float32_tolerance, allowed.number(minimum=0.0)),
    )
    if not jax.config.jax_enable_x64:
        raise RuntimeError(
            "certify compares to rounding, which takes double precision: "
            'call jax.config.update("jax_enable_x64", True) before any other use of JAX.'
        )
    parts = translate_simulator(sim)
    lifted, stock = configured_clone(sim, float64_history=True), configured_clone(sim)
    simulate, state = assemble(parts, simulation_length, reference=clone(lifted))
    state = strip_parameters(state)
    length = simulate.n_steps * simulate.dt
    ours = _signals(simulate, state)
    before, steps = clone(lifted), StepByStep(simulate, state)
    steps.watch(lifted)
    watches = [DivergenceWatch(lifted), DivergenceWatch(stock)]
    of_lifted, of_stock = (_signals_of_tvb(copy, simulate.n_steps, length) for copy in (lifted, stock))
    steps.finish()
    near, nearly = (_signals(simulate, shaken(state, size)) for size in (ROUNDING, SINGLE))
    grown, single, tvbs = (_compare(simulate, a, b) for a, b in ((near, ours), (nearly, ours), (of_lifted, of_stock)))
    against_lifted, against_stock = _compare(simulate, ours, of_lifted), _compare(simulate, ours, of_stock)
    excuses = [_grown(n.relative, steps) for n in grown]
    against_lifted = _by_step(against_lifted, ours, of_lifted, tolerance, excuses)
    facts = zip(against_lifted, tvbs, single, strict=True)
    excuses = [_of_tvb(c.agrees(tolerance), t.relative, n.relative, steps) for c, t, n in facts]
    return Certificate(
        simulator=simulate.description,
        n_steps=simulate.n_steps,
        float64_history=against_lifted,
        float32_history=_by_step(against_stock, ours, of_stock, float32_tolerance, excuses),
        negative_controls=_noticed(simulate, state, ours, of_lifted, before, tolerance),
        tolerance=tolerance,
        float32_tolerance=float32_tolerance,
        step_error=steps.worst,
        growth_rate=growth(ours, near, ROUNDING),
        diverged=_where_not_finite(against_lifted, *(watch.divergence for watch in watches)),
    )


def _where_not_finite(compared, lifted, stock):
    """Where TVB's own runs, with a double-precision history and as it is, stop being finite."""
    runs = (("history in float64", lifted), ("history in float32", stock))
    told = [f"{history}: {found}" for history, found in runs if found is not None]
    return (
        *told,
        *(
            f"{c.monitor}: not finite from {c.not_finite_from:g} ms on"
            for c in compared
            if c.not_finite_from is not None
        ),
    )


def _signals(simulate, state):
    return [(time, np.asarray(data)) for time, data in simulate(state)]


def _signals_of_tvb(sim, n_steps, length):
    """Result of sim.run for a number of steps, whatever length / dt rounds to."""
    sim.simulation_length = length
    samples = [[] for _ in sim.monitors]
    for output in GlobalStreamGuard(sim).iterate(sim(n_steps=n_steps)):
        for kept, sample in zip(samples, output, strict=True):
            if sample is not None:
                kept.append(sample)
    return [(np.array([t for t, _ in kept]), np.array([x for _, x in kept])) for kept in samples]


def _compare(simulate, ours, theirs):
    comparisons = []
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        monitor = simulate.monitors[index]
        absolute, relative = _apart(our_data, data)
        finite = np.ones(0, bool) if our_data.shape != data.shape else _rows(np.isfinite(data))
        lost = np.flatnonzero(~finite)
        name = f"monitors[{index}] {monitor.name}, {monitor.istep * monitor.dt:g} ms"
        not_finite_from, n_finite = (float(time[lost[0]]), int(finite.sum())) if len(lost) else (None, None)
        equal = np.array_equal(our_time, time)
        comparisons.append(
            Comparison(name, len(data), equal, absolute, relative, not_finite_from=not_finite_from, n_finite=n_finite)
        )
    return tuple(comparisons)


def _apart(ours, theirs):
    """Largest difference, absolute and relative to the largest value; infinite where only one of both is finite."""
    if ours.shape != theirs.shape:
        return np.inf, np.inf
    finite = np.isfinite(theirs)
    if not np.array_equal(np.isfinite(ours), finite):
        return np.inf, np.inf
    absolute = float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0))
    return absolute, absolute / (float(np.max(np.abs(theirs[finite]), initial=0.0)) or 1.0)


def _alike(ours, theirs, tolerance):
    """Number of samples before the first that differs or is not finite."""
    if ours.shape != theirs.shape or not len(theirs):
        return 0
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0.0) or 1.0
        alike = _rows(np.abs(ours - theirs) <= tolerance * scale)
    return len(alike) if alike.all() else int(np.argmin(alike))


def _rows(values):
    return np.all(values.reshape(len(values), -1), axis=1)


def _worst(comparisons):
    return max(c.relative for c in comparisons)


def _by_step(compared, ours, theirs, tolerance, excuse):
    """Comparisons, with a note where a difference beyond the tolerance is rounding that the dynamics have grown."""
    marked = []
    for c, (_, our_data), (_, data), excused in zip(compared, ours, theirs, excuse, strict=True):
        begins_alike = 0 < _alike(our_data, data, tolerance)
        marked.append(replace(c, agrees_by_step=not c.relative <= tolerance and excused(c.relative, begins_alike)))
    return tuple(marked)


def _grown(near, steps):
    """Whether a difference from TVB with a double-precision history is grown by the dynamics, as one of rounding is.

    Each step from TVB's own states is TVB's; and a run of the translation that starts apart by rounding comes to differ
    from it as much.
    """

    def excused(relative, begins_alike):
        grows = near > _GROWN * ROUNDING and relative <= _AS_MUCH * near
        return steps.worst <= STEP_TOLERANCE and grows and (begins_alike or near > 1e-3)

    return excused


def _of_tvb(agrees, apart, near, steps):
    """Whether a difference from TVB as it is is that of TVB with a double-precision history, grown from rounding."""

    def excused(relative, begins_alike):
        is_tvbs = agrees and apart >= 0.5 * relative
        return (
            steps.worst <= STEP_TOLERANCE
            and is_tvbs
            and (begins_alike or near > _GROWN * SINGLE or steps.overflows_single)
        )

    return excused


def _noticed(simulate, state, ours, of_lifted, lifted, tolerance):
    """By control, how far the translation that is wrong on purpose lies off, or why there is nothing to notice."""
    noticed, length = {}, simulate.n_steps * simulate.dt
    # Later samples, which the dynamics have driven apart by themselves, say nothing of a mistake.
    alike = [_alike(data, theirs, tolerance) for (_, data), (_, theirs) in zip(ours, of_lifted, strict=True)]
    alike = alike if any(alike) else [None] * len(alike)

    def apart(signals):
        cut = [[(t[:n], x[:n]) for (t, x), n in zip(some, alike, strict=True)] for some in (signals, of_lifted)]
        return _worst(_compare(simulate, *cut))

    for name, control in controls(simulate, state):
        if isinstance(control, str):
            noticed[name] = control
            continue
        noticed[name] = apart(_signals(*control.wrong))
        if noticed[name] <= tolerance:
            # Whether TVB itself, with the same mistake, is any different.
            mistaken = _signals_of_tvb(with_mistake(lifted, control), simulate.n_steps, length)
            if apart(mistaken) <= NO_CHANGE:
                noticed[name] = f"{control.idle}, in TVB neither"
    return noticed
