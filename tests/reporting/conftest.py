"""Small fits of every kind for reports."""

from dataclasses import replace

import numpy as np
import optax
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

from tvb_jaxfit import BoundedParameter, Certificate, MaskedParameter, Parameter, fit
from tvb_jaxfit.certificate.result import Comparison
from tvb_jaxfit.evaluation.scores import Evaluation
from tvb_jaxfit.evaluation.sessions import Targets
from tvb_jaxfit.fitting.free import mark
from tvb_jaxfit.fitting.history import History, Validation
from tvb_jaxfit.fitting.method import Method
from tvb_jaxfit.parameters import strip_parameters, with_values
from tvb_jaxfit.reporting.summary import VALUES, FitSummary, FittedParameter

# Labels that contain HTML markup.
LABELS = np.array(["<b>&", '"quoted"', "<script>alert(1)</script>", "r3", "été"])
N_NODE = len(LABELS)


def simulator_of(stochastic=True):
    """Small simulator of five regions."""
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
    """FC of signals with a common component."""
    random = np.random.default_rng(7)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))


FREE = {"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True)}


def fit_of(sim=None, free=FREE, **options):
    """Fit of a few steps."""
    options = {"method": "simulate", "max_steps": 3, "progress": False, "optimizer": optax.adam(0.02)} | options
    return fit(simulator_of() if sim is None else sim, target_of(), free, **options)


@pytest.fixture(scope="session")
def fitted():
    """Fit through the simulation, evaluated in JAX and in TVB."""
    result = replace(fit_of(), fresh=None)
    result.evaluate(n_seeds=2, n_tvb=1, progress=False)
    return result


@pytest.fixture(scope="session")
def kinds(fitted):
    """Fits of every kind, by name."""
    # History of a linear fit: with the nonlinearity, and without noise.
    of_linear = replace(
        fitted.history, aux={"r": fitted.r, "nonlinearity": 0.1 + 0.0 * fitted.r}, validation=Validation()
    )
    settings = replace(fitted.settings.with_code("method", "'linear'"), method=Method.LINEAR)
    linear = replace(fitted, history=of_linear, evaluation=None, settings=settings)
    # History of a fit of no steps: the first evaluation only.
    aux = {"r": fitted.r[:1]}
    first = replace(fitted.history, loss=fitted.loss[:1], aux=aux, best_step=0, stop_reason="all 0 steps done")
    first = replace(first, validation=Validation(np.array([0]), fitted.history.validation.values[:1]))
    nothing = replace(fitted.history, loss=np.array([]), aux={}, best_step=0, stop_reason="the loss was nan")
    return {
        "evaluated": fitted,
        "not evaluated": replace(fitted, evaluation=None),
        "linear": linear,
        "linear and simulated": replace(fitted, linear_stage=linear),
        "no step": replace(fitted, history=first, best=fitted.initial, fitted=fitted.initial),
        "nothing finite": replace(fitted, history=nothing, best=fitted.initial, evaluation=None),
        "deterministic": fit_of(simulator_of(stochastic=False), skip_t=0),
        "weights": of_weights(fitted),
    }


def of_weights(fitted):
    """Result of a fit of connectome weights."""
    path = "connectivity.weights"
    initial = mark(
        strip_parameters(fitted.initial),
        {path: MaskedParameter(lower_bound=0.0)},
        {path: ((N_NODE, N_NODE),)},
        range(N_NODE),
        fitted.simulate,
    )
    best = with_values(initial, {path: initial.connectivity.weights.value * 1.01})
    return replace(fitted, initial=initial, best=best, fitted=best, evaluation=None)


@pytest.fixture
def fit_summary():
    """Artificial summary with many regions of long names, many parameters and many region groups."""
    n_node, random = 30, np.random.default_rng(2)
    fc = np.corrcoef(random.normal(size=(n_node, 60)) + random.normal(size=60))
    groups = [f"r network {a}-network {b}" for a in range(6) for b in range(a, 6)]
    rows = [
        {"simulator": "JAX", "seed": 1234567890 + seed, "target": "target", "r": 0.4 + 0.1 * seed, "rmse": 1 / 7}
        | {"window_r": 0.3, "window_rmse": 0.123456789}
        | {name: 1 / 3 for name in groups}
        for seed in range(3)
    ]
    evaluation = Evaluation(
        *("a simulator", 40_000.0, 40, 10, 10_000.0),
        Targets({"target": fc}),
        *(rows, {"JAX": np.array([fc] * 3)}),
        training_scores={"r": 0.9, "loss": 12345.6789},
        validation_scores={"r": 0.8, "loss": 0.25},
        structural_baseline={"target": 0.123456789},
        failed={("TVB", 3): "x" * 200},
    )
    regional = [
        FittedParameter(
            path, "[mV]", "[0, 1]", "BoundedParameter in [0, 1]", np.full(n_node, 1 / 3), random.uniform(size=n_node)
        )
        for path in (*(f"model.{letter}_long_name" for letter in "abcdefg"), "integrator.noise.nsig")
    ]
    single = FittedParameter("monitors[0].hrf_kernel.tau_s", "", "", "Parameter", np.array([0.8]), np.array([1 / 3]))
    validation = Validation(np.array([0, 2]), np.array([0.3, 0.2]), {"r": np.array([0.1, 0.8])})
    r = np.array([0.1, 0.5, 0.9])
    return FitSummary(
        description="ReducedWongWang, 30 regions",
        created="2026-01-01 00:00 UTC",
        labels=[f"region_{i}_of_a_parcellation_with_long_names" for i in range(n_node)],
        weights=random.uniform(size=(n_node, n_node)),
        lengths=100.0 * random.uniform(size=(n_node, n_node)),
        matrices={"Empirical": fc, "Initial": fc**3, "Linear response": fc**2, "Fitted": 0.5 * fc},
        missing={},
        stages={"Simulation": History(1.0 - r, {"r": r}, None, 2, "all 2 steps done", 1.0, validation)},
        parameters=[*regional, single],
        evaluation=evaluation,
        certificate=Certificate("it", 9, (Comparison("Raw", 9, True, 1e-15, 1e-14),), (), {}, 1e-9, 1e-6),
        is_noisy=True,
        details={"Data": {"empirical FC": "/a/very/long/path" * 12}, "Versions": {}},
        code={"The same command": "tvb-jaxfit fit " + "--free a.b.c " * 40, VALUES: f"sim.model.w = {[1 / 3] * 90}"},
        hemispheres=np.arange(n_node) % 2 == 1,
    )
