"""A first step that is too large for a value, and a value outside its domain, are named with the remedy."""

import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import (
    BoundedParameter,
    MaskedParameter,
    OptaxOptimizer,
    Parameter,
    PositiveParameter,
    ScaledParameter,
    State,
)
from tvb_jaxfit.parameters import parameters_of
from tvb_jaxfit.state import with_path

N_NODE, NSIG = 4, 4e-6
PATH = "integrator.noise.nsig"


def _simulator(nsig=NSIG, ntau=0.0):
    weights = np.random.default_rng(0).uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=weights,
            tract_lengths=np.zeros((N_NODE, N_NODE)),
            centres=np.zeros((N_NODE, 3)),
            region_labels=np.array([f"r{i}" for i in range(N_NODE)]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.HeunStochastic(
            dt=1.0, noise=noise.Additive(nsig=np.atleast_1d(np.asarray(nsig, float)), ntau=ntau)
        ),
        monitors=[monitors.TemporalAverage(period=5.0)],
        simulation_length=50.0,
    )


@pytest.fixture(scope="module")
def prepared():
    return tj.prepare(_simulator())[1]


def _root(state):
    """Root of the dispersion, as the simulation takes it."""
    return jnp.sum(jnp.sqrt(state.integrator.noise.nsig))


def _run(state, parameter, optimizer, loss=_root, steps=5, **options):
    marked = with_path(state, PATH, parameter)
    return OptaxOptimizer(loss, optimizer, progress=False, **options).run(marked, steps)


LEAPS = {
    "of a value": (
        *(PATH, Parameter(NSIG), "by 0.01, 2500 times its value of 4e-06 (its domain is [0, 10])"),
        ("PositiveParameter(), whose steps are parts of the value", f"({PATH}:positive on the command line)"),
    ),
    "of regions": (
        *(PATH, Parameter(NSIG, regional=True), "by 0.01, 2500 times its size of 4e-06"),
        ("PositiveParameter(regional=True), whose steps", f"({PATH}:regional:positive on the command line)"),
    ),
    "between narrow bounds": (
        *(PATH, BoundedParameter(NSIG, 0.0, 1e-5), "by 0.01, 1000 times the range between its bounds, [0, 1e-05]"),
        ("PositiveParameter()",),
    ),
    "of a part": (
        *(PATH, MaskedParameter(np.array([0.0, NSIG, NSIG, NSIG])), "by 0.01, 2500 times its size of 4e-06"),
        ("Give a smaller learning rate.",),
    ),
    "of both signs": (
        *("coupling.b", Parameter(np.array([-1e-5, 1e-5, 1e-5, 1e-5])), "by 0.01, 1000 times its size of 1e-05. Give"),
        ("ScaledParameter(), whose steps", "(coupling.b:scaled on the command line)"),
    ),
}


@pytest.mark.parametrize("what", LEAPS)
def test_a_first_step_of_many_times_a_value_is_refused_before_anything_is_evaluated(what, prepared):
    path, parameter, found, remedy = LEAPS[what]

    def loss(state):
        raise AssertionError("nothing is evaluated")

    with pytest.raises(ValueError) as caught:
        OptaxOptimizer(loss, optax.adam(0.01), progress=False).run(with_path(prepared, path, parameter))
    assert str(caught.value).startswith(f"{path}: the first step of the optimizer moves it {found}")
    assert all(part in str(caught.value) for part in remedy)


def test_all_values_with_too_large_a_step_are_named_at_once(prepared):
    marked = prepared
    for path, value in {PATH: NSIG, "model.gamma": 1e-4, "model.w": 0.6}.items():
        marked = with_path(marked, path, Parameter(value))
    with pytest.raises(ValueError) as caught:
        OptaxOptimizer(_root, optax.adam(0.01), progress=False).run(marked)
    assert PATH in str(caught.value) and "model.gamma" in str(caught.value) and "model.w" not in str(caught.value)


def test_accumulated_gradients_are_examined_too(prepared):
    collected = optax.MultiSteps(optax.adam(0.01), 3).gradient_transformation()
    with pytest.raises(ValueError, match="2500 times its value"):
        _run(prepared, Parameter(NSIG), collected)


