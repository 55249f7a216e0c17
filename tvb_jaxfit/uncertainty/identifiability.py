"""Identifiability of fitted values: what the FC of a recording says about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..checks import options as allowed
from ..checks.options import check
from ..checks.suggestions import did_you_mean
from ..dependents import free_parameters_of
from ..dynamics.simulate import Simulate
from ..errors import NoStableFixedPoint
from ..linear_response.response import LinearResponse
from ..linear_response.simulator import LinearizedSimulator
from ..runtime.processes import PicklableMixin
from ..state import State
from .expected_fc import ExpectedFC
from .free_values import FreeValues
from .likelihood import FCLikelihood
from .profile import Profile, profile
from .standard_errors import StandardErrors
from .trade_offs import trade_offs

if TYPE_CHECKING:
    import pandas

# Information relative to the prior's below which it is rounding: limits standard errors without a prior.
_NO_INFORMATION = 1e-10
# Maximum number of pairs: the covariance of their sampling errors takes 0.8 GB.
_MAX_PAIRS = 10_000
# Smallest number of samples of a recording.
_MIN_SAMPLES = 10
# Correlations between single values that a record names, and maximum number of values whose correlations it has.
_N_TRADE_OFFS, _MAX_CORRELATED = 3, 1000


@dataclass(frozen=True, eq=False)
class Identifiability(PicklableMixin):
    r"""Information about fitted values in the FC of a recording.

    Attributes
    ----------
    length : float
        Length of the recording [ms].
    free : FreeValues
        Fitted values, with their names, bounds and priors.
    likelihood : FCLikelihood
    eigenvalues : ndarray, shape (n_free,)
        Of the Fisher information relative to that of the prior, the largest first: along a direction with the
        eigenvalue 1, the FC says as much as the prior.
    directions : ndarray, shape (n_free, n_free)
        Their eigenvectors as columns, in units of the prior's standard deviations.
    remarks : tuple of str
        On the length, the pairs, and the values.

    Notes
    -----
    The expected Fisher z of the FC is that of the linear response, with its exact Jacobian J; sampling errors have the
    covariance S of ``uncertainty.sampling``, between all pairs. The information is :math:`F = J^\top S^{-1} J`, and
    the covariance of the values :math:`(F + P)^{-1}` with the precision P of the prior: see `FreeValues.prior_std`.
    It is local: the likelihood is taken as Gaussian around the fitted values; `profile` shows how far that holds.
    """

    length: float
    free: FreeValues = field(repr=False)
    likelihood: FCLikelihood = field(repr=False)
    eigenvalues: np.ndarray = field(repr=False)
    directions: np.ndarray = field(repr=False)
    remarks: tuple = ()

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the values with the prior, in units of its standard deviations, shape (n_free, n_free)."""
        return (self.directions / (1.0 + self.eigenvalues)) @ self.directions.T

    @property
    def correlation(self) -> np.ndarray:
        """Correlation between the values, shape (n_free, n_free)."""
        std = np.sqrt(np.diagonal(self.covariance))
        return self.covariance / np.outer(std, std)

    @property
    def n_determined(self) -> int:
        """Number of directions about which the FC says more than the prior."""
        return int(np.sum(self.eigenvalues > 1.0))

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Fitted values by path, shape (n,); of maps, the coefficients."""
        return self.free.by_path(self.free.vector)

    @property
    def prior_std(self) -> dict[str, np.ndarray]:
        """Standard deviations of the prior by path, shape (n,)."""
        return self.free.by_path(self.free.prior_std)

    @property
    def standard_error(self) -> dict[str, np.ndarray]:
        """Standard errors by path, shape (n,): of the FC and the prior together, at most that of the prior."""
        return self.free.by_path(np.sqrt(np.diagonal(self.covariance)) * self.free.prior_std)

    @property
    def standard_error_without_prior(self) -> dict[str, np.ndarray]:
        """Standard errors of the FC alone by path, shape (n,); huge, but finite, for values that it says nothing of."""
        variances = self.directions**2 @ (1.0 / np.maximum(self.eigenvalues, _NO_INFORMATION))
        return self.free.by_path(np.sqrt(variances) * self.free.prior_std)

    @property
    def is_determined(self) -> dict[str, np.ndarray]:
        """True, by path and of shape (n,), for values about which the FC says more than the prior."""
        return self.free.by_path(np.diagonal(self.covariance) < 0.5)

    def trade_offs(self, n: int = 5) -> list[str]:
        """Trade-offs between the values, in words.

        Parameters
        ----------
        n : int, optional
            Maximum number of correlations between single values.

        Returns
        -------
        list of str
            The combination of single values and regional means that is determined least, as the changes of one standard
            error; correlations above 0.5 between these; and the strongest correlations between values.
        """
        check("trade_offs", n=(n, allowed.integer(0)))
        return trade_offs(self, int(n))

    def profile(self, path: str, entry: int | str | None = None, n: int = 9, width: float = 2.0) -> Profile:
        """Profile likelihood of one value: the others are fitted again where it is fixed.

        Parameters
        ----------
        path : str
            For example "model.w".
        entry : int or str, optional
            Index or name (region label, name of a map) of one of several values.
        n : int, optional
            Number of values, at least 3; an even number is raised by one.
        width : float, optional
            Distance of the outermost values from the fitted one, in standard errors; at most up to a bound.

        Returns
        -------
        Profile
            With the prior as part of the likelihood.

        Raises
        ------
        ValueError
            No such value.
        """
        check(
            "profile",
            path=(path, allowed.string),
            entry=(entry, allowed.optional(allowed.either(allowed.integer(0), allowed.string))),
            n=(n, allowed.integer(3)),
            width=(width, allowed.number(above=0.0)),
        )
        return profile(self.likelihood, self._index(path, entry), self.covariance, int(n), float(width))

    def _index(self, path, entry):
        if path not in self.free.slices:
            near, paths = did_you_mean(path, self.free.slices, match_last_part=True), ", ".join(self.free.slices)
            raise ValueError(f"profile: path: {path!r} is no fitted value ({paths}).{near}")
        start, names = self.free.slices[path].start, self.free.names[path]
        if entry is None and len(names) == 1:
            return start
        if entry in names:
            return start + names.index(entry)
        if isinstance(entry, (int, np.integer)) and entry < len(names):
            return start + int(entry)
        raise ValueError(
            f"profile: entry: {entry!r}; {path} has {len(names)} values. Give an index below {len(names)}, or a name: "
            f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}."
        )

    @cached_property
    def record(self) -> StandardErrors:
        """Standard errors without the linear response: the light part, which results keep and files contain."""
        free, r = self.free, self.correlation
        return StandardErrors(
            self.length,
            self.likelihood.n_samples,
            self.likelihood.expected.pairs[0].size,
            len(free.labels),
            free.names,
            self.values,
            self.standard_error,
            self.standard_error_without_prior,
            self.prior_std,
            self.is_determined,
            self.eigenvalues,
            r.astype(np.float32) if len(r) <= _MAX_CORRELATED else None,
            tuple(self.trade_offs(_N_TRADE_OFFS)),
            tuple(self.remarks),
        )

    def to_frame(self) -> "pandas.DataFrame":
        """Values with their standard errors as a table: one row for each path and entry.

        Raises
        ------
        ImportError
            Without pandas.
        """
        return self.record.to_frame()

    def __repr__(self):
        return self.record.text(type(self).__name__)

    def _repr_html_(self):
        return self.record.html(type(self).__name__)


def identifiability(
    linear: LinearizedSimulator,
    state: State,
    target: np.ndarray,
    monitor: int,
    length: float,
    labels: Sequence[str],
    remarks: Sequence[str] = (),
) -> Identifiability:
    """Information about the free values of a state in the FC of a recording.

    Parameters
    ----------
    linear : LinearizedSimulator
    state : State
        With `Parameter`s, at the fitted values.
    target : ndarray, shape (n_node, n_node)
        Pairs that are NaN have no data.
    monitor : int
        Index of the monitor that FC is computed from.
    length : float
        Length of the recording [ms].
    labels : sequence of str
        Of the regions.
    remarks : sequence of str
        Shown with the result.

    Returns
    -------
    Identifiability

    Raises
    ------
    NoStableFixedPoint
        The fitted values have no linear response.
    ValueError
        A recording of less than 10 samples; signals without noise.
    """
    n_samples = number_of_samples(linear.simulate, monitor, length, "identifiability")
    free = FreeValues(free_parameters_of(state), list(labels))
    pairs, of_pairs = usable_pairs(target)
    expected = ExpectedFC(linear, state, free, monitor, pairs)
    refuse_no_response(expected.response, monitor, "identifiability")
    likelihood = FCLikelihood(expected, n_samples)
    eigenvalues, directions = np.linalg.eigh(likelihood.jacobian.T @ likelihood.jacobian)
    return Identifiability(
        float(length),
        free,
        likelihood,
        np.maximum(eigenvalues[::-1], 0.0),
        directions[:, ::-1],
        (*remarks, *of_pairs, *_on_bounds(free)),
    )


def usable_pairs(target: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[str, ...]]:
    """Pairs with data, a part of them if there are too many; and what there is to say of them.

    Parameters
    ----------
    target : ndarray, shape (n_node, n_node)

    Returns
    -------
    (first, second), remarks
    """
    first, second = np.triu_indices(len(target), 1)
    has_data = np.isfinite(target[first, second])
    first, second = first[has_data], second[has_data]
    if first.size <= _MAX_PAIRS:
        return (first, second), ()
    kept = np.sort(np.random.default_rng(0).permutation(first.size)[:_MAX_PAIRS])
    remark = f"a random {_MAX_PAIRS} of {first.size} pairs were used: standard errors are upper bounds"
    return (first[kept], second[kept]), (remark,)


def number_of_samples(simulate: Simulate, monitor: int, length: float, owner: str) -> int:
    """Number of samples of a recording; ValueError for too few."""
    period = simulate.monitors[monitor].istep * simulate.dt
    n_samples = round(length / period)
    if n_samples < _MIN_SAMPLES:
        raise ValueError(
            f"{owner}: length: {length:g} ms are {n_samples} samples of a period of {period:g} ms; give at least "
            f"{_MIN_SAMPLES * period:g}."
        )
    return n_samples


def refuse_no_response(response: LinearResponse, monitor: int, owner: str) -> None:
    """Raise an error for values without a linear response, or for signals without noise."""
    if not bool(response.is_stable):
        raise NoStableFixedPoint(
            "the fitted values have no stable fixed point, so that there is no linear response to tell what FC "
            "determines",
            "Fit with method='linear', or narrow the bounds to the values where the network rests.",
            owner,
        )
    silent = np.asarray(np.diagonal(response.covariance(monitor))) <= 0.0
    if silent.any():
        raise ValueError(
            f"{owner}: {silent.sum()} of {silent.size} signals do not fluctuate: there is no noise, and FC is not "
            "defined. Give integrator.noise.nsig values above 0, and fit again."
        )


def _on_bounds(free):
    """Remark on values at their bounds."""
    at = np.flatnonzero(free.is_on_bound)
    if not at.size:
        return ()
    names = ", ".join(free.name(index) for index in at[:3]) + (", ..." if at.size > 3 else "")
    lie = "lies" if at.size == 1 else "lie"
    return (f"{at.size} of {free.vector.size} values {lie} on a bound ({names}): errors are of one side only",)
