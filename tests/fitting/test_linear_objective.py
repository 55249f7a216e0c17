"""Objective of a linear fit: finite value and gradient at every FC, also with its sampling error."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tests.conftest import white_matter
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.keys import Purpose, generator
from tvb_jaxfit.fitting.linear.objective import _MULTISTABILITY_WEIGHT, Objective, add_fisher_z
from tvb_jaxfit.linear_response.covariance import Way
from tvb_jaxfit.linear_response.response import LinearResponse

N_NODE = 6
LENGTH = 30_000.0
PAIRS = np.triu_indices(N_NODE, 1)


def fisher(fc, target):
    """Mean squared difference of Fisher z: NaN beyond -1 and 1."""
    return jnp.mean((jnp.arctanh(fc[PAIRS]) - jnp.arctanh(target[PAIRS])) ** 2)


@pytest.fixture(scope="module")
def linear():
    """All-to-all network whose FC goes to 1 as the coupling goes to 0.004."""
    sim = Simulator(
        model=models.Linear(gamma=np.array([-0.02])),
        connectivity=white_matter(np.ones((N_NODE, N_NODE)) - np.eye(N_NODE)),
        coupling=coupling.Linear(a=np.array([0.0038])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-4]))),
        monitors=[monitors.TemporalAverage(period=50.0)],
        simulation_length=LENGTH,
    )
    return tj.prepare_linear(sim)


def objective_at(linear, a, loss, target):
    linear, state = linear
    state = state.replace(coupling=state.coupling.replace(a=tj.Parameter(jnp.array([a]))))
    return Objective(linear, state, Criterion(loss, target), LENGTH)


def flat(fc):
    return np.where(np.eye(N_NODE, dtype=bool), 0.0, fc)


def strong():
    """Target of 0.95, with a slightly larger value of one pair."""
    target = flat(0.95)
    target[0, 1] = target[1, 0] = 0.96
    return target


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sampling_error_is_added_to_fishers_z(dtype):
    fc, z = np.meshgrid(np.array([-0.999, -0.9, -0.3, 0.0, 0.1, 0.95, 0.9999], dtype), np.linspace(-1.8, 1.8, 13))
    got = add_fisher_z(jnp.asarray(fc), jnp.asarray(z.astype(dtype)))
    exact = np.tanh(np.arctanh(fc.astype(float)) + z)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, exact, rtol=0.0, atol=8.0 * np.finfo(dtype).eps)
    # Negative control: Bartlett's sampling error added to FC itself gives values outside [-1, 1].
    assert np.max(np.abs(fc + (1.0 - fc**2) * z)) > 1.0


def test_the_sampling_error_of_weak_fc_is_bartletts_to_first_order():
    fc, z = np.array([-0.2, 0.0, 0.1, 0.3]), 1e-4
    np.testing.assert_allclose(add_fisher_z(fc, z) - fc, (1.0 - fc**2) * z, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_correlation_of_one_keeps_value_and_gradient_finite(dtype):
    """Correlations that are 1 by rounding, and above."""
    beyond = np.nextafter(dtype(1.0), dtype(2.0))
    fc = jnp.asarray(np.array([1.0, -1.0, beyond, -beyond, 1.0 - np.finfo(dtype).eps], dtype))
    for z in (-1.5, 0.0, 1.5):
        value, slope = jax.vmap(jax.value_and_grad(lambda r, z=z: jnp.arctanh(add_fisher_z(r, dtype(z)))))(fc)
        assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
        assert np.all(np.abs(value) > 0.9 * np.arctanh(1.0 - np.finfo(dtype).eps) - 1.5)


@pytest.mark.slow
def test_the_objective_is_the_mean_loss_of_recordings_with_an_error_in_z(linear):
    target = jnp.asarray(strong())
    objective = objective_at(linear, 0.0038, fisher, target)
    for a in (0.001, 0.00395, 0.00399):
        point = objective.start_point * a / 0.0038
        seen, _, slope = objective(point, 0.0, objective.x)
        assert seen.is_stable
        response = linear[0](objective.state_of(seen))
        fc, error = np.asarray(response.fc()), np.asarray(response.z_standard_error(LENGTH))
        draw = np.triu(generator(0, Purpose.SAMPLING).normal(size=fc.shape), 1)
        z = [np.arctanh(fc) + sign * error * (draw + draw.T) for sign in (1.0, -1.0)]
        expected = np.mean([np.mean((one - np.arctanh(strong()))[PAIRS] ** 2) for one in z])
        # The network is linear: no penalty for nonlinearity, but one for its slow relaxation.
        expected += _MULTISTABILITY_WEIGHT * np.mean(np.asarray(response.relaxation_residual) ** 4)
        np.testing.assert_allclose(seen.value, expected, rtol=1e-9)
        # FC without its sampling error.
        np.testing.assert_allclose(seen.loss, fisher(response.fc(), target), rtol=1e-12)
        h = 1e-6
        ahead, behind = (objective(point * (1.0 + way * h), 0.0, objective.x)[0].value for way in (1.0, -1.0))
        np.testing.assert_allclose(slope, (ahead - behind) / (2.0 * h * point), rtol=1e-5)


@pytest.mark.slow
def test_other_attractors_are_penalised_unless_the_start_values_have_them(build_small, weights_6):
    """Reduced Wong-Wang regions with a high state beside the low one, and without."""
    penalised = {}
    for name, w in (("bistable", 1.1), ("monostable", 0.6)):
        sim = build_small(weights_6 + weights_6.T, model={"w": np.array([w]), "I_o": np.array([0.31])}, steps=100)
        sim.initial_conditions = np.full((1, 1, N_NODE, 1), 0.05)
        sim.coupling.a = np.array([0.01])
        objective = objective_at(tj.prepare_linear(sim), 0.01, fisher, jnp.asarray(strong()))
        before, *_ = objective(objective.start_point, 0.0, objective.x)
        penalised[name] = _MULTISTABILITY_WEIGHT * before.multistability
        assert before.is_stable and objective.accept_other_attractors(before) == (name == "bistable")
        after, *_ = objective(objective.start_point, 0.0, objective.x)
        expected = before.value - (penalised[name] if name == "bistable" else 0.0)
        np.testing.assert_allclose(after.value, expected, rtol=1e-9)
    assert penalised["bistable"] > 1.0 and penalised["monostable"] < 1e-6


def test_an_error_in_fc_itself_would_leave_the_correlations(linear):
    """Negative control: at the strongest coupling, FC plus its sampling error is above 1."""
    state = linear[1].replace(coupling=linear[1].coupling.replace(a=jnp.array([0.00399])))
    response = linear[0](state)
    draw = np.triu(np.random.default_rng(0).normal(size=(N_NODE, N_NODE)), 1)
    assert np.max(response.fc() + response.fc_standard_error(LENGTH) * np.abs(draw)) > 1.0


@pytest.mark.slow
def test_identical_signals_have_a_stable_fixed_point(linear, monkeypatch):
    ones = jnp.asarray(flat(1.0))
    monkeypatch.setattr(LinearResponse, "fc", lambda response, monitor=0: ones)
    objective = objective_at(linear, 0.0038, fisher, jnp.asarray(strong()))
    seen, _, slope = objective(objective.start_point, 0.0, objective.x)
    assert seen.is_stable and np.all(np.isfinite(slope)) and 10.0 < np.sqrt(seen.loss) < 20.0


@pytest.fixture(scope="module")
def chain():
    """Prepared simulator that feeds forward from region to region: its step has no complete set of eigenvectors."""
    sim = Simulator(
        model=models.Linear(gamma=np.array([-0.1])),
        connectivity=white_matter(np.diag(np.ones(N_NODE - 1), -1)),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-4]))),
        monitors=[monitors.Raw()],
        simulation_length=LENGTH,
    )
    return tj.prepare_linear(sim)


class Counted:
    """Program whose objective is the number of its way; it is inaccurate at some points.

    Attributes
    ----------
    seen : list of float
        Points at which it was evaluated.
    """

    def __init__(self, number, inaccurate=()):
        self.number, self.inaccurate, self.seen = number, inaccurate, []

    def compiled(self, *arguments):
        return self

    def __call__(self, point, *_):
        self.seen.append(float(point[0]))
        scores = (0.0, 0.0, 0.0, 0.0, jnp.zeros(0), jnp.zeros((1, N_NODE, 1)), jnp.eye(N_NODE))
        return float(point[0]) in self.inaccurate, (self.number, *scores), {}, np.ones(1)


@pytest.mark.parametrize("inaccurate", [(2.0, 4.0), (1.0, 2.0, 3.0, 4.0), ()])
def test_each_inaccurate_point_of_a_sweep_goes_to_the_next_way(chain, inaccurate):
    """All points go to the first way; it is left out if it is inaccurate at half of them, and at four or more."""
    objective = objective_at(chain, 0.05, fisher, strong())
    assert objective._ways == [Way.MODES, Way.FREQUENCIES]
    modes, frequencies = Counted(1.0, inaccurate), Counted(2.0)
    objective._programs = {Way.MODES: modes, Way.FREQUENCIES: frequencies}
    points = (1.0, 2.0, 3.0, 4.0)
    found = list(objective.evaluate_all([(np.array([point]), 0.0, objective.x) for point in points]))
    assert [value.value for value, *_ in found] == [2.0 if point in inaccurate else 1.0 for point in points]
    assert tuple(float(value.point[0]) for value, *_ in found) == points
    assert sorted(modes.seen) == list(points) and frequencies.seen == list(inaccurate)
    # Later points go to the way that is left.
    assert objective(np.array([1.0]), 0.0, objective.x)[0].value == (2.0 if len(inaccurate) == 4 else 1.0)


@pytest.mark.slow
def test_a_sweep_of_ill_conditioned_points_is_integrated_over_frequencies(chain):
    linear, state = chain
    target = jnp.asarray(strong())
    objective = objective_at(chain, 0.05, fisher, target)
    couplings = (0.02, 0.03, 0.05)
    requests = [(objective.start_point * a / 0.05, 0.0, objective.x) for a in couplings]
    for a, (value, _, slope) in zip(couplings, objective.evaluate_all(requests), strict=True):
        response = linear(state.replace(coupling=state.coupling.replace(a=jnp.array([a]))))
        # Negative control: eigenmodes have no accurate covariance here.
        by_modes = replace(linear, way=Way.MODES)(response.state)
        assert bool(by_modes.is_stable) and not bool(by_modes.is_accurate)
        assert value.is_stable and np.all(slope != 0.0)
        np.testing.assert_allclose(value.fc, response.fc(), rtol=1e-9, atol=1e-12)
