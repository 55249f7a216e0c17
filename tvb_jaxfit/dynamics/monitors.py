"""What TVB's monitors make of a trajectory: pure functions of what is observed over a run.

Each monitor has ``steps(start, n_steps)``, the integration steps at which it samples, ``times(start, n_steps)`` [ms],
and ``sample(leaves, observed, start)``, which returns its samples and the leaves that a next run goes on from.
``observed`` is (n_steps, n_voi, n_node, n_mode); ``start`` is the simulator's current_step before the run. Where the
sampling allows it, a monitor is given means, or picked samples, of several steps each, and is itself `coarse`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from . import noise
from .decimated_filter import PIECES, early, filter_at, gathered, met, pieces


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


def summary(kind, n, observed):
    """Observed states with one sample for ``n`` steps: their mean, or the last of them."""
    if n == 1:
        return observed
    if kind == "pick":
        return observed[n - 1 :: n]
    return jnp.mean(observed.reshape(-1, n, *observed.shape[1:]), axis=1)


@dataclass(frozen=True, eq=False)
class Monitor:
    """What all monitors have: the rows that they watch, their sampling period in steps, and dt [ms].

    Attributes
    ----------
    voi : tuple of int
    istep : int
    dt : float
    observes_coupling : bool
        Whether it watches the coupling instead of the states.
    name : str
        For people: TVB's class.
    """

    voi: tuple[int, ...]
    istep: int
    dt: float
    observes_coupling: bool = False
    name: str = ""

    kind = "pick"

    def steps(self, start, n_steps):
        """Integration steps at which the monitor samples."""
        return multiples(start, n_steps, self.istep)

    def times(self, start, n_steps):
        """Sampling times [ms], as TVB computes them, in double precision."""
        return self.steps(start, n_steps) * self.dt

    @property
    def window(self):
        """What is needed of the states: ("mean" or "pick", steps), means over so many or the last of so many."""
        return self.kind, self.istep

    @property
    def cycle(self):
        """Steps after which all windows begin anew."""
        return self.istep

    def coarse(self, n):
        """The same monitor of a signal that has one sample for ``n`` steps."""
        return replace(self, istep=self.istep // n)

    def needs(self, leaves, start, n_steps, size):
        """What is needed to take `parts` of blocks of ``size`` steps, or None where samples are not made of such."""
        return None

    def fir_filter(self, leaves):
        """(pooled, taps): samples are sums of taps[d] times the mean of ``pooled`` steps, d such means ago."""
        return 1, jnp.ones(1)

    def spatial_covariance(self, watched):
        """Covariance of the signals, from that of the watched rows, (n, n) with n = n_voi * n_node * n_mode."""
        return watched

    def sample_covariance(self, watched, leaves):
        """Covariance of the samples, the monitor's own noise included."""
        return self.spatial_covariance(watched)

    def watch(self, observed):
        """Rows that the monitor watches."""
        if self.voi == tuple(range(observed.shape[1])):
            return observed
        return observed[:, np.asarray(self.voi)]

    def at_steps(self, observed, start):
        """Watched rows at the sampling steps."""
        return self.watch(observed)[self.steps(start, observed.shape[0]) - start - 1]


class Raw(Monitor):
    """Every step (TVB: Raw, RawVoi, AfferentCoupling)."""

    @property
    def window(self):
        """Every step."""
        return "pick", 1

    def sample(self, leaves, observed, start):
        """Observed states as they are."""
        return self.watch(observed), {}


class NoOutput(Monitor):
    """Records nothing (TVB: ProgressLogger)."""

    cycle = 1

    def steps(self, start, n_steps):
        """None."""
        return np.zeros(0)

    def sample(self, leaves, observed, start):
        """Nothing; of the shape that TVB gives to it."""
        return jnp.zeros((0,), observed.dtype), {}


class SubSample(Monitor):
    """Every istep-th step, not averaged (TVB: SubSample)."""

    def sample(self, leaves, observed, start):
        """Observed states at the sampling steps."""
        return self.at_steps(observed, start), {}


