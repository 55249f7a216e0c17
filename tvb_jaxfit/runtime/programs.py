"""Compilation of JAX functions, with one store of compiled programs: equal programs are compiled once per process.

`jax.jit` compiles once per function object, so that a second fit of the same kind would compile again. Here a function
is traced and lowered as by `jax.jit`, and the lowered program is looked up by its content: operations, shapes, dtypes
and constants. A change of what a function computes changes its program, and therefore the key, so that the store never
returns an outdated program.
"""

import contextlib
import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import jax

from .blas import single_blas_thread
from .blocking import evaluate_in_order, n_blocking
from .progress import bar_status

# Number of programs that the store keeps, the most recently used ones.
_MAX_PROGRAMS = 32
# Options of XLA for programs that call LAPACK: fused loops take little of the time of a run there, but half of that
# of the compilation if they are compiled one by one.
_OPTIONS = {"xla_cpu_use_fusion_emitters": False}


class Program:
    """Function of trees of arrays, compiled once for each structure of its arguments.

    Parameters
    ----------
    function : callable
        JAX function.
    shares_constants : bool, optional
        True to pass arrays that the function closes over (a target, the weights of a penalty) to the program as inputs
        instead of as constants: functions that differ in these arrays only are then compiled once.

    Notes
    -----
    Inside a function that JAX transforms (jit, grad, vmap), and while JAX is set to detect NaN or to disable
    compilation, it behaves as ``jax.jit(function)``. Pickled, it is the function alone, which is compiled again where
    it is called.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.runtime.programs import Program
    >>> float(Program(lambda x: jnp.sum(x**2))(jnp.arange(3.0)))
    5.0
    """

    def __init__(self, function: Callable, shares_constants: bool = False):
        self._function, self._shares_constants = function, shares_constants
        self._jitted, self._compiled = jax.jit(function), {}
        # Name of the program in the logs and profilers of JAX.
        self._name = getattr(function, "__name__", "program")

    def __call__(self, *arguments):
        """Results of the function."""
        settings = jax.config
        by_jax = settings.jax_disable_jit or settings.jax_debug_nans or settings.jax_debug_infs
        if by_jax or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
            return self._jitted(*arguments)
        return self.compiled(*arguments)(*arguments)

    def __reduce__(self):
        return type(self), (self._function, self._shares_constants)

    def __len__(self):
        """Number of argument structures that the function is compiled for."""
        return len(self._compiled)

    def trace(self, *arguments) -> None:
        """Trace the function without running it, to raise the errors of tracing."""
        self._jitted.eval_shape(*arguments)

    def lower(self, *arguments) -> jax.stages.Lowered:
        """Lowered program for the given arguments, for inspection: see ``jax.jit(function).lower``."""
        return self._jitted.lower(*arguments)

    def compiled(self, *arguments) -> Callable:
        """Compiled function for arguments of this structure. It neither traces nor compiles; it is thread-safe."""
        with contextlib.nullcontext() if self._compiled else bar_status("compiling"):
            _, function, executable = self._found(arguments, _here)
            executable.result()
        return function

    def compile_ahead(self, *arguments) -> None:
        """Trace the function now, and compile it in the background: `compiled` waits for the end of it."""
        self._found(arguments, _in_background(os.getpid()).submit)

    def _found(self, arguments, submit):
        """(jaxpr, function, future of its executable) for arguments of this structure."""
        # JAX caches traced functions, and traces again if its settings have changed.
        traced = self._jitted.trace(*arguments)
        leaves = jax.tree.leaves(arguments)
        key = id(traced.jaxpr), _placement(leaves)
        if key not in self._compiled:
            # The reference to the jaxpr keeps its id from being reused.
            self._compiled[key] = traced.jaxpr, *self._compile(traced, leaves, submit)
        return self._compiled[key]

    def _compile(self, traced, leaves, submit):
        jaxpr, constants, tree = traced.jaxpr.jaxpr, traced.jaxpr.consts, traced.out_tree
        shared = [jax.numpy.asarray(value) for value in constants] if self._shares_constants else []
        is_blocking = jax.default_backend() == "cpu" and n_blocking(jaxpr) > 1
        evaluate = evaluate_in_order if is_blocking else _evaluate

        def program(shared, leaves):
            return evaluate(jaxpr, shared or constants, leaves)

        program.__name__ = self._name
        with bar_status("compiling"):
            lowered = jax.jit(program, keep_unused=True).lower(shared, leaves)
            types = [atom.aval for atom in (*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars)]
            executable = _executable(lowered, types, _placement([*shared, *leaves]), submit)

        def function(*arguments):
            return jax.tree.unflatten(tree, executable.result()(shared, jax.tree.leaves(arguments)))

        return function, executable


_store, _lock = OrderedDict(), threading.Lock()


def _executable(lowered, types, placement, submit):
    """Future of the compiled program; from the store if it contains an equal one."""
    text = lowered.as_text()
    n_inputs = re.search(r"@main\((.*)", text)[1].count("%arg")
    if "callback" in text or n_inputs != len(placement):
        # The text does not identify the program: it does not contain the Python function of a callback, or the values
        # of constants that a setting of JAX turns into inputs.
        return submit(_compiled, lowered, text)
    # The key holds also what the text lacks: settings, devices, and the weak types of arguments and results.
    types = [(aval.shape, str(aval.dtype), getattr(aval, "weak_type", False)) for aval in types]
    settings = sorted(jax.config.values.items()), jax.config.jax_default_device, jax.default_backend()
    key = hashlib.blake2b(text.encode(), digest_size=32).digest(), repr((types, settings)), placement
    with _lock:
        executable = _store.get(key)
    if executable is None or (executable.done() and executable.exception() is not None):
        executable = submit(_compiled, lowered, text)
    with _lock:
        _store[key] = executable
        _store.move_to_end(key)
        while len(_store) > _MAX_PROGRAMS:
            _store.popitem(last=False)
    return executable


def _evaluate(jaxpr, constants, arguments):
    return jax.core.eval_jaxpr(jaxpr, constants, *arguments)


def _here(function, *arguments):
    """Future of a function that is called at once."""
    future = Future()
    future.set_result(function(*arguments))
    return future


@cache
def _in_background(pid):
    return ThreadPoolExecutor(1, "compile")


def _compiled(lowered, text):
    """Compiled program; one that calls LAPACK runs with a single BLAS thread, one with batches of it or FFTs alone."""
    calls_lapack, is_blocking = "lapack_" in text, bool(_BLOCKING.search(text))
    try:
        executable = lowered.compile(_OPTIONS if calls_lapack else None)
    except jax.errors.JaxRuntimeError as error:
        # Another version of XLA may lack an option.
        if "compile option" not in str(error):
            raise
        executable = lowered.compile()
    if not (calls_lapack or is_blocking):
        return executable

    def guarded(*arguments):
        with single_blas_thread(), _one_at_a_time if is_blocking else contextlib.nullcontext():
            return jax.block_until_ready(executable(*arguments))

    return guarded


# A thread of XLA that calls LAPACK for a batch, or an FFT, waits for other threads of the same pool: see `blocking`. So
# do two programs at the same time.
_BLOCKING, _one_at_a_time = re.compile(r"@lapack_.*tensor<\d+x\d+x\d+x|stablehlo\.fft"), threading.Lock()


def _placement(leaves):
    """Device placement of arguments; None for those that are not on a device."""
    return tuple((leaf.sharding, leaf.committed) if isinstance(leaf, jax.Array) else None for leaf in leaves)
