"""A simulator that yields no FC for any values is refused before compilation, with the numbers and the remedy."""

import jax
import numpy as np
import pytest
from tvb.simulator.lab import models, monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.evaluation.fc_monitor import refuse_no_fc

N_NODE = 6


def _hopf(**parts):
    return {"model": models.SupHopf(variables_of_interest=("x", "y")), "dt": 1.0} | parts


def _of(build, steps, model=None, **parts):
    sim = build(steps=steps, **parts)
    sim.model = sim.model if model is None else model
    return sim


def _target(n_node=N_NODE):
    return np.corrcoef(np.random.default_rng(0).normal(size=(n_node, 40)))


TWO = "= (2, 6, 1); FC is of one variable, and these are 0: x, 1: y. Choose one in the simulator: "
NOTHING = (
    "it records nothing, so that there is no FC; choose another with FCOptions(monitor=...), or add monitors.Bold("
)
# Parts of the simulator, its length in steps, options, and the message.
CASES = {
    "two variables of Bold": (
        _hopf(monitors=[monitors.Bold(period=100.0, hrf_length=500.0)]),
        1000,
        {},
        TWO + "monitors.Bold(period=100, variables_of_interest=np.array([0])).",
    ),
    "two variables of Raw": (
        _hopf(monitors=[monitors.Raw()]),
        20,
        {},
        TWO + "monitors.RawVoi(variables_of_interest=np.array([0])).",
    ),
    "the last two of three variables": (
        _hopf(
            model=models.Epileptor(variables_of_interest=["x1", "y1", "z"]),
            dt=0.1,
            monitors=[monitors.RawVoi(variables_of_interest=np.array([1, 2]))],
        ),
        20,
        {},
        "= (2, 6, 1); FC is of one variable, and these are 1: y1, 2: z. Choose one in the simulator: "
        "monitors.RawVoi(variables_of_interest=np.array([1])).",
    ),
    "modes": (
        _hopf(model=models.ReducedSetFitzHughNagumo(variables_of_interest=["xi"]), dt=0.1, monitors=[monitors.Raw()]),
        20,
        {},
        "monitors[0] (Raw, every 0.1 ms): 3 modes; FC is of one mode, and no monitor of TVB selects it.",
    ),
    "no time": ({"monitors": [monitors.ProgressLogger(period=100.0)]}, 100, {}, NOTHING),
    "no time, by name": (
        {"monitors": [monitors.Raw(), monitors.ProgressLogger(period=100.0)]},
        100,
        {"monitor": 1},
        "monitors[1] (ProgressLogger, every 100 ms): " + NOTHING,
    ),
    "no regions": (
        {"monitors": [monitors.GlobalAverage(period=8.0)]},
        100,
        {},
        "monitors[0] (GlobalAverage, every 8 ms): its 1 signal are not those of the 6 regions",
    ),
    "two samples": (
        {"monitors": [monitors.Bold(period=100.0, hrf_length=1000.0)]},
        300,
        {},
        "monitors[0] (Bold, every 100 ms): 12 samples in 1200 ms, of which skip_t = 10 leaves 2; FC needs at least 3. "
        "Give a simulation_length of at least 1300 ms, or a smaller skip_t.",
    ),
    "none left": (
        {"monitors": [monitors.TemporalAverage(period=40.0)]},
        100,
        {"skip_t": 30},
        "10 samples in 400 ms, of which skip_t = 30 leaves 0",
    ),
    "not clear which": (
        {"monitors": [monitors.TemporalAverage(period=8.0), monitors.Raw()]},
        100,
        {},
        "several monitors could give the FC (0: TemporalAverage, 1: Raw); name the index of one, "
        "fc=FCOptions(monitor=0) (--monitor 0 on the command line).",
    ),
    "all at once": (
        _hopf(monitors=[monitors.GlobalAverage(period=10.0)]),
        20,
        {},
        "its 1 signal are not those of the 6 regions; choose another monitor with FCOptions(monitor=...), or add "
        "monitors.Bold(period=1000.0) to the simulator; monitors[0] (GlobalAverage, every 10 ms): samples of "
        "(n_voi, n_node, n_mode) = (2, 1, 1); FC is of one variable",
    ),
}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    def ran(self, *_, **__):
        raise AssertionError("it was compiled and run")

    monkeypatch.setattr(tj.OptaxOptimizer, "run", ran)
    monkeypatch.setattr("tvb_jaxfit.dynamics.simulate.Simulate.__call__", _traced_alone(ran))


def _traced_alone(ran):
    from tvb_jaxfit.dynamics.simulate import Simulate

    called = Simulate.__call__

    def call(self, state):
        return called(self, state) if isinstance(state.initial_conditions, jax.core.Tracer) else ran(self)

    return call


@pytest.mark.parametrize("case", CASES)
def test_a_fit_and_an_evaluation_are_refused_with_numbers_and_the_remedy(build_small, case):
    parts, steps, options, said = CASES[case]
    sim = _of(build_small, steps, **parts)
    with pytest.raises(ValueError) as fitted:
        tj.fit(sim, _target(), {"coupling.a": tj.Parameter()}, progress=False, method="simulate", **options)
    assert said in str(fitted.value) and not isinstance(fitted.value, tj.FitFailed)
    if case in ("two variables of Bold", "no time, by name", "no regions"):
        with pytest.raises(ValueError) as evaluated:
            tj.evaluate(sim, _target(), fc=tj.FCOptions(**options), n_seeds=1, progress=False)
        assert said in str(evaluated.value)


def test_the_line_that_is_named_is_the_remedy(build_small):
    for kind, period in (("Bold", {"period": 10.0, "hrf_length": 500.0}), ("TemporalAverage", {"period": 10.0})):
        one = getattr(monitors, kind)(**period, variables_of_interest=np.array([0]))
        sim = _of(build_small, 1000, **_hopf(monitors=[one]))
        simulate, state = tj.prepare(sim)
        assert refuse_no_fc("fit", sim, simulate, state, 0, 0) == 100


def test_two_regions_are_too_few(build_small):
    sim = build_small(weights=np.array([[0.0, 1.0], [0.5, 0.0]]), steps=20)
    with pytest.raises(ValueError, match="connectivity: 2 regions; the correlation of two FC needs at least 3"):
        tj.fit(
            sim,
            np.array([[0.0, 0.3], [0.3, 0.0]]),
            {"coupling.a": tj.Parameter()},
            method="simulate",
            run=tj.RunOptions(progress=False),
        )


def test_compute_fc_names_the_monitor_too():
    with pytest.raises(ValueError, match=r"monitors.Bold\(variables_of_interest=np.array\(\[0\]\)\)"):
        tj.compute_fc(np.zeros((10, 2, 3, 1)))


def test_noise_of_no_size_is_none(build_small):
    from tvb_jaxfit.evaluation.fc_monitor import is_noisy

    for nsig, noisy in ((0.0, False), (1e-9, True)):
        sim = build_small(steps=20)
        sim.integrator.noise = noise.Additive(nsig=np.array([nsig]))
        assert is_noisy(tj.prepare(sim)[1]) is noisy
