"""Comparison of single steps of a translation, each from TVB's own state, with TVB's steps."""

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.network import coupling_series
from ..runtime.programs import Program

# Numbers in a block of TVB's states that are compared at once.
_BLOCK_NUMBERS = 2**21


class StepByStep:
    """Steps of a translation from TVB's own states, compared with TVB's while TVB runs.

    Parameters
    ----------
    simulate : Simulate
    state : State
        Initial state of TVB's run, without `Parameter` objects.

    Attributes
    ----------
    error : float
        Largest difference of one step, relative to the largest value of the state variable up to then.

    Notes
    -----
    Each step starts from TVB's own state and history. No difference is carried from one step to the next, so that chaos
    does not amplify it.
    """

    def __init__(self, simulate, state):
        self._theta, self._weights = simulate.constants(state), state.connectivity.weights
        self._inputs = simulate.inputs(state)[0]
        self._past, self._waiting = np.asarray(state.initial_conditions, float), []
        self._block_size = max(1, min(simulate.n_steps, _BLOCK_NUMBERS // self._past[0].size))
        self._largest = np.max(_finite_magnitude(self._past[-1]), axis=(1, 2))
        self._n_compared, self.error = 0, 0.0
        self._advance = Program(_advance_from(simulate.step))

    @property
    def overflows_single(self) -> bool:
        """True if TVB reached finite values that a history in single precision cannot hold."""
        return bool(np.max(self._largest) > np.finfo("f").max)

    def watch(self, sim):
        """Compare each state of a TVB simulator as soon as a block is full; `finish` compares the last ones."""
        update = sim._loop_update_history

        def watched_update(step, state):
            update(step, state)
            self._waiting.append(np.array(state, float))
            if len(self._waiting) == self._block_size:
                self.finish()

        vars(sim)["_loop_update_history"] = watched_update

    def finish(self):
        """Compare the states that are waiting."""
        if not self._waiting:
            return
        begin, size = self._n_compared, len(self._waiting)
        after = np.stack(self._waiting)
        before = np.concatenate([self._past[-1:], after[:-1]])
        inputs = jax.tree.map(lambda series: series[begin : begin + size], self._inputs)
        ours = np.asarray(self._advance(self._theta, self._weights, self._past, before, inputs))
        self._compare(before, ours, after)
        self._past = np.concatenate([self._past, after])[-self._past.shape[0] :]
        self._waiting, self._n_compared = [], begin + size

    def _compare(self, before, ours, theirs):
        magnitude = np.max(_finite_magnitude(np.stack([before, theirs])), axis=(0, 3, 4))
        largest = np.maximum.accumulate(np.concatenate([self._largest[None], magnitude]))[1:]
        self._largest = largest[-1]
        both_finite = np.isfinite(ours) & np.isfinite(theirs)
        with np.errstate(all="ignore"):
            difference = np.max(np.where(both_finite, np.abs(ours - theirs), 0.0), axis=(2, 3))
            relative = difference / np.where(largest > 0, largest, 1)
        # A step from a state that is not finite says nothing.
        is_valid = np.all(np.isfinite(before), axis=(1, 2, 3))
        only_one_finite = np.any(np.isfinite(ours) != np.isfinite(theirs), axis=(1, 2, 3))
        errors = np.where(only_one_finite & is_valid, np.inf, np.where(is_valid, np.max(relative, axis=1), 0.0))
        self.error = max(self.error, float(np.max(errors)))


def _finite_magnitude(values):
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def _advance_from(step):
    def advance(theta, weights, past, before, inputs):
        # Coupling input at each of the states, the first of which is the last one of the past.
        earlier = jnp.concatenate([past[:1], past[:-1]])
        coupling = coupling_series(step, theta, weights, earlier, before)
        return jax.vmap(step.local, (None, 0, 0, 0))(theta, before, coupling, inputs)

    return advance
