"""Controls without effect are not applicable; runs that diverge alike agree; chaos is compared by the step."""

from dataclasses import replace

import numpy as np
import pytest
from tvb.datatypes import equations, patterns
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.certificate import certify as module
from tvb_jaxfit.certificate import comparison, negative_controls, result, stepwise
from tvb_jaxfit.translate import prepare as prepare_module
from tvb_jaxfit.translate.components import integrator as translate_integrator
from tvb_jaxfit.translate.divergence import DivergenceWatch
from tvb_jaxfit.translate.tvb_run import run_tvb

REMOVED, TRANSPOSED, SHIFTED, DELAYS = (
    "coupling removed",
    "weights transposed",
    "noise shifted by one step",
    "delays ignored",
)
STIMULUS, KERNEL = "stimulus removed", "BOLD kernel shifted by one sample"


class Uncoupled(models.Generic2dOscillator):
    """User's model that ignores its coupling input."""

    def dfun(self, state_variables, coupling, local_coupling=0.0):
        v, w = state_variables
        return np.array([w - v**3 / 3.0 + v + self.I, -0.1 * v - 0.08 * w])


@pytest.fixture
def make(weights_6, connectivity_of):
    """Function that returns a simulator of six regions with delays."""

    def build(model=None, lengths=8.0, weights=weights_6, dt=0.5, length=20.0, nsig=None, monitor=None, **parts):
        lengths = np.broadcast_to(np.asarray(lengths, float), np.shape(weights))
        integrator = integrators.HeunDeterministic(dt=dt)
        if nsig is not None:
            integrator = integrators.HeunStochastic(dt=dt, noise=noise.Additive(nsig=np.array(nsig)))
        defaults = {
            "connectivity": connectivity_of(weights, lengths, 4.0),
            "model": models.Generic2dOscillator() if model is None else model,
            "coupling": coupling.Linear(a=np.array([0.02])),
            "integrator": integrator,
            "monitors": [monitors.TemporalAverage(period=2.0) if monitor is None else monitor],
            "simulation_length": length,
        }
        sim = Simulator(**(defaults | parts))
        shape = (1, sim.model.nvar, len(weights), sim.model.number_of_modes)
        sim.initial_conditions = sim.model.initial(dt, shape, np.random.RandomState(1))
        return sim

    return build


def with_stimulus(sim, onset, weight=0.5):
    equation = equations.PulseTrain(parameters={"onset": onset, "T": 100.0, "tau": 50.0, "amp": 1.0})
    sim.stimulus = patterns.StimuliRegion(
        temporal=equation, connectivity=sim.connectivity, weight=np.full(len(sim.connectivity.weights), weight)
    )
    return sim


CASES = {
    "no gain": (
        lambda make, w: make(coupling=coupling.Linear(a=np.array([0.0]))),
        {REMOVED: "the coupling has no effect", TRANSPOSED: "the direction", DELAYS: "the delayed coupling"},
    ),
    "Epileptor by default": (
        lambda make, w: make(models.Epileptor(), coupling=coupling.Difference(a=np.array([1.0])), dt=0.05, length=5.0),
        {REMOVED: "the coupling has no effect", TRANSPOSED: "the direction", DELAYS: "the delayed coupling"},
    ),
    "a model that ignores its input": (
        lambda make, w: make(Uncoupled()),
        {REMOVED: "the coupling has no effect", TRANSPOSED: "the direction", DELAYS: "the delayed coupling"},
    ),
    "a stimulus that has not begun": (
        lambda make, w: with_stimulus(make(), 1500.0), {STIMULUS: "the stimulus is zero in all of the 40 steps"}
    ),
    "delays of absent connections": (
        lambda make, w: make(lengths=np.where(w == 0.0, 20.0, 0.0)),
        {DELAYS: "no connection has a delay"},
    ),
    "symmetric weights": (lambda make, w: make(weights=w + w.T), {TRANSPOSED: "the weights are symmetric"}),
    "one region": (
        lambda make, w: make(weights=np.ones((1, 1)), lengths=8.0),
        {TRANSPOSED: "there is one region"},
    ),
    "no connections": (
        lambda make, w: make(weights=np.zeros((6, 6))),
        {REMOVED: "there are no connections", TRANSPOSED: "the weights are symmetric", DELAYS: "no connection"},
    ),
    "noise on what is not recorded": (
        lambda make, w: make(
            models.Epileptor(), nsig=[0.0, 0.0, 0.0, 0.0, 1e-3, 0.0], dt=0.05, length=0.1,
            monitor=monitors.Raw(), coupling=coupling.Difference(a=np.array([0.0])),
        ),
        {},
    ),
    "a flat signal through a Bold": (
        lambda make, w: make(
            models.Linear(gamma=np.array([0.0])), coupling=coupling.Linear(a=np.array([0.0])), dt=4.0, length=80.0,
            monitor=monitors.Bold(period=8.0, hrf_length=400.0),
        ),
        {REMOVED: "the coupling has no effect"},
    ),
}  # fmt: skip


