"""What a study consists of travels to another Python process, and gives the same numbers there, bit for bit."""

import copy
import hashlib
import pickle
import sys
import threading
import types
from concurrent.futures import Executor, Future
from dataclasses import fields
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit.parameters import with_values
from tvb_jaxfit.posterior.density import Branch, PosteriorDensity
from tvb_jaxfit.posterior.priors import JointPrior
from tvb_jaxfit.runtime.programs import Program
from tvb_jaxfit.runtime.remote import dumps
from tvb_jaxfit.uncertainty.expected_fc import ExpectedFC
from tvb_jaxfit.uncertainty.expected_response import ExpectedResponse
from tvb_jaxfit.uncertainty.free_values import FreeValues
from tvb_jaxfit.uncertainty.likelihood import FCLikelihood

N_NODE = 5
# Standardised over the regions.
MAP = np.array([[-1.0], [-1.0], [0.0], [1.0], [1.0]]) / np.sqrt(0.8)
WEIGHTS = np.random.default_rng(0).gamma(1.0, 1.0, (N_NODE, N_NODE))
WEIGHTS = np.triu(WEIGHTS, 1) + np.triu(WEIGHTS, 1).T
TARGET = np.corrcoef(np.linalg.inv(np.eye(N_NODE) - 0.1 * WEIGHTS) @ np.random.default_rng(1).normal(size=(N_NODE, 99)))


@pytest.fixture(scope="module", autouse=True)
def by_value():
    """Functions of this module travel as those of a script do."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def wong_wang(a=0.05):
    """A simulator's recipe."""
    return simulator.Simulator(
        connectivity=connectivity.Connectivity(
            weights=WEIGHTS.copy(),
            tract_lengths=np.zeros((N_NODE, N_NODE)),
            centres=np.zeros((N_NODE, 3)),
            region_labels=np.array([f"r{i}" for i in range(N_NODE)]),
            speed=np.array([np.inf]),
        ),
        model=models.ReducedWongWang(w=np.array([0.5]), I_o=np.array([0.3])),
        coupling=coupling.Linear(a=np.array([a])),
        integrator=integrators.HeunStochastic(dt=4.0, noise=noise.Additive(nsig=np.array([4e-6]))),
        monitors=[monitors.TemporalAverage(period=200.0)],
        initial_conditions=np.full((1, 1, N_NODE, 1), 0.1),
        simulation_length=20_000.0,
    )


def exc_inh(a=1.0):
    sim = wong_wang(a)
    sim.connectivity.weights /= WEIGHTS.sum(axis=1).mean()
    sim.model = models.ReducedWongWangExcInh()
    sim.integrator.dt, sim.integrator.noise.nsig = 1.0, np.array([1e-6])
    sim.monitors[0].variables_of_interest = np.array([0])
    sim.initial_conditions = np.full((1, 2, N_NODE, 1), 0.1)
    return sim


def study(make, free, method):
    """Objects of a study by name, each of which has been used; with uncertainty if the fit is linear."""
    sim = make()
    simulate, state = tj.prepare(sim)
    linear, _ = tj.prepare_linear(sim)
    weight = 2.0

    def loss(state):
        return weight * tj.rmse(tj.compute_fc(simulate(state).data[0]), TARGET)

    options = {"loss": lambda fc, target: weight * tj.rmse(fc, target), "progress": False}
    options |= {"max_steps": 2} if method == "simulate" else {"max_evaluations": 3, "n_starts": 1}
    fit = tj.fit(sim, TARGET, free, method=method, **options)
    axes = copy.deepcopy(state)
    axes.coupling.a = tj.GridAxis(0.5 * float(state.coupling.a), float(state.coupling.a), 3)
    space = tj.Space(axes)
    execution = tj.ParallelExecution(loss, space, progress=False)
    return {
        "make": make,
        "simulate": simulate,
        "state": state,
        "loss": loss,
        "fit": fit,
        "evaluation": fit.evaluate(n_seeds=1, progress=False),
        "space": space,
        "execution": execution,
        "exploration": execution.run(),
        "linear": linear,
        "identifiability": fit.identifiability() if method == "linear" else None,
    }


