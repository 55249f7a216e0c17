"""Full copies of TVB objects, for TVB's own deepcopy shares arrays and forgets what configure() worked out."""

import contextlib
import copy
import types

import numpy as np
from tvb.basic.neotraits.api import HasTraits
from tvb.simulator import descriptors, history

_HISTORIES = (history.BaseHistory, history.DenseHistory, history.SparseHistory)


@contextlib.contextmanager
def lifted_history():
    """TVB with a double-precision history: within it, new histories hold float64 where TVB holds float32.

    Notes
    -----
    Arrays are made when a history is, so a simulator configured or cloned inside stays lifted outside.
    """
    arrays = [
        attribute
        for cls in _HISTORIES
        for attribute in vars(cls).values()
        if isinstance(attribute, descriptors.NDArray) and attribute.dtype == "f"
    ]
    try:
        for array in arrays:
            array.dtype = "d"
        yield
    finally:
        for array in arrays:
            array.dtype = "f"


def clone(value, memo=None):
    """Copy of a TVB object with nothing shared and nothing forgotten, configured state included.

    Parameters
    ----------
    value : object
        A `HasTraits`, or anything that one holds.
    memo : dict, optional
        Copies made so far, by id: an object met twice is copied once.

    Returns
    -------
    object
    """
    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, HasTraits):
        new = object.__new__(type(value))
        memo[id(value)] = new
        vars(new).update({name: clone(item, memo) for name, item in vars(value).items()})
    elif isinstance(value, history.SparseHistory):
        new = with_weights(value, value.weights)
    elif isinstance(value, types.MethodType):
        new = types.MethodType(value.__func__, clone(value.__self__, memo))
    elif isinstance(value, np.ndarray):
        new = value.copy()
    elif isinstance(value, dict):
        new = {key: clone(item, memo) for key, item in value.items()}
    elif type(value) in (list, tuple):
        new = type(value)(clone(item, memo) for item in value)
    elif isinstance(value, np.random.RandomState):
        new = np.random.RandomState()
        new.set_state(value.get_state())
    else:
        return value if callable(value) or type(value).__module__ == "logging" else copy.deepcopy(value)
    memo[id(value)] = new
    return new


def with_weights(past, weights):
    """A TVB history with other weights and the same buffer, as precise as the old one at least."""
    precise = past.buffer.dtype == np.float64
    with lifted_history() if precise else contextlib.nullcontext():
        new = history.SparseHistory(np.asarray(weights, dtype=float), past.delays.astype(int), past.cvars, past.n_mode)
        new.initialize(past.buffer)
    return new


def configured_clone(sim):
    """Configured copy of a simulator that stands where ``sim.run()`` would start.

    Parameters
    ----------
    sim : Simulator
        Not modified, nor its random stream, nor numpy's global one.

    Returns
    -------
    Simulator
        Its history holds weights and current state as precisely as it can: where `lifted_history` is in force,
        exactly.
    """
    copy_of = clone(sim)
    if copy_of.history is None:
        global_stream = np.random.get_state()
        try:
            copy_of.configure()
        finally:
            np.random.set_state(global_stream)
        return copy_of
    if holds_weights(copy_of):
        copy_of.history = with_weights(copy_of.history, copy_of.connectivity.weights)
    if holds_current_state(copy_of):
        past = copy_of.history
        past.buffer[copy_of.current_step % past.n_time] = copy_of.current_state[past.cvars]
    return copy_of


def holds_weights(sim):
    """Whether the weights that a simulator's history holds are its connectivity's, to the precision of a history."""
    held, weights = (np.asarray(array, dtype="f") for array in (sim.history.weights, sim.connectivity.weights))
    return np.array_equal(held, weights)


def holds_current_state(sim):
    """Whether the newest sample of a simulator's history is its current state, to the precision of a history."""
    newest = np.asarray(sim.history.buffer[sim.current_step % sim.history.n_time], dtype="f")
    current = np.asarray(sim.current_state[sim.model.cvar], dtype="f")
    return newest.shape == current.shape and np.array_equal(newest, current, equal_nan=True)