# Slow: their reasons are those of "no gain" and of "one region", or their models take long to compile.
OTHERS = (
    "Epileptor by default",
    "a model that ignores its input",
    "symmetric weights",
    "noise on what is not recorded",
    "a stimulus that has not begun",
    "a flat signal through a Bold",
)


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in OTHERS else ()) for c in CASES])
def test_a_control_that_changes_nothing_in_tvb_either_is_not_applicable_with_the_reason(make, weights_6, case):
    sim, reasons = CASES[case][0](make, weights_6), CASES[case][1]
    certificate = tj.certify(sim)
    assert certificate, print(certificate)
    for name, noticed in certificate.negative_controls.items():
        if name in reasons:
            assert isinstance(noticed, str) and noticed.startswith(reasons[name]), (name, noticed)
        elif not isinstance(noticed, str):
            assert noticed > 1e-9, name
    assert "NOT NOTICED" not in repr(certificate)


def test_a_control_that_matters_in_tvb_and_goes_unnoticed_here_makes_it_fail(make, monkeypatch):
    """By mutation: mistakes that the translation does not make, though TVB does."""
    made = negative_controls._without_coupling

    def harmless(simulate, state):
        _, *rest = made(simulate, state)
        return (simulate, state), *rest

    monkeypatch.setattr(negative_controls, "_without_coupling", harmless)
    certificate = tj.certify(make())
    assert not certificate and certificate.negative_controls[REMOVED] < 1e-12
    assert "NOT NOTICED" in repr(certificate)


def test_it_fails_with_a_tolerance_at_which_no_mistake_is_noticed(make):
    assert not tj.certify(make(), tolerance=1e3, float32_tolerance=1e3)


def every_mistake(make, weights_6):
    sim = with_stimulus(make(nsig=[1e-4], lengths=np.where(weights_6 > 0.0, 8.0, 0.0), dt=1.0, length=60.0), 3.0)
    sim.monitors = [monitors.Raw(), monitors.Bold(period=4.0, hrf_length=400.0)]
    return sim


def test_each_mistake_has_the_same_effect_in_tvb_and_in_the_translation(make, weights_6):
    sim = every_mistake(make, weights_6)
    float64_tvb = prepare_module.configured_clone(sim, float64_history=True)
    simulate, state = tj.prepare(sim)
    all_controls = dict(negative_controls.negative_controls(simulate, state))
    assert list(all_controls) == [REMOVED, TRANSPOSED, SHIFTED, DELAYS, STIMULUS, KERNEL]
    for name, control in all_controls.items():
        of_tvb = run_tvb(negative_controls.with_mistake(float64_tvb, control), simulate.n_steps, 60.0)
        ours, right = comparison.translated_signals(*control.mistaken), comparison.translated_signals(simulate, state)
        assert comparison.largest_relative(comparison.compare_monitors(simulate, ours, of_tvb)) < 1e-12, name
        assert comparison.largest_relative(comparison.compare_monitors(simulate, right, of_tvb)) > 1e-9, name


def test_runs_that_stop_being_finite_alike_agree_and_the_time_is_given(make):
    sim = make(models.Epileptor(), coupling=coupling.Difference(a=np.array([-50.0])), dt=2.0, length=60.0)
    with np.errstate(all="ignore"):
        certificate = tj.certify(sim)
        ((time, data),) = prepare_module.configured_clone(sim, float64_history=True).run()
    assert certificate, print(certificate)
    since = time[~np.isfinite(data).all(axis=(1, 2, 3))][0]
    assert certificate.float64_history[0].not_finite_from == since
    assert f"not finite from {since:g} ms on" in repr(certificate)
    # State variable, region and time equal those of TVB's own run; the number of finite samples is given.
    sim_of_tvb = prepare_module.configured_clone(sim, float64_history=True)
    watch = DivergenceWatch(sim_of_tvb)
    with np.errstate(all="ignore"):
        sim_of_tvb.run()
    assert (
        certificate.diverged[0] == f"history in float64: {watch.divergence}"
        and abs(watch.divergence.time - since) <= 2.0
    )
    assert "TVB's own run does not stay finite, and neither does the translation:" in repr(certificate)
    n_finite = int(np.isfinite(data).all(axis=(1, 2, 3)).sum())
    assert f"({n_finite} of {len(data)} samples finite)" in repr(certificate)


