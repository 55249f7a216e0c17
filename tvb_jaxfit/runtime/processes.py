"""Support for several processes: processors, forked processes, in which JAX cannot run, and pickling of JAX arrays."""

import functools
import os
import sys

# The process that this state belongs to, and whether it was forked from a process that had used JAX.
_process = {"pid": os.getpid(), "forked": False}


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def is_forked() -> bool:
    """True if this process was forked from one that had used JAX: a computation would wait forever."""
    if os.getpid() != _process["pid"]:
        _process.update(pid=os.getpid(), forked=_jax_has_device() and not _has_device_threads())
    return _process["forked"]


def refuse_forked(what: str) -> None:
    """Raise an error in a process in which a JAX computation would wait forever.

    Parameters
    ----------
    what : str
        Name of the requested operation, for the message.

    Raises
    ------
    RuntimeError
        The process was forked from one that had used JAX.
    """
    if is_forked():
        raise RuntimeError(
            f"{what}: this process was forked from one that had used JAX, and lacks the threads of JAX, so that it "
            'would wait forever. Start processes with multiprocessing.get_context("spawn") or "forkserver", or with '
            "the loky backend of joblib, or use threads; or fork before any call of JAX or tvb_jaxfit."
        )


def _jax_has_device():
    """True if JAX has a device, created in this process or before a fork."""
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def _has_device_threads():
    """True if the threads of JAX's device run in this process; False if that cannot be determined."""
    try:
        names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    except OSError:
        return False
    return any(name.startswith(("tf_", "py_xla", "cuda")) for name in names)


class PicklableMixin:
    """Pickling of an object's JAX arrays as NumPy arrays; unpickling restores JAX arrays of the same dtype.

    Notes
    -----
    In a forked process, which cannot create JAX arrays, they remain NumPy arrays.
    """

    def __getstate__(self):
        # Cached properties, such as compiled programs, are computed again on demand.
        return _packed({name: value for name, value in vars(self).items() if not _is_cached_property(type(self), name)})

    def __setstate__(self, state):
        vars(self).update(_unpacked(state))

    def __copy__(self):
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        return new


def _is_cached_property(kind, name):
    return isinstance(getattr(kind, name, None), functools.cached_property)


class _Array:
    """Pickled form of a JAX array."""

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
        # 64-bit arrays keep their dtype in any precision mode of the process.
        with jax.enable_x64(True):
            array = jax.numpy.asarray(self.value)
            return array if self.key is None else jax.random.wrap_key_data(array, impl=self.key)


def _packed(value):
    import jax

    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        return _Array(value)
    return _map_container(_packed, value)


def _unpacked(value):
    return value.unpacked() if isinstance(value, _Array) else _map_container(_unpacked, value)


def _map_container(function, value):
    """Copy of a dict, list, tuple or named tuple with the function applied to its items; other values unchanged."""
    if type(value) is dict:
        return {name: function(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    return type(value)(map(function, value)) if type(value) in (list, tuple) else value