def numbers(study):
    """Digest of what each object of a study computes or holds, by name."""
    simulate, state, linear, fit = (study[name] for name in ("simulate", "state", "linear", "fit"))
    result = simulate(state)

    def linear_loss(a):
        fc = linear(with_values(state, {"coupling.a": a})).fc()
        return tj.rmse(fc, TARGET), fc

    def simulated_loss(a):
        return study["loss"](with_values(state, {"coupling.a": a}))

    own_simulate, own_state = tj.prepare(study["make"]())
    found = {
        "simulation": [result.data, result.time],
        "simulation of the recipe": own_simulate(own_state).data,
        "FC": tj.compute_fc(result.data[0]),
        "loss, gradient": Program(jax.value_and_grad(simulated_loss))(state.coupling.a),
        "linear loss, FC, gradient": Program(jax.value_and_grad(linear_loss, has_aux=True))(state.coupling.a),
        "best": [jax.tree.leaves(fit.best), fit.loss],
        "FC of the fit": fit.fc(),
        "score": fit.score(),
        "loss of the fit": fit.request.loss(fit.fc(), TARGET),
        "evaluation": repr(study["evaluation"].rows),
        "exploration": [jax.tree.leaves(study["exploration"].values), jax.tree.leaves(study["exploration"].best)],
        "values of the space": list(study["space"].collect().values()),
        "points": study["execution"].run().values,
    }
    if study["identifiability"] is not None:
        found["identifiability"] = [study["identifiability"].eigenvalues, fit.identifiability().eigenvalues]
        found["new evaluation"] = repr(fit.evaluate(n_seeds=1, seed=1, progress=False).rows)
    return {name: digest(value) for name, value in found.items()}


def digest(value):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    return hashlib.sha256(
        b"".join(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes() for leaf in leaves)
    ).hexdigest()


FREE = {
    "coupling.a": tj.PositiveParameter(),
    "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=1.0, regional=True),
}


@pytest.fixture(scope="module")
def small_study():
    return study(wong_wang, FREE, "simulate")


def in_another_process(study):
    """Numbers of a study in a new process that has half of the processors."""
    with tj.ProcessWorkers(2) as workers:
        return workers.submit(numbers, study).result()


@pytest.mark.slow
def test_another_process_gives_the_same_numbers(small_study):
    found, expected = in_another_process(small_study), numbers(small_study)
    assert found == expected
    # Negative control: the last bit of one number.
    simulate, state = small_study["simulate"], small_study["state"]
    changed = with_values(state, {"coupling.a": np.nextafter(state.coupling.a, 1.0)})
    assert digest(simulate(changed).data) != digest(simulate(state).data) == expected["simulation of the recipe"]


def balanced():
    return {"coupling.a": tj.PositiveParameter(), "model.J_i": tj.Balanced(), "model.w_p": tj.MapParameter(MAP)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "free"), [(wong_wang, lambda: FREE), (exc_inh, balanced)], ids=["symmetric", "balanced"]
)
@pytest.mark.slow
def test_another_process_gives_the_same_numbers_of_a_linear_fit(make, free):
    objects = study(make, free(), "linear")
    assert in_another_process(objects) == numbers(objects)


def test_a_program_is_pickled_as_its_function():
    offset = np.arange(3.0)
    program = Program(lambda x: jnp.sum((x - offset) ** 2), shares_constants=True)
    expected = program(jnp.ones(3))
    again = pickle.loads(dumps(program))
    assert len(again) == 0 and again(jnp.ones(3)) == expected and len(again) == 1


def _saved(name):
    """Object of a study; the names of `small_study`."""
    return lambda study: study[name]


def _target(kind, value=0.1, **options):
    return lambda study: getattr(tj, kind)(value, **options)


