"""A linear fit keeps a value on which FC does not depend at its start, and warns."""

import numpy as np
import pytest
from tqdm.auto import tqdm
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tests.conftest import white_matter
from tvb_jaxfit.fitting.criterion import Criterion
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.fitting.linear.objective import Objective
from tvb_jaxfit.parameters import parameters_of
from tvb_jaxfit.state import with_path

N_NODE, LENGTH = 4, 30_000.0
NSIG = "integrator.noise.nsig"


@pytest.fixture(scope="module")
def linear():
    weights = np.random.default_rng(0).uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    sim = Simulator(
        model=models.Linear(gamma=np.array([-0.02])),
        connectivity=white_matter(weights),
        coupling=coupling.Linear(a=np.array([0.003])),
        integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-4]))),
        monitors=[monitors.TemporalAverage(period=50.0)],
        simulation_length=LENGTH,
    )
    return tj.prepare_linear(sim)


def _objective(linear, **free):
    target = np.corrcoef(np.random.default_rng(1).normal(size=(N_NODE, 30)))
    state = linear[1]
    for path, parameter in free.items():
        state = with_path(state, path, parameter)
    return Objective(linear[0], state, Criterion(tj.rmse, target * ~np.eye(N_NODE, dtype=bool)), LENGTH)


@pytest.fixture(scope="module")
def both(linear):
    return _objective(linear, **{"coupling.a": tj.PositiveParameter(0.003), NSIG: tj.PositiveParameter(1e-4)})


@pytest.mark.slow
def test_one_dispersion_for_all_has_no_effect_on_fc_and_the_coupling_has(both):
    seen, *_ = both(both.start_point, 0.0, both.x)
    assert both.without_effect(seen) == [NSIG]


@pytest.mark.slow
def test_a_dispersion_for_each_region_has_an_effect(linear):
    regional = _objective(linear, **{NSIG: tj.PositiveParameter(np.full(N_NODE, 1e-4), regional=True)})
    seen, *_ = regional(regional.start_point, 0.0, regional.x)
    assert regional.without_effect(seen) == []


@pytest.mark.slow
def test_it_is_kept_at_its_start_and_the_others_are_fitted(both, monkeypatch):
    monkeypatch.setattr(linear_fit, "_POINTS", 8)
    with (
        tqdm(disable=True) as bar,
        pytest.warns(UserWarning, match=f"the same whatever {NSIG} is: kept at the start") as said,
    ):
        _, starts, _ = linear_fit._starts(both, 2, bar)
    assert said[0].filename == __file__
    values = [parameters_of(both.state_of(seen)) for seen in starts]
    np.testing.assert_allclose([each[NSIG].value.item() for each in values], 1e-4, rtol=1e-12)
    assert all(abs(each["coupling.a"].value.item() - 0.003) > 1e-5 for each in values)
    _, _, slope = both(starts[0].point, 0.0, starts[0].x)
    assert np.count_nonzero(slope) == 1


@pytest.mark.slow
def test_a_fit_of_nothing_else_is_refused(linear, monkeypatch):
    monkeypatch.setattr(linear_fit, "_POINTS", 2)
    alone = _objective(linear, **{NSIG: tj.PositiveParameter(1e-4)})
    with (
        tqdm(disable=True) as bar,
        pytest.raises(ValueError, match=f"whatever {NSIG} is, so that there is nothing to fit"),
    ):
        linear_fit._starts(alone, 2, bar)
