"""Any model with any coupling, integrator, noise, monitors, delays and stimulus: every pair of them occurs in some row.

A row is one simulator with several monitors. It is compared with TVB on a double-precision history, to rounding; with
TVB as it is, to single precision; and with itself under transposed weights, which must differ. Rows that are in no
default run are slow only because each compiles anew.
"""

import functools
import itertools

import numpy as np
import pytest
from tvb.datatypes import equations
from tvb.datatypes.patterns import StimuliRegion
from tvb.datatypes.projections import ProjectionSurfaceEEG
from tvb.datatypes.region_mapping import RegionMapping
from tvb.datatypes.sensors import SensorsEEG
from tvb.simulator import coupling, integrators, monitors, noise
from tvb.simulator.models import ModelsEnum
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj

N_NODE = 5
TOLERANCE = 1e-12  # of the largest value of the row
# It differentiates numerically, with steps of 1e-7: its own values have rounding errors of 1e-10.
TOLERANCES = {"ZerlautAdaptationSecondOrder": 1e-9}
STOCK_TOLERANCE = 1e-6  # TVB's history is in single precision
# Far above rounding errors.
SEEN = 1e3

MODELS = {cls.__name__: cls for cls in ModelsEnum.get_base_model_subclasses()}
N_CVAR = {name: len(cls().cvar) for name, cls in MODELS.items()}
# Steps [ms] with which they stay finite from anywhere in their range; powers of two, so that all periods are exact.
SMALL_STEPS = {
    "KIonEx": 2.0**-7,
    "ReducedSetFitzHughNagumo": 2.0**-7,
    "ReducedSetHindmarshRose": 2.0**-7,
    "SupHopf": 2.0**-6,
    "CoombesByrne": 2.0**-8,
    "GastSchmidtKnosche_SD": 2.0**-6,
    "GastSchmidtKnosche_SF": 2.0**-7,
}
# Initial states: their ranges contain states from which they become NaN or diverge.
STARTS = {
    "Epileptor": [-1.5, -10.0, 3.5, -1.0, 0.01, -0.1],
    "KIonEx": [0.1, -70.0, 0.1, -0.5, -1.0],
    "ReducedSetHindmarshRose": [-1.0, -5.0, 3.0, -1.0, -5.0, 3.0],
    "SupHopf": [0.3, -0.2],
    "CoombesByrne": [1.5, 1.0, 1.5, 0.5],
    "GastSchmidtKnosche_SD": [0.1, -0.5, 0.1, 0.1],
    "GastSchmidtKnosche_SF": [0.1, -0.5, 0.1, 0.1],
}
# Models that stay finite as maps x' = f(x), and parameters with which they do.
MAPS = ("Linear", "Kuramoto", "ReducedWongWang", "WilsonCowan", "Hopfield")
MODEL_OF_MAP = {"Linear": {"gamma": np.array([-0.5])}}
# 0 by default, so that the coupling would have no effect.
COUPLED = {
    "Epileptor": {"Kvf": np.array([0.5]), "Kf": np.array([0.3]), "Ks": np.array([0.2])},
    "Epileptor2D": {"Kvf": np.array([0.5]), "Ks": np.array([0.2])},
    "EpileptorCodim3": {"Ks": np.array([0.2])},
    "EpileptorCodim3SlowMod": {"Ks": np.array([0.2])},
    "EpileptorRestingState": {"Kvf": np.array([0.5]), "Kf": np.array([0.3]), "Ks": np.array([0.2])},
}

