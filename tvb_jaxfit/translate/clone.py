"""Full copies of TVB objects, configured state included.

TVB's own deepcopy shares arrays and loses attributes that configure() sets.
"""

import copy
import types
from typing import TYPE_CHECKING

import numpy as np
from tvb.basic.neotraits.api import HasTraits
from tvb.simulator import descriptors, history
from tvb.simulator.models.base import Model

from .random_stream import GlobalStreamGuard, global_stream_copy, has_user_classes

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


class PicklableHistory(history.SparseHistory):
    """TVB's history, made picklable: TVB stores an instance's arrays in descriptors of the class."""

    def __reduce__(self):
        return _make_history, (self.weights, self.delays, self.cvars, self.n_mode, self.buffer, type(self))


class Float64History(PicklableHistory):
    """TVB's history with weights and samples in float64, where TVB's own holds them as float32."""


for _name, _array in [pair for _cls in reversed(history.SparseHistory.__mro__) for pair in vars(_cls).items()]:
    if isinstance(_array, descriptors.NDArray) and _array.dtype == "f":
        setattr(Float64History, _name, descriptors.NDArray(_array.shape, "d", _array.read_only))


def _make_history(weights, delays, cvars, n_mode, buffer, kind):
    """History of a class ``kind`` with the given content."""
    new = kind(np.asarray(weights, dtype=float), np.asarray(delays).astype(int), cvars, n_mode)
    new.initialize(buffer)
    return new


def clone(value, memo: dict | None = None):
    """Copy of a TVB object that shares nothing with it, configured state included.

    Parameters
    ----------
    value : object
        A `HasTraits`, or an attribute of one.
    memo : dict, optional
        Copies made so far, by id. An object that occurs twice is copied once.

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
        vars(new).update({name: clone(item, memo) for name, item in dict(vars(value)).items()})
    elif isinstance(value, history.SparseHistory):
        new = history_with_weights(value, value.weights)
    elif isinstance(value, types.MethodType):
        new = types.MethodType(value.__func__, clone(value.__self__, memo))
    elif isinstance(value, np.ndarray):
        new = value.copy()
    elif isinstance(value, dict):
        new = {key: clone(item, memo) for key, item in value.items()}
    elif type(value) in (list, tuple):
        new = type(value)(clone(item, memo) for item in value)
    else:
        return value if callable(value) or type(value).__module__ == "logging" else copy.deepcopy(value)
    memo[id(value)] = new
    return new


class PackedSimulator:
    """Picklable copy of a configured simulator, to be sent to another process.

    Parameters
    ----------
    sim : Simulator
        Its history must be picklable, as that of a `configured_clone` is.
    """

    def __init__(self, sim: "Simulator"):
        self._sim = clone(sim)
        # A function that TVB compiles from text, so that it cannot be pickled by name.
        vars(self._sim.model).pop("observe", None)

    def unpack(self) -> "Simulator":
        """Restore the simulator."""
        self._sim.model._build_observer()
        return self._sim


def history_with_weights(
    past: history.SparseHistory, weights: np.ndarray, float64_history: bool = False
) -> PicklableHistory:
    """Copy of a TVB history with other weights.

    Parameters
    ----------
    past : SparseHistory
    weights : ndarray, shape (n_node, n_node)
    float64_history : bool, optional
        Make a `Float64History`; by default only if ``past`` is one.
    """
    kind = Float64History if float64_history or past.buffer.dtype == np.float64 else PicklableHistory
    return _make_history(weights, past.delays, past.cvars, past.n_mode, past.buffer, kind)


def history_with_buffer(past: history.SparseHistory, buffer: np.ndarray, delays: np.ndarray) -> PicklableHistory:
    """Copy of a TVB history with other samples and delays, in the same precision.

    Parameters
    ----------
    past : SparseHistory
    buffer : ndarray, shape (n_time, n_cvar, n_node, n_mode)
    delays : ndarray, shape (n_node, n_node)
        [steps]
    """
    kind = Float64History if past.buffer.dtype == np.float64 else PicklableHistory
    return _make_history(past.weights, delays, past.cvars, past.n_mode, buffer, kind)


def configured_clone(sim: "Simulator", float64_history: bool = False) -> "Simulator":
    """Configured copy of a simulator, in the state in which ``sim.run()`` would start.

    Parameters
    ----------
    sim : Simulator
        Not modified. Neither its random stream nor numpy's global one is advanced.
    float64_history : bool, optional
        Give the copy a history in double precision. For a simulator that has not been configured before, this history
        is exact.

    Returns
    -------
    Simulator
        Its history holds the weights and the current state in the best precision that is available.
    """
    copy_of = clone(sim)
    if copy_of.history is None:
        _configure(copy_of, Float64History if float64_history else PicklableHistory)
        return copy_of
    copy_of.history = history_with_weights(copy_of.history, copy_of.history.weights, float64_history)
    if history_has_weights(copy_of):
        copy_of.history = history_with_weights(copy_of.history, copy_of.connectivity.weights)
    if history_has_current_state(copy_of):
        past = copy_of.history
        past.buffer[copy_of.current_step % past.n_time] = copy_of.current_state[past.cvars]
    return copy_of


def _configure(sim, history_class):
    """Call TVB's configure() of a copy; its draws equal TVB's, but advance none of the user's streams."""
    own, model = vars(sim), sim.model
    own["_configure_history"] = lambda: setattr(sim, "history", history_class.from_simulator(sim))
    if not has_user_classes(sim) and isinstance(model, Model) and not hasattr(sim.integrator, "noise"):
        # With a deterministic integrator, TVB draws initial conditions from numpy's global stream.
        stream = global_stream_copy()
        vars(model)["initial_for_simulator"] = lambda integrator, shape: model.initial(integrator.dt, shape, stream)
    try:
        with GlobalStreamGuard(sim):
            sim.configure()
    finally:
        del own["_configure_history"]
        vars(model).pop("initial_for_simulator", None)


def history_has_weights(sim: "Simulator") -> bool:
    """Check whether a simulator's history holds the weights of its connectivity, in single precision."""
    in_history, weights = (np.asarray(array, dtype="f") for array in (sim.history.weights, sim.connectivity.weights))
    return np.array_equal(in_history, weights)


def history_has_current_state(sim: "Simulator") -> bool:
    """Check whether the newest sample of a simulator's history is its current state, in single precision."""
    newest = np.asarray(sim.history.buffer[sim.current_step % sim.history.n_time], dtype="f")
    current = np.asarray(sim.current_state[sim.model.cvar], dtype="f")
    return newest.shape == current.shape and np.array_equal(newest, current, equal_nan=True)