def test_a_certificate_of_finite_runs_does_not_mention_divergence(make):
    certificate = tj.certify(make(models.Linear(gamma=np.array([-0.5])), length=20.0))
    assert certificate.diverged == () and "finite" not in repr(certificate)


def test_a_signal_that_is_zero_throughout_agrees_and_one_that_is_not_differs():
    zero = np.zeros((3, 1, 2, 1))
    assert comparison.largest_difference(zero, zero) == (0.0, 0.0)
    assert comparison.largest_difference(zero + 0.5, zero) == (0.5, 0.5)
    half = zero.copy()
    half[1] = np.nan
    assert comparison.largest_difference(half, half) == (0.0, 0.0)
    assert comparison.largest_difference(half, zero) == comparison.largest_difference(zero, half) == (np.inf, np.inf)


def chaotic(make):
    """LarterBreakspear with the parameters of TVB's demos."""
    values = {"QV_max": 1.0, "QZ_max": 1.0, "d_V": 0.65, "d_Z": 0.65, "aee": 0.36, "gNa": 6.7, "gCa": 1.1, "gL": 0.5}
    values |= {"ani": 0.4, "d_Ca": 0.15, "TCa": -0.01, "Iext": 0.3, "C": 0.1}
    model = models.LarterBreakspear(**{name: np.array([value]) for name, value in values.items()})
    function = coupling.HyperbolicTangent(a=np.array([0.5]))
    return make(model, lengths=30.0, coupling=function, length=700.0, monitor=monitors.TemporalAverage(period=2.0))


def test_chaos_is_compared_by_the_step_and_the_growth_rate_is_given(make, monkeypatch):
    certificate = tj.certify(chaotic(make))
    assert certificate, print(certificate)
    assert (
        certificate.float64_history[0].relative > certificate.tolerance
        and certificate.float64_history[0].agrees_by_step
    )
    assert certificate.step_error < 1e-13 and 1.0 / certificate.growth_rate < 100.0
    assert "agrees by the step" in repr(certificate) and "grow e-fold in" in repr(certificate)
    assert min(d for d in certificate.negative_controls.values() if not isinstance(d, str)) > 1e-6


@pytest.mark.parametrize("mistake", [1e-9, pytest.param(1e-6, marks=pytest.mark.slow)])
def test_it_fails_for_a_mistake_in_a_chaotic_simulator(make, monkeypatch, mistake):
    key = integrators.HeunDeterministic
    own = translate_integrator._SCHEMES[key]
    monkeypatch.setitem(
        translate_integrator._SCHEMES, key, lambda field, clip, dt: own(field, clip, dt * (1.0 + mistake))
    )
    monkeypatch.setattr(prepare_module, "step_refusals", lambda parts: ())
    certificate = tj.certify(chaotic(make))
    assert not certificate and certificate.step_error > result.STEP_TOLERANCE
    assert "DIFFERS" in repr(certificate) and "beyond rounding" in repr(certificate)


def test_it_fails_for_a_mistake_outside_of_the_step_without_chaos(make, monkeypatch):
    """A wrong monitor is not explained by correct steps."""
    signals = module.translated_signals
    monkeypatch.setattr(module, "translated_signals", lambda *a: [(t, d * (1.0 + 1e-7)) for t, d in signals(*a)])
    certificate = tj.certify(make(models.Linear(gamma=np.array([-1.0]))))
    assert not certificate and certificate.step_error < 1e-13


def test_steps_are_compared_block_by_block(make, monkeypatch):
    sim = make(nsig=[1e-4], length=30.0)
    in_one_block = tj.certify(sim).step_error
    monkeypatch.setattr(stepwise, "_BLOCK_NUMBERS", 12 * 7)
    assert tj.certify(sim).step_error == pytest.approx(in_one_block, rel=1e-6) and in_one_block < 1e-14
    simulate, state = tj.prepare(sim)
    wrong = stepwise.StepByStep(replace(simulate, step=replace(simulate.step, delays=None)), state)
    float64_tvb = prepare_module.configured_clone(sim, float64_history=True)
    wrong.watch(float64_tvb)
    float64_tvb.run()
    wrong.finish()
    assert wrong.error > 1e-6
