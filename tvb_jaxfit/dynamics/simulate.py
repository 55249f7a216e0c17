"""simulate: the state in, monitor samples and the state to go on from out."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import jax
import jax.numpy as jnp

from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.programs import Program
from .adjoint import block_sizes, simulate_steps
from .buffers import check_buffers
from .monitors import Monitor, summary
from .real_state import real_state
from .step import Step, coupling_series

_PRECISIONS = {True: "double", False: "single"}


@jax.tree_util.register_pytree_node_class
class Result(PicklableMixin):
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
            f"{monitor.name} {data.shape}" for monitor, data in zip(self._simulate.monitors, self.data, strict=True)
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
    inputs : callable
        State to what enters at each step, (n_steps, ...) arrays, and to the leaves that a next run goes on from.
    monitors : tuple of Monitor
    n_steps : int
    dt : float
        [ms]
    observe : callable
        States (n_steps, n_var, n_node, n_mode) to what monitors see of them.
    description : str
        One line for people.
    recipe : callable or None
        No arguments to such a `Simulate`, by which one that was pickled is made again.

    Notes
    -----
    Same state, same result. jit, grad and vmap apply; parameters in the state may be marked (`Parameter`) or plain.

    It pickles, by the recipe: in another process it is translated and compiled again, and gives the same numbers, in
    the precision of the process that it comes from.
    """

    # How it is made again is no part of what it is.
    _transient = ("recipe", "_x64", "_is_loaded")

    step: Step
    constants: Callable
    inputs: Callable
    monitors: tuple[Monitor, ...]
    n_steps: int
    dt: float
    observe: Callable
    description: str = field(repr=False)
    # Of what was changed by `dataclasses.replace` there is none.
    recipe: Callable | None = field(init=False, default=None, repr=False)
    # Whether it was prepared in 64-bit mode; and whether it was pickled, so that it runs in that mode whatever the
    # process's own is.
    _x64: bool | None = field(init=False, default=None, repr=False)
    _is_loaded: bool = field(init=False, default=False, repr=False)

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
            Where an array has another shape than the simulator's, or is masked, complex, or not of numbers.
        RuntimeError
            In a process that was forked from one that had used JAX; in another precision than that of `prepare`.
        """
        refuse_forked("simulate")
        state = real_state(state)
        start = state.current_step
        with self.precision(state):
            data, after = self._run(self._from_cycle(state))
        return Result(self, start, data, after.replace(static={"current_step": start + self.n_steps}))

    def trace(self, state):
        """Trace a run, as its first call would, without running it: whatever fails in it fails here."""
        with self.precision():
            self._run.trace(self._from_cycle(real_state(state)))

    def _from_cycle(self, state):
        """State whose steps count from the last at which all windows began anew: runs that begin alike compile once."""
        return state.replace(static={"current_step": state.current_step % self._cycle})

    @cached_property
    def _run(self):
        # Of a copy: JAX keeps what it made of a function until the function is gone, and would so keep it for ever
        # where what it made holds this one.
        return Program(replace(self)._simulate_state)

    @property
    def _cycle(self):
        """Steps after which all windows of all monitors begin anew."""
        return math.lcm(*(monitor.cycle for monitor in self.monitors))

    def precision(self, state=None):
        """Context in which the simulator runs: the precision in which it was prepared.

        Parameters
        ----------
        state : State, optional
            That it runs from.

        Raises
        ------
        RuntimeError
            Where 64-bit mode was switched on or off since `prepare`, or the state is of the other precision.
        """
        expected = self._x64
        if expected is None:
            return contextlib.nullcontext()
        if expected != jax.config.jax_enable_x64 and not self._is_loaded:
            raise RuntimeError(
                f"simulate: prepared in {_PRECISIONS[expected]} precision, and 64-bit mode was switched "
                f"{'off' if expected else 'on'} since. Call prepare(sim) again in the mode that is meant "
                '(jax.config.update("jax_enable_x64", True) before it gives double precision).'
            )
        # One that is missing is named later.
        dtype = getattr(getattr(state, "initial_conditions", None), "dtype", None)
        if dtype is not None and dtype.itemsize != (8 if expected else 4):
            raise RuntimeError(
                f"simulate: prepared in {_PRECISIONS[expected]} precision, and State.initial_conditions is of "
                f"{dtype}. Use the state that came with this simulate, or call prepare(sim) "
                "again."
            )
        return contextlib.nullcontext() if expected == jax.config.jax_enable_x64 else jax.enable_x64(expected)

    def with_monitor(self, index):
        """The same simulator with one monitor alone."""
        alone = replace(self, monitors=self.monitors[index : index + 1])
        return (
            alone
            if self.recipe is None
            else alone.with_factory(replace(self.recipe, monitor=index), self._x64, self._is_loaded)
        )

    def with_factory(self, recipe, x64=None, is_loaded=False):
        """The same one, to be made again by a recipe; prepared in a precision."""
        new = replace(self)
        vars(new).update(recipe=recipe, _x64=x64, _is_loaded=is_loaded)
        return new

    def __reduce__(self):
        if self.recipe is None:
            raise TypeError("a Simulate that was put together or changed by hand does not pickle; prepare() gives one.")
        return _loaded, (self.recipe, self._x64)

    def __getattr__(self, name):
        # Of one that was pickled: made again when anything of it is first asked for.
        if name not in _MADE or vars(self).get("recipe") is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        refuse_forked("simulate")
        # Of its own values, in the midst of a function that JAX traces, too.
        with self.precision(), jax.ensure_compile_time_eval():
            made = self.recipe()
        vars(self).update({name: getattr(made, name) for name in _MADE})
        return getattr(self, name)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def _simulate_state(self, state):
        start = state.current_step
        weights, past = state.connectivity.weights, state.initial_conditions
        theta = self.constants(state)
        inputs, integrator = self.inputs(state)
        check_buffers(self.step, self.monitors, self.n_steps, state)
        wanted = [self._summary(monitor, start, past) for monitor in self.monitors]

        size = math.gcd(*block_sizes(self.n_steps, past))
        pairs = zip(self.monitors, state.monitors, strict=True)
        needed = [monitor.needs(leaves, start, self.n_steps, size) for monitor, leaves in pairs]

        def take(needed, states):
            seen = self.observe(states)
            whole = states if any(monitor.observes_coupling for monitor in self.monitors) else None
            parts = [None if of is None else m.parts(of, seen) for m, of in zip(self.monitors, needed, strict=True)]
            return {key: summary(*key, seen) for key in dict.fromkeys(wanted)}, parts, whole

        run = simulate_steps(self.step, self.n_steps, theta, weights, past, inputs, take, needed)
        (taken, parts, states), last = run
        coupling = None if states is None else coupling_series(self.step, theta, weights, past, states)
        samples = []
        for monitor, leaves, (kind, n), *more in zip(self.monitors, state.monitors, wanted, needed, parts, strict=True):
            observed = coupling if monitor.observes_coupling else taken[kind, n]
            more = () if more[1] is None else more
            samples.append(monitor.coarse(n).sample(leaves, observed, start // n, *more))
        after = state.replace(
            static={"current_step": start + self.n_steps},
            initial_conditions=last,
            integrator=integrator,
            monitors=[leaves.replace(**new) for leaves, (_, new) in zip(state.monitors, samples, strict=True)],
        )
        return tuple(data for data, _ in samples), after

    def _summary(self, monitor, start, past):
        """(kind, n): in place of every step, a monitor is given one sample for ``n`` steps."""
        kind, n = monitor.window
        # A mean that is begun or left unfinished keeps its single steps in the monitor's stock.
        unfinished = kind == "mean" and (start % n or self.n_steps % n)
        if monitor.observes_coupling or unfinished:
            return kind, 1
        return kind, math.gcd(n, start, self.n_steps, *block_sizes(self.n_steps, past))

    def go_on(self, state):
        """State after a run with the draws of the next one in place."""
        with self.precision():
            return self._drawn(state)

    def _drawn(self, state):
        start = state.current_step
        if "noise" in state.integrator:
            noise = drawn(state.integrator.noise, start, start + self.n_steps, self.n_steps)
            state = state.replace(integrator=state.integrator.replace(noise=noise))
        monitors = list(state.monitors)
        for index, (monitor, node) in enumerate(zip(self.monitors, monitors, strict=True)):
            if "obsnoise" in node:
                n_samples = monitor.steps(start, self.n_steps).size
                noise = drawn(node.obsnoise, start, start + self.n_steps, n_samples)
                monitors[index] = node.replace(obsnoise=noise)
        return state.replace(monitors=monitors)

    def __repr__(self):
        lines = [self.description, f"{self.n_steps} steps of {self.dt:g} ms"]
        for index, monitor in enumerate(self.monitors):
            lines.append(f"monitors[{index}]: {monitor.name} every {monitor.istep * monitor.dt:g} ms")
        return "simulate: " + "\n  ".join(lines)


_MADE = tuple(one.name for one in fields(Simulate) if one.init)


def _loaded(recipe, x64):
    """Simulate that is made by a recipe when it is needed."""
    new = object.__new__(Simulate)
    vars(new).update(recipe=recipe, _x64=x64, _is_loaded=True)
    return new


def drawn(node, start, stop, n_time):
    """Noise's node of a state with the draws of the next run."""
    draws = node.stream.draws(start, stop, (n_time, *node.draws.shape[1:]))
    return node.replace(draws=jnp.asarray(draws, node.draws.dtype))
