"""What looks on while a fit runs: prints, keeps, or ends it.

A callback is any function of (step, state, loss, gradients); True ends the fit. Those here start afresh with each fit,
so that one of them serves several.
"""

from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from ..checks import options as allowed
from ..checks.options import check
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin


class Callback:
    """A callback that remembers; by itself it does nothing.

    Attributes
    ----------
    reason : str
        Why it ended the fit, once it has.
    saved : dict of str to Saved
        What it keeps for the `History`.
    """

    reason = "the callback asked to stop"
    # What comes and goes with a fit: no part of what the callback is (see `content`).
    _transient = ("reason",)

    def __call__(self, step, state, loss, gradients):
        """Look on; True ends the fit.

        Parameters
        ----------
        step : int
            Updates done before.
        state : State
            As it is fitted: with `Parameter`s, and without what ``refresh`` changed.
        loss : float
        gradients : dict of str to Array
            By path, in physical units.
        """

    def begin(self, memory=None):
        """Forget the last fit; or take up the ``memory`` of one that is resumed."""

    @property
    def memory(self):
        """What a resumed fit has to know: a tree of arrays, numbers and strings."""
        return None

    @property
    def saved(self):
        """What is kept for the `History`, by key."""
        return {}


class _Function(Callback):
    def __init__(self, function):
        self._function = function

    def __call__(self, step, state, loss, gradients):
        return self._function(step, state, loss, gradients)


def as_callback(callback):
    """`Callback` of one, of a function, or of None; ValueError of anything else."""
    if callback is None:
        return Callback()
    check("callback", callback=(callback, allowed.function))
    return callback if isinstance(callback, Callback) else _Function(callback)


class MultiCallback(Callback):
    """Several callbacks, called in order; the fit ends where any of them says so.

    Parameters
    ----------
    callbacks : sequence of callable

    Raises
    ------
    ValueError
        Where one of them is no function, or two keep things under one key.

    Examples
    --------
    >>> import optax
    >>> from tvb_jaxfit import MultiCallback, OptaxOptimizer, Parameter, SavingCallback, State, StopOnLoss
    >>> callback = MultiCallback([SavingCallback("state"), StopOnLoss(0.1)])
    >>> optimizer = OptaxOptimizer(lambda s: s.x**2, optax.sgd(0.25), callback=callback, progress=False)
    >>> fitted, history = optimizer.run(State(x=Parameter(1.0)))
    >>> [float(state.x.value) for state in history["state"].save], history.stop_reason
    ([1.0, 0.5, 0.25], 'the loss fell to 0.0625 after 2 updates')
    """

    def __init__(self, callbacks):
        if not isinstance(callbacks, (list, tuple)):
            raise ValueError(f"MultiCallback: callbacks = {allowed.short_repr(callbacks)}; give a list of functions.")
        self.callbacks = [as_callback(callback) for callback in callbacks]
        keys = [key for one in self.callbacks for key in one.saved]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(
                f"MultiCallback: {', '.join(map(repr, twice))} is the key of more than one callback, of which the last "
                "alone would be kept; give each a key of its own."
            )

    def __call__(self, step, state, loss, gradients):
        """Call them all, also where one ends the fit."""
        # Compared one by one, as elsewhere: True alone ends a fit.
        ended = [one for one in self.callbacks if one(step, state, loss, gradients) is True]
        if ended:
            self.reason = ended[0].reason
        return bool(ended)

    def begin(self, memory=None):
        """As each of them does."""
        memories = [None] * len(self.callbacks) if memory is None else memory
        for one, its in zip(self.callbacks, memories, strict=True):
            one.begin(its)

    @property
    def memory(self):
        """Of each of them."""
        return [one.memory for one in self.callbacks]

    @property
    def saved(self):
        """Of all of them."""
        return {key: kept for one in self.callbacks for key, kept in one.saved.items()}


class DefaultPrintCallback(Callback):
    """Print step and loss.

    Parameters
    ----------
    every : int, optional
        Steps from one line to the next.
    """

    def __init__(self, every=10):
        check("DefaultPrintCallback", every=(every, allowed.integer(1)))
        self.every = int(every)

    def __call__(self, step, state, loss, gradients):
        """Print, where it is time."""
        if step % self.every == 0:
            tqdm.write(f"step {step}: loss {loss:.6g}")


