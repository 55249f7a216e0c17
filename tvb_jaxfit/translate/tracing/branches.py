"""Branches on traced conditions, in code that runs for one region at a time: all paths are run, and one is selected."""

import contextlib
import contextvars

import jax
import jax.numpy as jnp

# Limits beyond which code is refused: number of paths, and number of conditions on one path.
MAX_PATHS = 64
_MAX_CONDITIONS = 32

_path = contextvars.ContextVar("path", default=None)


class TooManyBranches(Exception):
    """The code has more paths than `MAX_PATHS`, or more conditions on one path than `_MAX_CONDITIONS`."""


class _Path:
    """One path through the code: given outcomes of the first conditions, True for all later ones."""

    def __init__(self, outcomes):
        self._outcomes, self.conditions = outcomes, []

    def decide(self, condition):
        """Outcome of the next condition, which is recorded."""
        if len(self.conditions) >= _MAX_CONDITIONS:
            raise TooManyBranches
        index = len(self.conditions)
        self.conditions.append(condition)
        return self._outcomes[index] if index < len(self._outcomes) else True


def decide(condition) -> bool:
    """Truth value of a condition; for a traced one, its outcome on the current path."""
    path = _path.get()
    if path is None or not isinstance(condition, jax.core.Tracer):
        return bool(condition)
    return path.decide(jnp.reshape(condition, ()))


@contextlib.contextmanager
def _use_path(path):
    token = _path.set(path)
    try:
        yield path
    finally:
        _path.reset(token)


def select_over_paths(run):
    """Value of a function of scalars whose code branches: the results of all paths, selected by their conditions.

    Parameters
    ----------
    run : callable
        Takes no arguments; returns a list of arrays. Called once for each path.

    Returns
    -------
    list of Array

    Raises
    ------
    TooManyBranches
    """
    n_paths = 0

    def explore(outcomes):
        nonlocal n_paths
        n_paths += 1
        if n_paths > MAX_PATHS:
            raise TooManyBranches
        with _use_path(_Path(outcomes)) as path:
            result = run()
        for index in reversed(range(len(outcomes), len(path.conditions))):
            if_false = explore([*outcomes, *(True,) * (index - len(outcomes)), False])
            condition = path.conditions[index]
            result = [jnp.where(condition, true, false) for true, false in zip(result, if_false, strict=True)]
        return result

    return explore([])
