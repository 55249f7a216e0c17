r"""Region of values where the linear response describes the simulator, as a factor of the prior.

Near an instability the neglected terms grow. The likelihood knows nothing of this, and would be largest there for some
data. With the largest accepted `LinearResponse.nonlinearity` q,

.. math:: \log p = -\frac12 \sum_i (q_i / q)^8 ,

which is 0 to rounding at half of the limit, and rejects twice its value. A second fixed point, to which noise may drive
the network, is no part of the factor: the derivative of `LinearResponse.relaxation_residual` has no bound near the
values where that fixed point appears. Draws are checked for it instead.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from ..linear_response.response import LinearResponse

# Limits; and the factor by which those of values that exceed them at the start are larger.
_NONLINEARITY, _RESIDUAL, _WIDER = 0.4, 0.3, 1.5
_POWER = 8


@dataclass(frozen=True)
class Validity:
    """Limits of the region where the linear response is used.

    Attributes
    ----------
    nonlinearity, residual : float
        Largest accepted `LinearResponse.nonlinearity` and `LinearResponse.relaxation_residual`.
    """

    nonlinearity: float = _NONLINEARITY
    residual: float = _RESIDUAL

    def including(self, response: LinearResponse) -> "Validity":
        """Limits that a response keeps: these, or wider ones."""
        nonlinearity, residual = _largest(response)
        found = self
        if nonlinearity > self.nonlinearity:
            found = replace(found, nonlinearity=_WIDER * nonlinearity)
        if residual > self.residual:
            found = replace(found, residual=_WIDER * residual)
        return found

    def log_factor(self, response: LinearResponse) -> jax.Array:
        """Logarithm of the factor, shape ()."""
        return -0.5 * jnp.sum((response.nonlinearity / self.nonlinearity) ** _POWER)

    def is_kept(self, response: LinearResponse) -> jax.Array:
        """True if a response is within the limits, shape ()."""
        nonlinearity = jnp.max(response.nonlinearity) <= self.nonlinearity
        return nonlinearity & (jnp.max(jnp.abs(response.relaxation_residual)) <= self.residual)


def _largest(response):
    return float(jnp.max(response.nonlinearity)), float(jnp.max(jnp.abs(response.relaxation_residual)))