COUPLINGS = {
    "Linear": lambda: coupling.Linear(a=np.array([0.01]), b=np.array([0.002])),
    "Scaling": lambda: coupling.Scaling(a=np.array([0.01])),
    "HyperbolicTangent": lambda: coupling.HyperbolicTangent(a=np.array([0.02])),
    "Sigmoidal": lambda: coupling.Sigmoidal(cmin=np.array([-0.02]), cmax=np.array([0.03]), sigma=np.array([20.0])),
    "SigmoidalJansenRit": lambda: coupling.SigmoidalJansenRit(midpoint=np.array([0.5])),
    "static PreSigmoidal": lambda: coupling.PreSigmoidal(
        dynamic=False, H=np.array([0.01]), G=np.array([0.5]), theta=np.array([0.3])
    ),
    "dynamic PreSigmoidal": lambda: coupling.PreSigmoidal(H=np.array([0.01]), G=np.array([0.5])),
    "Difference": lambda: coupling.Difference(a=np.array([0.01])),
    "Kuramoto": lambda: coupling.Kuramoto(a=np.array([0.02])),
}
INTEGRATORS = [
    "HeunDeterministic",
    "HeunStochastic",
    "EulerDeterministic",
    "EulerStochastic",
    "RungeKutta4thOrderDeterministic",
    "Identity",
    "IdentityStochastic",
]
NOISES = {
    "none": None,
    "white": lambda: noise.Additive(nsig=np.array([1e-6]), noise_seed=7),
    "coloured": lambda: noise.Additive(nsig=np.array([1e-5]), ntau=2.0, noise_seed=7),
    "multiplicative": lambda: noise.Multiplicative(nsig=np.array([1e-6]), noise_seed=7),
}


def eeg(dt):
    """Three sensors over twelve vertices, the mean of all as the reference."""
    labels = np.array(["a", "b", "c"])
    return monitors.EEG(
        period=4 * dt,
        sensors=SensorsEEG(labels=labels, locations=np.eye(3)),
        projection=ProjectionSurfaceEEG(projection_data=np.random.RandomState(3).normal(size=(3, 12))),
        region_mapping=RegionMapping(array_data=np.arange(12) % N_NODE),
        reference="average",
    )


# Sets of monitors in one simulator: a pair with a set is a pair with each of its monitors.
MONITORS = {
    "Raw, SubSample, GlobalAverage, EEG": lambda dt: [
        monitors.Raw(),
        monitors.SubSample(period=3 * dt),
        monitors.GlobalAverage(period=2 * dt),
        eeg(dt),
    ],
    "ProgressLogger, RawVoi, TemporalAverage, AfferentCoupling": lambda dt: [
        monitors.ProgressLogger(period=16 * dt),
        monitors.RawVoi(variables_of_interest=np.array([-1, 0])),
        monitors.TemporalAverage(period=5 * dt),
        monitors.AfferentCoupling(),
    ],
    "SpatialAverage, AfferentCouplingTemporalAverage, Bold": lambda dt: [
        monitors.SpatialAverage(period=3 * dt, spatial_mask=np.array([0, 0, 1, 1, 1])),
        monitors.AfferentCouplingTemporalAverage(period=4 * dt),
        monitors.Bold(period=8.0, hrf_length=400.0),
    ],
}
FACTORS = {
    "model": list(MODELS),
    "coupling": list(COUPLINGS),
    "integrator": INTEGRATORS,
    "noise": list(NOISES),
    "monitors": list(MONITORS),
    "delays": ["no delays", "delays"],
    "stimulus": ["no stimulus", "stimulus"],
}
NAMES = list(FACTORS)


def goes_together(row):
    """True if TVB runs with the values of a row, of which some may be missing."""
    model, integrator = row.get("model"), row.get("integrator")
    kind, noisy = row.get("coupling"), row.get("noise")
    if integrator and noisy and integrator.endswith("Stochastic") != (noisy != "none"):
        return False
    if integrator and model and integrator.startswith("Identity") and model not in MAPS:
        return False
    if kind == "dynamic PreSigmoidal":
        # Its second row is the threshold, which only a dynamic Hopfield model has.
        return model in (None, "Hopfield")
    return not (kind == "SigmoidalJansenRit" and model and N_CVAR[model] < 2)


def pairs_of(row):
    """Pairs of (factor, value) in a row."""
    return set(itertools.combinations([(name, row[name]) for name in NAMES if name in row], 2))


def can_be_completed(row):
    """True if some complete row has these values."""
    return _can_be_completed(*(row.get(name) for name in NAMES[:4]))


@functools.cache
def _can_be_completed(*values):
    # Delays, stimulus and monitors can be combined with everything.
    if None not in values:
        return goes_together(dict(zip(NAMES, values, strict=False)))
    place = values.index(None)
    return any(_can_be_completed(*values[:place], v, *values[place + 1 :]) for v in FACTORS[NAMES[place]])


def every_pair():
    """Pairs of values that can be combined, in order."""
    found = []
    for a, b in itertools.combinations(NAMES, 2):
        for value, other in itertools.product(FACTORS[a], FACTORS[b]):
            if can_be_completed({a: value, b: other}):
                found.append(((a, value), (b, other)))
    return found