@pytest.mark.parametrize(
    "parameter",
    [PositiveParameter(NSIG), ScaledParameter(NSIG), BoundedParameter(NSIG, 0.0), BoundedParameter(NSIG, 0.0, 1.0)],
    ids=lambda parameter: str(parameter),
)
def test_the_named_remedies_fit_without_a_warning(parameter, prepared):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, history = _run(prepared, parameter, optax.adam(0.01), steps=3)
    if parameter.to_unconstrained().shape == () and not np.isfinite(getattr(parameter, "upper_bound", np.inf)):
        np.testing.assert_allclose(history.loss, np.sqrt(NSIG) * np.exp(-0.005 * np.arange(4)), rtol=2e-3)
    assert np.all(np.isfinite(history.loss)) and history.loss[-1] < history.loss[0]


def test_a_step_of_more_than_a_value_gives_a_warning(prepared):
    with pytest.warns(UserWarning, match=f"{PATH}: the first step of the optimizer moves it by 0.0001, 2.5") as caught:
        _run(prepared, Parameter(4e-5), optax.adam(1e-4), lambda state: jnp.sum(state.integrator.noise.nsig))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("value", "optimizer"),
    [(0.0, optax.adam(0.01)), (1e-6, optax.sgd(0.4)), (1e-6, optax.chain(optax.clip(1.0), optax.sgd(0.4)))],
)
def test_a_value_of_0_and_optimizers_that_follow_the_slope_give_no_warning(value, optimizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted, _ = OptaxOptimizer(lambda s: (s.x - 3.0) ** 2, optimizer, progress=False).run(
            State(x=Parameter(value)), 20
        )
    assert abs(float(fitted.x.value)) > 0.1


def test_a_value_outside_its_domain_is_named_and_the_best_state_is_kept(prepared):
    fitted, history = _run(prepared, Parameter(NSIG), optax.adam(3e-6))
    assert f"; {PATH} = -1.89" in str(history.stop_reason) and "lies outside its domain [0, 10]" in str(
        history.stop_reason
    )
    assert "(a step before: 1" in str(history.stop_reason)
    assert "PositiveParameter() or BoundedParameter(lower_bound=0, upper_bound=10) keeps" in str(history.stop_reason)
    assert history.loss.size == 2 and history.best_step == 1
    np.testing.assert_allclose(parameters_of(history.best)[PATH].value, 1e-6, rtol=1e-2)
    assert np.all(np.isfinite(parameters_of(fitted)[PATH].value))


def test_a_loss_that_is_not_finite_for_another_reason_names_no_domain(prepared):
    def loss(state):
        nsig = jnp.sum(state.integrator.noise.nsig)
        return jnp.where(nsig < 3.9e-6, jnp.nan, nsig)

    _, history = _run(prepared, PositiveParameter(NSIG), optax.adam(0.01))
    assert "all 5 steps done" in str(history.stop_reason)
    _, history = _run(prepared, PositiveParameter(NSIG), optax.adam(0.01), loss)
    assert "the loss was nan" in str(history.stop_reason) and "domain" not in str(history.stop_reason)


STARTS = {
    "below 0": (NSIG, 0.0, {PATH: Parameter(-1e-6)}, "1 of 1 start values are below 0 (found -1e-06)"),
    "at 0": (0.0, 0.0, {PATH: Parameter()}, "the start value is 0, where the slope is not finite"),
    "of which some are 0, on a bound": (
        [0.0, NSIG, NSIG, NSIG],
        0.0,
        {PATH: BoundedParameter(lower_bound=0.0)},
        "1 of 4 start values are 0, on the bound",
    ),
    "of a correlation time": (
        NSIG,
        5.0,
        {"integrator.noise.ntau": Parameter(-2.0)},
        "1 of 1 start values are below 0 (found -2)",
    ),
}


@pytest.mark.parametrize("what", STARTS)
def test_a_start_without_a_finite_gradient_is_refused(what):
    nsig, ntau, free, found = STARTS[what]
    with pytest.raises(ValueError) as caught:
        tj.fit(
            _simulator(nsig, ntau),
            np.corrcoef(np.random.default_rng(1).normal(size=(N_NODE, 9))),
            free,
            method="simulate",
            run=tj.RunOptions(progress=False),
        )
    (path,) = free
    assert str(caught.value).startswith(f"{path}: {found}") and "above 0" in str(caught.value)
