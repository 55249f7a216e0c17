"""BOLD monitor by the Balloon-Windkessel model: interim means that drive hemodynamics, which are sampled."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..state import State
from .balloon_parameters import PARAMETERS
from .hemodynamics import REST, Balloon, steady_hemodynamics
from .monitors import InterimMonitor, window_means

# Remainder of a transient that counts as negligible.
_TRANSIENT = 1e-3


@dataclass(frozen=True, eq=False)
class BalloonBold(InterimMonitor):
    """BOLD by the Balloon-Windkessel model (TVB: `tvb_jaxfit.BalloonBold`).

    Attributes
    ----------
    interim_istep : int
        Integration steps per step of the hemodynamics, which the mean over them drives.
    nonlinear : bool
        True for the nonlinear equation of the signal.
    """

    nonlinear: bool = True

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """BOLD at the sampling steps; the state of the hemodynamics is what a next run continues from."""
        start, n_steps = start * self.pooled, observed.shape[0] * self.pooled
        means, interim = window_means(leaves.interim_stock, self.select(observed), self.interim_istep // self.pooled)
        ends = self.steps(start, n_steps) // self.interim_istep - start // self.interim_istep - 1
        bold, state = self._system.sample(_columns(leaves), leaves.hemodynamics, means, ends)
        return bold, {"interim_stock": interim, "hemodynamics": state}

    def at_rest(self, leaves: State, observed: jax.Array) -> State:
        """Leaves after a constant observed sample (1, n_voi, n_node, n_mode) for all time."""
        steady = steady_hemodynamics(_columns(leaves), self.select(observed)[0])
        return leaves.replace(hemodynamics=steady.astype(leaves.hemodynamics.dtype))

    def response(self, leaves: State, observed: jax.Array) -> Callable:
        """Frequency response of each observed signal.

        Parameters
        ----------
        leaves : State
        observed : Array, shape (1, n_voi, n_node, n_mode)
            Mean of what the monitor observes.

        Returns
        -------
        callable
            Function of frequencies (n,) [rad per step] to complex gains (n, n_voi, n_node, n_mode), up to the phase of
            the interim mean, which all signals share; 0 for signals that the monitor does not record.
        """
        response = self._system.response(_columns(leaves), self.select(observed)[0])
        rows = np.asarray(self.voi)

        def gain(theta):
            angle = (self.interim_istep / 2.0) * theta
            # sin(m a) / (m sin(a)), also at a = 0.
            of_mean = jnp.sinc(angle / np.pi) / jnp.sinc(theta / (2.0 * np.pi))
            gains = of_mean[:, None, None, None] * response(jnp.exp(2j * angle))
            return jnp.zeros((theta.size, *observed.shape[1:]), gains.dtype).at[:, rows].set(gains)

        return gain

    def transient(self, leaves: State) -> int:
        """Number of samples until hemodynamics at rest have reached the level of the activity; 0 from another state."""
        hemodynamics = np.asarray(leaves.hemodynamics)
        if not np.array_equal(hemodynamics, np.broadcast_to(np.reshape(REST, (4, 1, 1, 1)), hemodynamics.shape)):
            return 0
        rate, frequency = 1.0 / np.ravel(leaves.tau_s), 1.0 / np.ravel(leaves.tau_f)
        decay = 0.5 * np.min(rate - np.sqrt(np.maximum(rate**2 - 4.0 * frequency, 0.0)))
        slowest = min(decay, float(np.min(1.0 / np.asarray(leaves.tau_o))))
        return math.ceil(-1000.0 * math.log(_TRANSIENT) / (slowest * self.istep * self.dt))

    @property
    def _system(self):
        return Balloon(self.interim_istep * self.dt, self.nonlinear)


def _columns(leaves):
    """Parameters that broadcast against samples (n_voi, n_node, n_mode)."""
    return {name: jnp.reshape(getattr(leaves, name), (1, -1, 1)) for name in PARAMETERS}
