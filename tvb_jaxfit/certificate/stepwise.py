"""One step of a translation from each of TVB's own states, and how fast a simulator's own dynamics grow differences."""

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.network import coupling_series
from ..runtime.programs import Program

# Numbers of a block of TVB's states that are compared at once.
_NUMBERS = 2**21
# Relative size of the differences whose growth is watched: of rounding, and of a history in single precision.
ROUNDING, SINGLE = 1e-14, 1e-7


class StepByStep:
    """Steps of a translation from TVB's own states, compared with TVB's as TVB runs.

    Parameters
    ----------
    simulate : Simulate
    state : State
        Plain; where TVB starts.

    Attributes
    ----------
    worst : float
        Largest difference of one step, relative to the largest value that the state variable had until then.
    at : int
        The step after which it was found, counted from 1.

    Notes
    -----
    What TVB itself was at before a step, delayed states included, goes into the step: no difference is carried from one
    step to the next, so that chaos does not grow it.
    """

    def __init__(self, simulate, state):
        self._step, self._theta = simulate.step, simulate.constants(state)
        self._weights, self._inputs = state.connectivity.weights, simulate.inputs(state)[0]
        self._past, self._waiting = np.asarray(state.initial_conditions, float), []
        self._size = max(1, min(simulate.n_steps, _NUMBERS // self._past[0].size))
        self._largest = np.max(_finite(self._past[-1]), axis=(1, 2))
        self._done, self.worst, self.at = 0, 0.0, 0
        self._advance = Program(_steps_of(simulate.step))

    @property
    def overflows_single(self):
        """Whether TVB came to finite values that a history in single precision cannot hold."""
        return bool(np.max(self._largest) > np.finfo("f").max)

    def watch(self, sim):
        """Have each state of a TVB simulator compared as it comes; the last ones by `finish`."""
        update = sim._loop_update_history

        def updated(step, state):
            update(step, state)
            self._waiting.append(np.array(state, float))
            if len(self._waiting) == self._size:
                self.finish()

        vars(sim)["_loop_update_history"] = updated

    def finish(self):
        """Compare the states that are waiting."""
        if not self._waiting:
            return
        begin, size = self._done, len(self._waiting)
        after = np.stack(self._waiting)
        before = np.concatenate([self._past[-1:], after[:-1]])
        inputs = jax.tree.map(lambda series: series[begin : begin + size], self._inputs)
        ours = np.asarray(self._advance(self._theta, self._weights, self._past, before, inputs))
        self._compare(before, ours, after)
        self._past = np.concatenate([self._past, after])[-self._past.shape[0] :]
        self._waiting, self._done = [], begin + size

    def _compare(self, before, ours, theirs):
        rows = np.max(_finite(np.stack([before, theirs])), axis=(0, 3, 4))
        largest = np.maximum.accumulate(np.concatenate([self._largest[None], rows]))[1:]
        self._largest = largest[-1]
        both = np.isfinite(ours) & np.isfinite(theirs)
        with np.errstate(all="ignore"):
            apart = np.max(np.where(both, np.abs(ours - theirs), 0.0), axis=(2, 3)) / np.where(largest > 0, largest, 1)
        # From a state that is not finite, or not any more afterwards, nothing follows for the numbers themselves.
        goes_on = np.all(np.isfinite(before), axis=(1, 2, 3))
        lost = np.any(np.isfinite(ours) != np.isfinite(theirs), axis=(1, 2, 3))
        of_steps = np.where(lost & goes_on, np.inf, np.where(goes_on, np.max(apart, axis=1), 0.0))
        if np.max(of_steps) > self.worst:
            self.worst, self.at = float(np.max(of_steps)), self._done + 1 + int(np.argmax(of_steps))


def _finite(values):
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def _steps_of(step):
    def advance(theta, weights, past, before, inputs):
        # The coupling that is seen at each of the states, the first of which is the last of the past.
        earlier = jnp.concatenate([past[:1], past[:-1]])
        arrives = coupling_series(step, theta, weights, earlier, before)
        return jax.vmap(step.local, (None, 0, 0, 0))(theta, before, arrives, inputs)

    return advance


def shaken(state, size, seed=0):
    """A state whose past differs by a relative size, as by rounding."""
    past = np.asarray(state.initial_conditions)
    scale = np.max(np.abs(past), axis=(0, 2, 3), keepdims=True)
    random = np.random.RandomState(seed).uniform(-1.0, 1.0, past.shape)
    moved = past + size * random * np.where(scale > 0.0, scale, 1.0)
    return state.replace(initial_conditions=jnp.asarray(moved, state.initial_conditions.dtype))


def growth(ours, shaken, size):
    """Rate [1/ms] at which differences of a relative size grow in the samples of the monitors; 0 where they do not.

    Parameters
    ----------
    ours, shaken : list of (ndarray, ndarray)
        Times and samples of each monitor.
    size : float
        Of the differences at the start.
    """
    rates = [0.0]
    for (time, data), (_, other) in zip(ours, shaken, strict=True):
        if not data.size:
            continue
        with np.errstate(all="ignore"):
            apart = np.nanmax(np.abs(data - other).reshape(len(data), -1), axis=1, initial=0.0)
            scale = np.max(np.where(np.isfinite(data), np.abs(data), 0.0)) or 1.0
        # Until they are as large as they can be.
        ended = np.flatnonzero(~(apart < 1e-2 * scale))
        last = ended[0] if ended.size else len(apart) - 1
        reached = min(apart[last] / scale, 1.0) if np.isfinite(apart[last]) else 1.0
        if reached > size and time[last] > 0.0:
            rates.append(float(np.log(reached / size) / time[last]))
    return max(rates)
