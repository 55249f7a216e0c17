"""Where a run stops being finite: the state variable, the region and the time, of a translation and of TVB itself."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.network import coupling_input, start_network


@dataclass(frozen=True)
class Divergence:
    """First state of a run that is not finite.

    Attributes
    ----------
    variable, region : str
        Of its first entry that is not finite.
    value : float
        Of this entry: NaN or infinite.
    n_other : int
        Number of the other entries that are not finite.
    step : int
        Steps of the run until then.
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


def find_divergence(sim, simulate, state):
    """First state of a translated run that is not finite.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Its names of variables and regions.
    simulate : Simulate
        Of it.
    state : State
        Plain.

    Returns
    -------
    Divergence or None
        None where all states are finite.

    Notes
    -----
    The run is repeated step by step, without keeping any state: memory is that of one.
    """
    with simulate.precision(state):
        step, x = jax.jit(lambda state: _first_not_finite(simulate, state))(state)
    return _named(sim, np.asarray(x), int(step), state.current_step, simulate.dt)


def _first_not_finite(simulate, state):
    """(steps, state) of the first state that is not finite, or of the end."""
    step, weights, past = simulate.step, state.connectivity.weights, state.initial_conditions
    theta, (inputs, _) = simulate.constants(state), simulate.inputs(state)
    network, ring = start_network(step, theta, weights, past)

    def goes_on(carry):
        time, x, _ = carry
        return (time < simulate.n_steps) & jnp.all(jnp.isfinite(x))

    def advance(carry):
        time, x, ring = carry
        s, ring = coupling_input(step, theta, weights, network, ring, x, time)
        enters = jax.tree.map(lambda series: jax.lax.dynamic_index_in_dim(series, time, keepdims=False), inputs)
        return time + 1, step.next_state(theta, x, s, enters), ring

    time, x, _ = jax.lax.while_loop(goes_on, advance, (jnp.zeros((), jnp.int32), past[-1], ring))
    return time, x


class DivergenceWatch:
    """The first state of a TVB simulator's own run that is not finite.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Configured copy, which is watched from now on.

    Attributes
    ----------
    found : Divergence or None
    """

    def __init__(self, sim):
        self.divergence, start, update = None, sim.current_step, sim._loop_update_history

        def updated(step, state):
            update(step, state)
            if self.divergence is None:
                self.divergence = _named(sim, np.asarray(state), step - start, start, float(sim.integrator.dt))

        vars(sim)["_loop_update_history"] = updated


def _named(sim, x, step, begin, dt):
    """`Divergence` of a state (n_var, n_node, n_mode); None of a finite one."""
    bad = np.argwhere(~np.isfinite(x))
    if not len(bad):
        return None
    variable, region, _ = bad[0]
    label = sim.connectivity.region_labels[region]
    return Divergence(
        variable=str(sim.model.state_variables[variable]),
        region=label.decode() if isinstance(label, bytes) else str(label),
        value=float(x[tuple(bad[0])]),
        n_other=len(bad) - 1,
        step=step,
        time=float((begin + step) * dt),
    )