@serialisable
@dataclass
class Saved(PicklableMixin):
    """What a `SavingCallback` kept.

    Attributes
    ----------
    step : list of int
        Updates done before.
    save : list
        What ``save_fun`` returned there.
    """

    step: list = field(default_factory=list)
    save: list = field(default_factory=list, repr=False)

    def to_pandas(self):
        """Table with the columns ``step`` and ``save``.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas

        return pandas.DataFrame({"step": self.step, "save": pandas.Series(self.save, dtype=object)})

    def __len__(self):
        return len(self.save)


class SavingCallback(Callback):
    """Keep something of each step: ``history[key].save`` is the list of it, ``history[key].step`` says when.

    Parameters
    ----------
    key : str
        Under which the `History` has it.
    save_fun : callable, optional
        (step, state, loss, gradients) to what is kept; by default the state. States share the arrays that are not
        fitted, so that many of them take little memory.
    every : int, optional
        Steps from one to the next.
    """

    _transient = ("kept",)

    def __init__(self, key, save_fun=lambda step, state, loss, gradients: state, every=1):
        check(
            "SavingCallback",
            key=(key, allowed.string),
            save_fun=(save_fun, allowed.function),
            every=(every, allowed.integer(1)),
        )
        self.key, self.save_fun, self.kept, self.every = key, save_fun, Saved(), int(every)

    def __call__(self, step, state, loss, gradients):
        """Keep, where it is time."""
        if step % self.every == 0:
            self.kept.step.append(step)
            self.kept.save.append(self.save_fun(step, state, loss, gradients))

    def begin(self, memory=None):
        """Keep nothing yet."""
        self.kept = Saved(*(memory or ([], [])))

    @property
    def memory(self):
        """Steps and what was kept."""
        return self.kept.step, self.kept.save

    @property
    def saved(self):
        """What was kept, under the key."""
        return {self.key: self.kept}


def deciding(callback):
    """Callbacks that are part of what a fit is, in order: those that keep or end something by rules of their own.

    Parameters
    ----------
    callback : Callback

    Returns
    -------
    list of Callback
        Without functions, what prints, and what has no memory.
    """
    kind = type(callback)
    if kind is MultiCallback:
        return [each for one in callback.callbacks for each in deciding(one)]
    return [callback] if kind is StopOnLoss or kind.memory is not Callback.memory else []


class StopOnLoss(Callback):
    """End the fit once the loss is small enough.

    Parameters
    ----------
    threshold : float
        A loss that is not above it ends the fit.
    """

    def __init__(self, threshold):
        check("StopOnLoss", threshold=(threshold, allowed.number()))
        self.threshold = float(threshold)

    def __call__(self, step, state, loss, gradients):
        """End the fit where the loss is small enough."""
        self.reason = f"the loss fell to {loss:.6g}"
        return loss <= self.threshold


class StopOnPlateau(Callback):
    """End the fit once the loss has stopped to fall.

    Parameters
    ----------
    patience : int
        Steps without a smaller loss that are waited for.
    min_change : float, optional
        By how much a loss has to be smaller to count.

    Raises
    ------
    ValueError
        A patience that is no whole number above 0, or a change below 0.
    """

    _transient = ("reason", "_lowest", "_step")

    def __init__(self, patience, min_change=0.0):
        check(
            "StopOnPlateau",
            patience=(patience, allowed.integer(1)),
            min_change=(min_change, allowed.number(minimum=0.0)),
        )
        self.patience, self.min_change = int(patience), float(min_change)
        self.begin()

    def __call__(self, step, state, loss, gradients):
        """End the fit where the last smaller loss is too long ago."""
        if loss < self._lowest - self.min_change:
            self._lowest, self._step = loss, step
        self.reason = f"{self.patience} steps brought no loss below {self._lowest:.6g} by more than {self.min_change:g}"
        return step - self._step >= self.patience

    def begin(self, memory=None):
        """Nothing seen yet."""
        self._lowest, self._step = memory or (np.inf, 0)

    @property
    def memory(self):
        """Smallest loss and its step."""
        return self._lowest, self._step
