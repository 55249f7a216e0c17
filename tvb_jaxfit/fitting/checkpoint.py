"""What a fit needs to go on after it was killed, in a file."""

import hashlib
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..parameters import path_name
from .store import Unreadable, read, write

_KIND = "checkpoint of a fit"
# What a loss at the same values may differ by, on another machine say; another loss differs by more.
_SAME = 1e-3


class Checkpoint:
    """The file of a fit; without a path, none.

    Parameters
    ----------
    path : path-like or None
    every : int
        Steps from one writing to the next.
    """

    # Of the fit that runs: no part of what the checkpoint is (see `content`).
    _passing = ("_facts",)

    def __init__(self, path, every):
        self.path, self.every = None if path is None else Path(path), every

    def begin(self, fit, resume):
        """Let a fit take up what is in the file, where it is to; see ``OptaxOptimizer.run``."""
        if self.path is None:
            if resume:
                raise ValueError("resume: there is nothing to go on from. Give OptaxOptimizer(..., checkpoint='FILE').")
            return
        self._facts = _facts(fit)
        if not self.path.exists():
            return
        if not resume:
            raise FileExistsError(
                f"checkpoint: {self.path} is there already. run(..., resume=True) goes on from it; to begin anew, "
                "delete it or name another file."
            )
        try:
            held = read(self.path, _KIND)
        except Unreadable as error:
            raise ValueError(f"checkpoint: {error}. Delete it, or name another file.") from error
        theirs = held["facts"]
        other = [name for name in self._facts | theirs if self._facts.get(name) != theirs.get(name)]
        if other:
            raise ValueError(
                f"checkpoint: {self.path} is of another fit (other are: {', '.join(other)}). Name another file, or fit "
                "what it is of."
            )
        fit.take_up(held["fit"])
        if fit.losses:
            loss = fit.loss_of_the_last()
            if not np.isclose(loss, fit.losses[-1], rtol=_SAME, atol=0.0):
                raise ValueError(
                    f"checkpoint: {self.path} has a loss of {fit.losses[-1]:.6g} at its step {len(fit.losses) - 1}, "
                    f"where this loss gives {loss:.6g}. Fit with the loss (and refresh) that it is of, or delete it."
                )

    def keep(self, fit, ended):
        """Write the file, where it is time."""
        if self.path is None or not (ended or fit.step == 1 or fit.step % self.every == 0):
            return
        try:
            write(self.path, {"facts": self._facts, "fit": fit.held()}, _KIND)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {self.path} was not written ({error}); the fit goes on without it.", stacklevel=3
            )


def _facts(fit):
    """What makes a fit this one, by name: start, bounds, and the form of the optimiser's state."""
    facts = {path_name(path): _digest(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(fit.rest)}
    facts |= {f"{path} (bounds)": repr((type(p).__name__, *p._facts())) for path, p in fit.parameters.items()}
    leaves = jax.tree_util.tree_leaves_with_path(fit.optimizer_state)
    facts["optimizer"] = repr([(path_name(path), leaf.shape, str(leaf.dtype)) for path, leaf in leaves])
    return facts | {"validate": fit.optimizer.validate is not None}


def _digest(leaf):
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    return f"{array.dtype}{array.shape} {hashlib.blake2b(array, digest_size=16).hexdigest()}"
