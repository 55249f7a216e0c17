"""First state of a run that is not finite: state variable, region and time, for a translation and for TVB itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.network import coupling_input, start_network

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator

    from ..dynamics.simulate import Simulate
    from ..state import State


@dataclass(frozen=True)
class Divergence:
    """First state of a run that is not finite.

    Attributes
    ----------
    variable, region : str
        State variable and region of the first value that is not finite.
    value : float
        This value: NaN or infinite.
    n_other : int
        Number of the other values that are not finite.
    step : int
        Number of steps from the start of the run.
    time : float
        [ms]
    """

    variable: str
    region: str
    value: float
    n_other: int
    step: int
    time: float

    def __str__(self):
        others = f" (and {self.n_other} other value{'s' if self.n_other > 1 else ''})" if self.n_other else ""
        return (
            f"state variable {self.variable!r} of region {self.region!r}{others} becomes {self.value} at "
            f"{self.time:g} ms (step {self.step})"
        )


def find_divergence(sim: "Simulator", simulate: "Simulate", state: "State") -> Divergence | None:
    """Find the first state of a translated run that is not finite.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Gives the names of variables and regions.
    simulate : Simulate
        Translation of ``sim``.
    state : State
        Without `Parameter` objects.

    Returns
    -------
    Divergence or None
        None if all states are finite.

    Notes
    -----
    The run is repeated step by step, and keeps one state in memory.
    """
    with simulate.precision(state):
        step, x = jax.jit(lambda state: _first_not_finite(simulate, state))(state)
    return _divergence_at(sim, np.asarray(x), int(step), state.current_step, simulate.dt)


def _first_not_finite(simulate, state):
    """(steps, state) of the first state that is not finite; of the last state if all are finite."""
    step, weights, past = simulate.step, state.connectivity.weights, state.initial_conditions
    theta, (inputs, _) = simulate.constants(state), simulate.inputs(state)
    network, ring = start_network(step, theta, weights, past)

    def is_running(carry):
        time, x, _ = carry
        return (time < simulate.n_steps) & jnp.all(jnp.isfinite(x))

    def advance(carry):
        time, x, ring = carry
        coupling, ring = coupling_input(step, theta, weights, network, ring, x, time)
        u = jax.tree.map(lambda series: jax.lax.dynamic_index_in_dim(series, time, keepdims=False), inputs)
        return time + 1, step.next_state(theta, x, coupling, u), ring

    time, x, _ = jax.lax.while_loop(is_running, advance, (jnp.zeros((), jnp.int32), past[-1], ring))
    return time, x


class DivergenceWatch:
    """Watch on a TVB simulator's own run that records its first state that is not finite.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Configured copy. Its method ``_loop_update_history`` is replaced.

    Attributes
    ----------
    divergence : Divergence or None
        None while all states are finite.
    """

    def __init__(self, sim: "Simulator"):
        self.divergence, start, update = None, sim.current_step, sim._loop_update_history

        def watched_update(step, state):
            update(step, state)
            if self.divergence is None:
                self.divergence = _divergence_at(sim, np.asarray(state), step - start, start, float(sim.integrator.dt))

        vars(sim)["_loop_update_history"] = watched_update


def _divergence_at(sim, x, step, start, dt):
    """`Divergence` of a state (n_var, n_node, n_mode) after a number of steps; None if it is finite."""
    places = np.argwhere(~np.isfinite(x))
    if not len(places):
        return None
    variable, region, _ = places[0]
    label = sim.connectivity.region_labels[region]
    return Divergence(
        variable=str(sim.model.state_variables[variable]),
        region=label.decode() if isinstance(label, bytes) else str(label),
        value=float(x[tuple(places[0])]),
        n_other=len(places) - 1,
        step=step,
        time=float((start + step) * dt),
    )
