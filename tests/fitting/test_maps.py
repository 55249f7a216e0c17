"""Fits of the coefficients of maps, in both ways: what is found, reported, and written back."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.linear_response.response import LinearResponse
from tvb_jaxfit.parameters import parameters_of

pytestmark = pytest.mark.usefixtures("short_linear_fits")

N_NODE = 6
MYELIN = np.array([-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]) * np.sqrt(1.5)
GRADIENT = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
LABELS = [f"region {i}" for i in range(N_NODE)]
# Coefficients of the target.
TRUE = {"intercept": np.log(0.3), "myelin": 0.3, "gradient": -0.15}


@pytest.fixture
def sim(weights_6):
    """Six symmetric regions; FC of a temporal average."""
    return simulator(
        (weights_6 + weights_6.T) / 2.0,
        steps=500,
        model={"w": np.array([0.25]), "I_o": np.array([0.3])},
        monitors=[monitors.TemporalAverage(period=200.0)],
    )


@pytest.fixture
def target(sim):
    """FC of the network with other coefficients, by the linear response, which can be fitted exactly."""
    linear, state = tj.prepare_linear(sim)
    w = np.exp(TRUE["intercept"] + TRUE["myelin"] * MYELIN + TRUE["gradient"] * GRADIENT)
    state.model.w = jnp.asarray(w)
    return np.asarray(linear(state).fc())


def _free():
    columns = ({label: values[i] for i, label in enumerate(LABELS)} for values in (MYELIN, GRADIENT))
    return {"model.w": tj.MapParameter(dict(zip(("myelin", "gradient"), columns, strict=True)))}


@pytest.mark.slow
def test_a_linear_fit_recovers_the_coefficients(sim, target, monkeypatch, tmp_path):
    # No sampling error, and no cost of differences between regions: only the target counts.
    monkeypatch.setattr(LinearResponse, "z_standard_error", lambda response, length, monitor: 0.0)
    monkeypatch.setattr(linear_fit, "HOMOGENEITY_WEIGHTS", (1e-8,))
    result = tj.fit(sim, target, _free(), method="linear", progress=False)
    found = result.coefficients["model.w"]
    assert found == pytest.approx(TRUE, abs=2e-3)
    # Negative control: the start is elsewhere.
    start = parameters_of(result.initial)["model.w"].coefficients
    np.testing.assert_allclose(start, [np.log(0.25), 0.0, 0.0], rtol=1e-12)
    assert "model.w: MapParameter(exp(-1.386 + 0 myelin + 0 gradient), " in repr(result)
    page = result.report(tmp_path / "report.html").read_text()
    assert "Fitted coefficients of the maps" in page and "tj.MapParameter(maps, transform=" in page
    report = result.write_back(sim)
    assert list(report.changes) == ["model.w"]
    values = np.asarray(parameters_of(result.best)["model.w"].value)
    np.testing.assert_array_equal(sim.model.w.ravel(), values)
    again = pickle.loads(pickle.dumps(result))
    assert again.coefficients == result.coefficients


@pytest.mark.slow
def test_a_fit_through_the_simulation_has_the_gradient_of_the_coefficients(sim, target):
    result = tj.fit(sim, target, _free(), method="simulate", resample=False, max_steps=2, progress=False)
    assert result.loss.size == 3 and result.loss[-1] < result.loss[0]
    simulate, state = tj.prepare(sim)
    state.model.w = tj.MapParameter(np.stack([MYELIN, GRADIENT], axis=1))

    def loss(coefficients):
        changed = state.replace(model=state.model.replace(w=state.model.w.with_coefficients(coefficients)))
        (_, signal), *_ = simulate(changed)
        return tj.rmse(tj.compute_fc(signal), target)

    at = state.model.w.coefficients
    assert float(loss(at)) == pytest.approx(result.loss[0], rel=0.2)
    gradient = jax.grad(loss)(at)
    central = [(loss(at + d) - loss(at - d)) / 2e-4 for d in 1e-4 * jnp.eye(3)]
    np.testing.assert_allclose(gradient, central, rtol=1e-4, atol=1e-7)


def test_maps_of_other_regions_are_refused(sim, target):
    other = tj.MapParameter(np.array([[-1.0], [1.0]]))
    with pytest.raises(ValueError, match="'model.w': MapParameter: maps of 2 regions for 6 regions of the simulator"):
        tj.fit(sim, target, {"model.w": other}, progress=False)
    with pytest.raises(ValueError, match="takes no regional values"):
        tj.fit(sim, target, {"connectivity.weights": _free()["model.w"]}, progress=False)
