"""Mean rates under noise as a target."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from ..checks import options as allowed
from ..dynamics.expression_monitor import ExpressionMonitor
from ..persistence import serialisable
from ..translate.model_expression import model_expression
from .target import Target, root_mean_square

# Time between two states whose rate is recorded [ms].
_PERIOD = 10.0


@serialisable
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MeanRateTarget(Target):
    """Mean firing rate of each region under noise as a target of `fit`.

    Parameters
    ----------
    value : float or array_like, shape (n_node,)
        Mean rate of all regions, or of each.
    rate : str, default "H_e"
        Expression of the model's own variables whose mean is taken, as for `Balanced`.
    skip : float, default 1000
        Start of a simulation that is left out [ms].
    weight : float, default 1
        Factor of the distance in the loss.
    distance : callable, optional
        (simulated, value) of shape (n_node,) to a scalar. Default: root-mean-square difference, relative to the mean of
        the value.

    Raises
    ------
    ValueError
        An option or a value that is not allowed; of `fit`: a rate that is no expression of the model's variables.

    Notes
    -----
    Of a linear response, the mean to second order in the noise amplitude (`LinearResponse.mean_of`). Of a simulation,
    the mean over states every 10 ms or less, after ``skip``; all states of the run are kept in memory.

    Examples
    --------
    >>> import tvb_jaxfit as tj
    >>> tj.MeanRateTarget(3.0, weight=0.1)
    MeanRateTarget(3, weight=0.1)
    """

    rate: str = "H_e"
    skip: float = 1000.0
    # Translated expression, and integration step [ms]; see `bound`.
    _evaluate: Callable | None = field(default=None, init=False)
    _dt: float = field(default=1.0, init=False)

    is_stationary = True
    observes_states = True

    def _rules(self):
        return super()._rules() | {
            "rate": (self.rate, allowed.string),
            "skip": (self.skip, allowed.number(minimum=0.0)),
        }

    def _read(self, value):
        value = super()._read(value)
        if value.ndim > 1 or not np.all(value > 0.0):
            raise ValueError(f"MeanRateTarget: value: {value}; give a positive rate, or one for each region.")
        return value

    def bound(self, sim):
        """Target with the translated expression of a simulator's model."""
        new, n_node = copy.copy(self), sim.connectivity.weights.shape[0]
        object.__setattr__(new, "_evaluate", model_expression(sim.model, n_node, self.rate))
        object.__setattr__(new, "_dt", float(sim.integrator.dt))
        return new

    def problems(self, n_node, period, n_time):
        """Another number of regions, and a simulation that is too short."""
        problems = []
        if self.value.size not in (1, n_node):
            problems.append(f"value: {self.value.size} values for {n_node} regions")
        if not self.skip < n_time * period:
            problems.append(f"skip: {self.skip:g} of {n_time * period:g} ms; leave out less, or simulate longer")
        return problems

    def recorder(self, simulate):
        """Monitor that records the rates."""
        return ExpressionMonitor((), self._istep, self._dt, True, "rate", evaluate=self._evaluate)

    @property
    def _istep(self):
        return max(1, int(_PERIOD / self._dt))

    def of_record(self, samples):
        """Mean rate of each region from the samples of the recorder, (n_time, 1, n_node, n_mode)."""
        n_skipped = math.ceil(self.skip / (self._istep * self._dt))
        return jnp.mean(samples[n_skipped:, 0], axis=(0, 2))

    def of_response(self, response, monitor):
        """Mean rate of each region, to second order."""
        return jnp.mean(response.mean_of(self._evaluate), axis=1)

    def _default_distance(self, simulated, value):
        return root_mean_square(simulated - value) / float(np.mean(value))
