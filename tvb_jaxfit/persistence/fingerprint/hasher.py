"""What something consists of, as a digest: the same for what would compute the same, another for what might not.

Every object is a label and parts, each of them an object again. A user's function consists of its code and of all that
it uses: arguments' defaults, closure, globals and the functions among them, to the last. What a library holds stands
for itself by name and version; what has no content to be compared is refused by name.
"""

import decimal
import hashlib
import importlib.metadata
import locale
import sys
import time

import jax
import numpy as np

from . import code_objects as code  # noqa: F401  # says of code what it consists of
from .code_names import replaced
from .installed import look_again, own_source_digest
from .objects import Held, NotHashable, WorkedOut, parts_of
from .untracked import Untracked

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
    NotHashable
        Where a part of it (named by its path) has no content: an open file, a generator, a lock.

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
    return seen(value, name)[0]


def seen(value, name="value"):
    """Digest of the content of anything, and what of it cannot be seen.

    Parameters
    ----------
    value, name
        As of `digest`.

    Returns
    -------
    str
    dict of str to Untracked
        By path.

    Raises
    ------
    NotHashable
        As `digest`.
    """
    walk = _Walk()
    return walk.digest(value, name).hex(), walk.unseen


def digests_by_path(value, name, depth=0):
    """Digests of something and of its parts, with nothing refused.

    Parameters
    ----------
    value, name
        As of `digest`.
    depth : int, optional
        How deep parts are nested that have a digest of their own.

    Returns
    -------
    dict of str to str
        By path.
    dict of str to Untracked
        What cannot be seen, and what cannot be compared, by path.
    """
    walk = _Walk(lenient=True, depth=depth)
    walk.digest(value, name)
    return walk.within, walk.unseen


def environment():
    """What else numbers depend on: versions, precision, settings of libraries, and what they are computed on."""
    names = ("jax", "jaxlib", "numpy", "optax", "tvb-library")
    settings = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
    settings += ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion", "jax_disable_jit", "jax_debug_nans")
    decimals = decimal.getcontext()
    return {
        "python": sys.version_info[:3],
        "versions": [importlib.metadata.version(name) for name in names],
        "tvb_jaxfit": own_source_digest(),
        "settings": [getattr(jax.config, name) for name in settings],
        "decimal": [getattr(decimals, name) for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")],
        "numpy": [np.geterr(), Held(np.get_printoptions())],
        "locale": [locale.setlocale(locale.LC_ALL), time.tzname],
        "backend": jax.default_backend(),
        "replaced": Held(replaced()),
    }


class _Walk:
    """One walk through the parts of something, each of them once.

    Parameters
    ----------
    lenient : bool, optional
        Whether what cannot be compared is listed as unseen, rather than refused.
    depth : int, optional
        Parts that are nested no deeper have their digests in ``within``, by path.
    """

    def __init__(self, lenient=False, depth=0):
        self.unseen, self.within = {}, {}
        self._done, self._above, self._n_objects = {}, [], 0
        self._lenient, self._depth = lenient, depth
        look_again()

    def digest(self, value, path):
        key = id(value)
        # Above that depth parts are walked through at each place, so that those within have their digests there.
        if key in self._done and (self._depth == 0 or len(self._above) >= self._depth):
            return self._noted(path, self._done[key][1])
        if key in self._above:
            # A part that holds the whole: how far above is what there is to say.
            above = len(self._above) - self._above.index(key)
            return hashlib.blake2b(b"above %d" % above, digest_size=_SIZE).digest()
        label, parts = self._consists_of(value, path)
        self._above.append(key)
        was_lenient, self._lenient = self._lenient, self._lenient or isinstance(value, Held)
        inner = [self.digest(part, f"{path}{edge}") for edge, part in parts]
        self._lenient = was_lenient
        self._above.pop()
        if isinstance(value, (set, frozenset)):
            inner.sort()
        edges = [] if isinstance(value, (set, frozenset)) else [edge for edge, _ in parts]
        whole = hashlib.blake2b(repr((label, edges)).encode("utf-8", "surrogatepass"), digest_size=_SIZE)
        for part in inner:
            whole.update(part)
        # The value is held, so that its id stays its own.
        self._done[key] = value, whole.digest()
        return self._noted(path, whole.digest())

    def _noted(self, path, found):
        if len(self._above) <= self._depth:
            self.within[path] = found.hex()
        return found

    def _consists_of(self, value, path):
        """Label and parts, without what was worked out from the others."""
        if isinstance(value, Untracked):
            self.unseen[path] = value
        if type(value) is object:
            # Nothing but itself: which one it is says the order.
            self._n_objects += 1
            return f"object {self._n_objects}", []
        try:
            if len(self._above) > _DEEPEST:
                raise NotHashable("nested too deeply to be compared by content.")
            label, parts = parts_of(value)
        # What an object of the user's does when it is looked at may be anything.
        except Exception as error:
            kind = f"a {type(value).__module__}.{type(value).__qualname__}"
            if not self._lenient:
                reason = (
                    error if isinstance(error, NotHashable) else f"{kind} cannot be compared by content ({error!r})"
                )
                raise NotHashable(f"{path}: {reason}") from None
            self.unseen[path] = Untracked(kind, True)
            return "unseen", []
        kept = []
        for edge, part in parts:
            if isinstance(part, WorkedOut):
                is_same, is_seen = _is_as_worked_out(part)
                part = part.value
                if not is_seen:
                    self.unseen[f"{path}{edge}"] = Untracked("a cached_property", True)
                if is_same:
                    continue
            kept.append((edge, part))
        return label, kept


# Digests of what cached properties gave, by the digest of what they were worked out from.
_given = {}


def _is_as_worked_out(part):
    """(whether what an instance holds is what its property gives, whether this can be seen)."""
    try:
        rest = _Walk().digest(part.rest(), "").hex(), part.name
        if rest not in _given:
            _given[rest] = _Walk().digest(part.again(), "")
    except NotHashable:
        return True, False
    # What the user's property raises may be anything.
    except Exception:
        return False, True
    try:
        return _given[rest] == _Walk().digest(part.value, ""), True
    except NotHashable:
        return True, False
