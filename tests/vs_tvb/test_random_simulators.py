"""Simulators put together at random from TVB's own parts run as TVB runs them, or are refused."""

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from tvb.datatypes import equations
from tvb.datatypes.connectivity import Connectivity
from tvb.datatypes.patterns import StimuliRegion
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.models.base import Model
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.translate import traits

N_STEP = 10
TOLERANCE = 1e-11
# It differentiates numerically with steps of 1e-7, and loses digits.
TOLERANCES = {models.ZerlautAdaptationSecondOrder: 1e-7}
# Terms that cancel, as in a Kuramoto coupling of equal phases, leave their rounding errors.
ROUNDING = 1e-14
MODELS = models.ModelsEnum.get_base_model_subclasses()
# Its translation takes 15 s.
SLOW_MODELS = (models.ZerlautAdaptationSecondOrder,)
# Steps [ms] with which the models stay finite for some time.
SHORT_STEPS = {
    models.LarterBreakspear: 0.1,
    models.ReducedSetFitzHughNagumo: 0.01,
    models.ReducedSetHindmarshRose: 0.01,
    models.MontbrioPazoRoxin: 0.01,
    models.GastSchmidtKnosche_SD: 0.01,
    models.GastSchmidtKnosche_SF: 0.01,
    models.DumontGutkin: 0.01,
    models.CoombesByrne: 0.01,
    models.CoombesByrne2D: 0.01,
    models.Epileptor: 0.05,
    models.KIonEx: 0.01,
}
COUPLINGS = (
    coupling.Linear,
    coupling.Scaling,
    coupling.HyperbolicTangent,
    coupling.Sigmoidal,
    coupling.SigmoidalJansenRit,
    coupling.PreSigmoidal,
    coupling.Difference,
    coupling.Kuramoto,
)
SCHEMES = (
    integrators.HeunDeterministic,
    integrators.HeunStochastic,
    integrators.EulerDeterministic,
    integrators.EulerStochastic,
    integrators.RungeKutta4thOrderDeterministic,
    integrators.Identity,
    integrators.IdentityStochastic,
)
KERNELS = (equations.FirstOrderVolterra, equations.Gamma, equations.DoubleExponential, equations.MixtureOfGammas)
NOT_SUPPORTED = (integrators.Dopri5, integrators.VODEStochastic)


def _one_of(random, choices):
    return choices[random.randint(len(choices))]


def _some_of(random, choices, least, most):
    """Some of the choices, repeated or not."""
    return [_one_of(random, choices) for _ in range(random.randint(least, most + 1))]


def _seldom(random):
    """True in a few cases, for values with which TVB's own code probably fails."""
    return random.randint(20) == 0


def _near(random, value, n=None):
    """Values within a tenth of a default."""
    value = np.asarray(value, float)
    shape = value.shape if n is None else (n,)
    reach = 0.1 * np.where(value == 0.0, 1.0, np.abs(value))
    return np.broadcast_to(value, shape) + np.broadcast_to(reach, shape) * random.uniform(-1.0, 1.0, shape)


def _shaped(random, values, shapes):
    return values.reshape(_one_of(random, shapes))


def _give_parameters(random, part, n_node, shapes):
    """Give a random subset of a part's float parameters other values, some of them regional."""
    for parameter in traits.parameters(part):
        if not _one_of(random, [True, False]):
            continue
        default = parameter.read(part)
        if parameter.is_scalar:
            setattr(part, parameter.name, float(_near(random, default)))
        elif parameter.shape is not None or not shapes or _one_of(random, [True, False]):
            setattr(part, parameter.name, _near(random, default))
        else:
            setattr(part, parameter.name, _shaped(random, _near(random, default, n_node), shapes))


def random_simulator(of_models, seed):
    """A simulator that TVB's traits accept; not all of them run."""
    random = np.random.RandomState(seed)
    n_node = random.randint(2, 6)
    model = _one_of(random, of_models)()
    # Parameters from which TVB derives attributes take regional values in one layout, or in none.
    derives = type(model).update_derived_parameters is not Model.update_derived_parameters
    _give_parameters(random, model, n_node, [] if derives and not _seldom(random) else [(-1,), (-1, 1), (1, -1)])
    if _one_of(random, [True, False]):
        choices = type(model).variables_of_interest.element_choices
        model.variables_of_interest = tuple(_some_of(random, choices, 1, 4))
    dt = SHORT_STEPS.get(type(model), 0.1) * _one_of(random, [1.0, 0.5, 0.3, 1.0 / 3.0])
    sim = Simulator(
        model=model,
        connectivity=_white_matter(random, n_node, dt),
        coupling=_coupling(random, model, n_node),
        integrator=_integrator(random, model, n_node, dt),
        monitors=_monitors(random, model, dt),
        simulation_length=N_STEP * dt,
    )
    if random.randint(3) == 0:
        sim.initial_conditions = _initial_conditions(random, model, n_node)
    if random.randint(3) == 0:
        sim.stimulus = StimuliRegion(
            connectivity=sim.connectivity,
            weight=random.uniform(-1.0, 1.0, n_node),
            temporal=_one_of(random, [equations.Sinusoid, equations.PulseTrain, equations.GeneralizedSigmoid])(),
        )
    return sim


