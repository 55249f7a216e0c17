"""Effective connectivity: recovery of known directed weights, the choice of the penalty, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.effective.objective import Objective
from tvb_jaxfit.effective.observed import agreement, difference, observe

N_NODE, MINUTES = 8, 20
FREE = {"model.gamma": tj.BoundedParameter(upper_bound=0.0)}


def weights_of(asymmetry=0.7):
    """Symmetric structural weights, and directed ones in the same places: their logarithms differ by ``asymmetry``."""
    random = np.random.RandomState(1)
    structural = np.triu(random.lognormal(0.0, 0.5, (N_NODE, N_NODE)) * (random.rand(N_NODE, N_NODE) < 0.6), 1)
    structural = structural + structural.T
    directed = structural * np.exp(random.normal(0.0, asymmetry, structural.shape))
    scale = 0.8 / np.max(np.abs(np.linalg.eigvals(directed)))
    return scale * structural, scale * directed


@pytest.fixture
def network(connectivity_of):
    """Simulator of linear regions with a time constant of 1 s, sampled each second."""
    return lambda weights, monitor=monitors.SubSample, length=0.0: Simulator(
        connectivity=connectivity_of(weights, np.full(np.shape(weights), length), 1.0),
        model=models.Linear(gamma=np.array([-1e-3])),
        coupling=coupling.Linear(a=np.array([1e-3])),
        integrator=integrators.HeunStochastic(dt=100.0, noise=noise.Additive(nsig=np.array([1e-3]))),
        monitors=[monitor(period=1000.0)],
        simulation_length=10_000.0,
    )


@pytest.fixture
def record(network):
    """Sessions of a network."""

    def sessions(weights, minutes, n, seed=0):
        simulate, state = tj.prepare(network(weights), n * minutes * 60_000.0 + 30_000.0, jax.random.key(seed))
        bold = np.asarray(simulate(state).data[0])[30:, 0, :, 0]
        return [bold[k * minutes * 60 : (k + 1) * minutes * 60] for k in range(n)]

    return sessions


def of_connections(weights, others):
    """r of weights, and of the differences between directions, over the connections."""
    on = others > 0.0
    r = np.corrcoef(weights[on], others[on])[0, 1]
    return r, np.corrcoef((weights - weights.T)[on], (others - others.T)[on])[0, 1]


def test_directed_weights_are_recovered_from_two_sessions(network, record):
    structural, directed = weights_of()
    *sessions, unseen = record(directed, MINUTES, 3)
    sim = network(structural)
    options = {"penalties": [1e-2, 1e-3, 0.0], "max_evaluations": 40, "progress": False}
    found = tj.effective_connectivity(sim, sessions, free=FREE, **options)
    r, r_of_directions = of_connections(found.weights, directed)
    assert r > 0.9 and r_of_directions > 0.85
    # Negative controls: structural weights, the transposed estimate, and the best symmetric weights.
    for other in (structural, found.weights.T, (directed + directed.T) / 2.0):
        assert of_connections(other + 1e-9 * found.weights, directed)[0] < r - 0.1
    assert np.array_equal(found.weights > 0.0, structural > 0.0)
    # The standard error is of the size of the error.
    error = np.abs(found.weights - directed)[found.support]
    assert 0.3 < np.mean(found.spread[found.support]) / np.mean(error) < 1.5
    scores = found.scores
    assert scores["held-out half"].loss < scores["held-out half, by the other half"].loss
    assert scores["held-out half"].loss < 0.5 * scores["held-out half, structural weights"].loss
    new = found.score(unseen)
    assert new.loss < agreement(observe(sessions[0], 1), observe(unseen, 1)).loss and new.fc > 0.9
    # The simulator with the weights written back has the predicted correlations.
    assert np.array_equal(sim.connectivity.weights, structural)
    found.write_back(sim)
    np.testing.assert_allclose(sim.connectivity.weights, found.weights, rtol=1e-12)
    linear, state = tj.prepare_linear(sim)
    fc = np.asarray(linear(state).fc()) + np.eye(N_NODE)
    np.testing.assert_allclose(found.predicted.fc, fc, atol=1e-10)
    assert "held-out half" in repr(found) and "<" in found._repr_html_()
    axes = tj.plot.effective_connectivity(found)
    assert [ax.get_title() for ax in axes][::2] == ["Effective connectivity", "Choice of the penalty"]
    assert axes[1].collections[0].get_offsets().shape == (np.sum(structural > 0.0), 2)


@pytest.mark.slow
def test_the_penalty_that_held_out_data_choose_is_better_than_none(network, record):
    """Sessions of three minutes, judged by the true weights and by an hour that no estimate has used."""
    structural, directed = weights_of(asymmetry=0.3)
    sessions, (unseen,) = record(directed, 3, 2, seed=6), record(directed, 60, 1, seed=99)
    sim = network(structural)
    chosen = tj.effective_connectivity(sim, sessions, free=FREE, progress=False)
    free_of_penalty = tj.effective_connectivity(sim, sessions, free=FREE, penalties=[0.0], progress=False)
    assert chosen.penalty > 0.0
    assert chosen.score(unseen).loss < free_of_penalty.score(unseen).loss
    assert of_connections(chosen.weights, directed)[0] > of_connections(free_of_penalty.weights, directed)[0]
    assert chosen.penalty == chosen.penalties[np.argmin(chosen.held_out_losses)]
    # Weaker penalties fit the training half better.
    assert np.all(np.diff(chosen.training_losses) < 1e-9)


def test_one_recording_is_cut_into_halves(network, record):
    structural, directed = weights_of()
    (bold,) = record(directed, 4, 1)
    options = {"penalties": [0.01], "max_evaluations": 3, "free": FREE, "progress": False}
    cut = tj.effective_connectivity(network(structural), bold, **options)
    given = tj.effective_connectivity(network(structural), [bold[:120], bold[120:]], **options)
    np.testing.assert_array_equal(cut.weights, given.weights)
    np.testing.assert_array_equal(cut.weights_of_halves, given.weights_of_halves)
    assert np.ptp(cut.weights_of_halves, axis=0).max() > 0.0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["delays", "a chain that feeds forward"])
def test_other_networks_are_estimated_over_frequencies(network, record, case):
    structural, directed = weights_of()
    if case == "delays":
        sim = network(structural, length=300.0)
    else:
        sim = network(np.tril(structural) + np.diag(np.ones(N_NODE - 1), -1))
    (bold,) = record(directed, 10, 1)
    found = tj.effective_connectivity(sim, bold, penalties=[0.01], max_evaluations=30, progress=False)
    assert found.scores["training half"].loss < found.scores["held-out half, structural weights"].loss


def test_the_slope_is_that_of_central_differences(network, record):
    structural, directed = weights_of()
    (bold,) = record(directed, 4, 1)
    linear, state = tj.prepare_linear(network(structural))
    state.model.gamma = tj.BoundedParameter(state.model.gamma, upper_bound=0.0)
    objective = Objective(linear, state, 0, 1)
    observed, random = observe(jnp.asarray(bold), 1), np.random.RandomState(0)
    point = objective.start_point + 0.1 * random.normal(size=objective.start_point.size)
    value, slope = objective(point, observed, 0.02, objective.x)
    assert value.is_stable and value.value > value.loss
    np.testing.assert_allclose(value.loss, difference(value.predicted, observed), rtol=1e-12)
    for part in (slice(objective.n_weights), slice(objective.n_weights, None)):
        direction = np.zeros(point.size)
        direction[part] = random.normal(size=direction[part].size)
        up, down = (objective(point + h * direction, observed, 0.02, objective.x)[0].value for h in (1e-4, -1e-4))
        np.testing.assert_allclose(slope @ direction, (up - down) / 2e-4, rtol=1e-6)


def test_what_cannot_be_estimated_is_refused_with_all_reasons(network, record):
    structural, directed = weights_of()
    (bold,) = record(directed, 1, 1)
    negative = network(-structural, monitor=monitors.GlobalAverage)
    with pytest.raises(ValueError, match=r"are not those of the 8 regions.*weights down to -.*leave it out"):
        tj.effective_connectivity(negative, bold, free={"connectivity.weights": tj.Parameter()})
    sim = network(structural)
    for recordings, words in (
        ([bold, bold[:, :5]], r"recordings\[1\]: 5 signals; give one for each of the 8 regions"),
        ([bold, 0.0 * bold], r"recordings\[1\]: bold is constant"),
        (bold[:7], "recordings: bold has 7 samples"),
    ):
        with pytest.raises(ValueError, match=words):
            tj.effective_connectivity(sim, recordings)
    with pytest.raises(ValueError, match="no such parameter"):
        tj.effective_connectivity(sim, bold, free={"model.gama": tj.Parameter()})


@pytest.mark.slow
def test_structural_weights_without_a_stable_fixed_point_are_refused(network, record):
    structural, directed = weights_of()
    (bold,) = record(directed, 1, 1)
    sim = network(structural)
    sim.model.gamma = np.array([1e-3])
    with pytest.raises(tj.NoStableFixedPoint, match="structural weights times"):
        tj.effective_connectivity(sim, bold, progress=False)
