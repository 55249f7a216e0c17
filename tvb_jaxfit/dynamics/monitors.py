"""TVB's monitors as pure functions of the observed time series of a run.

Each monitor has ``steps(start, n_steps)``, the integration steps at which it samples, ``times(start, n_steps)`` [ms],
and ``sample(leaves, observed, start)``, which returns its samples and the State leaves that a next run continues from.
``observed`` is (n_steps, n_voi, n_node, n_mode); ``start`` is the simulator's current_step before the run. If the
sampling allows it, a monitor receives means or samples of several steps, and is `downsampled` itself.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from ..state import State
from . import noise


class Pooling(StrEnum):
    """Reduction of several steps to one sample."""

    MEAN = "mean"
    SAMPLE = "sample"


def multiples(start: int, n_steps: int, period: int) -> np.ndarray:
    """Integration steps after ``start``, up to ``start + n_steps``, that are multiples of ``period``."""
    return np.arange(start // period + 1, (start + n_steps) // period + 1) * period


def window_means(pending: jax.Array, signal: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Means over consecutive windows, the first of which began in an earlier run.

    Parameters
    ----------
    pending : Array, shape (n_pending, ...)
        Samples of the open window.
    signal : Array, shape (n_time, ...)
    size : int
        Samples per window.

    Returns
    -------
    means : Array, shape ((n_pending + n_time) // size, ...)
    pending : Array
        Samples of the window that is open at the end.
    """
    if size == 1:
        return signal, pending
    signal = jnp.concatenate([pending, signal])
    n_full = signal.shape[0] - signal.shape[0] % size
    return jnp.mean(signal[:n_full].reshape(-1, size, *signal.shape[1:]), axis=1), signal[n_full:]


def pool(pooling: Pooling, n: int, observed: jax.Array) -> jax.Array:
    """One sample per ``n`` steps of a series: their mean, or the last one."""
    if n == 1:
        return observed
    if pooling is Pooling.SAMPLE:
        return observed[n - 1 :: n]
    return jnp.mean(observed.reshape(-1, n, *observed.shape[1:]), axis=1)


