"""Any model: values come back from an FC that was made with them, or the fit says why it does not apply."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter
from tvb_jaxfit.state import with_path

N_NODE = 8
PAIRS = np.triu_indices(N_NODE, 1)
# Differences between regions, with mean 0.09.
PATTERN = np.array([0.9, -0.4, 0.3, -1.0, 0.6, -0.8, 1.0, 0.1])
# Angular frequencies of 0.04 to 0.07 Hz, in units of a time step in seconds.
FREQUENCIES = 2.0 * np.pi * np.array([0.052, 0.047, 0.061, 0.044, 0.056, 0.05, 0.066, 0.041])


def connectome(delayed):
    """Eight regions of the left hemisphere, with weights that differ less; the largest sum of a row is 1."""
    weights, lengths, labels = tj.load_structural_connectivity("dk_average")
    picked = np.arange(0, 32, 4)
    weights = weights[np.ix_(picked, picked)] ** 0.3
    return Connectivity(
        weights=weights / weights.sum(1).max(),
        tract_lengths=lengths[np.ix_(picked, picked)],
        centres=np.zeros((N_NODE, 3)),
        region_labels=np.array([labels[i] for i in picked]),
        speed=np.array([4.0 if delayed else np.inf]),
    )


@dataclass(frozen=True)
class Network:
    """A model at rest, with the value of each region that a fit is to find.

    Attributes
    ----------
    model : type
    path : str
        Attribute path of the regional value.
    start, spread : float
        Value of all regions at the start; of the target: start + spread * PATTERN.
    bounds : (float, float)
    coupling : str
        Class of the coupling, ...
    a : float
        ... and its strength.
    dt, nsig, period : float
        Noise is weak enough for a linear response; the period is that of the samples [ms].
    at_rest : tuple of float
        Initial state of each region.
    delayed : bool
    values : dict
        Other values of the model.
    """

    model: Callable
    path: str
    start: float
    spread: float
    bounds: tuple
    coupling: str
    a: float
    dt: float
    nsig: float
    period: float
    at_rest: tuple
    delayed: bool = False
    values: dict = field(default_factory=dict)

    def simulator(self, monitor=None, length=None, **values):
        values = {self.path.split(".")[1]: np.array([self.start])} | self.values | values
        at_rest = np.reshape(self.at_rest, (1, -1, 1, 1))
        return Simulator(
            model=self.model(**values),
            connectivity=connectome(self.delayed),
            coupling=getattr(coupling, self.coupling)(a=np.array([self.a])),
            integrator=integrators.HeunStochastic(
                dt=self.dt, noise=noise.Additive(nsig=np.array([self.nsig]), noise_seed=3)
            ),
            monitors=[monitor or monitors.TemporalAverage(period=self.period)],
            initial_conditions=np.broadcast_to(at_rest, (100 if self.delayed else 1, at_rest.size, N_NODE, 1)).copy(),
            simulation_length=length or 200.0 * self.period,
        )

    @property
    def truth(self):
        return self.start + self.spread * PATTERN

    @property
    def free(self):
        low, high = self.bounds
        return {self.path: BoundedParameter(lower_bound=low, upper_bound=high, regional=True)}


def one(value):
    return np.array([value])


NETWORKS = {
    "ReducedWongWang": Network(
        models.ReducedWongWang,
        *("model.I_o", 0.33, 0.01, (0.28, 0.36), "Linear", 0.4, 4.0, 4e-6, 200.0, (0.1,)),
        values={"w": one(0.5)},
    ),
    "ReducedWongWangExcInh": Network(
        models.ReducedWongWangExcInh,
        *("model.J_i", 1.0, 0.1, (0.7, 1.4), "Linear", 0.15, 1.0, 1e-6, 100.0, (0.16, 0.05)),
        values={"variables_of_interest": ("S_e",)},
    ),
    "Generic2dOscillator": Network(
        models.Generic2dOscillator, *("model.a", -2.0, 0.4, (-4.0, 0.0), "Linear", 2.0, 0.5, 1e-4, 20.0, (0.0, 0.0))
    ),
    "SupHopf": Network(
        models.SupHopf,
        *("model.a", -0.1, 0.04, (-0.5, -0.01), "Difference", 0.3, 0.1, 1e-5, 2.0, (0.0, 0.0)),
        values={"omega": FREQUENCIES},
    ),
    "WilsonCowan": Network(
        models.WilsonCowan,
        *("model.P", 0.3, 0.1, (-0.5, 0.6), "Linear", 3.0, 0.5, 1e-6, 50.0, (0.03, 0.02)),
        values={"c_ee": one(7.0)},
    ),
    "MontbrioPazoRoxin": Network(
        models.MontbrioPazoRoxin,
        *("model.eta", -3.0, 0.4, (-4.0, -2.0), "Linear", 50.0, 0.05, 1e-4, 10.0, (0.2, -0.2)),
        values={"variables_of_interest": ("r",), "tau": one(5.0), "J": one(8.0)},
    ),
    "JansenRit": Network(
        models.JansenRit,
        *("model.mu", 0.07, 0.015, (0.02, 0.1), "SigmoidalJansenRit", 80.0, 1.0, 1e-9, 20.0),
        (0.01, 5.0, 5.0, 0.0, 0.0, 0.0),
        delayed=True,
        values={"variables_of_interest": ("y1",)},
    ),
    "LarterBreakspear": Network(
        models.LarterBreakspear,
        *("model.VT", 0.0, 0.03, (-0.1, 0.1), "HyperbolicTangent", 4.0, 0.5, 1e-8, 50.0, (-0.18, 0.22, 0.1)),
        values={"C": one(1.0), "d_V": one(0.5)},
    ),
}
# JansenRit is the one with delays, and the others have none.
SLOW = [pytest.param(name, marks=pytest.mark.slow) if name != "Generic2dOscillator" else name for name in NETWORKS]


def fc_function(network, linear, state):
    """FC of the pairs, and its Jacobian, as functions of the regional values."""

    def fc(values):
        response = linear(with_path(state, network.path, values))
        return response.fc()[PAIRS], response.is_stable

    jacobian = jax.jit(jax.jacfwd(lambda values: fc(values)[0]))
    return jax.jit(fc), jacobian


def recovered(network, monitor=None):
    """(values, fc, target, start_fc, singular values): least squares from the start, on the linear response alone."""
    linear, state = tj.prepare_linear(network.simulator(monitor))
    fc, jacobian = fc_function(network, linear, state)
    target, is_stable = fc(jnp.asarray(network.truth))
    assert is_stable
    start = np.full(N_NODE, network.start)

    def residual(values):
        found, is_stable = fc(jnp.asarray(values))
        return np.asarray(found - target) if is_stable else np.full(len(target), 1.0)

    low, high = network.bounds
    end = scipy.optimize.least_squares(
        residual,
        start,
        lambda values: np.asarray(jacobian(jnp.asarray(values))),
        bounds=(low, high),
        x_scale=high - low,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    sizes = np.linalg.svd(np.asarray(jacobian(jnp.asarray(network.truth))) * (high - low), compute_uv=False)
    return (
        end.x,
        np.asarray(fc(jnp.asarray(end.x))[0]),
        np.asarray(target),
        np.asarray(fc(jnp.asarray(start))[0]),
        sizes,
    )


@pytest.mark.parametrize("name", SLOW)
def test_values_come_back_from_the_fc_of_the_linear_response(name):
    network = NETWORKS[name]
    values, fc, target, start_fc, sizes = recovered(network)
    print(name, "singular values", sizes, "FC off at the start", np.max(np.abs(start_fc - target)))
    assert np.max(np.abs(start_fc - target)) > 0.01 and np.max(target) > 0.1
    np.testing.assert_allclose(fc, target, atol=1e-9)
    # FC determines all eight values.
    assert sizes[-1] > 1e-4 * sizes[0]
    np.testing.assert_allclose(values, network.truth, atol=1e-6 * network.spread)
