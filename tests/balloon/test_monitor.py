"""The monitor `BalloonBold` runs in TVB and, with the same numbers, in its translation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.analyzers.fmri_balloon import BalloonModel, BoldModels
from tvb.datatypes.time_series import TimeSeries
from tvb.simulator import coupling, models, monitors

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.balloon_parameters import PARAMETERS
from tvb_jaxfit.state import get_path, with_path

N_NODE = 6
REGIONAL = np.linspace(0.7, 1.3, N_NODE)


def analyze(means, dt, **options):
    """TVB's analyzer of interim means; its first input, at time 0, has no effect."""
    means = np.concatenate([means[:1], means])
    series = TimeSeries(data=means, time=dt * np.arange(len(means)), sample_period=dt, sample_period_unit="ms")
    return BalloonModel(time_series=series, **options).evaluate().data[1:, 0]


@pytest.mark.parametrize("model", BoldModels, ids=lambda each: each.value)
def test_in_tvb_it_is_tvbs_analyzer_of_the_interim_means(build_small, float64_tvb, model):
    watched = [
        tj.BalloonBold(period=100.0, interim_period=20.0, bold_model=model),
        monitors.TemporalAverage(period=20.0),
    ]
    (time, bold), (_, means) = float64_tvb(build_small(dt=4.0, steps=250, monitors=watched)).run()
    theirs = analyze(means, 20.0, bold_model=model)
    np.testing.assert_array_equal(time, 100.0 * np.arange(1, 11))
    np.testing.assert_allclose(bold[:, 0], theirs[4::5], rtol=0.0, atol=1e-13)
    # Negative control: one interim period later.
    assert np.max(np.abs(bold[:-1, 0] - theirs[5::5])) > 1e-4


VARIANTS = {
    # (dt, period, interim period): every step; means; samples inside interim periods; periods that dt does not divide
    "every step": (4.0, 20.0, 4.0),
    "means": (1.0, 20.0, 4.0),
    "samples between means": (1.0, 6.0, 4.0),
    "sampled faster than averaged": (1.0, 1.0, 4.0),
    "rounded": (0.3, 7.0, 4.0),
    "longer step": (10.0, 30.0, 4.0),
}


@pytest.mark.filterwarnings("ignore::tvb_jaxfit.PeriodWarning")
@pytest.mark.parametrize(
    "variant",
    [name if name == "rounded" else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS],
)
def test_the_translation_is_the_monitor_in_tvb(build_small, float64_tvb, equal_runs, difference, variant):
    """Two runs, of which the first one ends within all periods; regional parameters."""
    dt, period, interim_period = VARIANTS[variant]
    watched = [
        tj.BalloonBold(period=period, interim_period=interim_period, parameter_set="cbig", tau_s=REGIONAL),
        tj.BalloonBold(period=period, interim_period=interim_period, bold_model=BoldModels.LINEAR),
    ]
    sim = build_small(dt=dt, steps=181, monitors=watched)
    reference = float64_tvb(sim)
    simulate, state = tj.prepare(sim)
    ours, theirs = simulate(state), reference.run()
    equal_runs(ours, theirs)
    equal_runs(simulate(ours.final_state), reference.run())
    wrong = simulate(with_path(state, "monitors[0].tau_s", jnp.asarray(REGIONAL[::-1].copy())))
    assert difference(wrong, theirs)[0] > 1e-8


def test_several_variables_and_a_part_of_them(build_small, float64_tvb, equal_runs):
    watched = [tj.BalloonBold(period=40.0), tj.BalloonBold(period=40.0, variables_of_interest=np.array([1]))]
    sim = build_small(dt=1.0, steps=120, monitors=watched, coupling=coupling.Linear(a=np.array([0.1])))
    sim.model = models.ReducedWongWangExcInh(variables_of_interest=["S_e", "S_i"])
    simulate, state = tj.prepare(sim)
    ours = simulate(state)
    equal_runs(ours, float64_tvb(sim).run())
    assert [data.shape for data in ours.data] == [(3, 2, 6, 1), (3, 1, 6, 1)]
    np.testing.assert_allclose(ours.data[1][:, 0], ours.data[0][:, 1], rtol=1e-13)


def test_it_is_certified_and_its_values_are_written_back(build_small, snapshot):
    sim = build_small(dt=4.0, steps=200, monitors=[tj.BalloonBold(period=40.0)])
    before = snapshot(sim)
    assert tj.certify(sim).passed
    simulate, state = tj.prepare(sim)
    assert snapshot(sim) == before
    values = {name: jnp.asarray(1.05 * get_path(state, f"monitors[0].{name}")) for name in PARAMETERS}
    values |= {"alpha": jnp.full(N_NODE, 0.4), "tau_f": jnp.full((N_NODE, 1), 0.6)}
    for name, value in values.items():
        state = with_path(state, f"monitors[0].{name}", value)
    tj.write_back(state, sim)
    for name, value in values.items():
        np.testing.assert_array_equal(getattr(sim.monitors[0], name), np.ravel(value))
    again = tj.prepare(sim)[0]
    np.testing.assert_array_equal(again(tj.prepare(sim)[1]).data[0], simulate(state).data[0])


