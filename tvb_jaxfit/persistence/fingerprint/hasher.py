"""Digests of content: equal for what would compute the same, different for what might compute something else.

Every object is reduced to a label and parts, which are objects again (`content_of`). A function of the user's consists
of its code and of everything that it uses: defaults, closure, globals, and the functions among them, without limit of
depth. An object of a library is identified by name and version. An object without comparable content is refused by
name.
"""

import contextlib
import decimal
import hashlib
import locale
import sys
import time
from typing import Any

import jax
import numpy as np

from ..versions import package_versions
from . import code_objects  # noqa: F401  registers the rules of code with `content_of`
from .code_names import replaced_functions
from .installed import forget_sources, own_source_digest, without_versions
from .objects import CachedValue, LibraryValue, NotHashable, content_of
from .untracked import Untracked

_DIGEST_SIZE = 16
# Deepest nesting of objects. A deeper one would exceed the interpreter's recursion limit.
_MAX_DEPTH = 200


def digest(value: Any, name: str = "value") -> str:
    """Digest of the content of any object, equal in every process.

    Parameters
    ----------
    value
        Numbers, arrays, containers, functions, classes, `State`, TVB's objects, and instances that consist of these.
    name : str, optional
        Name of the value in error messages.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    NotHashable
        A part (the message has its path) has no comparable content: an open file, a generator, a lock.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit.persistence.fingerprint.hasher import digest
    >>> def loss(x):
    ...     return scale * x
    >>> scale = np.ones(3)
    >>> before = digest(loss)
    >>> scale[1] = 2.0
    >>> digest(loss) == before
    False
    """
    return digest_and_untracked(value, name)[0]


def digest_and_untracked(value: Any, name: str = "value") -> tuple[str, dict[str, Untracked]]:
    """Digest of the content of any object, and the dependencies that it does not cover.

    Parameters
    ----------
    value, name
        As for `digest`.

    Returns
    -------
    str
        As `digest`.
    dict of str to Untracked
        By path.

    Raises
    ------
    NotHashable
        As `digest`.
    """
    hasher = _Hasher()
    return hasher.digest(value, name).hex(), hasher.untracked


def digests_by_path(
    value: Any, name: str, depth: int = 0, versions: bool = True
) -> tuple[dict[str, str], dict[str, Untracked]]:
    """Digests of an object and of its parts. Nothing is refused.

    Parameters
    ----------
    value, name
        As for `digest`.
    depth : int, optional
        Depth of nesting down to which parts have a digest of their own.
    versions : bool, optional
        False: digests that do not depend on the versions of the libraries whose classes occur.

    Returns
    -------
    dict of str to str
        Digests by path.
    dict of str to Untracked
        By path, the dependencies that the digests do not cover, and the parts that cannot be compared.
    """
    hasher = _Hasher(lenient=True, depth=depth)
    with contextlib.nullcontext() if versions else without_versions():
        hasher.digest(value, name)
    return hasher.digests, hasher.untracked


