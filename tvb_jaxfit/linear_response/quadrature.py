"""Frequencies and weights for integrals of spectra with slow relaxations, rhythms, delays and long filters."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import spherical_jn

from .filters import NO_SHIFT, autocorrelation

# Frequency of the slowest relaxation, and of the lowest octave of the panels [rad/ms].
_LOWEST_FREQUENCY = 1e-4
# Number of relaxation rates, in geometric progression, for which the quadrature is exact: coarse and fine rule.
_N_RATE = 44, 60
# Band of rhythms, 1 to 100 Hz [rad/ms], number of them in geometric progression, and the ratio of decay rate to
# frequency for which the fine rule is exact: a 10 Hz rhythm with a decay time of 300 ms is integrated to 1e-8.
_RHYTHM_BAND, _N_RHYTHM, _RHYTHM_DAMPING = (0.006, 0.6), 240, 0.06
# The same for hemodynamics, which oscillate once in 1.5 to 30 s: for rules of monitors that integrate them.
_HEMODYNAMIC_BAND, _N_HEMODYNAMIC, _HEMODYNAMIC_DAMPING = (2e-4, 4e-3), 10, 0.5
# Lags that are integrated exactly: a number of steps, and a multiple of the longest delay: coarse and fine rule. The
# effect of delays fades above a frequency [rad/ms].
_MIN_LAG, _LAG_PER_DELAY, _HIGHEST_OF_DELAYS = 24, (1.0, 1.5), 15.0
# Panels for long filters: width in turns of the longest delay's phase, up to a frequency [rad/ms].
_MAX_TURNS, _HIGHEST_OF_FILTERS = 1.0, 0.3


@dataclass(frozen=True)
class Panels:
    """Gauss-Legendre quadrature over (0, pi) in panels.

    Attributes
    ----------
    edges : tuple of float
        Edges of the panels [rad per step].
    order : int
        Number of nodes per panel.
    """

    edges: tuple[float, ...]
    order: int = 12

    @cached_property
    def _rule(self):
        return np.polynomial.legendre.leggauss(self.order)

    @cached_property
    def _panels(self):
        """Centres and half widths."""
        edges = np.asarray(self.edges)
        return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0

    @property
    def theta(self) -> np.ndarray:
        """Nodes, shape (n,) [rad per step]."""
        centre, half_width = self._panels
        return (centre[:, None] + half_width[:, None] * self._rule[0]).ravel()

    @property
    def weight(self) -> np.ndarray:
        """Weights, shape (n,), with the sum pi."""
        return (self._panels[1][:, None] * self._rule[1]).ravel()

    def filon_weights(self, lags) -> np.ndarray:
        r"""Weights of integrals of exp(i lag theta) f(theta), for any lag and an f that is smooth in each panel.

        Parameters
        ----------
        lags : ndarray of int, shape (n_lag,)

        Returns
        -------
        ndarray of complex, shape (n_lag, n)

        Notes
        -----
        Filon quadrature: the interpolating polynomial of f is integrated exactly, with
        :math:`\int_{-1}^1 e^{i k u} P_j(u) du = 2 i^j j_j(k)`.
        """
        centre, half_width = self._panels
        at, weight = self._rule
        order = np.arange(self.order)
        to_legendre = weight[:, None] * (order + 0.5) * np.polynomial.legendre.legvander(at, self.order - 1)
        bessel = spherical_jn(order, np.multiply.outer(lags, half_width)[..., None])
        phase = np.exp(1j * np.multiply.outer(lags, centre))[..., None] * 1j**order
        weights = 2.0 * half_width[:, None] * ((phase * bessel) @ to_legendre.T)
        return weights.reshape(len(lags), -1)


@dataclass(frozen=True)
class FrequencyGrid:
    r"""Rational Szegő-Lobatto quadrature over (0, pi) for even functions.

    Attributes
    ----------
    poles : tuple of complex
        Poles in the unit disc, closed under conjugation. The rule is exact for spectra of processes whose modes are
        among them; a pole at 0 stands for a lag of one step.
    panels : Panels
        Panels that resolve filters longer than the lags of this rule.

    Notes
    -----
    Nodes have equal distances in the phase u of the Blaschke product :math:`\prod_m ((z - p_m) / (1 - \bar p_m z))^2`,
    and the weight is the derivative of the frequency by u. The error for another mode p is of the order of the product
    at p: it is squared if the number of nodes is doubled.

    References
    ----------
    Bultheel, A., González-Vera, P., Hendriksen, E., Njåstad, O. (1994). J. Comput. Appl. Math. 50, 159-170.
    """

    poles: tuple[complex, ...]
    panels: Panels

    @cached_property
    def theta(self) -> np.ndarray:
        """Nodes, shape (n,), from 0 to pi [rad per step]."""
        target = np.pi * np.arange(len(self.poles) + 1)
        low, high = np.zeros(target.size), np.full(target.size, np.pi)
        # Bisection: the phase is monotone.
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = self.phase(middle) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        theta = 0.5 * (low + high)
        theta[[0, -1]] = 0.0, np.pi
        return theta

    @cached_property
    def weight(self) -> np.ndarray:
        """Weights, shape (n,)."""
        radius, angle = np.abs(self.poles), np.angle(self.poles)
        distance = (1.0 - radius) ** 2 + 4.0 * radius * np.sin((self.theta[:, None] - angle) / 2.0) ** 2
        weight = np.pi / np.sum((1.0 - radius**2) / distance, axis=1)
        weight[[0, -1]] /= 2.0
        return weight

    @cached_property
    def half_weight(self) -> np.ndarray:
        """Weights of the rule of every second node."""
        return 2.0 * self.weight * (np.arange(self.weight.size) % 2 == 0)

    def phase(self, theta) -> np.ndarray:
        """Half the phase of the Blaschke product at frequencies from 0 to pi, shape of ``theta``."""
        radius, angle = np.abs(self.poles), np.angle(self.poles)
        slope = (1.0 + radius) / (1.0 - radius)

        def half_phase(at):
            turns = np.round(at / (2.0 * np.pi))
            return 2.0 * np.arctan(slope * np.tan(at / 2.0 - np.pi * turns)) + 2.0 * np.pi * turns

        return np.sum(half_phase(theta[:, None] - angle) - half_phase(-angle), axis=1)

    def interpolation(self, theta, parity: int = 1) -> np.ndarray:
        """Matrix from a function's values at the nodes to its values at other frequencies, shape (n_theta, n).

        The function is even (``parity`` 1) or odd (-1).
        """
        n = len(self.poles)
        at, nodes = self.phase(theta)[:, None] / n, np.pi * np.arange(n + 1) / n

        def dirichlet(distance):
            small = np.abs(np.sin(distance / 2.0)) < 1e-9
            safe = np.where(small, 1.0, distance)
            return np.where(small, 1.0, np.sin(n * safe) / (2 * n * np.tan(safe / 2.0)))

        matrix = dirichlet(at - nodes) + parity * dirichlet(at + nodes)
        matrix[:, [0, -1]] /= 2.0
        return matrix


def frequency_grids(dt: float, delays: np.ndarray | None = None, hemodynamic: bool = False) -> list[FrequencyGrid]:
    """Frequencies at which spectra are evaluated: a coarse grid for relaxations, and a fine one for rhythms.

    Parameters
    ----------
    dt : float
        [ms]
    delays : ndarray of int, optional
        [steps]
    hemodynamic : bool
        True for grids that also resolve the oscillations of hemodynamics.

    Returns
    -------
    list of FrequencyGrid
    """
    longest = 0 if delays is None else int(np.max(delays))
    panels = octave_panels(dt, longest)
    fine = _oscillations(_RHYTHM_BAND, _N_RHYTHM // 2, _RHYTHM_DAMPING, dt)
    both = _oscillations(_HEMODYNAMIC_BAND, _N_HEMODYNAMIC, _HEMODYNAMIC_DAMPING, dt) if hemodynamic else []
    grids = []
    for n_rate, lag_per_delay, rhythms in zip(_N_RATE, _LAG_PER_DELAY, (both, [*both, *fine]), strict=True):
        rates = np.geomspace(_LOWEST_FREQUENCY * dt, 2.0, n_rate)
        # Lags up to L need the density L at low frequencies: L poles at 0, or fewer at a positive radius.
        width = np.tanh(0.5 * _HIGHEST_OF_DELAYS * dt)
        n_delayed = int(np.ceil(lag_per_delay * longest * width))
        at_zero, delayed = np.zeros(_MIN_LAG), np.full(n_delayed, (1.0 - width) / (1.0 + width))
        poles = np.concatenate([np.exp(-rates), at_zero, delayed, *rhythms])
        # An even number, for the rule of every second node.
        poles = np.append(poles, 0.0) if poles.size % 2 else poles
        grids.append(FrequencyGrid(tuple(poles.tolist()), panels))
    return grids


def _oscillations(band, count, damping, dt):
    """Poles of damped oscillations in a band [rad/ms], and their conjugates."""
    frequencies = np.geomspace(*(np.asarray(band) * dt), count)
    decaying = np.exp(frequencies[frequencies < np.pi] * (1j - damping))
    return [decaying, decaying.conj()]


def octave_panels(dt: float, longest_delay: int = 0) -> Panels:
    """Panels that double in width, and resolve the longest delay [steps] at the frequencies that long filters pass."""
    n_panel = max(1, int(np.ceil(np.log2(np.pi / (_LOWEST_FREQUENCY * dt)))))
    edges = np.concatenate([[0.0], np.pi * 2.0 ** np.arange(-n_panel, 1)])
    max_width = _MAX_TURNS * 2.0 * np.pi / max(1, longest_delay)
    parts = []
    for low, high in pairwise(edges):
        count = int(np.ceil((high - low) / max_width)) if low < _HIGHEST_OF_FILTERS * dt else 1
        parts.append(np.linspace(low, high, 1 + count)[1:])
    return Panels((0.0, *np.concatenate(parts).tolist()))


def filter_weights(grid: FrequencyGrid, taps, n_mean: int, shifts=NO_SHIFT) -> jax.Array:
    """Weights of integrals over (0, pi) of a filter's squared gain times a smooth function.

    Parameters
    ----------
    grid : FrequencyGrid
    taps : Array, shape (n_lag,)
        Filter: see `modal.covariance_coordinates`.
    n_mean : int
    shifts : tuple of (int, float)
        Lags [steps], and the weights of their sum: a further factor is the sum of exp(i lag theta).

    Returns
    -------
    Array, shape (n,)
        With a lag complex weights of a cross-spectrum S, whose real part is even, and whose imaginary part is odd: the
        sum of the real parts of their products with S.

    Notes
    -----
    The squared gain of a truncated response oscillates faster in frequency than the spectra change. It is therefore
    expanded as a sum of cosines, each of which is integrated with its own Filon weights in the panels. The function's
    values there are interpolated from those at the grid's nodes.
    """
    of_lags = _weights_of_filter(grid, taps.size, n_mean, shifts)
    dtype = jnp.result_type(taps.dtype, 1j) if np.iscomplexobj(of_lags) else taps.dtype
    of_taps = taps**2 if taps.size == 1 else autocorrelation(taps)
    return of_taps.astype(dtype) @ jnp.asarray(of_lags, dtype)


@lru_cache(maxsize=16)
def _weights_of_filter(grid, n_lag, n_mean, shifts):
    """Weights of each lag of the taps' autocorrelation, shape (n_lag, n)."""
    if n_lag == 1 and n_mean <= _MIN_LAG and shifts == NO_SHIFT:
        return (grid.weight * mean_gain(grid.theta, n_mean) ** 2)[None]
    panels = grid.panels
    if n_lag == 1:
        # The squared gain of a mean oscillates as well: it is a sum over the lags of a triangle.
        lags = np.arange(n_mean)
        triangle = np.where(lags == 0, 1.0, 2.0) * (n_mean - lags) / n_mean**2
        pieces = np.array_split(lags, -(-n_mean // 1000))
        weights = sum(triangle[piece] @ _of_cosines(panels, piece, shifts) for piece in pieces)[None]
    else:
        weights = _of_cosines(panels, n_mean * np.arange(n_lag), shifts) * mean_gain(panels.theta, n_mean) ** 2
        weights[1:] *= 2.0
    even = np.real(weights) @ grid.interpolation(panels.theta)
    return even + 1j * (np.imag(weights) @ grid.interpolation(panels.theta, -1)) if np.iscomplexobj(weights) else even


def _of_cosines(panels, lags, shifts):
    """Filon weights of cos(lag theta) for each lag, times the sum of exp(i shift theta)."""
    if shifts == NO_SHIFT:
        return np.real(panels.filon_weights(lags))
    ahead, behind = (
        sum(weight * panels.filon_weights(shift + sign * lags) for shift, weight in shifts) for sign in (1, -1)
    )
    return 0.5 * (ahead + behind)


def mean_gain(theta, n_mean):
    """Gain of a mean of ``n_mean`` steps: sin(m a) / (m sin(a)) with a = theta / 2, also at 0."""
    return np.sinc(n_mean * theta / (2.0 * np.pi)) / np.sinc(theta / (2.0 * np.pi))
