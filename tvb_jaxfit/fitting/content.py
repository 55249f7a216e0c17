"""What something consists of, as a digest: the same for what would compute the same, another for what might not.

Every object is a label and parts, each of them an object again. A user's function consists of its code and of all that
it uses: arguments' defaults, closure, globals and the functions among them, to the last. What a library holds stands
for itself by name and version; what has no content to be compared is refused by name.
"""

import functools
import hashlib
import importlib.metadata
import pathlib
import sys

import jax

from . import code  # noqa: F401  # says of code what it consists of
from .parts import NotKeyed, parts_of

_SIZE = 16
# How deep a chain of objects may be: the interpreter has no room for more.
_DEEPEST = 200


def digest(value, name="value"):
    """Digest of the content of anything, the same in every process.

    Parameters
    ----------
    value
        Numbers, arrays, containers, functions, classes, `State`s, TVB's objects, and instances of whatever consists of
        these.
    name : str, optional
        What errors call it.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    NotKeyed
        Where a part of it (named by its path) has no content: an open file, a generator, a lock.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.fitting.content import digest
    >>> def loss(x):
    ...     return scale * x
    >>> scale = np.ones(3)
    >>> before = digest(loss)
    >>> scale[1] = 2.0
    >>> digest(loss) == before
    False
    """
    return _Walk().digest(value, name).hex()


def environment():
    """What else numbers depend on: versions, precision, and what they are computed on."""
    names = ("jax", "jaxlib", "numpy", "optax", "tvb-library")
    settings = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    return {
        "python": sys.version_info[:3],
        "versions": [importlib.metadata.version(name) for name in names],
        "tvb_jaxfit": _own_sources(),
        "settings": [getattr(jax.config, name) for name in settings],
        "backend": jax.default_backend(),
    }


class _Walk:
    """One walk through the parts of something, each of them once."""

    def __init__(self):
        self._done, self._above = {}, []

    def digest(self, value, path):
        key = id(value)
        if key in self._done:
            return self._done[key][1]
        if key in self._above:
            # A part that holds the whole: how far above is what there is to say.
            return hashlib.blake2b(b"above %d" % self._above.index(key), digest_size=_SIZE).digest()
        if len(self._above) > _DEEPEST:
            raise NotKeyed(f"{path}: nested too deeply to be compared by content.")
        try:
            # An object() is nothing but itself: which one it is says the order.
            label, parts = (f"object {len(self._done)}", []) if type(value) is object else parts_of(value)
        except NotKeyed as error:
            raise NotKeyed(f"{path}: {error}") from None
        self._above.append(key)
        inner = [self.digest(part, f"{path}{edge}") for edge, part in parts]
        self._above.pop()
        if isinstance(value, (set, frozenset)):
            inner.sort()
        edges = [] if isinstance(value, (set, frozenset)) else [edge for edge, _ in parts]
        whole = hashlib.blake2b(repr((label, edges)).encode("utf-8", "surrogatepass"), digest_size=_SIZE)
        for part in inner:
            whole.update(part)
        # The value is held, so that its id stays its own.
        self._done[key] = value, whole.digest()
        return whole.digest()


@functools.cache
def _own_sources():
    """Digest of this package: its version stays the same while it is worked on."""
    home = pathlib.Path(__file__).parents[1]
    return digest([path.read_bytes() for path in sorted(home.rglob("*.py"))])