def environment() -> dict[str, Any]:
    """Dependencies of the numbers beside the code: versions, precision, settings of libraries, the device."""
    settings = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    settings += ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion", "jax_disable_jit", "jax_debug_nans")
    decimals = decimal.getcontext()
    return {
        "python": sys.version_info[:3],
        "versions": package_versions(),
        "tvb_jaxfit": own_source_digest(),
        "settings": [getattr(jax.config, name) for name in settings],
        "decimal": [getattr(decimals, name) for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")],
        "numpy": [np.geterr(), LibraryValue(np.get_printoptions())],
        "locale": [locale.setlocale(locale.LC_ALL), time.tzname],
        "backend": jax.default_backend(),
        "replaced": LibraryValue(replaced_functions()),
    }


class _Hasher:
    """One traversal of an object's parts. Each part is hashed once.

    Parameters
    ----------
    lenient : bool, optional
        List parts that cannot be compared as untracked, instead of refusing them.
    depth : int, optional
        Parts that are nested no deeper have their digests in ``digests``, by path.
    """

    def __init__(self, lenient=False, depth=0):
        self.untracked, self.digests = {}, {}
        # Digests by id. The object is kept with its digest, so that its id is not reused.
        self._done = {}
        self._ancestors, self._n_objects = [], 0
        self._lenient, self._depth = lenient, depth
        forget_sources()

    def digest(self, value, path):
        key = id(value)
        # Above the recorded depth a part is traversed at each of its places, so that all paths below it are recorded.
        if key in self._done and (self._depth == 0 or len(self._ancestors) >= self._depth):
            return self._recorded(path, self._done[key][1])
        if key in self._ancestors:
            # A cycle: encoded by the distance to the ancestor that it refers to.
            distance = len(self._ancestors) - self._ancestors.index(key)
            return hashlib.blake2b(b"above %d" % distance, digest_size=_DIGEST_SIZE).digest()
        label, parts = self._content(value, path)
        self._ancestors.append(key)
        was_lenient, self._lenient = self._lenient, self._lenient or isinstance(value, LibraryValue)
        digests = [self.digest(part, f"{path}{edge}") for edge, part in parts]
        self._lenient = was_lenient
        self._ancestors.pop()
        is_unordered = isinstance(value, (set, frozenset))
        if is_unordered:
            digests.sort()
        edges = [] if is_unordered else [edge for edge, _ in parts]
        total = hashlib.blake2b(repr((label, edges)).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE)
        for part_digest in digests:
            total.update(part_digest)
        self._done[key] = value, total.digest()
        return self._recorded(path, total.digest())

    def _recorded(self, path, found):
        if len(self._ancestors) <= self._depth:
            self.digests[path] = found.hex()
        return found

    def _content(self, value, path):
        """Label and parts, without values of cached properties that the other attributes determine."""
        if isinstance(value, Untracked):
            self.untracked[path] = value
        if type(value) is object:
            # It has identity and nothing else: numbered by its first occurrence.
            self._n_objects += 1
            return f"object {self._n_objects}", []
        try:
            if len(self._ancestors) > _MAX_DEPTH:
                raise NotHashable("nested too deeply to be compared by content.")
            label, parts = content_of(value)
        # Attributes of the user's objects can be properties that raise any error.
        except Exception as error:
            kind = f"a {type(value).__module__}.{type(value).__qualname__}"
            if not self._lenient:
                if not isinstance(error, NotHashable):
                    error = f"{kind} cannot be compared by content ({error!r})"
                raise NotHashable(f"{path}: {error}") from None
            self.untracked[path] = Untracked(kind, True)
            return "unseen", []
        determined = [self._is_determined(part, f"{path}{edge}") for edge, part in parts]
        return label, [
            (edge, part.value if isinstance(part, CachedValue) else part)
            for (edge, part), skip in zip(parts, determined, strict=True)
            if not skip
        ]

    def _is_determined(self, part, path):
        """True for the value of a cached property that the other attributes determine."""
        if not isinstance(part, CachedValue):
            return False
        is_equal, is_comparable = _equals_property(part)
        if not is_comparable:
            self.untracked[path] = Untracked("a cached_property", True)
        return is_equal


# Digests of the values that cached properties return, by the digest of the attributes they are computed from.
_property_digests = {}


def _equals_property(cached):
    """(True if a cached value is what its property returns now, True if the two can be compared)."""
    try:
        key = _Hasher().digest(cached.without_cached(), "").hex(), cached.name
        if key not in _property_digests:
            _property_digests[key] = _Hasher().digest(cached.recomputed(), "")
    except NotHashable:
        return True, False
    # The user's property can raise any error.
    except Exception:
        return False, True
    try:
        return _property_digests[key] == _Hasher().digest(cached.value, ""), True
    except NotHashable:
        return True, False
