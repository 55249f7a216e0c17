"""Each value of a simulator is fitted, resumed, evaluated, written back and reported, with each kind of parameter.

One fit of all parameters for each kind, since compilation takes most of the time; and fits by the command line.
"""

import dataclasses
import itertools
import re
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator.lab import connectivity, coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter, MaskedParameter, Parameter, PositiveParameter, ScaledParameter
from tvb_jaxfit.command import fit as command
from tvb_jaxfit.command.folder import read_summary
from tvb_jaxfit.command.main import main
from tvb_jaxfit.parameters import parameters_of, strip_parameters
from tvb_jaxfit.state import get_path
from tvb_jaxfit.translate.clone import clone
from tvb_jaxfit.translate.parameter_map import parameter_map

N_NODE = 4
PATHS = {
    *("model.a", "model.w", "model.tau_s", "coupling.a", "coupling.b", "connectivity.weights"),
    *("integrator.noise.nsig", "integrator.noise.ntau", "integrator.noise.b.a"),
    *("stimulus.weight", "stimulus.temporal.amp", "monitors[0].hrf_kernel.tau_s", "monitors[0].hrf_kernel.V_0"),
}


def _connectome(speed=np.inf):
    random = np.random.default_rng(0)
    return connectivity.Connectivity(
        weights=random.uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool),
        tract_lengths=np.full((N_NODE, N_NODE), 9.0),
        centres=np.zeros((N_NODE, 3)),
        region_labels=np.array([f"r{i}" for i in range(N_NODE)]),
        speed=np.array([speed]),
    )


def everything():
    """Simulator with coloured multiplicative noise, a stimulus, and BOLD."""
    white_matter = _connectome()
    pulses = equations.PulseTrain(parameters={"T": 60.0, "tau": 20.0, "amp": 0.01, "onset": 5.0})
    return simulator.Simulator(
        connectivity=white_matter,
        model=models.ReducedWongWang(),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.HeunStochastic(
            dt=1.0,
            noise=noise.Multiplicative(
                nsig=np.array([4e-6]), ntau=5.0, b=equations.Linear(parameters={"a": 1.0, "b": 0.1})
            ),
        ),
        stimulus=patterns.StimuliRegion(temporal=pulses, connectivity=white_matter, weight=np.linspace(0.1, 0.5, 4)),
        monitors=[monitors.Bold(period=8.0, hrf_length=40.0)],
        initial_conditions=np.full((1, 1, N_NODE, 1), 0.1),
        simulation_length=160.0,
    )


def two_variables():
    """Simulator with a dispersion for each variable, delays, and an Euler integrator."""
    return simulator.Simulator(
        connectivity=_connectome(speed=3.0),
        model=models.Generic2dOscillator(variables_of_interest=("V",)),
        coupling=coupling.Linear(a=np.array([0.05])),
        integrator=integrators.EulerStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-3, 2e-3]))),
        monitors=[monitors.TemporalAverage(period=4.0)],
        simulation_length=80.0,
    )


def _of_size(value):
    return float(np.max(np.abs(value))) or 1.0


# By kind: function from a value to its parameter (None if the kind does not suit the value), and text for --free.
KINDS = {
    "plain": lambda value, repeated: (Parameter(), ""),
    "bounded": lambda value, repeated: (
        BoundedParameter(lower_bound=-2.0 * _of_size(value), upper_bound=2.0 * _of_size(value)),
        f":{-2.0 * _of_size(value)!r}:{2.0 * _of_size(value)!r}",
    ),
    "positive": lambda value, repeated: (PositiveParameter(), ":positive") if np.all(value > 0.0) else None,
    "scaled": lambda value, repeated: (ScaledParameter(), ":scaled") if np.any(value) else None,
    "masked": lambda value, repeated: (MaskedParameter(), ":masked") if np.any(value) else None,
    "regional": lambda value, repeated: (Parameter(regional=True), ":regional") if repeated else None,
    "regional positive": lambda value, repeated: (
        (PositiveParameter(regional=True), ":regional:positive") if repeated and np.all(value > 0.0) else None
    ),
    "regional bounded": lambda value, repeated: (
        (BoundedParameter(lower_bound=-99.0, regional=True), ":regional:-99.0:") if repeated else None
    ),
}
# Far smaller than every value, so that the simulation stays finite when all values are fitted at once.
RATE = 1e-8


