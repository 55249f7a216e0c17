"""Noise draws of states in files: a random stream, where it gives them again, in place of the draws."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..persistence import serialisable
from ..state import State, get_path, with_path

# Relative difference up to which draws count as the same: another machine rounds the normal quantiles otherwise.
_TOLERANCE = 1e-5


@serialisable
@dataclass(frozen=True, eq=False)
class Draws:
    """Place of draws that the stream of their noise gives again.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
    last : ndarray
        Draws of the last step, to be compared.
    """

    shape: tuple
    dtype: str
    last: np.ndarray


class Redrawing:
    """Exchange of draws and their places, for the states of one fit.

    Parameters
    ----------
    n_steps : int
        Of a run.
    is_double : bool
        The states were made in double precision.
    """

    def __init__(self, n_steps: int, is_double: bool):
        self._n_steps, self._is_double = n_steps, is_double
        # States of a fit share their draws. Both are kept, so that their ids are not reused.
        self._done = {}

    def without_draws(self, state: State) -> State:
        """State with `Draws` in place of all draws that the streams of its noises give again, bit for bit."""
        return self._exchanged(state, self._place)

    def with_draws(self, state: State) -> State:
        """State with draws in place of `Draws`.

        Raises
        ------
        ValueError
            The streams give other draws here.
        """
        return self._exchanged(state, self._draws)

    def _exchanged(self, state, exchange):
        for path in _noises(state):
            noise = get_path(state, path)
            key = id(noise.draws), id(noise.stream), state.current_step
            if key not in self._done:
                self._done[key] = noise, exchange(path, noise, state.current_step)
            state = with_path(state, f"{path}.draws", self._done[key][1])
        return state

    def _place(self, path, noise, start):
        draws = np.asarray(noise.draws)
        place = Draws(draws.shape, str(draws.dtype), draws[-1:])
        return place if np.array_equal(self._again(noise, place, start), draws) else noise.draws

    def _draws(self, path, noise, start):
        if not isinstance(noise.draws, Draws):
            return noise.draws
        draws = self._again(noise, noise.draws, start)
        if not np.allclose(draws[-1:], noise.draws.last, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError(
                f"{path}: its random stream gives other draws here than when the state was saved. Use the versions of "
                "JAX and NumPy that it was saved with, and JAX's default settings of random numbers."
            )
        return draws

    def _again(self, noise, place, start):
        with jax.enable_x64(self._is_double):
            return jnp.asarray(noise.stream.draws(start, start + self._n_steps, place.shape), place.dtype)


def _noises(state):
    """Paths of the noises of a state."""
    monitors = [f"monitors[{index}].obsnoise" for index, node in enumerate(state.monitors) if "obsnoise" in node]
    return ["integrator.noise"] * ("noise" in state.integrator) + monitors
