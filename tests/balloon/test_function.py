"""`balloon_windkessel` is TVB's analyzer, and is differentiable."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.analyzers.fmri_balloon import BalloonModel, BoldModels, NeuralInputTransformations
from tvb.datatypes.time_series import TimeSeries
from tvb.simulator import integrators

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.balloon_parameters import PARAMETERS

DT = 20.0


@pytest.fixture(scope="module")
def data():
    """Samples (n_time, n_variable, n_node, n_mode) of slowly changing positive activity."""
    steps = np.random.RandomState(0).normal(size=(150, 2, 3, 2))
    return 0.3 + 0.25 * np.tanh(0.1 * np.cumsum(steps, axis=0))


def analyze(data, dt=DT, **options):
    """TVB's own analyzer."""
    series = TimeSeries(data=data, time=dt * np.arange(len(data)), sample_period=dt, sample_period_unit="ms")
    return BalloonModel(time_series=series, **options).evaluate().data[:, 0]


INPUTS = {
    NeuralInputTransformations.NONE: lambda data: data[:, 0],
    NeuralInputTransformations.SUM: lambda data: data.sum(axis=1),
    NeuralInputTransformations.ABS_DIFF: lambda data: np.abs(np.diff(data[:, 0], axis=0)),
}


NONE, SUM, ABS_DIFF = INPUTS


@pytest.mark.parametrize(
    ("transformation", "revised", "model", "centred"),
    [
        (NONE, True, BoldModels.NONLINEAR, False),
        (NONE, True, BoldModels.LINEAR, True),
        (NONE, False, BoldModels.NONLINEAR, True),
        (NONE, False, BoldModels.LINEAR, False),
        (SUM, True, BoldModels.NONLINEAR, False),
        (ABS_DIFF, True, BoldModels.NONLINEAR, False),
    ],
)
def test_it_is_tvbs_analyzer(data, transformation, revised, model, centred):
    options = {"RBM": revised, "bold_model": model, "normalize_neural_input": centred}
    theirs = analyze(data, neural_input_transformation=transformation, **options)
    neural = INPUTS[transformation](data)
    neural = neural - neural.mean(axis=0) if centred else neural
    function = partial(tj.balloon_windkessel, neural, DT)
    parameters, nonlinear = "tvb" if revised else "tvb_classical", model is BoldModels.NONLINEAR
    ours = function(parameters, nonlinear=nonlinear)
    assert np.max(np.abs(theirs)) > 1e-3 and ours.shape == theirs.shape
    # Hemodynamic states are about 1, and V0 k1 is about 11.
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-13)
    # Negative control: the other equation of the signal.
    assert np.max(np.abs(function(parameters, nonlinear=not nonlinear) - theirs)) > 1e-5


CHANGED = {"tau_s": 0.8, "tau_f": 0.5, "tau_o": 1.3, "alpha": 0.4, "E0": 0.3, "V0": 2.0}


@pytest.mark.slow
def test_other_parameters_scheme_and_step_are_tvbs(data):
    coefficients = {"TE": 0.03, "epsilon": 1.0, "nu_0": 80.0, "r_0": 100.0}
    # TVB takes epsilon as an array.
    theirs_epsilon = {**CHANGED, **coefficients, "epsilon": np.array([1.0])}
    for scheme in ("heun", "euler"):
        integrator = integrators.HeunDeterministic() if scheme == "heun" else integrators.EulerDeterministic()
        theirs = analyze(data, dt=5.0, integrator=integrator, **theirs_epsilon)
        parameters = tj.balloon_parameters("tvb", **CHANGED, **coefficients)
        ours = tj.balloon_windkessel(data[:, 0], 5.0, parameters, scheme=scheme)
        np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-13 * np.max(np.abs(theirs)))
        for name, value in parameters.items():
            wrong = tj.balloon_windkessel(data[:, 0], 5.0, parameters | {name: 1.001 * value + 1e-4}, scheme=scheme)
            assert np.max(np.abs(wrong - theirs)) > 1e-6 * np.max(np.abs(theirs)), name


def test_constants_of_the_parameter_sets():
    """As digits of the published codes."""
    found = {name: tj.balloon_parameters(name) for name in ("tvb", "cbig", "friston", "cubnm", "tvboptim")}
    expected = {
        "tvb": (1.54, 1.44, 0.98, 0.32, 0.4, 4.0, 2.77264, 0.2, 0.5),
        "cbig": (1.0 / 0.65, 1.0 / 0.41, 0.98, 0.33, 0.34, 2.0 / 0.34, 4.103416599, 0.5818318, 0.53),
        "friston": (1.0 / 0.65, 1.0 / 0.41, 0.98, 0.32, 0.34, 0.02, 2.38, 2.0, 0.48),
        "cubnm": (0.65, 0.41, 0.98, 0.32, 0.34, 2.0, 3.72, 0.527, 0.53),
        "tvboptim": (0.65, 0.41, 0.98, 0.32, 0.4, 0.04, 2.77264, 0.4, 1.0),
    }
    for name, values in expected.items():
        assert tuple(found[name]) == PARAMETERS
        np.testing.assert_allclose(list(found[name].values()), values, rtol=1e-10)


