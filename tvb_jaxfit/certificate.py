"""TVB against its translation, on the same draws, with negative controls."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from . import options as allowed
from .dynamics.monitors import Bold
from .options import check
from .parameters import plain
from .processes import refuse_forked
from .translate.assemble import assemble
from .translate.clone import clone, configured_clone
from .translate.simulator import translated
from .translate.stream import Aside

LIFTED_TOLERANCE = 1e-9
STOCK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Comparison:
    """One monitor of TVB against the translation.

    Attributes
    ----------
    monitor : str
    samples : int
    times_equal : bool
    absolute, relative : float
        Largest difference, and the same over the largest value of TVB's signal.
    """

    monitor: str
    samples: int
    times_equal: bool
    absolute: float
    relative: float

    def agrees(self, tolerance):
        """Whether times are equal and values differ by no more than the tolerance, relatively."""
        return self.times_equal and self.relative <= tolerance


@dataclass(frozen=True)
class Certificate:
    """Whether a translation gives TVB's numbers, and whether the comparison could have told.

    Attributes
    ----------
    simulator : str
    n_steps : int
    lifted, stock : tuple of Comparison
        Against TVB with a double-precision history, and against TVB as it is (single-precision history).
    controls : dict of str to (float or str)
        Negative controls: largest relative difference of a translation that is wrong on purpose; or why it is not
        applicable. Each must lie above the tolerance.
    lifted_tolerance, stock_tolerance : float
    """

    simulator: str
    n_steps: int
    lifted: tuple[Comparison, ...]
    stock: tuple[Comparison, ...]
    controls: dict
    lifted_tolerance: float
    stock_tolerance: float

    @property
    def passed(self):
        """True where both comparisons agree and every applicable control fails."""
        return (
            all(c.agrees(self.lifted_tolerance) for c in self.lifted)
            and all(c.agrees(self.stock_tolerance) for c in self.stock)
            and all(isinstance(d, str) or not d <= self.lifted_tolerance for d in self.controls.values())
        )

    def __bool__(self):
        return self.passed

    def __repr__(self):
        head = f"Certificate: {'PASSED' if self.passed else 'FAILED'}   {self.simulator}, {self.n_steps} steps"
        row = "  {:<44} {:>8} {:>6} {:>11} {:>11}  {}".format
        lines = [head, row("", "samples", "times", "max |diff|", "relative", "")]
        for title, comparisons, tolerance in (
            ("TVB, history in float64", self.lifted, self.lifted_tolerance),
            ("TVB as it is, history in float32", self.stock, self.stock_tolerance),
        ):
            lines.append(f"{title} (at most {tolerance:g} relative)")
            for c in comparisons:
                verdict = "agrees" if c.agrees(tolerance) else "DIFFERS"
                times = "equal" if c.times_equal else "DIFFER"
                lines.append(row(c.monitor, c.samples, times, f"{c.absolute:.1e}", f"{c.relative:.1e}", verdict))
        lines.append(f"Negative controls (must differ by more than {self.lifted_tolerance:g})")
        for name, d in self.controls.items():
            if isinstance(d, str):
                lines.append(row(name, "", "", "", "", f"not applicable: {d}"))
            else:
                verdict = "GOES UNNOTICED" if d <= self.lifted_tolerance else "noticed"
                lines.append(row(name, "", "", "", f"{d:.1e}", verdict))
        return "\n".join(line.rstrip() for line in lines)


def certify(sim, simulation_length=None, tolerance=LIFTED_TOLERANCE, stock_tolerance=STOCK_TOLERANCE):
    """Run TVB and its translation on the same draws, and compare every monitor.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified: TVB runs on copies.
    simulation_length : float, optional
        [ms]; the simulator's own by default.
    tolerance, stock_tolerance : float, optional
        Largest difference allowed, relative to the largest value of TVB's signal, from TVB with a double-precision
        history and from TVB as it is.

    Returns
    -------
    Certificate
        True where it passed; ``print`` it.

    Raises
    ------
    RuntimeError
        Without 64-bit mode.
    UnsupportedComponent
        As `prepare`.
    """
    refuse_forked("certify")
    check(
        "certify",
        tolerance=(tolerance, allowed.number(least=0.0)),
        stock_tolerance=(stock_tolerance, allowed.number(least=0.0)),
    )
    if not jax.config.jax_enable_x64:
        raise RuntimeError(
            "certify compares to rounding, which takes double precision: "
            'call jax.config.update("jax_enable_x64", True) before any other use of JAX.'
        )
    parts = translated(sim)
    lifted, stock = configured_clone(sim, lifted=True), configured_clone(sim)
    simulate, state = assemble(parts, simulation_length, reference=clone(lifted))
    state = plain(state)
    length = simulate.n_steps * simulate.dt
    ours = _signals(simulate, state)
    of_lifted, of_stock = (_signals_of_tvb(copy, simulate.n_steps, length) for copy in (lifted, stock))
    return Certificate(
        simulator=simulate.description,
        n_steps=simulate.n_steps,
        lifted=_compare(simulate, ours, of_lifted),
        stock=_compare(simulate, ours, of_stock),
        controls={
            name: wrong if isinstance(wrong, str) else _worst(_compare(simulate, _signals(*wrong), of_lifted))
            for name, wrong in _controls(simulate, state)
        },
        lifted_tolerance=tolerance,
        stock_tolerance=stock_tolerance,
    )


def _signals(simulate, state):
    return [(time, np.asarray(data)) for time, data in simulate(state)]


def _signals_of_tvb(sim, n_steps, length):
    """Result of sim.run for a number of steps, whatever length / dt rounds to."""
    sim.simulation_length = length
    samples = [[] for _ in sim.monitors]
    for output in Aside(sim).each(sim(n_steps=n_steps)):
        for kept, sample in zip(samples, output, strict=True):
            if sample is not None:
                kept.append(sample)
    return [(np.array([t for t, _ in kept]), np.array([x for _, x in kept])) for kept in samples]


def _compare(simulate, ours, theirs):
    comparisons = []
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        monitor = simulate.monitors[index]
        if our_data.shape == data.shape:
            absolute = float(np.max(np.abs(our_data - data), initial=0.0))
            relative = absolute / float(np.max(np.abs(data))) if absolute else 0.0
        else:
            absolute = relative = np.inf
        name = f"monitors[{index}] {monitor.name}, {monitor.istep * monitor.dt:g} ms"
        comparisons.append(Comparison(name, len(data), np.array_equal(our_time, time), absolute, relative))
    return tuple(comparisons)


def _worst(comparisons):
    return max(c.relative for c in comparisons)


def _controls(simulate, state):
    """Translations that are wrong on purpose: name to (simulate, state), or to why there is none."""
    weights = state.connectivity.weights

    def with_connections(other):
        return simulate, state.replace(connectivity=state.connectivity.replace(weights=other))

    connected = bool(jnp.any(weights != 0.0))
    directed = not bool(jnp.all(weights == weights.T))
    yield "coupling removed", with_connections(jnp.zeros_like(weights)) if connected else "there are no connections"
    yield "weights transposed", with_connections(weights.T) if directed else "the weights are symmetric"
    if "noise" in state.integrator:
        noise = state.integrator.noise
        shifted = noise.replace(draws=jnp.roll(noise.draws, 1, axis=0))
        noisy = bool(jnp.any(noise.nsig > 0.0))
        wrong = simulate, state.replace(integrator=state.integrator.replace(noise=shifted))
        yield "noise shifted by one step", wrong if noisy else "nsig is zero"
    else:
        yield "noise shifted by one step", "the integrator is deterministic"
    if simulate.step.delays is not None:
        at_once = replace(simulate, step=replace(simulate.step, delays=None))
        yield "delays ignored", (at_once, state.replace(initial_conditions=state.initial_conditions[-1:]))
    else:
        yield "delays ignored", "there are none"
    if "stimulus" in state:
        silent, applied = _without_stimulus(simulate, state)
        yield "stimulus removed", (silent, state) if applied else "it is zero"
    else:
        yield "stimulus removed", "there is none"
    if any(isinstance(monitor, Bold) for monitor in simulate.monitors):
        shifted = tuple(replace(m, shift=1) if isinstance(m, Bold) else m for m in simulate.monitors)
        yield "BOLD kernel shifted by one sample", (replace(simulate, monitors=shifted), state)
    else:
        yield "BOLD kernel shifted by one sample", "there is no Bold monitor"


def _without_stimulus(simulate, state):
    """Translation whose stimulus is zero, and whether that changes it."""

    def silent(state):
        enters, after = simulate.inputs(state)
        return enters | {"stimulus": jnp.zeros_like(enters["stimulus"])}, after

    applied = bool(jnp.any(simulate.inputs(state)[0]["stimulus"] != 0.0))
    return replace(simulate, inputs=silent), applied
