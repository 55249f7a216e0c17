"""What TVB's monitors make of a trajectory: pure functions of the observed states of a run.

Each monitor has ``steps(start, n_steps)``, the integration steps at which it samples, ``times(start, n_steps)`` [ms],
and ``sample(leaves, observed, start)``, which returns its samples and the leaves that a next run goes on from.
``observed`` is (n_steps, n_voi, n_node, n_mode); ``start`` is the simulator's current_step before the run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from .hemodynamics import filter_at


def multiples(start, n_steps, period):
    """Integration steps after ``start``, up to ``start + n_steps``, that are multiples of ``period``."""
    return np.arange(start // period + 1, (start + n_steps) // period + 1) * period


def window_means(pending, signal, size):
    """Means over consecutive windows, the first begun by an earlier run.

    Parameters
    ----------
    pending : Array, shape (n_pending, ...)
        Samples of the window that is not full yet.
    signal : Array, shape (n_time, ...)
    size : int
        Samples a window.

    Returns
    -------
    means : Array, shape ((n_pending + n_time) // size, ...)
    pending : Array
        What is left over.
    """
    if size == 1:
        return signal, pending
    signal = jnp.concatenate([pending, signal])
    whole = signal.shape[0] - signal.shape[0] % size
    return jnp.mean(signal[:whole].reshape(-1, size, *signal.shape[1:]), axis=1), signal[whole:]


@dataclass(frozen=True, eq=False)
class Monitor:
    """What all monitors have: the rows that they watch, their sampling period in steps, and dt [ms]."""

    voi: tuple[int, ...]
    istep: int
    dt: float

    def steps(self, start, n_steps):
        """Integration steps at which the monitor samples."""
        return multiples(start, n_steps, self.istep)

    def times(self, start, n_steps):
        """Sampling times [ms], as TVB computes them, in double precision."""
        return self.steps(start, n_steps) * self.dt

    def watch(self, observed):
        """Rows that the monitor watches."""
        if self.voi == tuple(range(observed.shape[1])):
            return observed
        return observed[:, np.asarray(self.voi)]


class Raw(Monitor):
    """Every step (TVB: Raw)."""

    def sample(self, leaves, observed, start):
        """Observed states as they are."""
        return self.watch(observed), {}


class SubSample(Monitor):
    """Every istep-th step, not averaged (TVB: SubSample)."""

    def sample(self, leaves, observed, start):
        """Observed states at the sampling steps."""
        return self.watch(observed)[self.steps(start, observed.shape[0]) - start - 1], {}


class TemporalAverage(Monitor):
    """Mean over each period (TVB: TemporalAverage); times at the middle of the window."""

    def times(self, start, n_steps):
        """Middle of each window [ms]."""
        return (self.steps(start, n_steps) - self.istep / 2.0) * self.dt

    def sample(self, leaves, observed, start):
        """Means of the windows that end in this run."""
        means, pending = window_means(leaves.stock, self.watch(observed), self.istep)
        return means, {"stock": pending}


@dataclass(frozen=True, eq=False)
class Bold(Monitor):
    """BOLD: interim means convolved with a hemodynamic response, at the sampling steps alone (TVB: Bold).

    Attributes
    ----------
    interim_istep : int
        Integration steps an interim mean (4 ms, rounded).
    kernel_time : ndarray, shape (n_lag,)
        Times of the kernel's samples [s].
    kernel : callable
        (time, **parameters) to the kernel.
    volterra : bool
        First-order Volterra: the signal is (convolution - 1) k_1 V_0.
    shift : int
        Interim samples by which the kernel is moved: 0, but in a negative control.

    Notes
    -----
    TVB applies the kernel one interim step late, its first sample wrapped to the far end: the newest interim mean has
    the weight G[-1], the one d before it G[d - 1].
    """

    interim_istep: int
    kernel_time: np.ndarray
    kernel: Callable
    volterra: bool
    shift: int = 0

    def sample(self, leaves, observed, start):
        """BOLD at the sampling steps; the stock in order of time, the oldest first."""
        hrf = dict(leaves.hrf_kernel.items())
        hrf = {name: jnp.reshape(value, ()) for name, value in hrf.items()}
        means, interim = window_means(leaves.interim_stock, self.watch(observed), self.interim_istep)
        signal = jnp.concatenate([leaves.stock, means])
        n_lag = self.kernel_time.size
        ends = self.steps(start, observed.shape[0]) // self.interim_istep - start // self.interim_istep + n_lag - 1
        kernel = jnp.roll(self.kernel(jnp.asarray(self.kernel_time, signal.dtype), **hrf), 1 + self.shift)
        bold = filter_at(kernel, signal.reshape(signal.shape[0], -1), ends).reshape(-1, *signal.shape[1:])
        if self.volterra:
            bold = (bold - 1.0) * (hrf["k_1"] * hrf["V_0"])
        return bold, {"stock": signal[signal.shape[0] - n_lag :], "interim_stock": interim}
