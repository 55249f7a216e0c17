"""Checkpoint of a fit: the file from which a fit is resumed after it was killed."""

import re
import warnings
from pathlib import Path

import jax
import numpy as np

from .. import __version__
from ..parameters import path_name
from ..persistence.fingerprint.hasher import digests_by_path
from ..persistence.fingerprint.installed import own_source_digest
from ..persistence.serialise import ReadError, read, write
from ..persistence.versions import package_versions
from .callbacks import stateful_callbacks

_KIND = "checkpoint of a fit"
# Version of the contents. A file of another version is refused.
_FORM = 4
# Relative difference up to which two losses at the same values count as the same: another machine rounds otherwise.
_LOSS_TOLERANCE = 1e-3
# Depth up to which nested objects have digests of their own: the depth at which messages name them.
_DEPTH = 3
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")

# Entries that follow from others: they are named only if no other entry differs.
_DERIVED = ("simulate", "structure of the state", "order of callbacks")
# Entries that are compared as a whole: users do not know the names of their parts.
_WHOLE = ("optimizer", "simulate")
# Maximum number of names in a message.
_MAX_NAMES = 10
# Parts of a path below the names that a user has given.
_INTERNAL = re.compile(r"\.__|<| -> \W")


class CheckpointPath(type(Path())):
    """Path of a checkpoint, with notes for later readers, such as the options of a command.

    Attributes
    ----------
    notes : object or None
        Tree of numbers, strings, None, lists and dicts.
    """

    notes = None


class NewCheckpointPath(CheckpointPath):
    """Path of a checkpoint of a new fit, which replaces an existing file."""


def notes_of(path):
    """Notes of a checkpoint.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    object or None
        None if there are no notes, or no readable checkpoint.
    """
    try:
        stored = read(path, _KIND)
    except (OSError, ReadError):
        return None
    return stored.get("notes") if isinstance(stored, dict) else None


def is_checkpoint(path) -> bool:
    """True if a file is a checkpoint of a fit, of any version.

    Parameters
    ----------
    path : path-like
    """
    try:
        read(path, _KIND)
    except (OSError, ReadError):
        return False
    return True


class Checkpoint:
    """Checkpoint file of a fit; without a path, nothing is written.

    Parameters
    ----------
    path : path-like or None
        `NewCheckpointPath`: the first checkpoint replaces an existing file.
    every : int
        Number of steps between two checkpoints.

    Attributes
    ----------
    identity : dict of str to object or None
        All that determines the fit, by names that its user knows. Default: what the optimizer was given.
    """

    # Attributes that belong to one fit: they are no part of a fingerprint.
    _transient = ("_keys", "identity", "notes")

    def __init__(self, path, every):
        self.path, self.every, self.identity = path if path is None else Path(path), every, None
        self._replaces, self.notes = isinstance(path, NewCheckpointPath), getattr(path, "notes", None)

    def begin(self, loop, resume):
        """Load the file into the fit, if ``resume`` is set; see ``OptaxOptimizer.run``."""
        if self.path is None:
            if resume:
                raise ValueError("resume: there is nothing to go on from. Give OptaxOptimizer(..., checkpoint='FILE').")
            return
        self._keys, untracked = _keys(loop, self.identity)
        if not self.path.exists() or self._replaces and not resume:
            return
        if not resume:
            raise FileExistsError(
                f"checkpoint: {self.path} exists. run(..., resume=True) continues from it; to begin a new fit, delete "
                "it or name another file."
            )
        stored = self._read()
        changed = _changed_names(stored["keys"], self._keys)
        if changed:
            raise ValueError(
                f"checkpoint: {self.path} is of another fit (differences: {', '.join(changed)}){_versions(stored)}. "
                "Name another file, or repeat the fit that it is of."
            )
        if untracked:
            names = ", ".join(f"{path} ({name})" for path, name in untracked.items())
            warnings.warn(
                f"checkpoint: {self.path} may be of another fit in what cannot be compared: {names}. The fit continues "
                "from it; make sure that nothing of this has changed.",
                stacklevel=3,
            )
        loop.load_state_dict(stored["fit"])
        self._compare_loss(loop)

    def _compare_loss(self, loop):
        """Raise ValueError if the loss gives another value than stored: some changes of a function cannot be found."""
        if not loop.losses:
            return
        loss = loop.last_loss()
        if not np.isclose(loss, loop.losses[-1], rtol=_LOSS_TOLERANCE, atol=0.0):
            raise ValueError(
                f"checkpoint: {self.path} has a loss of {loop.losses[-1]:.6g} at its step {len(loop.losses) - 1}, "
                f"where this loss gives {loss:.6g}. Fit with the loss (and refresh) of the checkpoint, or delete it."
            )

    def _read(self):
        try:
            stored = read(self.path, _KIND)
        except ReadError as error:
            raise ValueError(f"checkpoint: {error}. Delete it, or name another file.") from error
        if not isinstance(stored, dict) or stored.get("form") != _FORM:
            raise ValueError(
                f"checkpoint: {self.path} was written by another version of tvb_jaxfit, whose checkpoints have other "
                "contents. Continue with that version, or delete it and begin a new fit."
            )
        return stored

    def save(self, loop, ended):
        """Write the file, if it is due at this step or the fit has ended."""
        if self.path is None or not (ended or loop.step == 1 or loop.step % self.every == 0):
            return
        tree = {"form": _FORM, "keys": self._keys, "versions": _installed(), "fit": loop.state_dict()}
        tree["notes"] = self.notes
        try:
            write(self.path, tree, _KIND)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {self.path} was not written ({error}); the fit continues without it.", stacklevel=3
            )


