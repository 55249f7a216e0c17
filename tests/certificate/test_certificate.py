"""The certificate passes for a correct translation, fails for a wrong one, and modifies nothing."""

import jax
import numpy as np
import pytest
from tvb.datatypes import equations, patterns, projections, region_mapping
from tvb.datatypes.sensors import SensorsEEG, SensorsInternal
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.coupling import Linear
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.certificate import certify as module
from tvb_jaxfit.dynamics import schemes
from tvb_jaxfit.translate import prepare as prepare_module
from tvb_jaxfit.translate.components import coupling_functions, coupling_oracle
from tvb_jaxfit.translate.components import integrator as translate_integrator
from tvb_jaxfit.translate.components import noise as translate_noise
from tvb_jaxfit.translate.components import vector_field as translate_field

CONTROLS = [
    "coupling removed",
    "weights transposed",
    "noise shifted by one step",
    "delays ignored",
    "stimulus removed",
    "BOLD kernel shifted by one sample",
]


def all_monitors():
    return [
        monitors.Raw(),
        monitors.TemporalAverage(period=40.0),
        monitors.SubSample(period=20.0),
        monitors.Bold(period=200.0, hrf_length=2000.0),
        monitors.Bold(period=240.0, hrf_length=2000.0, hrf_kernel=equations.MixtureOfGammas()),
    ]


@pytest.mark.parametrize(
    "initial, scheme",
    [
        ("unconfigured", "EulerDeterministic"),
        pytest.param("configured", "HeunStochastic", marks=pytest.mark.slow),
        ("run", "HeunStochastic"),
        pytest.param("unconfigured", "HeunStochastic", marks=pytest.mark.slow),
        pytest.param("run", "EulerDeterministic", marks=pytest.mark.slow),
    ],
)
def test_it_passes_with_every_control_noticed_from_any_initial_state_and_modifies_nothing(
    build_small, snapshot, initial, scheme
):
    sim = build_small(scheme=scheme, monitors=all_monitors())
    if initial != "unconfigured":
        sim.configure()
    if initial == "run":
        sim.simulation_length = 4.0 * 43
        sim.run()
        sim.simulation_length = 4.0 * 300
    before = snapshot(sim)
    certificate = tj.certify(sim)
    assert snapshot(sim) == before
    assert certificate.passed is True and bool(certificate) is True, print(certificate)
    assert certificate.n_steps == 300
    assert [c.n_samples for c in certificate.float64_history] == [c.n_samples for c in certificate.float32_history]
    assert all(c.times_equal for c in (*certificate.float64_history, *certificate.float32_history))
    assert max(c.relative for c in certificate.float64_history) < 1e-13
    assert 1e-11 < max(c.relative for c in certificate.float32_history) < 1e-6
    assert list(certificate.negative_controls) == CONTROLS
    for name, noticed in certificate.negative_controls.items():
        if name == "noise shifted by one step" and scheme == "EulerDeterministic":
            assert noticed == "the integrator is deterministic"
        elif name in ("delays ignored", "stimulus removed"):
            assert noticed.startswith("there ")
        else:
            assert noticed > 1e-4, name


@pytest.mark.slow
def test_it_passes_with_regional_parameters_on_76_regions(build):
    random = np.random.RandomState(0)
    sim = build(
        model={"w": random.uniform(0.3, 0.9, 76)},
        coupling=coupling.Linear(a=random.uniform(0.03, 0.08, (76, 1)), b=np.array([0.01])),
        nsig=random.uniform(1e-6, 1e-5, 76),
        monitors=[monitors.TemporalAverage(period=40.0)],
    )
    assert tj.certify(sim)