@dataclass(frozen=True, eq=False)
class Monitor:
    """Base class of all monitors.

    Attributes
    ----------
    voi : tuple of int
        Rows of the observed series that the monitor records.
    istep : int
        Sampling period [steps].
    dt : float
        Integration step [ms].
    observes_coupling : bool
        True if it records the coupling instead of the states.
    name : str
        Name of the TVB class, for messages.
    """

    voi: tuple[int, ...]
    istep: int
    dt: float
    observes_coupling: bool = False
    name: str = ""

    pooling = Pooling.SAMPLE
    # True for signals that stand for BOLD.
    is_bold = False

    def steps(self, start: int, n_steps: int) -> np.ndarray:
        """Integration steps at which the monitor samples."""
        return multiples(start, n_steps, self.istep)

    def times(self, start: int, n_steps: int) -> np.ndarray:
        """Sampling times [ms], computed as in TVB, in double precision."""
        return self.steps(start, n_steps) * self.dt

    @property
    def window(self) -> tuple[Pooling, int]:
        """Pooling that the monitor applies to the states first, and its number of steps."""
        return self.pooling, self.istep

    @property
    def cycle(self) -> int:
        """Steps after which all windows begin anew."""
        return self.istep

    def downsampled(self, n: int) -> "Monitor":
        """The same monitor for a signal with one sample per ``n`` steps."""
        return replace(self, istep=self.istep // n)

    def at_rest(self, leaves: State, observed: jax.Array) -> State:
        """Leaves after a constant observed sample, (1, n_voi, n_node, n_mode), for all time."""
        return leaves

    def transient(self, leaves: State) -> int:
        """Number of samples that depend on how the monitor was before the first run."""
        return 0

    def prepare_blocks(self, leaves: State, start: int, n_steps: int, size: int) -> jax.Array | None:
        """Parameters of `filter_block` for blocks of ``size`` steps; None if samples cannot be filtered by blocks."""
        return None

    def fir_filter(self, leaves: State) -> tuple[int, jax.Array]:
        """(pooled, taps): a sample is the sum of taps[d] times the d-th last mean of ``pooled`` steps."""
        return 1, jnp.ones(1)

    def shifts(self, lag: int) -> tuple[tuple[int, float], ...]:
        """Integration steps between the filters of samples that are ``lag`` samples apart, and how often they occur."""
        return ((lag * self.istep, 1.0),)

    def spatial(self, selected: jax.Array) -> jax.Array:
        """Signals from the selected rows, both (n_time, n_voi, ...), without the monitor's own noise."""
        return selected

    def spatial_covariance(self, selected: jax.Array) -> jax.Array:
        """Covariance of the signals from that of the selected rows, (n, n) with n = n_voi * n_node * n_mode."""
        return selected

    def sample_covariance(self, selected: jax.Array, leaves: State) -> jax.Array:
        """Covariance of the samples, including the monitor's own noise."""
        return self.spatial_covariance(selected)

    def of_states(self, theta, states: jax.Array, coupling: jax.Array, start: int) -> jax.Array:
        """Series that a monitor with ``observes_coupling`` samples, (n_steps, n_cvar, n_node, n_mode)."""
        return coupling

    def select(self, observed: jax.Array) -> jax.Array:
        """Recorded rows of the observed series."""
        if self.voi == tuple(range(observed.shape[1])):
            return observed
        return observed[:, np.asarray(self.voi)]

    def select_samples(self, observed: jax.Array, start: int) -> jax.Array:
        """Recorded rows at the sampling steps."""
        return self.select(observed)[self.steps(start, observed.shape[0]) - start - 1]


@dataclass(frozen=True, eq=False)
class InterimMonitor(Monitor):
    """Base class of monitors of BOLD, which is made of means over interim periods.

    Attributes
    ----------
    interim_istep : int
        Integration steps per interim mean.
    pooled : int
        Integration steps per observed sample, each the mean of these steps.
    """

    interim_istep: int = 1
    pooled: int = 1

    is_bold = True

    @property
    def window(self):
        """Interim means."""
        return Pooling.MEAN, self.interim_istep

    @property
    def cycle(self):
        """Least common multiple of the sampling and interim periods [steps]."""
        return math.lcm(self.istep, self.interim_istep)

    def shifts(self, lag: int) -> tuple[tuple[int, float], ...]:
        """As for all monitors; a sample inside an interim period uses the interim means that are complete by then."""
        n_interim, rest = divmod(lag * self.istep, self.interim_istep)
        both = ((n_interim, 1.0 - rest / self.interim_istep), (n_interim + 1, rest / self.interim_istep))
        return tuple((n * self.interim_istep, share) for n, share in both if share)

    def downsampled(self, n: int) -> Self:
        """The same monitor for a signal with one sample per ``n`` steps, a divisor of the interim period."""
        return replace(self, pooled=n)


class Raw(Monitor):
    """Every step (TVB: Raw, RawVoi, AfferentCoupling)."""

    @property
    def window(self):
        """Every step."""
        return Pooling.SAMPLE, 1

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Recorded rows at every step."""
        return self.select(observed), {}


class NoOutput(Monitor):
    """No samples (TVB: ProgressLogger)."""

    cycle = 1

    def steps(self, start: int, n_steps: int) -> np.ndarray:
        """No steps."""
        return np.zeros(0)

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Empty array, of the shape that TVB returns."""
        return jnp.zeros((0,), observed.dtype), {}


class SubSample(Monitor):
    """Every istep-th step, without averaging (TVB: SubSample)."""

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Recorded rows at the sampling steps."""
        return self.select_samples(observed, start), {}


@dataclass(frozen=True, eq=False)
class SpatialAverage(Monitor):
    """Every istep-th step, averaged over groups of nodes (TVB: SpatialAverage, GlobalAverage).

    Attributes
    ----------
    mean : ndarray, shape (n_group, n_node)
        Weights of the average.
    """

    mean: np.ndarray | None = None

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Group means at the sampling steps."""
        return self.spatial(self.select_samples(observed, start)), {}

    def spatial(self, selected: jax.Array) -> jax.Array:
        """Group means, (n_time, n_voi, n_group, n_mode)."""
        return jnp.einsum("gn,tvnm->tvgm", jnp.asarray(self.mean, selected.dtype), selected)

    def spatial_covariance(self, selected: jax.Array) -> jax.Array:
        """Covariance of the group means."""
        modes = np.eye(selected.shape[0] // (len(self.voi) * self.mean.shape[1]))
        return _congruence(np.kron(np.eye(len(self.voi)), np.kron(self.mean, modes)), selected)


class TemporalAverage(Monitor):
    """Mean over each period (TVB: TemporalAverage); sampling times are at the middle of the window."""

    pooling = Pooling.MEAN

    def times(self, start: int, n_steps: int) -> np.ndarray:
        """Middle of each window [ms]."""
        return (self.steps(start, n_steps) - self.istep / 2.0) * self.dt

    def fir_filter(self, leaves: State) -> tuple[int, jax.Array]:
        """Mean over a period."""
        return self.istep, jnp.ones(1)

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Means of the windows that end in this run."""
        means, pending = window_means(leaves.stock, self.select(observed), self.istep)
        return means, {"stock": pending}


@dataclass(frozen=True, eq=False)
class Projection(Monitor):
    """Means over each period of the sensors' signals, with modes summed (TVB: EEG, MEG, iEEG).

    Attributes
    ----------
    gain : ndarray, shape (n_sensor, n_node)
        Lead field.
    reference : ndarray, shape (n_sensor,), or None
        Weights of the sensors in the reference signal, which is subtracted from all sensors.
    coloured : bool or None
        True for coloured observation noise, False for white, None for no noise.
    pooled : int
        Integration steps per observed sample, each the mean of these steps.
    """

    gain: np.ndarray | None = None
    reference: np.ndarray | None = None
    coloured: bool | None = None
    pooled: int = 1

    pooling = Pooling.MEAN

    def downsampled(self, n: int) -> "Monitor":
        """The same monitor for a signal with one sample per ``n`` steps."""
        return replace(super().downsampled(n), pooled=n)

    def times(self, start: int, n_steps: int) -> np.ndarray:
        """Middle of each window [ms]."""
        return (self.steps(start, n_steps) - self.istep / 2.0) * self.dt

    def fir_filter(self, leaves: State) -> tuple[int, jax.Array]:
        """Mean over a period."""
        return self.istep, jnp.ones(1)

    def spatial(self, selected: jax.Array) -> jax.Array:
        """Sensors' signals, (n_time, n_voi, n_sensor, 1)."""
        gain = self.gain if self.reference is None else self.gain - self.reference @ self.gain
        return jnp.einsum("sn,tvnm->tvs", jnp.asarray(gain, selected.dtype), selected)[..., None]

    def spatial_covariance(self, selected: jax.Array) -> jax.Array:
        """Covariance of the sensors' signals without noise."""
        n_node = self.gain.shape[1]
        modes = np.ones((1, selected.shape[0] // (len(self.voi) * n_node)))
        projection = np.kron(np.eye(len(self.voi)), np.kron(self.gain, modes))
        return self._rereference(_congruence(projection, selected))

    def sample_covariance(self, selected: jax.Array, leaves: State) -> jax.Array:
        """Covariance of the sensors' signals with noise."""
        signal = self.spatial_covariance(selected)
        if self.coloured is None:
            return signal
        variance = self.dt**2 / jnp.reshape(leaves.obsnoise.ntau, ()) if self.coloured else self.dt
        return signal + self._rereference(variance * jnp.eye(signal.shape[0], dtype=signal.dtype))

    def _rereference(self, covariance):
        if self.reference is None:
            return covariance
        subtraction = np.eye(self.reference.size) - self.reference
        return _congruence(np.kron(np.eye(len(self.voi)), subtraction), covariance)

    def sample(self, leaves: State, observed: jax.Array, start: int) -> tuple[jax.Array, dict]:
        """Sensor signals, (n_time, n_voi, n_sensor, 1); the stock is the sum over the open window."""
        gain = jnp.asarray(self.gain, observed.dtype)
        signal = jnp.sum(self.select(observed), axis=3)
        signal = jnp.concatenate([jnp.zeros((start % self.istep, *signal.shape[1:]), signal.dtype), signal])
        n_full = signal.shape[0] - signal.shape[0] % self.istep
        windows = jnp.sum(signal[:n_full].reshape(-1, self.istep, *signal.shape[1:]), axis=1)
        windows = jnp.concatenate([windows, jnp.sum(signal[n_full:], axis=0)[None]])
        sums = jnp.einsum("sn,tvn->tsv", gain, windows).at[0].add(leaves.stock / self.pooled)
        sensors, after = sums[:-1] / self.istep, {"stock": sums[-1] * self.pooled}
        if self.coloured is not None:
            series, after["obsnoise"] = self._noise(leaves.obsnoise)
            sensors = sensors + series
        if self.reference is not None:
            reference = jnp.asarray(self.reference, sensors.dtype)
            sensors = sensors - jnp.einsum("s,tsv->tv", reference, sensors)[:, None]
        return jnp.swapaxes(sensors, 1, 2)[..., None], after

    def _noise(self, node):
        """Observation noise of a run, and its leaves after the run. As in TVB it does not depend on nsig."""
        if not self.coloured:
            return self.dt**0.5 * node.draws, node
        eta = jnp.broadcast_to(node.eta, node.draws.shape[1:])
        series, eta = noise.coloured_noise(eta, jnp.reshape(node.ntau, ()), node.draws, self.dt)
        return series, node.replace(eta=eta)


def _congruence(matrix, covariance):
    """Covariance of the linear map of a random vector: M C M^T."""
    matrix = jnp.asarray(matrix, covariance.dtype)
    return matrix @ covariance @ matrix.T
