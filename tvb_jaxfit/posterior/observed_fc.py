r"""Likelihood of an empirical FC: its Fisher z is normal around the expected one.

.. math:: z \sim N(z(\theta),\; S + \sigma^2 1)

S is the covariance of the sampling errors of a recording of this length, between all pairs, at given values (see
`uncertainty.sampling`). The discrepancy :math:`\sigma` is what the best values of the model leave unexplained beyond
the sampling error; it is estimated with the values. Without it, a model that is only approximately true seems certain
of values that are wrong.
"""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ..linear_response.response import LinearResponse
from ..runtime.processes import PicklableMixin
from ..uncertainty.expected_fc import fisher_z
from ..uncertainty.sampling import fisher_z_covariance, with_second_order
from .priors import LogNormalPrior

# Prior of the discrepancy: median, and standard deviation of its logarithm.
_DISCREPANCY, _SPREAD = 0.05, 1.5
# Name of the discrepancy among the values of a posterior.
DISCREPANCY = "fc.discrepancy"


@dataclass(frozen=True, eq=False)
class ObservedFC(PicklableMixin):
    """FC of a recording, as data.

    Attributes
    ----------
    fc : ndarray, shape (n_node, n_node)
    monitor : int
        Index of the monitor whose signals it belongs to.
    n_samples : int
        Number of samples of the recording.
    pairs : (ndarray of int, ndarray of int), each of shape (n_pair,)
        Pairs that count.
    has_discrepancy : bool
    variances : ndarray, shape (n_pair,)
        Eigenvalues of S; empty before `at`.
    directions : ndarray, shape (n_pair, n_pair)
        Its eigenvectors, as rows.
    """

    fc: np.ndarray = field(repr=False)
    monitor: int
    n_samples: int
    pairs: tuple = field(repr=False)
    has_discrepancy: bool = True
    variances: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    directions: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    @property
    def n_data(self) -> int:
        """Number of data."""
        return self.pairs[0].size

    @property
    def z(self) -> np.ndarray:
        """Fisher z of the data, shape (n_pair,)."""
        return np.arctanh(self.fc[self.pairs])

    def at(self, response: LinearResponse) -> "ObservedFC":
        """The same data, with the covariance of sampling errors at a response."""
        autocovariance = response.system.autocovariance(response, self.monitor)
        covariance = with_second_order(fisher_z_covariance(autocovariance, self.n_samples, self.pairs))
        variances, directions = scipy.linalg.eigh(covariance, overwrite_a=True, check_finite=False)
        return replace(self, variances=variances, directions=np.ascontiguousarray(directions.T))

    def nuisance(self, response: LinearResponse) -> dict:
        """Prior and start of each further unknown, by name: {name: (Prior, ndarray)}."""
        if not self.has_discrepancy:
            return {}
        residual = self.z - np.asarray(fisher_z(response.fc(self.monitor), self.pairs))
        unexplained = np.mean(residual**2) - np.mean(self.variances)
        start = np.sqrt(max(unexplained, 0.1 * np.mean(self.variances)))
        return {DISCREPANCY: (LogNormalPrior(np.asarray(_DISCREPANCY), np.asarray(_SPREAD)), np.array([start]))}

    def log_likelihood(self, response: LinearResponse, nuisance: dict) -> jax.Array:
        """Logarithm of the likelihood, shape ().

        Parameters
        ----------
        response : LinearResponse
        nuisance : dict of str to Array
            Values of the further unknowns.
        """
        z = fisher_z(response.fc(self.monitor), self.pairs)
        along = jnp.asarray(self.directions, z.dtype) @ (jnp.asarray(self.z, z.dtype) - z)
        discrepancy = nuisance[DISCREPANCY][0] if self.has_discrepancy else 0.0
        variances = jnp.asarray(self.variances, z.dtype) + discrepancy**2
        return -0.5 * jnp.sum(along**2 / variances + jnp.log(2.0 * np.pi * variances))

    def is_same(self, other) -> bool:
        """True for the same pairs of the same FC."""
        if not isinstance(other, ObservedFC) or self.n_data != other.n_data:
            return False
        return self.n_samples == other.n_samples and np.array_equal(self.z, other.z)

    def __str__(self):
        return f"FC of {self.n_samples} samples, {self.n_data} pairs"