def test_controls_without_effect_are_not_applicable_with_the_reason(build_small, weights_6):
    symmetric = build_small(weights_6 + weights_6.T, nsig=0.0, steps=30)
    certificate = tj.certify(symmetric)
    assert certificate.passed
    assert certificate.negative_controls["weights transposed"] == "the weights are symmetric"
    assert certificate.negative_controls["noise shifted by one step"] == "nsig is zero"
    assert certificate.negative_controls["BOLD kernel shifted by one sample"] == "there is no Bold monitor"
    assert certificate.negative_controls["coupling removed"] > 1e-3
    text = repr(certificate)
    assert "not applicable: the weights are symmetric" in text and "not applicable: nsig is zero" in text


def test_a_simulator_without_connections_has_no_control_of_the_coupling(build_small):
    certificate = tj.certify(build_small(np.zeros((6, 6)), steps=30))
    assert certificate.passed
    assert certificate.negative_controls["coupling removed"] == "there are no connections"


def test_the_direction_of_the_weights_does_not_matter_without_coupling(build_small):
    certificate = tj.certify(build_small(coupling=coupling.Linear(a=np.array([0.0])), steps=30))
    assert certificate
    assert certificate.negative_controls["weights transposed"].startswith("the direction of the coupling has no effect")
    assert all(c.agrees(1e-12) for c in certificate.float64_history)


def wrong_field(monkeypatch):
    own = translate_field.vector_fields.reduced_wong_wang
    wrong = lambda p, state, coupling: own(p, state, coupling) * (1.0 + 1e-7)  # noqa: E731
    monkeypatch.setitem(translate_field._BY_HAND, ("wong_wang", "ReducedWongWang"), wrong)
    # The checks of `prepare` are switched off, since they would refuse it.
    monkeypatch.setattr(translate_field.VectorFieldOracle, "mismatch", lambda self, field: None)
    monkeypatch.setattr(prepare_module, "step_refusals", lambda parts: ())


def wrong_coupling(monkeypatch):
    own = coupling_functions._traced_post

    def wrong(coupling, n_cvar):
        return lambda theta, s, y: own(coupling, n_cvar)(theta, s * (1.0 + 1e-7), y)

    monkeypatch.setattr(coupling_functions, "_traced_post", wrong)
    monkeypatch.setattr(coupling_oracle, "max_row_error", lambda ours, theirs: 0.0)
    monkeypatch.setattr(prepare_module, "step_refusals", lambda parts: ())


def wrong_scheme(monkeypatch):
    key = translate_integrator.integrators.HeunStochastic
    monkeypatch.setitem(translate_integrator._SCHEMES, key, schemes.euler_stochastic)
    monkeypatch.setattr(prepare_module, "step_refusals", lambda parts: ())


def wrong_noise(monkeypatch):
    monkeypatch.setattr(translate_noise, "noise_amplitude", lambda nsig, dt: (nsig * dt) ** 0.5)
    monkeypatch.setattr(translate_noise, "max_row_error", lambda ours, theirs: 0.0)
    monkeypatch.setattr(prepare_module, "step_refusals", lambda parts: ())


def wrong_times(monkeypatch):
    from tvb_jaxfit.dynamics import monitors as jax_monitors

    monkeypatch.setattr(jax_monitors.TemporalAverage, "times", lambda self, start, n: self.steps(start, n) * self.dt)


@pytest.mark.parametrize(
    "mistake",
    [
        wrong_field,
        wrong_coupling,
        pytest.param(wrong_scheme, marks=pytest.mark.slow),
        wrong_noise,
        pytest.param(wrong_times, marks=pytest.mark.slow),
    ],
)
def test_it_fails_for_a_wrong_translation(build_small, monkeypatch, mistake):
    sim = build_small(
        monitors=[monitors.TemporalAverage(period=40.0)],
        coupling=coupling.Linear(a=np.array([0.07]), b=np.array([0.1])),
    )
    assert tj.certify(sim)
    mistake(monkeypatch)
    certificate = tj.certify(sim)
    assert not certificate
    text = repr(certificate)
    assert text.startswith("Certificate: FAILED") and "DIFFER" in text