def test_the_steady_state_has_a_closed_form():
    """Flow 1 + tau_f x, volume flow^alpha, and what is extracted of the flow."""
    x, p = np.array([0.05, 0.3, 2.0]), tj.balloon_parameters("cubnm")
    f = 1.0 + p["tau_f"] * x
    v = f ** p["alpha"]
    q = v * (1.0 - (1.0 - p["E0"]) ** (1.0 / f)) / p["E0"]
    expected = p["V0"] * (p["k1"] * (1.0 - q) + p["k2"] * (1.0 - q / v) + p["k3"] * (1.0 - v))
    neural = np.broadcast_to(x, (6000, 3))
    np.testing.assert_allclose(tj.balloon_windkessel(neural, 10.0, p)[-1], expected, rtol=1e-12)
    # Negative control: after two seconds it is not reached.
    assert np.max(np.abs(tj.balloon_windkessel(neural, 10.0, p)[200] / expected - 1.0)) > 0.01
    np.testing.assert_array_equal(tj.balloon_windkessel(np.zeros((50, 2)), 10.0), 0.0)


def test_gradients_are_those_of_central_differences(data):
    neural, p = jnp.asarray(data[:60, 0, :, :1]), tj.balloon_parameters("cbig")
    weights = np.random.RandomState(1).normal(size=neural.shape)

    def loss(p, neural):
        return jnp.sum(weights * tj.balloon_windkessel(neural, 50.0, p))

    values = {name: jnp.full((3, 1), value) for name, value in p.items()}
    gradient, of_neural = jax.jit(jax.grad(loss, argnums=(0, 1)))(values, neural)
    direction = np.random.RandomState(2).normal(size=(3, 1))
    for name, value in values.items():
        step = 1e-5 * value[0, 0] * direction
        up, down = (loss(values | {name: value + sign * step}, neural) for sign in (1.0, -1.0))
        slope = np.sum(np.asarray(gradient[name]) * step)
        assert slope != 0.0
        np.testing.assert_allclose((up - down) / 2.0, slope, rtol=2e-7, err_msg=name)
    step = 1e-5 * np.random.RandomState(3).normal(size=neural.shape)
    central = (loss(values, neural + step) - loss(values, neural - step)) / 2.0
    np.testing.assert_allclose(central, np.sum(of_neural * step), rtol=1e-7)


@pytest.mark.slow
def test_the_derived_coefficients_follow_e0(data):
    """In the sets with k1 and k2 from E0, the derivative includes them; with a number for k1 and k2 it does not."""

    def last(parameter_set, E0):
        p = tj.balloon_parameters(parameter_set, E0=E0)
        return tj.balloon_windkessel(jnp.asarray(data[:50, 0, 0, 0]), 50.0, p)[-1]

    for name in ("tvb", "cubnm"):
        slope = jax.grad(partial(last, name))(0.38)
        central = (last(name, 0.38 + 1e-5) - last(name, 0.38 - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, central, rtol=1e-7)
    assert tj.balloon_parameters("tvb", E0=0.2)["k1"] == pytest.approx(0.5 * tj.balloon_parameters("tvb")["k1"])
    assert tj.balloon_parameters("cubnm", E0=0.2)["k1"] == 3.72


def test_vmap_over_parameters_and_any_number_of_axes(data):
    neural = jnp.asarray(data[:30, 0, 0, 0])
    taus = jnp.array([0.8, 1.2])

    def of(tau):
        return tj.balloon_windkessel(neural, DT, tj.balloon_parameters("tvb", tau_s=tau))

    together = jax.jit(jax.vmap(of))(taus)
    columns = jnp.stack([neural, neural], axis=1)
    regional = tj.balloon_windkessel(columns, DT, tj.balloon_parameters("tvb", tau_s=taus))
    np.testing.assert_allclose(together, regional.T, rtol=1e-14)
    assert np.max(np.abs(together[0] - together[1])) > 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((5, 2)), -1.0), "dt"),
        ((np.zeros((5, 2)), 1.0, "cubmn"), "cubnm"),
        ((np.zeros((5, 2)), 1.0, {"tau_s": 1.0}), "balloon_parameters"),
        ((np.zeros((5, 2)), 1.0, tj.balloon_parameters(tau_s=np.ones(3))), r"shape \(3,\)"),
        ((np.zeros((0, 2)), 1.0), "at least one sample"),
        ((np.ma.masked_equal(np.ones((5, 2)), 1.0), 1.0), "masked"),
    ],
)
def test_what_it_cannot_take_is_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        tj.balloon_windkessel(*arguments)


def test_kinds_that_are_wrong_are_refused():
    with pytest.raises(TypeError, match="int"):
        tj.balloon_windkessel(np.zeros((5, 2), int), 1.0)
    with pytest.raises((TypeError, ValueError), match="heun"):
        tj.balloon_windkessel(np.zeros((5, 2)), 1.0, scheme="heuns")
    with pytest.raises(ValueError, match="tau_x, unknown in the set 'tvb'"):
        tj.balloon_parameters("tvb", tau_x=1.0)
