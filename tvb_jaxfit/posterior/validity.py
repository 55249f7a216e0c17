r"""Region of values where the linear response describes the simulator, as a factor of the prior.

Near an instability the neglected terms grow. The likelihood knows nothing of this, and would be largest there for some
data. With the norm :math:`|q| = (\sum_i q_i^8)^{1/8}` of `LinearResponse.nonlinearity`, nearly its maximum, and the
limit :math:`q_0`,

.. math:: p = \left[1 + (|q| / q_0)^4\right]^{-4} ,

which is 0.8 at half of the limit, and 1e-5 at twice its value. A power has no steep wall, which samplers cannot follow.
A second fixed point, to which noise may drive the network, is no part of the factor: the derivative of
`LinearResponse.relaxation_residual` has no bound near the values where that fixed point appears. Draws are checked for
it instead.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from ..linear_response.response import LinearResponse

# Limits; and the factor by which those of values that exceed them at the start are larger.
_NONLINEARITY, _RESIDUAL, _WIDER = 0.4, 0.3, 1.5
# Power of the norm, power of the ratio, and power of the factor.
_NORM, _RATIO, _FACTOR = 8, 4, 4


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
        ratio = response.nonlinearity / self.nonlinearity
        # The sum of powers alone would have no derivative at 0.
        total = jnp.sum(ratio**_NORM) + jnp.finfo(ratio.dtype).tiny
        return -_FACTOR * jnp.log1p(total ** (_RATIO / _NORM))

    def is_kept(self, response: LinearResponse) -> jax.Array:
        """True if a response is within the limits, shape ()."""
        nonlinearity = jnp.max(response.nonlinearity) <= self.nonlinearity
        return nonlinearity & (jnp.max(jnp.abs(response.relaxation_residual)) <= self.residual)


def _largest(response):
    return float(jnp.max(response.nonlinearity)), float(jnp.max(jnp.abs(response.relaxation_residual)))