def _possible(sim, kind):
    """(parameter, text for --free) by path, for each value that a kind suits."""
    found = {}
    for leaf in parameter_map(sim):
        value = np.asarray(leaf.state_value(sim))
        repeated = value.size == 1 and (N_NODE,) in leaf.allowed_shapes(sim)
        found[leaf.path] = KINDS[kind](value, repeated)
    return {path: made for path, made in found.items() if made is not None}


def _one_kind_each(sim):
    """(parameter, text for --free) by path, with the kinds in turn, so that each value and each kind occurs."""
    possible = {kind: _possible(sim, kind) for kind in KINDS}
    turns, chosen = itertools.cycle(KINDS), {}
    for leaf in parameter_map(sim):
        kind = next(kind for kind in turns if leaf.path in possible[kind])
        chosen[leaf.path] = possible[kind][leaf.path]
    # The dispersion of the noise is usually fitted as a positive parameter.
    chosen["integrator.noise.nsig"] = possible["positive"]["integrator.noise.nsig"]
    return chosen


def _target():
    random = np.random.default_rng(1)
    return np.corrcoef(random.normal(size=(N_NODE, 50)) + random.normal(size=50))


def _assert_written_back(result, sim):
    """Compare the values of the best state with those that a simulator holds after a write-back: they are equal."""
    written = clone(sim)
    with warnings.catch_warnings():
        # Some of TVB's defaults are on the bounds of their domains.
        warnings.simplefilter("ignore", tj.DomainWarning)
        result.write_back(written)
    given_back = tj.prepare(written)[1]
    best = parameters_of(result.best)
    for path, parameter in best.items():
        theirs = np.asarray(get_path(given_back, path))
        np.testing.assert_array_equal(np.broadcast_to(theirs, parameter.shape), parameter.value, err_msg=path)
    return best


def _assert_on_the_page(page, result):
    """Check that the report lists each value in its section on parameters, and says that there is noise."""
    text = page.read_text()
    section = re.sub("<[^>]*>", " ", text.split("Parameters</h2>")[1].split("<h2")[0])
    missing = [path for path in parameters_of(result.best) if path not in section]
    assert not missing and "The simulator is deterministic" not in text


# FC does not depend on the amplitude of BOLD; TVB's sigma_noise is in no equation; the derivative of a pulse train in
# its times is 0.
IDLE = {"model.sigma_noise", "stimulus.temporal.T", "stimulus.temporal.tau", "stimulus.temporal.onset"}
AMPLITUDES = {"monitors[0].hrf_kernel.V_0", "monitors[0].hrf_kernel.k_1"}


def _assert_moved(result):
    """Check that each value that the loss depends on has changed."""
    began, ended = parameters_of(result.initial), parameters_of(result.fitted)
    # To unconstrained values and back is exact to rounding, of the value and of its bounds.
    still = {
        path
        for path, own in began.items()
        if np.allclose(own.value, ended[path].value, rtol=1e-13, atol=1e-15 * _largest_bound(own))
    }
    assert IDLE & set(began) <= still <= IDLE | AMPLITUDES


def _largest_bound(parameter):
    bounds = [getattr(parameter, name, 0.0) for name in ("lower_bound", "upper_bound")]
    return max((abs(bound) for bound in bounds if np.isfinite(bound)), default=0.0)


