"""Functions that run in another Python process as they would here: by value, and with the same settings of JAX."""

import contextlib
import hashlib
import importlib
import io
import pickle
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from .modules import is_module

# Settings of JAX that change numbers, or whether an error is raised: names of JAX's context managers. All of them are
# settings of one thread, so that tasks in other threads of the process keep their own.
_SETTINGS = (
    *("enable_x64", "default_matmul_precision", "default_prng_impl", "threefry_partitionable", "enable_custom_prng"),
    *("numpy_dtype_promotion", "numpy_rank_promotion", "legacy_prng_key", "softmax_custom_jvp"),
    *("disable_jit", "debug_nans", "debug_infs"),
)
# Number of functions that a process keeps, the most recently used ones.
_MAX_FUNCTIONS = 8


class RemoteFunction:
    """Function that can be pickled and called in another Python process.

    Parameters
    ----------
    function : callable
        Any that cloudpickle can pickle: functions and classes of a script or a notebook, closures and lambdas travel by
        value. What is imported from a module has to be importable there, in the same version.

    Attributes
    ----------
    digest : str
        Digest of the pickled function.
    settings : dict of str to object
        Settings of JAX of the thread that made this object, by the name of JAX's context manager. They apply to each
        call, in any process: precision, promotion of types and ranks, random numbers, debugging.

    Notes
    -----
    A process keeps the functions that it was given last. Calls of equal `RemoteFunction` objects therefore share one
    function, and everything that it has compiled or cached.

    Arguments and results travel as the executor sends them, in most cases by `pickle`: a JAX array of 64 bits becomes
    one of 32 bits where JAX is not set to ``enable_x64``. NumPy arrays keep their type.

    Examples
    --------
    >>> import pickle
    >>> from tvb_jaxfit.runtime.remote import RemoteFunction
    >>> square = RemoteFunction(lambda x: x**2)
    >>> pickle.loads(pickle.dumps(square))(3)
    9
    """

    def __init__(self, function: Callable):
        self.settings = current_settings()
        self._pickled = dumps(function)
        self.digest = hashlib.blake2b(self._pickled, digest_size=16).hexdigest()

    def __call__(self, *arguments, **keywords):
        """Result of the function, with the settings of JAX that this object holds."""
        with applied_settings(self.settings):
            return _function(self.digest, self._pickled)(*arguments, **keywords)

    def __len__(self):
        """Number of bytes of the pickled function."""
        return len(self._pickled)


class WithSettings:
    """Function that runs in other threads of this process with the settings of JAX of the thread that made this object.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable):
        self.settings, self._function = current_settings(), function

    def __call__(self, *arguments, **keywords):
        """Result of the function."""
        with applied_settings(self.settings):
            return self._function(*arguments, **keywords)


def dumps(value: Any) -> bytes:
    """Pickle by cloudpickle. JAX arrays keep their type, whatever the precision mode of the process that reads them."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, value):
        jax = sys.modules.get("jax")
        # A key is pickled as an object with an array of numbers in it.
        if (
            jax is not None
            and isinstance(value, jax.Array)
            and not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
        ):
            return _restored_array, value.__reduce__()
        if is_module(value) and not isinstance(value, types.ModuleType):
            return importlib.import_module, (value.__name__,)
        return super().reducer_override(value)


def _restored_array(restore, arguments):
    import jax

    with jax.enable_x64(True):
        return restore(*arguments)


def current_settings() -> dict[str, Any]:
    """Settings of JAX of this thread, by the name of their context managers; none where JAX is not in use."""
    jax = sys.modules.get("jax")
    names = () if jax is None else _SETTINGS
    return {name: getattr(jax.config, f"jax_{name}") for name in names if hasattr(jax.config, f"jax_{name}")}


@contextlib.contextmanager
def applied_settings(settings: dict[str, Any]) -> Iterator[None]:
    """Context with the given settings. Those that are set already are left alone: JAX would trace again."""
    with contextlib.ExitStack() as stack:
        if settings:
            import jax

            current = current_settings()
            for name in [name for name, value in settings.items() if current.get(name, value) != value]:
                stack.enter_context(getattr(jax, name)(settings[name]))
        yield


_functions, _lock = OrderedDict(), threading.RLock()


def _function(digest, pickled):
    """Function of a digest; unpickled when it is not among those that this process keeps."""
    with _lock:
        if digest not in _functions:
            _functions[digest] = pickle.loads(pickled)
        _functions.move_to_end(digest)
        while len(_functions) > _MAX_FUNCTIONS:
            _functions.popitem(last=False)
        return _functions[digest]
