"""Gaussian likelihood of the FC of a recording, by its Fisher z, around the fitted values."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from ..runtime.processes import PicklableMixin
from .expected_fc import ExpectedFC
from .sampling import fisher_z_covariance, with_second_order


@dataclass(frozen=True, eq=False)
class FCLikelihood(PicklableMixin):
    """Likelihood of a recording whose Fisher z is exactly the one that the fitted values predict.

    The covariance of its sampling errors is that at the fitted values.

    Attributes
    ----------
    expected : ExpectedFC
    n_samples : int
        Number of samples of the recording.
    """

    expected: ExpectedFC
    n_samples: int

    @cached_property
    def cholesky(self) -> np.ndarray:
        """Lower Cholesky factor of the covariance of the sampling errors of z, shape (n_pair, n_pair)."""
        expected, response = self.expected, self.expected.response
        autocovariance = response.system.autocovariance(response, expected.monitor)
        covariance = with_second_order(fisher_z_covariance(autocovariance, self.n_samples, expected.pairs))
        return scipy.linalg.cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)

    @property
    def jacobian(self) -> np.ndarray:
        """Derivative of the whitened z by the free values at the fitted ones, in units of the prior."""
        _, jacobian = self._fitted
        return self._whiten(jacobian * self.expected.free.prior_std)

    @cached_property
    def _fitted(self):
        return self.expected.jacobian(self.expected.free.vector)

    def residual(self, vector: np.ndarray) -> np.ndarray:
        """Whitened difference of the expected z from that of the fitted values, shape (n_pair,).

        NaN without a stable fixed point.
        """
        return self._whiten(self.expected.z(vector) - self._fitted[0])

    def whitened(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`residual`, and its derivative by the free values in units of the prior, shape (n_pair, n_free)."""
        z, jacobian = self.expected.jacobian(vector)
        both = self._whiten(np.column_stack([z - self._fitted[0], jacobian * self.expected.free.prior_std]))
        return both[:, 0], both[:, 1:]

    def _whiten(self, values):
        return scipy.linalg.solve_triangular(self.cholesky, values, lower=True, check_finite=False)
