"""simulate: the state in, monitor samples and the state to go on from out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np

from ..parameters import plain
from .adjoint import trajectory
from .monitors import Monitor
from .step import Step


@jax.tree_util.register_pytree_node_class
class Result:
    """Samples of one run: unpacks as the result of ``sim.run()``, one (time, data) a monitor.

    Attributes
    ----------
    time : tuple of ndarray
        Sampling times of each monitor [ms], always double precision, equal to TVB's.
    data : tuple of Array, each of shape (n_time, n_voi, n_node, n_mode)
    final_state : State
        The state from which a next run goes on exactly as TVB's second ``sim.run()`` would: history, stocks, step
        count and random stream.
    """

    def __init__(self, simulate, start, data, after):
        self._simulate, self._start, self.data, self._after = simulate, start, data, after

    @cached_property
    def time(self):
        """Sampling times of each monitor [ms]."""
        simulate = self._simulate
        return tuple(monitor.times(self._start, simulate.n_steps) for monitor in simulate.monitors)

    @cached_property
    def final_state(self):
        """State at the end of the run; its noise is drawn when it is asked for."""
        return self._simulate.go_on(self._after)

    def __iter__(self):
        return iter(zip(self.time, self.data, strict=True))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return list(self)[index]

    def __repr__(self):
        shapes = ", ".join(
            f"{type(monitor).__name__} {data.shape}"
            for monitor, data in zip(self._simulate.monitors, self.data, strict=True)
        )
        return f"Result({shapes})"

    def tree_flatten(self):
        """Samples and state, for JAX."""
        return (self.data, self._after), (self._simulate, self._start)

    @classmethod
    def tree_unflatten(cls, aux, children):
        """Result from JAX's flat form."""
        return cls(*aux, *children)


@dataclass(frozen=True, eq=False)
class Simulate:
    """A simulator as a pure function of its state: ``(time, bold), = simulate(state)``.

    Attributes
    ----------
    step : Step
    constants : callable
        State to what the step needs of it, worked out once a run.
    monitors : tuple of Monitor
    n_steps : int
    dt : float
        [ms]
    observed : tuple of int
        State variables that monitors see.
    description : str
        One line for people.

    Notes
    -----
    Same state, same result. jit, grad and vmap apply; parameters in the state may be marked (`Parameter`) or plain.
    """

    step: Step
    constants: Callable
    monitors: tuple[Monitor, ...]
    n_steps: int
    dt: float
    observed: tuple[int, ...]
    description: str = field(repr=False)

    def __call__(self, state):
        """Run from a state.

        Parameters
        ----------
        state : State
            Of this simulator (see `prepare`); not modified.

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            Where a parameter has a shape that is neither global nor regional.
        """
        state = plain(state)
        data, after = self._run(state)
        return Result(self, state.current_step, data, after)

    @cached_property
    def _run(self):
        return jax.jit(self._run_plain)

    def _run_plain(self, state):
        start = state.current_step
        draws = state.integrator.noise.draws if "noise" in state.integrator else None
        if draws is not None and draws.shape[0] != self.n_steps:
            raise ValueError(
                f"State.integrator.noise.draws: {draws.shape[0]} steps of noise for {self.n_steps} steps of "
                "simulation. Use the state that came with this simulate."
            )
        states = trajectory(
            self.step,
            self.n_steps,
            self.constants(state),
            state.connectivity.weights,
            state.initial_conditions[-1],
            draws,
        )
        seen = states if self.observed == tuple(range(states.shape[1])) else states[:, np.asarray(self.observed)]
        samples = [
            monitor.sample(leaves, seen, start) for monitor, leaves in zip(self.monitors, state.monitors, strict=True)
        ]
        after = state.replace(
            static={"current_step": start + self.n_steps},
            initial_conditions=states[-1:],
            monitors=[leaves.replace(**new) for leaves, (_, new) in zip(state.monitors, samples, strict=True)],
        )
        return tuple(data for data, _ in samples), after

    def go_on(self, state):
        """State after a run with the draws of the next one in place."""
        if "noise" not in state.integrator:
            return state
        draws = state.stream.draws(state.current_step, self.n_steps, state.integrator.noise.draws.shape[1:])
        dtype = state.integrator.noise.draws.dtype
        noise = state.integrator.noise.replace(draws=jax.numpy.asarray(draws, dtype))
        return state.replace(integrator=state.integrator.replace(noise=noise))

    def __repr__(self):
        lines = [self.description, f"{self.n_steps} steps of {self.dt:g} ms"]
        for index, monitor in enumerate(self.monitors):
            lines.append(f"monitors[{index}]: {type(monitor).__name__} every {monitor.istep * monitor.dt:g} ms")
        return "simulate: " + "\n  ".join(lines)