def test_a_run_goes_on_in_tvb_from_a_state(build_small, float64_tvb, equal_runs):
    """Position written back within an interim period."""
    sim = build_small(dt=1.0, steps=30, monitors=[tj.BalloonBold(period=8.0)])
    reference, other = float64_tvb(sim), float64_tvb(sim)
    reference.run()
    simulate, state = tj.prepare(other.sim)
    first = simulate(state).final_state
    tj.write_back(first, other.sim, position=True)
    assert np.any(other.sim.monitors[0]._interim_stock != 0.0)
    theirs = reference.run()
    equal_runs(other.run(), theirs)
    equal_runs(simulate(first), theirs)


def test_short_runs_are_a_long_one(build_small):
    """A period that does not divide the runs, and interim periods that cross their ends."""
    monitor = tj.BalloonBold(period=8.0, interim_period=4.0)
    simulate, start = tj.prepare(build_small(dt=1.0, steps=90, monitors=[monitor]))
    whole = simulate(start).data[0]
    simulate, first = tj.prepare(build_small(dt=1.0, steps=30, monitors=[monitor]))
    parts, state = [], first
    for _ in range(3):
        result = simulate(state)
        parts.append(result.data[0])
        state = result.final_state
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12, atol=1e-18)
    # Negative control: hemodynamics at rest when a run begins.
    after = simulate(first).final_state
    at_rest = after.monitors[0].replace(hemodynamics=first.monitors[0].hemodynamics)
    second = simulate(after.replace(monitors=[at_rest]))
    assert np.max(np.abs(second.data[0] - parts[1])) > 1e-6 * np.max(np.abs(parts[1]))


@pytest.mark.slow
def test_gradients_are_those_of_central_differences(build_small):
    """By plain runs of the translation, through interim means and samples at uneven distances."""
    sim = build_small(
        dt=10.0,
        steps=130,
        monitors=[tj.BalloonBold(period=110.0, interim_period=20.0, parameter_set="tvb", tau_o=REGIONAL)],
    )
    simulate, state = tj.prepare(sim)
    weights = np.random.RandomState(0).normal(size=(11, 1, N_NODE, 1))

    def loss(values):
        at = state
        for path, value in values.items():
            at = with_path(at, path, value)
        return jnp.sum(weights * simulate(at).data[0])

    paths = [*(f"monitors[0].{name}" for name in PARAMETERS), "model.w", "coupling.a"]
    values = {path: get_path(state, path) for path in paths}
    gradient, compiled = jax.grad(loss)(values), jax.jit(loss)
    for path, value in values.items():
        step = 1e-4 * value
        central = (compiled(values | {path: value + step}) - compiled(values | {path: value - step})) / 2.0
        slope = np.sum(np.asarray(gradient[path]) * step)
        assert slope != 0.0
        np.testing.assert_allclose(central, slope, rtol=1e-5, err_msg=path)


def test_transient_of_blood_at_rest(build_small):
    """From rest some samples are left out; from the state of a run none."""
    sim = build_small(dt=10.0, steps=4000, nsig=0.0, monitors=[tj.BalloonBold(period=500.0, interim_period=10.0)])
    simulate, state = tj.prepare(sim)
    skip_t = simulate.monitors[0].transient(state.monitors[0])
    result = simulate(state)
    bold = np.abs(np.asarray(result.data[0])[:, 0, :, 0] / np.asarray(result.data[0])[-1, 0, :, 0] - 1.0)
    assert 30 < skip_t < 60 and np.max(bold[skip_t:]) < 5e-3 < np.max(bold[skip_t // 3])
    assert simulate.monitors[0].transient(result.final_state.monitors[0]) == 0


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"tau_s": np.ones(5)}, ["monitors[0].tau_s", "shape (5,)", "(6,)"]),
        ({"alpha": np.array([0.0])}, ["monitors[0].alpha", "positive"]),
        ({"E0": np.array([1.0])}, ["monitors[0].E0", "between 0 and 1"]),
        ({"k1": np.array([np.nan])}, ["monitors[0].k1", "finite"]),
        ({"interim_period": 0.0}, ["monitors[0].interim_period", "positive"]),
        ({"period": 0.1}, ["monitors[0].period", "no step"]),
        ({"variables_of_interest": np.array([3])}, ["monitors[0].variables_of_interest"]),
    ],
)
def test_what_it_cannot_run_is_refused(build_small, attributes, words):
    sim = build_small(steps=50, monitors=[tj.BalloonBold(**({"period": 40.0} | attributes))])
    with pytest.raises(tj.UnsupportedComponent) as error:
        tj.prepare(sim)
    assert all(word in str(error.value) for word in words), error.value


def test_a_subclass_with_its_own_sample_is_refused(build_small):
    class Other(tj.BalloonBold):
        def sample(self, step, state):
            return None

    with pytest.raises(tj.UnsupportedComponent, match="it replaces sample of TVB's BalloonBold"):
        tj.prepare(build_small(steps=50, monitors=[Other(period=40.0)]))


def test_shapes_of_a_state_are_checked_by_name(build_small):
    simulate, state = tj.prepare(build_small(steps=50, monitors=[tj.BalloonBold(period=40.0)]))
    wrong = with_path(state, "monitors[0].alpha", jnp.ones(5))
    with pytest.raises(
        ValueError, match=r"monitors\[0\].alpha: shape \(5,\). Give one value, or one for each of the 6"
    ):
        simulate(wrong)
    with pytest.raises(ValueError, match="cubnm"):
        tj.BalloonBold(parameter_set="cubmn")
