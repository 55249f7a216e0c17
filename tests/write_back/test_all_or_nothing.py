"""write_back writes all of a state or nothing: no value is dropped, and no simulator is left half written."""

import functools

import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import coupling, integrators, models, monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.state import with_path
from tvb_jaxfit.translate import position as positions
from tvb_jaxfit.translate.assemble import leaves
from tvb_jaxfit.translate.shapes import is_position, paths_of

pytestmark = pytest.mark.filterwarnings("ignore::tvb_jaxfit.DomainWarning")

DIRECTED = np.array([[0.0, 1.0, 0.2, 0.0], [0.5, 0.0, 0.0, 0.3], [0.1, 0.4, 0.0, 0.6], [0.9, 0.0, 0.7, 0.0]])


def stimulated(sim):
    sim.stimulus = patterns.StimuliRegion(
        temporal=equations.Sinusoid(), connectivity=sim.connectivity, weight=np.array([0.1, 0.2, 0.3, 0.4])
    )


def relabelled(*labels):
    def change(sim):
        sim.connectivity.region_labels = np.array(labels)

    return change


def attribute(path, value):
    """Function that sets an attribute of a simulator: values are made anew for each."""

    def change(sim):
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, sim)
        setattr(owner, name, value())

    return change


def with_noise(**own):
    return lambda: noise.Additive(nsig=np.array([1e-4]), noise_seed=3, **own)


# What is different in one simulator: each of them is written into each other one.
OF_A_KIND = {
    "as it is": lambda sim: None,
    "with a stimulus": stimulated,
    "deterministic": attribute("integrator", lambda: integrators.HeunDeterministic(dt=1.0)),
    "Euler": attribute("integrator", lambda: integrators.EulerStochastic(dt=1.0, noise=with_noise()())),
    "coloured noise": attribute("integrator.noise", with_noise(ntau=5.0)),
    "multiplicative noise": attribute("integrator.noise", lambda: noise.Multiplicative(nsig=np.array([1e-4]))),
    "another model": attribute("model", models.ReducedWongWangExcInh),
    "another coupling": attribute("coupling", lambda: coupling.Scaling(a=np.array([0.05]))),
    "regions in another order": relabelled("region 3", "region 1", "region 2", "region 0"),
    "other regions": relabelled("a", "b", "c", "d"),
    "delays": attribute("connectivity.tract_lengths", lambda: np.full((4, 4), 20.0)),
    "another period": attribute("monitors", lambda: [monitors.TemporalAverage(period=7.0)]),
    "two monitors": attribute("monitors", lambda: [monitors.TemporalAverage(period=10.0), monitors.Raw()]),
    "another monitor": attribute("monitors", lambda: [monitors.SubSample(period=10.0)]),
    "BOLD": attribute("monitors", lambda: [monitors.Bold(period=20.0, hrf_length=40.0)]),
    "BOLD of another kernel": attribute(
        "monitors", lambda: [monitors.Bold(period=20.0, hrf_length=40.0, hrf_kernel=equations.Gamma())]
    ),
    "BOLD of another length": attribute("monitors", lambda: [monitors.Bold(period=20.0, hrf_length=80.0)]),
    "another step": attribute("integrator.dt", lambda: 0.5),
}


@pytest.fixture
def of_a_kind(build_small):
    """Function: simulator that differs in one thing, configured; it stands where a run of 13 ms ended."""

    def make(kind):
        sim = build_small(DIRECTED, dt=1.0, steps=40, nsig=1e-4, monitors=[monitors.TemporalAverage(period=10.0)])
        sim.connectivity.speed = np.array([4.0])
        sim.connectivity.tract_lengths = np.zeros((4, 4))
        OF_A_KIND[kind](sim)
        return sim

    return make


def ran(sim):
    sim.configure()
    length, sim.simulation_length = sim.simulation_length, 13.0
    sim.run()
    sim.simulation_length = length
    return sim


@pytest.mark.parametrize("kind", OF_A_KIND)
def test_a_state_is_written_whole_or_refused_with_the_simulator_unchanged(of_a_kind, snapshot, kind):
    """Into every other kind of simulator, with and without position; what is accepted is all there afterwards."""
    _, state = tj.prepare(ran(of_a_kind(kind)))
    changed = [path for path in paths_of(state) if not is_position(path)]
    for path in changed:
        state = with_path(state, path, tj.state.get_path(state, path) * 1.25)
    accepted = []
    for other in OF_A_KIND:
        for position in (False, True):
            sim = of_a_kind(other).configure()
            before = snapshot(sim)
            try:
                report = tj.write_back(state, sim, position=position)
            except ValueError as error:
                assert "Nothing was changed" in str(error)
                assert snapshot(sim) == before, other
                continue
            accepted.append((other, position))
            there = {leaf.path: np.asarray(leaf.state_value(sim)) for leaf in leaves(sim)}
            assert set(there) == set(changed), other
            for path, value in there.items():
                np.testing.assert_array_equal(value, tj.state.get_path(state, path), err_msg=f"{other}: {path}")
            assert set(report.changes) == {path for path in changed if np.any(tj.state.get_path(state, path))}
            if position:
                assert positions.is_at(state, sim) and sim.current_step == 13 / sim.integrator.dt
    assert (kind, False) in accepted and (kind, True) in accepted
    assert len(accepted) < len(OF_A_KIND)


@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
def test_what_tvb_shares_between_all_simulators_is_not_written_into(of_a_kind, standing):
    """The default equations of noise, stimuli and BOLD are one object for all of a class."""

    def make():
        sim = of_a_kind("multiplicative noise")
        stimulated(sim)
        sim.monitors = [monitors.Bold(period=20.0, hrf_length=40.0), monitors.Bold(period=20.0, hrf_length=40.0)]
        return sim

    sim, other = make(), make()
    if standing == "configured":
        sim.configure()
    _, state = tj.prepare(sim)
    shared = [sim.monitors[1].hrf_kernel, other.integrator.noise.b, other.stimulus.spatial]
    assert sim.integrator.noise.b is shared[1] and sim.stimulus.spatial is shared[2]
    before = [dict(equation.parameters) for equation in shared]
    for path in ("integrator.noise.b.a", "stimulus.temporal.amp", "monitors[0].hrf_kernel.tau_s"):
        state = with_path(state, path, 1.25 * tj.state.get_path(state, path))
    assert len(tj.write_back(state, sim).changes) == 3
    assert [equation.parameters for equation in shared] == before
    assert sim.integrator.noise.b.parameters["a"] == 1.25 * other.integrator.noise.b.parameters["a"]
    assert sim.monitors[0].hrf_kernel.parameters["tau_s"] == 1.25 * sim.monitors[1].hrf_kernel.parameters["tau_s"]