@pytest.fixture
def said():
    """Messages of the warnings about values without a gradient."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(each.message) for each in caught]


def _all_the_way(sim, free, folder, resample=None):
    """Fit, resume, evaluate, write back and report."""
    options = {
        "method": "simulate",
        "optimizer": optax.adam(RATE),
        "progress": False,
        "resample": resample,
        "checkpoint": folder / "checkpoint.npz",
    }
    tj.fit(sim, _target(), free, max_steps=1, **options)
    result = tj.fit(sim, _target(), free, max_steps=2, resume=True, **options)
    assert str(result.history.stop_reason) == "all 2 steps done" and result.loss.shape == (3,)
    assert result.evaluate(n_seeds=1, n_tvb=1, progress=False).rows
    assert set(_assert_written_back(result, sim)) == set(free)
    _assert_on_the_page(result.report(folder / "report.html"), result)
    _assert_moved(result)


def test_every_parameter_and_kind_is_fitted_resumed_written_back_and_reported(tmp_path, said):
    sim = everything()
    free = {path: parameter for path, (parameter, _) in _one_kind_each(sim).items()}
    assert set(free) == {leaf.path for leaf in parameter_map(sim)} >= PATHS
    assert {type(parameter) for parameter in free.values()} == {
        *(Parameter, BoundedParameter, PositiveParameter, ScaledParameter, MaskedParameter)
    }
    _all_the_way(sim, free, tmp_path, resample=False)
    assert any(all(path in message for path in IDLE) and "does not depend on" in message for message in said())


@pytest.mark.slow
@pytest.mark.parametrize("make", [everything, two_variables])
@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_a_kind_is_fitted_resumed_written_back_and_reported(kind, make, tmp_path, said):
    sim = make()
    _all_the_way(sim, {path: parameter for path, (parameter, _) in _possible(sim, kind).items()}, tmp_path)


SCRIPT = """
import importlib.util
spec = importlib.util.spec_from_file_location("simulators_of_the_test", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sim = module.everything()
"""


@pytest.mark.slow
def test_every_parameter_is_fitted_from_the_command_line(tmp_path, monkeypatch, said):
    sim, seen = everything(), []
    chosen = _one_kind_each(sim)
    (tmp_path / "mine.py").write_text(SCRIPT.format(file=__file__))
    np.save(tmp_path / "fc.npy", _target())

    def interrupted(step, *_):
        if step == 1 and not seen:
            raise KeyboardInterrupt

    def watched(sim, target, free, run, **options):
        result = real(sim, target, free, run=dataclasses.replace(run, callback=interrupted), **options)
        seen.append(result)
        return result

    real = command.fit
    monkeypatch.setattr(command, "fit", watched)
    arguments = ["fit", "--simulator", str(tmp_path / "mine.py"), "--fc", str(tmp_path / "fc.npy")]
    arguments += [part for path, (_, text) in chosen.items() for part in ("--free", f"{path}{text}")]
    arguments += ["--method", "simulate", "--learning-rate", str(RATE), "--steps", "2", "--quiet"]
    arguments += ["--out", str(tmp_path / "out")]
    assert main([*arguments, "--evaluate", "1", "--tvb"]) == 130
    assert main([*arguments, "--evaluate", "1", "--tvb", "--resume"]) == 0
    result = seen[-1]
    assert str(result.history.stop_reason) == "all 2 steps done"
    for path, parameter in parameters_of(result.best).items():
        assert type(parameter) is type(chosen[path][0]) and parameter.regional == chosen[path][0].regional, path
    account = read_summary(tmp_path / "out")
    assert {each.path for each in account.parameters} == set(chosen) and account.evaluation.rows
    _assert_written_back(result, sim)
    _assert_on_the_page(tmp_path / "out" / "report.html", result)
    _assert_moved(result)


def test_initial_conditions_are_fitted_and_written_back_with_the_position():
    sim = everything()
    sim.monitors, sim.stimulus, sim.simulation_length = [monitors.Raw()], None, 20.0
    simulate, state = tj.prepare(sim)
    state.initial_conditions = BoundedParameter(state.initial_conditions, 0.0, 1.0)
    loop = tj.OptaxOptimizer(
        lambda state: jnp.mean((simulate(state).data[0][-1] - 0.3) ** 2), optax.adam(0.01), progress=False
    )
    fitted, history = loop.run(state, 3)
    assert history.loss[-1] < history.loss[0]
    sim.configure()
    tj.write_back(fitted, sim, position=True)
    given_back = tj.prepare(sim)[1].initial_conditions
    # TVB keeps histories in single precision.
    np.testing.assert_allclose(given_back, strip_parameters(fitted).initial_conditions, rtol=1e-6)
    assert np.all(np.asarray(given_back) != np.asarray(strip_parameters(state).initial_conditions))
