"""Branches on traced conditions in code that runs for one region at a time: both ways are taken, one is selected."""

import contextlib
import contextvars

import jax
import jax.numpy as jnp

# Runs of the code, each with another combination of outcomes, beyond which it is not followed.
MOST_PATHS = 64
_MOST_ON_ONE_PATH = 32

_path = contextvars.ContextVar("path", default=None)


class TooManyBranches(Exception):
    """The combinations of outcomes are too many to run them all."""


class _Path:
    """One way through the code: outcomes that are set, then True for every condition that comes after them."""

    def __init__(self, outcomes):
        self._outcomes, self.conditions = outcomes, []

    def decide(self, condition):
        if len(self.conditions) >= _MOST_ON_ONE_PATH:
            raise TooManyBranches
        index = len(self.conditions)
        self.conditions.append(condition)
        return self._outcomes[index] if index < len(self._outcomes) else True


def decide(condition):
    """Truth of a condition: of a traced one, the outcome on the path that is being followed."""
    path = _path.get()
    if path is None or not isinstance(condition, jax.core.Tracer):
        return bool(condition)
    return path.decide(jnp.reshape(condition, ()))


@contextlib.contextmanager
def _following(path):
    token = _path.set(path)
    try:
        yield path
    finally:
        _path.reset(token)


def on_every_path(run):
    """Value of a function of scalars whose code branches: what each branch gives, selected by its condition.

    Parameters
    ----------
    run : callable
        Without arguments; gives a list of arrays. Called once for each combination of outcomes.

    Returns
    -------
    list of Array

    Raises
    ------
    TooManyBranches
    """
    count = 0

    def explore(outcomes):
        nonlocal count
        count += 1
        if count > MOST_PATHS:
            raise TooManyBranches
        with _following(_Path(outcomes)) as path:
            result = run()
        for index in reversed(range(len(outcomes), len(path.conditions))):
            other = explore([*outcomes, *(True,) * (index - len(outcomes)), False])
            condition = path.conditions[index]
            result = [jnp.where(condition, yes, no) for yes, no in zip(result, other, strict=True)]
        return result

    return explore([])