def test_a_wrong_vector_field_by_hand_is_replaced_by_the_traced_source(build_small, monkeypatch):
    check, whole = translate_field.VectorFieldOracle.mismatch, prepare_module.step_refusals
    wrong_field(monkeypatch)
    monkeypatch.setattr(translate_field.VectorFieldOracle, "mismatch", check)
    monkeypatch.setattr(prepare_module, "step_refusals", whole)
    assert tj.certify(build_small(steps=30))


def test_prepare_itself_refuses_a_vector_field_that_is_not_tvbs(build_small, monkeypatch):
    original = translate_field.trace_in_place
    monkeypatch.setattr(translate_field, "_BY_HAND", {})

    def wrong(*args, **named):
        result, *others = original(*args, **named)
        return result * (1.0 + 1e-10), *others

    monkeypatch.setattr(translate_field, "trace_in_place", wrong)
    with pytest.raises(tj.UnsupportedComponent, match="Simulator.model: the translated vector field differs"):
        tj.prepare(build_small())


def test_it_fails_on_results_that_are_not_finite(build_small, monkeypatch):
    import jax.numpy as jnp

    signals = module.translated_signals
    monkeypatch.setattr(module, "translated_signals", lambda *a: [(t, np.asarray(d) * jnp.nan) for t, d in signals(*a)])
    assert not tj.certify(build_small(steps=30))


def test_a_tolerance_below_rounding_makes_it_fail(build_small):
    sim = build_small()
    certificate = tj.certify(sim, tolerance=0.0, float32_tolerance=1e-6)
    assert not certificate
    assert not tj.certify(sim, float32_tolerance=1e-12)


def test_its_length_is_the_requested_one(build_small):
    assert tj.certify(build_small(), simulation_length=41.0).n_steps == 11


