"""Fits to report on: small, real, of every kind."""

from dataclasses import replace

import numpy as np
import optax
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter, fit
from tvb_jaxfit.fitting.history import Validation

# What HTML would take for its own.
LABELS = np.array(["<b>&", '"quoted"', "<script>alert(1)</script>", "r3", "été"])
N_NODE = len(LABELS)


def simulator_of(stochastic=True):
    """Five regions that are short of everything but names."""
    random = np.random.default_rng(5)
    white = noise.Additive(nsig=np.array([1e-5]), noise_seed=3)
    scheme = integrators.HeunStochastic(dt=4.0, noise=white) if stochastic else integrators.HeunDeterministic(dt=4.0)
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=random.uniform(size=(N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool),
            tract_lengths=np.full((N_NODE, N_NODE), 20.0),
            centres=np.zeros((N_NODE, 3)),
            region_labels=LABELS,
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(w=np.array([0.6]), I_o=np.array([0.3])),
        coupling=coupling.Linear(a=np.array([0.02])),
        integrator=scheme,
        monitors=[monitors.Bold(period=100.0, hrf_length=1000.0)],
        initial_conditions=np.random.default_rng(1).uniform(0.05, 0.3, (1, 1, N_NODE, 1)),
        simulation_length=6000.0,
    )


def target_of():
    """Correlations of signals that share something."""
    random = np.random.default_rng(7)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))


FREE = {"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True)}


def fit_of(sim=None, free=FREE, **options):
    """A fit of a few steps."""
    options = {"max_steps": 3, "progress": False, "optimizer": optax.adam(0.02)} | options
    return fit(simulator_of() if sim is None else sim, target_of(), free, **options)


@pytest.fixture(scope="session")
def fitted():
    """A fit through the simulation, evaluated in JAX and in TVB."""
    result = fit_of()
    result.evaluate(n_seeds=2, tvb=1, progress=False)
    return result


@pytest.fixture(scope="session")
def kinds(fitted):
    """Fits of every kind, by what is special about them."""
    # As a linear fit has it: with the reach, and on no noise.
    of_linear = replace(fitted.history, aux={"r": fitted.r, "reach": 0.1 + 0.0 * fitted.r}, validation=Validation())
    options = fitted.options | {"method": "'linear'"}
    linear = replace(fitted, history=of_linear, evaluation=None, options=options)
    # As a fit of no steps has it: the first evaluation alone.
    aux = {"r": fitted.r[:1]}
    first = replace(fitted.history, loss=fitted.loss[:1], aux=aux, best_step=0, stop_reason="all 0 steps done")
    first = replace(first, validation=Validation(np.array([0]), fitted.history.validation.values[:1]))
    nothing = replace(fitted.history, loss=np.array([]), aux={}, best_step=0, stop_reason="the loss was nan")
    return {
        "evaluated": fitted,
        "not evaluated": replace(fitted, evaluation=None),
        "linear": linear,
        "linear and simulated": replace(fitted, before=linear),
        "no step": replace(fitted, history=first, best=fitted.initial, fitted=fitted.initial),
        "nothing finite": replace(fitted, history=nothing, best=fitted.initial, evaluation=None),
        "deterministic": fit_of(simulator_of(stochastic=False), skip_t=0),
        "weights": fit_of(free={"connectivity.weights": MaskedParameter(lower_bound=0.0)}),
    }
