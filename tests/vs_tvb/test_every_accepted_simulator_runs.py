"""Every simulator that prepare accepts runs, and as in TVB: all of TVB's models with all of its couplings."""

import itertools

import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.translate.double_precision import in_double

COUPLINGS = [
    coupling.Linear,
    coupling.Scaling,
    coupling.HyperbolicTangent,
    coupling.Sigmoidal,
    coupling.SigmoidalJansenRit,
    coupling.PreSigmoidal,
    coupling.Difference,
    coupling.Kuramoto,
]
# The translation of each of Zerlaut's models takes seconds.
MODELS = sorted(str(one.value) for one in models.ModelsEnum if "ZERLAUT" not in one.name and one.name != "BASE_MODEL")
# Models whose code numba does not compile: one for each coupling, in turn.
QUICK = [
    "Linear",
    "SupHopf",
    "KIonEx",
    "Kuramoto",
    "CoombesByrne2D",
    "Hopfield",
    "MontbrioPazoRoxin",
    "LarterBreakspear",
]
NOW = list(zip(QUICK, COUPLINGS, strict=True))
LATER = [pair for pair in itertools.product(MODELS, COUPLINGS) if pair not in NOW]
PAIRS = [*NOW, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LATER)]


def make_sim(name, function, connectivity_of, n_node=3):
    model = getattr(models, name)()
    model.configure()
    random = np.random.RandomState(0)
    ranges = np.array([model.state_variable_range[v] for v in model.state_variables])
    shape = (1, len(model.state_variables), n_node, model.number_of_modes)
    middle, reach = ranges.mean(axis=1), np.ptp(ranges, axis=1)
    start = middle[:, None, None] + 0.2 * reach[:, None, None] * random.uniform(-1.0, 1.0, shape)
    return Simulator(
        connectivity=connectivity_of(random.uniform(0.1, 1.0, (n_node, n_node))),
        model=model,
        coupling=function(),
        integrator=integrators.HeunDeterministic(dt=0.01),
        monitors=[monitors.Raw()],
        initial_conditions=start,
        simulation_length=0.03,
    )


@pytest.mark.parametrize("name, function", PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_accepted_runs_and_as_in_tvb(name, function, connectivity_of, float64_tvb):
    sim = make_sim(name, function, connectivity_of)
    try:
        simulate, state = tj.prepare(sim)
    except tj.UnsupportedComponent as error:
        assert "Simulator.coupling: " in str(error)
        # The reason is true: TVB fails, or reads beyond the end of the coupling array.
        if "reads beyond the end of the array" not in str(error):
            with pytest.raises(Exception):  # noqa: B017  whatever TVB raises
                float64_tvb(sim).run()
        return
    (ours,) = in_double(lambda state: simulate(state).data, state)
    ((_, theirs),) = float64_tvb(sim).run()
    scale = np.max(np.abs(theirs), axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-12)
    assert np.isfinite(theirs).all() and not np.array_equal(theirs[0], theirs[-1])


def test_presigmoidal_with_three_coupling_variables_is_refused_before_it_runs(connectivity_of):
    sim = make_sim("EpileptorRestingState", coupling.PreSigmoidal, connectivity_of)
    with pytest.raises(
        tj.UnsupportedComponent, match="PreSigmoidal gives 2 rows, and EpileptorRestingState.dfun reads"
    ):
        tj.prepare(sim)