def test_print_shows_each_comparison_and_its_difference(build_small, capsys):
    print(tj.certify(build_small(monitors=all_monitors())))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "Certificate: PASSED   ReducedWongWang, 6 regions, Linear coupling, HeunStochastic, dt 4 ms, 300 steps"
    )
    for title in ("history in float64", "history in float32", "Negative controls"):
        assert sum(title in line for line in lines) == 1
    assert sum("agrees" in line for line in lines) == 10
    assert sum("noticed" in line for line in lines) == 4
    assert any("monitors[3] Bold, 200 ms" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_without_double_precision_the_error_names_the_option(build_small, snapshot):
    sim = build_small()
    before = snapshot(sim)
    with jax.enable_x64(False), pytest.raises(RuntimeError, match=r'jax.config.update\("jax_enable_x64", True\)'):
        tj.certify(sim)
    assert snapshot(sim) == before


def test_it_refuses_the_simulators_that_prepare_refuses(build_small):
    with pytest.raises(tj.UnsupportedComponent, match=r"Simulator.monitors\[0\]: BoldRegionROI"):
        tj.certify(build_small(monitors=[monitors.BoldRegionROI()]))


KINDS = {
    "JansenRit": {"model": models.JansenRit, "coupling": coupling.SigmoidalJansenRit, "nsig": 1e-4},
    "Generic2dOscillator": {"model": models.Generic2dOscillator, "coupling": coupling.Difference},
    "MontbrioPazoRoxin": {"model": models.MontbrioPazoRoxin, "dt": 0.01},
    "Kuramoto": {"model": models.Kuramoto, "coupling": coupling.Kuramoto},
    "ReducedWongWangExcInh": {"model": models.ReducedWongWangExcInh},
    "DecoBalancedExcInh": {"model": models.DecoBalancedExcInh},
    "ReducedSetFitzHughNagumo": {"model": models.ReducedSetFitzHughNagumo, "a": 1e-3, "dt": 0.01},
    "coloured noise": {"model": models.Generic2dOscillator, "ntau": 2.0},
}


@pytest.fixture
def delayed(weights_6, connectivity_of):
    """Function that returns a simulator of six regions with delays of up to 1 ms."""

    def make(model, coupling=Linear, a=0.01, dt=0.05, nsig=1e-6, ntau=0.0, **parts):
        tracts = np.random.RandomState(1).uniform(0.0, 4.0, weights_6.shape)
        function = coupling(a=np.array([a])) if coupling is Linear else coupling()
        source = noise.Additive(nsig=np.array([nsig]), ntau=ntau)
        defaults = {
            "connectivity": connectivity_of(weights_6, tracts, 4.0),
            "model": model(),
            "coupling": function,
            "integrator": integrators.HeunStochastic(dt=dt, noise=source),
            "monitors": [monitors.Raw(), monitors.TemporalAverage(period=10 * dt)],
            "simulation_length": 60 * dt,
        }
        return Simulator(**(defaults | parts))

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_simulator_passes_with_its_controls_noticed(kind, delayed):
    certificate = tj.certify(delayed(**KINDS[kind]))
    assert certificate, print(certificate)
    assert max(c.relative for c in certificate.float64_history) < 1e-12
    for name in ("coupling removed", "weights transposed", "noise shifted by one step", "delays ignored"):
        assert certificate.negative_controls[name] > 1e-9, name


def projection(kind, sensors, matrix):
    """Monitor with three sensors on twelve vertices, two for each region."""
    labels = np.array(["a", "b", "c"])
    return kind(
        period=0.5,
        sensors=sensors(labels=labels, locations=np.eye(3)),
        projection=matrix(projection_data=np.random.RandomState(3).normal(size=(3, 12))),
        region_mapping=region_mapping.RegionMapping(array_data=np.repeat(np.arange(6), 2)),
    )


def coupled_epileptor():
    """Epileptor whose coupling has an effect, other than by default."""
    return models.Epileptor(Kvf=np.array([1.0]))


@pytest.mark.parametrize(
    "model,kind,sensors,matrix",
    [
        (models.WilsonCowan, monitors.EEG, SensorsEEG, projections.ProjectionSurfaceEEG),
        (coupled_epileptor, monitors.iEEG, SensorsInternal, projections.ProjectionSurfaceSEEG),
    ],
)
@pytest.mark.slow
def test_projections_onto_sensors_pass_with_their_observation_noise(model, kind, sensors, matrix, delayed):
    sim = delayed(model, monitors=[projection(kind, sensors, matrix)])
    sim.connectivity.cortical, sim.connectivity.orientations = np.ones(6, dtype=bool), np.zeros((6, 3))
    certificate = tj.certify(sim)
    assert certificate, print(certificate)
    assert certificate.float64_history[0].monitor.startswith(f"monitors[0] {kind.__name__}, 0.5 ms")


class Relaxing(models.Linear):
    """User's model."""

    def dfun(self, state, coupling, local_coupling=0.0):
        change = np.zeros_like(state)
        row = change[0]
        row[:] = self.gamma * np.tanh(state[0]) + coupling[0]
        row[state[0] > 0.5] *= 0.5
        return change


@pytest.mark.slow
def test_a_users_own_model_passes(delayed):
    assert tj.certify(delayed(Relaxing, nsig=1e-3))


@pytest.mark.slow
def test_a_stimulus_passes_and_its_removal_is_noticed(delayed, weights_6):
    sim = delayed(models.Generic2dOscillator)
    sim.stimulus = patterns.StimuliRegion(
        connectivity=sim.connectivity, weight=np.linspace(0.0, 0.5, 6), temporal=equations.Sinusoid()
    )
    certificate = tj.certify(sim)
    assert certificate, print(certificate)
    assert certificate.negative_controls["stimulus removed"] > 1e-5


@pytest.mark.slow
def test_a_simulator_with_delays_passes_after_a_run(delayed):
    sim = delayed(models.Generic2dOscillator)
    sim.configure()
    sim.run()
    assert tj.certify(sim)
