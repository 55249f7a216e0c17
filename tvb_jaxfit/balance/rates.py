"""Mean firing rates of a simulator under noise."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.maps import label_text
from ..checks.options import check
from ..dynamics.adjoint import simulate_steps
from ..dynamics.network import coupling_series
from ..dynamics.simulate import Simulate
from ..errors import DomainWarning
from ..parameters import strip_parameters
from ..persistence import serialisable
from ..runtime.programs import Program
from ..state import State
from ..text import value_range
from ..translate.clone import configured_clone
from ..translate.model_expression import model_expression
from ..translate.prepare import prepare
from ..writeback import write_back

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

# Range within which an excitatory population of Deco's model is balanced [Hz], as published.
ACCEPTED = (2.7, 3.3)
# Length of the runs of which a longer one is made [ms]: their states are held in memory.
_RUN = 1000.0


@serialisable
@dataclass(frozen=True, eq=False)
class MeanRates:
    """Mean rates of the regions in a simulation; its text names the regions that leave the accepted range.

    Attributes
    ----------
    rate : ndarray, shape (n_region,)
    labels : list of str
        Of the regions.
    accepted : (float, float)
    length : float
        Of the part of the simulation that the means are of [ms].
    expression : str
    """

    rate: np.ndarray
    labels: list = field(repr=False)
    accepted: tuple[float, float]
    length: float
    expression: str

    @property
    def outside(self) -> dict[str, float]:
        """Mean rates outside the accepted range, by region."""
        low, high = self.accepted
        rates = zip(self.labels, map(float, self.rate), strict=True)
        return {label: rate for label, rate in rates if not low <= rate <= high}

    def __repr__(self):
        low, high = self.accepted
        head = f"mean {self.expression} over {self.length / 1000.0:g} s: {value_range(self.rate)}"
        outside = self.outside
        if not outside:
            return f"{head}; all {len(self.labels)} regions within {low:g} to {high:g}"
        named = ", ".join(f"{label} {rate:.3g}" for label, rate in outside.items())
        return f"{head}; {len(outside)} of {len(self.labels)} regions outside {low:g} to {high:g}: {named}"


def mean_rates(
    sim: "Simulator",
    state: State | None = None,
    *,
    rate: str = "H_e",
    length: float = 10_000.0,
    skip: float = 1_000.0,
    key: jax.Array | None = None,
    accepted: tuple[float, float] = ACCEPTED,
) -> MeanRates:
    """Mean firing rate of each region in a simulation with noise.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified.
    state : State, optional
        Of this simulator, such as ``FitResult.best``: values and start of the simulation. Default: the simulator's own.
    rate : str, optional
        As for `Balanced`.
    length, skip : float, optional
        Length of the simulation, and of its start that is left out [ms].
    key : jax.Array, optional
        JAX key of the noise. Default: ``jax.random.key(0)``.
    accepted : (float, float), optional
        Range outside of which a mean is reported; by default that of feedback inhibition control, 2.7 to 3.3 Hz.

    Returns
    -------
    MeanRates

    Raises
    ------
    ValueError
        An option of another kind; a rate that is no expression of the model's variables.
    UnsupportedComponent
        As of `prepare`.
    """
    check(
        "mean_rates",
        sim=(sim, allowed.simulator),
        state=(state, allowed.optional(allowed.instance(State))),
        rate=(rate, allowed.string),
        length=(length, allowed.number(above=0.0)),
        skip=(skip, allowed.number(minimum=0.0)),
        key=(key, allowed.optional(allowed.random_key)),
        accepted=(accepted, allowed.interval),
    )
    if not skip < length:
        raise ValueError(f"mean_rates: skip = {skip:g} of a length of {length:g} ms; leave out less.")
    labels = [label_text(label) for label in sim.connectivity.region_labels]
    sim = sim if state is None else _at(sim, state)
    longest = max([_RUN, *(float(monitor.period) for monitor in sim.monitors)])
    simulate, state = prepare(sim, longest, jax.random.key(0) if key is None else key)
    run, total, n_before = recorder(simulate, sim, rate), 0.0, 0
    n_steps, n_skipped = math.ceil(length / simulate.dt), math.ceil(skip / simulate.dt)
    while n_before < n_steps:
        added, state = run(state, n_skipped - n_before, n_steps - n_before)
        total, n_before = total + np.asarray(added), n_before + simulate.n_steps
    mean = total / (n_steps - n_skipped)
    return MeanRates(mean, labels, tuple(accepted), (n_steps - n_skipped) * simulate.dt, rate)


def recorder(simulate: Simulate, sim: "Simulator", expression: str) -> Callable:
    """Function that runs a simulation and sums an expression of the model over its steps.

    Parameters
    ----------
    simulate : Simulate
    sim : tvb.simulator.simulator.Simulator
        Of ``simulate``.
    expression : str

    Returns
    -------
    callable
        (state, first, last): plain state, and the steps from which and before which values count. Returns the sum of
        each region (n_node,), and the state after the run.
    """
    sim = configured_clone(sim)
    evaluate = model_expression(sim.model, sim.connectivity.weights.shape[0], expression)

    def summed(state, first, last):
        theta, past, weights = simulate.constants(state), state.initial_conditions, state.connectivity.weights
        inputs, integrator = simulate.inputs(state)
        states, end = simulate_steps(simulate.step, simulate.n_steps, theta, weights, past, inputs)
        coupling = coupling_series(simulate.step, theta, weights, past, states)
        values = jax.lax.map(lambda at: evaluate(theta["model"], *at), (states, coupling))[..., 0]
        index = jnp.arange(simulate.n_steps)[:, None]
        counted = jnp.where((index >= first) & (index < last), values, 0.0)
        return jnp.sum(counted, axis=0), end, integrator

    program = Program(summed)

    def run(state, first, last):
        start = state.current_step
        plain = strip_parameters(state).replace(static={"current_step": 0})
        total, end, integrator = program(plain, jnp.asarray(first), jnp.asarray(last))
        static = {"current_step": start + simulate.n_steps}
        after = state.replace(static=static, initial_conditions=end, integrator=integrator)
        return total, simulate.with_next_noise(after)

    return run


def _at(sim, state):
    """Configured copy of a simulator with the parameters of a state, at its position."""
    sim = configured_clone(sim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)
        write_back(state, sim, position=True)
    return sim
