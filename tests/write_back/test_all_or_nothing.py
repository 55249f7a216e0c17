"""write_back writes all of a state or nothing: no value is lost, and no simulator is left half written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import coupling, integrators, models, monitors, noise

import tvb_jaxfit as tj
from tvb_jaxfit.state import with_path
from tvb_jaxfit.translate import position as positions
from tvb_jaxfit.translate.components import monitors as component_monitors
from tvb_jaxfit.translate.components import noise as component_noise
from tvb_jaxfit.translate.parameter_map import parameter_map
from tvb_jaxfit.translate.position import is_position
from tvb_jaxfit.translate.shapes import array_paths

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
    """Function that sets an attribute of a simulator to a new value each time."""

    def change(sim):
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, sim)
        setattr(owner, name, value())

    return change


def with_noise(**own):
    return lambda: noise.Additive(nsig=np.array([1e-4]), noise_seed=3, **own)


# Simulators that differ in one thing. The state of each is written into every other one.
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
    """Function: simulator that differs in one thing."""

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
    """Into every other kind of simulator, with and without position; accepted values are all there afterwards."""
    _, state = tj.prepare(ran(of_a_kind(kind)))
    changed = [path for path in array_paths(state) if not is_position(path)]
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
            written = {p.path: np.asarray(p.state_value(sim)) for p in parameter_map(sim)}
            assert set(written) == set(changed), other
            for path, value in written.items():
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


@pytest.mark.parametrize("fails_at", range(4))
def test_where_the_position_cannot_be_put_whole_nothing_is_changed(of_a_kind, snapshot, monkeypatch, fails_at):
    """Writes to copies succeed; those to the simulator itself fail, one after the other."""
    kind = "coloured noise"
    _, state = tj.prepare(ran(of_a_kind(kind)))
    state = with_path(state, "model.w", jnp.asarray([0.6]))
    sim = of_a_kind(kind).configure()
    sim.monitors.append(monitors.Raw())
    sim.configure()
    state = state.replace(monitors=[*state.monitors, tj.state.State()])
    state = state.replace(static={"origin": tj.prepare(sim)[1].origin})
    before, steps = snapshot(sim), []

    def failing(module, name, is_own):
        function = getattr(module, name)

        def step(*args):
            if is_own(*args):
                steps.append(name)
                if len(steps) == fails_at + 1:
                    function(*args)
                    raise OSError("no more")
            return function(*args)

        monkeypatch.setattr(module, name, step)

    failing(component_monitors, "_restore_one", lambda on, *rest: on in sim.monitors)
    failing(component_noise, "restore", lambda on, *rest: on is sim.integrator.noise)
    if fails_at == 3:
        assert tj.write_back(state, sim, position=True).position_change == (0, 13)
        assert len(steps) == 3 and snapshot(sim) != before
        return
    with pytest.raises(OSError, match="no more"):
        tj.write_back(state, sim, position=True)
    assert len(steps) == fails_at + 1 and snapshot(sim) == before


POSITIONS = {
    "initial_conditions": "not finite",
    "monitors[0].stock": "not finite",
    "monitors[1].stock": "not finite",
    "monitors[1].interim_stock": "not finite",
    "integrator.noise.eta": "not finite",
}


@pytest.fixture
def coloured_bold(of_a_kind):
    def make():
        sim = of_a_kind("coloured noise")
        sim.monitors = [monitors.TemporalAverage(period=10.0), monitors.Bold(period=20.0, hrf_length=40.0)]
        return sim

    return make


@pytest.mark.parametrize("path", POSITIONS)
@pytest.mark.parametrize("spoil", ["not finite", "another shape", "masked"])
def test_a_position_that_is_spoilt_is_refused_by_its_path(coloured_bold, snapshot, put_in, path, spoil):
    _, state = tj.prepare(ran(coloured_bold()))
    value = np.array(tj.state.get_path(state, path))
    if spoil == "not finite":
        value.flat[-1] = np.nan
    elif spoil == "another shape":
        value = np.concatenate([value, value])
    else:
        value = np.ma.masked_array(value, mask=np.arange(value.size).reshape(value.shape) == 0)
    sim = coloured_bold().configure()
    before = snapshot(sim)
    with pytest.raises(ValueError, match="Nothing was changed") as caught:
        tj.write_back(put_in(state, path, value), sim, position=True)
    assert path in str(caught.value) and snapshot(sim) == before


def test_a_position_at_which_the_random_stream_never_stood_is_refused(coloured_bold, snapshot):
    sim = coloured_bold().configure()
    before = snapshot(sim)
    _, state = tj.prepare(sim)
    # A multiple of all periods, so that stocks keep their shapes.
    with pytest.raises(ValueError, match=r"known at steps \[0, 40\], not at step 20.*Nothing was changed"):
        tj.write_back(state.replace(static={"current_step": 20}), sim, position=True)
    assert snapshot(sim) == before


def test_stocks_and_stream_are_put_back_where_step_and_history_are_the_same_already(coloured_bold, snapshot):
    sim = ran(coloured_bold())
    _, state = tj.prepare(sim)
    before = snapshot(sim)
    sim.integrator.noise.random_stream.seed(1)
    sim.monitors[1]._stock[:] = 0.5
    assert snapshot(sim) != before
    tj.write_back(state, sim, position=True)
    np.testing.assert_array_equal(tj.prepare(sim)[1].integrator.noise.draws, state.integrator.noise.draws)
    np.testing.assert_array_equal(tj.prepare(sim)[1].monitors[1].stock, state.monitors[1].stock)


def test_of_noise_from_a_key_the_report_says_that_tvbs_stream_was_left(coloured_bold):
    sim = coloured_bold().configure()
    _, state = tj.prepare(sim, noise=jax.random.key(0))
    state = state.replace(initial_conditions=state.initial_conditions + 0.01)
    before = sim.integrator.noise.random_stream.get_state()
    report = tj.write_back(state, sim, position=True)
    assert "key of jax.random: TVB's random stream was not changed" in repr(report)
    np.testing.assert_array_equal(sim.integrator.noise.random_stream.get_state()[1], before[1])
    np.testing.assert_array_equal(sim.current_state, state.initial_conditions[-1])


@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
@pytest.mark.parametrize(
    "value, reason",
    [
        (np.ma.masked_array([0.1, 0.2, 0.3, 0.9], mask=[0, 0, 0, 1]), "masked"),
        (jnp.asarray([0.3 + 1.0j]), "complex"),
        (np.array([0.3 + 1.0j]), "complex"),
        (np.full((2, 2), 0.3), r"shape \(2, 2\)"),
        (np.full((1, 4), 0.3), r"shape \(1, 4\)"),
        (np.full(3, 0.3), r"shape \(3,\)"),
        (np.array(["a"]), "real numbers"),
        (None, "model.w"),
    ],
)
def test_values_that_are_no_real_numbers_of_each_region_are_refused(
    of_a_kind, snapshot, put_in, standing, value, reason
):
    sim = of_a_kind("as it is")
    if standing == "configured":
        sim.configure()
    _, state = tj.prepare(sim)
    state.coupling.a = jnp.asarray([0.01])
    state = put_in(state, "model.w", value)
    before = snapshot(sim)
    with pytest.raises(ValueError, match=reason + ".*Nothing was changed"):
        tj.write_back(state, sim)
    assert snapshot(sim) == before


@pytest.mark.parametrize("size", [(), (1,), (4,), (4, 1)])
def test_one_value_or_one_for_each_region_is_written(of_a_kind, size):
    sim = of_a_kind("as it is")
    _, state = tj.prepare(sim)
    state.model.w = jnp.full(size, 0.7)
    tj.write_back(state, sim)
    np.testing.assert_array_equal(np.ravel(sim.model.w), np.full(max(1, int(np.prod(size))), 0.7))


@pytest.mark.parametrize("standing", ["unconfigured", "configured"])
def test_clamped_values_are_the_ones_that_tvb_runs_with(of_a_kind, equal_runs, difference, float64_tvb, standing):
    sim = of_a_kind("deterministic")
    sim.integrator.clamped_state_variable_indices = np.array([0])
    sim.integrator.clamped_state_variable_values = np.full((1, 4, 1), 0.2)
    sim.monitors = [monitors.AfferentCoupling()]
    if standing == "configured":
        sim.configure()
    simulate, state = tj.prepare(sim)
    before = simulate(state)
    state = with_path(state, "integrator.clamped_state_variable_values", jnp.full((1, 4, 1), 0.6))
    tj.write_back(state, sim)
    theirs = float64_tvb(sim).run()
    equal_runs(simulate(state), theirs)
    assert difference(before, theirs)[0] > 1e-3


@pytest.mark.parametrize("wrong", [None, 3, {"model": 1}])
def test_what_is_no_state_is_a_type_error(of_a_kind, wrong):
    with pytest.raises(TypeError, match="write_back: state: .*give a State"):
        tj.write_back(wrong, of_a_kind("as it is"))


def test_what_was_changed_after_configure_is_not_written_into(of_a_kind, snapshot):
    sim = of_a_kind("as it is").configure()
    _, state = tj.prepare(sim)
    state.model.w = jnp.asarray([0.6])
    sim.monitors[0].period = 7.0
    before = snapshot(sim)
    with pytest.raises(ValueError, match=r"monitors\[0\].period: changed since configure\(\).*Nothing was changed"):
        tj.write_back(state, sim)
    assert snapshot(sim) == before


class Helper:
    def describe(self):
        return "more"


class Named(Helper, models.ReducedWongWang):
    def helper(self):
        return self.w


class NamedAnew(Named):
    pass


class Other(models.ReducedWongWang):
    def dfun(self, x, coupling, local_coupling=0.0):
        return self.w - x


@pytest.mark.parametrize(
    "own,other", [(models.ReducedWongWang, Named), (Named, models.ReducedWongWang), (NamedAnew, Named), (Other, Other)]
)
def test_a_subclass_that_changes_nothing_takes_the_values(build_small, own, other):
    sim, target = build_small(), build_small()
    sim.model, target.model = own(), other()
    _, state = tj.prepare(sim)
    state.model.w = [0.7]
    report = tj.write_back(state, target.configure(), position=True)
    assert set(report.changes) == {"model.w"}
    np.testing.assert_array_equal(target.model.w, [0.7])


@pytest.mark.parametrize("own,other", [(models.ReducedWongWang, Other), (Other, models.ReducedWongWang)])
def test_a_subclass_with_a_vector_field_of_its_own_does_not(build_small, own, other):
    sim, target = build_small(), build_small()
    sim.model, target.model = own(), other()
    _, state = tj.prepare(sim)
    with pytest.raises(ValueError, match="model: the state is of a .* whose values mean something else"):
        tj.write_back(state, target)


def test_position_is_true_or_false(build_small):
    sim = build_small()
    _, state = tj.prepare(sim)
    with pytest.raises(ValueError, match="position = 'yes'; give True or False"):
        tj.write_back(state, sim, position="yes")
