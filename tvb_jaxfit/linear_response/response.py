"""Linear response of a simulator to its noise: covariance, FC and power spectra without a simulation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks.options import check, integer, random_key
from ..markup import notebook_html
from ..observation import covariance_to_fc
from ..runtime.processes import PicklableMixin
from ..state import State
from .covariance import tolerance
from .eigenvalues import eigenvalues
from .fixed_point import FixedPoint
from .linearise import Linearised, delays_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LinearResponse(PicklableMixin):
    """Small fluctuations of a simulator around its fixed point.

    A `LinearizedSimulator` makes it; it is a pytree, and may be used inside functions that JAX transforms.

    Attributes
    ----------
    fixed_point : FixedPoint
    linearised : Linearised
        Linearised step at the fixed point.
    covariances : tuple of Array or None
        Covariance of each monitor's samples, shape (n, n) with n = n_voi * n_node * n_mode; None for a monitor that
        records nothing.
    std : Array, shape (n_var, n_node, n_mode)
        Standard deviation of the states.
    mean_shift : Array, shape (n_var, n_node, n_mode)
        Difference between the mean of the states and the fixed point that the curvature of the step causes, to second
        order in the noise amplitude.
    correlation_time : Array, shape (n_var, n_node, n_mode)
        Correlation time of the states [ms]: half the sum of the autocorrelation over all lags, times dt. It is the time
        constant of an exponential decay.
    local_covariance : Array, shape (n_group, n_state + n_input, n_state + n_input)
        Covariance of the states and coupling inputs of each group; see `Linearised`.
    n_unstable : Array, shape ()
        Number of unstable modes, including those too close to the stability boundary to be resolved.
    error : Array, shape ()
        Bound of the errors of variances by rounding in the eigenmodes, relative to them; 0 for an integral over
        frequencies.
    state : State
        State at which the response was computed.
    system : LinearizedSimulator
        Simulator whose response this is.
    """

    fixed_point: FixedPoint
    linearised: Linearised
    covariances: tuple
    std: jax.Array
    mean_shift: jax.Array
    correlation_time: jax.Array
    local_covariance: jax.Array = field(repr=False)
    n_unstable: jax.Array
    error: jax.Array
    state: State = field(repr=False)
    system: Any = field(metadata={"static": True}, repr=False)

    @property
    def is_stable(self) -> jax.Array:
        """True if there is a fixed point and all fluctuations around it decay."""
        return self.fixed_point.converged & (self.n_unstable == 0)

    @property
    def is_accurate(self) -> jax.Array:
        """True if rounding in the eigenmodes is negligible."""
        return self.error <= tolerance(self.error.dtype)

    @property
    def nonlinearity(self) -> jax.Array:
        r"""Ratio of `mean_shift` to `std`, shape (n_var, n_node, n_mode): size of the neglected terms.

        It is 0 for a state that does not fluctuate. For a state x at the distance d from a saddle,
        :math:`\dot x = -b x (d + x)`, it is std / d.
        """
        fluctuates = self.std > 0.0
        ratio = jnp.abs(self.mean_shift) / jnp.where(fluctuates, self.std, 1.0)
        return jnp.where(fluctuates, ratio, 0.0)

    @property
    def relaxation_residual(self) -> jax.Array:
        """Distance to the fixed point that is left after a noise-free relaxation from far away.

        Array, shape (2, n_var, n_node, n_mode): from the lower and from the upper ends of the state variables' ranges,
        after 50 local time constants, in units of the ranges. If it is not close to 0, there is another fixed point, or
        one is about to appear, and noise may drive the network from one to the other.
        """
        return self.system.relaxation_residual(self)

    def fc(self, monitor: int = 0) -> jax.Array:
        """Correlation matrix of a monitor's signals, shape (n, n); its diagonal is 0, as in `compute_fc`."""
        return covariance_to_fc(self._covariance_of(monitor))

    def covariance(self, monitor: int = 0) -> jax.Array:
        """Covariance matrix of a monitor's signals, shape (n, n)."""
        return self._covariance_of(monitor)

    def lagged_covariance(self, lag: int = 1, monitor: int = 0) -> jax.Array:
        r"""Covariance of a monitor's signals with the signals some samples earlier.

        Parameters
        ----------
        lag : int
            Lag in samples of the monitor; 0 for `covariance`.
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n)
            :math:`C_{ij} = \mathrm{cov}(x_i(t + \mathrm{lag}), x_j(t))`, as `tvb_jaxfit.lagged_covariance` estimates it
            from a recording. NaN where `covariance` is NaN.

        Raises
        ------
        ValueError
            The lag is not a whole number of at least 0, or the monitor records nothing.

        Notes
        -----
        It is computed at each call, in about the time of the response itself. From an integral over frequencies its
        error is about 1e-8 of the variances, and 1e-5 for a `BalloonBold` monitor.
        """
        check("lagged_covariance", lag=(lag, integer(0)))
        covariance = self._covariance_of(monitor)
        return covariance if lag == 0 else self.system.lagged_covariance(self, int(lag), monitor)

    def sample(self, key: jax.Array, n_samples: int, monitor: int = 0) -> jax.Array:
        r"""Samples of a monitor's signals as the linear response predicts them, without a simulation.

        Parameters
        ----------
        key : Array
            JAX key of the normal draws. The same key gives the same draws for every state of the simulator, so that
            the samples are a differentiable function of the state (common random numbers).
        n_samples : int
            Number of samples, one per period of the monitor.
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n_samples, n_voi, n_node, n_mode)
            Fluctuations around the mean, which is 0, as `Simulate` returns samples. Observation noise of sensors is not
            included. NaN inside a function that JAX transforms, where the eigenmodes are too ill-conditioned; without
            meaning for an unstable response.

        Raises
        ------
        TypeError, ValueError
            An argument is not allowed, or the monitor records nothing.

        Notes
        -----
        A stationary Gaussian process, whose covariances at all lags are those of the linear response:

        .. math:: y(t) = \frac{1}{\sqrt N} \sum_j e^{2 \pi i j t / N} \sum_k
                  g(\theta_{jk})\, C (e^{i \theta_{jk}} - M)^{-1} B\, z_{jk}, \qquad
                  \theta_{jk} = \frac{2 \pi}{p} \left(\frac j N + k\right)

        with normal draws z, the gain g of the monitor's filter, C the derivative of the observed variables, and p
        integration steps per sample. Approximations:

        - The period N is longer than the samples by the length of the filter and 10 s, and no more: a mode of a time
          constant :math:`\tau` correlates the first and last samples by :math:`e^{-10 s / \tau}`.
        - Bands k of BOLD end at 5 Hz. The rest is at most 3e-5 of the variance of white activity.
        - A sampling period of more than 33 steps has more bands than are summed. Where there are rhythms above the 16th
          multiple of the sampling rate that the monitor does not filter, their spectra are interpolated.
        - A sampling period of `Bold` that is not a multiple of the interim period counts as if it were.

        References
        ----------
        Dietrich, C. R., Newsam, G. N. (1997). SIAM J. Sci. Comput. 18(4), 1088-1107.
        """
        check("sample", key=(key, random_key), n_samples=(n_samples, integer(1)))
        self._covariance_of(monitor)
        return self.system.sample(self, key, int(n_samples), monitor)

    def mean_of(self, function: Callable) -> jax.Array:
        r"""Mean of a function of states and coupling under noise, such as a firing rate.

        Parameters
        ----------
        function : callable
            Model's parameters, states (n_var, n_node, n_mode) and coupling (n_cvar, n_node, n_mode) to an array
            (n_node, n_mode), in which each node depends on itself alone: what `model_expression` returns.

        Returns
        -------
        Array, shape (n_node, n_mode)

        Notes
        -----
        To second order in the noise amplitude,

        .. math:: E[f] = f(x^*) + f'(x^*)\, m + \tfrac12 \mathrm{tr}(f''(x^*)\, \Sigma),

        with the fixed point x* of states and coupling inputs, the difference m of their mean from it (`mean_shift`),
        and their covariance :math:`\Sigma`. The error falls with the square of the noise's variance. As in
        `mean_shift`, the curvature of couplings that are no weighted sums, such as Kuramoto's, is left out.
        """
        return self.system.mean_of(self, function)

    def fc_standard_error(self, length: float, monitor: int = 0) -> jax.Array:
        r"""Standard deviation, over recordings of a given length, of their FC.

        Parameters
        ----------
        length : float
            Length of a recording [ms].
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        Bartlett's formula :math:`(1 - r^2) \sqrt{t / T}`, with the correlation time t of `z_standard_error`. Near -1
        and 1 the FC is not normally distributed, but its Fisher z is.

        References
        ----------
        Bartlett, M. S. (1946). Supplement to J. R. Stat. Soc. 8(1), 27-41.
        """
        return (1.0 - self.fc(monitor) ** 2) * self.z_standard_error(length, monitor)

    def z_standard_error(self, length: float, monitor: int = 0) -> jax.Array:
        r"""Standard deviation, over recordings of a given length, of the Fisher z of their FC, arctanh(FC).

        Parameters
        ----------
        length : float
            Length of a recording [ms].
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n)

        Notes
        -----
        :math:`\sqrt{t / T}` with the correlation time :math:`t = \int \rho_i \rho_j`. The autocorrelations
        :math:`\rho` are approximated by that of the monitor's filter, widened by the correlation times of the states:
        :math:`t = \sqrt{t_{filter}^2 + t_i t_j}`. The time t is at least the sampling period and at most a quarter of
        the length.
        """
        self._covariance_of(monitor)
        return self.system.z_standard_error(self, length, monitor)

    def _covariance_of(self, monitor):
        if self.covariances[monitor] is None:
            raise ValueError(f"monitors[{monitor}]: records nothing.")
        return self.covariances[monitor]

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """Growth factors of the modes per step, the largest first; only the slowest modes of a large delayed network.

        Computed on first access: this may take seconds for a network with delays.
        """
        return eigenvalues(self.linearised, delays_of(self.system.simulate.step, self.linearised))

    @property
    def decay_rate(self) -> float:
        """Decay rate of the slowest mode [1/ms], from `eigenvalues`; negative if the mode grows."""
        return float(-np.log(np.abs(self.eigenvalues[0])) / self.system.simulate.dt)

    def power(self, frequencies, monitor: int = 0) -> jax.Array:
        """Power spectral density of a monitor's signals before they are sampled.

        Parameters
        ----------
        frequencies : array_like, shape (n,)
            Frequencies from 0 to 500 / dt [Hz], with dt in ms.
        monitor : int
            Index of the monitor.

        Returns
        -------
        Array, shape (n, n_signal)
            One-sided density [signal^2 / Hz]: its integral is the variance of the signals. The observation noise of
            sensors, which is drawn for each sample, is not included.

        Raises
        ------
        ValueError
            A frequency is out of range, or the monitor records nothing.
        """
        self._covariance_of(monitor)
        frequencies = np.asarray(frequencies, float)
        highest = 500.0 / self.system.simulate.dt
        if frequencies.ndim != 1 or not np.all((frequencies >= 0.0) & (frequencies <= highest)):
            raise ValueError(f"frequencies: {frequencies}; give a list of them from 0 to {highest:g} Hz.")
        return self.system.power(self, frequencies, monitor)

    def cross_spectra(self, frequencies, monitor: int = 0, n_alias: int = 16) -> jax.Array:
        r"""Cross-spectral densities of a monitor's samples.

        Parameters
        ----------
        frequencies : array_like, shape (n,)
            Frequencies from 0 to half the sampling frequency [Hz].
        monitor : int, optional
            Index of the monitor.
        n_alias : int, optional
            Number of multiples of the sampling frequency, on either side, from which power is folded in. BOLD needs
            one or two; signals that no filter smooths need many.

        Returns
        -------
        Array of complex, shape (n, n_signal, n_signal)
            Two-sided densities [signal^2 / Hz], Hermitian: the Fourier transform
            :math:`\Delta \sum_\tau \Gamma_{ij}(\tau) e^{-i \omega \tau}` of the covariances
            :math:`\Gamma_{ij}(\tau) = \mathrm{cov}(x_i(t + \tau), x_j(t))` of samples at intervals :math:`\Delta`.
            The observation noise of sensors is included.

        Raises
        ------
        ValueError
            A frequency is out of range, or the monitor records nothing.
        """
        check("cross_spectra", n_alias=(n_alias, integer(0)))
        self._covariance_of(monitor)
        simulate = self.system.simulate
        period = simulate.monitors[monitor].istep * simulate.dt / 1000.0
        omega = 2.0 * np.pi * np.asarray(frequencies, float) * period
        if omega.ndim != 1 or not np.all((omega >= 0.0) & (omega <= np.pi * (1.0 + 1e-9))):
            raise ValueError(f"frequencies: {frequencies}; give a list of them from 0 to {0.5 / period:g} Hz.")
        return self.system.cross_spectra(self, omega, monitor, int(n_alias))

    def __repr__(self):
        if isinstance(self.mean_shift, jax.core.Tracer):
            return "LinearResponse(traced)"
        stability = "stable" if bool(self.is_stable) else f"unstable, {int(self.n_unstable)} growing modes"
        if not bool(self.fixed_point.converged):
            stability = f"not found (a step still changes the state by {float(self.fixed_point.residual):.1e})"
        # The eigenvalues are shown only if they are known already: computing them is expensive.
        slowest = f", slowest decay {self.decay_rate:.2e} / ms" if "eigenvalues" in vars(self) else ""
        return (
            f"LinearResponse: {self.system.simulate.description}\n"
            f"  fixed point: {stability}{slowest}\n"
            f"  largest nonlinearity: {float(self.nonlinearity.max()):.3f}"
        )

    def _repr_html_(self):
        return notebook_html(*repr(self).splitlines())
