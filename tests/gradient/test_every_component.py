"""The gradient of a short run is right through every coupling, noise, stimulus, hemodynamic response and monitor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.basic.neotraits.api import NArray
from tvb.datatypes import equations
from tvb.datatypes.connectivity import Connectivity
from tvb.datatypes.patterns import StimuliRegion
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.state import get_path, with_path

N_NODE, N_STEP = 4, 30
RTOL = 1e-7


class Product(coupling.SparseCoupling):
    """The coupling depends nonlinearly on both ends of a connection."""

    a = NArray(default=np.array([0.1]))
    b = NArray(default=np.array([0.3]))

    def pre(self, x_i, x_j):
        """Neither a function of the source alone, nor a sum of such functions."""
        return np.tanh(self.b * x_i * x_j + x_j)

    def post(self, gx):
        """Scale the sum."""
        return self.a * gx


class Uneven(models.Linear):
    """A model whose time constant depends on the index of the region."""

    def dfun(self, state, coupling, local_coupling=0.0):
        """The first two regions are twice as fast."""
        (x,), (c,) = state, coupling
        dx = self.gamma * x + c
        dx[:2] *= 2.0
        return np.array([dx])


class Even(models.Linear):
    """A user's own model, equal in all regions."""

    def dfun(self, state, coupling, local_coupling=0.0):
        """Saturating vector field."""
        (x,), (c,) = state, coupling
        return np.array([self.gamma * np.tanh(x) + c])


def simulator(model, function, dt=0.5, length=12, scheme=None, recorders=None, stimulus=None):
    random = np.random.RandomState(0)
    weights = random.uniform(0.2, 1.0, (N_NODE, N_NODE))
    np.fill_diagonal(weights, 0.0)
    ranges = np.array([model.state_variable_range[name] for name in model.state_variables])
    shape = (length, model.nvar, N_NODE, model.number_of_modes)
    white_matter = Connectivity(
        weights=weights,
        tract_lengths=random.uniform(0.0, 10.0, weights.shape) * dt,
        centres=np.zeros((N_NODE, 3)),
        region_labels=np.array([f"region {i}" for i in range(N_NODE)]),
        speed=np.array([1.0]),
    )
    sim = Simulator(
        model=model,
        connectivity=white_matter,
        coupling=function,
        integrator=scheme or integrators.HeunDeterministic(dt=dt),
        monitors=recorders or [monitors.Raw()],
        initial_conditions=random.uniform(*(ranges @ [[0.7, 0.3], [0.3, 0.7]]).T[..., None, None], shape),
        simulation_length=N_STEP * dt,
    )
    if stimulus is not None:
        weight = random.uniform(0.5, 1.0, N_NODE)
        sim.stimulus = StimuliRegion(connectivity=white_matter, weight=weight, temporal=stimulus)
    return sim


def assert_gradients(sim, paths, zero_weights=False):
    """Compare the gradient in a random direction at each path with five-point differences.

    Weights that are zero are part of the direction if ``zero_weights`` is set.
    """
    simulate, state = tj.prepare(sim)
    samples = [np.asarray(data) for _, data in jax.jit(simulate)(state)]
    scales = [np.max(np.abs(data), axis=(0, 2, 3), keepdims=True) + 1e-12 for data in samples]
    random = np.random.RandomState(1)
    factors = [random.uniform(0.5, 1.5, data.shape) / scale for data, scale in zip(samples, scales, strict=True)]
    values = {path: get_path(state, path) for path in paths}

    def loss(values):
        changed = state
        for path, value in values.items():
            changed = with_path(changed, path, value)
        return sum(jnp.mean(jnp.sin(f * data)) for f, (_, data) in zip(factors, simulate(changed), strict=True))

    gradient, loss = jax.jit(jax.grad(loss))(values), jax.jit(loss)
    wrong = {}
    for path, value in values.items():
        direction = np.asarray(random.uniform(0.5, 1.5, value.shape) * random.choice([-1, 1], value.shape))
        direction = np.abs(direction) if value.size == 1 else direction
        if path == "initial_conditions":
            # Scaled to the unit of each state variable.
            direction = direction * np.max(np.abs(value), axis=(0, 2, 3), keepdims=True) / np.max(np.abs(value))
        elif path == "connectivity.weights" and not zero_weights:
            direction = direction * (np.asarray(value) != 0.0)
        h = 1e-3 * float(np.max(np.abs(value)) or 1.0)
        around = [float(loss(values | {path: value + jnp.asarray(s * h * direction)})) for s in (-2, -1, 1, 2)]
        numeric = np.dot([1, -8, 8, -1], around) / 12
        derivative = float(np.sum(np.asarray(gradient[path]) * direction)) * h
        if derivative == 0.0 or not abs(derivative - numeric) <= RTOL * abs(numeric) + 1e-14:
            wrong[path] = (derivative, numeric)
    assert not wrong
    return state, gradient


