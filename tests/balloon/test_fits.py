"""Fits, evaluations and checkpoints of simulators with the monitor `BalloonBold`."""

import numpy as np
import pytest

import tvb_jaxfit as tj
from tests.conftest import simulator
from tvb_jaxfit.parameters import strip_parameters

N_NODE = 4


@pytest.fixture
def sim():
    weights = np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    balloon = tj.BalloonBold(period=200.0, interim_period=20.0, parameter_set="cubnm")
    return simulator(weights, dt=10.0, steps=2400, nsig=1e-6, model={"w": np.array([0.4])}, monitors=[balloon])


@pytest.fixture
def target():
    random = np.random.RandomState(1)
    return np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))


FREE = {
    "coupling.a": tj.BoundedParameter(lower_bound=0.0, upper_bound=0.2),
    "monitors[0].tau_s": tj.BoundedParameter(lower_bound=0.4, upper_bound=2.0),
    "monitors[0].alpha": tj.BoundedParameter(lower_bound=0.2, upper_bound=0.5, regional=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simulate", "linear"])
def test_hemodynamics_are_fitted_evaluated_in_tvb_resumed_and_written_back(sim, target, method, tmp_path):
    options = {"method": method, "free": FREE, "progress": False}
    if method == "simulate":
        options |= {"max_steps": 4, "checkpoint": tmp_path / "fit.npz"}
        tj.fit(sim, target, **(options | {"max_steps": 2}))
        result = tj.fit(sim, target, **options, resume=True)
        options["checkpoint"] = tmp_path / "other.npz"
    else:
        options |= {"max_evaluations": 10}
        result = tj.fit(sim, target, **options)
    balloon = strip_parameters(result.best).monitors[0]
    assert float(balloon.tau_s) != 0.65 and np.ptp(np.asarray(balloon.alpha)) > 0.0
    again = strip_parameters(tj.fit(sim, target, **options).best).monitors[0]
    np.testing.assert_array_equal(again.alpha, balloon.alpha)
    evaluation = result.evaluate(n_seeds=2, n_tvb=1, progress=False)
    assert "TVB" in str(evaluation)
    result.write_back(sim)
    np.testing.assert_array_equal(sim.monitors[0].alpha, balloon.alpha)
    assert sim.monitors[0].tau_s == float(balloon.tau_s)