def _keys(loop, identity):
    """Digests of all that determines a fit, by name; and the parts that cannot be compared."""
    optimizer = loop.optimizer
    parts = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(loop.plain_state)}
    parts |= {
        f"{path} (bounds)": (type(each), each.static_fields())
        for path, each in (loop.parameters | loop.dependents).items()
    }
    parts |= {
        "structure of the state": jax.tree.map(lambda _: 0, loop.plain_state),
        "precision": [getattr(jax.config, name) for name in _SETTINGS],
        "validate_every": optimizer.validate_every,
        "patience": optimizer.patience,
    }
    callbacks = stateful_callbacks(optimizer.callback)
    # Users know callbacks by their keys.
    names = [f"callback {type(callback).__name__} {getattr(callback, 'key', '')}".rstrip() for callback in callbacks]
    for name, callback in zip(names, callbacks, strict=True):
        parts[name] = [parts.get(name), callback]
    parts["order of callbacks"] = names
    if identity is None:
        identity = {name: getattr(optimizer, name) for name in ("loss", "has_aux", "optimizer", "refresh", "validate")}
    keys, untracked = {}, {}
    for name, part in (parts | identity).items():
        depth = _DEPTH if name in identity and name not in _WHOLE else 0
        digests, not_compared = digests_by_path(part, name, depth)
        keys |= digests
        untracked |= {path: each.name for path, each in not_compared.items()}
    return keys, untracked


def _changed_names(stored, current):
    """Names of the parts that differ between two fits, each as deep as it is known."""
    paths = [path for path in stored | current if stored.get(path) != current.get(path)]
    if "precision" in paths:
        # In another precision, all arrays differ.
        return ["precision (64-bit mode, or another of JAX's settings of arithmetic and random numbers)"]
    deepest = [path for path in paths if not any(_is_within(other, path) for other in paths)]
    # Of code and classes, the name of the function or object.
    names = dict.fromkeys(_INTERNAL.split(path)[0] for path in deepest)
    # Of a function that differs, its own name is enough.
    names = [name for name in names if not any(name.startswith(f"{function} -> ") for function in names)]
    known = [name for name in names if name not in _DERIVED and "._" not in name] or names
    return known[:_MAX_NAMES] + [f"{len(known) - _MAX_NAMES} more"] * (len(known) > _MAX_NAMES)


def _is_within(path, other):
    return path.startswith(other) and path[len(other) :][:1] in (".", "[", "<", "-") or path.startswith(f"{other} -> ")


def _installed():
    return package_versions() | {"tvb_jaxfit": f"{__version__} ({own_source_digest()})"}


def _versions(stored):
    """End of a message that names the packages whose versions have changed."""
    now, then = _installed(), stored["versions"]
    changed = [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]
    return f", and was written with other versions ({'; '.join(changed)})" if changed else ""
