"""Fits in which inhibition stays balanced, in both ways: it follows the free values, and TVB fires at the target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tvb_jaxfit as tj
from tests.balance.conftest import N_NODE, exc_inh
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.linear.objective import Objective
from tvb_jaxfit.parameters import parameters_of, strip_parameters

pytestmark = pytest.mark.usefixtures("short_linear_fits")

MAP = np.array([-1.0, 0.0, 1.0, -1.0, 1.0]) * np.sqrt(1.25)


def _free():
    return {
        "model.G": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.2),
        "model.w_p": tj.MapParameter({"map": MAP}, "sigmoid", lower_bound=0.8, upper_bound=2.0),
        "model.J_i": tj.Balanced(),
    }


def _target(sim):
    linear, state = tj.prepare_linear(sim)
    state.model.G, state.model.w_p = jnp.asarray(0.6), jnp.asarray(1.4 + 0.1 * MAP)
    state.model.J_i = tj.Balanced(simulate=linear.simulate)
    return np.asarray(linear(state).fc())


@pytest.fixture
def sim():
    """Five regions."""
    return exc_inh(G=0.3, length=4000.0)


@pytest.mark.slow
def test_the_objective_follows_the_balance_and_starts_at_its_fixed_point(sim):
    linear, state = tj.prepare_linear(sim)
    state.model.G = tj.BoundedParameter(0.3, 0.0, 1.2)
    state.model.J_i = tj.Balanced(simulate=linear.simulate)
    target = _target(sim)
    objective = Objective(linear, state, Criterion(tj.rmse_corr, target), 4000.0)
    value, gradients, slope = objective(objective.start_point, 0.0, objective.x)
    np.testing.assert_allclose(value.x[0, :, 0], 0.1612849115, rtol=1e-9)
    assert list(gradients) == ["model.G"] and value.is_stable
    sides = [objective(objective.start_point + h, 0.0, objective.x)[0].value for h in (1e-4, -1e-4)]
    np.testing.assert_allclose(slope[0], (sides[0] - sides[1]) / 2e-4, rtol=1e-6)
    # Negative control: without the balance, the slope is another one.
    fixed = strip_parameters(state)
    fixed.model.G = state.model.G
    other = Objective(linear, fixed, Criterion(tj.rmse_corr, target), 4000.0)
    assert abs(other(other.start_point, 0.0, value.x)[2][0] / slope[0] - 1.0) > 0.1
    fitted = objective.state_of(value)
    balanced = parameters_of(fitted)["model.J_i"]
    np.testing.assert_allclose(balanced.value, strip_parameters(state).model.J_i, rtol=1e-10)
    np.testing.assert_allclose(fitted.initial_conditions[-1], balanced.rest, rtol=1e-9)


@pytest.mark.slow
def test_a_linear_fit_keeps_every_region_at_its_rate(sim, tmp_path):
    target = _target(sim)
    result = tj.fit(sim, target, _free(), method="linear", progress=False)
    assert result.r[-1] > 0.98 > 0.95 > result.r[0]
    assert list(result.coefficients) == ["model.w_p"]
    page = result.report(tmp_path / "report.html").read_text()
    assert "tj.Balanced(3.0, &#x27;H_e&#x27;)" in page or "tj.Balanced(3.0, 'H_e')" in page
    assert "Balanced H_e = 3 at the fixed point" in page
    # Mean rates under noise are reported with the result, beside the range that is accepted.
    assert "model.J_i: mean H_e over 9 s: " in repr(result) and "all 5 regions within 2.7 to 3.3" in repr(result)
    assert "Under noise, model.J_i: mean H_e" in page and "mean rates" in result.costs
    result.write_back(sim)
    balanced = parameters_of(result.best)["model.J_i"]
    np.testing.assert_allclose(np.ravel(sim.model.J_i), balanced.value, rtol=1e-13)
    assert balanced.value.shape == (N_NODE,) and np.all(balanced.value > 0.0)
    rates = tj.mean_rates(sim)
    assert not rates.outside, rates
    # TVB itself, from its own states.
    np.testing.assert_allclose(_rates_of_tvb(sim, 10_000.0), rates.rate, atol=0.2)


def _rates_of_tvb(sim, length):
    """Mean excitatory rates of a run of TVB, without its first second, from TVB's own states."""
    from tvb.simulator.lab import monitors

    sim.monitors, sim.simulation_length = [monitors.Raw()], length
    sim.configure()
    ((_, states),) = sim.run()
    S_e, S_i = states[1000:, 0, :, 0], states[1000:, 1, :, 0]
    p = {name: np.ravel(getattr(sim.model, name)) for name in ("w_p", "J_i", "G", "J_N", "W_e", "I_o", "I_ext")}
    weights = sim.connectivity.weights
    current = p["w_p"] * p["J_N"] * S_e - p["J_i"] * S_i + p["W_e"] * p["I_o"] + p["I_ext"]
    x = 310.0 * (current + p["G"] * p["J_N"] * S_e @ weights.T) - 125.0
    return np.mean(x / (1.0 - np.exp(-0.16 * x)), axis=0)


