"""What a fit needs to go on after it was killed, in a file."""

import importlib.metadata
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
from .callbacks import deciding

_KIND = "checkpoint of a fit"
_FORM = 3
# What a loss at the same values may differ by, on another machine say; another loss differs by more.
_SAME = 1e-3
# How deep the parts of a fit are nested that have a key of their own: as deep as a message names them.
_DEPTH = 3
_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "tvb-library")

# What follows from other parts, and is named where none of these differs.
_DERIVED = ("simulate", "structure of the state", "order of callbacks")
# What is compared as a whole: its parts are nobody's names.
_WHOLE = ("optimizer", "simulate")
# Names in a message.
_MOST = 10
# Where a path leaves what a user has named.
_INSIDE = re.compile(r"\.__|<| -> \W")


class Noted(type(Path())):
    """Path of a checkpoint, with notes for who reads it later, such as the options of a command.

    Attributes
    ----------
    notes : object or None
        Of numbers, strings, None, lists and dicts.
    """

    notes = None


class Anew(Noted):
    """Path of a checkpoint that a new fit begins: what is there already is not gone on with, and replaced."""


def notes_of(path):
    """Notes of a checkpoint; None where it has none, or there is none that can be read.

    Parameters
    ----------
    path : path-like
    """
    try:
        held = read(path, _KIND)
    except (OSError, ReadError):
        return None
    return held.get("notes") if isinstance(held, dict) else None


def is_checkpoint(path):
    """Whether a file is the checkpoint of a fit, of whatever version.

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
    """The file of a fit; without a path, none.

    Parameters
    ----------
    path : path-like or None
        `Anew` where a file that is there is replaced by the first one that is written.
    every : int
        Steps from one writing to the next.

    Attributes
    ----------
    named : dict of str to object or None
        What decides the fit, in the words of who made it; by default what the optimizer was given.
    """

    # Of the fit that runs: no part of what the checkpoint is (see `content`).
    _transient = ("_keys", "named", "notes")

    def __init__(self, path, every):
        self.path, self.every, self.named = path if path is None else Path(path), every, None
        self._is_anew, self.notes = isinstance(path, Anew), getattr(path, "notes", None)

    def begin(self, fit, resume):
        """Let a fit take up what is in the file, if it is to; see ``OptaxOptimizer.run``."""
        if self.path is None:
            if resume:
                raise ValueError("resume: there is nothing to go on from. Give OptaxOptimizer(..., checkpoint='FILE').")
            return
        self._keys, unseen = _keys(fit, self.named)
        if not self.path.exists() or self._is_anew and not resume:
            return
        if not resume:
            raise FileExistsError(
                f"checkpoint: {self.path} is there already. run(..., resume=True) goes on from it; to begin anew, "
                "delete it or name another file."
            )
        held = self._read()
        other = _other(held["keys"], self._keys)
        if other:
            raise ValueError(
                f"checkpoint: {self.path} is of another fit (other are: {', '.join(other)}){_versions(held)}. Name "
                "another file, or fit what it is of."
            )
        if unseen:
            told = ", ".join(f"{path} ({what})" for path, what in unseen.items())
            warnings.warn(
                f"checkpoint: {self.path} may be of another fit in what cannot be compared: {told}. It is gone on "
                "from; see that this is what it was.",
                stacklevel=3,
            )
        fit.take_up(held["fit"])
        if fit.losses:
            loss = fit.loss_of_the_last()
            if not np.isclose(loss, fit.losses[-1], rtol=_SAME, atol=0.0):
                raise ValueError(
                    f"checkpoint: {self.path} has a loss of {fit.losses[-1]:.6g} at its step {len(fit.losses) - 1}, "
                    f"where this loss gives {loss:.6g}. Fit with the loss (and refresh) that it is of, or delete it."
                )

    def _read(self):
        try:
            held = read(self.path, _KIND)
        except ReadError as error:
            raise ValueError(f"checkpoint: {error}. Delete it, or name another file.") from error
        if not isinstance(held, dict) or held.get("form") != _FORM:
            raise ValueError(
                f"checkpoint: {self.path} was written by another version of tvb_jaxfit, whose checkpoints do not say "
                "all that decides a fit. Go on with that version, or delete it and begin anew."
            )
        return held

    def keep(self, fit, ended):
        """Write the file, if it is time."""
        if self.path is None or not (ended or fit.step == 1 or fit.step % self.every == 0):
            return
        tree = {"form": _FORM, "keys": self._keys, "versions": _installed(), "fit": fit.held()}
        tree["notes"] = self.notes
        try:
            write(self.path, tree, _KIND)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {self.path} was not written ({error}); the fit goes on without it.", stacklevel=3
            )


def _keys(fit, named):
    """What decides a fit, as keys by name, and what of it cannot be compared."""
    loop = fit.optimizer
    parts = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(fit.rest)}
    parts |= {f"{path} (bounds)": (type(each), each.static_fields()) for path, each in fit.parameters.items()}
    parts |= {
        "structure of the state": jax.tree.map(lambda _: 0, fit.rest),
        "precision": [getattr(jax.config, name) for name in _SETTINGS],
        "validate_every": loop.validate_every,
        "patience": loop.patience,
    }
    callbacks = deciding(loop.callback)
    # With their keys, as people know them.
    names = [f"callback {type(one).__name__} {getattr(one, 'key', '')}".rstrip() for one in callbacks]
    for name, one in zip(names, callbacks, strict=True):
        parts[name] = [parts.get(name), one]
    parts["order of callbacks"] = names
    if named is None:
        named = {name: getattr(loop, name) for name in ("loss", "has_aux", "optimizer", "refresh", "validate")}
    keys, unseen = {}, {}
    for name, part in (parts | named).items():
        within, not_seen = digests_by_path(part, name, _DEPTH if name in named and name not in _WHOLE else 0)
        keys |= within
        unseen |= {path: each.name for path, each in not_seen.items()}
    return keys, unseen


def _other(one, another):
    """Names of what differs between two fits, each as far down as it is known."""
    paths = [path for path in one | another if one.get(path) != another.get(path)]
    if "precision" in paths:
        # In another precision, all arrays are others.
        return ["precision (64-bit mode, or another of JAX's settings of arithmetic and random numbers)"]
    deepest = [path for path in paths if not any(_is_within(other, path) for other in paths)]
    # Of code and classes, what they are of.
    names = dict.fromkeys(_INSIDE.split(path)[0] for path in deepest)
    # Of a function that is another, that is enough to say.
    names = [name for name in names if not any(name.startswith(f"{function} -> ") for function in names)]
    named = [name for name in names if name not in _DERIVED and "._" not in name] or names
    return named[:_MOST] + [f"{len(named) - _MOST} more"] * (len(named) > _MOST)


def _is_within(path, other):
    return path.startswith(other) and path[len(other) :][:1] in (".", "[", "<", "-") or path.startswith(f"{other} -> ")


def _installed():
    return {name: importlib.metadata.version(name) for name in _PACKAGES} | {
        "tvb_jaxfit": f"{__version__} ({own_source_digest()})"
    }


def _versions(held):
    """What is installed in another version than it was, as the end of a message."""
    now, then = _installed(), held["versions"]
    other = [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]
    return f", and was written with other versions ({'; '.join(other)})" if other else ""