def _white_matter(random, n_node, dt):
    weights = random.uniform(-0.2, 1.0, (n_node, n_node))
    weights[random.uniform(size=weights.shape) < _one_of(random, [0.0, 0.3, 0.8, 1.0])] = 0.0
    speed = _one_of(random, [np.inf, 1.0, 3.0])
    longest = _one_of(random, [0.0, 0.4, 6.0, 20.0]) * dt
    return Connectivity(
        weights=weights,
        tract_lengths=random.uniform(0.0, 1.0, weights.shape) * longest,
        centres=random.uniform(-1.0, 1.0, (n_node, 3)),
        region_labels=np.array([f"region {i}" for i in range(n_node)]),
        speed=np.array([speed]),
        cortical=random.uniform(size=n_node) < 0.5,
    )


def _coupling(random, model, n_node):
    n_cvar = len(model.cvar)
    fitting = [cls for cls in COUPLINGS if n_cvar > 1 or cls is not coupling.SigmoidalJansenRit]
    function = _one_of(random, COUPLINGS if _seldom(random) else fitting)()
    shapes = [(-1, 1, 1)] if type(function).__call__ is not coupling.SparseCoupling.__call__ else [(-1, 1)]
    if _seldom(random):
        shapes = [(-1,), (-1, 1)]
    elif isinstance(function, coupling.HyperbolicTangent):
        shapes = []
    _give_parameters(random, function, n_node, shapes)
    if isinstance(function, coupling.PreSigmoidal):
        function.dynamic = n_cvar == 2 or _seldom(random)
        function.globalT = _seldom(random)
    return function


def _integrator(random, model, n_node, dt):
    cls = _one_of(random, NOT_SUPPORTED if _seldom(random) else SCHEMES)
    integrator = cls(dt=dt)
    n_var, n_mode = model.nvar, model.number_of_modes
    if issubclass(cls, integrators.IntegratorStochastic):
        shapes = [(1,), (n_var,), (n_var, n_node), (n_var, 1, 1), (n_var, n_node, 1), (n_var, n_node, n_mode)]
        if n_var == 1 or cls is not integrators.HeunStochastic or _seldom(random):
            shapes += [(n_node,), (1, n_node, 1)]
        nsig = random.uniform(0.0, 1e-3, (1, n_var) if _seldom(random) else _one_of(random, shapes))
        integrator.noise = _one_of(random, [noise.Additive, noise.Multiplicative])(
            nsig=nsig, ntau=_one_of(random, [0.0, 0.0, 2.0]), noise_seed=random.randint(100)
        )
        if isinstance(integrator.noise, noise.Multiplicative):
            integrator.noise.b = _one_of(random, [equations.Linear, equations.Sigmoid, equations.Gaussian])()
    if random.randint(6) == 0:
        integrator.clamped_state_variable_indices = np.array([random.randint(n_var)])
        shape = _one_of(random, [(1, n_node, n_mode), (1, 1, 1), (1, n_node, 1)])
        integrator.clamped_state_variable_values = random.uniform(0.1, 0.4, shape)
    return integrator


def _initial_conditions(random, model, n_node):
    length = random.randint(1, 13)
    ranges = np.array([model.state_variable_range[name] for name in model.state_variables])
    shape = (length, model.nvar, n_node, model.number_of_modes)
    return random.uniform(ranges[:, :1, None], ranges[:, 1:, None], shape)