@pytest.mark.slow
def test_a_fit_through_the_simulation_has_the_gradient_through_the_balance(sim, tmp_path):
    target, free = _target(sim), {"model.G": tj.Parameter(), "model.J_i": tj.Balanced()}
    recorded = []

    def callback(step, state, loss, gradients):
        recorded.append((np.asarray(state.model.G.value), np.asarray(state.model.J_i.value), loss, gradients))

    options = {"resample": False, "max_steps": 1, "progress": False, "callback": callback, "skip_t": 10}
    result = tj.fit(sim, target, free, method="simulate", **options)
    assert list(recorded[0][3]) == ["model.G"] and result.loss[1] < result.loss[0]
    # The values of each step are those of its coupling.
    simulate, state = tj.prepare(sim)
    state.model.J_i = tj.Balanced(simulate=simulate)

    @jax.jit
    def loss(G):
        changed = strip_parameters(state.replace(model=state.model.replace(G=G)))
        (_, signal), *_ = simulate(changed)
        return tj.rmse(tj.compute_fc(signal, skip_t=10), target), changed.model.J_i

    for G, J_i, value, _ in recorded:
        expected, balanced = loss(jnp.asarray(G))
        np.testing.assert_allclose(J_i, balanced, rtol=1e-9)
        np.testing.assert_allclose(value, expected, rtol=1e-8)
    at = jnp.asarray(recorded[0][0])
    central = [(loss(at + h)[0] - loss(at - h)[0]) / (2.0 * h) for h in (2e-4, 1e-4)]
    np.testing.assert_allclose(recorded[0][3]["model.G"], (4.0 * central[1] - central[0]) / 3.0, rtol=1e-4)
    assert np.abs(recorded[1][1] - recorded[0][1]).max() > 1e-4
    # A checkpoint knows the balance: it goes on with the same, and refuses another.
    options |= {"checkpoint": tmp_path / "fit.npz", "callback": None}
    tj.fit(sim, target, free, method="simulate", **options)
    resumed = tj.fit(sim, target, free, method="simulate", **options | {"max_steps": 2}, resume=True)
    np.testing.assert_allclose(resumed.loss[:2], result.loss, rtol=1e-12)
    other = free | {"model.J_i": tj.Balanced(3.2)}
    with pytest.raises(ValueError, match="is of another fit"):
        tj.fit(sim, target, other, method="simulate", **options, resume=True)


def test_nothing_free_is_refused(sim):
    target = np.corrcoef(np.random.RandomState(0).normal(size=(N_NODE, 20)))
    with pytest.raises(ValueError, match="free: model.J_i follows from the others"):
        tj.fit(sim, target, {"model.J_i": tj.Balanced()}, progress=False)
    with pytest.raises(ValueError, match="'connectivity.weights': Balanced: the simulator takes no regional values"):
        tj.fit(sim, target, {"connectivity.weights": tj.Balanced()}, progress=False)
    with pytest.raises(ValueError, match="coupling.a: Balanced takes a parameter of a model"):
        tj.fit(sim, target, {"coupling.a": tj.Balanced(), "model.G": tj.Parameter()}, progress=False)
