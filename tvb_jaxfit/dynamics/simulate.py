"""Simulation of a network as a pure function of its state."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import jax
import jax.numpy as jnp

from ..runtime.processes import PicklableMixin, refuse_forked
from ..runtime.programs import Program
from ..state import State
from .adjoint import simulate_steps
from .blocks import block_sizes
from .buffers import check_buffers
from .monitors import Monitor, Pooling, pool
from .network import coupling_series
from .noise import resample
from .real_state import real_state
from .step import Step

_PRECISIONS = {True: "double", False: "single"}


@jax.tree_util.register_pytree_node_class
class Result(PicklableMixin):
    """Samples of one run. Iteration yields (time, data) for each monitor, as ``sim.run()`` returns them.

    Attributes
    ----------
    time : tuple of ndarray
        Sampling times of each monitor [ms], always in double precision, equal to TVB's.
    data : tuple of Array, each of shape (n_time, n_voi, n_node, n_mode)
        Samples of each monitor.
    final_state : State
        State from which a next run continues exactly as TVB's second ``sim.run()`` does: history, monitor buffers,
        step count and random stream.
    """

    def __init__(self, simulate, start, data, after):
        self._simulate, self._start, self.data, self._after = simulate, start, data, after

    @cached_property
    def time(self) -> tuple:
        """Sampling times of each monitor [ms]."""
        simulate = self._simulate
        return tuple(monitor.times(self._start, simulate.n_steps) for monitor in simulate.monitors)

    @cached_property
    def final_state(self) -> State:
        """State at the end of the run. Its noise is drawn on first access."""
        return self._simulate.with_next_noise(self._after)

    def next_state(self, key: jax.Array) -> State:
        """State at the end of the run, with fresh noise for the next one.

        Parameters
        ----------
        key : Array
            A JAX random key.
        """
        is_observed_with_noise = any("obsnoise" in leaves for leaves in self._after.monitors)
        return resample(self.final_state if is_observed_with_noise else self._after, key)

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
        """Children and static data, for JAX."""
        return (self.data, self._after), (self._simulate, self._start)

    @classmethod
    def tree_unflatten(cls, aux, children):
        """Result from its children and static data."""
        return cls(*aux, *children)


@dataclass(frozen=True, eq=False)
class Simulate:
    """A simulator as a pure function of its state: ``(time, bold), = simulate(state)``.

    Attributes
    ----------
    step : Step
    constants : callable
        State to the parameters of the step, derived once per run.
    inputs : callable
        State to the inputs of each step, as (n_steps, ...) arrays, and to the integrator's State leaves after the run.
    monitors : tuple of Monitor
    n_steps : int
    dt : float
        Integration step [ms].
    observe : callable
        States (n_steps, n_var, n_node, n_mode) to the series that the monitors observe.
    description : str
        One line that describes the simulator.
    factory : callable or None
        Without arguments, returns an equal `Simulate`; used to restore a pickled one.

    Notes
    -----
    The result depends on the state alone. jit, grad and vmap apply; parameters in the state may be `Parameter` objects
    or plain values.

    A `Simulate` pickles by its factory: another process translates and compiles it again, and computes the same
    numbers, in the precision of the process in which it was prepared.
    """

    # Attributes that are no part of the content: how to build it again, and in which precision.
    _transient = ("factory", "_x64", "_is_unpickled")

    step: Step
    constants: Callable
    inputs: Callable
    monitors: tuple[Monitor, ...]
    n_steps: int
    dt: float
    observe: Callable
    description: str = field(repr=False)
    # `dataclasses.replace` resets these three: a changed simulator has no factory.
    factory: Callable | None = field(init=False, default=None, repr=False)
    # True if it was prepared in 64-bit mode. An unpickled one runs in that mode, whatever the mode of the process.
    _x64: bool | None = field(init=False, default=None, repr=False)
    _is_unpickled: bool = field(init=False, default=False, repr=False)

    def __call__(self, state: State) -> Result:
        """Run from a state.

        Parameters
        ----------
        state : State
            State of this simulator (see `prepare`); not modified.

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            If an array has another shape than the simulator's, or is masked, complex, or not numeric.
        RuntimeError
            In a process that was forked after JAX was used; in another precision than that of `prepare`.
        """
        refuse_forked("simulate")
        state = real_state(state)
        start = state.current_step
        with self.precision(state):
            data, after = self._run(self._within_cycle(state))
        return Result(self, start, data, after.replace(static={"current_step": start + self.n_steps}))

    def trace(self, state: State) -> None:
        """Trace a run without compiling or running it, so that its errors are raised."""
        with self.precision():
            self._run.trace(self._within_cycle(real_state(state)))

    def compile_ahead(self, state: State) -> None:
        """Compile in the background for runs from states of this structure."""
        with self.precision(state):
            self._run.compile_ahead(self._within_cycle(real_state(state)))

    def _within_cycle(self, state):
        """State with its step count modulo the cycle, so that equivalent runs share one compiled program."""
        return state.replace(static={"current_step": state.current_step % self.cycle})

    @cached_property
    def _run(self):
        # A copy: JAX keeps what it compiled as long as the function exists, so that a function of ``self`` in an
        # attribute of ``self`` would never be freed.
        return Program(replace(self)._simulate_state)

    @property
    def cycle(self) -> int:
        """Steps after which all windows of all monitors begin anew."""
        return math.lcm(*(monitor.cycle for monitor in self.monitors))

    def precision(self, state: State | None = None) -> contextlib.AbstractContextManager:
        """Context in which the simulator runs: the precision in which it was prepared.

        Parameters
        ----------
        state : State, optional
            State of the run.

        Raises
        ------
        RuntimeError
            If 64-bit mode was switched on or off since `prepare`, or the state has the other precision.
        """
        expected = self._x64
        if expected is None:
            return contextlib.nullcontext()
        if expected != jax.config.jax_enable_x64 and not self._is_unpickled:
            raise RuntimeError(
                f"simulate: prepared in {_PRECISIONS[expected]} precision, and 64-bit mode was switched "
                f"{'off' if expected else 'on'} since. Call prepare(sim) again in the intended mode "
                '(jax.config.update("jax_enable_x64", True) before it selects double precision).'
            )
        # A state without initial conditions is refused later, by name.
        dtype = getattr(getattr(state, "initial_conditions", None), "dtype", None)
        if dtype is not None and dtype.itemsize != (8 if expected else 4):
            raise RuntimeError(
                f"simulate: prepared in {_PRECISIONS[expected]} precision, and State.initial_conditions is of "
                f"{dtype}. Use the state that came with this simulate, or call prepare(sim) "
                "again."
            )
        return contextlib.nullcontext() if expected == jax.config.jax_enable_x64 else jax.enable_x64(expected)

    def with_monitor(self, index: int) -> "Simulate":
        """The same simulator with only one of its monitors."""
        single = replace(self, monitors=self.monitors[index : index + 1])
        if self.factory is None:
            return single
        return single.with_factory(replace(self.factory, monitor=index), self._x64, self._is_unpickled)

    def with_factory(self, factory, x64=None, is_unpickled=False) -> "Simulate":
        """Copy with a factory, and the precision in which it was prepared."""
        new = replace(self)
        vars(new).update(factory=factory, _x64=x64, _is_unpickled=is_unpickled)
        return new

    def __reduce__(self):
        if self.factory is None:
            raise TypeError("a Simulate that was built or changed by hand does not pickle; prepare() returns one.")
        return _unpickle, (self.factory, self._x64)

    def __getattr__(self, name):
        # An unpickled simulator is built on first access to one of its fields.
        if name not in _LAZY_FIELDS or vars(self).get("factory") is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        refuse_forked("simulate")
        # With concrete values, also inside a function that JAX traces.
        with self.precision(), jax.ensure_compile_time_eval():
            built = self.factory()
        vars(self).update({name: getattr(built, name) for name in _LAZY_FIELDS})
        return getattr(self, name)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def _simulate_state(self, state):
        """Samples of all monitors, and the State after the run without the noise of the next one."""
        start = state.current_step
        weights, past = state.connectivity.weights, state.initial_conditions
        theta = self.constants(state)
        inputs, integrator = self.inputs(state)
        check_buffers(self.step, self.monitors, self.n_steps, state)
        windows = [self._pooling(monitor, start, past) for monitor in self.monitors]
        size = math.gcd(*block_sizes(self.n_steps, past))
        pairs = zip(self.monitors, state.monitors, strict=True)
        block_params = [monitor.prepare_blocks(leaves, start, self.n_steps, size) for monitor, leaves in pairs]

        def reduce(block_params, states):
            observed = self.observe(states)
            all_states = states if any(monitor.observes_coupling for monitor in self.monitors) else None
            pairs = zip(self.monitors, block_params, strict=True)
            products = [None if params is None else m.filter_block(params, observed) for m, params in pairs]
            return {key: pool(*key, observed) for key in dict.fromkeys(windows)}, products, all_states

        run = simulate_steps(self.step, self.n_steps, theta, weights, past, inputs, reduce, block_params)
        (pooled, products, states), last = run
        coupling = None if states is None else coupling_series(self.step, theta, weights, past, states)
        samples = []
        rows = zip(self.monitors, state.monitors, windows, block_params, products, strict=True)
        for monitor, leaves, (pooling, n), *filtered in rows:
            is_of_states = monitor.observes_coupling
            observed = monitor.of_states(theta, states, coupling, start) if is_of_states else pooled[pooling, n]
            filtered = () if filtered[1] is None else filtered
            samples.append(monitor.downsampled(n).sample(leaves, observed, start // n, *filtered))
        after = state.replace(
            static={"current_step": start + self.n_steps},
            initial_conditions=last,
            integrator=integrator,
            monitors=[leaves.replace(**new) for leaves, (_, new) in zip(state.monitors, samples, strict=True)],
        )
        return tuple(data for data, _ in samples), after

    def _pooling(self, monitor, start, past):
        """(pooling, n): the monitor receives one sample per ``n`` steps instead of every step."""
        pooling, n = monitor.window
        # A window that is open at the start or the end keeps its single steps in the monitor's stock.
        is_open = pooling is Pooling.MEAN and (start % n or self.n_steps % n)
        if monitor.observes_coupling or is_open:
            return pooling, 1
        return pooling, math.gcd(n, start, self.n_steps, *block_sizes(self.n_steps, past))

    def with_next_noise(self, state: State) -> State:
        """State after a run, with the random draws of the next run."""
        with self.precision():
            return self._redraw(state)

    def _redraw(self, state):
        start = state.current_step
        if "noise" in state.integrator:
            noise = redraw(state.integrator.noise, start, start + self.n_steps, self.n_steps)
            state = state.replace(integrator=state.integrator.replace(noise=noise))
        monitors = list(state.monitors)
        for index, (monitor, node) in enumerate(zip(self.monitors, monitors, strict=True)):
            if "obsnoise" in node:
                n_samples = monitor.steps(start, self.n_steps).size
                noise = redraw(node.obsnoise, start, start + self.n_steps, n_samples)
                monitors[index] = node.replace(obsnoise=noise)
        return state.replace(monitors=monitors)

    def __repr__(self):
        lines = [self.description, f"{self.n_steps} steps of {self.dt:g} ms"]
        for index, monitor in enumerate(self.monitors):
            lines.append(f"monitors[{index}]: {monitor.name} every {monitor.istep * monitor.dt:g} ms")
        return "simulate: " + "\n  ".join(lines)


_LAZY_FIELDS = tuple(each.name for each in fields(Simulate) if each.init)


def _unpickle(factory, x64):
    """Simulate whose fields are built by its factory on first access."""
    new = object.__new__(Simulate)
    vars(new).update(factory=factory, _x64=x64, _is_unpickled=True)
    return new


def redraw(node, start, stop, n_time):
    """A noise node of a state, with the draws of the run from step ``start`` to step ``stop``."""
    draws = node.stream.draws(start, stop, (n_time, *node.draws.shape[1:]))
    return node.replace(draws=jnp.asarray(draws, node.draws.dtype))