def _monitors(random, model, dt):
    found = [monitors.Raw()]
    with_period = (
        monitors.SubSample,
        monitors.TemporalAverage,
        monitors.GlobalAverage,
        monitors.SpatialAverage,
        monitors.Bold,
        monitors.AfferentCouplingTemporalAverage,
    )
    for cls in _some_of(random, [*with_period, monitors.RawVoi, monitors.AfferentCoupling], 0, 2):
        period = 11.0 if _seldom(random) else _one_of(random, [1.0, 1.5, 2.0, 2.5, 3.0, 4.6])
        monitor = cls(period=period * dt) if cls in with_period else cls()
        if isinstance(monitor, monitors.SpatialAverage):
            monitor.default_mask = _one_of(random, list(monitors.DefaultMasks))
        if isinstance(monitor, monitors.Bold):
            monitor.hrf_kernel = _one_of(random, KERNELS)()
        if random.randint(3) == 0:
            of_coupling = isinstance(monitor, monitors.AfferentCoupling)
            n_row = len(model.cvar if of_coupling else model.variables_of_interest) + _seldom(random)
            monitor.variables_of_interest = np.array(_some_of(random, range(n_row), 1, 3))
        found.append(monitor)
    return found


def _overflow(time, data):
    """Time of the first sample beyond 1e100: from there on, the order of a product decides between inf and NaN."""
    beyond = np.any(np.abs(data) > 1e100, axis=(1, 2, 3))
    return time[np.argmax(beyond)] if beyond.any() else np.inf


def _differences(ours, theirs, tolerance):
    """Differences between two runs, as text."""
    assert len(ours) == len(theirs)
    end = _overflow(*theirs[0])
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        our_data, data = np.asarray(our_data), np.asarray(data)
        if our_data.shape != data.shape:
            yield f"monitors[{index}]: shapes {our_data.shape} and {data.shape}"
            continue
        if not np.array_equal(our_time, time):
            yield f"monitors[{index}]: times {our_time} and {time}"
        data, our_data = data[time < end], our_data[time < end]
        finite = np.isfinite(data)
        if not np.array_equal(our_data[~finite], data[~finite], equal_nan=True):
            yield f"monitors[{index}]: not finite at other places"
            continue
        axes = (0, *range(2, data.ndim))
        size = np.max(np.abs(np.where(finite, data, 0.0)), axis=axes, keepdims=True)
        distance = np.where(finite, np.abs(our_data - np.where(finite, data, 0.0)), 0.0)
        if np.any(distance > tolerance * size + ROUNDING):
            with np.errstate(all="ignore"):
                yield f"monitors[{index}]: {np.nanmax(distance):.1e}, {np.nanmax(distance / size):.1e} of the maximum"


def check(sim, float64_tvb, snapshot):
    """Returns the reasons for a refusal, or None after a run that is TVB's."""
    before = snapshot(sim)
    note(str(description(sim)))
    reasons = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            simulate, state = tj.prepare(sim)
        except tj.UnsupportedComponent as error:
            reasons = str(error)
        except ValueError as error:
            assert "it would record nothing" in str(error)
            reasons = str(error)
    assert snapshot(sim) == before
    if reasons is not None:
        note(reasons)
        return reasons
    with np.errstate(all="ignore"):
        theirs = float64_tvb(sim).run()
    found = list(_differences(simulate(state), theirs, TOLERANCES.get(type(sim.model), TOLERANCE)))
    assert not found, found
    assert snapshot(sim) == before
    return None


def simulators(of_models):
    """Each from a seed of its own: examples have little in common, so that hypothesis cannot shrink them."""
    return st.builds(random_simulator, st.just(of_models), st.integers(0, 2**32 - 1))


def description(sim):
    """Text of a drawn simulator, for reports of failures."""
    parts = [sim.model, sim.coupling, sim.integrator, getattr(sim.integrator, "noise", None), *sim.monitors]
    shapes = {p.name: np.shape(p.read(part)) for part in parts[:2] for p in traits.parameters(part)}
    return {
        "parts": [type(part).__name__ for part in parts],
        "dt": sim.integrator.dt,
        "shapes": {name: shape for name, shape in shapes.items() if shape not in ((), (1,))},
        "nsig": np.shape(parts[3].nsig) if parts[3] else None,
        "variables_of_interest": sim.model.variables_of_interest,
        "initial_conditions": np.shape(sim.initial_conditions),
        "stimulus": sim.stimulus and type(sim.stimulus.temporal).__name__,
    }


def _property(sim, float64_tvb, snapshot):
    reasons = check(sim, float64_tvb, snapshot)
    event("runs as TVB" if reasons is None else f"refused: {reasons.splitlines()[-1][:60]}")


@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(sim=simulators([cls for cls in MODELS if cls not in SLOW_MODELS]))
def test_a_random_simulator_is_refused_or_runs_as_tvb_and_is_left_as_it_was(sim, float64_tvb, snapshot):
    _property(sim, float64_tvb, snapshot)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(sim=simulators(MODELS))
def test_many_random_simulators_are_refused_or_run_as_tvb_and_are_left_as_they_were(sim, float64_tvb, snapshot):
    _property(sim, float64_tvb, snapshot)
