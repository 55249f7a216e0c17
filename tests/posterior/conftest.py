"""Networks of the tests of posteriors: the six regions of the tests of uncertainty, and ten that behave well."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tvb.simulator import monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tests.uncertainty.conftest import six
from tvb_jaxfit.dependents import free_parameters_of
from tvb_jaxfit.posterior.sample import Sampling, observed_fc, posterior
from tvb_jaxfit.uncertainty.expected_response import ExpectedResponse
from tvb_jaxfit.uncertainty.free_values import FreeValues

__all__ = ["six"]

N_NODE, PERIOD = 10, 200.0
PAIRS = np.triu_indices(N_NODE, 1)
LABELS = [f"region {i}" for i in range(N_NODE)]
TRUTH = {"coupling.a": 0.25, "model.I_o": 0.305}
BOUNDS = {"coupling.a": (0.1, 0.4), "model.I_o": (0.295, 0.315)}


def network(n_samples=1500, nsig=1e-7, **options):
    """Simulator of ten regions whose linear response is stable and trusted within all of `BOUNDS`."""
    random = np.random.RandomState(0)
    weights = np.tril(np.exp(random.normal(0.0, 1.2, (N_NODE, N_NODE))), -1)
    weights = (weights + weights.T) / weights.max()
    sim = simulator(
        weights,
        nsig=nsig,
        model={"w": np.linspace(0.4, 0.6, N_NODE), "I_o": np.array([TRUTH["model.I_o"]])},
        monitors=[monitors.TemporalAverage(period=PERIOD)],
        initial_conditions=np.full((1, 1, N_NODE, 1), 0.1),
        simulation_length=n_samples * PERIOD,
        **options,
    )
    sim.coupling.a = np.array([TRUTH["coupling.a"]])
    return sim


def bounded(paths=tuple(TRUTH), **values):
    """Free parameters by path, within `BOUNDS`, by default at the true values."""
    given = TRUTH | {path.replace("__", "."): value for path, value in values.items()}
    return {path: tj.BoundedParameter(given[path], *BOUNDS[path]) for path in paths}


def with_free(state, parameters):
    """The same state, with parameters put into it."""
    for path, parameter in parameters.items():
        component, name = path.split(".")
        setattr(getattr(state, component), name, parameter)
    return state


def fc_of(signals):
    """FC with a zero diagonal, as a fit keeps its target."""
    fc = np.corrcoef(signals.T)
    np.fill_diagonal(fc, 0.0)
    return fc


def sampling(method="laplace", n_chains=2, n_draws=300, n_warmup=200, seed=0):
    return Sampling(method == "nuts", n_chains, n_draws, n_warmup, seed, False)


@pytest.fixture(scope="session")
def ten():
    """Namespace: the network's simulator, its linear response at the true values, and functions for them."""
    sim = network()
    linear, state = tj.prepare_linear(sim)
    free = FreeValues(free_parameters_of(with_free(state, bounded())), LABELS)
    response = ExpectedResponse(linear, state, free).response

    def signals(seed, n_samples=600, of=response):
        return np.asarray(of.sample(jax.random.key(seed), n_samples))[:, 0, :, 0]

    def state_with(parameters=None):
        return with_free(tj.prepare_linear(sim)[1], bounded() if parameters is None else parameters)

    def data(fc, n_samples=600, has_discrepancy=False):
        return observed_fc(linear, fc, 0, n_samples * PERIOD, has_discrepancy)[0]

    def of_data(data, parameters=None, prior=None, **options):
        state = state_with(parameters)
        return posterior(linear, state, state, data, LABELS, prior or {}, sampling(**options))

    return SimpleNamespace(
        sim=sim,
        network=network,
        linear=linear,
        response=response,
        signals=signals,
        state=state_with,
        bounded=bounded,
        with_free=with_free,
        fc_of=fc_of,
        data=data,
        posterior=of_data,
        sampling=sampling,
        labels=LABELS,
        pairs=PAIRS,
        n_node=N_NODE,
        period=PERIOD,
        truth=np.array(list(TRUTH.values())),
    )
