"""Callbacks of a fit: they print, save, or end it.

A callback is a function of (step, state, loss, gradients); True ends the fit. The callbacks here are reset at the start
of each fit, so that one callback can serve several fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..checks import options as allowed
from ..checks.options import check
from ..persistence import serialisable
from ..runtime.processes import PicklableMixin

if TYPE_CHECKING:
    import pandas


class Callback:
    """Base of callbacks that keep a state of their own; this one does nothing.

    Attributes
    ----------
    reason : str
        Reason for ending the fit, once it has ended it.
    saved : dict of str to Saved
        Values for the `History`.
    """

    reason = "the callback asked to stop"
    # Attributes that belong to one fit: they are no part of a fingerprint.
    _transient = ("reason",)

    def __call__(self, step, state, loss, gradients) -> bool | None:
        """Process one evaluation; True ends the fit.

        Parameters
        ----------
        step : int
            Number of updates before this evaluation.
        state : State
            State with `Parameter`s, without the changes of ``refresh``.
        loss : float
        gradients : dict of str to Array
            Gradients by path, in physical units.
        """

    def reset(self, resume_state=None):
        """Discard the previous fit; or continue from the ``resume_state`` of a fit that is resumed."""

    @property
    def resume_state(self):
        """State that a resumed fit needs: a tree of arrays, numbers and strings."""
        return None

    @property
    def saved(self) -> dict[str, "Saved"]:
        """Values for the `History`, by key."""
        return {}


class _Function(Callback):
    def __init__(self, function):
        self._function = function

    def __call__(self, step, state, loss, gradients):
        return self._function(step, state, loss, gradients)


def as_callback(callback) -> Callback:
    """`Callback` of a callback, a function, or None; ValueError for anything else."""
    if callback is None:
        return Callback()
    check("callback", callback=(callback, allowed.function))
    return callback if isinstance(callback, Callback) else _Function(callback)


class MultiCallback(Callback):
    """Several callbacks, called in order; the fit ends if any of them ends it.

    Parameters
    ----------
    callbacks : sequence of callable

    Raises
    ------
    ValueError
        A callback that is no function; two callbacks that save under one key.

    Examples
    --------
    >>> import optax
    >>> from tvb_jaxfit import MultiCallback, OptaxOptimizer, Parameter, SavingCallback, State, StopOnLoss
    >>> callback = MultiCallback([SavingCallback("state"), StopOnLoss(0.1)])
    >>> optimizer = OptaxOptimizer(lambda s: s.x**2, optax.sgd(0.25), callback=callback, progress=False)
    >>> fitted, history = optimizer.run(State(x=Parameter(1.0)))
    >>> [float(state.x.value) for state in history["state"].save], str(history.stop_reason)
    ([1.0, 0.5, 0.25], 'the loss fell to 0.0625 after 2 updates')
    """

    def __init__(self, callbacks: Sequence[Callable]):
        if not isinstance(callbacks, (list, tuple)):
            raise ValueError(f"MultiCallback: callbacks = {allowed.short_repr(callbacks)}; give a list of functions.")
        self.callbacks = [as_callback(callback) for callback in callbacks]
        keys = [key for callback in self.callbacks for key in callback.saved]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise ValueError(
                f"MultiCallback: {', '.join(map(repr, repeated))} is the key of more than one callback, of which only "
                "the last one would be kept; give each callback a key of its own."
            )

    def __call__(self, step, state, loss, gradients) -> bool:
        """Call all callbacks, even after one has ended the fit."""
        # As for a single callback, True alone ends a fit, and no other true value.
        ended = [callback for callback in self.callbacks if callback(step, state, loss, gradients) is True]
        if ended:
            self.reason = ended[0].reason
        return bool(ended)

    def reset(self, resume_state=None):
        """Reset each callback."""
        states = [None] * len(self.callbacks) if resume_state is None else resume_state
        for callback, state in zip(self.callbacks, states, strict=True):
            callback.reset(state)

    @property
    def resume_state(self):
        """List of the states of the callbacks."""
        return [callback.resume_state for callback in self.callbacks]

    @property
    def saved(self) -> dict[str, "Saved"]:
        """Saved values of all callbacks."""
        return {key: saved for callback in self.callbacks for key, saved in callback.saved.items()}


class DefaultPrintCallback(Callback):
    """Print step and loss.

    Parameters
    ----------
    every : int, optional
        Number of steps between two lines.
    """

    def __init__(self, every: int = 10):
        check("DefaultPrintCallback", every=(every, allowed.integer(1)))
        self.every = int(every)

    def __call__(self, step, state, loss, gradients):
        """Print every n-th step."""
        if step % self.every == 0:
            tqdm.write(f"step {step}: loss {loss:.6g}")


@serialisable
@dataclass
class Saved(PicklableMixin):
    """Values that a `SavingCallback` has saved.

    Attributes
    ----------
    step : list of int
        Number of updates before each value.
    save : list
        Values that ``save_fun`` returned.
    """

    step: list = field(default_factory=list)
    save: list = field(default_factory=list, repr=False)

    def to_pandas(self) -> "pandas.DataFrame":
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
    """Save a value at each step: ``history[key].save`` is the list of values, ``history[key].step`` that of the steps.

    Parameters
    ----------
    key : str
        Key in the `History`.
    save_fun : callable, optional
        (step, state, loss, gradients) to the value that is saved. Default: the state. States share the arrays that are
        not fitted, so that many states need little memory.
    every : int, optional
        Number of steps between two values.
    """

    _transient = ("saved_values",)

    def __init__(
        self, key: str, save_fun: Callable[..., Any] = lambda step, state, loss, gradients: state, every: int = 1
    ):
        check(
            "SavingCallback",
            key=(key, allowed.string),
            save_fun=(save_fun, allowed.function),
            every=(every, allowed.integer(1)),
        )
        self.key, self.save_fun, self.saved_values, self.every = key, save_fun, Saved(), int(every)

    def __call__(self, step, state, loss, gradients):
        """Save every n-th step."""
        if step % self.every == 0:
            self.saved_values.step.append(step)
            self.saved_values.save.append(self.save_fun(step, state, loss, gradients))

    def reset(self, resume_state=None):
        """Discard the saved values, or take those of a fit that is resumed."""
        self.saved_values = Saved(*(resume_state or ([], [])))

    @property
    def resume_state(self):
        """Steps and values."""
        return self.saved_values.step, self.saved_values.save

    @property
    def saved(self) -> dict[str, Saved]:
        """Saved values under the key."""
        return {self.key: self.saved_values}


def stateful_callbacks(callback: Callback) -> list[Callback]:
    """Callbacks that belong to the identity of a fit, in order: those that save values, or end it by a rule.

    Parameters
    ----------
    callback : Callback

    Returns
    -------
    list of Callback
        Without functions, printing callbacks, and callbacks without a state.
    """
    kind = type(callback)
    if kind is MultiCallback:
        return [each for nested in callback.callbacks for each in stateful_callbacks(nested)]
    return [callback] if kind is StopOnLoss or kind.resume_state is not Callback.resume_state else []


class StopOnLoss(Callback):
    """End the fit once the loss is small enough.

    Parameters
    ----------
    threshold : float
        Loss at or below which the fit ends.
    """

    def __init__(self, threshold: float):
        check("StopOnLoss", threshold=(threshold, allowed.number()))
        self.threshold = float(threshold)

    def __call__(self, step, state, loss, gradients) -> bool:
        """End the fit if the loss is small enough."""
        self.reason = f"the loss fell to {loss:.6g}"
        return loss <= self.threshold


class StopOnPlateau(Callback):
    """End the fit once the loss no longer decreases.

    Parameters
    ----------
    patience : int
        Number of steps without a smaller loss after which the fit ends.
    min_change : float, optional
        Decrease of the loss that counts.

    Raises
    ------
    ValueError
        A patience that is no whole number above 0, or a change below 0.
    """

    _transient = ("reason", "_lowest", "_step")

    def __init__(self, patience: int, min_change: float = 0.0):
        check(
            "StopOnPlateau",
            patience=(patience, allowed.integer(1)),
            min_change=(min_change, allowed.number(minimum=0.0)),
        )
        self.patience, self.min_change = int(patience), float(min_change)
        self.reset()

    def __call__(self, step, state, loss, gradients) -> bool:
        """End the fit if the last smaller loss is too many steps ago."""
        if loss < self._lowest - self.min_change:
            self._lowest, self._step = loss, step
        self.reason = f"{self.patience} steps brought no loss below {self._lowest:.6g} by more than {self.min_change:g}"
        return step - self._step >= self.patience

    def reset(self, resume_state=None):
        """Discard the smallest loss, or take that of a fit that is resumed."""
        self._lowest, self._step = resume_state or (np.inf, 0)

    @property
    def resume_state(self):
        """Smallest loss and its step."""
        return self._lowest, self._step
