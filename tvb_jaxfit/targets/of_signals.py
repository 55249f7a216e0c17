"""Targets that are computed from the samples of a monitor."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..checks.arrays import real_array
from ..observation.moments import lagged_covariance, signal_variance
from ..observation.spectra import Spectrum, power_spectrum
from ..persistence import serialisable
from .target import Target, root_mean_square


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PowerTarget(Target):
    """Power spectrum of the signals as a target of `fit`.

    Parameters
    ----------
    value : Spectrum or array_like, shape (n_frequency,) or (n_frequency, n_node)
        Power spectral density; of shape (n_frequency,), it is compared with the mean over the regions.
    frequencies : array_like, shape (n_frequency,), optional
        [Hz], ascending, up to half the sampling rate. Those of a `Spectrum` are its own.
    normalised : bool, default True
        Compare shapes: each spectrum is divided by its sum over the frequencies. False: compare densities, in the units
        of the monitor.
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) to a scalar. Default: root-mean-square difference of the decadic logarithms.

    Raises
    ------
    ValueError
        An option or a value that is not allowed.

    Notes
    -----
    Of a simulation, the spectrum is that of `power_spectrum`, with segments as long as the frequencies are dense, and
    interpolated. Of a linear response, it is exact (`LinearResponse.power`).

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.PowerTarget(1.0 / np.arange(1.0, 6.0), frequencies=0.02 * np.arange(1.0, 6.0))
    PowerTarget(5 values)
    """

    frequencies: object = None
    normalised: bool = True

    is_stationary = True

    def _rules(self):
        return super()._rules() | {"normalised": (self.normalised, allowed.boolean)}

    def _read(self, value):
        frequencies = self.frequencies
        if isinstance(value, Spectrum):
            if frequencies is not None:
                raise ValueError("PowerTarget: frequencies: a Spectrum has its own; leave them out.")
            frequencies, value = value.frequencies, value.density
        value = super()._read(value)
        if frequencies is None:
            raise ValueError("PowerTarget: frequencies: not given. Give those of the densities [Hz].")
        frequencies = np.asarray(real_array(frequencies, "PowerTarget: frequencies", finite=True), float)
        problems = []
        if frequencies.ndim != 1 or frequencies.size < 2 or np.any(np.diff(frequencies) <= 0.0) or frequencies[0] < 0.0:
            problems.append("frequencies: give at least two, ascending, from 0 Hz on")
        elif value.ndim not in (1, 2) or len(value) != frequencies.size:
            problems.append(f"value: shape {value.shape} for {frequencies.size} frequencies; give one density for each")
        if np.any(value <= 0.0):
            problems.append("value: densities of zero or below have no logarithm; leave out their frequencies")
        if problems:
            raise ValueError(f"PowerTarget: {'; '.join(problems)}.")
        object.__setattr__(self, "frequencies", frequencies)
        return value

    def _is_changed(self, name):
        return name != "frequencies" and super()._is_changed(name)

    def problems(self, n_node, period, n_time):
        """Frequencies that the samples do not have, and another number of regions."""
        problems, highest = [], 500.0 / period
        if self.frequencies[-1] > highest * (1.0 + 1e-9):
            problems.append(f"frequencies: up to {self.frequencies[-1]:g} Hz; samples have up to {highest:g} Hz")
        if self.value.ndim == 2 and self.value.shape[1] != n_node:
            problems.append(f"value: shape {self.value.shape} for {n_node} regions")
        return problems

    def of_signal(self, signals, period):
        """Spectrum at the frequencies."""
        n_time = signals.shape[0]
        spacing = np.min(np.diff(self.frequencies))
        segment = int(min(max(math.ceil(1000.0 / (spacing * period)), 8), n_time))
        spectrum = power_spectrum(signals, period, segment)
        at, own = jnp.asarray(self.frequencies, signals.dtype), spectrum.frequencies
        density = jax.vmap(lambda column: jnp.interp(at, own, column), 1, 1)(spectrum.density)
        return self._as_value(density)

    def of_response(self, response, monitor):
        """Spectrum at the frequencies."""
        return self._as_value(response.power(self.frequencies, monitor))

    def _as_value(self, density):
        return jnp.mean(density, axis=1) if self.value.ndim == 1 else density

    def _default_distance(self, simulated, value):
        if self.normalised:
            simulated, value = (each / jnp.sum(each, axis=0, keepdims=True) for each in (simulated, value))
        return root_mean_square(jnp.log10(simulated) - jnp.log10(value))


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LaggedCovarianceTarget(Target):
    """Covariance of the signals with older signals as a target of `fit`: it has a direction, which FC has not.

    Parameters
    ----------
    value : array_like, shape (n_node, n_node)
        As of `lagged_covariance`: the first index is the later signal.
    lag : int, default 1
        Lag [samples].
    normalised : bool, default False
        The value is a correlation: covariance divided by the standard deviations of both signals. True for BOLD, whose
        units differ between a monitor and a scanner.
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) to a scalar. Default: root-mean-square difference over all pairs.

    Raises
    ------
    ValueError
        An option or a value that is not allowed.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> tj.LaggedCovarianceTarget(np.eye(3), lag=2, normalised=True)
    LaggedCovarianceTarget(3x3 values, lag=2, normalised=True)
    """

    lag: int = 1
    normalised: bool = False

    is_stationary = True

    def _rules(self):
        return super()._rules() | {
            "lag": (self.lag, allowed.integer(0)),
            "normalised": (self.normalised, allowed.boolean),
        }

    def _read(self, value):
        value = super()._read(value)
        if value.ndim != 2 or value.shape[0] != value.shape[1]:
            raise ValueError(f"LaggedCovarianceTarget: value: shape {value.shape}; give a square matrix.")
        return value

    def problems(self, n_node, period, n_time):
        """Another number of regions, and too few samples."""
        problems = []
        if self.value.shape != (n_node, n_node):
            problems.append(f"value: shape {self.value.shape} for {n_node} regions; give ({n_node}, {n_node})")
        if n_time < self.lag + 2:
            problems.append(f"lag: {self.lag} of {n_time} samples; give a smaller one, or a longer simulation_length")
        return problems

    def of_signal(self, signals, period):
        """Covariance at the lag."""
        return self._scaled(lagged_covariance(signals, int(self.lag)), lambda: signal_variance(signals))

    def of_response(self, response, monitor):
        """Covariance at the lag."""
        covariance = response.lagged_covariance(int(self.lag), monitor)
        return self._scaled(covariance, lambda: jnp.diagonal(response.covariance(monitor)))

    def _scaled(self, covariance, variance):
        if not self.normalised:
            return covariance
        std = jnp.sqrt(variance())
        return covariance / (std[:, None] * std[None])


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class VarianceTarget(Target):
    """Variance of each signal as a target of `fit`.

    Parameters
    ----------
    value : array_like, shape (n_node,)
        Above 0.
    normalised : bool, default True
        Compare variances relative to their mean over the regions. False: in the units of the monitor.
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) to a scalar. Default: root-mean-square difference of the decadic logarithms.

    Raises
    ------
    ValueError
        An option or a value that is not allowed.

    Examples
    --------
    >>> import tvb_jaxfit as tj
    >>> tj.VarianceTarget([1.0, 2.0, 0.5])
    VarianceTarget(3 values)
    """

    normalised: bool = True

    is_stationary = True

    def _rules(self):
        return super()._rules() | {"normalised": (self.normalised, allowed.boolean)}

    def _read(self, value):
        value = super()._read(value)
        if value.ndim != 1 or not np.all(value > 0.0):
            raise ValueError(f"VarianceTarget: value: {value}; give a positive variance for each region.")
        return value

    def problems(self, n_node, period, n_time):
        """Another number of regions."""
        return [] if self.value.size == n_node else [f"value: {self.value.size} values for {n_node} regions"]

    def of_signal(self, signals, period):
        """Variance of each signal."""
        return signal_variance(signals)

    def of_response(self, response, monitor):
        """Variance of each signal."""
        return jnp.diagonal(response.covariance(monitor))

    def _default_distance(self, simulated, value):
        if self.normalised:
            simulated, value = (each / jnp.mean(each, keepdims=True) for each in (simulated, value))
        return root_mean_square(jnp.log10(simulated) - jnp.log10(value))


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SignalTarget(Target):
    """Any function of the signals as a target of `fit`.

    Parameters
    ----------
    value : array_like
        In the data.
    observable : callable
        Signals of shape (n_time, n_node), and their period [ms], to an array of the shape of the value, in JAX.
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) to a scalar. Default: root-mean-square difference.

    Raises
    ------
    ValueError
        An option or a value that is not allowed.

    Notes
    -----
    A linear fit computes it from samples that are drawn from the linear response, always on the same normal draws. They
    are deviations from the mean, whereas a simulation's signals have their mean: an observable of both subtracts it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import tvb_jaxfit as tj
    >>> def metastability(signals, period):
    ...     return jnp.std(jnp.mean(signals, axis=1))
    >>> tj.SignalTarget(0.2, metastability)
    SignalTarget(0.2, observable=<function metastability ...)
    """

    observable: Callable = field(kw_only=False)

    def _rules(self):
        return super()._rules() | {"observable": (self.observable, allowed.function)}

    def problems(self, n_node, period, n_time):
        """Another shape of the observable."""
        found = jax.eval_shape(lambda signals: self.of_signal(signals, period), jnp.zeros((n_time, n_node)))
        if self.distance is None and found.shape != self.value.shape:
            return [f"observable: it gives an array of shape {found.shape}, and the value has {self.value.shape}"]
        return []

    def of_signal(self, signals, period):
        """Function of the signals."""
        return jnp.asarray(self.observable(signals, period), signals.dtype)