def covering_rows():
    """Rows in which every pair occurs: each starts with a missing pair, and adds as many others as possible."""
    missing = dict.fromkeys(every_pair())
    used, rows = dict.fromkeys(itertools.chain(*missing), 0), []
    while missing:
        row = dict(next(iter(missing)))
        for name in NAMES:
            if name in row:
                continue
            fits = [value for value in FACTORS[name] if can_be_completed(row | {name: value})]
            gains = [len(missing.keys() & pairs_of(row | {name: value})) for value in fits]
            # Of equal gains, the value that was used least.
            best = min(range(len(fits)), key=lambda i: (-gains[i], used[name, fits[i]], i))
            row[name] = fits[best]
        for pair in pairs_of(row):
            missing.pop(pair, None)
        for item in row.items():
            used[item] += 1
        rows.append({name: row[name] for name in NAMES})
    # Rows of one model together: they share compiled functions.
    return sorted(rows, key=lambda row: list(MODELS).index(row["model"]))


def chosen(rows):
    """One row for each model, in which every value of the other factors occurs; by index."""
    # Slow to compile: many stages, Bold.
    cost = {"RungeKutta4thOrderDeterministic": 3, "HeunDeterministic": 1, "HeunStochastic": 1, list(MONITORS)[2]: 1}
    # Always included.
    long = ("ZerlautAdaptationSecondOrder", "ReducedSetFitzHughNagumo", "ReducedSetHindmarshRose")
    seen, indices = set(), []
    # First the models that can have rare values.
    for model in sorted(MODELS, key=lambda model: (model != "Hopfield", model not in MAPS, model in long)):

        def order(index, seen=frozenset(seen), long=model in long):
            row = rows[index]
            price = sum(cost.get(value, 0) for value in row.values())
            gain = len(set(row.items()) - seen) + 9 * (row["coupling"] == "dynamic PreSigmoidal")
            return price if long else 0, -gain, price, -len(pairs_of(row) - seen), index

        best = min((index for index, row in enumerate(rows) if row["model"] == model), key=order)
        seen |= set(rows[best].items()) | pairs_of(rows[best])
        indices.append(best)
    return sorted(indices)


LONG = (
    "ZerlautAdaptationFirstOrder",
    "ZerlautAdaptationSecondOrder",
    "ReducedSetFitzHughNagumo",
    "ReducedSetHindmarshRose",
    "EpileptorRestingState",
    "EpileptorCodim3",
    "EpileptorCodim3SlowMod",
)
ROWS = covering_rows()
DEFAULT = chosen(ROWS)


def weights():
    """Directed weights; some regions are not connected, one has no input."""
    values = np.random.RandomState(1).uniform(0.1, 1.0, size=(N_NODE, N_NODE))
    values[values < 0.35] = 0.0
    np.fill_diagonal(values, 0.0)
    values[3] = 0.0
    return values


def built(row, connectivity_of):
    """Simulator of a row."""
    name = row["model"]
    dt = SMALL_STEPS.get(name, 2.0**-3)
    lengths = np.random.RandomState(2).uniform(0.0, 9.0 * dt, size=(N_NODE, N_NODE))
    speed = 1.0 if row["delays"] == "delays" else np.inf
    white_matter = connectivity_of(weights(), lengths, speed)
    # An EEG requires these.
    white_matter.cortical, white_matter.orientations = np.ones(N_NODE, dtype=bool), np.zeros((N_NODE, 3))
    parameters = MODEL_OF_MAP.get(name, {}) if row["integrator"].startswith("Identity") else COUPLED.get(name, {})
    if row["coupling"] == "dynamic PreSigmoidal":
        parameters = parameters | {"dynamic": np.array([1])}
    model = MODELS[name](**parameters)
    integrator = getattr(integrators, row["integrator"])(dt=dt)
    if NOISES[row["noise"]]:
        integrator.noise = NOISES[row["noise"]]()
    watch = MONITORS[row["monitors"]](dt)
    bold = any(isinstance(monitor, monitors.Bold) for monitor in watch)
    parts = {}
    if name in STARTS:
        # As many samples as the history has, so that TVB draws none.
        n_past = 1 + (int(np.rint(lengths / dt).max()) if row["delays"] == "delays" else 0)
        shape = (n_past, model.nvar, N_NODE, model.number_of_modes)
        start = np.array(STARTS[name])[:, None, None]
        parts["initial_conditions"] = start * (1.0 + 0.1 * np.random.RandomState(4).uniform(-1.0, 1.0, size=shape))
    if row["stimulus"] == "stimulus":
        parts["stimulus"] = StimuliRegion(
            temporal=equations.Sinusoid(parameters={"amp": 0.01, "frequency": 0.1}),
            connectivity=white_matter,
            weight=np.array([1.0, 0.0, 0.5, 0.0, -1.0]),
        )
    return Simulator(
        connectivity=white_matter,
        model=model,
        coupling=COUPLINGS[row["coupling"]](),
        integrator=integrator,
        monitors=watch,
        simulation_length=10.0 if bold else 40 * dt,
        **parts,
    )