ALWAYS = ("connectivity.weights", "initial_conditions")
COUPLINGS = {
    "Linear": (coupling.Linear(a=np.array([0.1]), b=np.array([0.2])), "ab"),
    "Scaling": (coupling.Scaling(a=np.array([0.1])), "a"),
    "HyperbolicTangent": (coupling.HyperbolicTangent(midpoint=np.array([0.2])), ["a", "b", "midpoint", "sigma"]),
    "Sigmoidal": (
        coupling.Sigmoidal(midpoint=np.array([0.2]), sigma=np.array([3.0])),
        ["cmin", "cmax", "midpoint", "a", "sigma"],
    ),
    "PreSigmoidal": (coupling.PreSigmoidal(dynamic=False, G=np.array([2.0])), ["H", "Q", "G", "P", "theta"]),
    "Difference": (coupling.Difference(), "a"),
    "Kuramoto": (coupling.Kuramoto(), "a"),
    "user-defined": (Product(), "ab"),
}
BY_DEFAULT = ("Difference",)


@pytest.mark.parametrize(
    "cls, is_homogeneous", [(Uneven, False), pytest.param(Even, True, marks=pytest.mark.slow)], ids=["uneven", "even"]
)
def test_gradient_of_a_users_model_is_right_whether_or_not_its_code_depends_on_the_region(cls, is_homogeneous):
    sim = simulator(cls(gamma=np.array([-0.5])), coupling.Linear(a=np.array([0.1])))
    simulate, _ = tj.prepare(sim)
    assert simulate.step.is_homogeneous == is_homogeneous
    assert_gradients(sim, ["model.gamma", "coupling.a", "connectivity.weights"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in COUPLINGS]
)
def test_gradient_through_a_coupling_equals_central_differences(name):
    function, names = COUPLINGS[name]
    paths = [*ALWAYS, *(f"coupling.{parameter}" for parameter in names)]
    assert_gradients(simulator(models.Generic2dOscillator(), function), paths)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "PreSigmoidal" else pytest.mark.slow) for name in COUPLINGS]
)
def test_gradient_in_weights_that_are_zero_equals_central_differences(name):
    """A pair that is not connected has a weight of 0, in which the loss has a derivative."""
    sim = simulator(models.Generic2dOscillator(), COUPLINGS[name][0])
    assert_gradients(sim, ["connectivity.weights"], zero_weights=True)


@pytest.mark.slow
def test_gradient_through_jansen_rits_coupling_equals_central_differences():
    names = ("cmin", "cmax", "midpoint", "r", "a")
    sim = simulator(models.JansenRit(), coupling.SigmoidalJansenRit(cmin=np.array([0.001])))
    assert_gradients(sim, [*ALWAYS, *(f"coupling.{name}" for name in names)])


@pytest.mark.parametrize(
    "temporal",
    [pytest.param(each, marks=pytest.mark.slow) for each in (equations.GeneralizedSigmoid, equations.Sinusoid)],
)
def test_gradient_through_coloured_multiplicative_noise_and_stimulus_equals_central_differences(temporal):
    stimulus = temporal()
    stimulus.parameters |= {"low": 0.2, "midpoint": 7.0, "sigma": 3.0} if "low" in stimulus.parameters else {}
    scheme = integrators.EulerStochastic(
        dt=0.5, noise=noise.Multiplicative(nsig=np.array([0.01]), ntau=3.0, b=equations.Sigmoid())
    )
    function = coupling.Linear(a=np.array([0.1]))
    sim = simulator(models.Generic2dOscillator(), function, scheme=scheme, stimulus=stimulus)
    names = [n for n in stimulus.parameters if n != "radius_2"]
    noise_paths = [f"integrator.noise.{n}" for n in ("nsig", "ntau", "b.low", "b.high", "b.midpoint", "b.sigma")]
    _, state = tj.prepare(sim)
    noise_paths = [path for path in noise_paths if "b." not in path or path.split(".")[-1] in state.integrator.noise.b]
    assert_gradients(sim, [*noise_paths, "stimulus.weight", *(f"stimulus.temporal.{n}" for n in names)])


def test_every_sample_of_the_initial_conditions_that_a_delay_reaches_has_an_effect():
    sim = simulator(models.Generic2dOscillator(), coupling.Linear(a=np.array([0.1])), length=7)
    sim.connectivity.tract_lengths = np.linspace(0.0, 3.0, N_NODE**2).reshape(N_NODE, N_NODE)
    _, gradient = assert_gradients(sim, ["initial_conditions"])
    assert np.all(np.any(np.asarray(gradient["initial_conditions"]), axis=(1, 2, 3)))


@pytest.mark.slow
def test_gradient_through_bold_and_afferent_coupling_equals_central_differences():
    recorders = [monitors.Bold(period=8.0, hrf_kernel=equations.FirstOrderVolterra()), monitors.AfferentCoupling()]
    sim = simulator(models.Generic2dOscillator(), coupling.Linear(a=np.array([0.1])), recorders=recorders)
    names = ("tau_s", "tau_f", "k_1", "V_0")
    assert_gradients(sim, [*ALWAYS, "coupling.a", *(f"monitors[0].hrf_kernel.{n}" for n in names)])


@pytest.mark.slow
def test_gradient_through_three_modes_equals_central_differences():
    sim = simulator(models.ReducedSetFitzHughNagumo(), coupling.Linear(a=np.array([0.1])), dt=0.01)
    assert_gradients(sim, [*ALWAYS, "model.a", "model.K12"])