@dataclass(frozen=True, eq=False)
class SpatialAverage(Monitor):
    """Every istep-th step, averaged over groups of nodes (TVB: SpatialAverage, GlobalAverage).

    Attributes
    ----------
    mean : ndarray, shape (n_group, n_node)
    """

    mean: np.ndarray = None

    def sample(self, leaves, observed, start):
        """Means over each group at the sampling steps."""
        return jnp.einsum("gn,tvnm->tvgm", jnp.asarray(self.mean, observed.dtype), self.at_steps(observed, start)), {}

    def spatial_covariance(self, watched):
        """Of the groups."""
        modes = np.eye(watched.shape[0] // (len(self.voi) * self.mean.shape[1]))
        return _through(np.kron(np.eye(len(self.voi)), np.kron(self.mean, modes)), watched)


class TemporalAverage(Monitor):
    """Mean over each period (TVB: TemporalAverage); times at the middle of the window."""

    kind = "mean"

    def times(self, start, n_steps):
        """Middle of each window [ms]."""
        return (self.steps(start, n_steps) - self.istep / 2.0) * self.dt

    def fir_filter(self, leaves):
        """The mean of a period."""
        return self.istep, jnp.ones(1)

    def sample(self, leaves, observed, start):
        """Means of the windows that end in this run."""
        means, pending = window_means(leaves.stock, self.watch(observed), self.istep)
        return means, {"stock": pending}


@dataclass(frozen=True, eq=False)
class Projection(Monitor):
    """Means over each period of what sensors see of the regions, modes summed (TVB: EEG, MEG, iEEG).

    Attributes
    ----------
    gain : ndarray, shape (n_sensor, n_node)
        Lead field.
    reference : ndarray, shape (n_sensor,), or None
        Weights of the sensors whose signal is subtracted from all.
    coloured : bool or None
        Whether the observation noise has a memory; None where there is none.
    pooled : int
        Steps of which it is given the means.
    """

    gain: np.ndarray = None
    reference: np.ndarray | None = None
    coloured: bool | None = None
    pooled: int = 1

    kind = "mean"

    def coarse(self, n):
        """The same monitor of a signal that has one sample for ``n`` steps."""
        return replace(super().coarse(n), pooled=n)

    def times(self, start, n_steps):
        """Middle of each window [ms]."""
        return (self.steps(start, n_steps) - self.istep / 2.0) * self.dt

    def fir_filter(self, leaves):
        """The mean of a period."""
        return self.istep, jnp.ones(1)

    def spatial_covariance(self, watched):
        """Of the sensors, without their noise."""
        n_node = self.gain.shape[1]
        modes = np.ones((1, watched.shape[0] // (len(self.voi) * n_node)))
        return self._less_reference(_through(np.kron(np.eye(len(self.voi)), np.kron(self.gain, modes)), watched))

    def sample_covariance(self, watched, leaves):
        """Of the sensors, and of their noise."""
        signal = self.spatial_covariance(watched)
        if self.coloured is None:
            return signal
        variance = self.dt**2 / jnp.reshape(leaves.obsnoise.ntau, ()) if self.coloured else self.dt
        return signal + self._less_reference(variance * jnp.eye(signal.shape[0], dtype=signal.dtype))

    def _less_reference(self, covariance):
        if self.reference is None:
            return covariance
        less = np.eye(self.reference.size) - self.reference
        return _through(np.kron(np.eye(len(self.voi)), less), covariance)

    def sample(self, leaves, observed, start):
        """Sensor signals, (n_time, n_voi, n_sensor, 1); the stock is the sum over a window that is not full yet."""
        gain = jnp.asarray(self.gain, observed.dtype)
        seen = jnp.sum(self.watch(observed), axis=3)
        seen = jnp.concatenate([jnp.zeros((start % self.istep, *seen.shape[1:]), seen.dtype), seen])
        whole = seen.shape[0] - seen.shape[0] % self.istep
        windows = jnp.sum(seen[:whole].reshape(-1, self.istep, *seen.shape[1:]), axis=1)
        windows = jnp.concatenate([windows, jnp.sum(seen[whole:], axis=0)[None]])
        sums = jnp.einsum("sn,tvn->tsv", gain, windows).at[0].add(leaves.stock / self.pooled)
        signal, after = sums[:-1] / self.istep, {"stock": sums[-1] * self.pooled}
        if self.coloured is not None:
            series, after["obsnoise"] = self._noise(leaves.obsnoise)
            signal = signal + series
        if self.reference is not None:
            reference = jnp.asarray(self.reference, signal.dtype)
            signal = signal - jnp.einsum("s,tsv->tv", reference, signal)[:, None]
        return jnp.swapaxes(signal, 1, 2)[..., None], after

    def _noise(self, node):
        """Observation noise of a run; TVB's ignores nsig."""
        if not self.coloured:
            return self.dt**0.5 * node.draws, node
        eta = jnp.broadcast_to(node.eta, node.draws.shape[1:])
        series, eta = noise.coloured_noise(eta, jnp.reshape(node.ntau, ()), node.draws, self.dt)
        return series, node.replace(eta=eta)


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
    pooled : int
        Integration steps per observed sample: `sample` is given their means.

    Notes
    -----
    TVB applies the kernel one interim step late, its first sample wrapped to the far end: the newest interim mean has
    the weight G[-1], the one d before it G[d - 1]. A sample at an integration step within an interim period takes the
    interim means that are complete by then: the period need not be a multiple of the interim period.
    """

    interim_istep: int = 1
    kernel_time: np.ndarray = None
    kernel: Callable = None
    volterra: bool = False
    shift: int = 0
    pooled: int = 1

    @property
    def window(self):
        """Interim means."""
        return "mean", self.interim_istep

    @property
    def cycle(self):
        """Interim means count, too."""
        return math.lcm(self.istep, self.interim_istep)

    def coarse(self, n):
        """The same monitor of a signal that has one sample for ``n`` steps, a divisor of the interim period."""
        return replace(self, pooled=n)

    def fir_filter(self, leaves):
        """The hemodynamic response to interim means."""
        hrf = _numbers(leaves.hrf_kernel)
        taps = self._kernel(hrf, leaves.stock.dtype)
        return self.interim_istep, taps * (hrf["k_1"] * hrf["V_0"]) if self.volterra else taps

    def _kernel(self, hrf, dtype):
        # Times are numpy's: what a user's equation looks up by them is looked up once.
        sampled = jnp.asarray(self.kernel(np.asarray(self.kernel_time, dtype), **hrf), dtype)
        return jnp.roll(sampled, 1 + self.shift)

    def needs(self, leaves, start, n_steps, size):
        """Pieces of the kernel, where samples are those at the end of whole periods, of which blocks have some."""
        if start % self.istep or n_steps % self.istep or size % self.istep or self.istep % self.interim_istep:
            return None
        period, most = self.istep // self.interim_istep, self.kernel_time.size // PIECES
        size //= self.interim_istep
        fitting = [n for n in range(period, size + 1, period) if size % n == 0 and n <= max(most, period)]
        return pieces(self._kernel(_numbers(leaves.hrf_kernel), leaves.stock.dtype), period, fitting[-1])

    def parts(self, bands, observed):
        """Products of the kernel's pieces and a block of states."""
        watched = self.watch(observed)
        means = watched.reshape(-1, self.interim_istep, math.prod(watched.shape[1:]))
        means = means[:, 0] if self.interim_istep == 1 else jnp.mean(means, axis=1)
        return met(bands, means.reshape(-1, bands.shape[-1], means.shape[-1]))

    def sample(self, leaves, observed, start, bands=None, parts=None):
        """BOLD at the sampling steps; the stock in order of time, the oldest first. ``start`` in observed samples."""
        hrf = _numbers(leaves.hrf_kernel)
        start, n_steps = start * self.pooled, observed.shape[0] * self.pooled
        means, interim = window_means(leaves.interim_stock, self.watch(observed), self.interim_istep // self.pooled)
        n_lag = self.kernel_time.size
        past, signal = (a.reshape(a.shape[0], math.prod(means.shape[1:])) for a in (leaves.stock, means))
        if parts is None:
            ends = self.steps(start, n_steps) // self.interim_istep - start // self.interim_istep - 1
            bold = filter_at(self._kernel(hrf, means.dtype), past, signal, ends)
        else:
            before = met(bands, early(past, bands.shape[-1], bands.shape[0] - 1))
            bold = gathered(jnp.concatenate([before, parts]))
        bold = bold.reshape(-1, *means.shape[1:])
        if self.volterra:
            bold = (bold - 1.0) * (hrf["k_1"] * hrf["V_0"])
        stock = jnp.concatenate([leaves.stock, means[-n_lag:]])[-n_lag:]
        return bold, {"stock": stock, "interim_stock": interim}


def _numbers(node):
    """Parameters of a kernel as scalars."""
    return {name: jnp.reshape(value, ()) for name, value in node.items()}


def _through(matrix, covariance):
    matrix = jnp.asarray(matrix, covariance.dtype)
    return matrix @ covariance @ matrix.T
