"""Other processes: what JAX cannot do in a forked one, and arrays that go from one to another."""

import functools
import os
import sys

# The process that JAX belongs to, and whether it was forked from one that had used JAX.
_here = {"pid": os.getpid(), "forked": False}


def is_forked():
    """Whether this process was forked from one that had used JAX: there is no computing in it then, only waiting."""
    if os.getpid() != _here["pid"]:
        _here.update(pid=os.getpid(), forked=_in_use() and not _has_threads())
    return _here["forked"]


def refuse_forked(what):
    """Raise an error where JAX would wait for ever.

    Parameters
    ----------
    what : str
        What is asked for.

    Raises
    ------
    RuntimeError
        In a process that was forked from one that had used JAX.
    """
    if is_forked():
        raise RuntimeError(
            f"{what}: this process was forked from one that had used JAX, whose threads it lacks, so it would wait "
            'for ever. Start processes with multiprocessing.get_context("spawn") or "forkserver", or with joblib\'s '
            "loky, or use threads; or fork before anything of JAX or tvb_jaxfit is called."
        )


def _in_use():
    """Whether JAX has a device, here or before a fork."""
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _has_threads():
    """Whether the threads of JAX's device run in this process; False where that does not show."""
    try:
        names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    except OSError:
        return False
    return any(name.startswith(("tf_", "py_xla", "cuda")) for name in names)


class PicklableMixin:
    """Objects that go to other processes: their JAX arrays go as numpy's, and come back as precise as they were.

    Notes
    -----
    In a forked process, which cannot make JAX arrays, they stay numpy's.
    """

    def __getstate__(self):
        # What is worked out of the rest when it is asked for, such as a compiled program, comes again.
        return _packed({name: value for name, value in vars(self).items() if not _is_worked_out(type(self), name)})

    def __setstate__(self, held):
        vars(self).update(_unpacked(held))

    def __copy__(self):
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        return new


def _is_worked_out(kind, name):
    return isinstance(getattr(kind, name, None), functools.cached_property)


class _Array:
    """A JAX array on its way."""

    def __init__(self, array):
        import jax

        self.key = None
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            self.key, array = str(jax.random.key_impl(array)), jax.random.key_data(array)
        self.value = jax.device_get(array)

    def unpacked(self):
        import jax

        if is_forked():
            return self.value
        # Whatever mode the process is in.
        with jax.enable_x64(True):
            array = jax.numpy.asarray(self.value)
            return array if self.key is None else jax.random.wrap_key_data(array, impl=self.key)


def _packed(value):
    import jax

    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        return _Array(value)
    return _within(_packed, value)


def _unpacked(value):
    return value.unpacked() if isinstance(value, _Array) else _within(_unpacked, value)


def _within(function, value):
    """The same of what plain containers hold."""
    if type(value) is dict:
        return {name: function(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    return type(value)(map(function, value)) if type(value) in (list, tuple) else value