# Maker of an object of each public class, from a study.
OBJECTS = {
    "Balanced": lambda study: tj.Balanced(),
    "BalloonBold": lambda study: tj.BalloonBold(),
    "BoundedParameter": lambda study: tj.BoundedParameter(0.3, 0.0, 1.0),
    "Certificate": lambda study: tj.Certificate("ReducedWongWang", 5, (), (), {"shifted": 0.1}, 1e-9, 1e-6),
    "Cohort": lambda study: tj.Cohort(Path("cohort"), []),
    "DataAxis": lambda study: tj.DataAxis([1.0, 2.0]),
    "DefaultPrintCallback": lambda study: tj.DefaultPrintCallback(),
    "EffectiveConnectivity": lambda study: _with_fields(
        tj.EffectiveConnectivity, state=study["state"], linear=study["linear"]
    ),
    "Evaluation": _saved("evaluation"),
    "Exploration": _saved("exploration"),
    "FCD": lambda study: tj.compute_fcd(study["simulate"](study["state"]).data[0], 20, 5),
    "FCDTarget": _target("FCDTarget", [0.1, 0.2, 0.3], window=20, step=5),
    "FCOptions": lambda study: tj.FCOptions(),
    "FitResult": _saved("fit"),
    "GridAxis": lambda study: tj.GridAxis(0.0, 1.0, 3),
    "History": lambda study: study["fit"].history,
    "Identifiability": lambda study: _identifiability(study["linear"], study["state"]),
    "JaxBackend": lambda study: tj.JaxBackend(),
    "LaggedCovarianceTarget": _target("LaggedCovarianceTarget", np.eye(N_NODE)),
    "LatinHypercubeAxis": lambda study: tj.LatinHypercubeAxis(0.0, 1.0, 3),
    "LinearResponse": lambda study: study["linear"](study["state"]),
    "MapParameter": lambda study: tj.MapParameter(MAP),
    "MaskedParameter": lambda study: tj.MaskedParameter(np.eye(2)),
    "MeanRateTarget": _target("MeanRateTarget"),
    "ModelComparison": lambda study: _with_fields(tj.ModelComparison, names=["a"]),
    "MultiCallback": lambda study: tj.MultiCallback([tj.StopOnLoss(0.1), lambda *_: None]),
    "NoiseOptions": lambda study: tj.NoiseOptions(),
    "OptaxOptimizer": lambda study: _used_optimizer(),
    "ParallelExecution": _saved("execution"),
    "Parameter": lambda study: tj.Parameter(0.1),
    "PositiveParameter": lambda study: tj.PositiveParameter(0.1),
    "PowerTarget": _target("PowerTarget", [1.0, 2.0], frequencies=[0.01, 0.02]),
    "Posterior": lambda study: _posterior(study["linear"], study["state"]),
    "PredictiveCheck": lambda study: _with_fields(tj.PredictiveCheck, fc={"JAX": np.zeros((2, 3, 3))}),
    "Recordings": lambda study: tj.Recordings(np.random.default_rng(0).normal(size=(300, 3)), 1000.0),
    "RunOptions": lambda study: tj.RunOptions(callback=lambda *_: None),
    "SavingCallback": lambda study: tj.SavingCallback("a", lambda step, state, loss, gradients: state.coupling.a),
    "ScaledParameter": lambda study: tj.ScaledParameter(0.1),
    "SearchOptions": lambda study: tj.SearchOptions(),
    "SequentialExecution": lambda study: tj.SequentialExecution(study["loss"], study["space"], progress=False),
    "SignalTarget": _target("SignalTarget", observable=lambda signals, period: jnp.std(signals)),
    "Space": _saved("space"),
    "Spectrum": lambda study: tj.power_spectrum(study["simulate"](study["state"]).data[0], 200.0),
    "State": _saved("state"),
    "StandardErrors": lambda study: _with_fields(tj.StandardErrors, length=1.0),
    "StopOnLoss": lambda study: tj.StopOnLoss(0.1),
    "StopOnPlateau": lambda study: tj.StopOnPlateau(3),
    "UniformAxis": lambda study: tj.UniformAxis(0.0, 1.0, 3),
    "VarianceTarget": _target("VarianceTarget", np.arange(1.0, 1.0 + N_NODE)),
}
# What belongs to a process.
LOCAL = (Executor, Future, type(threading.Lock()), type(threading.RLock()), jax.stages.Compiled)


def _used_optimizer():
    optimizer = tj.OptaxOptimizer(lambda state: state.x**2, optax.sgd(0.1), progress=False)
    optimizer.run(tj.State(x=tj.Parameter(3.0)), 2)
    return optimizer


def _with_fields(kind, **values):
    """Object of a dataclass that takes long to compute, with some of its fields."""
    return kind(**{each.name: None for each in fields(kind) if each.init} | values)


def _posterior(linear, state):
    """Posterior whose density has compiled a function."""
    density = PosteriorDensity(ExpectedResponse(linear, state, FreeValues({}, [])), None, JointPrior({}))
    density.programs["value", ()] = program = Program(jnp.sum)
    program(jnp.ones(2))
    return _with_fields(tj.Posterior, branch=Branch(density, None, np.zeros((1, 0))))


def _identifiability(linear, state):
    expected = ExpectedFC(linear, state, FreeValues({}, []), 0, ())
    assert expected.response is not None and expected._jacobian_program is not None
    return _with_fields(tj.Identifiability, likelihood=FCLikelihood(expected, 99))


def _parts(value):
    """Objects that a value consists of, those that its functions close over included."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return list(value)
    closed_over = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    bound_to = [value.__self__] if isinstance(value, types.MethodType) else []
    is_own = type(value).__module__.partition(".")[0] == "tvb_jaxfit"
    return closed_over + bound_to + (list(vars(value).values()) if is_own and hasattr(value, "__dict__") else [])


def _everything_in(value):
    found, waiting = {}, [value]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += _parts(each)
    return list(found.values())


def test_every_public_class_travels(small_study):
    kinds = {name for name in dir(tj) if isinstance(getattr(tj, name), type)}
    kinds -= {name for name in kinds if issubclass(getattr(tj, name), Exception)}
    # One that holds processes.
    assert set(OBJECTS) == kinds - {"ProcessWorkers"}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_travels_without_what_belongs_to_its_process(small_study, name):
    value = OBJECTS[name](small_study)
    assert isinstance(value, getattr(tj, name))
    again = pickle.loads(dumps(value))
    assert type(again) is type(value)
    for each in _everything_in(again):
        assert not isinstance(each, LOCAL)
        assert not isinstance(each, Program) or len(each) == 0
    # And once more, from there.
    assert type(pickle.loads(dumps(again))) is type(value)


def test_what_belongs_to_a_process_is_found(small_study):
    """Negative control of the test above."""
    found = _everything_in([small_study["simulate"], small_study["execution"], lambda: lock, lock := threading.Lock()])
    assert any(each is lock for each in found)
    assert any(isinstance(each, Program) and len(each) > 0 for each in found)
