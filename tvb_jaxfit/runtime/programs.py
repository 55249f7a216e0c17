"""Functions that JAX compiles, and one store of compiled programs: equal programs are compiled once in a process.

`jax.jit` compiles for each function object, so that a second fit of the same kind would compile again. Here a function
is traced and lowered as by `jax.jit`, and its lowered program is looked up by content: operations, shapes, dtypes and
constants. Whatever changes what a function computes changes its program, and so the key: what is found is up to date.
"""

import contextlib
import hashlib
import re
import threading
from collections import OrderedDict

import jax

from .progress import bar_status

# Programs that are kept after the functions that they were compiled for are gone: the last ones that were used.
_MOST = 32


class Program:
    """A function of trees of arrays, compiled for each structure of its arguments.

    Parameters
    ----------
    function : callable
        A JAX function.
    shares_constants : bool, optional
        Whether arrays that the function uses and that are no arguments (a target, the weights of a penalty) enter the
        program as inputs rather than as constants: functions that differ in them alone are compiled once.

    Notes
    -----
    Within a function that JAX transforms (jit, grad, vmap) it is ``jax.jit(function)``. So it is while JAX is set to
    find NaN, or to compile nothing.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.runtime.programs import Program
    >>> float(Program(lambda x: jnp.sum(x**2))(jnp.arange(3.0)))
    5.0
    """

    def __init__(self, function, shares_constants=False):
        self._jitted, self._shares_constants, self._compiled = jax.jit(function), shares_constants, {}
        # As logs and profilers of JAX name it.
        self._name = getattr(function, "__name__", "program")

    def __call__(self, *arguments):
        """Results of the function."""
        settings = jax.config
        by_jax = settings.jax_disable_jit or settings.jax_debug_nans or settings.jax_debug_infs
        if by_jax or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
            return self._jitted(*arguments)
        return self.compiled(*arguments)(*arguments)

    def __len__(self):
        """Number of structures of arguments that it is compiled for."""
        return len(self._compiled)

    def trace(self, *arguments):
        """Trace without running: whatever fails there fails here."""
        self._jitted.eval_shape(*arguments)

    def lower(self, *arguments):
        """The program for arguments like these, to be looked at: as ``jax.jit(function).lower``."""
        return self._jitted.lower(*arguments)

    def compiled(self, *arguments):
        """Function of arguments like these, which neither traces nor compiles: any thread may call it."""
        with contextlib.nullcontext() if self._compiled else bar_status("compiling"):
            # JAX keeps what it has traced, and traces again where its settings have changed.
            traced = self._jitted.trace(*arguments)
            leaves = jax.tree.leaves(arguments)
            key = id(traced.jaxpr), _places(leaves)
            if key not in self._compiled:
                # The jaxpr is kept, so that its id stays its own.
                self._compiled[key] = traced.jaxpr, self._made(traced, leaves)
        return self._compiled[key][1]

    def _made(self, traced, leaves):
        jaxpr, constants, tree = traced.jaxpr.jaxpr, traced.jaxpr.consts, traced.out_tree
        shared = [jax.numpy.asarray(value) for value in constants] if self._shares_constants else []

        def program(shared, leaves):
            return jax.core.eval_jaxpr(jaxpr, shared or constants, *leaves)

        program.__name__ = self._name
        with bar_status("compiling"):
            lowered = jax.jit(program, keep_unused=True).lower(shared, leaves)
            types = [one.aval for one in (*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars)]
            executable = _executable(lowered, types, _places([*shared, *leaves]))
        return lambda *arguments: jax.tree.unflatten(tree, executable(shared, jax.tree.leaves(arguments)))


_store, _lock = OrderedDict(), threading.Lock()


def _executable(lowered, types, places):
    """Compiled program, from the store where there is an equal one."""
    text = lowered.as_text()
    n_inputs = re.search(r"@main\((.*)", text)[1].count("%arg")
    if "callback" in text or n_inputs != len(places):
        # What the text does not say: which of the user's functions is called; the values of constants, where a setting
        # of JAX makes inputs of them.
        return lowered.compile()
    # What a program is compiled for and by, and what its text leaves out of the types of its results.
    types = [(aval.shape, str(aval.dtype), getattr(aval, "weak_type", False)) for aval in types]
    settings = sorted(jax.config.values.items()), jax.config.jax_default_device, jax.default_backend()
    key = hashlib.blake2b(text.encode(), digest_size=32).digest(), repr((types, settings)), places
    with _lock:
        found = _store.get(key)
    found = lowered.compile() if found is None else found
    with _lock:
        _store[key] = found
        _store.move_to_end(key)
        while len(_store) > _MOST:
            _store.popitem(last=False)
    return found


def _places(leaves):
    """Where arguments lie, as far as they lie on devices."""
    return tuple((leaf.sharding, leaf.committed) if isinstance(leaf, jax.Array) else None for leaf in leaves)