def relative(ours, theirs):
    """Largest difference of each variable of each monitor, relative to the variable's largest value."""
    worst = []
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(our_time, time, err_msg=f"monitors[{index}]")
        our_data, data = np.asarray(our_data), np.asarray(data)
        assert our_data.shape == data.shape, f"monitors[{index}]"
        if data.ndim == 1:  # a ProgressLogger
            assert data.size == 0
            continue
        assert data.size and np.isfinite(data).all(), f"monitors[{index}]"
        for variable in range(data.shape[1]):
            largest = np.max(np.abs(data[:, variable]))
            difference = np.max(np.abs(our_data[:, variable] - data[:, variable]))
            worst.append(difference / largest if largest else (np.inf if difference else 0.0))
    return worst


def of_states(run, sim):
    """Tolerance in single precision: sums over sources of both signs have fewer digits than the states."""
    pairs = zip(run, sim.monitors, strict=True)
    return [kept for kept, monitor in pairs if not isinstance(monitor, monitors.AfferentCoupling)]


def name_of(row):
    return "-".join(value.split(",")[0].replace(" ", "_") for value in row.values())


def with_values(rows):
    """Rows as parameters for pytest; those outside the default run are marked slow."""
    slow = pytest.mark.slow
    return [
        # Some models are slow to compile.
        pytest.param(row, id=name_of(row), marks=() if index in DEFAULT and row["model"] not in LONG else slow)
        for index, row in enumerate(rows)
    ]


def test_every_pair_of_values_that_go_together_occurs():
    assert len(MODELS) == 28
    assert all(goes_together(row) for row in ROWS)
    pairs = set(every_pair())
    assert pairs == set().union(*(pairs_of(row) for row in ROWS))
    # No other pairs are left out.
    for pair in itertools.combinations([(name, value) for name in NAMES for value in FACTORS[name]], 2):
        names = dict(pair)
        if len(names) == 1 or pair in pairs:
            continue
        assert (
            names.get("integrator", "").startswith("Identity")
            or names.get("coupling") in ("dynamic PreSigmoidal", "SigmoidalJansenRit")
            or set(names) == {"integrator", "noise"}
        ), names


def test_the_default_rows_have_every_value():
    rows = [ROWS[index] for index in DEFAULT]
    for name, values in FACTORS.items():
        assert {row[name] for row in rows} == set(values), name


@pytest.mark.parametrize("row", with_values(ROWS))
def test_a_row_equals_tvb_to_rounding_and_stock_tvb_to_single_precision(row, float64_tvb, float32_tvb, connectivity_of):
    # Deterministic integrators draw initial conditions from the global stream.
    np.random.seed(7)
    sim = built(row, connectivity_of)
    reference, as_it_is = float64_tvb(sim), float32_tvb(sim)
    simulate, state = tj.prepare(sim)
    ours, theirs = simulate(state), reference.run()
    tolerance = TOLERANCES.get(row["model"], TOLERANCE)
    worst = relative(ours, theirs)
    assert worst and max(worst) <= tolerance, worst
    of_stock = relative(*(of_states(run, sim) for run in (ours, as_it_is.run())))
    assert max(of_stock) <= STOCK_TOLERANCE, of_stock
    transposed = state.replace(connectivity=state.connectivity.replace(weights=state.connectivity.weights.T))
    seen = relative(simulate(transposed), theirs)
    assert max(seen) > SEEN * tolerance, seen
